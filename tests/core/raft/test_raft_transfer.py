"""Leadership transfer (thesis 3.10), and what a snapshot is taken for."""

from cores import core, entry, leader, put, receive, sent

from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import RaftConfig
from testbed.core.raft.messages import AppendEntries, InstallSnapshot, SnapshotReply, TimeoutNow


def test_a_leader_that_is_not_relieved_within_an_election_timeout_takes_commands_again() -> None:
    raft = leader(2)
    raft.step(events.TransferAsked(), 3.0)
    refused = raft.step(events.Proposed("early", 1, 1, put("x", 1)), 3.1)
    assert refused == [events.Answer("early", requests.NotLeader(None))]
    for peer in ("n2", "n3"):
        raft.progress[peer].contact = 4.0
    raft.step(events.TimerFired(events.HEARTBEAT), 4.05)
    taken = raft.step(events.Proposed("late", 1, 1, put("x", 1)), 4.1)
    assert [type(effect) for effect in taken] == [events.SaveEntries]


def test_a_successor_is_told_to_campaign_once_it_has_the_whole_log() -> None:
    raft = leader(2)
    raft.progress["n3"].matches(raft.log.last)
    told = raft.step(events.TransferAsked(), 3.0)
    assert [effect for effect in told if isinstance(effect, events.Send)] == [events.Send("n3", TimeoutNow(2), False)]


def test_commands_that_are_not_applied_yet_bring_about_no_snapshot() -> None:
    """Else a leader with much in flight would take a snapshot at every step."""
    config = RaftConfig(compact_bytes=1000, trailing_entries=0)
    raft = core(2, config=config)
    heavy = [entry(2, command=b"\xc1" * 300) for _ in range(10)]
    raft.step(events.Received("n2", AppendEntries(2, 1, 0, 0, 2, heavy)), 1.0)
    assert raft.snapshot is None
    raft.step(events.Received("n2", AppendEntries(2, 2, 10, 2, 4, [])), 1.1)
    assert raft.snapshot is not None
    assert raft.snapshot.last_index == 4
    raft.step(events.Received("n2", AppendEntries(2, 3, 10, 2, 5, [])), 1.2)
    assert raft.snapshot.last_index == 4


def test_a_snapshot_that_cannot_be_read_is_dropped_and_nothing_is_lost_to_it() -> None:
    raft = core(2)
    receive(raft, "n2", AppendEntries(2, 1, 0, 0, 1, [entry(2)]))
    kept = raft.machine.snapshot()
    (reply,) = sent(receive(raft, "n2", InstallSnapshot(2, 2, 9, 2, 0.0, 0, b"\xc1", True)), SnapshotReply)
    assert reply == ("n2", SnapshotReply(2, 2, 9, 0, False))
    assert (raft.commit, raft.log.last, raft.snapshot, raft.machine.snapshot()) == (1, 1, None, kept)
