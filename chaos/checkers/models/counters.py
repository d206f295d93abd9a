"""The model counter: a number that is added to and read.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.checkers.fast.counters import decide_sums
from chaos.checkers.model import OTHER_VALUE, Call, Decision, Inconsistent, anonymous
from chaos.checkers.values import freeze, show_json
from chaos.history import Operation

# Far enough below the greatest float (1.8e308): 100 million such integers still add up to what a float can be added to.
AMOUNT_MAX: Final = 10**300
_RANGE: Final = "from -1e300 to 1e300"


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
        if not _is_in_range(initial):
            raise ValueError(f"model 'counter' starts with a number {_RANGE}, not a greater or lesser one")
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
        if operation.f == "add" and not _is_in_range(operation.argument):
            return f"an add takes a number {_RANGE}, not a greater or lesser one"
        return None

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return anonymous(calls)

    def decide(self, calls: Sequence[Call], start: int | float, ask: Callable[[], None]) -> Decision:
        return decide_sums(calls, start, ask)

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """Each read, and each add that no read can have seen: it was invoked after all of them, or adds nothing."""
        last = max((call.completed or 0 for call in calls if call.f == "read"), default=-1)
        return [[call] for call in calls if call.f == "read" or call.invoked > last or call.argument == 0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_in_range(amount: Any) -> bool:
    return bool(-AMOUNT_MAX <= amount <= AMOUNT_MAX)
