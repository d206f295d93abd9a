"""Models of things that hold one value: register and cas-register.

Each knows which calls its state allows. None knows about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.checkers.fast.registers import decide_register
from chaos.checkers.model import OTHER_VALUE, Call, Decision, Inconsistent, anonymous
from chaos.checkers.values import freeze, show, show_json
from chaos.history import Operation

PRECONDITION_HELD = Inconsistent("the precondition held")

# Stands for every value that nobody can tell from another: no read returned it and no cas asked for it.
_UNSEEN: Hashable = ("unseen",)


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

    def decide(self, calls: Sequence[Call], start: Hashable, ask: Callable[[], None]) -> Decision:
        return decide_register(calls, start, ask)

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """A value's writes and reads: without them each other read still follows the write it saw."""
        return _by_value(calls)


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

    def decide(self, calls: Sequence[Call], start: Hashable, ask: Callable[[], None]) -> Decision:
        return decide_register(calls, start, ask)

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """The calls that mention a value, and the values that cas leads to from there: without them, each other call
        still follows what wrote the value it saw, and a cas of unknown outcome that came to nothing need not happen.

        A refused cas may need any value that was there instead: as long as there is one, only what observes can go.
        """
        if any(call.refused for call in calls):
            return [[call] for call in calls if call.observes]
        return _by_value(calls)


def _by_value(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls by the values that they write, see or lead to from others; a read of what nobody wrote by itself."""
    leads: dict[Hashable, Hashable] = {}

    def root(value: Hashable) -> Hashable:
        while leads[value] != value:
            leads[value] = leads[leads[value]]
            value = leads[value]
        return value

    for call in calls:
        if call.f == "read":
            continue
        _, old, new = _cas(call) if call.f == "cas" else ("", call.argument, call.argument)
        leads.setdefault(old, old)
        leads.setdefault(new, new)
        leads[root(old)] = root(new)
    parts: dict[Hashable, list[Call]] = {}
    for call in calls:
        value = _cas(call)[2] if call.f == "cas" else call.argument if call.f == "write" else call.result
        parts.setdefault(("value", root(value)) if value in leads else ("call", call.invoked), []).append(call)
    return list(parts.values())


def _cas(call: Call) -> tuple[str, Hashable, Hashable]:
    """The frozen `[old, new]` of a cas, with `freeze`'s tag in front."""
    assert isinstance(call.argument, tuple), call
    assert len(call.argument) == 3, call
    return call.argument


def _show_value(state: Hashable) -> str:
    return "a value that no read returned" if state == _UNSEEN else show(state)
