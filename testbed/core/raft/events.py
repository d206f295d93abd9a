"""What Raft is told, and what it wants: two closed vocabularies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from testbed.core.raft.messages import Entry, PeerMessage


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Everything up to and including `last_index`, whose entry had `last_term` and log time `time`."""

    last_index: int
    last_term: int
    time: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What an earlier process made durable. `entries` follow on `base_index`, whose term is `base_term`."""

    term: int = 0
    vote: str | None = None
    snapshot: Snapshot | None = None
    base_index: int = 0
    base_term: int = 0
    entries: Sequence[Entry] = ()


ELECTION = "raft/election"  # the names of Raft's timers
HEARTBEAT = "raft/heartbeat"

# --- events ---


@dataclass(frozen=True, slots=True)
class Started:
    """The node runs."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message of a peer."""

    sender: str
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Proposed:
    """A client's command; `handle` is whoever waits for the answer, opaque here."""

    handle: Any
    session: int
    serial: int
    command: bytes


@dataclass(frozen=True, slots=True)
class SessionAsked:
    """A client wants a session."""

    handle: Any


@dataclass(frozen=True, slots=True)
class QueryAsked:
    """A client's linearizable read."""

    handle: Any
    query: bytes


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer is due."""

    name: str


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection to the peer stands. No proof of life: a kernel accepts for a stopped process."""

    peer: str


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The own connection to the peer closed: a hint."""

    peer: str


@dataclass(frozen=True, slots=True)
class TransferAsked:
    """The node is about to stop: hand leadership over, if it leads."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """All events of this step were given: send what they add up to."""


@dataclass(frozen=True, slots=True)
class SavesDurable:
    """What earlier steps saved is durable."""


Event = (
    Started
    | Received
    | Proposed
    | SessionAsked
    | QueryAsked
    | TimerFired
    | PeerConnected
    | PeerClosed
    | TransferAsked
    | StepEnded
    | SavesDurable
)

# --- effects ---


@dataclass(frozen=True, slots=True)
class Send:
    """Send to a peer, at most once; `early`: may leave before this step's saves (thesis 10.2.1)."""

    to: str
    message: PeerMessage
    early: bool


@dataclass(frozen=True, slots=True)
class SaveVote:
    """Keep term and vote."""

    term: int
    vote: str | None


@dataclass(frozen=True, slots=True)
class SaveEntries:
    """Keep entries at `first` and on."""

    first: int
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class DropEntries:
    """Forget the entries `first` … `last`: truncated, or covered by a snapshot."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Keep this snapshot instead of the one before."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class SaveBase:
    """The log now begins after this entry."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a client: a reply of `testbed.core.requests`, or bytes that hold one already."""

    handle: Any
    reply: Any


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire the timer in `after` seconds; replaces one of the same name."""

    name: str
    after: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A line for the node's log."""

    level: str
    text: str
    fields: dict[str, Any]


Effect = Send | SaveVote | SaveEntries | DropEntries | SaveSnapshot | SaveBase | Answer | SetTimer | Logged
