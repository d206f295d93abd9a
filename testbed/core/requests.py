"""What a client and the replicated service say to each other.

A client opens a session once; every command then carries the session and a serial number, so that a retry of it has one
effect (Ongaro, thesis 6.3). Queries change nothing and need no session.
"""

import msgspec

from testbed.base.codec import Raw


class OpenSession(msgspec.Struct, frozen=True, array_like=True):
    """Asks for a session. A retry may open a second one; the unused one expires."""


class Submit(msgspec.Struct, frozen=True, array_like=True):
    """A command, at most one outstanding per session: `serial` counts 1, 2, 3 …; a retry repeats the serial."""

    session: int
    serial: int
    command: Raw


class Query(msgspec.Struct, frozen=True, array_like=True):
    """A linearizable read."""

    query: Raw


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """The session is open; its number is the log index of the entry that opened it."""

    session: int


class Done(msgspec.Struct, frozen=True, array_like=True):
    """The command or query took effect; this is its result."""

    result: Raw


class Granted(msgspec.Struct, frozen=True, array_like=True):
    """A lease was given; this is its result.

    The command was stamped with log time `asked`; nobody else can be given what is leased before log time `until`.
    """

    result: Raw
    asked: float
    until: float


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """The command is in the log and waits to be granted: ask again, with the same serial. The leader's log time."""

    time: float


class Rejected(msgspec.Struct, frozen=True, array_like=True):
    """The state machine refused the command: it was applied, once, and changed nothing."""

    error: str


class NotLeader(msgspec.Struct, frozen=True, array_like=True):
    """This attempt had no effect and never will; `leader` is who might serve it, if known."""

    leader: str | None


class Busy(msgspec.Struct, frozen=True, array_like=True):
    """This attempt had no effect: the leader has as much in flight as it takes."""


class Lost(msgspec.Struct, frozen=True, array_like=True):
    """The node lost its leadership with the command in its log: nobody can tell what becomes of it. Ask again."""


class Expired(msgspec.Struct, frozen=True, array_like=True):
    """The session is unknown by now. This attempt had no effect; earlier ones under that session may have had."""


REQUESTS: tuple[type, ...] = (OpenSession, Submit, Query)
REPLIES: tuple[type, ...] = (Opened, Done, Granted, Waiting, Rejected, NotLeader, Busy, Lost, Expired)
