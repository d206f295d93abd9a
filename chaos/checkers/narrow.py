"""Prefixes and parts of a key's operations: what its first events alone tell, and how little of it is wrong still.

Knows operations and which of them may be left out together. Does not know what is wrong with them: it asks.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from chaos.history import Event, Operation


def prefix(operations: Sequence[Operation], events: int) -> list[Operation]:
    """What the first so many events of the history tell: what was open after them is of unknown outcome."""
    return [
        one if one.answered is None or one.answered < events else _as_open(one)
        for one in operations
        if one.invoked < events
    ]


def _as_open(operation: Operation) -> Operation:
    return msgspec.structs.replace(operation, result=None, completed=None, outcome="info", error=None, answered=None)


def thinned(
    operations: list[Operation],
    parts_of: Callable[[list[Operation]], list[set[int]]],
    wrong: Callable[[list[Operation]], bool],
) -> Iterator[list[Operation]]:
    """Fewer and fewer of these operations that are `wrong` still, until none of the parts can be left out.

    `parts_of` tells parts of operations, as the places of their invocations; they may overlap. Half of them are left
    out at a time, then a quarter, and in the end one by one (Zeller and Hildebrandt, Simplifying and isolating
    failure-inducing input, 2002).
    """
    before = -1
    while len(operations) != before:
        before = len(operations)
        parts = parts_of(operations)
        size = len(parts)
        while size:
            place = 0
            while place < len(parts):
                gone = set[int]().union(*parts[place : place + size])
                left = [one for one in operations if one.invoked not in gone]
                if len(left) == len(operations):
                    del parts[place : place + size]
                elif left and wrong(left):
                    operations = left
                    yield operations
                    del parts[place : place + size]
                else:
                    place += size
            size = min(size, len(parts) + 1) // 2


def events_of(operations: Sequence[Operation]) -> list[Event]:
    """The operations as a history, under the indices and times of the one that they are from."""
    found = []
    for one in operations:
        found.append(_event(one, one.invoked, one.began, "invoke", one.argument))
        if one.answered is not None:
            found.append(_event(one, one.answered, one.ended, one.outcome, one.result, one.error))
    return sorted(found, key=lambda event: event.index)


def _event(one: Operation, index: int, time: int, kind: str, value: object, error: str | None = None) -> Event:
    return Event(index=index, time=time, process=one.process, type=kind, f=one.f, key=one.key, value=value, error=error)  # type: ignore[arg-type]
