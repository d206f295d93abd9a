"""Mistakes in Raft: in elections, in the log's way through the cluster, in reads and in snapshots."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from chaos.bugs.bug import Replacement, bug
from testbed.core.raft import election, replication, snapshots
from testbed.core.raft.core import Raft
from testbed.core.raft.events import HEARTBEAT, DropEntries, SaveEntries, SaveSnapshot, SetTimer, Stored
from testbed.core.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    InstallSnapshot,
    PeerMessage,
    SnapshotReply,
    VoteReply,
    VoteRequest,
)
from testbed.core.raft.progress import PendingRead, Progress

LEASE_ELECTION_TIMEOUTS = 0.5
INVARIANTS = ("raft-invariants", "cas-register")

# --- what must be durable ---


@bug("raft", source="PySyncObj#84, PR #98", caught_by=INVARIANTS)
def acks_before_sync() -> Sequence[Replacement]:
    """Every message leaves before what its step saves is durable, not only a leader's AppendEntries."""
    right = Raft.send

    def send(raft: Raft, to: str, message: PeerMessage, early: bool = True) -> None:
        right(raft, to, message, early)

    return [(Raft, "send", send)]


@bug("raft", source="PySyncObj#84, #201, PR #202", caught_by=INVARIANTS)
def forgets_vote() -> Sequence[Replacement]:
    """A node that restarts knows its term, but not for whom it voted in it."""
    right = Raft.restore

    def restore(raft: Raft, stored: Stored) -> None:
        right(raft, msgspec.structs.replace(stored, vote=None))

    return [(Raft, "restore", restore)]


@bug("raft", source="PySyncObj#84, #201, PR #202", caught_by=(*INVARIANTS, "crashes"))
def forgets_term() -> Sequence[Replacement]:
    """A node that restarts begins in term 0 again, with the log it had."""
    right = Raft.restore

    def restore(raft: Raft, stored: Stored) -> None:
        right(raft, msgspec.structs.replace(stored, term=0, vote=None))

    return [(Raft, "restore", restore)]


# --- elections ---


@bug(
    "raft",
    source="PySyncObj, __votesCount += 1; SupernaviX/oracles#18",
    caught_by=INVARIANTS,
    scenario="duplicates.toml",
)
def counts_votes_twice() -> Sequence[Replacement]:
    """Votes are counted by reply and not by voter: a repeated reply is a second vote."""
    right = election.vote_reply
    replies = count()

    def vote_reply(raft: Raft, sender: str, reply: VoteReply) -> None:
        right(raft, f"{sender}, reply {next(replies)}", reply)

    return [(election, "vote_reply", vote_reply)]


@bug("raft", source="Raft thesis 3.6.1", caught_by=(*INVARIANTS, "crashes"))
def stale_vote_log_check() -> Sequence[Replacement]:
    """A vote is granted to a candidate whose log is behind the voter's."""
    right = election.vote_request

    def vote_request(raft: Raft, sender: str, request: VoteRequest) -> None:
        term = max(request.last_term, raft.log.last_term)
        right(raft, sender, VoteRequest(request.term, request.pre, raft.log.last, term, request.transfer))

    return [(election, "vote_request", vote_request)]


@bug("raft", source="patroni#1701", caught_by=("availability", "recovery"))
def counts_itself_as_peer() -> Sequence[Replacement]:
    """The own address stands in the list of partners, too: a majority is one of a cluster that is larger by one."""

    def post_init(raft: Raft) -> None:
        cluster = (*raft.peers, raft.id, raft.id)
        raft.quorum = len(cluster) // 2 + 1

    return [(Raft, "__post_init__", post_init)]


@bug("raft", source="PySyncObj, leaderFallbackTimeout", caught_by=("raft-invariants", "availability"))
def no_check_quorum() -> Sequence[Replacement]:
    """A leader that no majority answers goes on leading, and keeps those who hear it from electing another."""

    def has_quorum(raft: Raft) -> bool:  # noqa: ARG001  # it does not look
        return True

    return [(replication, "_has_quorum", has_quorum)]


@bug("raft", source="Pyraft-Lab report, section 4", caught_by=("crashes", *INVARIANTS))
def leads_on_after_stepping_down() -> Sequence[Replacement]:
    """A leader that stepped down keeps its followers' progress and its timer, and goes on sending, in the new term."""
    right, right_timer = replication.abandon, Raft._timer

    def abandon(raft: Raft) -> None:
        followers = dict(raft.progress)
        right(raft)
        raft.progress.update(followers)

    def timer(raft: Raft, name: str) -> None:
        right_timer(raft, name)
        if name == HEARTBEAT and raft.role != "leader":
            for peer, progress in raft.progress.items():
                replication._send_append(raft, peer, progress, empty=True)
            raft.effects.append(SetTimer(HEARTBEAT, raft.config.heartbeat))

    return [(replication, "abandon", abandon), (Raft, "_timer", timer)]


@bug("raft", source="PySyncObj, message handler", caught_by=(*INVARIANTS, "crashes"), scenario="duplicates.toml")
def counts_votes_of_any_term() -> Sequence[Replacement]:
    """A candidate counts every vote that arrives, whatever term it was asked for in, and pre-votes as votes."""
    right = election.vote_reply

    def vote_reply(raft: Raft, sender: str, reply: VoteReply) -> None:
        campaign = raft.campaign
        if campaign is not None:
            reply = VoteReply(reply.term, campaign.term, campaign.pre, reply.granted)
        right(raft, sender, reply)

    return [(election, "vote_reply", vote_reply)]


@bug("raft", source="Pyraft-Lab report, section 4", caught_by=("raft-invariants",), scenario="duplicates.toml")
def timer_reset_by_stale_leader() -> Sequence[Replacement]:
    """A message of a leader of an earlier term puts off a follower's election as if it were of the present one."""
    right = replication.append_entries

    def append_entries(raft: Raft, sender: str, message: AppendEntries) -> None:
        right(raft, sender, message)
        election.reset_deadline(raft)

    return [(replication, "append_entries", append_entries)]


# --- replication ---


@bug("raft", source="PySyncObj#169; Raft thesis 3.6.2, figure 3.7", caught_by=INVARIANTS, scenario="duplicates.toml")
def commits_old_terms() -> Sequence[Replacement]:
    """A leader commits entries of earlier terms as soon as a majority has them."""

    def advance_commit(raft: Raft) -> None:
        matches = [progress.match for progress in raft.progress.values()]
        matched = replication._majority_has(raft, matches, raft.durable)
        if matched > raft.commit:
            raft.commit = matched
            replication.apply(raft)

    return [(replication, "_advance_commit", advance_commit)]


@bug("raft", source="raftos PR#30", caught_by=("availability", "recovery"))
def commit_stops_at_old_terms() -> Sequence[Replacement]:
    """The commitment loop stops at the first entry that it may not commit by counting, instead of going past it."""

    def advance_commit(raft: Raft) -> None:
        matches = [progress.match for progress in raft.progress.values()]
        matched = replication._majority_has(raft, matches, raft.durable)
        while raft.commit < matched and raft.log.term_at(raft.commit + 1) == raft.term:
            raft.commit += 1
            replication.apply(raft)

    return [(replication, "_advance_commit", advance_commit)]


@bug("raft", source="Raft thesis 3.5", caught_by=INVARIANTS)
def answers_before_commit() -> Sequence[Replacement]:
    """A leader commits what is in its own log, and answers for it, before any follower has it."""
    right = replication.saves_are_durable

    def saves_are_durable(raft: Raft) -> None:
        right(raft)
        if raft.role == "leader" and raft.durable > raft.commit:
            raft.commit = raft.durable
            replication.apply(raft)

    return [(replication, "saves_are_durable", saves_are_durable)]


@bug("raft", source="Raft thesis 10.2.1", caught_by=INVARIANTS)
def counts_itself_before_durable() -> Sequence[Replacement]:
    """A leader counts its own copy of an entry before that is durable."""
    right = replication.propose

    def propose(raft: Raft, handle: Any, session: int, serial: int, command: bytes) -> None:
        right(raft, handle, session, serial, command)
        if raft.role == "leader":
            raft.durable = raft.log.last
            replication._advance_commit(raft)

    return [(replication, "propose", propose)]


@bug("raft", source="raftos#26; PySyncObj, deleteEntriesFrom", caught_by=(*INVARIANTS, "crashes"))
def truncates_always() -> Sequence[Replacement]:
    """A follower drops all entries behind those of an AppendEntries, even if nothing in it conflicts with them."""

    def take_over(raft: Raft, previous: int, entries: list[Entry]) -> None:
        if raft.log.last > previous:
            raft.effects.append(DropEntries(previous + 1, raft.log.last))
            raft.log.truncate(previous + 1)
            raft.durable = min(raft.durable, previous)
        for entry in entries:
            raft.log.append(entry)
        if entries:
            raft.effects.append(SaveEntries(previous + 1, entries))

    return [(replication, "_take_over", take_over)]


@bug("raft", source="Raft thesis 3.5", caught_by=(*INVARIANTS, "crashes"))
def match_beyond_message() -> Sequence[Replacement]:
    """A follower acknowledges all of its log, and not what the message has shown to agree with the leader's."""
    right = Raft.send

    def send(raft: Raft, to: str, message: PeerMessage, early: bool = False) -> None:
        if isinstance(message, AppendReply) and message.success:
            message = AppendReply(message.term, message.round, True, raft.log.last)
        right(raft, to, message, early)

    return [(Raft, "send", send)]


@bug("raft", source="Raft thesis 3.5", caught_by=(*INVARIANTS, "crashes"))
def commits_beyond_message() -> Sequence[Replacement]:
    """A follower commits up to the leader's commit index whatever stands there in its own log."""
    right = replication.append_entries

    def append_entries(raft: Raft, sender: str, message: AppendEntries) -> None:
        right(raft, sender, message)
        if raft.leader == sender and message.term == raft.term:
            raft.commit = max(raft.commit, min(message.commit, raft.log.last))
            replication.apply(raft)

    return [(replication, "append_entries", append_entries)]


@bug("raft", source="PySyncObj#166", caught_by=("raft-invariants",))
def commit_goes_back() -> Sequence[Replacement]:
    """A follower takes over the commit index of a new leader even if that knows of less than it does itself."""
    right = replication.append_entries

    def append_entries(raft: Raft, sender: str, message: AppendEntries) -> None:
        right(raft, sender, message)
        if raft.leader == sender and message.term == raft.term:
            raft.commit = min(raft.commit, message.commit)

    return [(replication, "append_entries", append_entries)]


@bug("raft", source="PySyncObj#167, raftos#25", caught_by=("raft-invariants",))
def match_goes_back() -> Sequence[Replacement]:
    """A late or repeated answer of a follower moves its match index back."""

    def matches(progress: Progress, index: int) -> None:
        progress.match = index
        progress.next = max(progress.next, index + 1)

    return [(Progress, "matches", matches)]


# --- reads ---


@bug("raft", source="PySyncObj, leaderFallbackTimeout", caught_by=("cas-register",), scenario="stale_reads.toml")
def reads_locally() -> Sequence[Replacement]:
    """Whoever believes to lead answers a read at once, from its own state."""

    def read(raft: Raft, handle: Any, query: bytes) -> None:
        local = raft.role == "leader"
        raft.answer(handle, raft.machine.service.query(query) if local else raft.not_leader())

    return [(replication, "read", read)]


@bug("raft", source="Raft thesis 6.4.1", caught_by=("cas-register",), scenario="stale_reads.toml")
def reads_on_lease() -> Sequence[Replacement]:
    """A leader answers reads from its own state on a lease, and looks only at its heartbeats whether that has expired.

    A pause lies between the two looks: the lease ends in it, and the first thing that the leader does is to read.
    """
    right, right_heartbeat = replication.read, replication.heartbeat

    def heartbeat(raft: Raft) -> None:
        right_heartbeat(raft)
        contacts = sorted([raft.now, *(progress.contact for progress in raft.progress.values())], reverse=True)
        lease = LEASE_ELECTION_TIMEOUTS * raft.config.election_timeout
        leads = raft.role == "leader"
        vars(raft)["leased"] = leads and raft.now < contacts[raft.quorum - 1] + lease

    def read(raft: Raft, handle: Any, query: bytes) -> None:
        if raft.role == "leader" and vars(raft).get("leased") and raft.applied >= raft.term_start:
            raft.answer(handle, raft.machine.service.query(query))
        else:
            right(raft, handle, query)

    return [(replication, "heartbeat", heartbeat), (replication, "read", read)]


@bug("raft", source="etcd#20418", caught_by=("cas-register",), scenario="stale_reads.toml")
def reuses_read_round() -> Sequence[Replacement]:
    """A read is confirmed by the round of messages that was under way, or answered already, when it arrived."""

    def read(raft: Raft, handle: Any, query: bytes) -> None:
        if raft.role != "leader":
            raft.answer(handle, raft.not_leader())
            return
        acked = [progress.acked for progress in raft.progress.values()]
        under_way = replication._majority_has(raft, acked, raft.round)
        raft.reads.append(PendingRead(handle, query, under_way, max(raft.commit, raft.term_start)))
        replication.serve_reads(raft)

    return [(replication, "read", read)]


@bug("raft", source="Raft thesis 6.4, step 1", caught_by=("cas-register",), scenario="lagging_voter.toml")
def reads_before_noop() -> Sequence[Replacement]:
    """A new leader answers reads as of its commit index before the no-op of its term has told it what is committed."""

    def read(raft: Raft, handle: Any, query: bytes) -> None:
        if raft.role != "leader":
            raft.answer(handle, raft.not_leader())
        else:
            raft.reads.append(PendingRead(handle, query, raft.round + 1, raft.commit))

    return [(replication, "read", read)]


# --- snapshots ---


@bug("raft", source="RedisRaft#43", caught_by=("crashes",))
def snapshot_gap() -> Sequence[Replacement]:
    """The log is cut, and the snapshot that covers what was cut is not saved."""
    right = snapshots.compact

    def compact(raft: Raft) -> None:
        right(raft)
        raft.effects[:] = [effect for effect in raft.effects if not isinstance(effect, SaveSnapshot)]

    return [(snapshots, "compact", compact)]


@bug("raft", source="Raft thesis 5.3", caught_by=(*INVARIANTS, "crashes"), scenario="duplicates.toml")
def snapshot_goes_back() -> Sequence[Replacement]:
    """A follower installs a late copy of a snapshot over a state that is newer."""

    def install(raft: Raft, sender: str, message: InstallSnapshot) -> None:
        if message.term < raft.term:
            raft.send(sender, SnapshotReply(raft.term, 0, message.last_index, 0, False))
            return
        election.heard_leader(raft, sender, message.term)
        incoming = snapshots._collect(raft, message)
        have = len(incoming.data)
        done = message.done and have == message.offset + len(message.data)
        if done and not snapshots._replace(raft, message, bytes(incoming.data)):
            have, done = 0, False
        raft.send(sender, SnapshotReply(raft.term, message.round, message.last_index, have, done))

    return [(snapshots, "install", install)]
