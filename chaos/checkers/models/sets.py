"""The model set: elements are added, removed, asked for one by one, and read as a whole.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.checkers.model import OTHER_VALUE, Call, Inconsistent, anonymous
from chaos.checkers.values import freeze, items_of, show, start_items

_TRUE, _FALSE = freeze(True), freeze(False)


@dataclass(frozen=True)
class GrowShrinkSet:
    """A set; add, remove, contains (true or false) and read (a list in any order). Adding twice is adding once."""

    name: str = "set"
    operations: frozenset[str] = frozenset({"add", "remove", "contains", "read"})
    observations: frozenset[str] = frozenset({"contains", "read"})

    def start(self, initial: Any) -> Hashable:
        return frozenset(start_items(self.name, initial))

    def step(self, state: frozenset[Hashable], call: Call) -> Hashable | Inconsistent:
        if call.f == "add":
            return state | {call.argument}
        if call.f == "remove":
            return state - {call.argument}
        if call.f == "contains":
            return state if call.result == (_TRUE if call.argument in state else _FALSE) else OTHER_VALUE
        items = items_of(call.result)
        return state if items is not None and len(items) == len(state) == len(state & set(items)) else OTHER_VALUE

    def describe(self, state: frozenset[Hashable]) -> str:
        return f"it holds {', '.join(sorted(map(show, state))[:20]) or 'nothing'}"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops adds of unknown outcome whose element nobody ever saw in the set: nobody misses them."""
        seen = {item for call in calls if call.f == "read" for item in items_of(call.result) or ()}
        seen.update(call.argument for call in calls if call.f == "contains" and call.result == _TRUE)
        return anonymous(call for call in calls if call.known or call.f != "add" or call.argument in seen)
