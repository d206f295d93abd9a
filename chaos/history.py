"""What clients did and saw: events, and how invocations pair with completions.

Knows the shape of a history (Jepsen's) and when a history is too damaged to be judged. Does not know how one is read
(see `chaos.formats`), what any operation means, nor the time: whoever records an event brings its stamp along.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

NEMESIS: Final = "nemesis"
NS_PER_S: Final = 1_000_000_000  # events are stamped in nanoseconds

EventType = Literal["invoke", "ok", "fail", "info"]
OutcomeType = Literal["ok", "fail", "info"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a history. `time` is in nanoseconds; `process` a client's number, or "nemesis" for a fault.

    In JSON, `key` and `error` are left out when they are None; `value` is always written.
    """

    index: int
    time: int
    process: int | str
    type: EventType
    f: str
    key: Any = None
    value: Any
    error: str | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation together with its completion, if it has one.

    `invoked` and `completed` are positions in the list of events, which is the real-time order. `completed` is None
    for an operation of unknown outcome ("info", or never completed): it may take effect until the end of time.
    `argument` comes from the invocation, `result` and `error` from the completion. `began` and `ended` are the times
    (ns) of the two events, `answered` is the position of the completion, whatever it says.
    """

    process: int
    f: str
    key: Any
    argument: Any
    result: Any
    invoked: int
    completed: int | None
    outcome: OutcomeType
    error: str | None = None
    began: int = 0
    ended: int = 0
    answered: int | None = None


class IllFormed(ValueError):
    """A list of events that is no history. `position` is the position of the offending event in the list."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        self.reason = reason
        super().__init__(f"event {position}: {reason}")


class Order:
    """Accepts events one by one and says what is wrong with the next one, if anything. Remembers only what is open."""

    def __init__(self) -> None:
        self._open: dict[int, Event] = {}
        self._time: int | None = None

    def complaint(self, event: Event) -> str | None:
        """Why `event` cannot follow the events seen so far; None (and it counts as seen) if it can."""
        if self._time is not None and event.time < self._time:
            return f"time goes backwards, from {self._time} to {event.time}"
        self._time = event.time
        if isinstance(event.process, int):
            return self._pairing_complaint(event.process, event)
        return None if event.process == NEMESIS else f'process is neither an integer nor "{NEMESIS}"'

    def _pairing_complaint(self, process: int, event: Event) -> str | None:
        if event.type == "invoke":
            if process in self._open:
                return f"process {process} invokes {event.f!r} while its {self._open[process].f!r} is still open"
            self._open[process] = event
            return None
        invocation = self._open.pop(process, None)
        if invocation is None:
            return f"process {process} completes {event.f!r}, which it never invoked"
        if invocation.f != event.f:
            return f"process {process} invoked {invocation.f!r} but completes {event.f!r}"
        if not _same_json(invocation.key, event.key):
            return f"process {process} invoked {event.f!r} on key {invocation.key!r} but completes it on {event.key!r}"
        return None


def _same_json(left: Any, right: Any) -> bool:
    """Equal as JSON: Python's True == 1 does not count, at any depth."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_json, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_json(left[name], right[name]) for name in left)
    return bool(left == right)


def operations(events: Iterable[Event]) -> list[Operation]:
    """Pair the clients' invocations with their completions, in the order of the invocations.

    The nemesis' events are left out. After info a process may go on under its number: its earlier operation stays open.
    Raises IllFormed (a ValueError) if the events are no history; `index` is not looked at, the list's order counts.
    """
    order = Order()
    open_at: dict[int, int] = {}  # for each process the place of its invocation in `found`
    found: list[tuple[int, Event, int | None, Event | None]] = []
    for position, event in enumerate(events):
        complaint = order.complaint(event)
        if complaint is not None:
            raise IllFormed(position, complaint)
        if isinstance(event.process, str):
            continue
        if event.type == "invoke":
            open_at[event.process] = len(found)
            found.append((position, event, None, None))
        else:
            place = open_at.pop(event.process)
            invoked, invocation, _, _ = found[place]
            found[place] = (invoked, invocation, position, event)
    return [_operation(*one) for one in found]


def _operation(invoked: int, invocation: Event, completed: int | None, completion: Event | None) -> Operation:
    assert isinstance(invocation.process, int)
    outcome: OutcomeType = "info"
    if completion is not None and completion.type != "invoke":
        outcome = completion.type
    return Operation(
        process=invocation.process,
        f=invocation.f,
        key=invocation.key,
        argument=invocation.value,
        result=None if completion is None else completion.value,
        invoked=invoked,
        completed=None if outcome == "info" else completed,
        answered=completed,
        outcome=outcome,
        error=None if completion is None else completion.error,
        began=invocation.time,
        ended=invocation.time if completion is None else completion.time,
    )


def is_lapse(process: int | str) -> bool:
    """Whether it is not a client but the end of a lease, which nobody asked for (see `Recorder.lapse`)."""
    return isinstance(process, int) and process < 0


def of_clients(events: Iterable[Event]) -> Iterator[Event]:
    """What clients did: neither faults nor the ends of leases."""
    return (event for event in events if event.process != NEMESIS and not is_lapse(event.process))


class Recorder:
    """Collects the events of many clients, in any order between clients, and puts them into real-time order."""

    def __init__(self) -> None:
        self._added: list[Event] = []
        self._lapses = 0

    def __len__(self) -> int:
        return len(self._added)

    def add(
        self,
        time: int,
        process: int | str,
        type: EventType,
        f: str,
        key: Any = None,
        value: Any = None,
        error: str | None = None,
    ) -> None:
        """Record one event. Each process's events must be added in their own order, with times (ns) that never fall.

        `value` and `key` are kept, not copied: the caller must not change them afterwards.
        """
        self._added.append(
            Event(index=-1, time=time, process=process, type=type, f=f, key=key, value=value, error=error)
        )

    def lapse(self, time: int, f: str, key: Any = None, value: Any = None) -> None:
        """Record what may happen by itself from `time` on: by a process of its own, below 0, and never completed."""
        self._lapses += 1
        self.add(time, -self._lapses, "invoke", f, key, value)

    def events(self) -> list[Event]:
        """All events so far in real-time order, numbered from 0.

        Where stamps are equal, invocations come first, so that operations which merely touch count as concurrent.
        Only an invocation that follows a completion of its own process at the same stamp comes after the completions.
        """
        rounds: dict[int | str, int] = {}
        latest: dict[int | str, Event] = {}
        keyed: list[tuple[int, int, bool, int]] = []
        for position, event in enumerate(self._added):
            previous = latest.get(event.process)
            latest[event.process] = event
            if previous is None or previous.time != event.time:
                assert previous is None or previous.time < event.time, f"process {event.process} went back in time"
                rounds[event.process] = 0
            elif event.type == "invoke":
                rounds[event.process] += 1
            keyed.append((event.time, rounds[event.process], event.type != "invoke", position))
        keyed.sort()
        return [
            msgspec.structs.replace(self._added[position], index=index)
            for index, (_, _, _, position) in enumerate(keyed)
        ]

    def write(self, path: str | Path) -> None:
        """Write the history as JSON lines."""
        encode = msgspec.json.Encoder().encode
        with open(path, "wb") as file:
            file.writelines(encode(event) + b"\n" for event in self.events())
