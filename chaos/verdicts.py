"""From what a run recorded to its verdict: which checks apply, and how their verdicts add up.

Pure but for the budget's question. A verdict cannot be empty: a workload without one ok operation, or a planned kind of
fault that never took hold, makes it unknown.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from chaos.checkers import check, operations_of
from chaos.checkers.model import Explanation, Judge, Verdict
from chaos.checkers.service import availability, crashes, membership, recovery, recovery_times
from chaos.checkers.totals import TotalQueue
from chaos.checkers.totals.keyorder import KeyOrder
from chaos.history import NEMESIS, NS_PER_S, Event, of_clients
from chaos.records import FaultRecord, applied, majority_windows, summary
from testbed.ports import Exit

UNDRAINED: Final[Mapping[str, Judge]] = {  # how they judge what was not read to its end
    "total-queue": TotalQueue(drained=False),
    "key-order": KeyOrder(drained=False),
}
ANOMALY_EVENTS_MAX: Final = 200  # of a wrong total, every addition belongs to it
BOUND_ELECTION_TIMEOUTS = 5  # an election may take two, a split vote two more, and a client has to find the winner


class Check(msgspec.Struct, frozen=True):
    """One line of the verdict. `explanation`: where the history stops to make sense, if a judge of histories knows.

    `place` is that of the history among those of the run, counted from 1.
    """

    name: str
    workload: str | None
    verdict: Literal["valid", "invalid", "unknown"]
    detail: str
    explanation: Explanation | None = None
    place: int = 0

    def shown(self) -> dict[str, Any]:
        """As in a summary."""
        return {"name": self.name, "workload": self.workload, "verdict": self.verdict, "detail": self.detail}


class Observed(msgspec.Struct, frozen=True):
    """What a run recorded. All times in seconds since its start; the histories' stamps are nanoseconds since then.

    `histories`: per workload its name, its judges, and its events. `views`: what each node believed of each peer in the
    end; `up`: who was up then. `broken`: per workload whose own assertions failed its name, and what failed.
    `undrained`: the workloads that did not come to their end after the last heal.
    """

    nodes: tuple[str, ...]
    election_timeout: float
    planned: tuple[str, ...]
    records: tuple[FaultRecord, ...]
    histories: tuple[tuple[str, tuple[Any, ...], Sequence[Event]], ...]
    exits: tuple[Exit, ...]
    views: Mapping[str, Mapping[str, str]]
    up: frozenset[str]
    healed: float
    end: float
    broken: tuple[tuple[str, str], ...] = ()
    undrained: tuple[str, ...] = ()


def judge(seen: Observed, expired: Callable[[], bool]) -> list[Check]:
    """Every check of the run, models first.

    Of several models for a workload, each judges the operations it knows. Raises ValueError if none knows one of them.
    """
    checks: list[Check] = []
    for place, (name, models, history) in enumerate(seen.histories, 1):
        known = frozenset[str]().union(*map(operations_of, models))
        for model in models:
            if name in seen.undrained and isinstance(model, str):
                model = UNDRAINED.get(model, model)
            checks.append(of_verdict(check(history, model, expired=expired, others=known), name, place))
        checks += _service(seen, name, history)
    checks += [Check("workload", name, "invalid", failure) for name, failure in seen.broken]
    checks.append(of_verdict(membership(seen.views, seen.up), None))
    checks.append(of_verdict(crashes(seen.exits), None))
    checks.append(_evidence(seen))
    checks.append(_coverage(seen))
    return checks


def failure(checks: Sequence[Mapping[str, Any]]) -> str | None:
    """How a run failed: the first check that is invalid, as in a summary; of invariants, the one that does not hold."""
    for found in checks:
        if found["verdict"] == "invalid":
            cause = found["detail"].partition(" at ")[0] if found["name"].endswith("-invariants") else ""
            return f"{found['name']}: {cause}" if cause else str(found["name"])
    return None


def overall(checks: Sequence[Check]) -> Literal["valid", "invalid", "unknown"]:
    """One invalid check makes the run invalid; else one unknown check makes it unknown."""
    verdicts = {found.verdict for found in checks}
    return "invalid" if "invalid" in verdicts else "unknown" if "unknown" in verdicts else "valid"


def bound(election_timeout: float) -> float:
    """Seconds within which a cluster with a majority must acknowledge a write."""
    return BOUND_ELECTION_TIMEOUTS * election_timeout


def operation_counts(histories: Sequence[Sequence[Event]]) -> dict[str, int]:
    """How many operations ended in which way; one that never completed is info. The end of a lease is none."""
    counts: Counter[str] = Counter(ok=0, fail=0, info=0)
    for history in histories:
        kinds = Counter(event.type for event in of_clients(history))
        counts.update({kind: kinds[kind] for kind in ("ok", "fail")})
        counts["info"] += kinds["invoke"] - kinds["ok"] - kinds["fail"]
    return dict(counts)


def recoveries(seen: Observed) -> dict[str, dict[str, float]]:
    """Per kind of fault: from its being in effect to the first ok write invoked after it (seconds, p50 and max).

    With several workloads, the slowest one tells when the service was back for all.
    """
    times = [(kind, round(at * NS_PER_S)) for kind, at in applied(seen.records)]
    merged: dict[str, dict[str, float]] = {}
    for _, _, history in seen.histories:
        for kind, found in recovery_times(history, times).items():
            known = merged.setdefault(kind, found)
            merged[kind] = {name: max(known[name], found[name]) for name in found}
    return merged


def _service(seen: Observed, name: str, history: Sequence[Event]) -> list[Check]:
    if not any(event.type == "ok" for event in history if event.process != NEMESIS):
        return []  # the coverage check says so; nothing was shown either way
    limit = bound(seen.election_timeout)
    windows = majority_windows(seen.records, seen.nodes, 0.0, seen.end, election_timeout=seen.election_timeout)
    in_ns = [(round(start * NS_PER_S), round(end * NS_PER_S)) for start, end in windows]
    return [
        of_verdict(availability(history, in_ns, limit), name),
        of_verdict(recovery(history, round(seen.healed * NS_PER_S), limit, round(seen.end * NS_PER_S)), name),
    ]


def _evidence(seen: Observed) -> Check:
    """A fault that is counted must have left its trace: what ended a process shows among the exits."""
    unproved = []
    ended = 0
    for record in seen.records:
        if record.fault.kind not in ("kill", "terminate") or record.in_effect is None:
            continue
        ended += 1
        unproved += [
            f"fault {record.number} ({record.fault.kind}) counts as applied, and no process of {node} ended"
            for node in record.nodes
            if not any(exit.node == node and _within(record, exit.at) for exit in seen.exits)
        ]
    if unproved:
        return Check("evidence", None, "invalid", "; ".join(unproved))
    return Check("evidence", None, "valid", f"{ended} faults that ended processes, each with its exits")


def _within(record: FaultRecord, at: float) -> bool:
    return record.asked <= at <= (math.inf if record.ended is None else record.ended)


def _coverage(seen: Observed) -> Check:
    gaps = [
        f"no fault of kind {count['kind']} took hold ({count['asked']} asked, {count['skipped']} skipped)"
        for count in summary(seen.records, seen.planned)
        if count["applied"] == 0
    ]
    gaps += [
        f"fault {record.number} ({record.fault.kind}) was not seen to heal: {record.failed}"
        for record in seen.records
        if record.skipped is None and record.healed is None
    ]
    crashed = {exit.node for exit in seen.exits if not exit.expected}  # these have a check of their own
    gaps += [f"{node} was not up in the end" for node in seen.nodes if node not in seen.up and node not in crashed]
    gaps += [
        f"workload {name} had no operation that succeeded"
        for name, _, history in seen.histories
        if not any(event.type == "ok" for event in history if event.process != NEMESIS)
    ]
    gaps += [f"workload {name} did not read all that was left" for name in seen.undrained]
    if gaps:
        return Check("coverage", None, "unknown", "; ".join(gaps))
    counts = summary(seen.records, seen.planned)
    took = ", ".join(f"{count['kind']} {count['applied']}" for count in counts) or "no faults were planned"
    return Check("coverage", None, "valid", f"faults that took hold: {took}")


def of_verdict(verdict: Verdict, workload: str | None = None, place: int = 0) -> Check:
    """A judge's verdict as a line of the run's."""
    return Check(verdict.model, workload, verdict.verdict, verdict.detail, verdict.explanation, place)


def anomaly(checks: Sequence[Check]) -> dict[str, Any] | None:
    """The first thing that nothing explains: an `Explanation` as plain data, and whose it is.

    `history` is the file's name in a run directory, `event` the place of the completion that broke it. Of `minimal`
    events there are ANOMALY_EVENTS_MAX at the most.
    """
    for found in checks:
        if found.explanation is not None:
            told = msgspec.to_builtins(found.explanation)
            told["minimal"] = told["minimal"][:ANOMALY_EVENTS_MAX]
            place = {"history": history_name(found.place), "event": found.explanation.prefix - 1}
            return {"check": found.name, "workload": found.workload, **place, **told}
    return None


def history_name(place: int) -> str:
    """The file in a run directory that holds the history of that workload, counted from 1."""
    return "history.jsonl" if place == 1 else f"history-{place}.jsonl"
