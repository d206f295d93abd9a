"""All replicated services as one state machine, in the form that Raft applies: bytes in, the client's reply out."""

from typing import Any

import msgspec

from testbed.base.codec import Codec, Raw, pack
from testbed.core import requests
from testbed.core.raft.machine import UNREADABLE
from testbed.core.services.commands import (
    LEASE_LOST,
    NOT_GRANTED,
    UNFIT,
    Acquire,
    Cas,
    Delete,
    Extend,
    Get,
    LockStatus,
    Put,
    Release,
    Settle,
    decode_command,
    decode_query,
)
from testbed.core.services.keyvalue import NULL, KeyValue
from testbed.core.services.locks import Locks, SavedLocks
from testbed.core.services.queues import Queues, SavedQueues

_CODEC = Codec(requests.REPLIES)
_DONE = _CODEC.encode(requests.Done(Raw(NULL)))
_INVALID = _CODEC.encode(requests.Rejected(f"{UNFIT}: not a command"))
_GIVEN_UP = _CODEC.encode(requests.Rejected(f"{NOT_GRANTED}: it was given up"))


class _State(msgspec.Struct, array_like=True):
    keyvalue: dict[str, bytes]
    locks: SavedLocks
    queues: SavedQueues


_decode_state = msgspec.msgpack.Decoder(_State).decode
_encode_state = msgspec.msgpack.Encoder().encode


class Services:
    """Dispatches commands to the service they belong to. A command that cannot be read is rejected by all alike."""

    def __init__(self) -> None:
        self.keyvalue = KeyValue()
        self.locks = Locks()
        self.queues = Queues()

    def apply(self, command: bytes, session: int, time: float) -> bytes | None:
        """Carry out one command; the encoded reply, or None if the session waits for it."""
        try:
            decoded = decode_command(command)
        except UNREADABLE:
            return _INVALID
        match decoded:
            case Put() | Delete() | Cas():
                error = self._unfenced(decoded.fence) or self.keyvalue.apply(decoded)
                return _DONE if error is None else _CODEC.encode(requests.Rejected(error))
            case Acquire() | Release() | Extend() | Settle():
                reply = self.locks.apply(decoded, session, time)
            case _:
                reply = self.queues.apply(decoded, session, time)
        return None if reply is None else _CODEC.encode(reply)

    def _unfenced(self, token: int | None) -> str | None:
        """Why a write that carries a lock's token must not take effect; None if it may."""
        if token is None or self.locks.holds(token):
            return None
        return f"{LEASE_LOST}: {token} is the token of no present grant"

    def advance(self, time: float) -> None:
        """Leases and waits end."""
        self.locks.advance(time)
        self.queues.advance(time)

    def promote(self, time: float) -> None:
        """Leases are extended."""
        self.locks.promote(time)
        self.queues.promote(time)

    def give_up(self, session: int) -> bytes:
        """The session waits no more, wherever it did."""
        self.locks.give_up(session)
        self.queues.give_up(session)
        return _GIVEN_UP

    def holds_for(self, session: int) -> bool:
        """Whether the session holds locks: who they are told of each other is how deadlocks are found."""
        return self.locks.holds_for(session)

    def answered(self) -> list[tuple[int, bytes]]:
        """Whose wait ended, and how."""
        if not self.locks.resolved and not self.queues.resolved:
            return []
        answers = [(session, _CODEC.encode(reply)) for session, reply in (*self.locks.resolved, *self.queues.resolved)]
        self.locks.resolved.clear()
        self.queues.resolved.clear()
        return answers

    @property
    def next_deadline(self) -> float:
        """When the next lease, wait or delay ends, in log time."""
        return min(self.locks.next_deadline, self.queues.next_deadline)

    def query(self, query: bytes) -> bytes:
        """Answer one query; the encoded reply."""
        try:
            decoded = decode_query(query)
        except UNREADABLE:
            return _CODEC.encode(requests.Rejected(f"{UNFIT}: not a query"))
        return _CODEC.encode(requests.Done(self._ask(decoded)))

    def _ask(self, query: Any) -> Raw:
        match query:
            case Get():
                return self.keyvalue.query(query)
            case LockStatus():
                return Raw(pack(self.locks.query(query)))
            case _:
                return Raw(pack(self.queues.query(query)))

    def snapshot(self) -> bytes:
        """The state of all services."""
        return _encode_state(_State(self.keyvalue.snapshot(), self.locks.snapshot(), self.queues.snapshot()))

    def restore(self, data: bytes) -> None:
        """Replace the state of all services."""
        state = _decode_state(data)
        self.keyvalue.restore(state.keyvalue)
        self.locks.restore(state.locks)
        self.queues.restore(state.queues)
