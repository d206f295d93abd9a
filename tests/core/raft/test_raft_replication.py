"""Appending, truncating, committing: effects of single cores, and figures of the thesis by hand."""

import pytest
from cores import CONFIG, acknowledge, answers, append, core, end, entries, entry, leader, log_terms, put, receive, sent

from testbed.base import limits
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.events import HEARTBEAT, Answer, DropEntries, SaveEntries, Send, TimerFired
from testbed.core.raft.messages import AppendEntries, AppendReply


def test_appended_entries_are_saved_with_the_answer_behind_them() -> None:
    """R2: the answer is not early, so it leaves after the save."""
    raft = core(term=2, terms=[1])
    effects = receive(raft, "n2", append(2, (1, 1), [2, 2], commit=2, round_=7))
    assert effects == [
        SaveEntries(2, entries(2, 2)),
        Send("n2", AppendReply(2, 7, True, 3), early=False),
    ]
    assert (raft.commit, raft.applied) == (2, 2)


def test_only_appends_are_early() -> None:
    """R2, thesis 10.2.1."""
    raft = leader(term=2)
    raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    effects = raft.step(events.StepEnded(), 2.6) + raft.step(TimerFired(HEARTBEAT), 2.6)
    early = [effect for effect in effects if isinstance(effect, Send) and effect.early]
    assert early
    assert all(isinstance(effect.message, AppendEntries) for effect in early)


def test_a_leaders_own_copy_counts_only_once_it_is_durable() -> None:
    """R2, thesis 10.2.1: one follower and an unsaved copy are no majority of three."""
    raft = leader(term=2)
    acknowledge(raft, "n2")
    assert raft.commit == 1
    raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    raft.step(events.StepEnded(), 2.6)
    acknowledge(raft, "n2")
    assert raft.commit == 1
    acknowledge(raft, "n3")  # two followers are a majority without it
    assert raft.commit == 2


def test_the_commit_index_does_not_go_back_with_a_new_leader() -> None:
    """R3, thesis checklist 17."""
    raft = core(term=2, terms=[1, 1, 1])
    receive(raft, "n2", append(2, (3, 1), commit=3))
    receive(raft, "n3", append(3, (3, 1), commit=1))
    assert raft.commit == 3


def test_the_commit_index_does_not_pass_what_the_message_showed() -> None:
    """Thesis 3.5: what lies beyond may be another leader's."""
    raft = core(term=2, terms=[1, 1, 1, 1])
    receive(raft, "n2", append(2, (2, 1), commit=4))
    assert raft.commit == 2


def test_match_is_monotone_under_late_and_repeated_answers() -> None:
    """R4, thesis checklist 17."""
    raft = leader(term=2, terms=[1, 1])
    progress = raft.progress["n2"]
    late = AppendReply(2, progress.sent, True, 2)
    acknowledge(raft, "n2")
    assert (progress.match, progress.next) == (3, 4)
    for reply in (late, AppendReply(2, 1, True, 0), AppendReply(2, 0, False, 0, 1, 0)):
        receive(raft, "n2", reply)
        assert (progress.match, progress.next) == (3, 4)


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """R5, thesis checklist 1, figure 3.7: index 2 of term 2 is on a majority under a leader of term 4."""
    raft = leader(term=4, terms=[1, 2], size=5)
    assert log_terms(raft) == [1, 2, 4]
    for peer in ("n2", "n3"):
        receive(raft, peer, AppendReply(4, raft.progress[peer].sent, True, 2))
    assert raft.commit == 0
    acknowledge(raft, "n2")
    assert raft.commit == 0
    acknowledge(raft, "n3")
    assert raft.commit == 3  # (e) of the figure: all at once, by the entry of its own term


def test_commitment_does_not_stop_at_an_index_without_a_majority_of_its_own_answers() -> None:
    """R10: five nodes at different indexes; the third highest counts."""
    raft = leader(term=2, size=5)
    for _ in range(6):
        raft.step(events.Proposed("write", 1, 1, put("x", 1)), 2.6)
    end(raft, 2.6)
    for peer, match in (("n2", 7), ("n3", 4), ("n4", 2)):
        receive(raft, peer, AppendReply(2, raft.progress[peer].sent, True, match))
    assert raft.commit == 4
    receive(raft, "n5", AppendReply(2, raft.progress["n5"].sent, True, 6))
    assert raft.commit == 6


def test_an_old_append_does_not_truncate_what_came_since() -> None:
    """R6, thesis checklist 16: the log holds more than the message, and nothing conflicts."""
    raft = core(term=2, terms=[1, 2, 2])
    effects = receive(raft, "n2", append(2, (1, 1), [2], round_=3))
    assert effects == [Send("n2", AppendReply(2, 3, True, 2), early=False)]
    assert log_terms(raft) == [1, 2, 2]
    assert receive(raft, "n2", append(2, (0, 0), round_=2)) == [Send("n2", AppendReply(2, 2, True, 0), early=False)]
    assert log_terms(raft) == [1, 2, 2]


def test_a_real_conflict_truncates_from_there_on() -> None:
    """Thesis checklist 16: the answer tells the match of this message."""
    raft = core(term=4, terms=[1, 2, 2, 2])
    effects = receive(raft, "n2", append(4, (1, 1), [2, 3], round_=3))
    assert effects == [
        DropEntries(3, 4),
        SaveEntries(3, entries(3)),
        Send("n2", AppendReply(4, 3, True, 3), early=False),
    ]
    assert log_terms(raft) == [1, 2, 3]


def test_an_append_beyond_the_log_is_answered_with_its_end() -> None:
    """Thesis checklist 18."""
    raft = core(term=3, terms=[1, 1])
    assert sent(receive(raft, "n2", append(3, (7, 3), round_=4))) == [("n2", AppendReply(3, 4, False, 0, 3, 0))]


def test_a_mismatch_is_answered_with_the_first_index_of_the_conflicting_term() -> None:
    """Thesis checklist 18."""
    raft = core(term=5, terms=[1, 2, 2, 2])
    assert sent(receive(raft, "n2", append(5, (4, 4), round_=4))) == [("n2", AppendReply(5, 4, False, 0, 2, 2))]


@pytest.mark.parametrize(
    ("hint_index", "hint_term", "expected"),
    [
        (3, 0, 3),  # the follower's log ends before 3
        (2, 2, 4),  # the leader knows that term: after its own last entry of it
        (3, 3, 3),  # it does not: before the follower's first entry of it
    ],
)
def test_a_conflict_is_skipped_a_term_at_a_time(hint_index: int, hint_term: int, expected: int) -> None:
    """Thesis checklist 18, Raft paper 5.3."""
    raft = leader(term=6, terms=[1, 2, 2, 4, 4, 4])
    progress = raft.progress["n2"]
    assert progress.next == 7
    receive(raft, "n2", AppendReply(6, progress.sent, False, 0, hint_index, hint_term))
    assert progress.next == expected
    raft.step(events.StepEnded(), 3.0)
    receive(raft, "n2", AppendReply(6, 1, False, 0, 1, 0))  # an answer to what was asked before that
    assert progress.next == expected


def test_a_message_of_an_old_leader_is_refused_without_its_round() -> None:
    """R11: an earlier process of the present leader may have sent it, and its rounds are not the present ones."""
    raft = core(term=6, terms=[1])
    assert receive(raft, "n2", append(5, (1, 1), [5], round_=5000)) == [
        Send("n2", AppendReply(6, 0, False, 0), early=False)
    ]


def test_a_follower_is_brought_back_although_a_round_trip_is_longer_than_a_heartbeat() -> None:
    """Every rejection arrives when a later heartbeat has left already, and counts all the same."""
    raft = leader(term=6, terms=[1, 2, 2, 4, 4, 4])
    follower = core(term=3, terms=[1, 3, 3])
    follower.id = "n2"
    flying: list[tuple[float, AppendReply]] = []
    now = 3.0
    while raft.progress["n2"].match < raft.log.last:
        now += 0.1
        assert now < 10.0, "no progress"
        for to, message in sent(raft.step(TimerFired(HEARTBEAT), now) + raft.step(events.StepEnded(), now)):
            if to == "n2":
                flying += [(now + 0.15, reply) for _, reply in sent(receive(follower, "n1", message, now))]
        receive(raft, "n3", AppendReply(6, raft.progress["n3"].sent, False, 0, 1, 0), now)
        for due, reply in flying:
            if due <= now:
                receive(raft, "n2", reply, now)
        flying = [(due, reply) for due, reply in flying if due > now]
    assert log_terms(follower) == log_terms(raft)


def test_one_batch_is_in_flight_to_each_follower() -> None:
    """DESIGN: under load batches grow instead of queues."""
    raft = leader(term=2)
    acknowledge(raft, "n2", "n3")
    raft.step(events.Proposed("a", 1, 1, put("x", 1)), 2.6)
    assert [len(message.entries) for _, message in sent(end(raft, 2.6))] == [1, 1]
    for name in "bcd":
        raft.step(events.Proposed(name, 1, 2, put("x", 2)), 2.6)
        assert sent(end(raft, 2.6)) == []
    receive(raft, "n2", AppendReply(2, raft.progress["n2"].sent, True, 2))
    assert [(to, len(message.entries)) for to, message in sent(end(raft, 2.6))] == [("n2", 3)]


def test_what_is_unanswered_for_two_heartbeats_is_sent_again() -> None:
    raft = leader(term=2)
    beat = sent(raft.step(TimerFired(HEARTBEAT), 2.6))
    assert [(to, len(message.entries)) for to, message in beat] == [("n2", 0), ("n3", 0)]
    again = sent(raft.step(TimerFired(HEARTBEAT), 2.5 + 2 * CONFIG.heartbeat))
    assert [(to, len(message.entries)) for to, message in again] == [("n2", 1), ("n3", 1)]


def test_a_command_is_answered_when_it_is_applied() -> None:
    raft = leader(term=2)
    raft.step(events.SessionAsked("open"), 2.6)
    end(raft, 2.6)
    assert answers(acknowledge(raft, "n2")) == [("open", requests.Opened(2))]
    raft.step(events.Proposed("write", 2, 1, put("x", 1)), 2.6)
    end(raft, 2.6)
    found = answers(acknowledge(raft, "n3"))
    assert [handle for handle, _ in found] == ["write"]
    assert answers(acknowledge(raft, "n2")) == []


def test_a_follower_takes_no_commands_and_names_the_leader() -> None:
    raft = core(term=2)
    receive(raft, "n3", append(2, (0, 0)))
    for event in (events.Proposed("a", 1, 1, b"x"), events.SessionAsked("a"), events.QueryAsked("a", b"x")):
        assert raft.step(event, 3.0) == [Answer("a", requests.NotLeader("n3"))]


def test_a_leader_without_a_majority_refuses_instead_of_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_UNCOMMITTED_MAX", 3)
    raft = leader(term=2)
    for _ in range(2):
        assert answers(raft.step(events.Proposed("a", 1, 1, b"x"), 2.6)) == []
    assert answers(raft.step(events.Proposed("a", 1, 1, b"x"), 2.6)) == [("a", requests.Busy())]
    end(raft, 2.6)
    acknowledge(raft, "n2")
    assert answers(raft.step(events.Proposed("a", 1, 1, b"x"), 2.6)) == []


def test_too_many_uncommitted_bytes_are_refused_until_they_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_UNCOMMITTED_BYTES_MAX", 100)
    raft = leader(term=2)
    raft.step(events.Proposed("a", 1, 1, bytes(100)), 2.6)
    assert answers(raft.step(events.Proposed("b", 1, 1, b"x"), 2.6)) == [("b", requests.Busy())]
    end(raft, 2.6)
    acknowledge(raft, "n2")
    assert raft.uncommitted_bytes == 0


def test_log_time_goes_on_from_the_last_entry_whatever_the_clock_says() -> None:
    """Log time never goes back, not by a rounding error either: 0.3 - 2.5 + 2.5 is less than 0.3."""
    assert 0.3 - 2.5 + 2.5 < 0.3
    raft = leader(term=2, log=[entry(1, time=0.3)])
    assert raft.log.entry(2).time == 0.3
    raft.step(events.Proposed("a", 1, 1, b"x"), 3.5)
    assert raft.log.entry(3).time == pytest.approx(1.3)
