"""Models of containers that hand out what was put in: fifo-queue, queue (any order) and stack.

A take that returns null found the container empty. None knows about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.checkers.fast import containers, stacks
from chaos.checkers.model import Call, Decision, Inconsistent, anonymous
from chaos.checkers.values import show, start_items
from chaos.history import Operation

NOT_EMPTY = Inconsistent("it was not empty")
EMPTY = Inconsistent("it was empty")
NOT_NEXT = Inconsistent("another element was next")
NOT_THERE = Inconsistent("the element was not there")

Items = tuple[Hashable, ...]
Bag = frozenset[tuple[Hashable, int]]


def null_complaint(operation: Operation) -> str | None:
    """A null that is put in could not be told from "found it empty" when it comes out."""
    if operation.f in ("enqueue", "push") and operation.argument is None:
        return f"{operation.f} of null cannot be told from an empty answer"
    return None


def _describe(state: Items) -> str:
    return f"it holds {show(('[', *state))}"


def _drop_never_taken(calls: Sequence[Call], put: str) -> list[Call]:
    """The calls without puts of unknown outcome whose element no take returned; null takes are marked as observing.

    Sound for all three containers: from a valid order such a put can be removed together with the take of unknown
    outcome that took its element, if any. As long as the element was in, no take found the container empty; and
    without it, whatever else was taken was still next.
    """
    taken = {call.result for call in calls if call.f != put}
    kept = anonymous(call for call in calls if call.known or call.f != put or call.argument in taken)
    return [call._replace(observes=call.f != put and call.known and call.result is None) for call in kept]


@dataclass(frozen=True)
class FifoQueue:
    """Elements leave in the order they came. The state is the tuple of frozen elements, oldest first."""

    name: str = "fifo-queue"
    operations: frozenset[str] = frozenset({"enqueue", "dequeue"})
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        return start_items(self.name, initial)

    def step(self, state: Items, call: Call) -> Hashable | Inconsistent:
        if call.f == "enqueue":
            return (*state, call.argument)
        if not call.known:
            return state[1:]
        if call.result is None:
            return NOT_EMPTY if state else state
        if not state:
            return EMPTY
        return state[1:] if state[0] == call.result else NOT_NEXT

    def describe(self, state: Items) -> str:
        return _describe(state)

    def complaint(self, operation: Operation) -> str | None:
        return null_complaint(operation)

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return _drop_never_taken(calls, "enqueue")

    def decide(self, calls: Sequence[Call], start: Items, ask: Callable[[], None]) -> Decision:
        return containers.decide_fifo(calls, start, "enqueue", ask)

    def parts(self, calls: Sequence[Call], start: Items = ()) -> list[list[Call]]:
        return containers.parts(calls, start, "enqueue")

    def order(self, calls: Sequence[Call], start: Items) -> Callable[[Call, Call], bool]:
        """Elements that were enqueued once leave in the order they came, so leaving orders the enqueues.

        An element that nobody took came after all that were taken, unless a dequeue of unknown outcome took it.
        """
        count: dict[Hashable, int] = dict.fromkeys(start, 2)
        taken: dict[Hashable, Call] = {}
        unknown_takes = False
        for call in calls:
            if call.f == "enqueue":
                count[call.argument] = count.get(call.argument, 0) + 1
            elif call.known:
                taken[call.result] = call
            else:
                unknown_takes = True

        def precedes(first: Call, second: Call) -> bool:
            if first.f != "enqueue" or second.f != "enqueue":
                return False
            if count[first.argument] != 1 or count[second.argument] != 1 or first.argument not in taken:
                return False
            if second.argument not in taken:
                return not unknown_takes
            completed = taken[first.argument].completed
            return completed is not None and completed < taken[second.argument].invoked

        return precedes


@dataclass(frozen=True)
class Queue:
    """Elements leave in any order. The state is a frozenset of (element, copy number).

    A dequeue of unknown outcome takes the least element (by its text). That loses no valid order: such a dequeue only
    helps a later one to find the queue empty, so it may be put off until just before that, when all must go anyway.
    """

    name: str = "queue"
    operations: frozenset[str] = frozenset({"enqueue", "dequeue"})
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        state: Bag = frozenset()
        for item in start_items(self.name, initial):
            state = _with(state, item)
        return state

    def step(self, state: Bag, call: Call) -> Hashable | Inconsistent:
        if call.f == "enqueue":
            return _with(state, call.argument)
        if not call.known:
            return state - {min(state, key=repr)} if state else state
        if call.result is None:
            return NOT_EMPTY if state else state
        if (call.result, 0) not in state:
            return NOT_THERE
        return state - {(call.result, _copies(state, call.result) - 1)}

    def describe(self, state: Bag) -> str:
        return f"it holds {', '.join(sorted(show(item) for item, _ in state)[:20]) or 'nothing'}"

    def complaint(self, operation: Operation) -> str | None:
        return null_complaint(operation)

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return _drop_never_taken(calls, "enqueue")

    def decide(self, calls: Sequence[Call], start: Bag, ask: Callable[[], None]) -> Decision:
        return containers.decide_queue(calls, _items(start), "enqueue", ask)

    def parts(self, calls: Sequence[Call], start: Bag = frozenset()) -> list[list[Call]]:
        return containers.parts(calls, _items(start), "enqueue")


def _items(state: Bag) -> Items:
    return tuple(item for item, _ in sorted(state, key=repr))


def _copies(state: Bag, item: Hashable) -> int:
    copies = 0
    while (item, copies) in state:
        copies += 1
    return copies


def _with(state: Bag, item: Hashable) -> Bag:
    return state | {(item, _copies(state, item))}


@dataclass(frozen=True)
class Stack:
    """The youngest element leaves first. The state is the tuple of frozen elements, oldest first."""

    name: str = "stack"
    operations: frozenset[str] = frozenset({"push", "pop"})
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        return start_items(self.name, initial)

    def step(self, state: Items, call: Call) -> Hashable | Inconsistent:
        if call.f == "push":
            return (*state, call.argument)
        if not call.known:
            return state[:-1]
        if call.result is None:
            return NOT_EMPTY if state else state
        if not state:
            return EMPTY
        return state[:-1] if state[-1] == call.result else NOT_NEXT

    def describe(self, state: Items) -> str:
        return _describe(state)

    def complaint(self, operation: Operation) -> str | None:
        return null_complaint(operation)

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return _drop_never_taken(calls, "push")

    def decide(self, calls: Sequence[Call], start: Items, ask: Callable[[], None]) -> Decision:
        return stacks.decide_stack(calls, start, "push", ask)

    def parts(self, calls: Sequence[Call], start: Items = ()) -> list[list[Call]]:
        return containers.parts(calls, start, "push")
