"""What became of each fault, and what can be said from that: counts, times of effect, and when a majority was whole.

Pure. Knows fault records only: not who wrote them, nor any cluster.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from chaos.faults import Fault
from chaos.targets import majority
from testbed.base.links import CLIENTS, LinkRule, combine

LOSS_CONNECTED_MAX: Final = 0.02  # an election takes four messages in a row: with more loss, several may fail in turn
LOSS_CUT_MIN: Final = 1.0  # nothing at all gets through
DELAY_CONNECTED_SHARE: Final = 0.25  # of the election timeout, one way: "broadcast time << election timeout" (Raft 5.6)


class FaultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: all times in seconds on the world's clock, None for what was not observed.

    `nodes`: whom it hit; `missed`: targets left out because they were down already. `rules`: what it did to links.
    `skipped`: why it was never tried. `failed`: why it did not verifiably take hold, or did not verifiably heal; the
    former never counts as applied (`in_effect` is None), the latter never as healed (`healed` is None).
    """

    number: int
    fault: Fault
    asked: float
    nodes: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    rules: tuple[LinkRule, ...] = ()
    in_effect: float | None = None
    ended: float | None = None
    healed: float | None = None
    skipped: str | None = None
    failed: str | None = None


def summary(records: Iterable[FaultRecord], planned: Iterable[str] = ()) -> list[dict[str, Any]]:
    """`{"kind", "asked", "applied", "healed", "skipped"}` per kind, in order of appearance; `planned` kinds come first.

    `applied` counts faults observed in effect, `healed` those of them that were also observed healed. A fault that
    was neither applied nor skipped did not take hold.
    """
    counts = {kind: {"asked": 0, "applied": 0, "healed": 0, "skipped": 0} for kind in planned}
    for record in records:
        count = counts.setdefault(record.fault.kind, {"asked": 0, "applied": 0, "healed": 0, "skipped": 0})
        count["asked"] += 1
        count["applied"] += record.in_effect is not None
        count["healed"] += record.in_effect is not None and record.healed is not None
        count["skipped"] += record.skipped is not None
    return [{"kind": kind} | count for kind, count in counts.items()]


def applied(records: Iterable[FaultRecord]) -> list[tuple[str, float]]:
    """(kind, seconds at which it was observed in effect) of every fault that took hold, in order of that time."""
    seen = [(record.fault.kind, record.in_effect) for record in records if record.in_effect is not None]
    return sorted(seen, key=lambda pair: pair[1])


def majority_windows(
    records: Sequence[FaultRecord],
    nodes: Sequence[str],
    start: float,
    end: float,
    *,
    election_timeout: float = 1.0,
) -> list[tuple[float, float]]:
    """The longest spans of [start, end] in which one and the same majority was up, unpaused and connected throughout.

    Conservative: a fault that was tried counts from when it was asked for until it was observed healed (for ever,
    if it never was), whether or not it verifiably took hold. "Connected" is pairwise, in both directions, and to
    the clients: no cut, combined loss up to LOSS_CONNECTED_MAX, delay and jitter together below
    DELAY_CONNECTED_SHARE of the election timeout. Duplicates and reordering do not disconnect. While any link is
    neither connected nor cut, no majority is whole: a leader behind such links is heard just often enough to stay
    in office. As the majority is the same for a whole span, spans may overlap: each is a promise of its own. Exits
    that no fault caused are not known here.
    """
    held = [record for record in records if record.skipped is None]
    times = {start, end} | {time for record in held for time in _span(record) if start < time < end}
    marks = sorted(times)
    harms = [
        _harm([record for record in held if _span(record)[0] < after and _span(record)[1] > before], election_timeout)
        for before, after in pairwise(marks)
    ]
    windows: list[tuple[float, float]] = []
    reached = 0  # segments of the window before: a window that ends no later lies within it
    for first in range(len(harms)):
        last = _extend(harms, first, nodes)
        if last > max(first, reached):
            windows.append((marks[first], marks[last]))
            reached = last
    return windows


Harm = tuple[frozenset[str], frozenset[frozenset[str]]]


def _span(record: FaultRecord) -> tuple[float, float]:
    return record.asked, math.inf if record.healed is None else record.healed


def _harm(held: Sequence[FaultRecord], election_timeout: float) -> Harm | None:
    """(nodes that are away, pairs of nodes that are cut off) while exactly these faults are held; None if that is not
    all, because some link is neither connected nor cut."""
    away = {node for record in held if not record.rules for node in record.nodes}
    apart: set[frozenset[str]] = set()
    delay_max = DELAY_CONNECTED_SHARE * election_timeout
    for (source, target), rule in combine(rule for record in held for rule in record.rules).items():
        if rule.cut is None and rule.loss < LOSS_CUT_MIN:
            if rule.loss <= LOSS_CONNECTED_MAX and rule.delay + rule.jitter < delay_max:
                continue
            return None
        if CLIENTS in (source, target):
            away.add(target if source == CLIENTS else source)
        else:
            apart.add(frozenset((source, target)))
    return frozenset(away), frozenset(apart)


def _extend(harms: Sequence[Harm | None], first: int, nodes: Sequence[str]) -> int:
    """The end (exclusive) of the longest run of segments from `first` that one majority comes through unharmed."""
    away: set[str] = set()
    apart: set[frozenset[str]] = set()
    for last in range(first, len(harms)):
        harm = harms[last]
        if harm is None:
            return last
        away |= harm[0]
        apart |= harm[1]
        if not _has_connected(frozenset(nodes) - away, apart, majority(len(nodes))):
            return last
    return len(harms)


def _has_connected(nodes: frozenset[str], apart: Iterable[frozenset[str]], wanted: int) -> bool:
    """Whether `wanted` of `nodes` are pairwise connected. Branches on the node with the most broken links."""
    if len(nodes) < wanted:
        return False
    enemies: dict[str, set[str]] = {node: set() for node in sorted(nodes)}
    for one, other in (sorted(pair) for pair in apart if pair <= nodes):
        enemies[one].add(other)
        enemies[other].add(one)
    worst = max(enemies, key=lambda node: len(enemies[node]))
    if not enemies[worst]:
        return True
    return _has_connected(nodes - {worst}, apart, wanted) or _has_connected(nodes - enemies[worst], apart, wanted)
