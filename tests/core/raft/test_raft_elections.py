"""Who votes for whom, when, and what a higher term does."""

import pytest
from cores import CONFIG, acknowledge, append, core, end, leader, log_terms, put, receive, sent

from testbed.base.rand import Streams
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import Raft
from testbed.core.raft.events import ELECTION, HEARTBEAT, Answer, SaveEntries, SaveVote, Send, SetTimer, TimerFired
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    PeerMessage,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from testbed.core.services.machine import Services


def test_a_vote_and_its_term_survive_a_restart() -> None:
    """R1, thesis checklist 3: the second candidate of the term is refused by the next process, too."""
    before = core(term=4)
    assert receive(before, "n2", VoteRequest(5, False, 0, 0, False)) == [
        SaveVote(5, None),
        SaveVote(5, "n2"),
        Send("n2", VoteReply(5, 5, False, True), early=False),
    ]
    after = core(term=5, vote="n2")
    assert receive(after, "n3", VoteRequest(5, False, 9, 5, False)) == [
        Send("n3", VoteReply(5, 5, False, False), early=False)
    ]
    assert receive(after, "n2", VoteRequest(5, False, 0, 0, False)) == [
        Send("n2", VoteReply(5, 5, False, True), early=False)
    ]


def test_a_campaign_saves_its_own_vote_with_the_requests_behind_it() -> None:
    """R2, thesis checklist 3: no vote request is early, so it leaves after the candidate's own vote is durable."""
    raft = core(term=4, terms=[1, 4])
    raft.step(TimerFired(ELECTION), 2.5)
    effects = receive(raft, "n2", VoteReply(4, 5, True, True), 2.6)
    assert effects == [
        SaveVote(5, "n1"),
        Send("n2", VoteRequest(5, False, 2, 4, False), early=False),
        Send("n3", VoteRequest(5, False, 2, 4, False), early=False),
        SetTimer(ELECTION, pytest.approx(raft.election_deadline - 2.6)),
    ]


def test_a_repeated_vote_counts_once() -> None:
    """R7: five nodes need three votes; two from the same voter and the own one are two."""
    raft = core(term=4, size=5)
    raft.step(TimerFired(ELECTION), 2.5)
    for _ in range(3):
        assert receive(raft, "n2", VoteReply(4, 5, True, True)) == []
    assert (raft.role, raft.term) == ("candidate", 4)
    receive(raft, "n3", VoteReply(4, 5, True, True))
    for _ in range(3):
        assert receive(raft, "n2", VoteReply(5, 5, False, True)) == []
    assert (raft.role, raft.term) == ("candidate", 5)
    receive(raft, "n3", VoteReply(5, 5, False, True))
    assert raft.role == "leader"


def test_votes_of_another_campaign_do_not_count() -> None:
    raft = core(term=4)
    raft.step(TimerFired(ELECTION), 2.5)
    assert receive(raft, "n2", VoteReply(4, 4, True, True)) == []  # of an earlier pre-vote
    assert receive(raft, "n2", VoteReply(5, 5, False, True)) == [SaveVote(5, None)]  # of a later term: it follows
    assert raft.role == "follower"


def test_a_refused_vote_does_not_count() -> None:
    raft = core(term=4)
    raft.step(TimerFired(ELECTION), 2.5)
    assert receive(raft, "n2", VoteReply(4, 5, True, False)) == []
    assert receive(raft, "n3", VoteReply(4, 5, True, False)) == []
    assert (raft.role, raft.term) == ("candidate", 4)


HIGHER: list[PeerMessage] = [
    AppendEntries(7, 1, 0, 0, 0, []),
    AppendReply(7, 0, False, 0),
    VoteRequest(7, False, 9, 6, True),
    VoteReply(7, 7, False, False),
    InstallSnapshot(7, 1, 9, 6, 0.0, 0, b"", False),
    SnapshotReply(7, 0, 9, 0, False),
]


@pytest.mark.parametrize("message", HIGHER, ids=lambda message: type(message).__name__)
def test_every_message_of_a_higher_term_makes_a_leader_follow(message: PeerMessage) -> None:
    """R8. (Not TimeoutNow: only a leader that heard from this node in its term sends it; a plain vote request meets
    the stickiness instead, thesis 4.2.3.)"""
    raft = leader(term=2)
    effects = receive(raft, "n2", message)
    assert (raft.role, raft.term) == ("follower", 7)
    assert SaveVote(7, None) in effects


@pytest.mark.parametrize("message", HIGHER, ids=lambda message: type(message).__name__)
def test_every_message_of_a_higher_term_makes_a_candidate_follow(message: PeerMessage) -> None:
    """R8."""
    raft = core(term=2)
    raft.step(TimerFired(ELECTION), 2.5)
    receive(raft, "n2", message)
    assert (raft.role, raft.term) == ("follower", 7)


def test_a_timeout_now_of_another_term_starts_no_campaign() -> None:
    raft = core(term=3)
    assert receive(raft, "n2", TimeoutNow(2)) == []
    assert receive(raft, "n2", TimeoutNow(4)) == []
    assert (raft.role, raft.term) == ("follower", 3)


def test_nobody_is_disturbed_within_an_election_timeout_of_a_leaders_word() -> None:
    """Thesis checklist 7: neither a pre-vote nor a vote, not even of a much higher term."""
    raft = core(term=3)
    receive(raft, "n2", append(3, (0, 0)), 5.0)
    for pre in (True, False):
        assert receive(raft, "n3", VoteRequest(9, pre, 9, 9, False), 5.9) == [
            Send("n3", VoteReply(3, 9, pre, False), early=False)
        ]
    assert receive(raft, "n3", VoteRequest(9, True, 9, 9, False), 6.0) == [
        Send("n3", VoteReply(3, 9, True, True), early=False)
    ]


def test_a_leader_in_office_is_not_disturbed() -> None:
    """Thesis checklist 7; check-quorum bounds how long it may think itself in office."""
    raft = leader(term=3)
    assert receive(raft, "n3", VoteRequest(9, False, 9, 9, False), 2.7) == [
        Send("n3", VoteReply(3, 9, False, False), early=False)
    ]


def test_only_the_own_closed_connection_to_the_leader_lifts_the_stickiness() -> None:
    raft = core(term=3)
    receive(raft, "n2", append(3, (0, 0)), 5.0)
    asked = VoteRequest(4, True, 9, 9, False)
    raft.step(events.PeerClosed("n3"), 5.1)
    assert sent(receive(raft, "n3", asked, 5.1)) == [("n3", VoteReply(3, 4, True, False))]
    raft.step(events.PeerClosed("n2"), 5.2)
    assert sent(receive(raft, "n3", asked, 5.2)) == [("n3", VoteReply(3, 4, True, True))]
    raft.step(events.PeerConnected("n2"), 5.3)
    assert sent(receive(raft, "n3", asked, 5.3)) == [("n3", VoteReply(3, 4, True, False))]


def test_a_leaders_closed_connection_starts_a_pre_vote_early_and_decides_nothing() -> None:
    raft = core(term=3, terms=[3])
    receive(raft, "n2", append(3, (1, 3)), 5.0)
    effects = raft.step(events.PeerClosed("n2"), 5.1)
    timers = [effect.after for effect in effects if isinstance(effect, SetTimer)]
    assert len(timers) == 1
    assert 0.0 <= timers[0] <= 0.3 * CONFIG.heartbeat
    effects = raft.step(TimerFired(ELECTION), 5.1 + timers[0])
    assert sent(effects) == [(peer, VoteRequest(4, True, 1, 3, False)) for peer in ("n2", "n3")]
    assert raft.term == 3
    receive(raft, "n2", append(3, (1, 3)), 5.2)  # the leader lives after all
    assert (raft.role, raft.leader, raft.term) == ("follower", "n2", 3)


def test_a_closed_connection_to_a_follower_starts_nothing() -> None:
    raft = core(term=3)
    receive(raft, "n2", append(3, (0, 0)), 5.0)
    assert raft.step(events.PeerClosed("n3"), 5.1) == []


def test_the_first_election_starts_once_a_majority_is_connected() -> None:
    raft = core(size=5)
    assert raft.step(events.PeerConnected("n2"), 0.1) == []
    effects = raft.step(events.PeerConnected("n3"), 0.1)
    assert len(effects) == 1
    assert isinstance(effects[0], SetTimer)
    assert effects[0].after <= 0.02


def test_after_a_restart_a_leader_gets_a_heartbeats_time_to_show_itself() -> None:
    raft = core(term=1, size=3)
    (timer,) = raft.step(events.PeerConnected("n2"), 0.1)
    assert isinstance(timer, SetTimer)
    assert 0.1 <= timer.after <= 0.12
    receive(raft, "n2", append(1, (0, 0)), 0.15)
    assert raft.hurried == 0
    assert raft.election_deadline >= 1.15
    assert raft.step(events.PeerConnected("n3"), 0.2) == []  # it has heard a leader: the timeout rules


def test_the_log_decides_who_may_be_voted_for() -> None:
    """Thesis 3.6.1: the later last term, then the longer log."""
    for last_index, last_term, granted in ((9, 1, False), (2, 2, False), (3, 2, True), (1, 3, True)):
        raft = core(term=3, terms=[1, 2, 2])
        assert sent(receive(raft, "n2", VoteRequest(4, False, last_index, last_term, False))) == [
            ("n2", VoteReply(4, 4, False, granted))
        ]


def test_the_election_timer_is_reset_by_a_valid_leader_and_by_a_granted_vote_only() -> None:
    """R14, thesis checklist 14 and 15."""
    raft = core(term=3, terms=[3])
    deadline = raft.election_deadline
    receive(raft, "n2", append(2, (0, 0)), 0.5)
    receive(raft, "n2", VoteRequest(4, False, 0, 0, False), 0.5)  # refused: its log is behind
    receive(raft, "n2", VoteRequest(5, True, 1, 3, False), 0.5)  # a pre-vote, granted
    receive(raft, "n2", VoteReply(6, 6, False, False), 0.5)
    assert raft.election_deadline == deadline
    receive(raft, "n2", VoteRequest(7, False, 1, 3, False), 0.5)
    granted = raft.election_deadline
    assert granted != deadline
    assert 1.5 <= granted <= 2.5
    receive(raft, "n2", append(7, (1, 3)), 0.6)
    assert raft.election_deadline != granted
    assert 1.6 <= raft.election_deadline <= 2.6


def test_an_election_timer_that_fires_early_waits_for_the_rest_of_the_timeout() -> None:
    """R14: a timer left over from before never shortens a timeout."""
    raft = core(term=3)
    raft.election_deadline = 1.5
    assert raft.step(TimerFired(ELECTION), 0.25) == [SetTimer(ELECTION, 1.25)]


def test_election_timeouts_are_drawn_anew_for_each_campaign() -> None:
    """Thesis checklist 15: whoever split the vote must not do so again."""
    raft = core(term=3)
    drawn = set()
    for _ in range(20):
        raft.step(TimerFired(ELECTION), raft.election_deadline)
        drawn.add(raft.election_timeout)
    assert len(drawn) == 20
    assert min(drawn) >= 1.0
    assert max(drawn) <= 2.0


def test_the_election_timer_fires_exactly_one_timeout_after_the_leaders_last_word() -> None:
    """It is armed once, not with every heartbeat: re-armed for what is left, it must never be late."""
    raft = core(term=3)
    timeout = raft.election_timeout
    for tenth in range(1, 8):
        receive(raft, "n2", append(3, (0, 0)), tenth / 10)
    rearmed = raft.step(TimerFired(ELECTION), timeout)
    assert rearmed == [events.SetTimer(ELECTION, pytest.approx(0.7))]
    campaign = raft.step(TimerFired(ELECTION), timeout + 0.7)
    assert [type(effect) for effect in campaign].count(events.Send) == 2


def test_a_candidate_arms_the_timer_for_the_timeout_it_has_drawn() -> None:
    """The real campaign draws anew after the pre-vote: its timer must not be the old one, which may be later."""
    raft = core(term=3)
    raft.step(TimerFired(ELECTION), 2.0)
    campaign = receive(raft, "n2", VoteReply(3, 4, True, True), 2.1)
    armed = [effect for effect in campaign if isinstance(effect, SetTimer)]
    assert armed == [SetTimer(ELECTION, pytest.approx(raft.election_deadline - 2.1))]


def test_a_deposed_leader_sends_no_more_appends() -> None:
    """R14."""
    raft = leader(term=2)
    receive(raft, "n2", AppendReply(3, 0, False, 0))
    assert raft.step(TimerFired(HEARTBEAT), 3.0) == []
    assert raft.step(events.StepEnded(), 3.0) == []


def test_a_deposed_leader_waits_a_whole_election_timeout() -> None:
    """R14: its heartbeat deadline is not mistaken for one."""
    raft = leader(term=2)
    effects = receive(raft, "n2", AppendReply(3, 0, False, 0), 3.0)
    timers = [effect for effect in effects if isinstance(effect, SetTimer)]
    assert [timer.name for timer in timers] == [ELECTION]
    assert 1.0 <= timers[0].after <= 2.0


def test_a_leader_without_a_majority_steps_down_and_tells_who_waits() -> None:
    """R9, thesis checklist 10: a command may yet commit, so it is lost; a read had no effect."""
    raft = leader(term=2)
    raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    raft.step(events.QueryAsked("read", b"\x92\xa3Get\xa1x"), 2.6)
    assert AppendEntries in [type(message) for _, message in sent(raft.step(TimerFired(HEARTBEAT), 3.4))]
    effects = raft.step(TimerFired(HEARTBEAT), 3.5)
    assert raft.role == "follower"
    assert [effect for effect in effects if isinstance(effect, Answer)] == [
        Answer("write", requests.Lost()),
        Answer("read", requests.NotLeader(None)),
    ]
    assert log_terms(raft) == [2, 2]  # what was taken stays, as it may be on others


def test_a_new_term_forgets_who_led() -> None:
    """Thesis checklist 11: else clients are sent round in circles."""
    raft = core(term=3)
    receive(raft, "n2", append(3, (0, 0)), 3.0)
    assert raft.not_leader() == requests.NotLeader("n2")
    receive(raft, "n3", VoteReply(4, 4, False, False), 3.1)
    assert raft.not_leader() == requests.NotLeader(None)


def test_a_leader_begins_its_term_with_a_noop() -> None:
    """Thesis checklist 2."""
    raft = core(term=4, terms=[1, 4])
    raft.step(TimerFired(ELECTION), 2.5)
    receive(raft, "n2", VoteReply(4, 5, True, True), 2.5)
    effects = receive(raft, "n2", VoteReply(5, 5, False, True), 2.5)
    noop = raft.log.entry(3)
    assert (noop.term, noop.session, noop.command) == (5, 0, b"")
    assert effects == [SaveEntries(3, [noop]), SetTimer(HEARTBEAT, 0.0)]
    assert sent(raft.step(events.StepEnded(), 2.5)) == [
        (peer, AppendEntries(5, number, 2, 4, 0, [noop])) for number, peer in ((1, "n2"), (2, "n3"))
    ]


def test_a_node_is_not_its_own_peer() -> None:
    """R18."""
    with pytest.raises(AssertionError, match="its own peer"):
        Raft("n1", ("n1", "n2"), CONFIG, Streams(0).stream(), ReplicatedState(Services()))


@pytest.mark.parametrize(("size", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_quorum_is_more_than_half(size: int, quorum: int) -> None:
    assert core(size=size).quorum == quorum


def test_a_single_node_leads_once_its_own_vote_is_durable() -> None:
    """Thesis checklist 3: it counts its own vote only then."""
    raft = core(size=1)
    raft.step(TimerFired(ELECTION), 0.0)
    assert raft.role == "candidate"
    raft.step(events.SavesDurable(), 0.0)
    assert (raft.role, raft.commit) == ("leader", 0)
    raft.step(events.SavesDurable(), 0.0)
    assert raft.commit == 1


def test_a_leader_that_is_asked_to_stop_hands_over_to_the_most_complete_follower() -> None:
    """Thesis 3.10."""
    raft = leader(term=2)
    acknowledge(raft, "n3")
    effects = raft.step(events.TransferAsked(), 2.7)
    assert sent(effects) == [("n3", TimeoutNow(2))]
    assert raft.step(events.TransferAsked(), 2.7) == []
    effects = raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.7)
    assert effects == [Answer("write", requests.NotLeader(None))]


def test_leadership_is_handed_over_only_with_the_whole_log() -> None:
    raft = leader(term=2)
    acknowledge(raft, "n2")
    raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    assert sent(raft.step(events.TransferAsked(), 2.7)) == []
    end(raft, 2.7)
    assert sent(acknowledge(raft, "n2", now=2.8), TimeoutNow) == [("n2", TimeoutNow(2))]


def test_a_campaign_that_the_leader_asked_for_overcomes_stickiness() -> None:
    """Thesis checklist 7: the conflict of stickiness with leader transfer."""
    target = core(term=2, terms=[2])
    receive(target, "n2", append(2, (1, 2)), 5.0)
    effects = receive(target, "n2", TimeoutNow(2), 5.1)
    asked = VoteRequest(3, False, 1, 2, True)
    assert effects[:3] == [SaveVote(3, "n1"), Send("n2", asked, early=False), Send("n3", asked, early=False)]
    voter = core(term=2, terms=[2])
    receive(voter, "n2", append(2, (1, 2)), 5.0)
    assert sent(receive(voter, "n3", asked, 5.1)) == [("n3", VoteReply(3, 3, False, True))]
