"""What Raft is told, and what it wants: two closed vocabularies.

Structs and no dataclasses: several are made for every message, at a sixth of the cost.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from testbed.core.raft.messages import Entry, PeerMessage


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Everything up to and including `last_index`, whose entry had `last_term` and log time `time`."""

    last_index: int
    last_term: int
    time: float
    data: bytes


class Stored(msgspec.Struct, frozen=True):
    """What an earlier process made durable. `entries` follow on `base_index`, whose term is `base_term`."""

    term: int = 0
    vote: str | None = None
    snapshot: Snapshot | None = None
    base_index: int = 0
    base_term: int = 0
    entries: Sequence[Entry] = ()


ELECTION = "raft/election"  # the names of Raft's timers
HEARTBEAT = "raft/heartbeat"
LEASES = "raft/leases"

# --- events ---


class Started(msgspec.Struct, frozen=True, gc=False):
    """The node runs."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message of a peer."""

    sender: str
    message: PeerMessage


class Proposed(msgspec.Struct, frozen=True, gc=False):
    """A client's command; `handle` is whoever waits for the answer, opaque here."""

    handle: Any
    session: int
    serial: int
    command: bytes


class SessionAsked(msgspec.Struct, frozen=True, gc=False):
    """A client wants a session."""

    handle: Any


class QueryAsked(msgspec.Struct, frozen=True, gc=False):
    """A client's linearizable read."""

    handle: Any
    query: bytes


class TimerFired(msgspec.Struct, frozen=True, gc=False):
    """A timer is due."""

    name: str


class PeerConnected(msgspec.Struct, frozen=True, gc=False):
    """A connection to the peer stands. No proof of life: a kernel accepts for a stopped process."""

    peer: str


class PeerClosed(msgspec.Struct, frozen=True, gc=False):
    """The own connection to the peer closed: a hint."""

    peer: str


class TransferAsked(msgspec.Struct, frozen=True, gc=False):
    """The node is about to stop: hand leadership over, if it leads."""


class StepEnded(msgspec.Struct, frozen=True, gc=False):
    """All events of this step were given: send what they add up to."""


class SavesDurable(msgspec.Struct, frozen=True, gc=False):
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


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send to a peer, at most once; `early`: may leave before this step's saves (thesis 10.2.1)."""

    to: str
    message: PeerMessage
    early: bool


class SaveVote(msgspec.Struct, frozen=True, gc=False):
    """Keep term and vote."""

    term: int
    vote: str | None


class SaveEntries(msgspec.Struct, frozen=True, gc=False):
    """Keep entries at `first` and on."""

    first: int
    entries: list[Entry]


class DropEntries(msgspec.Struct, frozen=True, gc=False):
    """Forget the entries `first` … `last`: truncated, or covered by a snapshot."""

    first: int
    last: int


class SaveSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Keep this snapshot instead of the one before."""

    snapshot: Snapshot


class SaveBase(msgspec.Struct, frozen=True, gc=False):
    """The log now begins after this entry."""

    index: int
    term: int


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Answer a client: a reply of `testbed.core.requests`, or bytes that hold one already."""

    handle: Any
    reply: Any


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Fire the timer in `after` seconds; replaces one of the same name."""

    name: str
    after: float


class Logged(msgspec.Struct, frozen=True, gc=False):
    """A line for the node's log."""

    level: str
    text: str
    fields: dict[str, Any]


Effect = Send | SaveVote | SaveEntries | DropEntries | SaveSnapshot | SaveBase | Answer | SetTimer | Logged
