"""Who led, who was down, and what was being done to whom, at any time of a run.

Read from what nodes, supervisor and experiment log at level INFO. Times are on the clock of the logs.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.logbook.files import Entry, nodes_of

_OVER = ("healed", "not healed", "not in effect", "skipped")


@dataclass(frozen=True)
class Span:
    """Something that lasted: `what` in words, for the nodes it was about."""

    what: str
    nodes: tuple[str, ...]
    since: float
    until: float = math.inf

    def overlaps(self, since: float, until: float) -> bool:
        """Whether any of it was then."""
        return self.since <= until and self.until >= since


@dataclass
class _Node:
    times: list[float] = field(default_factory=list)
    roles: list[tuple[str | None, int | None, str | None]] = field(default_factory=list)
    down_since: float | None = None


class Circumstances:
    """What the entries say, which are in order."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.spans: list[Span] = []
        self.leaders: dict[int, tuple[str, int]] = {}  # term -> who was elected, and where its log ended
        self._nodes: dict[str, _Node] = {}
        self._faults: dict[int, tuple[str, tuple[str, ...], float]] = {}
        for entry in entries:
            self._take(entry)
        for node, state in self._nodes.items():
            if state.down_since is not None:
                self.spans.append(Span("was down", (node,), state.down_since))
        self.spans += [Span(*fault) for fault in self._faults.values()]
        self.spans.sort(key=lambda span: span.since)

    def role(self, node: str, at: float) -> tuple[str | None, int | None, str | None]:
        """What the node last said of itself by then: role, term, and who leads."""
        state = self._nodes.get(node, _Node())
        place = bisect_right(state.times, at)
        return state.roles[place - 1] if place else (None, None, None)

    def leader(self, at: float) -> tuple[str, int] | None:
        """Who led then, and in which term: of those that said so, the one of the highest term."""
        led = []
        for node in self._nodes:
            role, term, _ = self.role(node, at)
            if role == "leader" and isinstance(term, int):
                led.append((term, node))
        return (max(led)[1], max(led)[0]) if led else None

    def harms(self, node: str, since: float, until: float) -> list[Span]:
        """What kept the node from doing its work in that time; that it was down tells more than why."""
        found = [span for span in self.spans if node in span.nodes and span.overlaps(since, until)]
        down = [span for span in found if span.what == "was down"]
        return down or found

    def _take(self, entry: Entry) -> None:
        match entry["source"], entry["text"]:
            case "node", "role":
                state = self._node(entry)
                state.times.append(entry["time"])
                state.roles.append((entry.get("role"), entry.get("term"), entry.get("leader")))
            case "node", "elected" if isinstance(entry.get("term"), int) and isinstance(entry.get("last"), int):
                self.leaders[entry["term"]] = (str(entry.get("node")), entry["last"])
            case "supervisor", "exit":
                self._node(entry).down_since = entry["time"]
            case "supervisor", "listens":
                state = self._node(entry)
                if state.down_since is not None:
                    self.spans.append(Span("was down", (str(entry.get("node")),), state.down_since, entry["time"]))
                state.down_since = None
            case "experiment", "fault":
                self._fault(entry)

    def _node(self, entry: Entry) -> _Node:
        return self._nodes.setdefault(str(entry.get("node")), _Node())

    def _fault(self, entry: Entry) -> None:
        """From being asked for, because its effect begins before it is seen."""
        number, step = entry.get("fault"), entry.get("step")
        if not isinstance(number, int):
            return
        if step in _OVER:
            what, nodes, since = self._faults.pop(number, ("", (), 0.0))
            if nodes and step != "skipped":
                self.spans.append(Span(what, nodes, since, entry["time"]))
        elif nodes_of(entry):
            known = self._faults.get(number)
            since = entry["time"] if known is None else known[2]
            self._faults[number] = (f"was hit by {entry.get('kind')} {number}", nodes_of(entry), since)
