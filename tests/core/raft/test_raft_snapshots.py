"""Snapshots: what is cut, what is sent, what is kept - and that no crash leaves a gap."""

from cores import acknowledge, answers, append, core, end, entries, leader, log_terms, put, receive, sent
from harness import Disk

from testbed.core.raft import events
from testbed.core.raft.core import Raft, RaftConfig
from testbed.core.raft.events import (
    HEARTBEAT,
    DropEntries,
    SaveBase,
    SaveEntries,
    SaveSnapshot,
    Send,
    Snapshot,
    TimerFired,
)
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import AppendEntries, InstallSnapshot, SnapshotReply
from testbed.core.services.machine import Services

SMALL = RaftConfig(compact_entries=4, trailing_entries=2, snapshot_chunk=2)
EMPTY = ReplicatedState(Services()).snapshot()


def chunks(term: int, last: tuple[int, int], size: int = 2, data: bytes = EMPTY) -> list[InstallSnapshot]:
    """A whole snapshot up to `last` (index, term), as a leader of `term` sends it."""
    starts = range(0, len(data), size)
    return [
        InstallSnapshot(term, 1 + n, *last, 0.0, start, data[start : start + size], start + size >= len(data))
        for n, start in enumerate(starts)
    ]


def install(raft: Raft, messages: list[InstallSnapshot]) -> list[events.Effect]:
    """The effects of the last of them."""
    effects: list[events.Effect] = []
    for message in messages:
        effects = receive(raft, "n2", message)
    return effects


def test_enough_applied_entries_make_a_snapshot_and_cut_the_log_in_the_same_step() -> None:
    """R17: all of it is saved in one transaction; some entries stay behind it."""
    raft = core(term=1, config=SMALL)
    effects = receive(raft, "n2", append(1, (0, 0), [1, 1, 1, 1, 1], commit=5))
    snapshot = Snapshot(5, 1, 0.0, raft.machine.snapshot())
    assert effects[:4] == [
        SaveEntries(1, entries(1, 1, 1, 1, 1)),
        SaveSnapshot(snapshot),
        DropEntries(1, 3),
        SaveBase(3, 1),
    ]
    assert (raft.log.first, raft.log.last, log_terms(raft)) == (4, 5, [1, 1])


def test_a_restart_goes_on_behind_the_snapshot() -> None:
    """R17, thesis checklist 4 and 19: what is on the disk after any step can be taken up."""
    raft, disk = core(term=1, config=SMALL), Disk()
    for number in range(40):
        disk.carry_out(receive(raft, "n2", append(1, (number, 1 if number else 0), [1], commit=number)))
        stored = disk.stored()
        after = Raft("n1", raft.peers, SMALL, raft.random, ReplicatedState(Services()))
        after.restore(stored)
        covered = stored.snapshot.last_index if stored.snapshot is not None else 0
        assert (after.applied, after.commit, after.log.last) == (covered, covered, number + 1)
    assert disk.base[0] > 30


def test_a_follower_too_far_behind_is_sent_the_snapshot_chunk_by_chunk() -> None:
    """Thesis 5.3, checklist 19."""
    raft = leader(term=2, terms=[1] * 6, config=SMALL)
    acknowledge(raft, "n2")
    end(raft, 2.6)
    assert raft.snapshot is not None
    lagging = core(config=SMALL)
    lagging.id = "n3"
    seen = []
    now = 2.6
    while raft.progress["n3"].match < raft.log.last:
        now += 0.2
        assert now < 10.0, "no progress"
        for to, message in sent(raft.step(TimerFired(HEARTBEAT), now) + raft.step(events.StepEnded(), now)):
            if to != "n3":
                continue
            seen.append(type(message))
            for _, reply in sent(receive(lagging, "n1", message, now)):
                receive(raft, "n3", reply, now)
                acknowledge(raft, "n2", now=now)
    assert seen.count(InstallSnapshot) == -(-len(raft.snapshot.data) // 2)
    assert seen[0] is AppendEntries  # it was asked for the end of the log at first
    assert (lagging.snapshot, lagging.applied) == (raft.snapshot, raft.commit)


def test_a_snapshot_replaces_a_log_that_it_does_not_fit() -> None:
    """Thesis checklist 19."""
    raft = core(term=3, terms=[1, 2, 2, 2, 2])
    assert install(raft, chunks(3, (4, 3))) == [
        SaveSnapshot(Snapshot(4, 3, 0.0, EMPTY)),
        DropEntries(1, 5),
        SaveBase(4, 3),
        Send("n2", SnapshotReply(3, len(chunks(3, (4, 3))), 4, len(EMPTY), True), early=False),
    ]
    assert (raft.log.base_index, raft.log.base_term, raft.log.last) == (4, 3, 4)
    assert (raft.commit, raft.applied, raft.durable) == (4, 4, 4)


def test_a_snapshot_keeps_a_log_that_goes_on_behind_it() -> None:
    """Thesis checklist 19: what was acknowledged stays."""
    raft = core(term=3, terms=[1, 2, 2, 2, 3])
    effects = install(raft, chunks(3, (3, 2)))
    assert effects[:3] == [SaveSnapshot(Snapshot(3, 2, 0.0, EMPTY)), DropEntries(1, 3), SaveBase(3, 2)]
    assert (raft.log.first, log_terms(raft), raft.commit) == (4, [2, 3], 3)


def test_a_snapshot_of_what_is_committed_already_changes_nothing() -> None:
    raft = core(term=3, terms=[1, 2, 2])
    receive(raft, "n2", append(3, (3, 2), commit=3))
    assert install(raft, chunks(3, (2, 2))) == [
        Send("n2", SnapshotReply(3, len(chunks(3, (2, 2))), 2, 0, True), early=False)
    ]
    assert log_terms(raft) == [1, 2, 2]


def test_chunks_may_be_repeated_and_come_out_of_order() -> None:
    raft = core(term=3)
    parts = chunks(3, (9, 3), size=len(EMPTY) - 1)
    assert len(parts) == 2
    replies = [
        sent(receive(raft, "n2", part))[0][1].offset for part in (parts[-1], parts[0], parts[0], parts[-1], parts[0])
    ]
    assert replies == [
        0,
        len(EMPTY) - 1,
        len(EMPTY) - 1,
        len(EMPTY),
        0,
    ]  # the last one repeats what is installed already
    assert raft.applied == 9


def test_a_chunk_of_an_old_leader_is_refused_without_its_round() -> None:
    """R11."""
    raft = core(term=4)
    message = chunks(3, (9, 3))[0]
    assert receive(raft, "n2", message) == [Send("n2", SnapshotReply(4, 0, 9, 0, False), early=False)]


def test_another_snapshot_begins_from_its_first_chunk() -> None:
    raft = core(term=3)
    receive(raft, "n2", chunks(3, (9, 3), size=4)[0])
    (_, reply), *_ = sent(receive(raft, "n2", chunks(3, (10, 3), size=4)[1]))
    assert (reply.last_index, reply.offset, reply.done) == (10, 0, False)


def test_a_snapshot_that_was_begun_is_sent_to_its_end_under_load() -> None:
    """A leader that takes snapshots faster than it sends one must not begin anew each time, nor cut what follows."""
    raft = leader(term=2, terms=[1] * 6, config=SMALL)
    acknowledge(raft, "n2")
    lagging = core(config=SMALL)
    lagging.id = "n3"
    taken = {raft.snapshot}
    snapshots = set()
    for _ in range(20):
        raft.step(events.SessionAsked("x"), 2.6)
    now = 2.6
    while raft.progress["n3"].match < raft.log.last - 20:  # an append brings all that is there
        now += 0.01
        assert now < 6.0, ("no progress", raft.progress["n3"])
        for _ in range(5):
            raft.step(events.SessionAsked("x"), now)
        for to, message in sent(raft.step(TimerFired(HEARTBEAT), now) + end(raft, now)):
            if to == "n3":
                snapshots.add(getattr(message, "last_index", None))
                for _, reply in sent(receive(lagging, "n1", message, now)):
                    receive(raft, "n3", reply, now)
        acknowledge(raft, "n2", now=now)
        taken.add(raft.snapshot)
    assert len(taken) > 3
    assert len(snapshots - {None}) == 1


def test_a_dead_follower_does_not_keep_the_log_from_being_cut() -> None:
    raft = leader(term=2, terms=[1] * 6, config=SMALL)
    acknowledge(raft, "n2")
    raft.step(TimerFired(HEARTBEAT), 2.75)
    receive(raft, "n3", SnapshotReply(2, raft.progress["n3"].sent, 0, 0, False), 2.75)
    raft.progress["n3"].next = 1
    raft.step(events.StepEnded(), 2.75)
    assert raft.progress["n3"].snapshot is not None
    for turn in range(40):
        now = 2.8 + turn * 0.1
        raft.step(events.SessionAsked("x"), now)
        end(raft, now)
        acknowledge(raft, "n2", now=now)
    assert raft.log.last - raft.log.first < 10


def test_sessions_travel_with_the_snapshot() -> None:
    """R13, thesis checklist 12 and 19: a retry that arrives after a restore is answered, not carried out again."""
    raft = leader(term=2)
    raft.step(events.SessionAsked("open"), 2.6)
    end(raft, 2.6)
    acknowledge(raft, "n2")
    raft.step(events.Proposed("write", 2, 1, put("x", 1)), 2.6)
    end(raft, 2.6)
    (_, first), *_ = answers(acknowledge(raft, "n2"))
    other = leader(
        term=2,
        terms=[1, 1, 1],
        snapshot=Snapshot(3, 1, 0.0, raft.machine.snapshot()),
        base_index=3,
        base_term=1,
        log=[],
    )
    other.step(events.Proposed("retry", 2, 1, put("x", 1)), 2.6)
    end(other, 2.6)
    assert answers(acknowledge(other, "n3")) == [("retry", first)]
