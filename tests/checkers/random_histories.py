"""Small random histories of every model: right by construction, or right ones spoilt, which most often are wrong.

Each kind of object is described here once more, as one plain object that does one thing at a time: which values it
starts with, what it is asked and how it answers. Nothing of that is taken from the judges, so that their mistakes are
not repeated. A history is such an object, run at random instants within random intervals by clients that now and then
hear nothing, hear "no", or never hear again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from histories import Row
from hypothesis import strategies as st

CLIENTS: Final = 3
CALLS_MAX: Final = 8
CHOICES: Final = 112
CHOICES_A_KEY: Final = 30

Answer = tuple[Any, str, Any] | None
"""The state afterwards, "ok" or "fail", and the result or the error; None: not now, the caller waits."""


class Tape:
    """Choices, read off one by one; the first of all options where it has ended."""

    def __init__(self, choices: bytes) -> None:
        self.choices = choices
        self.place = 0

    @property
    def ended(self) -> bool:
        return self.place >= len(self.choices)

    def below(self, bound: int) -> int:
        self.place += 1
        return 0 if self.place > len(self.choices) else self.choices[self.place - 1] % bound

    def one_of(self, options: Any) -> Any:
        return options[self.below(len(options))]


class Values:
    """Values to put in: each another one, or again and again one of a few."""

    def __init__(self, tape: Tape, few: tuple[Any, ...], distinct: bool) -> None:
        self.tape = tape
        self.few = few
        self.distinct = distinct
        self.given: list[Any] = [0]

    def new(self) -> Any:
        self.given.append(10 + len(self.given) if self.distinct else self.tape.one_of(self.few))
        return self.given[-1]

    def old(self) -> Any:
        """Perhaps one that was put in before; 0 never was."""
        return self.tape.one_of(self.given if self.distinct else self.few)


class Kind(NamedTuple):
    """What one kind of object is asked and how it answers, one call at a time, with plain values as its state.

    `asks` are choices of what a history asks for, likelier ones more than once. `initials` are JSON values, `few` those
    that are put in where values repeat. `next`: what a client would ask for that knows the state, where most else is
    refused. `lapses`: what a client took may be given back without anybody's asking.
    """

    asks: tuple[tuple[str, ...], ...]
    initials: tuple[Any, ...]
    start: Callable[[Any], Any]
    argument: Callable[[str, Values, Any, Tape], Any]
    answer: Callable[[Any, str, Any, int, Tape], Answer]
    few: tuple[Any, ...] = (1, 2, "a")
    next: Callable[[Any, int], str] | None = None
    lapses: bool = False


def same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    return json.dumps(one) == json.dumps(other)


def _new_unless(*fs: str) -> Callable[[str, Values, Any, Tape], Any]:
    return lambda f, values, _state, _tape: None if f in fs else values.new()


def _items(initial: Any) -> tuple[Any, ...]:
    return tuple(initial or ())


def _register(state: Any, f: str, argument: Any, process: int, tape: Tape) -> Answer:
    if f == "read":
        return state, "ok", state
    if f == "write":
        return argument, "ok", tape.one_of([argument, None])
    old, new = argument
    if same(state, old):
        return new, "ok", None
    return state, "fail", tape.one_of(["precondition-failed", "precondition-failed", None])


def _register_argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    if f == "cas":
        return [state if tape.below(2) else values.old(), values.new()]
    return None if f == "read" else values.new()


def _list(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    if f == "read":
        return state, "ok", list(state)
    return (tuple(argument) if f == "write" else (*state, argument)), "ok", None


def _list_argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    if f == "write":
        return [values.new() for _ in range(tape.below(3))]
    return None if f == "read" else values.new()


def _mutex(held: bool, f: str, argument: Any, process: int, tape: Tape) -> Answer:
    if f == "acquire":
        return None if held else (True, "ok", None)
    return (False, "ok", None) if held else (False, "fail", "it is free")


def _owner_mutex(holder: int | None, f: str, argument: Any, process: int, tape: Tape) -> Answer:
    if f == "acquire":
        return (process, "ok", None) if holder is None else None
    return (None, "ok", None) if holder == process else (holder, "fail", "it is not yours")


def _fenced_mutex(state: tuple[int, int], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    """The state is the token that it is held under, 0 if it is free, and the last token."""
    held, last = state
    if f == "acquire":
        token = last + 1 + tape.below(2)
        return None if held else ((token, token), "ok", token)
    if held and (argument is None or argument == held):
        return (0, last), "ok", None
    return state, "fail", "lease-lost"


def _fenced_argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    held, last = state
    return None if f == "acquire" else tape.one_of([held or last, held or last, None, last, 1 + tape.below(4)])


def _taken(state: tuple[Any, ...], place: int) -> Answer:
    if not state:
        return state, "ok", None
    place %= len(state)
    return (*state[:place], *state[place + 1 :]), "ok", state[place]


def _fifo(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    return ((*state, argument), "ok", argument) if f == "enqueue" else _taken(state, 0)


def _queue(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    return ((*state, argument), "ok", argument) if f == "enqueue" else _taken(state, tape.below(12))


def _stack(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    return ((*state, argument), "ok", argument) if f == "push" else _taken(state, -1)


def _set(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    if f == "read":
        return state, "ok", list(reversed(state)) if tape.below(2) else list(state)
    if f == "contains":
        return state, "ok", argument in state
    without = tuple(item for item in state if item != argument)
    return ((*without, argument) if f == "add" else without), "ok", None


def _set_argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    if f == "add":
        return values.new()
    return None if f == "read" else tape.one_of([*state, values.old()])


def _counter(state: int, f: str, argument: Any, process: int, tape: Tape) -> Answer:
    return (state, "ok", state) if f == "read" else (state + argument, "ok", None)


CONTAINER: Final = ((), (1, 2), None)
KINDS: Final[dict[str, Kind]] = {
    "register": Kind(
        (("write", "read", "read"),),
        (None, 5),
        lambda initial: initial,
        _register_argument,
        _register,
        few=(1, None, True),
    ),
    "cas-register": Kind(
        (("write", "read", "cas"), ("write", "read", "cas", "cas", "cas"), ("cas", "read")),
        (None, 5),
        lambda initial: initial,
        _register_argument,
        _register,
        few=(1, None, True),
    ),
    "list": Kind((("append", "read"), ("append", "read", "write")), CONTAINER, _items, _list_argument, _list),
    "mutex": Kind(
        (("acquire", "release"),),
        (None, False, True),
        bool,
        _new_unless("acquire", "release"),
        _mutex,
        next=lambda held, _process: "release" if held else "acquire",
    ),
    "owner-mutex": Kind(
        (("acquire", "release"),),
        (None, 1),
        lambda initial: initial,
        _new_unless("acquire", "release"),
        _owner_mutex,
        next=lambda holder, process: "release" if holder == process else "acquire",
    ),
    "fenced-mutex": Kind(
        (("acquire", "release"),),
        (None, 6),
        lambda initial: (0, initial or 0),
        _fenced_argument,
        _fenced_mutex,
        next=lambda state, _process: "release" if state[0] else "acquire",
        lapses=True,
    ),
    "fifo-queue": Kind((("enqueue", "dequeue"),), CONTAINER, _items, _new_unless("dequeue"), _fifo),
    "queue": Kind((("enqueue", "dequeue"),), CONTAINER, _items, _new_unless("dequeue"), _queue),
    "stack": Kind((("push", "pop"),), CONTAINER, _items, _new_unless("pop"), _stack),
    "set": Kind(
        (("add", "read", "remove", "contains"), ("add", "read"), ("add", "contains", "remove")),
        CONTAINER,
        _items,
        _set_argument,
        _set,
    ),
    "counter": Kind(
        (("add", "read"),), (None, 7), lambda initial: initial or 0, _new_unless("read"), _counter, few=(1, -1, 2)
    ),
}


class Drawn(NamedTuple):
    """One key's history. `right`: some order explains it; else it was spoilt in one way, and perhaps none does."""

    rows: list[Row]
    initial: Any
    right: bool


LIES: Final = ("dropped", "doubled", "denied", "stale")
DAMAGES: Final = ("swapped", "changed", "exchanged")
SPOILT: Final = (*LIES, *DAMAGES)
WAYS: Final = (None, None, None, *SPOILT)


@dataclass
class _Asked:
    """A client and what it asks for at the moment, `f` None if nothing. A lapse is asked by nobody, and stays open."""

    process: int
    f: str | None = None
    argument: Any = None
    told: tuple[str, Any] | None = None


@dataclass
class _Run:
    """An object and its clients, moved on step by step; `lie` is what becomes of an effect now and then."""

    kind: Kind
    tape: Tape
    values: Values
    state: Any
    calls: int
    lie: str | None
    rows: list[Row] = field(default_factory=list)
    lapses: int = 0
    lied: bool = False

    def __post_init__(self) -> None:
        self.fs = self.tape.one_of(self.kind.asks)
        self.clients = [_Asked(process) for process in range(CLIENTS)]
        self.late: list[_Asked] = []  # nobody waits for them any more; they may still take effect, or never
        self.earlier = [self.state]

    def run(self) -> None:
        while not self.tape.ended and (self.calls > 0 or any(client.f for client in self.clients)):
            client = self.clients[self.tape.below(CLIENTS)]
            if client.f is None:
                self.invoke(client)
            elif client.told is None:
                self.wait(client)
            else:
                self.complete(client, *client.told)
            if self.late and self.tape.below(4) == 1:
                late = self.late.pop(self.tape.below(len(self.late)))
                self.take_effect(late)

    def invoke(self, client: _Asked) -> None:
        if self.calls == 0:
            return
        self.calls -= 1
        if self.kind.lapses and self.state[0] and self.tape.below(6) == 1:
            self.lapses += 1
            self.late.append(_Asked(-self.lapses, "release", self.state[0]))
            self.rows.append((-self.lapses, "invoke", "release", self.state[0]))
            return
        usual = self.kind.next is None or self.tape.below(3) == 1
        client.f = (
            self.tape.one_of(self.fs) if usual or not self.kind.next else self.kind.next(self.state, client.process)
        )
        client.argument = self.kind.argument(client.f, self.values, self.state, self.tape)
        self.rows.append((client.process, "invoke", client.f, client.argument))

    def wait(self, client: _Asked) -> None:
        fate = self.tape.below(16)
        if fate == 14:
            self.late.append(_Asked(client.process, client.f, client.argument))
            self.close(client, "info", None)
        elif fate == 15:
            self.close(client, "fail", None)
        else:
            self.take_effect(client)

    def take_effect(self, asked: _Asked) -> None:
        assert asked.f is not None
        lying = self.lie if self.lie and self.tape.below(3) else None
        before = self.tape.one_of(self.earlier) if lying == "stale" else self.state
        answer = self.kind.answer(before, asked.f, asked.argument, asked.process, self.tape)
        if answer is None and lying:  # somebody else is forgotten
            answer = self.kind.answer(self.kind.start(None), asked.f, asked.argument, asked.process, self.tape)
        if answer is None:
            return
        after, outcome, result = answer
        if lying == "doubled":
            again = self.kind.answer(after, asked.f, asked.argument, asked.process, self.tape)
            after = after if again is None else again[0]
        if lying != "dropped":
            self.state = after
        if lying == "denied":
            outcome, result = "fail", "no leader"
        self.earlier.append(self.state)
        self.lied = self.lied or lying is not None
        asked.told = outcome, result

    def complete(self, client: _Asked, outcome: str, result: Any) -> None:
        if self.tape.below(8) == 7:
            self.close(client, "info", None)
        elif outcome == "ok":
            self.close(client, "ok", result)
        else:
            self.close(client, "fail", None, result)

    def close(self, client: _Asked, kind: str, *result: Any) -> None:
        self.rows.append((client.process, kind, client.f, *result))
        client.f = client.told = None
        if kind == "info" and self.tape.below(2):
            client.process += CLIENTS  # else it goes on under its old number


def small(
    tape: Tape, kind: Kind, initial: Any, calls_max: int = CALLS_MAX, ways: tuple[str | None, ...] = WAYS
) -> Drawn:
    """A history of at most that many calls, right (None) or spoilt in one of these ways."""
    spoilt = tape.one_of(ways)
    values = Values(tape, kind.few, distinct=tape.below(2) == 0)
    calls = calls_max - min(tape.below(calls_max), tape.below(calls_max))
    run = _Run(kind, tape, values, kind.start(initial), calls, spoilt if spoilt in LIES else None)
    run.run()
    rows = run.rows
    if spoilt in DAMAGES:
        spare = Tape(tape.choices[::-1])
        for _ in range(1 + spare.below(4)):
            rows = _damaged(rows, spoilt, spare)
    return Drawn(rows, initial, right=rows is run.rows and not run.lied)


def _damaged(rows: list[Row], damage: str, tape: Tape) -> list[Row]:
    rows = list(rows)
    if damage == "exchanged":
        for place in range(len(rows) - 1):
            one, other = rows[place : place + 2]
            narrower = one[1] == "invoke" and other[1] == "ok"  # the other way round fewer orders would be ruled out
            if one[0] != other[0] and tape.below(3) <= narrower:
                rows[place : place + 2] = [other, one]
        return rows
    answered = [place for place, row in enumerate(rows) if row[1] == "ok"]
    if not answered:
        return rows
    one = tape.one_of(answered)
    if damage == "changed":
        rows[one] = (*rows[one][:3], _other(rows[one][3], tape))
        return rows
    others = [place for place in answered if rows[place][2] == rows[one][2] and rows[place][3] != rows[one][3]]
    other = tape.one_of(others or [one])
    rows[one], rows[other] = (*rows[one][:3], rows[other][3]), (*rows[other][:3], rows[one][3])
    return rows


def _other(result: Any, tape: Tape) -> Any:
    if isinstance(result, bool):
        return not result
    if isinstance(result, list):
        return tape.one_of([result[:-1], result[::-1], [*result, 1], [*result, *result[:1]], result[1:]])
    if isinstance(result, int):
        return tape.one_of([None, result + 1, result - 1])
    return 1


CHOOSING: Final = st.binary(min_size=CHOICES, max_size=CHOICES)


@st.composite
def one_key(draw: st.DrawFn, name: str) -> Drawn:
    """A history of the kind of object of that name."""
    tape = Tape(draw(CHOOSING))
    return small(tape, KINDS[name], tape.one_of(KINDS[name].initials))


@st.composite
def spoilt_key(draw: st.DrawFn, name: str) -> Drawn:
    """A history of the kind of object of that name that is right only by luck."""
    tape = Tape(draw(CHOOSING))
    return small(tape, KINDS[name], tape.one_of(KINDS[name].initials), ways=SPOILT)


@st.composite
def several_keys(draw: st.DrawFn, name: str) -> tuple[list[tuple[Any, Row]], Any]:
    """Rows of two or three keys, shuffled, each with its key; and what each key starts with."""
    tape = Tape(draw(CHOOSING))
    initial = tape.one_of(KINDS[name].initials)
    keys = [None, "x", {"k": [1]}][: 2 + tape.below(2)]
    left = []
    for number in range(len(keys)):
        part = Tape(tape.choices[tape.place : tape.place + CHOICES_A_KEY])
        tape.place += CHOICES_A_KEY
        apart = 50 * number
        rows = small(part, KINDS[name], initial, calls_max=4).rows
        left.append([(process - apart if process < 0 else process + apart, *rest) for process, *rest in rows])
    shuffled: list[tuple[Any, Row]] = []
    while any(left):
        number = tape.one_of([number for number, rows in enumerate(left) if rows])
        shuffled.append((keys[number], left[number].pop(0)))
    return shuffled, initial


# --- What the total judges look at: a queue that is read to its end, in one step or under leases, and ids. ---


class Queued(NamedTuple):
    """A right history of a queue of elements [key, number] that is empty in the end, for total-queue and key-order.

    `repeated`: perhaps an element was put in twice. `leased`: takes deliver, and dequeues acknowledge.
    """

    rows: list[Row]
    initial: Any
    repeated: bool
    leased: bool


DELIVERIES_MAX: Final = 2  # then it is dead
DRAINER: Final = 1000


@dataclass(eq=False)
class _Lease:
    """A delivery. `told`: the consumer knows of it. `ends`: it may end by itself from now on."""

    element: Any
    number: int
    dead: bool
    told: bool = False
    ends: bool = False

    @property
    def answer(self) -> list[Any]:
        return [self.element, self.number, *["dead"][: self.dead]]


@dataclass(eq=False)
class _Consumer:
    """A client, its receipts, and what it is at: `f`, with what, and what it will be told."""

    process: int
    receipts: list[_Lease] = field(default_factory=list)
    f: str | None = None
    element: Any = None
    lease: _Lease | None = None
    told: tuple[str, Any] | None = None


class _LeasedQueue:
    """A queue that does as it should: in order within a key, every delivery under a lease of its own."""

    def __init__(self, tape: Tape, initial: Any, repeated: bool) -> None:
        self.tape = tape
        self.repeated = repeated
        self.rows: list[Row] = []
        self.ready: list[tuple[Any, int]] = [(element, 0) for element in initial or ()]
        self.dead: list[Any] = []
        self.leases: list[_Lease] = []
        self.consumers = [_Consumer(process) for process in range(CLIENTS)]
        self.late: list[_Consumer] = []
        self.number = 10
        self.lapses = 0

    def run(self) -> None:
        while not self.tape.ended:
            consumer = self.consumers[self.tape.below(CLIENTS)]
            if consumer.f is None:
                self.invoke(consumer)
            elif consumer.told is None:
                self.wait(consumer)
            else:
                self.complete(consumer)
            event = self.tape.below(8)
            if event == 1 and self.late:
                self.take_effect(self.late.pop(self.tape.below(len(self.late))))
            elif event == 2 and self.leases:
                self.end(self.tape.one_of(self.leases))
        self.drain()

    def invoke(self, consumer: _Consumer) -> None:
        f = self.tape.one_of(["take", "enqueue", "dequeue", "nack", "enqueue", "take", "dequeue"])
        if f in ("dequeue", "nack") and not consumer.receipts:
            f = "take"
        consumer.f, consumer.element, consumer.lease = f, None, None
        if f == "enqueue":
            self.number += 1
            consumer.element = [self.tape.one_of("ab"), self.tape.below(2) if self.repeated else self.number]
        elif f != "take":
            consumer.lease = consumer.receipts[-1 - self.tape.below(len(consumer.receipts))]
            consumer.element = consumer.lease.element
        self.rows.append((consumer.process, "invoke", f, consumer.element))

    def wait(self, consumer: _Consumer) -> None:
        fate = self.tape.below(12)
        if fate == 10:
            self.late.append(_Consumer(consumer.process, [], consumer.f, consumer.element, consumer.lease))
            self.close(consumer, "info", None)
        elif fate == 11:
            self.close(consumer, "fail", None)
        else:
            self.take_effect(consumer)

    def take_effect(self, consumer: _Consumer) -> None:
        lease = consumer.lease
        if consumer.f == "enqueue":
            self.ready.append((consumer.element, 0))
            consumer.told = "ok", consumer.element
        elif consumer.f == "take":
            consumer.lease = self.lend()
            consumer.told = "ok", consumer.lease and consumer.lease.answer
        elif lease in self.leases:
            self.leases.remove(lease)
            if consumer.f == "nack":
                self.give_back(lease)
            consumer.told = "ok", self.tape.one_of([consumer.element, None])
        else:
            consumer.told = "fail", None
        if consumer not in self.consumers:
            self.unheard(consumer)

    def lend(self) -> _Lease | None:
        held = [lease.element[0] for lease in self.leases if not lease.dead]
        for place, (element, number) in enumerate(self.ready):
            if element[0] not in [*held, *(before[0] for before, _ in self.ready[:place])] and self.tape.below(4) != 1:
                del self.ready[place]
                self.leases.append(_Lease(element, number + 1, dead=False))
                return self.leases[-1]
        if self.dead:
            self.leases.append(_Lease(*self.dead.pop(0), dead=True))
            return self.leases[-1]
        return None

    def give_back(self, lease: _Lease) -> None:
        if lease.dead:
            self.dead.append((lease.element, lease.number + 1))
        elif lease.number == DELIVERIES_MAX:
            self.dead.append((lease.element, 1))
        else:
            self.ready.insert(0, (lease.element, lease.number))

    def complete(self, consumer: _Consumer) -> None:
        assert consumer.told is not None
        if self.tape.below(8) == 7:
            self.unheard(consumer)
            self.close(consumer, "info", None)
            return
        if consumer.f == "take" and consumer.lease is not None:
            consumer.lease.told = True
            consumer.receipts.append(consumer.lease)
        self.close(consumer, *consumer.told)

    def unheard(self, consumer: _Consumer) -> None:
        if consumer.f == "take" and consumer.lease is not None:
            consumer.lease.ends = True

    def close(self, consumer: _Consumer, kind: str, result: Any) -> None:
        self.rows.append((consumer.process, kind, consumer.f, result))
        consumer.f = consumer.told = None
        if kind == "info" and self.tape.below(2):
            consumer.process += CLIENTS

    def end(self, lease: _Lease) -> None:
        """It ends; or, where the consumer knows of it, it is told first that it may."""
        if lease.ends:
            self.leases.remove(lease)
            self.give_back(lease)
        elif lease.told:
            lease.ends = True
            self.lapses += 1
            self.rows.append((-self.lapses, "invoke", "nack", lease.answer))

    def drain(self) -> None:
        for consumer in self.consumers:
            if consumer.told is not None:  # else it is never heard of again
                self.unheard(consumer)
        process = DRAINER
        for lease in [*self.leases, *self.leases]:
            if lease in self.leases:
                self.end(lease)
        while (lease := self.lend()) is not None or self.ready:
            process += 1
            self.rows.append((process, "invoke", "take", None))
            self.rows.append((process, "ok", "take", lease and lease.answer))
            if lease is not None:
                self.leases.remove(lease)
                self.rows.append((process, "invoke", "dequeue", lease.element))
                self.rows.append((process, "ok", "dequeue", lease.element))
        self.rows += [(process + 1, "invoke", "take", None), (process + 1, "ok", "take", None)]


def _plain(state: tuple[Any, ...], f: str, argument: Any, process: int, tape: Tape) -> Answer:
    """A queue without leases, in order within a key."""
    if f == "enqueue":
        return (*state, argument), "ok", argument
    first = [place for place, (key, _) in enumerate(state) if key not in [before for before, _ in state[:place]]]
    return _taken(state, tape.one_of(first)) if first else (state, "ok", None)


def _keyed_argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    return [tape.one_of("ab"), values.new()] if f == "enqueue" else None


PLAIN: Final = Kind((("enqueue", "dequeue"),), (), _items, _keyed_argument, _plain, few=(1, 2))
IDS: Final = Kind(
    (("generate",),),
    (None, [1, 2]),
    lambda initial: len(initial or ()),
    _new_unless("generate"),
    lambda state, *_: (state + 1, "ok", state + 1),
)


@st.composite
def queue_history(draw: st.DrawFn) -> Queued:
    """A right history of a queue, with leases or without."""
    tape = Tape(draw(CHOOSING))
    leased, repeated = tape.below(2) == 0, tape.below(3) == 1
    initial = tape.one_of([None, [["a", 1], ["a", 2], ["b", 1]]])
    if leased:
        queue = _LeasedQueue(tape, initial, repeated)
        queue.run()
        return Queued(queue.rows, initial, repeated, leased)
    run = _Run(PLAIN, tape, Values(tape, PLAIN.few, not repeated), PLAIN.start(initial), CALLS_MAX, None)
    run.run()
    for place, element in enumerate(run.state):
        run.rows += [(DRAINER + place, "invoke", "dequeue", None), (DRAINER + place, "ok", "dequeue", element)]
    return Queued(run.rows, initial, repeated, leased)


@st.composite
def id_history(draw: st.DrawFn) -> Drawn:
    """A right history of ids given out."""
    tape = Tape(draw(CHOOSING))
    initial = tape.one_of(IDS.initials)
    run = _Run(IDS, tape, Values(tape, (), distinct=True), IDS.start(initial), CALLS_MAX, None)
    run.run()
    return Drawn(run.rows, initial, right=True)
