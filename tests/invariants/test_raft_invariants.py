"""Each invariant of Raft holds in a healthy cluster, and is seen broken where a node's state is corrupted by hand."""

from collections.abc import Callable

import msgspec
import pytest
from by_hand import ELECTION_TIMEOUT, NODES, ByHand, working

from chaos.invariants import SOMETIMES
from chaos.invariants import raft as watching
from chaos.invariants.raft import RAFT_INVARIANTS
from testbed.core.raft import election, replication
from testbed.core.raft.events import Snapshot
from testbed.core.raft.messages import Entry, VoteReply
from testbed.node import Node, Outbox
from testbed.service import VOTE_KEY, log_key


def test_a_healthy_cluster_breaks_nothing_and_reaches_what_it_should() -> None:
    cluster = ByHand(snapshot_entries=5, trailing_entries=1)
    session = cluster.open()
    behind = cluster.follower
    cluster.end(behind)
    for serial in range(1, 20):
        cluster.put(session, serial, serial)
    cluster.start(behind)
    cluster.run(2.0)
    cluster.end(cluster.leader)
    cluster.run(0.5)
    for serial in range(20, 25):
        cluster.put(session, serial, serial)
    for node in NODES:
        if node not in cluster.hosts:
            cluster.start(node)
    old = cluster.leader
    cluster.isolate(old)
    cluster.ask(old, "a request that nobody knows")
    cluster.run(5.0)
    cluster.heal()
    cluster.run(15.0)
    assert cluster.broken == []
    assert len({cluster.raft(node).applied for node in NODES}) == 1
    for name in ("leader change", "leader stepped down", "pre-vote", "snapshot taken", "snapshot installed"):
        assert cluster.reached[name], name
    assert cluster.reached["leader's connection closed"]
    assert all(name in SOMETIMES for name in cluster.reached)


def test_a_leader_that_hands_over_counts_as_a_transfer_once_its_successor_leads() -> None:
    cluster = working()
    leader = cluster.leader
    _, out = cluster.hosts[leader].stop(cluster.now, False)
    cluster._carry_out(leader, out)
    assert cluster.reached["leadership transferred"] == 0
    cluster.until(lambda: cluster.raft(leader).role != "leader")
    cluster.run(0.5)
    assert cluster.reached["leadership transferred"] == 1
    assert cluster.broken == []


def test_entries_that_nobody_acknowledged_are_truncated_without_harm() -> None:
    cluster = working()
    old = cluster.leader
    cluster.isolate(old)
    cluster.raft(old).append(Entry(cluster.raft(old).term, cluster.raft(old).log_time(), 0, 0, b"open"))
    cluster.show(old)
    cluster.run(6.0)
    assert cluster.leader != old
    cluster.heal()
    cluster.run(3.0)
    assert cluster.reached["truncation"] == 1
    assert cluster.broken == []


# --- broken by hand ---


def two_leaders(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.role = "leader"
    cluster.show(raft.id)


def a_leader_again_after_a_restart(cluster: ByHand) -> None:
    leader = cluster.leader
    cluster.end(leader)
    cluster.start(leader)
    cluster.raft(leader).role = "leader"
    cluster.show(leader)


def another_entry_in_the_same_place(cluster: ByHand) -> None:
    for place, node in enumerate(NODES):
        raft = cluster.raft(node)
        raft.log.append(Entry(raft.term, 1e6, 0, 0, b"open" * place))
        cluster.show(node)


def another_entry_in_the_same_place_after_a_truncation(cluster: ByHand) -> None:
    leader, follower = cluster.raft(cluster.leader), cluster.raft(cluster.follower)
    follower.log.append(Entry(follower.term, 1e6, 0, 0, b""))
    cluster.show(follower.id)
    for raft, command in ((leader, b""), (follower, b"open")):
        raft.log.truncate(raft.commit + 1)
        raft.log.append(Entry(raft.term + 1, 1e6, 0, 0, command))
        cluster.show(raft.id)


def another_term_before_the_same_entry(cluster: ByHand) -> None:
    for place, node in enumerate(NODES):
        raft = cluster.raft(node)
        raft.log.append(Entry(raft.term + 1 + place, 1e6, 0, 0, b""))
        raft.log.append(Entry(raft.term + 5, 1e6, 0, 0, b""))
        cluster.show(node)


def a_term_that_sinks_within_the_log(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.log.append(Entry(raft.term - 1, 1e6, 0, 0, b""))
    cluster.show(raft.id)


def an_entry_before_its_time(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.log.append(Entry(raft.term, -1.0, 0, 0, b"open"))
    cluster.show(raft.id)


def a_leader_that_lacks_an_applied_entry(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    cluster.isolate(raft.id)
    cluster.open()
    raft.term, raft.role = raft.term + 5, "leader"
    cluster.show(raft.id)


def another_entry_applied(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.applied -= 1
    cluster.show(raft.id)
    raft.log._entries[-1] = msgspec.structs.replace(raft.log._entries[-1], command=b"another")
    raft.applied += 1
    cluster.show(raft.id)


def another_answer(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.applied -= 1
    cluster.show(raft.id)
    session = next(iter(raft.machine.sessions.values()))
    session.answer = b"another"
    raft.applied += 1
    cluster.show(raft.id)


def another_snapshot(cluster: ByHand) -> None:
    for node in NODES:
        raft = cluster.raft(node)
        raft.snapshot = Snapshot(raft.applied, raft.log.last_term, 1.0, node.encode())
        cluster.show(node)


def another_state(cluster: ByHand) -> None:
    cluster.raft(cluster.follower).machine.service.keyvalue.values["k"] = b"another"  # type: ignore[attr-defined]
    cluster.run(11.0)


def a_second_vote(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.vote = raft.id
    cluster.show(raft.id)


def a_term_that_sinks(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.term -= 1
    cluster.show(raft.id)


def a_commit_index_that_sinks(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.commit -= 1
    cluster.show(raft.id)


def a_match_that_sinks(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.leader)
    raft.progress[cluster.follower].match -= 1
    cluster.show(raft.id)


def restarted_without(cluster: ByHand, forget: Callable[[dict[str, bytes]], object]) -> None:
    leader = cluster.leader
    cluster.end(leader)
    forget(cluster.stored[leader])
    cluster.start(leader)


def a_term_forgotten_over_a_restart(cluster: ByHand) -> None:
    restarted_without(cluster, lambda stored: stored.pop(VOTE_KEY))


def a_vote_forgotten_over_a_restart(cluster: ByHand) -> None:
    term = cluster.raft(cluster.leader).term
    restarted_without(cluster, lambda stored: stored.update({VOTE_KEY: msgspec.msgpack.encode((term, None))}))


def an_entry_forgotten_over_a_restart(cluster: ByHand) -> None:
    last = cluster.raft(cluster.leader).log.last
    restarted_without(cluster, lambda stored: stored.pop(log_key(last)))


def an_election_put_off(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.follower)
    raft.now += 0.01
    raft.election_deadline += 0.01
    cluster.show(raft.id)


def committed_alone(cluster: ByHand) -> None:
    raft = cluster.raft(cluster.leader)
    raft.append(Entry(raft.term, raft.log_time(), 0, 0, b""))
    cluster.show(raft.id)
    cluster.invariants.departed(raft.id, cluster.hosts[raft.id], cluster.now)
    raft.commit += 1
    cluster.show(raft.id)


def committed_before_it_was_durable(cluster: ByHand) -> None:
    """The leader counts itself and one follower, before the disk has what it counts."""
    raft, other = cluster.raft(cluster.leader), cluster.raft(cluster.follower)
    entry = Entry(raft.term, raft.log_time(), 0, 0, b"")
    for one in (raft, other):
        one.append(entry)
        cluster.show(one.id)
    cluster.invariants.departed(other.id, cluster.hosts[other.id], cluster.now)
    raft.commit += 1
    cluster.show(raft.id)


def committed_where_others_have_another_entry(cluster: ByHand) -> None:
    leader = cluster.leader
    for node in NODES:
        raft = cluster.raft(node)
        entry = Entry(raft.term, 1e6, 0, 0, b"")
        if node == leader:
            raft.term += 1
            entry = msgspec.structs.replace(entry, term=raft.term)
        raft.log.append(entry)
        cluster.show(node)
        cluster.invariants.departed(node, cluster.hosts[node], cluster.now)
    raft = cluster.raft(leader)
    raft.commit += 1
    cluster.show(leader)


def committed_an_older_term(cluster: ByHand) -> None:
    """Figure 8 of the Raft paper: entries of older terms are never committed by counting."""
    leader = cluster.leader
    term = cluster.raft(leader).term
    for node in NODES:
        raft = cluster.raft(node)
        raft.term += 1
        raft.log.append(Entry(term, 1e6, 0, 0, b""))
        raft.log.append(Entry(term + 1, 1e6, 0, 0, b""))
        cluster.show(node)
        cluster.invariants.departed(node, cluster.hosts[node], cluster.now)
    raft = cluster.raft(leader)
    raft.commit += 1
    cluster.show(leader)


BROKEN = [
    (two_leaders, ["election-safety"]),
    (a_leader_again_after_a_restart, ["election-safety"]),
    (another_entry_in_the_same_place, ["log-matching"]),
    (another_entry_in_the_same_place_after_a_truncation, ["log-matching"]),
    (another_term_before_the_same_entry, ["log-matching"]),
    (a_term_that_sinks_within_the_log, ["log-matching"]),
    (an_entry_before_its_time, ["log-time"]),
    (a_leader_that_lacks_an_applied_entry, ["leader-completeness"]),
    (another_entry_applied, ["state-machine-safety"]),
    (another_answer, ["state-machine-safety"]),
    (another_snapshot, ["state-machine-safety"]),
    (another_state, ["state-machine-safety"]),
    (a_second_vote, ["one-vote"]),
    (a_term_that_sinks, ["monotone-term"]),
    (a_commit_index_that_sinks, ["monotone-commit"]),
    (a_match_that_sinks, ["monotone-match"]),
    (a_term_forgotten_over_a_restart, ["durable-promise"]),
    (a_vote_forgotten_over_a_restart, ["durable-promise"]),
    (an_entry_forgotten_over_a_restart, ["durable-promise"]),
    (an_election_put_off, ["timer-discipline"]),
    (committed_alone, ["commit-quorum"]),
    (committed_before_it_was_durable, ["commit-quorum"]),
    (committed_where_others_have_another_entry, ["commit-quorum"]),
    (committed_an_older_term, ["commit-quorum"]),
]


@pytest.mark.parametrize(("corrupt", "names"), BROKEN, ids=[corrupt.__name__ for corrupt, _ in BROKEN])
def test_what_is_broken_by_hand_is_seen(corrupt: Callable[[ByHand], None], names: list[str]) -> None:
    cluster = working()
    corrupt(cluster)
    assert cluster.broken == names
    [violation, *_] = cluster.invariants.violations
    assert violation.at <= cluster.now
    assert any(node in violation.detail for node in NODES)


def test_a_leader_that_no_majority_hears_must_step_down(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = working()
    cluster.isolate(cluster.leader)
    cluster.run(6.0)
    assert cluster.broken == []
    cluster.heal()
    cluster.run(3.0)
    monkeypatch.setattr(replication, "_has_quorum", bool)  # of whatever it is asked about: yes
    cluster.isolate(cluster.leader)
    cluster.run(2 * ELECTION_TIMEOUT)
    assert cluster.broken == []
    cluster.run(3 * ELECTION_TIMEOUT)
    assert cluster.broken == ["leader-without-majority"]


def test_a_leader_that_only_hears_must_step_down_unless_answers_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    for late in (True, False):
        cluster = working()
        monkeypatch.setattr(replication, "_has_quorum", bool)
        monkeypatch.setattr(election, "election_timer", bool)  # nobody campaigns, which would depose it
        leader = cluster.leader
        cluster.cut = {(leader, peer) for peer in NODES}
        if late:
            cluster.truth.clear = {(peer, leader): float("inf") for peer in NODES}
        cluster.run(6.0)
        assert ("leader-without-majority" in cluster.broken) is not late
        monkeypatch.undo()


def test_what_a_node_received_just_before_its_end_counts_as_contact_until_then() -> None:
    cluster = working()
    leader, watching_raft = cluster.leader, cluster.invariants._raft
    cluster.run(4.95 - cluster.now % 1.0)
    for node in NODES:
        if node != leader:
            cluster.end(node)
    at = cluster.now
    cluster.invariants.passed(at)
    assert [watching_raft._in_touch(leader, node, at) for node in NODES if node != leader] == [at, at]


def test_a_leader_that_stands_still_or_is_heard_over_a_bad_link_need_not_step_down() -> None:
    cluster = working()
    leader = cluster.leader
    cluster.truth.clear = {(leader, peer): float("inf") for peer in NODES}  # slow, not cut
    cluster.run(6.0)
    assert cluster.raft(leader).role == "leader"
    cluster.paused = {leader}
    cluster.truth.well[leader] = float("inf")
    cluster.run(10.0)
    assert cluster.raft(leader).role == "leader"
    assert cluster.broken == []


def test_an_election_may_be_put_off_by_a_vote_or_in_the_instant_of_a_leaders_word() -> None:
    cluster = working()
    raft = cluster.raft(cluster.follower)
    raft.election_deadline += 0.01  # the leader's word of this very instant was heard before
    raft.now = raft.leader_contact
    cluster.show(raft.id)
    raft.now += 0.01
    vote = VoteReply(raft.term, raft.term, False, True)
    raft.election_deadline += 0.01
    cluster.show(raft.id, Outbox(sends=[("n1", cluster.hosts[raft.id].codec.encode(vote))]))
    assert cluster.broken == []
    raft.election_deadline += 0.01
    refusal = msgspec.structs.replace(vote, granted=False)
    cluster.show(raft.id, Outbox(sends=[("n1", cluster.hosts[raft.id].codec.encode(refusal)), ("n1", b"\xc1")]))
    assert cluster.broken == ["timer-discipline"]


def test_what_was_saved_but_never_departed_may_be_there_after_a_restart_or_not() -> None:
    for survives in (True, False):
        cluster = working()
        node = cluster.follower
        leader, raft = cluster.hosts[cluster.leader], cluster.raft(node)
        last, term = raft.log.last, raft.log.last_term
        stored = dict(cluster.stored[node])
        raft.log.truncate(last)
        cluster.show(node)
        if survives:
            del stored[log_key(last)]
        cluster.end(node)
        cluster.stored[node] = stored
        cluster.invariants.began(node, leader, cluster.now)  # a process that ends before its first step
        cluster.invariants.ended(node, cluster.now)
        cluster.start(node)
        assert cluster.broken == []
        assert (cluster.raft(node).log.term_at(last) == term) is not survives


def test_a_session_that_is_gone_counts_as_expired() -> None:
    cluster = working()
    assert cluster.reached["session expired"] == 0
    cluster.put(12345, 1)
    cluster.run(0.5)
    assert cluster.reached["session expired"] == len(NODES)
    assert cluster.broken == []


def test_of_each_name_the_first_violation_is_kept_and_judged() -> None:
    cluster = working()
    raft, other = (cluster.raft(node) for node in NODES[:2])
    for one in (raft, other):
        one.term -= 1
        cluster.show(one.id)
    raft.commit -= 1
    cluster.show(raft.id)
    assert cluster.broken == ["monotone-term", "monotone-commit"]
    judged, membership = cluster.invariants.checks()
    assert (judged.model, judged.verdict, judged.operations) == ("raft-invariants", "invalid", 0)
    assert judged.detail.startswith(f"monotone-term at {cluster.now:.3f} s: n1 went from term")
    assert (membership.model, membership.verdict) == ("membership-invariants", "valid")


def test_nodes_without_raft_are_left_alone() -> None:
    class Plain(Node):
        raft = "a word like any other"

    cluster = ByHand(node_class=Plain)
    cluster.run(2.0)
    assert [judged.model for judged in cluster.invariants.checks()] == ["membership-invariants"]
    assert cluster.broken == []


def test_what_is_remembered_does_not_grow_with_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    for kept, options in ((10_000, {"snapshot_entries": 20, "trailing_entries": 5}), (50, {})):  # the lid is the other
        monkeypatch.setattr(watching, "ENTRIES_KEPT", kept)
        cluster = ByHand(**options)
        session = cluster.open()
        for serial in range(1, 300):
            cluster.put(session, serial)
            if serial % 50 == 0:
                restarted = cluster.follower
                cluster.end(restarted)
                cluster.start(restarted)
                cluster.run(1.0)
                held = cluster.invariants._raft
                assert max(len(held._chosen), len(held._logged)) <= 60, (serial, options)
        assert cluster.broken == []


def test_every_invariant_of_raft_is_broken_by_some_test() -> None:
    assert {*RAFT_INVARIANTS} == {name for _, names in BROKEN for name in names} | {"leader-without-majority"}
