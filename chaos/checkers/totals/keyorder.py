"""The judge key-order: whether what was put in under one key is delivered in its order.

It knows which element was certainly put in before which other, and when each could be gone at the earliest. It does not
know whether anything is lost or duplicated (see total-queue), and needs no search.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf
from operator import attrgetter
from typing import Any

from chaos.checkers.model import Narrows, VerdictType
from chaos.checkers.models.queues import null_complaint
from chaos.checkers.totals.deliveries import deliveries, dequeued, parts_by_element, take_complaint, told
from chaos.checkers.values import freeze, show, start_items
from chaos.history import Operation


@dataclass(frozen=True)
class KeyOrder:
    """Of elements [key, number], none is delivered while one of its key that was put in before it may still be there.

    Before it was one whose enqueue had completed ok when its own was invoked; the numbers only tell elements apart.
    An element is gone when it is acknowledged, at the earliest when its first dequeue that did not fail is invoked; or,
    if it was taken from the dead letters, when it became one. Either is after its last delivery was asked for. A take
    delivers (those of dead letters have no order), and where there are no takes at all, a dequeue does. Other elements,
    and as the earlier one those that were put in more than once, are not judged; nor are nacks, which leave an element
    in its place. Where the dead letters are known not to have been `drained`, an element that was delivered and not
    acknowledged may be one of them.
    """

    drained: bool = True
    name: str = "key-order"
    operations: frozenset[str] = frozenset({"enqueue", "take", "nack", "dequeue"})

    def complaint(self, operation: Operation) -> str | None:
        return null_complaint(operation) or take_complaint(operation)

    def parts(self, operations: Sequence[Operation]) -> list[set[int]]:
        return parts_by_element(operations)

    def ongoing(self) -> Narrows:
        return replace(self, drained=False)

    def judge(self, operations: Sequence[Operation], initial: Any) -> tuple[VerdictType, str]:
        queued = _queued(operations, start_items(self.name, initial))
        for element in queued:
            element.dead = element.dead or (not self.drained and element.dequeued == inf and element.delivered < inf)
        by_key: dict[Hashable, list[_Element]] = {}
        for element in queued:
            if element.puts:  # what was never put in is for total-queue to judge
                by_key.setdefault(element.key, []).append(element)
        early = [pair for listed in by_key.values() for pair in _early(listed)]
        delivered = sum(element.delivered < inf for listed in by_key.values() for element in listed)
        counts = f"{delivered} elements of {len(by_key)} keys delivered"
        if not early:
            return "valid", f"{counts}, each after those before it were gone"
        before, element = min(early, key=lambda pair: pair[1].delivered)
        return "invalid", f"{_explain(before, element)} ({len(early)} too early of {counts})"


@dataclass
class _Element:
    """What became of one element. All instants are positions in the history; inf where it never came to that.

    `put_invoked` is its first enqueue, `put` when it was in for certain. `delivered` is the end of its first delivery,
    `taken` the beginning of its last, neither of dead letters; `dequeued` is the beginning of its first dequeue.
    """

    frozen: Hashable
    key: Hashable
    puts: int = 0
    put_invoked: float = inf
    put: float = inf
    put_by: Operation | None = None
    delivered: float = inf
    delivered_by: Operation | None = None
    taken: float = -inf
    dead: bool = False
    dequeued: float = inf

    @property
    def gone(self) -> float:
        """When it could be gone at the earliest: what is delivered is still there, whatever was tried before."""
        return self.taken if self.dead else max(self.taken, self.dequeued)

    def put_in(self, invoked: float, certain: float, operation: Operation | None) -> None:
        self.puts += 1
        self.put_invoked = min(self.put_invoked, invoked)
        self.put, self.put_by = (certain, operation) if self.puts == 1 else (inf, None)

    def deliver(self, operation: Operation) -> None:
        assert operation.completed is not None
        self.taken = max(self.taken, operation.invoked)
        if operation.completed < self.delivered:
            self.delivered, self.delivered_by = operation.completed, operation


def _element(by_value: dict[Hashable, _Element], frozen: Hashable) -> _Element:
    """What is known of it; of an element without a key, something to forget."""
    if isinstance(frozen, tuple) and len(frozen) == 3:  # a frozen list of two
        return by_value.setdefault(frozen, _Element(frozen, frozen[1]))
    return _Element(frozen, None)


def _queued(operations: Sequence[Operation], initial: Sequence[Hashable]) -> list[_Element]:
    by_value: dict[Hashable, _Element] = {}
    for place, frozen in enumerate(initial, -len(initial)):
        _element(by_value, frozen).put_in(place, place, None)
    for operation in operations:
        if operation.f == "enqueue" and operation.outcome != "fail":
            certain = inf if operation.completed is None else operation.completed
            _element(by_value, freeze(operation.argument)).put_in(operation.invoked, certain, operation)
    leased = any(operation.f == "take" for operation in operations)
    for delivery in deliveries(operations):
        element = _element(by_value, delivery.element)
        if delivery.dead:
            element.dead = True
        else:
            element.deliver(delivery.operation)
    _dequeue(by_value, operations, leased)
    return list(by_value.values())


def _dequeue(by_value: dict[Hashable, _Element], operations: Sequence[Operation], leased: bool) -> None:
    blind = inf
    missing = dict(by_value)  # a dequeue of which nothing is known may have taken any of these
    for operation in operations:
        if operation.f != "dequeue" or operation.outcome == "fail":
            continue
        frozen = dequeued(operation, leased)
        if frozen is None:
            blind = min(blind, operation.invoked if operation.outcome == "info" else inf)
            continue
        element = _element(by_value, frozen)
        element.dequeued = min(element.dequeued, operation.invoked)
        if operation.outcome == "ok":
            missing.pop(frozen, None)
            if not leased:
                element.deliver(operation)
    for element in missing.values():
        element.dequeued = min(element.dequeued, blind)


def _early(listed: Iterable[_Element]) -> list[tuple[_Element, _Element]]:
    """Of one key, each element that was delivered too early, after the one before it that was there the longest."""
    listed = list(listed)
    certain = sorted((element for element in listed if element.put < inf), key=attrgetter("put"))
    puts = [element.put for element in certain]
    longest = list(accumulate(certain, _longer))
    found = []
    for element in listed:
        before = bisect_left(puts, element.put_invoked)
        if before and longest[before - 1].gone > element.delivered:
            found.append((longest[before - 1], element))
    return found


def _longer(one: _Element, other: _Element) -> _Element:
    return one if one.gone >= other.gone else other


def _explain(before: _Element, element: _Element) -> str:
    assert element.delivered_by is not None
    if before.gone == inf:
        gone = "it was never dequeued"
    elif before.gone == before.taken:
        gone = f"it was delivered again, asked for at event {before.gone:.0f}"
    else:
        gone = f"its first dequeue was invoked at event {before.gone:.0f}"
    put = "from the start" if before.put_by is None else told(before.put_by)
    return (
        f"{show(element.frozen)} was delivered {told(element.delivered_by)} before {show(before.frozen)} could be gone,"
        f" which was put in before it {put}: {gone}"
    )
