"""Linearizable reads: a round of answers that was asked for after the question, and everything older applied."""

from cores import acknowledge, answers, append, core, end, leader, put, receive, sent

from testbed.base.codec import Codec, pack, unpack
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import Raft
from testbed.core.raft.events import HEARTBEAT, TimerFired
from testbed.core.raft.messages import AppendReply, SnapshotReply
from testbed.core.services.commands import Get

CODEC = Codec(requests.REPLIES)
X = pack(Get("x"))


def ask(raft: Raft, handle: str = "read", now: float = 2.6) -> list[events.Effect]:
    """A read of x, and the end of its step."""
    return raft.step(events.QueryAsked(handle, X), now) + end(raft, now)


def values(effects: list[events.Effect]) -> list[tuple[str, object]]:
    found = [(handle, CODEC.decode(reply)) for handle, reply in answers(effects)]
    return [(handle, unpack(reply.result)) for handle, reply in found]


def ready() -> Raft:
    """A leader of term 2 whose no-op is committed."""
    raft = leader(term=2)
    acknowledge(raft, "n2", "n3")
    return raft


def test_a_read_waits_for_a_round_that_began_after_it() -> None:
    """R9, R11, thesis checklist 13."""
    raft = ready()
    before = raft.progress["n2"].sent
    assert [to for to, _ in sent(ask(raft))] == ["n2", "n3"]
    assert answers(receive(raft, "n2", AppendReply(2, before, True, 1))) == []  # of a message sent before it
    assert values(receive(raft, "n2", AppendReply(2, raft.progress["n2"].sent, True, 1))) == [("read", None)]


def test_a_round_under_way_does_not_serve_a_read_that_came_later() -> None:
    """R11: etcd#20418 reused a request for reads that arrived after it was sent."""
    raft = ready()
    ask(raft, "first")
    first = raft.progress["n2"].sent
    assert sent(ask(raft, "second")) == []  # one message in flight to each
    assert values(receive(raft, "n2", AppendReply(2, first, True, 1))) == [("first", None)]
    raft.step(events.StepEnded(), 2.7)
    assert raft.progress["n2"].sent > first
    assert values(receive(raft, "n2", AppendReply(2, raft.progress["n2"].sent, True, 1))) == [("second", None)]


def test_a_heartbeat_after_the_read_confirms_it_too() -> None:
    raft = ready()
    raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    end(raft, 2.6)
    ask(raft)
    raft.step(TimerFired(HEARTBEAT), 2.65)
    assert values(receive(raft, "n3", AppendReply(2, raft.progress["n3"].sent, True, 1))) == [("read", None)]


def test_a_read_waits_until_the_terms_noop_is_applied() -> None:
    """Thesis checklist 2 and 13: what is committed is not known before."""
    raft = leader(term=2, terms=[1])
    ask(raft)
    raft.step(TimerFired(HEARTBEAT), 2.6)
    assert answers(receive(raft, "n2", AppendReply(2, raft.progress["n2"].sent, True, 1))) == []
    assert values(acknowledge(raft, "n2")) == [("read", None)]


def test_a_majority_must_confirm() -> None:
    """R9: five nodes, two answers."""
    raft = leader(term=2, size=5)
    acknowledge(raft, "n2", "n3")
    ask(raft)
    raft.step(TimerFired(HEARTBEAT), 2.6)
    assert answers(acknowledge(raft, "n2")) == []
    assert answers(acknowledge(raft, "n2")) == []
    assert values(acknowledge(raft, "n4")) == [("read", None)]


def test_a_leader_that_was_stopped_and_deposed_serves_no_read() -> None:
    """R11: it wakes with a read in its inbox, and answers to messages that it sent before it was stopped."""
    raft = ready()
    raft.step(TimerFired(HEARTBEAT), 2.7)
    late = [AppendReply(2, raft.progress[peer].sent, True, 1) for peer in ("n2", "n3")]
    raft.step(events.QueryAsked("read", X), 60.0)
    for peer, reply in zip(("n2", "n3"), late, strict=True):
        assert answers(receive(raft, peer, reply, 60.0)) == []
    asked = sent(end(raft, 60.0))
    assert [to for to, _ in asked] == ["n2", "n3"]
    assert answers(receive(raft, "n2", AppendReply(3, 0, False, 0), 60.1)) == [("read", requests.NotLeader(None))]


def test_a_refusal_of_an_earlier_process_message_confirms_nothing() -> None:
    """R11: n1 sent round 9000 in term 2, crashed, and leads again in term 4; a follower meets the old message now.

    Whether anybody has deposed n1 since the read came is not shown by it.
    """
    follower = core(term=4, terms=[1])
    (_, refusal), *_ = sent(receive(follower, "n1", append(2, (1, 1), round_=9000)))
    raft = leader(term=4)
    acknowledge(raft, "n2", "n3")
    ask(raft)
    assert answers(receive(raft, "n2", refusal)) == []


def test_a_snapshot_chunks_answer_confirms_reads() -> None:
    raft = ready()
    ask(raft)
    assert values(receive(raft, "n2", SnapshotReply(2, raft.progress["n2"].sent, 1, 0, False))) == [("read", None)]


def test_reads_are_answered_in_the_order_of_their_questions() -> None:
    raft = ready()
    for number in range(3):
        raft.step(events.QueryAsked(f"read {number}", X), 2.6)
    end(raft, 2.6)
    assert [handle for handle, _ in values(acknowledge(raft, "n2"))] == ["read 0", "read 1", "read 2"]


def test_a_read_sees_every_write_acknowledged_before_it() -> None:
    raft = ready()
    raft.step(events.SessionAsked("open"), 2.6)
    end(raft, 2.6)
    acknowledge(raft, "n2")
    raft.step(events.Proposed("write", 2, 1, put("x", 7)), 2.6)
    end(raft, 2.6)
    assert [handle for handle, _ in answers(acknowledge(raft, "n2"))] == ["write"]
    ask(raft)
    assert values(acknowledge(raft, "n2")) == [("read", 7)]
    ask(raft, "again")
    assert values(acknowledge(raft, "n3")) == []  # the first of its answers is to what was in flight before
    end(raft, 2.6)
    assert values(acknowledge(raft, "n3")) == [("again", 7)]


def test_a_single_node_reads_without_a_round() -> None:
    raft = core(size=1)
    raft.step(TimerFired(events.ELECTION), 0.0)
    for _ in range(2):
        raft.step(events.SavesDurable(), 0.0)
    assert values(ask(raft)) == [("read", None)]
