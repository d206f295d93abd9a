"""How a fault takes hold of a world and lets go, and what proves that it did.

Three grips: processes that are down (kill, terminate), processes that are paused, and links under rules. Each knows
how to act through the port and which observations are evidence; none knows schedules, leases' owners or time limits.
Grips share `Holds`, the ledger by which overlapping faults add up. Users' own faults are made of them, too
(`chaos.custom_faults`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from testbed.base.links import CLIENTS, LinkRule, combine

if TYPE_CHECKING:
    from testbed.ports import NodeStatus, World

    Statuses = Mapping[str, NodeStatus]

Link = tuple[str, str]
Sample = tuple[int | None, int]  # the receiver's process, and how many messages have come to it over the link
SAMPLES_HEARTBEATS = 2  # between two samples of a counter: at least one beat was due on every link that is not cut


class FaultSkipped(Exception):
    """Such a fault cannot be had here and now, and nothing has been done. The message says why."""


class Holds:
    """Who is held by what: grips by the node (or process) they hold down or paused, and all link rules in force."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.down: dict[str, list[object]] = {node: [] for node in world.nodes}
        self.paused: dict[tuple[str, int | None], list[object]] = {}
        self.rules: dict[int, tuple[LinkRule, ...]] = {}
        self.in_force: list[LinkRule] = []
        self.restarted: set[int] = set()  # exits, by their place in the world's list, after which the node was started
        self._next = 0
        self._version = 0

    def links(self) -> list[LinkRule]:
        """One rule per directed link, from all that are held, in order."""
        table = combine(rule for rules in self.rules.values() for rule in rules)
        return [table[link] for link in sorted(table)]

    def add_rules(self, rules: tuple[LinkRule, ...]) -> int:
        """A key to take the rules back with; they are in the ledger, not yet in force (see `enforce`)."""
        self._next += 1
        self.rules[self._next] = rules
        return self._next

    def enforce(self) -> int:
        """Put the rules of the ledger in force, if they are not; the version that nodes report once they obey them."""
        table = self.links()
        if table != self.in_force or not self._version:
            self._version = self.world.set_links(table)
            self.in_force = table
        return self._version


class Grip(Protocol):
    """One fault's hold. `take` and `let_go` act and return at once; the other two judge what was observed since."""

    @property
    def fresh(self) -> bool:
        """Whether its evidence needs the nodes' own fresh reports."""

    def take(self) -> None:
        """Apply the fault. Those of users may raise FaultSkipped."""

    def seen_in_effect(self, statuses: "Statuses", now: float) -> float | str:
        """Since when (seconds) it was in effect by all evidence, or what evidence is missing."""

    def let_go(self) -> None:
        """Undo the fault, as far as no other grip holds the same. Harmless when repeated."""

    def seen_healed(self, statuses: "Statuses", now: float) -> float | str:
        """Since when (seconds) it was undone by all evidence, or what evidence is missing."""


class Down:
    """Processes ended (`kill`, `terminate`), kept down, and started again.

    In effect: the node is down and a new exit of it is recorded. Healed: the process is up again (or stopped again by
    another fault's pause), or another fault keeps the node down.
    """

    fresh = False

    def __init__(self, holds: Holds, nodes: Sequence[str], terminate: bool) -> None:
        self.holds, self.nodes, self.terminate = holds, tuple(nodes), terminate
        self.exits_before = len(holds.world.exits())
        self.asked = holds.world.now()

    def take(self) -> None:
        end = self.holds.world.terminate if self.terminate else self.holds.world.kill
        for node in self.nodes:
            self.holds.down[node].append(self)
            end(node)

    def seen_in_effect(self, statuses: "Statuses", now: float) -> float | str:
        exited = self._exited()
        for node in self.nodes:
            if node not in exited:
                return f"no exit of {node} was recorded"
            if statuses[node].state != "down":
                return f"{node} is {statuses[node].state}, not down"
        return min(now, max(self.asked, *(at for _, at in exited.values())))

    def let_go(self) -> None:
        for node in self.nodes:
            if self in self.holds.down[node]:
                self.holds.down[node].remove(self)
        self._start_ended(self.holds.world.status())

    def seen_healed(self, statuses: "Statuses", now: float) -> float | str:
        if self._start_ended(statuses):
            statuses = self.holds.world.status()
        exited = self._exited()
        for node in self.nodes:
            if self.holds.down[node]:
                continue
            if node not in exited:
                return f"{node} has not ended, so it could not be started again"
            if statuses[node].state not in ("up", "paused"):
                return f"{node} is {statuses[node].state}, not up again"
        return now

    def _start_ended(self, statuses: "Statuses") -> bool:
        """Start what has verifiably ended and nobody else holds down: a process that still dies cannot be started.

        Once for each exit that a fault caused: where the started process ends by itself, that stays visible.
        """
        exited = self._exited()
        any_started = False
        for node in self.nodes:
            if node not in exited or statuses[node].state != "down" or self.holds.down[node]:
                continue
            caused, _ = exited[node]
            if caused not in self.holds.restarted:
                self.holds.restarted.add(caused)
                self.holds.world.start(node)
                any_started = True
        return any_started

    def _exited(self) -> dict[str, tuple[int, float]]:
        """For each node that has ended since it was asked to, its first exit: the place in the list, and when."""
        found: dict[str, tuple[int, float]] = {}
        for place, end in enumerate(self.holds.world.exits()):
            if place >= self.exits_before and end.node in self.nodes:
                found.setdefault(end.node, (place, end.at))
        return found


class Pause:
    """Processes stopped in their tracks. A pause holds a process, not a node: it ends when that process is killed.

    In effect: the state is `paused`. Healed: not paused any more, or another pause holds the same process still.
    """

    fresh = False

    def __init__(self, holds: Holds, nodes: Sequence[str], statuses: "Statuses") -> None:
        self.holds, self.nodes = holds, tuple(nodes)
        self.processes = [(node, statuses[node].pid) for node in nodes]

    def take(self) -> None:
        for process in self.processes:
            holders = self.holds.paused.setdefault(process, [])
            holders.append(self)
            if len(holders) == 1:
                self.holds.world.pause(process[0])

    def seen_in_effect(self, statuses: "Statuses", now: float) -> float | str:
        for node, pid in self.processes:
            status = statuses[node]
            if (status.state, status.pid) != ("paused", pid):
                return f"{node} is {status.state}, not paused" if status.pid == pid else f"{node}'s process ended"
        return now

    def let_go(self) -> None:
        statuses = self.holds.world.status()
        for process in self.processes:
            holders = self.holds.paused.get(process, [])
            if self in holders:
                holders.remove(self)
            if not holders:
                self.holds.paused.pop(process, None)
                node, pid = process
                if statuses[node].pid == pid and statuses[node].state != "down":
                    self.holds.world.resume(node)

    def seen_healed(self, statuses: "Statuses", now: float) -> float | str:
        for node, pid in self.processes:
            status = statuses[node]
            if status.state == "paused" and status.pid == pid and (node, pid) not in self.holds.paused:
                return f"{node} is still paused"
        return now


class LinksHeld:
    """Links under rules, alone or united with those of other faults.

    In effect: every running node concerned obeys a table of rules with these in it, at least one such node runs, over
    a cut link nothing arrived between two samples, and what the other rules do to messages between nodes (which beat,
    so there are some) has been counted by a sender since the first look. Senders do not count by link: of two faults of
    a kind at once, either may have been the cause. What is done to messages of clients, of whom there may be none, is
    not asked for: where a fault touches nothing else, the rules obeyed are the evidence.
    Healed: every running node concerned obeys a table without them, and over each link that was cut, is free again and
    has both its ends up, something arrives.
    A node that is paused, starting or down carries nothing and counts as obeying: a paused one drains control before
    data when it wakes, a starting one gets the table before its first message.
    """

    fresh = True

    def __init__(self, holds: Holds, rules: tuple[LinkRule, ...], heartbeat: float) -> None:
        self.holds, self.rules = holds, rules
        self.cuts: list[Link] = [(rule.source, rule.target) for rule in rules if rule.cut]
        ends = [rule.target for rule in rules] if self.cuts else [end for r in rules for end in (r.source, r.target)]
        self.obeying = [node for node in dict.fromkeys(ends) if node != CLIENTS]
        self.interval = SAMPLES_HEARTBEATS * heartbeat
        self.harms = _harms(rules)
        self.counted: dict[tuple[str, int | None], Mapping[str, int]] = {}  # by process, its counters at first sight
        self.key = 0
        self.version = 0
        self.samples: dict[Link, tuple[Sample, float]] = {}  # and since when the receiver's counter has stood there

    def take(self) -> None:
        self.key = self.holds.add_rules(self.rules)
        self.version = self.holds.enforce()

    def seen_in_effect(self, statuses: "Statuses", now: float) -> float | str:
        unseen = self._unseen_harm(statuses)  # first of all: what happens while the rules spread counts, too
        running = self._running(statuses)
        if isinstance(running, str):
            return running
        if not running:
            return "none of the nodes concerned is running"
        if unseen:
            return f"no message was {unseen} yet"
        since, loud = 0.0, None
        for source, target in self.cuts:
            if target not in running:
                continue
            status = statuses[target]
            sample = (status.pid, status.received.get(source, 0))
            if self.samples.get((source, target), (None,))[0] != sample:
                self.samples[source, target] = (sample, status.reported_at)
            quiet_since = self.samples[source, target][1]
            since = max(since, quiet_since)
            if status.reported_at - quiet_since < self.interval:  # a hung node's old report shows nothing
                loud = loud or f"messages from {source} may still reach {target}"
        return loud or (since if self.cuts else now)

    def let_go(self) -> None:
        self.holds.rules.pop(self.key, None)
        self.version = self.holds.enforce()
        self.samples = {}

    def seen_healed(self, statuses: "Statuses", now: float) -> float | str:
        running = self._running(statuses)
        if isinstance(running, str):
            return running
        ruled = {(rule.source, rule.target) for rule in self.holds.links()}
        silent = None
        for source, target in self.cuts:
            if (source, target) in ruled or any(statuses[end].state != "up" for end in (source, target)):
                continue
            sample = (statuses[target].pid, statuses[target].received.get(source, 0))
            (pid, count), _ = self.samples.setdefault((source, target), (sample, now))
            if sample[1] <= (count if pid == sample[0] else 0):  # a new process counts from 0, a new incarnation not
                silent = silent or f"nothing from {source} reaches {target} yet"
        return silent or now

    def _unseen_harm(self, statuses: "Statuses") -> str | None:
        """What the rules do to messages that no sender has counted since the first look, if there is such a thing."""
        for counter, links in self.harms.items():
            senders = {a for a, b in links if statuses[a].state == "up" and statuses[b].state in ("up", "paused")}
            grown = False
            for sender in sorted(senders):
                status = statuses[sender]
                before = self.counted.setdefault((sender, status.pid), status.counters)
                grown |= status.counters.get(counter, 0) > before.get(counter, 0)
            if senders and not grown:
                return counter
        return None

    def _running(self, statuses: "Statuses") -> list[str] | str:
        """The nodes concerned that run, if all of them obey; else who does not."""
        running = [node for node in self.obeying if statuses[node].state == "up"]
        for node in running:
            if statuses[node].links_version < self.version:
                return f"{node} does not obey the rules yet"
        return running


def _harms(rules: tuple[LinkRule, ...]) -> dict[str, list[Link]]:
    """For each counter of `testbed.core.links` that the rules make grow: the links between nodes that they touch."""
    found: dict[str, list[Link]] = {}
    for rule in rules:
        if rule.cut is not None or CLIENTS in (rule.source, rule.target):
            continue
        harms = {
            "lost": rule.loss,
            "delayed": rule.delay + rule.jitter,
            "duplicated": rule.duplicate,
            "reordered": rule.reorder,
        }
        for counter, amount in harms.items():
            if amount > 0:
                found.setdefault(counter, []).append((rule.source, rule.target))
    return found
