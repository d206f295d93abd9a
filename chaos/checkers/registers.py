"""Models of things that hold one value: register, cas-register, list, counter and set.

Each knows which calls its state allows. None knows about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.checkers.model import Call, Inconsistent
from chaos.checkers.values import freeze, freeze_items, show, show_json
from chaos.history import Operation

OTHER_VALUE = Inconsistent("another value was there")
PRECONDITION_HELD = Inconsistent("the precondition held")

# Stands for every value that nobody can tell from another: no read returned it and no cas asked for it.
_UNSEEN: Hashable = ("unseen",)

_TRUE, _FALSE = freeze(True), freeze(False)


def anonymous(calls: Iterable[Call]) -> list[Call]:
    """The calls with the callers left out, for models to which it does not matter who called."""
    return [call._replace(process=None) for call in calls]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Register:
    """One value; read and write. The state is the frozen value."""

    name: str = "register"
    operations: frozenset[str] = frozenset({"read", "write"})
    observations: frozenset[str] = frozenset({"read"})

    def start(self, initial: Any) -> Hashable:
        return freeze(initial)

    def step(self, state: Hashable, call: Call) -> Hashable | Inconsistent:
        if call.f == "write":
            return call.argument
        return state if state == call.result else OTHER_VALUE

    def describe(self, state: Hashable) -> str:
        return f"it holds {_show_value(state)}"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops writes of unknown outcome whose value no read returned: leaving one out changes nothing anyone saw."""
        seen = {call.result for call in calls if call.f == "read"}
        return anonymous(call for call in calls if call.known or call.argument in seen)


@dataclass(frozen=True)
class CasRegister:
    """One value; read, write and cas `[old, new]`. A refused cas observes that the value was not `old`."""

    name: str = "cas-register"
    operations: frozenset[str] = frozenset({"read", "write", "cas"})
    observations: frozenset[str] = frozenset({"read"})

    def start(self, initial: Any) -> Hashable:
        return freeze(initial)

    def step(self, state: Hashable, call: Call) -> Hashable | Inconsistent:
        if call.f == "read":
            return state if state == call.result else OTHER_VALUE
        if call.f == "write":
            return call.argument
        _, old, new = _cas(call)
        if call.refused:
            return state if state != old else PRECONDITION_HELD
        if state == old:
            return new
        return OTHER_VALUE if call.known else state

    def describe(self, state: Hashable) -> str:
        return f"it holds {_show_value(state)}"

    def complaint(self, operation: Operation) -> str | None:
        if operation.f == "cas" and not (isinstance(operation.argument, list | tuple) and len(operation.argument) == 2):
            return f"a cas takes [old, new], not {show_json(operation.argument)}"
        return None

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Simplifies calls of unknown outcome that write a value which nobody can tell from another.

        Such a value is one that no read returned and no cas asks for. To know it was there serves only a refused cas;
        where there is none, leaving the call out changes nothing anyone saw. Otherwise all such values are made one,
        which makes those calls interchangeable.
        """
        seen = {call.result for call in calls if call.f == "read"}
        seen.update(_cas(call)[1] for call in calls if call.f == "cas")
        refusals = any(call.refused for call in calls)
        reduced = []
        for call in calls:
            written = _cas(call)[2] if call.f == "cas" else call.argument
            if call.known or written in seen:
                reduced.append(call)
            elif refusals:
                unseen = ("[", _cas(call)[1], _UNSEEN) if call.f == "cas" else _UNSEEN
                reduced.append(call._replace(argument=unseen))
        return anonymous(reduced)


def _cas(call: Call) -> tuple[str, Hashable, Hashable]:
    """The frozen `[old, new]` of a cas, with `freeze`'s tag in front."""
    assert isinstance(call.argument, tuple), call
    assert len(call.argument) == 3, call
    return call.argument


def _show_value(state: Hashable) -> str:
    return "a value that no read returned" if state == _UNSEEN else show(state)


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
            return _items(call.argument)
        return state if _items(call.result) == state else OTHER_VALUE

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
        seen = {item for call in calls if call.f == "read" for item in _items(call.result) or ()}
        return anonymous(call for call in calls if call.known or call.f != "append" or call.argument in seen)

    def order(self, calls: Sequence[Call], start: tuple[Hashable, ...]) -> Callable[[Call, Call], bool] | None:
        """Where nothing but appends of different items changes the list, the longest read tells their order."""
        appended = [call.argument for call in calls if call.f == "append"]
        ambiguous = len({*appended, *start}) < len(appended) + len(start)
        if ambiguous or any(call.f == "write" for call in calls):
            return None
        longest: tuple[Hashable, ...] = ()
        for call in calls:
            read = _items(call.result) if call.f == "read" else None
            longest = longest if read is None or len(read) <= len(longest) else read
        place = {item: position for position, item in enumerate(longest)}
        unread = len(place)

        def precedes(first: Call, second: Call) -> bool:
            if first.f != "append" or second.f != "append":
                return False
            return place.get(first.argument, unread) < place.get(second.argument, unread)

        return precedes


def start_items(name: str, initial: Any) -> tuple[Hashable, ...]:
    """The frozen items of an initial value that must be a list; none by default."""
    items = freeze_items([] if initial is None else initial)
    if items is None:
        raise ValueError(f"model '{name}' starts with a list, not with {show_json(initial)}")
    return items


def _items(frozen: Hashable) -> tuple[Hashable, ...] | None:
    """The items of a frozen list; None if it is not one."""
    return frozen[1:] if isinstance(frozen, tuple) and frozen[0] == "[" else None


@dataclass(frozen=True)
class Counter:
    """A number; add an amount, read the sum. What an add returns is not judged."""

    name: str = "counter"
    operations: frozenset[str] = frozenset({"add", "read"})
    observations: frozenset[str] = frozenset({"read"})

    def start(self, initial: Any) -> Hashable:
        if initial is None:
            return 0
        if not _is_number(initial):
            raise ValueError(f"model 'counter' starts with a number, not with {show_json(initial)}")
        return freeze(initial)

    def step(self, state: int | float, call: Call) -> Hashable | Inconsistent:
        if call.f == "read":
            return state if state == call.result else OTHER_VALUE
        assert isinstance(call.argument, int | float), call
        return state + call.argument

    def describe(self, state: int | float) -> str:
        return f"it stands at {state}"

    def complaint(self, operation: Operation) -> str | None:
        if operation.f == "add" and not _is_number(operation.argument):
            return f"an add takes a number, not {show_json(operation.argument)}"
        return None

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return anonymous(calls)


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
        items = _items(call.result)
        return state if items is not None and len(items) == len(state) == len(state & set(items)) else OTHER_VALUE

    def describe(self, state: frozenset[Hashable]) -> str:
        return f"it holds {', '.join(sorted(map(show, state))[:20]) or 'nothing'}"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops adds of unknown outcome whose element nobody ever saw in the set: nobody misses them."""
        seen = {item for call in calls if call.f == "read" for item in _items(call.result) or ()}
        seen.update(call.argument for call in calls if call.f == "contains" and call.result == _TRUE)
        return anonymous(call for call in calls if call.known or call.f != "add" or call.argument in seen)
