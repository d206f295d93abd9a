"""A key-value store as a state machine: put, delete, cas, get. Values are opaque bytes."""

from testbed.base import limits
from testbed.base.codec import Raw
from testbed.core.services.commands import FULL, PRECONDITION_FAILED, Cas, Delete, Get, Put

NULL = b"\xc0"  # null in MessagePack


class KeyValue:
    """Keys to values. A null value and a missing key are the same."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.bytes = 0

    def apply(self, command: Put | Delete | Cas) -> str | None:
        """Carry out a command; the reason if it is rejected, else None."""
        match command:
            case Put():
                return self._set(command.key, bytes(command.value))
            case Delete():
                return self._set(command.key, NULL)
            case Cas():
                if self.values.get(command.key, NULL) != bytes(command.old):
                    return PRECONDITION_FAILED
                return self._set(command.key, bytes(command.new))

    def _set(self, key: str, value: bytes) -> str | None:
        before = self.values.get(key)
        grown = (len(key) + len(value) if value != NULL else 0) - (len(key) + len(before) if before is not None else 0)
        if grown > 0 and self.bytes + grown > limits.STATE_BYTES_MAX:
            return f"{FULL}: the store holds as much as it may"
        self.bytes += grown
        if value == NULL:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        return None

    def query(self, query: Get) -> Raw:
        """The value of a key."""
        return Raw(self.values.get(query.key, NULL))

    def snapshot(self) -> dict[str, bytes]:
        """The whole state, in a form MessagePack can hold."""
        return self.values

    def restore(self, values: dict[str, bytes]) -> None:
        """Replace the whole state."""
        self.values = values
        self.bytes = sum(len(key) + len(value) for key, value in values.items())
