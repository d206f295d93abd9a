"""The model list: a list that is read as a whole, appended to, and written over.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from chaos.checkers.fast.lists import decide_list, parts_of_list
from chaos.checkers.model import OTHER_VALUE, Call, Decision, Inconsistent, anonymous
from chaos.checkers.values import items_of, show, show_json, start_items
from chaos.history import Operation


@dataclass(frozen=True)
class ListRegister:
    """A list; read, append one item, write a whole list. The state is the tuple of frozen items."""

    name: str = "list"
    operations: frozenset[str] = frozenset({"read", "append", "write"})
    observations: frozenset[str] = frozenset({"read"})

    def start(self, initial: Any) -> Hashable:
        return start_items(self.name, initial)

    def step(self, state: tuple[Hashable, ...], call: Call) -> Hashable | Inconsistent:
        if call.f == "append":
            return (*state, call.argument)
        if call.f == "write":
            return items_of(call.argument)
        return state if items_of(call.result) == state else OTHER_VALUE

    def describe(self, state: tuple[Hashable, ...]) -> str:
        return f"it holds {show(('[', *state))}"

    def complaint(self, operation: Operation) -> str | None:
        if operation.f == "write" and not isinstance(operation.argument, list | tuple):
            return f"a write takes a list, not {show_json(operation.argument)}"
        return None

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops changes of unknown outcome which put in an item that no read returned.

        In a valid order no read falls between such a change and the next write, so nobody misses it.
        """
        seen = _seen(calls)

        return anonymous(call for call in calls if call.known or seen.issuperset(_items_put_in(call)))

    def decide(self, calls: Sequence[Call], start: tuple[Hashable, ...], ask: Callable[[], None]) -> Decision:
        return decide_list(calls, start, ask)

    def parts(self, calls: Sequence[Call], start: tuple[Hashable, ...]) -> list[list[Call]]:
        """What belongs to one list, from a write to the next, where that is clear from what was read.

        Else each read, and each change that no read can have seen: that is one invoked after all of them, or an append
        of what no read shows. In an explained order there is no read from it until the next write.
        """
        parts = parts_of_list(calls, start)
        if parts is not None:
            return parts
        seen = _seen(calls)
        last = max((call.completed or 0 for call in calls if call.f == "read"), default=-1)

        def goes(call: Call) -> bool:
            return call.f == "read" or call.invoked > last or (call.f == "append" and call.argument not in seen)

        return [[call] for call in calls if goes(call)]

    def order(self, calls: Sequence[Call], start: tuple[Hashable, ...]) -> Callable[[Call, Call], bool]:
        """A read shows the order of what put in its items, of those that were put in once.

        Where nothing is written over, the appends of what no read shows come after all these.
        """
        overwritten = any(call.f == "write" for call in calls)
        put_in = Counter(start)
        for call in calls:
            put_in.update(_items_put_in(call))
        reads = [items_of(call.result) or () for call in calls if call.f == "read"]
        shown: dict[Hashable, tuple[float, float] | None] = {}  # in which read, the longest, and where
        for number, items in enumerate(sorted(reads, key=len, reverse=True)):
            for place, item in enumerate(items):
                shown.setdefault(item, (number, place) if put_in[item] == 1 else None)
        places: dict[int, tuple[float, float] | None] = {}
        for call in calls:
            for item in _items_put_in(call)[:1]:
                places[call.invoked] = shown.get(item, None if overwritten else (0, inf))

        def precedes(first: Call, second: Call) -> bool:
            one, other = places.get(first.invoked), places.get(second.invoked)
            return one is not None and other is not None and one[0] == other[0] and one[1] < other[1]

        return precedes


def _items_put_in(call: Call) -> tuple[Hashable, ...]:
    if call.f == "append":
        return (call.argument,)
    return items_of(call.argument) or () if call.f == "write" else ()


def _seen(calls: Sequence[Call]) -> set[Hashable]:
    """The items that reads show."""
    return {item for call in calls if call.f == "read" for item in items_of(call.result) or ()}
