"""Histories of any size, right by construction, and their wrong twins; made without any of the judges' code.

One object does one thing at a time, each operation at a random instant between its invocation and its completion. In a
wrong twin one answer is another.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from chaos.history import Event, EventType
from testbed.base.rand import Random, Streams

CLIENTS, KEYS = 10, 10
STEP_NS = 1_000
LAST_STEPS = 100  # for each client

Request = tuple[str, Any, Any]  # f, key, argument
Answer = tuple[EventType, Any] | None  # the event's type and its value; None: not now, the client waits


class Thing(Protocol):
    """What clients ask for, and how it is answered, one at a time."""

    def ask(self, process: int, dice: Random) -> Request: ...
    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer: ...


def history(thing: Thing, count: int, seed: int, clients: int = CLIENTS, overlap: float = 1.0) -> list[Event]:
    """So many operations. A client in the middle of one is left for another with the chance `overlap`.

    Who still waits in the end, such as for a lock that nobody releases any more, is never answered.
    """
    dice = Streams(seed).stream("judges")
    chance = dice.random
    asked: list[Request | None] = [None] * clients
    told: list[Answer] = [None] * clients
    events: list[Event] = []
    add = events.append
    invoked = process = 0
    last_steps = LAST_STEPS * clients
    while len(events) < 2 * count and last_steps:
        request = asked[process]
        if request is None or chance() < overlap:
            process = int(chance() * clients)
            request = asked[process]
        answer = told[process]
        index = len(events)
        if request is None:
            if invoked == count:
                last_steps -= 1
                continue
            invoked += 1
            request = asked[process] = thing.ask(process, dice)
            f, key, value = request
            add(Event(index=index, time=index * STEP_NS, process=process, type="invoke", f=f, key=key, value=value))
        elif answer is None:
            told[process] = thing.answer(process, *request)
        else:
            f, key, _ = request
            kind, value = answer
            error = "precondition-failed" if kind == "fail" else None
            add(Event(index=index, time=index * STEP_NS, process=process, type=kind, f=f, key=key, value=value,
                      error=error))  # fmt: skip
            asked[process] = told[process] = None
    return events


class Register:
    """Each value is written once. A cas expects what was there when it was asked for, and writes what never was."""

    def __init__(self, fs: tuple[str, ...]) -> None:
        self._fs = fs
        self._value: int | None = None
        self._last = -1

    def ask(self, process: int, dice: Random) -> Request:  # noqa: ARG002  # all are alike
        f = self._fs[int(dice.random() * len(self._fs))]
        if f == "read":
            return f, None, None
        self._last += 1
        return f, None, self._last if f == "write" else [self._value, self._last]

    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer:  # noqa: ARG002
        if f == "read":
            return "ok", self._value
        if f == "write":
            self._value = argument
        elif self._value == argument[0]:
            self._value = argument[1]
        else:
            return "fail", argument
        return "ok", argument


class Set:
    """Each element is added once and removed once; about a dozen are in. `reads`: the part of all that reads all."""

    def __init__(self, reads: float) -> None:
        self._reads = reads
        self._members: dict[int, None] = {}
        self._removable: deque[int] = deque()
        self._last = -1

    def ask(self, process: int, dice: Random) -> Request:  # noqa: ARG002
        drawn = dice.random()
        if drawn < self._reads:
            return "read", None, None
        if drawn < 0.4:
            return "contains", None, max(0, self._last - int(dice.random() * 30))
        if len(self._removable) > 12 or (self._removable and drawn < 0.7):
            return "remove", None, self._removable.popleft()
        self._last += 1
        return "add", None, self._last

    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer:  # noqa: ARG002
        if f == "read":
            return "ok", list(self._members)
        if f == "contains":
            return "ok", argument in self._members
        if f == "add":
            self._members[argument] = None
            self._removable.append(argument)
        else:
            del self._members[argument]
        return "ok", argument


class Container:
    """As many are put in as are taken out, of which some find it empty. `few`: values are drawn from so many."""

    def __init__(self, put: str, take: str, few: int | None = None) -> None:
        self._put, self._take = put, take
        self._few = few
        self._items: deque[int] = deque()
        self._last = -1

    def ask(self, process: int, dice: Random) -> Request:  # noqa: ARG002
        if dice.random() < 0.5:
            return self._take, None, None
        self._last += 1
        return self._put, None, self._last if self._few is None else int(dice.random() * self._few)

    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer:  # noqa: ARG002
        if f == self._put:
            self._items.append(argument)
            return "ok", argument
        if not self._items:
            return "ok", None
        return "ok", self._items.pop() if f == "pop" else self._items.popleft()


class Mutex:
    """Who does not hold it wants to."""

    def __init__(self) -> None:
        self._holder: int | None = None

    def ask(self, process: int, dice: Random) -> Request:  # noqa: ARG002
        return "release" if process == self._holder else "acquire", None, None

    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer:  # noqa: ARG002
        if f == "acquire" and self._holder is not None:
            return None
        self._holder = process if f == "acquire" else None
        return "ok", None


class Lists:
    """Half of the operations append; the others read, but for a part of them that write instead."""

    def __init__(self, overwrites: float) -> None:
        self._overwrites = overwrites
        self._lists: list[list[int]] = [[] for _ in range(KEYS)]
        self._last = -1

    def ask(self, process: int, dice: Random) -> Request:  # noqa: ARG002
        key = int(dice.random() * KEYS)
        self._last += 1
        if dice.random() < 0.5:
            return "append", key, self._last
        return ("write", key, [self._last]) if dice.random() < self._overwrites else ("read", key, None)

    def answer(self, process: int, f: str, key: Any, argument: Any) -> Answer:  # noqa: ARG002
        if f == "read":
            return "ok", list(self._lists[key])
        if f == "append":
            self._lists[key].append(argument)
        else:
            self._lists[key] = list(argument)
        return "ok", argument


# --- wrong twins: what one answer is instead, if it can be another ---

Lie = Callable[[Event], dict[str, Any] | None]


def twin(events: list[Event], lie: Lie) -> list[Event]:
    """The history with another answer in it, the first from the middle on that can be another."""
    for place in range(len(events) // 2, len(events)):
        changes = lie(events[place]) if events[place].type == "ok" else None
        if changes is not None:
            return [*events[:place], msgspec.structs.replace(events[place], **changes), *events[place + 1 :]]
    raise RuntimeError("no answer in the second half can be another")


def reads_the_first(event: Event) -> dict[str, Any] | None:
    return {"value": 0} if event.f == "read" else None


def lists_the_first(event: Event) -> dict[str, Any] | None:
    return {"value": [*event.value, 0]} if event.f == "read" else None


def contains_it(event: Event) -> dict[str, Any] | None:
    return {"value": True} if event.f == "contains" and event.value is False else None


def finds_nothing(event: Event) -> dict[str, Any] | None:
    return {"value": None} if event.f in ("dequeue", "pop") and event.value is not None else None


def did_not_release(event: Event) -> dict[str, Any] | None:
    return {"type": "fail"} if event.f == "release" else None


def overlooks_one(event: Event) -> dict[str, Any] | None:
    enough = event.f == "read" and len(event.value) > 2
    return {"value": [*event.value[:-2], event.value[-1]]} if enough else None
