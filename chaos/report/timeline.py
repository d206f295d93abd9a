"""What nodes were and what was done to them, as spans of time, and each of them in words.

Pure. Knows the texts of log entries and the steps of faults. All times are in seconds since the start of the run; what
was before it counts as being at its start.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

CLAUSES_MAX: Final = 12  # of a sentence: nobody reads more
CANDIDACY_S_MIN: Final = 0.1  # to be worth a clause: every election has shorter ones
ROWS_MAX: Final = 4  # of fault bands above each other; beyond, they share the last row

ROLES: Final[Mapping[str, str]] = {  # what nodes log, besides "role", when they take another one
    "campaigns": "candidate",
    "elected": "leader",
    "follows": "follower",
    "leader steps down": "follower",
    "candidate steps down": "follower",
}
ENDS_PROCESSES: Final = ("kill", "terminate")
TOLD: Final = {"candidate": "a candidate"}

Entry = Mapping[str, Any]


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """From when until when something was so. `words` say more."""

    start: float
    end: float
    what: str
    term: int | None = None
    words: str = ""


class Band(msgspec.Struct, frozen=True):
    """A fault in effect. `row`: where its label has room beside those of other faults of that time."""

    start: float
    end: float
    number: int
    kind: str
    nodes: list[str]
    words: str
    row: int = 0


class Lane(msgspec.Struct, frozen=True):
    """One node: its roles, and what befell it: starting, down, paused, cut off. `boots`: times of new incarnations."""

    node: str
    roles: list[Span]
    states: list[Span]
    boots: list[tuple[float, int]]
    words: str


class View(msgspec.Struct, frozen=True):
    """What one node believed of another."""

    node: str
    peer: str
    spans: list[Span]
    words: str


# --- faults ---


def bands(steps: Iterable[Entry], end: float) -> list[Band]:
    """The faults that were seen in effect, from then until they were seen healed; for ever, if they were not.

    A step is an event of the nemesis: `time`, `f`, and `value` with fault, step, nodes and, where observed, `since`.
    """
    found: list[Band] = []
    reached: list[float] = []  # until when each row is taken
    told = by_fault(steps)
    started = [(fault["in effect"], fault) for fault in told.values() if "in effect" in fault]
    for first, fault in sorted(started, key=lambda pair: _since(pair[0])):
        start = max(0.0, _since(first))
        healed = fault.get("healed") or fault.get("not healed")
        stop = end if healed is None or healed["value"]["step"] == "not healed" else max(start, _since(healed))
        row = next((row for row, until in enumerate(reached) if until <= start), len(reached))
        reached[row : row + 1] = [stop]
        value = first["value"]
        words = f"{_named(first)}, {_s(start)} to {_s(stop)}" + (" (not seen to heal)" if stop == end else "")
        nodes = [str(node) for node in value.get("nodes", [])]
        row = min(row, ROWS_MAX - 1)
        found.append(Band(start, stop, value["fault"], str(first["f"]), nodes, words, row))
    return found


def untaken(steps: Iterable[Entry]) -> list[dict[str, str]]:
    """The faults that were never in effect, and why."""
    rows = []
    for fault in by_fault(steps).values():
        if "in effect" not in fault:
            last = fault.get("skipped") or fault.get("not in effect") or next(reversed(fault.values()))
            why = last["value"].get("reason") or "never seen in effect"
            rows.append({"fault": _named(last), "at": _s(last["time"]), "why": str(why)})
    return rows


def by_fault(steps: Iterable[Entry]) -> dict[int, dict[str, Entry]]:
    """For each fault's number its steps by name; of a step told twice, the first."""
    told: dict[int, dict[str, Entry]] = {}
    for step in steps:
        value = step.get("value")
        if isinstance(value, Mapping) and isinstance(value.get("fault"), int) and isinstance(value.get("step"), str):
            told.setdefault(value["fault"], {}).setdefault(value["step"], step)
    return told


def _since(step: Entry) -> float:
    since = step["value"].get("since")
    return float(since if isinstance(since, int | float) else step["time"])


def _named(step: Entry) -> str:
    value = step["value"]
    shape = f" ({value['shape']}, {value['mode']})" if "shape" in value and "mode" in value else ""
    nodes = ", ".join(map(str, value.get("nodes", [])))
    return f"fault {value['fault']}: {step['f']}{shape}{' of ' if nodes else ''}{nodes}"


# --- nodes ---


def lanes(nodes: Sequence[str], entries: Iterable[Entry], faults: Sequence[Band], end: float) -> list[Lane]:
    """A lane for each node. `entries` are of nodes' logs and of the supervisor's, in order of time."""
    own: dict[str, list[Entry]] = {node: [] for node in nodes}
    for entry in entries:
        if entry.get("node") in own:
            own[entry["node"]].append(entry)
    return [_lane(node, own[node], faults, end) for node in nodes]


class _Life:
    """One node's roles and absences, entry by entry."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.roles: list[Span] = []
        self.states: list[Span] = []
        self.boots: list[tuple[float, int]] = []
        self._role: tuple[float, str, int | None, str] | None = None
        self._state: tuple[float, str, str] | None = None

    def take(self, entry: Entry) -> None:
        time, text = entry["time"], entry.get("text")
        if text == "start" and entry.get("source") == "supervisor":
            self._turn(time, "starting", "")
        elif text == "exit":
            self.leave(time, str(entry.get("reason", "")))
        elif text in ("listens", "starts") and "incarnation" in entry:
            self._turn(time, None, "")
            self._boot(time, entry.get("incarnation"))
        elif text == "role" or text in ROLES:
            role = entry.get("role") if text == "role" else ROLES[str(text)]
            if isinstance(role, str):
                leader = entry.get("leader")
                self._become(time, role, entry.get("term"), str(leader) if leader is not None else "")

    def leave(self, time: float, why: str) -> None:
        self._close(time)
        self._turn(time, "down", why)

    def close(self) -> None:
        self._close(self.end)
        self._turn(self.end, None, "")

    def _boot(self, time: float, incarnation: Any) -> None:
        if isinstance(incarnation, int) and (not self.boots or self.boots[-1][1] != incarnation):
            self.boots.append((max(0.0, min(time, self.end)), incarnation))

    def _become(self, time: float, role: str, term: Any, leader: str) -> None:
        term = term if isinstance(term, int) else None
        leader = "" if role == "leader" else leader
        if self._state is not None and self._state[1] == "down":
            return  # what a process said last may be read after its end
        if self._role is None or self._role[1:] != (role, term, leader):
            self._close(time)
            self._role = (time, role, term, leader)

    def _close(self, time: float) -> None:
        if self._role is not None:
            start, role, term, leader = self._role
            words = f"follows {leader}" if leader else ""
            _add(self.roles, Span(max(0.0, start), min(time, self.end), role, term, words))
        self._role = None

    def _turn(self, time: float, state: str | None, why: str) -> None:
        if self._state is not None:
            _add(self.states, Span(max(0.0, self._state[0]), min(time, self.end), self._state[1], None, self._state[2]))
        self._state = None if state is None else (time, state, why)


def _add(spans: list[Span], span: Span) -> None:
    if span.end > span.start:
        spans.append(span)


def _lane(node: str, entries: Sequence[Entry], faults: Sequence[Band], end: float) -> Lane:
    life = _Life(end)
    watched = any(entry.get("source") == "supervisor" for entry in entries)
    moments: list[tuple[float, int, Entry]] = [(entry["time"], 0, entry) for entry in entries]
    if not watched:  # nobody saw the process end but those who ended it
        for fault in faults:
            if fault.kind in ENDS_PROCESSES and node in fault.nodes:
                moments.append((fault.start, 1, {"time": fault.start, "text": "exit", "reason": fault.words}))
                moments.append((fault.end, 1, {"time": fault.end, "text": "listens", "incarnation": None}))
    for _, _, entry in sorted(moments, key=lambda moment: moment[:2]):
        life.take(entry)
    life.close()
    states = life.states + [
        Span(fault.start, fault.end, "paused" if fault.kind == "pause" else "cut off", None, fault.words)
        for fault in faults
        if fault.kind in ("pause", "partition") and node in fault.nodes and fault.end > fault.start
    ]
    states.sort(key=lambda span: (span.start, span.end))
    return Lane(node, life.roles, states, life.boots, _lane_in_words(node, life.roles, states))


def _lane_in_words(node: str, roles: Sequence[Span], states: Sequence[Span]) -> str:
    clauses = []
    for span in sorted((*roles, *states), key=lambda span: (span.start, span.end)):
        if span.what == "leader":
            clauses.append(f"led term {span.term} from {_s(span.start)} to {_s(span.end)}")
        elif span.what != "follower" and (span.what != "candidate" or span.end - span.start >= CANDIDACY_S_MIN):
            clauses.append(f"was {TOLD.get(span.what, span.what)} {_s(span.start)} to {_s(span.end)}")
    follows = any(span.what == "follower" for span in roles)
    if not clauses:
        return f"{node} followed throughout." if follows else f"{node}: nothing is known of its roles."
    return f"{node} {_listed(clauses)}{', and followed otherwise' if follows else ''}."


# --- who believed what of whom ---


def views(nodes: Sequence[str], entries: Iterable[Entry], end: float) -> list[View]:
    """For each pair of nodes what the one believed of the other, while it was up and had said so."""
    known: dict[tuple[str, str], list[Span]] = {(a, b): [] for a in nodes for b in nodes if a != b}
    now: dict[tuple[str, str], tuple[float, str, str]] = {}

    def turn(pair: tuple[str, str], time: float, state: str | None, why: str = "") -> None:
        if pair in now:
            start, before, reason = now.pop(pair)
            _add(known[pair], Span(max(0.0, start), min(time, end), before, None, reason))
        if state is not None:
            now[pair] = (time, state, why)

    entries = list(entries)
    by_themselves = {entry["node"] for entry in entries if _tells_view(entry) and entry.get("source") == "node"}
    for entry in entries:
        node = entry.get("node")
        if _tells_view(entry):
            pair = (str(node), str(entry["peer"]))
            state = entry.get("new", entry.get("state"))
            own = entry.get("source") == "node" or node not in by_themselves
            if pair in known and own and isinstance(state, str) and (pair not in now or now[pair][1] != state):
                turn(pair, entry["time"], state, str(entry.get("reason") or ""))
        elif entry.get("text") == "exit":
            for pair in [pair for pair in now if pair[0] == node]:
                turn(pair, entry["time"], None)
    for pair in list(now):
        turn(pair, end, None)
    return [View(node, peer, spans, _view_in_words(node, peer, spans)) for (node, peer), spans in known.items()]


def _tells_view(entry: Entry) -> bool:
    return entry.get("text") == "membership" and "peer" in entry


def _view_in_words(node: str, peer: str, spans: Sequence[Span]) -> str:
    doubts = [f"{span.what} {_s(span.start)} to {_s(span.end)}" for span in spans if span.what != "alive"]
    if not spans:
        return f"{node} said nothing of {peer}."
    return f"{node} held {peer} {_listed(doubts)}." if doubts else f"{node} held {peer} alive throughout."


def _listed(clauses: Sequence[str]) -> str:
    more = len(clauses) - CLAUSES_MAX
    return ", ".join(clauses[:CLAUSES_MAX]) + (f", and {more} times more" if more > 0 else "")


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"
