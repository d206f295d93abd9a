"""The log's way through the cluster: proposals, AppendEntries, commitment, reads, check-quorum.

Decides what is replicated, committed and answered. It never looks into commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.base import limits
from testbed.core import requests
from testbed.core.raft import election, snapshots, waiting
from testbed.core.raft.events import HEARTBEAT, DropEntries, SaveEntries, SetTimer
from testbed.core.raft.messages import AppendEntries, AppendReply, Entry
from testbed.core.raft.progress import PendingRead, Progress

if TYPE_CHECKING:
    from testbed.core.raft.core import Raft

RESEND_AFTER_HEARTBEATS = 2  # entries unanswered for so long are sent again: the transport lost them or their answer


# --- clients ---


def propose(raft: Raft, handle: Any, session: int, serial: int, command: bytes) -> None:
    """Append a client's command, or say at once that it was not."""
    if raft.role != "leader" or raft.transfer_to is not None:
        raft.answer(handle, raft.not_leader())
    elif session in raft.machine.waiting and raft.machine.waiting[session].serial == serial:
        waiting.hold(raft, session, serial, handle)
    elif (
        raft.log.last - raft.commit >= limits.LOG_UNCOMMITTED_MAX
        or raft.uncommitted_bytes >= limits.LOG_UNCOMMITTED_BYTES_MAX
    ):
        raft.answer(handle, requests.Busy())
    else:
        index = raft.append(Entry(raft.term, raft.log_time(), session, serial, command))
        raft.pending[index] = handle
        raft.uncommitted_bytes += len(command)


def read(raft: Raft, handle: Any, query: bytes) -> None:
    """Read index (thesis 6.4): the answer waits for a round of messages that is sent after the question arrived."""
    if raft.role != "leader":
        raft.answer(handle, raft.not_leader())
    elif len(raft.reads) >= limits.READS_PENDING_MAX:
        raft.answer(handle, requests.Busy())
    else:
        index = max(raft.commit, raft.term_start)  # what is committed is known only once the term's no-op is
        raft.reads.append(PendingRead(handle, query, raft.round + 1, index))


def serve_reads(raft: Raft) -> None:
    """Answer the reads whose round a majority has answered."""
    if not raft.reads:
        return
    confirmed = _majority_has(raft, [peer.acked for peer in raft.progress.values()], raft.round + 1)
    served = 0
    for pending in raft.reads:
        if pending.round > confirmed or pending.index > raft.applied:
            break
        raft.answer(pending.handle, raft.machine.service.query(pending.query))
        served += 1
    del raft.reads[:served]


def abandon(raft: Raft) -> None:
    """No longer leader: what is in the log may yet commit, so nobody can say; reads had no effect."""
    for handle in raft.pending.values():
        raft.answer(handle, requests.Lost())
    raft.pending.clear()
    for pending in raft.reads:
        raft.answer(pending.handle, raft.not_leader())
    raft.reads.clear()
    raft.progress.clear()
    waiting.abandon(raft)


# --- leader ---


def heartbeat(raft: Raft) -> None:
    """Every heartbeat interval: step down without a majority, else remind the followers who leads."""
    if not _has_quorum(raft):
        raft.become_follower(raft.term, None)
        return
    for peer, progress in raft.progress.items():
        if progress.in_flight and raft.now - progress.sent_at >= RESEND_AFTER_HEARTBEATS * raft.config.heartbeat:
            progress.in_flight = 0
        _send_append(raft, peer, progress, empty=progress.in_flight > 0)
    election.give_up_transfer(raft)
    election.transfer_if_ready(raft)
    waiting.look_after(raft)
    raft.effects.append(SetTimer(HEARTBEAT, raft.config.heartbeat))


def _has_quorum(raft: Raft) -> bool:
    """Check-quorum: a majority answered within an election timeout (thesis 6.2)."""
    oldest = raft.now - raft.config.election_timeout
    return 1 + sum(progress.contact > oldest for progress in raft.progress.values()) >= raft.quorum


def flush(raft: Raft) -> None:
    """The step's events were all given: send each follower what it lacks, one message in flight to each."""
    if raft.role != "leader":
        return
    waiting.set_alarm(raft)
    if not raft.peers:
        serve_reads(raft)
        return
    reading = raft.reads[-1].round if raft.reads else 0
    for peer, progress in raft.progress.items():
        if not progress.in_flight and (progress.next <= raft.log.last or progress.sent < reading):
            _send_append(raft, peer, progress)


def _send_append(raft: Raft, peer: str, progress: Progress, empty: bool = False) -> None:
    previous = progress.next - 1
    previous_term = raft.log.term_at(previous)
    raft.round += 1
    progress.sent = raft.round
    progress.sent_at = raft.now if not empty else progress.sent_at
    if previous_term is None and not empty:
        snapshots.send_chunk(raft, peer, progress)
        return
    if previous_term is None:  # a bare heartbeat while a snapshot is on its way: about what is known to match
        previous, previous_term = 0, 0
    entries = []
    if not empty:
        entries = raft.log.read(progress.next, limits.APPEND_ENTRIES_MAX, limits.APPEND_BYTES_MAX)
        progress.in_flight = raft.round
    raft.send(peer, AppendEntries(raft.term, raft.round, previous, previous_term, raft.commit, entries), early=True)


def append_reply(raft: Raft, sender: str, reply: AppendReply) -> None:
    """Move a follower's match forward (never back: replies may be late or repeated), then the commit index."""
    if not raft.concerns_leader(reply.term):
        return
    progress = raft.progress[sender]
    progress.answered(reply.round, raft.now)
    if reply.success:
        progress.matches(reply.match)
        if progress.match + raft.config.trailing_entries >= raft.log.last:
            progress.snapshot = None
        _advance_commit(raft)
    else:
        progress.conflicts(reply.round, _next_after_conflict(raft, reply), raft.round)
    serve_reads(raft)
    if raft.transfer_to == sender:
        election.transfer_if_ready(raft)


def _next_after_conflict(raft: Raft, reply: AppendReply) -> int:
    """Skip a whole conflicting term at a time (thesis 3.5)."""
    if reply.hint_term:
        shared = raft.log.last_of_term(reply.hint_term)
        if shared is not None:
            return shared + 1
    return reply.hint_index


def _majority_has(raft: Raft, followers: list[int], own: int) -> int:
    """The highest number that a majority of the cluster has reached."""
    return sorted([*followers, own], reverse=True)[raft.quorum - 1]


def _advance_commit(raft: Raft) -> None:
    """Commit by counting, entries of the own term only (thesis 3.6.2, figure 3.7); the own copy counts once durable."""
    matched = _majority_has(raft, [progress.match for progress in raft.progress.values()], raft.durable)
    if matched > raft.commit and raft.log.term_at(matched) == raft.term:
        raft.commit = matched
        apply(raft)


def saves_are_durable(raft: Raft) -> None:
    """The own log is durable up to its end; alone, that is a majority."""
    raft.durable = raft.log.last
    election.own_vote_is_durable(raft)
    if raft.role == "leader" and not raft.peers:
        _advance_commit(raft)
        serve_reads(raft)


# --- follower ---


def append_entries(raft: Raft, sender: str, message: AppendEntries) -> None:
    """Take over what the leader sent, if it fits. Idempotent: only a real conflict truncates."""
    if message.term < raft.term:  # no round: it may be of an earlier process of the present leader
        raft.send(sender, AppendReply(raft.term, 0, False, 0))
        return
    election.heard_leader(raft, sender, message.term)
    previous, entries = message.previous_index, message.entries
    if previous < raft.log.base_index:  # the snapshot covers the first of them, and what it covers is committed
        entries = entries[raft.log.base_index - previous :]
        previous = raft.log.base_index
    elif raft.log.term_at(previous) != message.previous_term:
        raft.send(sender, _mismatch(raft, message))
        return
    _take_over(raft, previous, entries)
    match = message.previous_index + len(message.entries)
    if message.commit > raft.commit:
        commit = min(message.commit, match)
        if commit > raft.commit:
            raft.commit = commit
            apply(raft)
    raft.send(sender, AppendReply(raft.term, message.round, True, match))


def _mismatch(raft: Raft, message: AppendEntries) -> AppendReply:
    index = message.previous_index
    if index > raft.log.last:
        return AppendReply(raft.term, message.round, False, 0, raft.log.last + 1, 0)
    term = raft.log.term_at(index)
    assert term is not None
    return AppendReply(raft.term, message.round, False, 0, raft.log.first_of_term(index), term)


def _take_over(raft: Raft, previous: int, entries: list[Entry]) -> None:
    index = previous
    for position, entry in enumerate(entries):
        index = previous + 1 + position
        known = raft.log.term_at(index)
        if known == entry.term:
            continue
        if known is not None:
            assert index > raft.commit, "a committed entry would be truncated"
            raft.log_line("INFO", "truncates its log", first=index, last=raft.log.last)
            raft.effects.append(DropEntries(index, raft.log.last))
            raft.log.truncate(index)
            raft.durable = min(raft.durable, index - 1)
        fresh = entries[position:]
        for new in fresh:
            raft.log.append(new)
        raft.effects.append(SaveEntries(index, fresh))
        return


# --- both ---


def apply(raft: Raft) -> None:
    """Apply what is committed, in order, and answer whoever waits."""
    while raft.applied < raft.commit:
        raft.applied += 1
        index = raft.applied
        entry = raft.log.entry(index)
        result = raft.machine.apply(entry, index)
        raft.applied_bytes += len(entry.command)
        handle = raft.pending.pop(index, None) if raft.pending else None
        if raft.role == "leader":
            for session, serial, answer in result.answered:
                waiting.answer(raft, session, serial, answer)
        if handle is None:
            continue
        raft.uncommitted_bytes -= len(entry.command)
        if result.waits:
            waiting.hold(raft, entry.session, entry.serial, handle)
        elif result.answer is not None:
            raft.answer(handle, result.answer)
        elif result.opened is not None:
            raft.answer(handle, requests.Opened(result.opened))
        elif result.expired:
            raft.answer(handle, requests.Expired())
        else:
            raft.answer(handle, requests.Lost())
    snapshots.compact(raft)
