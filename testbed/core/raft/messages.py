"""What Raft nodes send each other. All of it may be lost, repeated, late or out of order."""

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry. `time` is log time, in seconds: stamped by the leader, never going back.

    Without `session` and `command` it starts a term, or only says what time it is, so that leases end. With a command
    and no session it opens a session, whose number is the entry's index. With a session and no command the leader says
    that it heard no more of the client that waits under `serial`.
    """

    term: int
    time: float
    session: int
    serial: int
    command: bytes


class VoteRequest(msgspec.Struct, frozen=True, array_like=True):
    """RequestVote (thesis 3.4), or with `pre` PreVote (9.6): `term` is then the one the sender would campaign in.

    `transfer`: the leader itself asked for this election, so nobody is disturbed by it (3.10, 4.2.3).
    """

    term: int
    pre: bool
    last_index: int
    last_term: int
    transfer: bool


class VoteReply(msgspec.Struct, frozen=True, array_like=True):
    """`term` is the voter's own; `asked` repeats the term of the request."""

    term: int
    asked: int
    pre: bool
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True):
    """Thesis 3.5. `round` numbers the leader's messages within its term; the reply repeats it (read index, 6.4)."""

    term: int
    round: int
    previous_index: int
    previous_term: int
    commit: int
    entries: list[Entry]


class AppendReply(msgspec.Struct, frozen=True, array_like=True):
    """`match`: the follower's log agrees with the leader's up to here, as far as *this* message showed.

    On a mismatch, `hint_index` and `hint_term` say where the follower's conflicting term begins, or where its log ends
    (`hint_term` 0) (thesis 3.5, the Raft paper's conflict optimisation).
    """

    term: int
    round: int
    success: bool
    match: int
    hint_index: int = 0
    hint_term: int = 0


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """One chunk of a snapshot (thesis 5.3), which covers the log up to and including `last_index`."""

    term: int
    round: int
    last_index: int
    last_term: int
    time: float
    offset: int
    data: bytes
    done: bool


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True):
    """`offset`: the follower has this many bytes of the snapshot that ends at `last_index`; `done`: it is installed."""

    term: int
    round: int
    last_index: int
    offset: int
    done: bool


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True):
    """Leadership transfer (thesis 3.10): campaign at once."""

    term: int


PeerMessage = VoteRequest | VoteReply | AppendEntries | AppendReply | InstallSnapshot | SnapshotReply | TimeoutNow
PEER_MESSAGES: tuple[type, ...] = (
    VoteRequest,
    VoteReply,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    SnapshotReply,
    TimeoutNow,
)
