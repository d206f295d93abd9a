"""Snapshots: taking them, cutting the log behind them, sending them to a follower that fell too far behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.core.raft import election, replication
from testbed.core.raft.events import DropEntries, SaveBase, SaveSnapshot, Snapshot
from testbed.core.raft.log import RaftLog
from testbed.core.raft.machine import UNREADABLE
from testbed.core.raft.messages import InstallSnapshot, SnapshotReply
from testbed.core.raft.progress import Progress

if TYPE_CHECKING:
    from testbed.core.raft.core import Raft


@dataclass(slots=True)
class Incoming:
    """A snapshot that arrives in chunks."""

    last_index: int
    last_term: int
    data: bytearray


def compact(raft: Raft) -> None:
    """Take a snapshot once enough was applied since the last, and cut the log but for some trailing entries.

    Both become durable in the same step, so no crash leaves a gap between them.
    """
    covered = raft.snapshot.last_index if raft.snapshot is not None else 0
    config = raft.config
    if raft.applied == covered or (
        raft.applied - covered < config.compact_entries and raft.applied_bytes < config.compact_bytes
    ):
        return
    term = raft.log.term_at(raft.applied)
    assert term is not None
    time = raft.log.entry(raft.applied).time
    raft.snapshot = Snapshot(raft.applied, term, time, raft.machine.snapshot())
    raft.effects.append(SaveSnapshot(raft.snapshot))
    raft.log_line("INFO", "snapshot taken", last=raft.applied, bytes=len(raft.snapshot.data))
    heavy = raft.applied_bytes >= config.compact_bytes
    cut = raft.applied if heavy else min(raft.applied - config.trailing_entries, _still_needed(raft))
    if cut > raft.log.base_index:
        first = raft.log.first
        raft.log.cut(cut)
        raft.applied_bytes = raft.log.command_bytes(raft.applied)
        raft.effects.append(DropEntries(first, cut))
        raft.effects.append(SaveBase(raft.log.base_index, raft.log.base_term))


def _still_needed(raft: Raft) -> int:
    """What follows on the snapshot of a live follower stays until it has caught up, or it would need another one."""
    recent = raft.now - raft.config.election_timeout
    return min(
        (
            max(progress.snapshot.last_index, progress.match)
            for progress in raft.progress.values()
            if progress.snapshot is not None and progress.contact > recent
        ),
        default=raft.applied,
    )


def send_chunk(raft: Raft, peer: str, progress: Progress) -> None:
    """The follower lacks entries that are cut away: send the next chunk of the snapshot instead.

    One that was begun is sent to its end, even if a newer one exists by then: else none would ever arrive under load.
    """
    snapshot = progress.snapshot
    if snapshot is None or snapshot.last_index <= progress.match:
        snapshot = raft.snapshot
        assert snapshot is not None, "only a snapshot cuts the log"
        progress.snapshot, progress.snapshot_offset = snapshot, 0
        raft.log_line("INFO", "sends a snapshot", to=peer, last=snapshot.last_index)
    offset = progress.snapshot_offset
    data = snapshot.data[offset : offset + raft.config.snapshot_chunk]
    done = offset + len(data) == len(snapshot.data)
    progress.in_flight = raft.round
    raft.send(
        peer,
        InstallSnapshot(
            raft.term, raft.round, snapshot.last_index, snapshot.last_term, snapshot.time, offset, data, done
        ),
    )


def install(raft: Raft, sender: str, message: InstallSnapshot) -> None:
    """Collect a chunk; with the last one, replace the state by the snapshot."""
    if message.term < raft.term:
        raft.send(sender, SnapshotReply(raft.term, 0, message.last_index, 0, False))
        return
    election.heard_leader(raft, sender, message.term)
    have, done = 0, message.last_index <= raft.commit
    if not done:
        incoming = _collect(raft, message)
        have = len(incoming.data)
        done = message.done and have == message.offset + len(message.data)
        if done and not _replace(raft, message, bytes(incoming.data)):
            have, done = 0, False
    raft.send(sender, SnapshotReply(raft.term, message.round, message.last_index, have, done))


def _collect(raft: Raft, message: InstallSnapshot) -> Incoming:
    incoming = raft.incoming
    if incoming is None or (incoming.last_index, incoming.last_term) != (message.last_index, message.last_term):
        incoming = raft.incoming = Incoming(message.last_index, message.last_term, bytearray())
    if message.offset == len(incoming.data):
        incoming.data += message.data
    return incoming


def _replace(raft: Raft, message: InstallSnapshot, data: bytes) -> bool:
    """Install: what the log holds beyond the snapshot stays if it agrees with it (thesis 5.3). False if it is none."""
    raft.incoming = None
    try:
        raft.machine.restore(data)
    except UNREADABLE as error:
        raft.log_line("WARNING", "drops a snapshot that cannot be read", last=message.last_index, error=str(error))
        return False
    raft.snapshot = Snapshot(message.last_index, message.last_term, message.time, data)
    raft.effects.append(SaveSnapshot(raft.snapshot))
    first, last = raft.log.first, raft.log.last
    if raft.log.term_at(message.last_index) == message.last_term:
        raft.log.cut(message.last_index)
        last = message.last_index
    else:
        raft.log = RaftLog(message.last_index, message.last_term)
        raft.durable = message.last_index
    if last >= first:
        raft.effects.append(DropEntries(first, last))
    raft.effects.append(SaveBase(raft.log.base_index, raft.log.base_term))
    raft.commit = raft.applied = message.last_index
    raft.applied_bytes = 0
    raft.log_line("INFO", "snapshot installed", last=message.last_index, bytes=len(data))
    return True


def installed(raft: Raft, sender: str, reply: SnapshotReply) -> None:
    """Go on with the next chunk, or with entries once the snapshot is installed."""
    if not raft.concerns_leader(reply.term):
        return
    progress = raft.progress[sender]
    progress.answered(reply.round, raft.now)
    sent = progress.snapshot.last_index if progress.snapshot is not None else 0
    if reply.done:
        progress.matches(reply.last_index)
    elif reply.last_index == sent:
        progress.snapshot_offset = reply.offset
    replication.serve_reads(raft)
