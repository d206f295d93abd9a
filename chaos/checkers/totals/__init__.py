"""Judges over all operations of a key at once: total-queue and unique-ids. No order needs to be searched for.

They know what went in and what came out, by whom, and which of it is certain. They do not know what is still inside.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from chaos.checkers.model import Narrows, VerdictType
from chaos.checkers.models.queues import null_complaint
from chaos.checkers.totals.deliveries import breaches, deliveries, dequeued, parts_by_element, take_complaint
from chaos.checkers.values import freeze, freeze_items, show, show_json, start_items
from chaos.history import Operation

NAMED_MAX: Final = 5  # elements named in a detail; the count says how many more there are
PLACES_MAX: Final = 3  # of the operations on each of them


@dataclass(frozen=True)
class TotalQueue:
    """Nothing acknowledged is lost, nothing unexpected comes out, nothing comes out more often than it was put in.

    The workload must drain the queue at its end: what was acknowledged and never came out counts as lost, or, where the
    queue is known not to have been `drained`, as perhaps still in it. After
    Jepsen's total-queue, with these differences: duplicates are invalid, and what has come out is compared with what
    had been put in by then: an element that came out before it was first put in is unexpected, one that came out again
    before it was put in again is a duplicate; and a dequeue of unknown outcome may have taken any one element (or the
    one that its completion names, where that is not null), so that losses which such dequeues could explain make the
    verdict unknown.

    A `drain` takes any number of elements at once, which its value lists; one of unknown outcome may have taken any.

    Where elements are delivered under leases, a `take` is a delivery and a dequeue its acknowledgement (see
    `deliveries`): taking an element again is no duplicate as long as it can be a redelivery, which is counted. A nack
    gives an element back, and proves nothing else. An element is not delivered again, nor as a dead letter, before its
    delivery could have ended; that is judged where the history tells when the lease could end by itself, by a lapse.
    """

    drained: bool = True
    name: str = "total-queue"
    operations: frozenset[str] = frozenset({"enqueue", "take", "nack", "dequeue", "drain"})

    def complaint(self, operation: Operation) -> str | None:
        if operation.f == "drain" and operation.outcome == "ok" and not isinstance(operation.result, list | tuple):
            return f"a drain answers a list of elements, not {show_json(operation.result)}"
        return null_complaint(operation) or take_complaint(operation)

    def parts(self, operations: Sequence[Operation]) -> list[set[int]]:
        return parts_by_element(operations)

    def ongoing(self) -> Narrows:
        return replace(self, drained=False)

    def judge(self, operations: Sequence[Operation], initial: Any) -> tuple[VerdictType, str]:
        tally = _tally(operations, start_items(self.name, initial))
        lost = tally.acknowledged - tally.out - tally.maybe_out
        surplus = tally.out - tally.put
        unexpected = Counter({item: count for item, count in surplus.items() if item not in tally.put})
        unexpected.update(tally.early)
        duplicated = Counter({item: count for item, count in surplus.items() if item in tally.put})
        duplicates = duplicated.total() + tally.again_early.total()
        counts = (
            f"{lost.total()} lost, {duplicates} duplicated, {unexpected.total()} unexpected"
            f" of {tally.acknowledged.total()} acknowledged and {tally.out.total()} taken{tally.redelivered}"
        )
        leased = any(operation.f == "take" for operation in operations)

        def put(items: Counter[Hashable]) -> str:
            return _names(items, operations, _put_in)

        def taken(items: Counter[Hashable]) -> str:
            return _names(items, operations, lambda operation: _taken(operation, leased))

        if unexpected:
            return "invalid", f"elements came out that were not in: {taken(unexpected)} ({counts})"
        if duplicated:
            return "invalid", f"elements came out more often than they were put in: {taken(duplicated)} ({counts})"
        if tally.again_early:
            named = taken(tally.again_early)
            return "invalid", f"elements came out again before they were put in again: {named} ({counts})"
        if tally.breaches:
            more = len(tally.breaches) - 1
            return "invalid", f"{tally.breaches[0]}{f' and {more} more such' if more else ''} ({counts})"
        if lost and not self.drained:
            return "unknown", f"lost, or not read yet: {put(lost)} ({counts})"
        if lost and tally.blind_drains:
            return "unknown", f"lost, or taken by drains of unknown outcome: {put(lost)} ({counts})"
        if lost.total() > tally.blind_takes:
            return "invalid", f"acknowledged elements were lost: {put(lost)} ({counts})"
        if lost:
            return "unknown", f"lost, or taken by dequeues of unknown outcome: {put(lost)} ({counts})"
        return "valid", counts


@dataclass
class _Tally:
    """How often each element was acknowledged, perhaps put in, taken, and perhaps taken (`maybe_out`).

    `early` holds what came out before it was first put in, `again_early` what came out once more before it was put in
    once more; `blind_takes` and `blind_drains` count dequeues and drains
    of which nothing is known. `breaches` are deliveries and acknowledgements that must not be; `redelivered` is in
    words, empty without takes.
    """

    acknowledged: Counter[Hashable]
    put: Counter[Hashable]
    out: Counter[Hashable]
    maybe_out: Counter[Hashable]
    early: Counter[Hashable]
    again_early: Counter[Hashable]
    blind_takes: int
    blind_drains: int
    breaches: list[str]
    redelivered: str


def _tally(operations: Sequence[Operation], initial: Iterable[Hashable]) -> _Tally:
    present = Counter(initial)
    tally = _Tally(present.copy(), present.copy(), Counter(), Counter(), Counter(), Counter(), 0, 0, [], "")
    put_at: dict[Hashable, list[int]] = {element: [-1] * count for element, count in present.items()}
    out_at: dict[Hashable, list[int]] = {}
    for operation in operations:
        if operation.f == "enqueue" and operation.outcome != "fail":
            element = freeze(operation.argument)
            put_at.setdefault(element, []).append(operation.invoked)
            tally.put[element] += 1
            tally.acknowledged[element] += operation.outcome == "ok"
    leased = any(operation.f == "take" for operation in operations)
    for operation in operations:
        if operation.f == "drain" and operation.outcome == "info":
            tally.blind_drains += 1
        elif operation.f == "dequeue" and operation.outcome == "info":
            element = dequeued(operation, leased)
            tally.blind_takes += element is None
            tally.maybe_out[element] += element is not None
        for element in _taken(operation, leased):
            assert operation.completed is not None
            tally.out[element] += 1
            out_at.setdefault(element, []).append(operation.completed)
    first_at = {element: min(positions) for element, positions in put_at.items()}
    for element, positions in out_at.items():
        # However they are paired: by then it had come out so many times, and fewer times had anyone begun to put it in.
        for out, put in zip(sorted(positions), sorted(put_at.get(element, ())), strict=False):
            if out < put:
                (tally.early if out < first_at[element] else tally.again_early)[element] += 1
    if leased:
        _tally_deliveries(tally, operations, first_at)
    tally.acknowledged, tally.early = +tally.acknowledged, +tally.early
    return tally


def _put_in(operation: Operation) -> Sequence[Hashable]:
    """What an operation certainly put in."""
    return [freeze(operation.argument)] if operation.f == "enqueue" and operation.outcome == "ok" else ()


def _taken(operation: Operation, leased: bool) -> Sequence[Hashable]:
    """What an operation certainly took for good."""
    if operation.outcome != "ok":
        return ()
    if operation.f == "drain":
        return freeze_items(operation.result) or ()
    element = dequeued(operation, leased) if operation.f == "dequeue" else None
    return () if element is None else [element]


def _tally_deliveries(tally: _Tally, operations: Sequence[Operation], first_at: Mapping[Hashable, int]) -> None:
    found = deliveries(operations)
    for delivery in found:
        tally.early[delivery.element] += delivery.completed < first_at.get(delivery.element, inf)
    once = {element for element, count in tally.put.items() if count == 1}
    tally.breaches = breaches([delivery for delivery in found if delivery.element in once], operations)
    tally.redelivered = f" for good, {sum(delivery.number > 1 for delivery in found)} redelivered"


@dataclass(frozen=True)
class UniqueIds:
    """No two generates return the same id. `initial` is a list of ids given out before."""

    name: str = "unique-ids"
    operations: frozenset[str] = frozenset({"generate"})

    def parts(self, operations: Sequence[Operation]) -> list[set[int]]:
        return [{operation.invoked} for operation in operations]

    def ongoing(self) -> Narrows:
        return self

    def judge(self, operations: Sequence[Operation], initial: Any) -> tuple[VerdictType, str]:
        given = Counter(dict.fromkeys(start_items(self.name, initial), 1))
        given.update(freeze(operation.result) for operation in operations if operation.outcome == "ok")
        again = Counter({item: count for item, count in given.items() if count > 1})
        if again:
            return "invalid", f"ids were given out more than once: {_names(again, operations, _generated)}"
        return "valid", f"{given.total()} different ids"


def _generated(operation: Operation) -> Sequence[Hashable]:
    return [freeze(operation.result)] if operation.outcome == "ok" else ()


def _names(
    counter: Counter[Hashable], operations: Sequence[Operation], items_of: Callable[[Operation], Sequence[Hashable]]
) -> str:
    """Some of the items, how often they count, and the operations on them: those of which `items_of` tells so."""
    named = dict.fromkeys(list(counter)[:NAMED_MAX])
    places: dict[Hashable, list[str]] = {item: [] for item in named}
    for operation in operations:
        for item in items_of(operation):
            if item in places:
                places[item].append(
                    f"{operation.f} of process {operation.process}, events {operation.invoked} to {operation.completed}"
                )
    shown = []
    for item in named:
        found = places[item][:PLACES_MAX]
        times = [f"{counter[item]} times"] if counter[item] > 1 else []
        told = "; ".join([*times, *found, *(["…"] if len(places[item]) > PLACES_MAX else [])])
        shown.append(f"{show(item)} ({told})" if told else show(item))
    more = len(counter) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
