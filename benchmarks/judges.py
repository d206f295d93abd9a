"""The judges: how long they take for long histories, for hard ones, and how fast a history is read.

The histories are right by construction, and made here, without any of the judges' code: one object that does one thing
at a time, each operation at a random instant between its invocation and its completion. Each has a wrong twin, in which
one answer is another.

All of it is computation in one thread: seconds are those of the CPU, so that what else runs beside it counts less.
"""

import gc
import math
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from benchmarks.measures import Row
from chaos.checkers import MODELS, Model, check
from chaos.checkers.model import calls_of
from chaos.checkers.search import Reach, search
from chaos.formats import read_events, write_events
from chaos.history import Event, EventType, Operation, operations
from testbed.base.rand import Random, Streams

LONG, LONGER = 100_000, 1_000_000
CLIENTS = 10
SECONDS_REACH, STACK_SECONDS_REACH, GROWTH_REACH = 3.0, 10.0, 13.0
TURNS = 3  # of which the median counts
FAR = 2.0  # what misses its reach by so much is not measured again

KEYED_OPERATIONS, KEYED_CLIENTS, KEYS = 2_500, 50, 10
STACK_OPERATIONS, OVERLAP, FEW = 500, 0.02, 5
SEEDS = range(10)
SEARCH_REACH_S = 1.0
GIVEN_UP_S = 1.0  # a search may take for ever

LINES, LINES_OF_EDN = 1_000_000, 200_000
LINES_REACH = 200_000
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


class _Register:
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


class _Set:
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


class _Container:
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


class _Mutex:
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


class _Lists:
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


def _reads_the_first(event: Event) -> dict[str, Any] | None:
    return {"value": 0} if event.f == "read" else None


def _lists_the_first(event: Event) -> dict[str, Any] | None:
    return {"value": [*event.value, 0]} if event.f == "read" else None


def _contains_it(event: Event) -> dict[str, Any] | None:
    return {"value": True} if event.f == "contains" and event.value is False else None


def _finds_nothing(event: Event) -> dict[str, Any] | None:
    return {"value": None} if event.f in ("dequeue", "pop") and event.value is not None else None


def _did_not_release(event: Event) -> dict[str, Any] | None:
    return {"type": "fail"} if event.f == "release" else None


def _overlooks_one(event: Event) -> dict[str, Any] | None:
    enough = event.f == "read" and len(event.value) > 2
    return {"value": [*event.value[:-2], event.value[-1]]} if enough else None


# --- long histories ---


class Subject(NamedTuple):
    """A judge, and histories for it."""

    name: str
    model: str
    thing: Callable[[], Thing]
    lie: Lie
    reach_s: float = SECONDS_REACH


LONG_HISTORIES: Final = (
    Subject("register", "register", lambda: _Register(("read", "write")), _reads_the_first),
    Subject("cas-register", "cas-register", lambda: _Register(("read", "write", "cas")), _reads_the_first),
    Subject("set: add, contains, remove", "set", lambda: _Set(0.0), _contains_it),
    Subject("set: and reads of all", "set", lambda: _Set(0.05), _lists_the_first),
    Subject("fifo-queue", "fifo-queue", lambda: _Container("enqueue", "dequeue"), _finds_nothing),
    Subject("mutex", "mutex", _Mutex, _did_not_release),
    Subject("stack", "stack", lambda: _Container("push", "pop"), _finds_nothing, STACK_SECONDS_REACH),
)


class Timed(NamedTuple):
    """How long a check took, and whether it came to an answer."""

    seconds: float
    answered: bool


def long_histories() -> list[Row]:
    """For each judge a row of seconds, beside those that pairing events takes, and one of how they grow.

    There is none of those for a judge that is far too slow already.
    """
    return [row for subject in LONG_HISTORIES for row in _long(subject)]


def _long(subject: Subject) -> list[Row]:
    turns, pairing = [], []
    for seed in range(TURNS):
        events = history(subject.thing(), LONG, seed)
        pairing.append(_pairing(events))
        turns.append(timed_check(events, subject.model, "valid"))
        if turns[-1].seconds > FAR * subject.reach_s:
            break
    wrong = timed_check(twin(history(subject.thing(), LONG, 0), subject.lie), subject.model, "invalid")
    found, pair = sorted(turns)[len(turns) // 2], median(pairing)
    rows = [
        Row(
            f"{subject.name}: {LONG:,} operations",
            f"{found.seconds:.2f} s",
            f"{pair:.2f} s to pair the events",
            f"{found.seconds / pair:.1f}",
            f"<= {subject.reach_s:.0f} s",
            found.seconds <= subject.reach_s,
            f"a wrong twin takes {wrong.seconds:.2f} s, explained",
        )
    ]
    if found.seconds <= FAR * subject.reach_s:
        rows.append(_growth(subject, found))
    return rows


def _growth(subject: Subject, found: Timed) -> Row:
    longer = timed_check(history(subject.thing(), LONGER, 0), subject.model, "valid")
    ratio = longer.seconds / found.seconds
    return Row(
        f"{subject.name}: {LONGER:,} operations",
        f"{longer.seconds:.2f} s",
        f"{found.seconds:.2f} s for {LONG:,}",
        f"{ratio:.1f}",
        f"<= {GROWTH_REACH:.0f}",
        ratio <= GROWTH_REACH,
        f"growth exponent {math.log(ratio, LONGER / LONG):.2f}",
    )


def timed_check(events: list[Event], model: str, expected: str, budget: float = math.inf) -> Timed:
    """Check them once, without the garbage collector, as `testbed check` does; and empty the list meanwhile: like a
    file's events, they are nobody's once they were told."""
    gc.collect()
    gc.disable()
    try:
        begun = process_time()
        verdict = check(_emptied(events), model, expired=lambda: process_time() - begun > budget)
        seconds = process_time() - begun
    finally:
        gc.enable()
    if verdict.verdict not in (expected, "unknown"):
        raise RuntimeError(f"a history that is {expected} was judged otherwise: {verdict.detail}")
    return Timed(seconds, verdict.verdict == expected)


def _emptied(events: list[Event]) -> Iterator[Event]:
    events.reverse()
    while events:
        yield events.pop()


def _pairing(events: list[Event]) -> float:
    begun = process_time()
    operations(events)
    return process_time() - begun


# --- hard histories ---


def hard_histories() -> list[Row]:
    """Keyed lists and stacks, of which only those with values put in twice are searched, beside the search alone."""
    return [
        *_keyed("overwrites now and then", 0.1),
        *_keyed("appends only", 0.0),
        *_stacks("distinct values", None, _finds_nothing),
        *_stacks(f"values from {FEW}", FEW, _finds_nothing),
    ]


def _keyed(what: str, overwrites: float) -> list[Row]:
    name = f"list: {KEYED_OPERATIONS:,} operations, {KEYED_CLIENTS} clients, {KEYS} keys, {what}"
    made = [history(_Lists(overwrites), KEYED_OPERATIONS, seed, KEYED_CLIENTS) for seed in SEEDS]
    return _right_and_wrong(name, "list", made, _overlooks_one)


def _stacks(what: str, few: int | None, lie: Lie) -> list[Row]:
    made = [history(_Container("push", "pop", few), STACK_OPERATIONS, seed, CLIENTS, OVERLAP) for seed in SEEDS]
    share = median(_overlapping(events) for events in made)
    return _right_and_wrong(f"stack: {STACK_OPERATIONS} operations, {share:.0%} overlap, {what}", "stack", made, lie)


def _right_and_wrong(name: str, model: str, made: list[list[Event]], lie: Lie) -> list[Row]:
    wrong = [twin(events, lie) for events in made]
    return [_hard(f"{name}, right", model, made, "valid"), _hard(f"{name}, wrong", model, wrong, "invalid")]


def _hard(name: str, model: str, histories: list[list[Event]], expected: str) -> Row:
    alone = median(_search_alone(events, model) for events in histories)
    checks = [timed_check(events, model, expected, GIVEN_UP_S) for events in histories]
    found, most = median(one.seconds for one in checks), max(one.seconds for one in checks)
    unknown = sum(not one.answered for one in checks)
    notes = [f"{len(histories)} seeds"]
    notes += [f"{unknown} of them unknown after {GIVEN_UP_S:g} s"] if unknown else []
    notes += ["explained, which the search alone does not"] if expected == "invalid" else []
    return Row(
        name,
        f"{found:.3f} s (max {most:.3f} s)",
        f"{'over ' if alone >= GIVEN_UP_S else ''}{alone:.3f} s the search alone",
        f"{found / alone:.2f}",
        f"<= {SEARCH_REACH_S:g} s",
        not unknown and most <= SEARCH_REACH_S,
        ", ".join(notes),
    )


def _search_alone(events: list[Event], name: str) -> float:
    """Seconds without any fast way, key by key in turns, until the answer or for so long."""
    model = MODELS[name]
    assert isinstance(model, Model)
    begun = process_time()
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations(events):
        by_key.setdefault(operation.key, []).append(operation)
    turns = deque(search(calls_of(model, listed), model, None, Reach()) for listed in by_key.values())
    while turns and process_time() - begun < GIVEN_UP_S:
        try:
            next(turns[0])
            turns.rotate(-1)
        except StopIteration as stop:
            turns.popleft()
            if stop.value is not None:
                break
    return min(process_time() - begun, GIVEN_UP_S)


def _overlapping(events: list[Event]) -> float:
    """Which part of the operations were concurrent with another."""
    running: set[int | str] = set()
    concurrent: set[tuple[int | str, int]] = set()
    serial: dict[int | str, int] = {}
    for event in events:
        if event.type == "invoke":
            serial[event.process] = event.index
            running.add(event.process)
            if len(running) > 1:
                concurrent.update((process, serial[process]) for process in running)
        else:
            running.remove(event.process)
    return len(concurrent) / (len(events) / 2)


# --- reading ---


class Reading(NamedTuple):
    """What a fresh process needed to read a history: `grown` bytes more than it had before."""

    rate: float
    grown: int


def reading() -> list[Row]:
    """Lines a second, of both formats, plain and packed; and what that takes in memory."""
    with tempfile.TemporaryDirectory() as directory:
        lines = _reading(Path(directory, "history.jsonl"), LINES)
        packed = _reading(Path(directory, "history.jsonl.gz"), LINES)
        edn = _reading(Path(directory, "history.edn"), LINES_OF_EDN)
    return [
        Row(
            f"reading {LINES:,} JSON lines",
            f"{lines.rate:,.0f} lines/s",
            f"{packed.rate:,.0f} with gzip",
            f"{lines.rate / packed.rate:.2f}",
            f">= {LINES_REACH:,}",
            lines.rate >= LINES_REACH,
            f"the decoder, and that events pair up; grows by {lines.grown / 2**20:.1f} MiB, with gzip by "
            f"{packed.grown / 2**20:.1f} MiB",
        ),
        Row(
            f"reading {LINES_OF_EDN:,} lines of EDN",
            f"{edn.rate:,.0f} lines/s",
            f"{lines.rate:,.0f} JSON lines",
            f"{edn.rate / lines.rate:.2f}",
            "-",
            None,
            f"a reader in Python; grows by {edn.grown / 2**20:.1f} MiB",
        ),
    ]


def _reading(path: Path, lines: int) -> Reading:
    write_events(history(_Register(("read", "write", "cas")), lines // 2, 0), path)
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.judges", str(path)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    count, seconds, grown = output.split()
    if int(count) != lines:
        raise RuntimeError(f"{count} events were read, of {lines}")
    return Reading(lines / float(seconds), int(grown))


def main(path: str) -> None:
    """Read a history, and say how many events that were, how many seconds it took and by how many bytes it grew."""
    before = _peak_bytes()
    begun = process_time()
    count = sum(1 for _ in read_events(path))
    seconds = process_time() - begun
    print(count, seconds, _peak_bytes() - before)


def _peak_bytes() -> int:
    """The most memory that this process has had since it was started; ru_maxrss begins with its parent's."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
