"""What a call needs, and what its outcome means to its caller: a value, or an error that says what is known."""

from typing import Any, Final, Protocol

from testbed.base.errors import Deadlock, LeaseLost, OperationError, Refused, Unknown
from testbed.client import Operation, Outcome
from testbed.core.services.commands import DEADLOCK, LEASE_LOST

_REFUSALS: Final[dict[str, type[Refused]]] = {DEADLOCK: Deadlock, LEASE_LOST: LeaseLost}


class Caller(Protocol):
    """Makes calls, one at a time."""

    def call(self, operation: Operation, timeout: float | None = None) -> Any:
        """Carry out one operation; its value, or the error that says what is known."""

    def outcome(self, operation: Operation, timeout: float | None = None) -> Outcome:
        """Carry out one operation; what became of it."""

    def now(self) -> float:
        """Seconds on the clock that leases are told by."""


def word(error: str | None) -> str:
    """What a service refused with, without the reason."""
    return (error or "").partition(":")[0]


def succeeded(outcome: Outcome) -> Outcome:
    """The outcome, if it is ok; else it is raised."""
    if outcome.type == "ok":
        return outcome
    error: type[OperationError] = Unknown
    if outcome.type == "fail":
        error = _REFUSALS.get(word(outcome.error), Refused)
    raise error(outcome.error or "")
