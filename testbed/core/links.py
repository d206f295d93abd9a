"""What happens to each message on a link, decided per logical message, before batching. Pure: time and dice are given.

It knows rules and messages waiting for their time, not what is in a message or how it travels. Both ends of a link
enforce its cuts; delay, loss, duplication and reordering strike once, at the end that `send` is called on.
"""

import heapq
from collections import Counter, deque
from collections.abc import Container, Iterable
from typing import Any

from testbed.base import limits
from testbed.base.links import LinkRule, combine
from testbed.base.rand import Random

REORDER_DELAY_S = 0.02  # how much later than its successors a reordered message goes, at most


class Links:
    """The link rules as one node obeys them. Items are opaque."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rules: dict[tuple[str, str], LinkRule] = {}
        self._later: list[tuple[float, int, str, str, Any]] = []
        self._held: dict[tuple[str, str], deque[Any]] = {}
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._order = 0
        self.active = False  # some rule is in force
        self.version = 0
        self.counters: Counter[str] = Counter()

    def configure(self, rules: Iterable[LinkRule], version: int, now: float) -> None:
        """Obey these rules instead. What a healed link had held back is due at once, in order."""
        self._rules = combine(rules)
        self.active = bool(self._rules)
        self.version = version
        for link in list(self._held):
            if self.cut(*link) != "hold":
                for item in self._held.pop(link):
                    self._put(now, link, item)

    def obey(
        self, node: str, rules: Iterable[LinkRule], version: int, now: float, connected: Container[str]
    ) -> list[tuple[str, bool]]:
        """`configure` at `node`, which is connected to those; what that shows: (peer, whether a connection stands).

        A `reset` shows as a closed connection; a heal shows what a cut had hidden.
        """
        before, reset_before = self.cut_peers(node), self.cut_peers(node, "reset")
        self.configure(rules, version, now)
        cut, reset = self.cut_peers(node), self.cut_peers(node, "reset")
        shown = [(peer, False) for peer in sorted(reset - reset_before)]
        return shown + [(peer, peer in connected) for peer in sorted(before - cut)]

    def cut(self, source: str, target: str) -> str | None:
        """The cut on a link, if any."""
        rule = self._rules.get((source, target))
        return rule.cut if rule is not None else None

    def cut_peers(self, node: str, kind: str | None = None) -> set[str]:
        """Peers to or from which `node` is cut off, by any cut or one kind of it."""
        return {
            target if source == node else source
            for (source, target), rule in self._rules.items()
            if rule.cut is not None and (kind is None or rule.cut == kind) and node in (source, target)
        }

    def send(self, source: str, target: str, item: Any, now: float) -> bool:
        """True: let it pass now. False: it is lost, or kept until `due` gives it out."""
        rule = self._rules.get((source, target))
        if rule is None:
            return True
        if rule.cut is not None:
            return self._stopped(rule, item)
        draw = self._random
        if rule.loss and draw.random() < rule.loss:
            self.counters["lost"] += 1
            return False
        if rule.duplicate and draw.random() < rule.duplicate:
            self.counters["duplicated"] += 1
            self._put(now + self._delay(rule), (source, target), item)
        delay = self._delay(rule)
        if rule.reorder and draw.random() < rule.reorder:
            self.counters["reordered"] += 1
            delay += draw.uniform(0.0, REORDER_DELAY_S)
        if not delay:
            return True
        self.counters["delayed"] += 1
        self._put(now + delay, (source, target), item)
        return False

    def receive(self, source: str, target: str, item: Any) -> bool:
        """At the receiving end: True unless the link is cut."""
        rule = self._rules.get((source, target))
        return rule is None or rule.cut is None or self._stopped(rule, item)

    def due(self, now: float) -> list[tuple[str, str, Any]]:
        """What was kept back and may go now: (source, target, item). A cut that came since still stops it."""
        ready = []
        while self._later and self._later[0][0] <= now:
            _, _, source, target, item = heapq.heappop(self._later)
            self._waiting[source, target] -= 1
            if self.receive(source, target, item):
                ready.append((source, target, item))
        return ready

    @property
    def deadline(self) -> float | None:
        """When `due` has something next."""
        return self._later[0][0] if self._later else None

    def _delay(self, rule: LinkRule) -> float:
        return rule.delay + (self._random.uniform(0.0, rule.jitter) if rule.jitter else 0.0)

    def _stopped(self, rule: LinkRule, item: Any) -> bool:
        link = (rule.source, rule.target)
        if rule.cut == "hold":
            held = self._held.setdefault(link, deque(maxlen=limits.HELD_MESSAGES_MAX))
            if len(held) == limits.HELD_MESSAGES_MAX:
                self.counters["overflowed"] += 1
            held.append(item)
            self.counters["held"] += 1
        else:
            self.counters["cut"] += 1
        return False

    def _put(self, at: float, link: tuple[str, str], item: Any) -> None:
        if self._waiting[link] >= limits.HELD_MESSAGES_MAX:
            self.counters["overflowed"] += 1
            return
        self._waiting[link] += 1
        self._order += 1
        heapq.heappush(self._later, (at, self._order, *link, item))
