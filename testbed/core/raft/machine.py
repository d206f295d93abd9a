"""The replicated state: client sessions around a service's state machine. A deterministic function of the log.

It knows no time but log time, and no order but the log's. Snapshots hold the sessions too: without them a retry that
arrives after a restore would take effect twice (thesis 6.3).
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from testbed.base import limits
from testbed.core.raft.messages import Entry


class Service(Protocol):
    """A state machine: same calls in the same order, same state and same answers, on every node."""

    def apply(self, command: bytes, session: int, time: float) -> bytes | None:
        """Carry out a session's command; the answer's bytes are kept for retries. None: the session waits for one.

        Never raises, whatever the bytes.
        """

    def advance(self, time: float) -> None:
        """Log time has come to `time`: what was due until then happens."""

    def promote(self, time: float) -> None:
        """Another leader leads from log time `time` on: leases last longer."""

    def give_up(self, session: int) -> bytes:
        """The session waits no more; its answer, in case it ever asks."""

    def holds_for(self, session: int) -> bool:
        """Whether it keeps something for the session, such as a lock: then the session must not be forgotten."""

    def answered(self) -> list[tuple[int, bytes]]:
        """The sessions that wait no more since this was last asked, each with its answer."""

    @property
    def next_deadline(self) -> float:
        """The log time at which something is due; infinity if nothing is."""

    def query(self, query: bytes) -> bytes:
        """Answer a query from the state as it is."""

    def snapshot(self) -> bytes:
        """The whole state."""

    def restore(self, data: bytes) -> None:
        """Replace the whole state by what `snapshot` gave."""


class ClientSession(msgspec.Struct, array_like=True):
    """What is remembered of one client: its last command's serial and answer, and when (log time) that was.

    The answer is None while the command waits for it.
    """

    serial: int
    answer: bytes | None
    active: float


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's contents. Sessions are in order of last use, the oldest first; `term` is that of the last entry."""

    sessions: list[tuple[int, ClientSession]]
    service: bytes
    term: int


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # all that decoding raises, whatever was sent

_decode = msgspec.msgpack.Decoder(Saved).decode
_encode = msgspec.msgpack.Encoder().encode


class Applied(msgspec.Struct, frozen=True):
    """What applying an entry came to: a session opened, an answer (fresh or repeated), a wait, or an unknown session.

    `answered`: sessions whose wait is over by this entry, each with its serial and answer.
    """

    opened: int | None = None
    answer: bytes | None = None
    waits: bool = False
    expired: bool = False
    answered: Sequence[tuple[int, int, bytes]] = ()


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
        self.waiting: dict[int, ClientSession] = {}  # those of them that wait for an answer
        self._term = 0  # of the last entry
        self._answer_bytes = 0  # of all answers
        self._sessions_max = sessions_max
        self._session_ttl = session_ttl

    def apply(self, entry: Entry, index: int) -> Applied:
        """Apply one committed entry, and before it what was due by its time."""
        if entry.term > self._term:
            self._term = entry.term
            self.service.promote(entry.time)
        self.service.advance(entry.time)
        answered = self._note_answers() if self.waiting else []  # now: it may be the next command of one of them
        self._expire(entry.time)
        result = self._apply(entry, index)
        if self.waiting:
            answered += self._note_answers()
        return msgspec.structs.replace(result, answered=answered) if answered else result

    def _apply(self, entry: Entry, index: int) -> Applied:
        if not entry.session:
            return self._open(entry, index) if entry.command else _NOTHING
        session = self.sessions.get(entry.session)
        if not entry.command:  # the leader has not heard for long of who waits
            if session is not None and session.serial == entry.serial and session.answer is None:
                self._give_up(entry.session, session)
            return _NOTHING
        if session is None:
            return _EXPIRED
        self._touch(entry.session, session, entry.time)
        if entry.serial < session.serial:
            return _NOTHING  # a late duplicate; its client has gone on since and waits for no answer
        if entry.serial > session.serial:
            if session.answer is None:  # its client has gone on without it
                self._give_up(entry.session, session)
            session.serial = entry.serial
            answer = self.service.apply(entry.command, entry.session, entry.time)
            self._keep(session, answer)
            if answer is None:
                self.waiting[entry.session] = session
            self._make_room()
        return _WAITS if session.answer is None else Applied(answer=session.answer)

    def _keep(self, session: ClientSession, answer: bytes | None) -> None:
        self._answer_bytes += len(answer or b"") - len(session.answer or b"")
        session.answer = answer

    def _make_room(self, places: int = 0) -> None:
        """Forget sessions while there are too many, or too much is kept for them.

        The least recently used goes first; those that wait go last.
        """
        while len(self.sessions) + places > self._sessions_max or self._answer_bytes > limits.ANSWERS_BYTES_MAX:
            idle = (number for number in self.sessions if number not in self.waiting)
            self._end(next(idle, next(iter(self.sessions))))

    def _open(self, entry: Entry, index: int) -> Applied:
        self._make_room(1)
        self.sessions[index] = ClientSession(0, b"", entry.time)
        return Applied(opened=index)

    def _touch(self, number: int, session: ClientSession, time: float) -> None:
        del self.sessions[number]
        self.sessions[number] = session  # most recently used, last
        session.active = time

    def _expire(self, time: float) -> None:
        while self.sessions:
            number, oldest = next(iter(self.sessions.items()))
            if time - oldest.active <= self._session_ttl:
                return
            if oldest.answer is None or self.service.holds_for(number):  # it is silent for good reason
                self._touch(number, oldest, time)
            else:
                self._end(number)

    def _end(self, number: int) -> None:
        session = self.sessions.pop(number)
        if session.answer is None:
            self._give_up(number, session)
        self._answer_bytes -= len(session.answer or b"")

    def _give_up(self, number: int, session: ClientSession) -> None:
        del self.waiting[number]
        self._keep(session, self.service.give_up(number))

    def _note_answers(self) -> list[tuple[int, int, bytes]]:
        noted = []
        for number, answer in self.service.answered():
            session = self.waiting.pop(number)
            self._keep(session, answer)
            noted.append((number, session.serial, answer))
        return noted

    def snapshot(self) -> bytes:
        """Sessions and service together."""
        return _encode(Saved(list(self.sessions.items()), self.service.snapshot(), self._term))

    def restore(self, data: bytes) -> None:
        """Replace everything by a snapshot's contents; `UNREADABLE`, and nothing is replaced, if they are none."""
        saved = _decode(data)
        self.service.restore(saved.service)
        self.sessions = dict(saved.sessions)
        self.waiting = {number: session for number, session in saved.sessions if session.answer is None}
        self._term = saved.term
        self._answer_bytes = sum(len(session.answer or b"") for session in self.sessions.values())


_NOTHING = Applied()
_WAITS = Applied(waits=True)
_EXPIRED = Applied(expired=True)
