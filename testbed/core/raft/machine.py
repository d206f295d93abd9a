"""The replicated state: client sessions around a service's state machine. A deterministic function of the log.

It knows no time but log time, and no order but the log's. Snapshots hold the sessions too: without them a retry that
arrives after a restore would take effect twice (thesis 6.3).
"""

from typing import Protocol

import msgspec

from testbed.base import limits
from testbed.core.raft.messages import Entry


class Service(Protocol):
    """A state machine: same calls in the same order, same state and same answers, on every node."""

    def apply(self, command: bytes, index: int, time: float) -> bytes:
        """Carry out a command; the answer's bytes are kept for retries. Never raises for a valid command."""

    def query(self, query: bytes) -> bytes:
        """Answer a query from the state as it is."""

    def snapshot(self) -> bytes:
        """The whole state."""

    def restore(self, data: bytes) -> None:
        """Replace the whole state by what `snapshot` gave."""


class ClientSession(msgspec.Struct, array_like=True):
    """What is remembered of one client: its last command's serial and answer, and when (log time) that was."""

    serial: int
    answer: bytes
    active: float


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's contents. Sessions are in order of last use, the oldest first."""

    sessions: list[tuple[int, ClientSession]]
    service: bytes


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # all that decoding raises, whatever was sent

_decode = msgspec.msgpack.Decoder(Saved).decode
_encode = msgspec.msgpack.Encoder().encode


class Applied(msgspec.Struct, frozen=True):
    """What applying an entry came to: a session opened, an answer (fresh or repeated), or an unknown session."""

    opened: int | None = None
    answer: bytes | None = None
    expired: bool = False


class ReplicatedState:
    """Applies entries in order, each command of a session once (thesis 6.3)."""

    def __init__(
        self,
        service: Service,
        sessions_max: int = limits.SESSIONS_MAX,
        session_ttl: float = limits.SESSION_TTL_S,
    ) -> None:
        """The limits must be the same on every node: they decide what the log means. `session_ttl` in seconds."""
        self.service = service
        self.sessions: dict[int, ClientSession] = {}  # in order of last use: the oldest first
        self._sessions_max = sessions_max
        self._session_ttl = session_ttl

    def apply(self, entry: Entry, index: int) -> Applied | None:
        """Apply one committed entry; None for a no-op."""
        self._expire(entry.time)
        if not entry.command:
            return None
        if not entry.session:
            self.sessions[index] = ClientSession(0, b"", entry.time)
            if len(self.sessions) > self._sessions_max:
                del self.sessions[next(iter(self.sessions))]
            return Applied(opened=index)
        session = self.sessions.pop(entry.session, None)
        if session is None:
            return Applied(expired=True)
        self.sessions[entry.session] = session  # most recently used, last
        session.active = entry.time
        if entry.serial > session.serial:
            session.answer = self.service.apply(entry.command, index, entry.time)
            session.serial = entry.serial
        elif entry.serial < session.serial:
            return Applied()  # a late duplicate; its client has gone on since and waits for no answer
        return Applied(answer=session.answer)

    def _expire(self, time: float) -> None:
        while self.sessions:
            oldest = next(iter(self.sessions))
            if time - self.sessions[oldest].active <= self._session_ttl:
                return
            del self.sessions[oldest]

    def snapshot(self) -> bytes:
        """Sessions and service together."""
        return _encode(Saved(list(self.sessions.items()), self.service.snapshot()))

    def restore(self, data: bytes) -> None:
        """Replace everything by a snapshot's contents; `UNREADABLE`, and nothing is replaced, if they are none."""
        saved = _decode(data)
        self.service.restore(saved.service)
        self.sessions = dict(saved.sessions)
