"""Deliveries under a lease: what a `take` and its acknowledgement, a `dequeue`, mean, and what they must never do.

Knows elements, delivery numbers and dead letters. Does not know the order of elements, nor how long a lease lasts.

The element that a dequeue acknowledges, or a nack gives back, is its value; its process is the consumer that took it.
A take of unknown outcome constrains nothing: it is a lease, and takes nothing for good. A lapse is a nack that nobody
invokes, by which the lease of a delivery may end; its value is that of the take.
"""

from collections.abc import Hashable, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import Any, Final, NamedTuple

from chaos.checkers.values import freeze, show, show_json
from chaos.history import Operation, is_lapse

DEAD: Final = "dead"


class Delivery(NamedTuple):
    """A take that handed out `element`, for the `number`th time (from 1); of a dead letter they count anew."""

    element: Hashable
    dead: bool
    number: int
    completed: int
    operation: Operation

    @property
    def rank(self) -> tuple[bool, int]:
        """Deliveries of one element follow one another in this order: a dead letter does not come back."""
        return (self.dead, self.number)


def take_complaint(operation: Operation) -> str | None:
    """Why a take's answer is none; null says that there was nothing to be had."""
    if operation.f != "take" or operation.outcome != "ok" or _is_delivery(operation.result):
        return None
    return f'a take answers null, [element, number] or [element, number, "{DEAD}"], not {show_json(operation.result)}'


def _is_delivery(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list | tuple) or len(value) not in (2, 3) or value[2:] not in ([], (), [DEAD], (DEAD,)):
        return False
    return isinstance(value[1], int) and not isinstance(value[1], bool) and value[1] >= 1


def deliveries(operations: Sequence[Operation]) -> list[Delivery]:
    """Every take that handed something out, by completion."""
    found = []
    for operation in operations:
        if operation.f == "take" and operation.outcome == "ok" and operation.result is not None:
            assert operation.completed is not None
            element, number = freeze(operation.result[0]), operation.result[1]
            found.append(Delivery(element, len(operation.result) == 3, number, operation.completed, operation))
    return sorted(found, key=lambda delivery: delivery.completed)


def dequeued(operation: Operation, leased: bool) -> Hashable:
    """The element that a dequeue took for good; None if nobody can tell, or if it found none.

    `leased`: dequeues are acknowledgements, which name their element when they are invoked.
    """
    return freeze(operation.argument if leased and operation.result is None else operation.result)


def parts_by_element(operations: Sequence[Operation]) -> list[set[int]]:
    """All operations of each element that can be left out together: those of which no drain took any.

    An operation that is of no element that is known stays, but for one that found nothing.
    """
    leased = any(operation.f == "take" for operation in operations)
    parts: dict[Hashable, set[int]] = {}
    drained: set[Hashable] = set()
    nothing: list[set[int]] = []
    for operation in operations:
        if operation.f == "drain":
            drained.update(map(freeze, operation.result or ()))
            continue
        element = _element_of(operation, leased)
        if element is not None:
            parts.setdefault(element, set()).add(operation.invoked)
        elif operation.outcome != "info":
            nothing.append({operation.invoked})
    return [part for element, part in parts.items() if element not in drained] + nothing


def _element_of(operation: Operation, leased: bool) -> Hashable:
    if operation.f == "dequeue":
        return dequeued(operation, leased)
    if operation.f == "take":
        return freeze(operation.result[0]) if operation.outcome == "ok" and operation.result is not None else None
    if operation.f == "nack" and is_lapse(operation.process) and _is_delivery(operation.argument):
        return freeze(operation.argument[0])  # it has the value of the take
    return freeze(operation.argument)


def breaches(delivered: Sequence[Delivery], operations: Sequence[Operation]) -> list[str]:
    """In words, each delivery and acknowledgement that must not be. `delivered`: of elements put in just once."""
    by_element: dict[Hashable, list[Delivery]] = {}
    for delivery in delivered:
        by_element.setdefault(delivery.element, []).append(delivery)
    lapses: dict[Hashable, int] = {}
    nacks: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        if operation.f == "nack" and is_lapse(operation.process):
            lapses.setdefault(freeze(operation.argument), operation.invoked)
        elif operation.f == "nack" and operation.outcome != "fail":
            nacks.setdefault(freeze(operation.argument), []).append(operation)
    found = []
    for operation in operations:
        if operation.f == "dequeue" and operation.outcome == "ok":
            element = dequeued(operation, leased=True)
            listed = by_element.get(element, ())
            found += _after_it_was_gone(operation, listed)
            found += _old_receipt(operation, listed)
            found += _after_it_was_given_back(operation, listed, nacks.get(element, ()))
    for element, listed in by_element.items():
        found += _twice(listed)
        found += _while_leased(listed, lapses, nacks.get(element, ()))
    return found


def _after_it_was_gone(dequeue: Operation, delivered: Sequence[Delivery]) -> list[str]:
    assert dequeue.completed is not None
    return [
        f"{show(delivery.element)} was delivered again {told(delivery.operation)} after it was acknowledged"
        f" {told(dequeue)}"
        for delivery in delivered
        if delivery.operation.invoked > dequeue.completed
    ]


def _old_receipt(dequeue: Operation, delivered: Sequence[Delivery]) -> list[str]:
    """At most one. Without a take by the process that acknowledges, nobody can tell which receipt it had."""
    before = [delivery for delivery in delivered if delivery.completed < dequeue.invoked]
    own = [delivery for delivery in before if delivery.operation.process == dequeue.process]
    newer = [delivery for delivery in before if own and delivery.rank > own[-1].rank]
    return [
        f"{show(delivery.element)} was acknowledged {told(dequeue)} under an old receipt, of {_nth(own[-1])}"
        f" {told(own[-1].operation)}, after {_nth(delivery)} {told(delivery.operation)}"
        for delivery in newer[-1:]
    ]


def _after_it_was_given_back(
    dequeue: Operation, delivered: Sequence[Delivery], nacks: Sequence[Operation]
) -> list[str]:
    """At most one, and only under the process that took it and gave it back: its receipt was used up by that."""
    own = [
        delivery.completed
        for delivery in delivered
        if delivery.operation.process == dequeue.process and delivery.completed < dequeue.invoked
    ]
    back = [
        nack
        for nack in nacks
        if nack.process == dequeue.process and nack.outcome == "ok" and own and own[-1] < nack.invoked < dequeue.invoked
    ]
    return [
        f"{show(freeze(nack.argument))} was acknowledged {told(dequeue)} after it was given back {told(nack)}"
        for nack in back[-1:]
    ]


def _while_leased(
    delivered: Sequence[Delivery], lapses: Mapping[Hashable, int], nacks: Sequence[Operation]
) -> list[str]:
    """An acknowledgement ends a delivery, too, but then none may follow."""
    found = []
    following: Delivery | None = None  # of the later ones, the first to come
    for delivery in sorted(delivered, key=attrgetter("rank"), reverse=True):
        end = _end(delivery, delivered, lapses, nacks)
        if following is not None and following.completed < end:
            found.append(
                f"{show(delivery.element)} was delivered again {told(following.operation)} while it was leased:"
                f" {_nth(delivery)} {told(delivery.operation)} could not end before event {end:.0f}"
            )
        if following is None or delivery.completed < following.completed:
            following = delivery
    return found


def _end(
    delivery: Delivery, delivered: Sequence[Delivery], lapses: Mapping[Hashable, int], nacks: Sequence[Operation]
) -> float:
    """When the element could be given back at the earliest; at once, if nothing is known of the lease's end.

    A nack by a process that took the element before is of what that took. Any other may be the consumer's, which goes
    on under another number after an operation of unknown outcome.
    """
    lapse = lapses.get(freeze(delivery.operation.result))
    if lapse is None:
        return -inf
    given_back = [
        nack.invoked
        for nack in nacks
        if nack.invoked > delivery.completed
        and (nack.process == delivery.operation.process or not _took(nack, delivered))
    ]
    return min([lapse, *given_back])


def _took(nack: Operation, delivered: Sequence[Delivery]) -> bool:
    return any(
        delivery.operation.process == nack.process and delivery.completed < nack.invoked for delivery in delivered
    )


def _twice(delivered: Sequence[Delivery]) -> list[str]:
    first: dict[tuple[bool, int], Delivery] = {}
    return [
        f"{show(delivery.element)} was delivered twice as {_nth(delivery)}: {told(other.operation)} and"
        f" {told(delivery.operation)}"
        for delivery in delivered
        if (other := first.setdefault(delivery.rank, delivery)) is not delivery
    ]


def _nth(delivery: Delivery) -> str:
    return f"delivery {delivery.number}{' of the dead letters' if delivery.dead else ''}"


def told(operation: Operation) -> str:
    """Who did it, and where in the history."""
    end = "on" if operation.completed is None else f"to {operation.completed}"
    return f"(process {operation.process}, events {operation.invoked} {end})"
