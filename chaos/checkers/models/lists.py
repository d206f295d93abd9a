"""The model list: a list that is read as a whole, appended to, and written over.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.checkers.model import OTHER_VALUE, Call, Inconsistent, anonymous
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
        """Drops appends of unknown outcome whose item no read returned.

        In a valid order no read falls between such an append and the next write, so nobody misses it.
        """
        seen = {item for call in calls if call.f == "read" for item in items_of(call.result) or ()}
        return anonymous(call for call in calls if call.known or call.f != "append" or call.argument in seen)

    def order(self, calls: Sequence[Call], start: tuple[Hashable, ...]) -> Callable[[Call, Call], bool] | None:
        """Where nothing but appends of different items changes the list, the longest read tells their order."""
        appended = [call.argument for call in calls if call.f == "append"]
        ambiguous = len({*appended, *start}) < len(appended) + len(start)
        if ambiguous or any(call.f == "write" for call in calls):
            return None
        longest: tuple[Hashable, ...] = ()
        for call in calls:
            read = items_of(call.result) if call.f == "read" else None
            longest = longest if read is None or len(read) <= len(longest) else read
        place = {item: position for position, item in enumerate(longest)}
        unread = len(place)

        def precedes(first: Call, second: Call) -> bool:
            if first.f != "append" or second.f != "append":
                return False
            return place.get(first.argument, unread) < place.get(second.argument, unread)

        return precedes
