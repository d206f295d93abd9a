"""The failure detector's vocabulary: its configuration, what nodes tell each other, what it is told, what it wants.

It knows no rule: what follows from an event is decided in `testbed.core.membership.detector`.
"""

from typing import Annotated, Final, Literal

import msgspec

State = Literal["alive", "suspect", "failed"]
ALIVE: Final = "alive"
SUSPECT: Final = "suspect"
FAILED: Final = "failed"
STATES: Final[tuple[State, State, State]] = (ALIVE, SUSPECT, FAILED)  # their codes on the wire are their places here
STATE_CODES: Final[dict[State, int]] = {state: code for code, state in enumerate(STATES)}

LogLevel = Literal["info", "warning"]
Reason = Literal[
    "joined",  # heard directly for the first time since this process started
    "restarted",  # a new process of that node speaks
    "refuted",  # it raised its incarnation against a suspicion or a conviction
    "heard",  # fresh evidence ended the suspicion
    "silent",  # no evidence of life for `suspect_after`
    "connection closed",  # the hint: its connection to this node ended
    "accused",  # another node suspects it and this one has heard nothing lately either
    "unrefuted",  # the suspicion lasted until its timeout
    "left",  # it said so itself
]

Count = Annotated[int, msgspec.Meta(ge=0)]
StateCode = Annotated[int, msgspec.Meta(ge=0, le=2)]


class MembershipConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The heartbeat interval in seconds, and everything else as multiples of it.

    With the defaults and a heartbeat of 100 ms a node that falls silent is suspected after 0.5 s and convicted 0.8 s
    later where two other nodes (one, in a cluster of three) confirm, 2.4 s later where nobody does. Where the closing
    of its connection is seen, the first 0.5 s fall away.
    """

    heartbeat: float = 0.1
    suspect_beats: float = (
        5.0  # two lost beats in a row, a late loop and two hops of gossip together raise no suspicion
    )
    failed_beats_min: float = 8.0  # time for an accusation to reach the accused, and for its answer to come back
    failed_beats_max: float = 24.0  # three times that, for an observer whom nobody confirms
    grace_beats: float = 20.0  # a cluster starts within 1 s; a slow joiner gets twice that (PITFALLS, item 11)
    away_beats: float = 3.0  # a step that comes this late means that this node was stopped or starved

    def __post_init__(self) -> None:
        """ValueError where the numbers contradict each other."""
        if not self.heartbeat > 0:
            raise ValueError("heartbeat must be positive")
        if not 1 < self.away_beats < self.suspect_beats - 1:
            # An absence that goes unnoticed must not by itself age everyone's evidence past suspicion.
            raise ValueError("away_beats must lie between 1 and suspect_beats - 1")
        if not 1 < self.failed_beats_min <= self.failed_beats_max:
            raise ValueError("failed_beats_min must lie between 1 and failed_beats_max")

    @property
    def suspect_after(self) -> float:
        """Seconds without evidence of life after which a healthy observer suspects."""
        return self.suspect_beats * self.heartbeat

    @property
    def failed_after_min(self) -> float:
        """Seconds from suspicion to conviction with all expected confirmations."""
        return self.failed_beats_min * self.heartbeat

    @property
    def failed_after_max(self) -> float:
        """Seconds from suspicion to conviction without any confirmation."""
        return self.failed_beats_max * self.heartbeat

    @property
    def grace(self) -> float:
        """Seconds after the start for which a peer that was never heard counts as alive."""
        return self.grace_beats * self.heartbeat

    @property
    def away_after(self) -> float:
        """Seconds between two steps from which on this node counts as having been away."""
        return self.away_beats * self.heartbeat


# --- what nodes tell each other ---


class View(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node knows of another one: its verdict, and its latest evidence of that node's life.

    `age`: seconds between that evidence and the sending of the beat. Incarnation 0 means never heard of.
    """

    node: str
    state: StateCode
    incarnation: Count
    sequence: Count
    age: float


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """One heartbeat. `sent` is in seconds of the sender's own monotonic clock, which nobody else shares.

    `boot` is the incarnation at which this process started: it tells a restart from a refutation. `sequence` counts
    the beats of the process from 1, through refutations. `health` is 1 for a sender that trusts its own judgement.
    `role`, `term` and `leader` are opaque here; the host fills them in.
    """

    node: str
    boot: Count
    incarnation: Count
    sequence: Count
    sent: float
    health: Count
    leaving: bool
    views: tuple[View, ...]
    role: str | None = None
    term: int | None = None
    leader: str | None = None


class Accusation(msgspec.Struct, frozen=True, array_like=True):
    """Told directly to the accused (Lifeguard's buddy rule), so that it need not overhear it: suspect or failed."""

    node: str
    incarnation: Count
    state: StateCode


# --- events ---


class Started(msgspec.Struct, frozen=True, gc=False):
    """The node runs. First of all events."""


class BeatReceived(msgspec.Struct, frozen=True, gc=False):
    """A beat arrived; `sender` as the transport knows it."""

    sender: str
    beat: Beat


class Heard(msgspec.Struct, frozen=True, gc=False):
    """Any other traffic from a peer arrived."""

    peer: str


class AccusationReceived(msgspec.Struct, frozen=True, gc=False):
    """A peer accuses someone, normally this node."""

    sender: str
    accusation: Accusation


class ConnectionClosed(msgspec.Struct, frozen=True, gc=False):
    """The connection to a peer ended: a hint."""

    peer: str


class Tick(msgspec.Struct, frozen=True, gc=False):
    """`next_deadline` has come (or any other moment: an early tick does nothing)."""


class Leaving(msgspec.Struct, frozen=True, gc=False):
    """The node is about to stop in good order. Last of all events."""


Event = Started | BeatReceived | Heard | AccusationReceived | ConnectionClosed | Tick | Leaving


# --- effects ---


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Send this beat to all; the host may fill in role, term and leader first."""

    beat: Beat


class Tell(msgspec.Struct, frozen=True, gc=False):
    """Send this to one peer, by any connection there is."""

    to: str
    accusation: Accusation


class SaveIncarnation(msgspec.Struct, frozen=True, gc=False):
    """Make this node's incarnation durable before anything else of this step leaves. First in its list of effects."""

    incarnation: int


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The verdict on a peer, or (`alive` after `alive`, as joined or restarted) its process, is a new one."""

    peer: str
    state: State
    incarnation: int
    reason: Reason


class Log(msgspec.Struct, frozen=True, gc=False):
    """A line for the node's log; rate-limited, so that a flapping link cannot flood it."""

    level: LogLevel
    text: str
    fields: dict[str, str | int | float]


Effect = Publish | Tell | SaveIncarnation | Changed | Log
