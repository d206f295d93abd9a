"""One Raft node, sans-I/O: its state, its one door, and the change of roles.

`Raft.step` takes an event and the time and returns effects. What it decides is in the modules beside this one:
`election` (votes, pre-votes, transfer), `replication` (log, commit, reads), `snapshots`. It knows no transport, no disk
and no clock; randomness is passed in.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, assert_never

from testbed.base import limits
from testbed.base.rand import Random
from testbed.core import requests
from testbed.core.raft import election, replication, snapshots, waiting
from testbed.core.raft.events import (
    ELECTION,
    HEARTBEAT,
    LEASES,
    Answer,
    Effect,
    Event,
    Logged,
    PeerClosed,
    PeerConnected,
    Proposed,
    QueryAsked,
    Received,
    SaveEntries,
    SavesDurable,
    SaveVote,
    Send,
    SessionAsked,
    SetTimer,
    Snapshot,
    Started,
    StepEnded,
    Stored,
    TimerFired,
    TransferAsked,
)
from testbed.core.raft.log import RaftLog
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    InstallSnapshot,
    PeerMessage,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from testbed.core.raft.progress import PendingRead, Progress

Role = Literal["follower", "candidate", "leader"]


@dataclass(frozen=True)
class RaftConfig:
    """Seconds. An election timeout is drawn from [`election_timeout`, 2 x `election_timeout`) each time (thesis 3.4).

    `compact_entries`: applied entries behind which a snapshot is taken; `trailing_entries` are kept in the log then.
    """

    heartbeat: float = 0.1
    election_timeout: float = 1.0
    compact_entries: int = limits.LOG_COMPACT_ENTRIES
    compact_bytes: int = limits.LOG_COMPACT_BYTES
    trailing_entries: int = limits.LOG_TRAILING_ENTRIES
    snapshot_chunk: int = limits.SNAPSHOT_CHUNK_BYTES


@dataclass
class Raft:
    """The whole state of one node. Only the modules of this package change it."""

    id: str
    peers: tuple[str, ...]
    config: RaftConfig
    random: Random
    machine: ReplicatedState

    # durable: term and vote, log, snapshot
    term: int = 0
    vote: str | None = None
    log: RaftLog = field(default_factory=RaftLog)
    snapshot: Snapshot | None = None

    commit: int = 0
    applied_bytes: int = 0  # of commands that are applied and still in the log
    applied: int = 0
    durable: int = 0  # last index that is durable here; a leader counts itself up to this
    role: Role = "follower"
    leader: str | None = None
    leader_contact: float = float("-inf")
    now: float = 0.0

    # elections
    election_timeout: float = 0.0  # as drawn last, in seconds
    election_deadline: float = 0.0
    campaign: election.Campaign | None = None
    connected: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    hurried: int = 0  # campaigns still to be tried without waiting out the election timeout

    # leadership
    progress: dict[str, Progress] = field(default_factory=dict)
    round: int = 0
    term_start: int = 0  # index of the no-op of this leader's term
    pending: dict[int, Any] = field(default_factory=dict)  # index -> handle of who waits for it
    uncommitted_bytes: int = 0  # of commands proposed in this term
    reads: list[PendingRead] = field(default_factory=list)
    held: dict[int, waiting.Held] = field(default_factory=dict)  # session -> its request that waits for an answer
    alarm: float = inf  # log time for which the timer LEASES is set
    told_time: int = 0  # index of the last entry that says what time it is
    clock_base: float = 0.0  # log time minus local time, while leader
    clock_floor: float = 0.0  # log time at the election: rounding must not go behind it
    transfer_to: str | None = None
    transfer_until: float = 0.0

    incoming: snapshots.Incoming | None = None
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.id not in self.peers, "a node is not its own peer"  # patroni#1701: the quorum would be wrong
        self.quorum = (len(self.peers) + 1) // 2 + 1

    def restore(self, stored: Stored) -> None:
        """Take up what an earlier process of this node had made durable."""
        self.term, self.vote, self.snapshot = stored.term, stored.vote, stored.snapshot
        if stored.snapshot is not None:
            self.machine.restore(stored.snapshot.data)
            self.commit = self.applied = stored.snapshot.last_index
        self.log = RaftLog(stored.base_index, stored.base_term, list(stored.entries))
        assert self.log.base_index <= self.applied, "the snapshot and the log leave a gap"
        assert self.log.last >= self.applied, "the log ends before its snapshot"
        self.durable = self.log.last
        self.applied_bytes = self.log.command_bytes(self.applied)

    # --- the one door ---

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take one event at `now` (seconds, monotonic). The effects belong together: saves first, then sends."""
        self.now = now
        self.effects = []
        match event:
            case Proposed():
                replication.propose(self, event.handle, event.session, event.serial, event.command)
            case Received():
                self._received(event.sender, event.message)
            case QueryAsked():
                replication.read(self, event.handle, event.query)
            case StepEnded():
                replication.flush(self)
            case SavesDurable():
                replication.saves_are_durable(self)
            case SessionAsked():
                replication.propose(self, event.handle, 0, 0, b"open")
            case TimerFired():
                self._timer(event.name)
            case PeerConnected():
                election.peer_connected(self, event.peer)
            case PeerClosed():
                election.peer_closed(self, event.peer)
            case TransferAsked():
                election.transfer(self)
            case Started():
                election.started(self)
            case _:
                assert_never(event)
        return self.effects

    def _received(self, sender: str, message: PeerMessage) -> None:
        match message:
            case AppendEntries():
                replication.append_entries(self, sender, message)
            case AppendReply():
                replication.append_reply(self, sender, message)
            case VoteRequest():
                election.vote_request(self, sender, message)
            case VoteReply():
                election.vote_reply(self, sender, message)
            case InstallSnapshot():
                snapshots.install(self, sender, message)
            case SnapshotReply():
                snapshots.installed(self, sender, message)
            case TimeoutNow():
                election.timeout_now(self, message)
            case _:
                assert_never(message)

    def _timer(self, name: str) -> None:
        if name == ELECTION:
            election.election_timer(self)
        elif name == HEARTBEAT and self.role == "leader":
            replication.heartbeat(self)
        elif name == LEASES and self.role == "leader":
            waiting.tell_time(self)

    # --- roles ---

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow in `term`. A leader that steps down tells those who wait that their commands may yet commit."""
        assert term >= self.term, "terms never go back"
        if self.role != "follower":
            self.log_line("INFO", f"{self.role} steps down", term=term, leader=leader)
        if term > self.term:
            self.term, self.vote = term, None
            self.effects.append(SaveVote(term, None))
        was_leader = self.role == "leader"
        self.role, self.leader, self.campaign = "follower", leader, None
        if was_leader:
            self.transfer_to = None
            replication.abandon(self)
            election.draw_timeout(self)
            election.set_timer(self)

    def become_leader(self) -> None:
        """Lead in the present term, from a no-op on: nothing older is committed by counting (thesis 3.6.2, 6.4)."""
        self.role, self.leader, self.campaign = "leader", self.id, None
        self.hurried = 0
        self.reads.clear()
        self.uncommitted_bytes = 0
        self.alarm, self.told_time = inf, 0
        self.progress = {peer: Progress(next=self.log.last + 1, contact=self.now) for peer in self.peers}
        last_time = self.log.entry(self.log.last).time if self.log.last > self.log.base_index else self.base_time()
        self.clock_base, self.clock_floor = last_time - self.now, last_time
        self.log_line("INFO", "elected", term=self.term, last=self.log.last)
        self.append(Entry(self.term, self.log_time(), 0, 0, b""))
        self.term_start = self.log.last
        self.effects.append(SetTimer(HEARTBEAT, 0.0))

    def concerns_leader(self, term: int) -> bool:
        """Whether an answer of `term` is for this leader in its present term. A higher term deposes it."""
        if term > self.term:
            self.become_follower(term, None)
        return self.role == "leader" and term == self.term

    # --- small things that all modules use ---

    def send(self, to: str, message: PeerMessage, early: bool = False) -> None:
        """Ask for a message to be sent; `early` if it may leave before this step's saves."""
        self.effects.append(Send(to, message, early))

    def answer(self, handle: Any, reply: Any) -> None:
        """Ask for a client's request to be answered."""
        self.effects.append(Answer(handle, reply))

    def log_line(self, level: str, text: str, **fields: Any) -> None:
        """Ask for a line in the node's log."""
        self.effects.append(Logged(level, text, fields))

    def append(self, entry: Entry) -> int:
        """Append to the own log, durable with this step."""
        index = self.log.append(entry)
        self.effects.append(SaveEntries(index, [entry]))
        return index

    def log_time(self) -> float:
        """Log time now, as a leader stamps it: goes on from the last entry by the leader's monotonic clock."""
        return max(self.clock_floor, self.clock_base + self.now)

    def base_time(self) -> float:
        """Log time of what the snapshot covers."""
        return self.snapshot.time if self.snapshot is not None else 0.0

    def not_leader(self) -> requests.NotLeader:
        """Where a client should turn instead."""
        return requests.NotLeader(self.leader if self.leader != self.id else None)
