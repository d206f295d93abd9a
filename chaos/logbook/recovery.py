"""How fast a cluster got over each kind of fault: until another node noticed, until another led, until a write was ok.

Pure: log entries, fault records and known times to the next write in, numbers out. The instant that counts is that at
which a fault was observed in effect; what happened between its being asked for and that took no time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from chaos.logbook.circumstances import Circumstances
from chaos.logbook.files import Entry
from chaos.records import FaultRecord

Steps = dict[str, dict[str, dict[str, float]]]

_DOUBTED = ("suspect", "failed")


def recovery_steps(
    entries: Iterable[Entry],
    records: Sequence[FaultRecord],
    writes: Mapping[str, Mapping[str, float]],
    begins: float,
) -> Steps:
    """`{"kill": {"detect": {"p50", "max"}, "elect": {…}, "write": {…}}}` in seconds, by kind of fault.

    `entries`: those of `Logbook.entries()`. `records`: their times count from `begins`, which is on the clock of the
    entries (`Logbook.begins`). `writes`: per kind the times to the next acknowledged write (`verdicts.recoveries`).

    detect: another node suspects or convicts one that was hit, or sees its leader's connection close. elect, for faults
    that hit the leader: another node leads, in a higher term. What did not happen, or not while it could be this
    fault's doing, is left out.
    """
    entries = list(entries)
    known = Circumstances(entries)
    applied = [record for record in records if record.in_effect is not None]
    over = min((one["time"] for one in entries if one["text"] == "phase"), default=math.inf)
    on_leader = [begins + record.asked for record in applied if _hits_leader(known, record, begins + record.asked)]
    found: dict[str, dict[str, list[float]]] = {}
    for record in applied:
        assert record.in_effect is not None
        asked, effect = begins + record.asked, begins + record.in_effect
        detected = _first_doubt(entries, record, asked, _plus(begins, record.ended, over))
        next_on_leader = min((at for at in on_leader if at > asked), default=math.inf)
        elected = _first_successor(entries, record, known, asked, min(next_on_leader, over))
        times = found.setdefault(record.fault.kind, {})
        for step, at in (("detect", detected), ("elect", elected)):
            if at is not None:
                times.setdefault(step, []).append(max(0.0, at - effect))
    steps: Steps = {}
    for kind in sorted(found):
        steps[kind] = {step: {"p50": median(times), "max": max(times)} for step, times in found[kind].items()}
        if kind in writes:
            steps[kind]["write"] = dict(writes[kind])
    return {kind: measured for kind, measured in steps.items() if measured}


def _plus(begins: float, time: float | None, otherwise: float) -> float:
    return otherwise if time is None else min(begins + time, otherwise)


def _first_doubt(entries: Sequence[Entry], record: FaultRecord, since: float, until: float) -> float | None:
    for entry in entries:
        if entry["source"] != "node" or entry.get("node") in record.nodes or not since <= entry["time"] <= until:
            continue
        doubted = entry["text"] == "membership" and entry.get("new") in _DOUBTED and entry.get("peer") in record.nodes
        if doubted or (entry["text"] == "the leader's connection closed" and entry.get("leader") in record.nodes):
            return float(entry["time"])
    return None


def _hits_leader(known: Circumstances, record: FaultRecord, at: float) -> bool:
    leader = known.leader(at)
    return leader is not None and leader[0] in record.nodes


def _first_successor(
    entries: Sequence[Entry], record: FaultRecord, known: Circumstances, since: float, until: float
) -> float | None:
    leader = known.leader(since)
    if leader is None or not _hits_leader(known, record, since):
        return None
    for entry in entries:
        led = entry["source"] == "node" and entry["text"] == "role" and entry.get("role") == "leader"
        term = entry.get("term")
        if led and since <= entry["time"] < until and isinstance(term, int) and term > leader[1]:
            return float(entry["time"]) if entry.get("node") not in record.nodes else None
    return None
