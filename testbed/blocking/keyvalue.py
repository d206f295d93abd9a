"""The replicated key-value store, in blocking calls."""

from typing import Any

from testbed.blocking.locks import Held
from testbed.blocking.outcomes import Caller, succeeded
from testbed.core.services.commands import PRECONDITION_FAILED, Cas, Delete, Get, Put, value


class KeyValueClient:
    """Values are what JSON can hold; a null value and a missing key are the same.

    `fence`: a lock that is held, or its token. The write is refused (`LeaseLost`) unless that is a present grant: it is
    checked where the write takes effect.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put(self, key: str, new: Any, fence: Held | int | None = None) -> None:
        """Set a key."""
        self._caller.call(Put(key, value(new), _token(fence)))

    def get(self, key: str) -> Any:
        """The value, linearizable; None if the key is missing."""
        return self._caller.call(Get(key))

    def delete(self, key: str, fence: Held | int | None = None) -> None:
        """Remove a key, whether it is there or not."""
        self._caller.call(Delete(key, _token(fence)))

    def cas(self, key: str, old: Any, new: Any, fence: Held | int | None = None) -> bool:
        """Set the key to `new` if it holds `old` (None: missing). Whether it did."""
        outcome = self._caller.outcome(Cas(key, value(old), value(new), _token(fence)))
        if outcome.type == "fail" and outcome.error == PRECONDITION_FAILED:
            return False
        succeeded(outcome)
        return True


def _token(fence: Held | int | None) -> int | None:
    return fence.token if isinstance(fence, Held) else fence
