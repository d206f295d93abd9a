"""The search for an order that explains one key's calls.

Knows calls, their places in real time and a model's `step`. Does not know keys, budgets or clocks: it is a generator
that yields often, and whoever drives it decides whether to go on.

The algorithm is Wing and Gong's (Testing and verifying concurrent objects, 1993) with Lowe's memoisation of
configurations (Testing for linearizability, 2017), searched depth first and without recursion as in Porcupine. A
configuration is small because calls are sorted by completion: all before `front` are in the order, and a bit mask says
which of the few concurrent ones after it are. Four reductions, each of which keeps at least one valid order if any is:

1. A completed call that may come next, is allowed and only observes, comes next. (Moving it to the front of any valid
   order changes nothing for the others, so no other choice needs to be tried. Not so for a write that happens to leave
   the state as it is: it may be needed later.)
2. A call of unknown outcome may come at any time after its invocation, or never. Among the valid orders take one with
   the fewest such calls, these as late as possible, and neighbours among them sorted where that makes no difference.
   In it, each is followed by a call that could not have come before it with the same effect, nor make it needless.
   So anything else need not be tried. (A partial-order reduction; in a register, an unknown write is tried only just
   before something that needs its value.)
3. Equal calls of unknown outcome are used in the order of their invocations.
4. Where a configuration failed, the same one with fewer unknown calls left fails too.
"""

from bisect import bisect_left
from collections.abc import Generator, Hashable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from chaos.checkers.model import Call, Inconsistent, Model, Orders, Reduces

# Configurations tried between two yields: a few milliseconds.
STEPS_PER_TURN: Final = 64

# What a remembered configuration costs besides the items in its state: measured, about 250 bytes.
CONFIGURATION_WORDS: Final = 32

STATES_SHOWN_MAX: Final = 5


class Blocked(NamedTuple):
    """No order gets beyond `call`: the first completion that no order reaches.

    `states` are some of those in which orders get stuck there, `placed` the most completed calls in such an order;
    `tried` counts the configurations that were looked at.
    """

    call: Call
    concurrent: list[Call]
    states: list[Hashable]
    placed: int
    tried: int


class Reach(msgspec.Struct):
    """How far the best order got: completed calls placed, of how many; and how much the search remembers, in words of
    eight bytes. Changed by the search as it goes on."""

    placed: int = 0
    required: int = 0
    words: int = 0


Answer = Blocked | None
"""None: an order was found."""


class _Pending(NamedTuple):
    """An unknown call just placed: the state before it, and its number."""

    before: Hashable
    number: int


class _Configuration(NamedTuple):
    """All completed calls before `front` are placed; bit i of `mask`: so is call front+i; bit i of `used`: so is
    unknown call i. `pending` is set if the last call placed was of unknown outcome."""

    front: int
    mask: int
    used: int
    state: Hashable
    pending: _Pending | None


def search(calls: Sequence[Call], model: Model, initial: Any, reach: Reach) -> Generator[None, None, Answer]:
    """Look for an order of `calls` that `model` allows; yields every few milliseconds, returns the answer."""
    space = _Space(calls, model, initial)
    reach.required = len(space.required)
    stuck = _Stuck()
    seen = _Seen()
    first = space.settled(0, 0, 0, space.start)
    stuck.note(first)
    trail: list[Iterator[_Configuration]] = [space.successors(first)]
    if first.front == len(space.required):
        return None
    steps = 0
    while trail:
        configuration = next(trail[-1], None)
        if configuration is None:
            trail.pop()
            continue
        if configuration.front == len(space.required):
            return None
        if seen.covers(configuration):
            continue
        stuck.note(configuration)
        trail.append(space.successors(configuration))
        steps += 1
        if steps % STEPS_PER_TURN == 0:
            reach.placed = stuck.placed
            reach.words = seen.words
            yield
    return space.blocked(stuck, steps)


class _Stuck:
    """The furthest fronts, and the states in which orders got stuck there."""

    def __init__(self) -> None:
        self.front = -1
        self.placed = 0
        self.states: dict[Hashable, None] = {}

    def note(self, configuration: _Configuration) -> None:
        if configuration.front < self.front:
            return
        if configuration.front > self.front:
            self.front = configuration.front
            self.placed = 0
            self.states = {}
        self.placed = max(self.placed, configuration.front + configuration.mask.bit_count())
        if len(self.states) < STATES_SHOWN_MAX:
            self.states[configuration.state] = None


class _Seen:
    """The configurations already tried."""

    def __init__(self) -> None:
        self.words = 0
        self._used: dict[tuple[int, int, Hashable], list[int]] = {}
        self._pending: set[_Configuration] = set()

    def covers(self, configuration: _Configuration) -> bool:
        """Whether this configuration, or one with more choices left, was tried before. From now on it was."""
        if configuration.pending is not None:
            if configuration in self._pending:
                return True
            self._pending.add(configuration)
        else:
            key = (configuration.front, configuration.mask, configuration.state)
            tried = self._used.setdefault(key, [])
            used = configuration.used
            if any(other & used == other for other in tried):
                return True
            tried.append(used)
        self.words += CONFIGURATION_WORDS + _size(configuration.state)
        return False


def _size(state: Hashable) -> int:
    return len(state) if isinstance(state, tuple | frozenset) else 0


class _Space:
    """The calls of one key, prepared for the search: what may come next in a configuration."""

    def __init__(self, calls: Sequence[Call], model: Model, initial: Any) -> None:
        self.start = model.start(initial)
        if isinstance(model, Reduces):
            calls = model.reduce(calls)
        self.step = model.step
        finished = [(call.completed, call) for call in calls if call.completed is not None]
        finished.sort(key=lambda pair: pair[0])
        self.required = [call for _, call in finished]
        self.unknown = sorted((call for call in calls if call.completed is None), key=lambda call: call.invoked)
        self._twin = _twins(self.unknown)
        self._open, self._before = self._concurrency(model, calls)
        invoked = [call.invoked for call in self.unknown]
        self._available = [bisect_left(invoked, completed) for completed, _ in finished]

    def _concurrency(self, model: Model, calls: Sequence[Call]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """For each completed call: which are open when it completes (itself included), and which must precede it.

        Of the latter only those concurrent with it: real time takes care of the others.
        """
        precedes = model.order(calls, self.start) if isinstance(model, Orders) else None
        before: list[list[int]] = [[] for _ in self.required]
        open_at: list[tuple[int, ...]] = []
        running: dict[int, None] = {}
        by_invocation = sorted(range(len(self.required)), key=lambda number: self.required[number].invoked)
        arrived = 0
        for front, call in enumerate(self.required):
            assert call.completed is not None
            while arrived < len(by_invocation) and self.required[by_invocation[arrived]].invoked < call.completed:
                number = by_invocation[arrived]
                arrived += 1
                if precedes is not None:
                    for other in running:
                        if precedes(self.required[other], self.required[number]):
                            before[number].append(other)
                        elif precedes(self.required[number], self.required[other]):
                            before[other].append(number)
                running[number] = None
            open_at.append(tuple(sorted(running)))
            del running[front]
        return open_at, [tuple(numbers) for numbers in before]

    def _candidates(self, front: int, mask: int) -> Iterator[int]:
        """The completed calls that may be placed next as far as real time is concerned."""
        for number in self._open[front]:
            if mask >> (number - front) & 1:
                continue
            if all(other < front or mask >> (other - front) & 1 for other in self._before[number]):
                yield number

    def settled(self, front: int, mask: int, used: int, state: Hashable) -> _Configuration:
        """The configuration after placing every allowed call that may come next and only observes."""
        settling = True
        while settling and front < len(self.required):
            settling = False
            for number in self._candidates(front, mask):
                call = self.required[number]
                if call.observes and not isinstance(self.step(state, call), Inconsistent):
                    front, mask = _place(front, mask, number)
                    settling = True
                    break
        return _Configuration(front, mask, used, state, None)

    def successors(self, configuration: _Configuration) -> Iterator[_Configuration]:
        """What the order may go on with: a completed call, else one of unknown outcome."""
        front, mask, used, state, pending = configuration
        for number in self._candidates(front, mask):
            call = self.required[number]
            after = self.step(state, call)
            if isinstance(after, Inconsistent):
                continue
            if pending is None or self._depends(pending, call, after, swappable=True):
                yield self.settled(*_place(front, mask, number), used, after)
        for number in range(self._available[front]):
            twin = self._twin[number]
            if used >> number & 1 or (twin is not None and not used >> twin & 1):
                continue
            call = self.unknown[number]
            after = self.step(state, call)
            if isinstance(after, Inconsistent) or after == state:
                continue
            if pending is None or self._depends(pending, call, after, swappable=number < pending.number):
                yield self._with_unknown(configuration, number, after)

    def _with_unknown(self, configuration: _Configuration, number: int, after: Hashable) -> _Configuration:
        front, mask, used, state, _ = configuration
        settled = self.settled(front, mask, used | 1 << number, after)
        if (settled.front, settled.mask) != (front, mask):
            return settled
        return settled._replace(pending=_Pending(state, number))

    def _depends(self, pending: _Pending, call: Call, after: Hashable, swappable: bool) -> bool:
        """Whether `call`, which led to `after`, needs the unknown call just placed before it (reduction 2)."""
        alone = self.step(pending.before, call)
        if isinstance(alone, Inconsistent):
            return True
        if alone == after:
            return False
        return not swappable or self.step(alone, self.unknown[pending.number]) != after

    def blocked(self, stuck: _Stuck, tried: int) -> Blocked:
        """The account of a search that found no order."""
        call = self.required[stuck.front]
        assert call.completed is not None
        concurrent = [self.required[number] for number in self._open[stuck.front] if number != stuck.front]
        concurrent += self.unknown[: self._available[stuck.front]]
        return Blocked(call, concurrent, list(stuck.states), stuck.placed, tried)


def _place(front: int, mask: int, number: int) -> tuple[int, int]:
    mask |= 1 << (number - front)
    while mask & 1:
        mask >>= 1
        front += 1
    return front, mask


def _twins(unknown: Sequence[Call]) -> list[int | None]:
    """For each call of unknown outcome the latest equal one before it, which must be used first."""
    latest: dict[tuple[str, Hashable, int | None], int] = {}
    twins: list[int | None] = []
    for number, call in enumerate(unknown):
        key = (call.f, call.argument, call.process)
        twins.append(latest.get(key))
        latest[key] = number
    return twins
