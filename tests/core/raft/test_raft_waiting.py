"""Commands that wait, and leases that end: what a leader does about time, and what nobody else does.

Session 3 holds lock a; sessions 4, 5 … wait for it, each with a request held open. n2 follows closely, n3 is silent.
"""

from typing import Any

import pytest
from cores import CONFIG, acknowledge, answers, append, core, end, entry, leader, put, receive
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import Raft
from testbed.core.raft.messages import Entry, VoteReply
from testbed.core.services.commands import Acquire, Claim, LockStatus, Release

CODEC = Codec(requests.REPLIES)
DONE = requests.Done(Raw(pack(None)))
GIVEN_UP = requests.Rejected("not-granted: it was given up")
HOLDER, WAITER, THIRD = 3, 4, 5  # sessions: the index of the entry that opened each
ELECTED_AT, TAKEN_AT, ASKED_AT = 2.5, 2.7, 2.8
LEASE_S, WAIT_S = 20.0, 10.0


def acquire(wait: float = WAIT_S, lease: float = LEASE_S) -> bytes:
    return pack(Acquire((Claim("a"),), lease, wait))


def release(token: int) -> bytes:
    return pack(Release(token))


def granted(token: int, asked: float, until: float) -> requests.Granted:
    return requests.Granted(Raw(pack(token)), pytest.approx(asked), pytest.approx(until))


# --- one leader, driven ---


def step(raft: Raft, event: events.Event, now: float) -> list[events.Effect]:
    """One event and the end of its step; what the leader appends is committed."""
    effects = [*raft.step(event, now), *end(raft, now)]
    if raft.role == "leader" and raft.peers:
        effects += [*acknowledge(raft, "n2", now=now), *end(raft, now)]
    return effects


def propose(raft: Raft, handle: str, session: int, serial: int, command: bytes, now: float) -> list[events.Effect]:
    return step(raft, events.Proposed(handle, session, serial, command), now)


def beat(raft: Raft, now: float) -> list[events.Effect]:
    """The next heartbeat of a leader that has heard n2 meanwhile."""
    for peer in raft.peers[:1]:
        raft.progress[peer].contact = now
    return step(raft, events.TimerFired(events.HEARTBEAT), now)


def ring(raft: Raft, now: float) -> list[events.Effect]:
    """The timer for what is due fires; nobody answers what the leader sends then."""
    return [*raft.step(events.TimerFired(events.LEASES), now), *end(raft, now)]


def replies(effects: list[events.Effect]) -> list[tuple[Any, Any]]:
    """(handle, reply) among the effects, in plain."""
    return [(handle, CODEC.decode(reply) if isinstance(reply, bytes) else reply) for handle, reply in answers(effects)]


def appended(effects: list[events.Effect]) -> list[Entry]:
    return [saved for effect in effects if isinstance(effect, events.SaveEntries) for saved in effect.entries]


def alarms(effects: list[events.Effect]) -> list[float]:
    """After how many seconds the leader wants to look at what is due."""
    timers = [effect for effect in effects if isinstance(effect, events.SetTimer) and effect.name == events.LEASES]
    return [timer.after for timer in timers]


def log_time(now: float) -> float:
    """Of the first leader, whose log before was stamped 0."""
    return now - ELECTED_AT


def holders(raft: Raft) -> list[tuple[int, float]]:
    """Session and end of each grant of the lock."""
    status = unpack(CODEC.decode(raft.machine.service.query(pack(LockStatus("a")))).result)
    return [(holder["session"], holder["until"]) for holder in status["holders"]]


def leading(size: int = 3) -> Raft:
    """A leader in term 2 whose sessions are open."""
    log = [entry(1), entry(1), *(entry(1, command=b"open") for _ in range(3))]
    if size == 1:
        raft = core(1, size=1, log=log)
        raft.step(events.TimerFired(events.ELECTION), ELECTED_AT)
        end(raft, ELECTED_AT)
    else:
        raft = leader(2, size=size, log=log)
    beat(raft, 2.6)
    assert list(raft.machine.sessions) == [HOLDER, WAITER, THIRD]
    return raft


def queueing(waiters: int = 1, lease: float = LEASE_S, size: int = 3) -> Raft:
    """The lock is held, and others wait for it."""
    raft = leading(size)
    propose(raft, "holds", HOLDER, 1, acquire(0.0, lease), TAKEN_AT)
    for session in range(WAITER, WAITER + waiters):
        assert replies(propose(raft, f"waits {session}", session, 1, acquire(), ASKED_AT)) == []
    assert list(raft.machine.waiting) == list(range(WAITER, WAITER + waiters))
    return raft


def depose(raft: Raft, now: float) -> list[events.Effect]:
    """n2 leads in the next term; its first entry is no news yet."""
    last = (raft.log.last, raft.log.last_term)
    return receive(raft, "n2", append(raft.term + 1, last, commit=raft.commit), now)


def elect(raft: Raft, now: float) -> None:
    """It leads again; nobody has its first entry yet."""
    term = raft.term + 1
    raft.step(events.TimerFired(events.ELECTION), now)
    for pre in (True, False):
        raft.step(events.Received("n2", VoteReply(term - 1 if pre else term, term, pre, True)), now)
    assert (raft.role, raft.term) == ("leader", term)
    end(raft, now)


# --- requests held open ---


def test_who_waits_is_answered_by_the_entry_that_ends_the_wait() -> None:
    raft = queueing()
    assert replies(propose(raft, "gives back", HOLDER, 2, release(1), 3.0)) == [
        ("waits 4", granted(2, log_time(ASKED_AT), log_time(3.0) + LEASE_S)),
        ("gives back", DONE),
    ]
    assert raft.held == {}


def test_a_client_is_asked_to_ask_again_before_it_takes_the_leader_to_be_away() -> None:
    """After a third of an election timeout at most, at a heartbeat; with the log time of that moment."""
    raft = queueing()
    assert replies(beat(raft, 2.9) + beat(raft, 3.0)) == []
    (told,) = replies(beat(raft, 3.1))
    assert told == ("waits 4", requests.Waiting(pytest.approx(log_time(3.1))))
    assert ASKED_AT + CONFIG.election_timeout / 3 > 3.1
    assert replies(beat(raft, 3.2)) == []  # once


def test_a_retry_of_who_waits_is_held_and_not_proposed_again() -> None:
    raft = queueing()
    beat(raft, 3.1)
    effects = propose(raft, "again", WAITER, 1, acquire(), 3.15)
    assert (replies(effects), appended(effects)) == ([], [])
    assert [handle for handle, _ in replies(beat(raft, 3.45))] == ["again"]
    propose(raft, "once more", WAITER, 1, acquire(), 3.5)
    assert replies(propose(raft, "gives back", HOLDER, 2, release(1), 3.55))[0] == (
        "once more",
        granted(2, log_time(ASKED_AT), log_time(3.55) + LEASE_S),
    )


def test_a_retry_of_who_waits_is_held_by_a_leader_that_has_too_much_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds nothing to that, and who is refused for long would be taken for silent."""
    raft = queueing()
    monkeypatch.setattr(limits, "LOG_UNCOMMITTED_MAX", 0)
    told = replies(raft.step(events.Proposed("again", WAITER, 1, acquire()), 3.0))
    told += replies(raft.step(events.Proposed("put", THIRD, 1, put("x", 1)), 3.0))
    assert told == [("put", requests.Busy())]
    assert raft.held[WAITER].handle == "again"


def test_a_retry_that_comes_before_the_first_is_applied_waits_at_the_same_place() -> None:
    """LK2."""
    raft = queueing(waiters=0)
    raft.step(events.Proposed("first", WAITER, 1, acquire()), 2.8)
    assert replies(propose(raft, "second", WAITER, 1, acquire(), 2.8)) == []
    assert list(raft.machine.waiting) == [WAITER]
    told = replies(propose(raft, "gives back", HOLDER, 2, release(1), 2.9))
    assert told[0] == ("second", granted(2, log_time(ASKED_AT), log_time(2.9) + LEASE_S))


def test_the_next_command_of_who_waits_is_proposed_and_the_request_before_is_over() -> None:
    """LK4: a waiter that was cancelled must not be granted behind its own back."""
    raft = queueing()
    assert replies(propose(raft, "next", WAITER, 2, put("x", 1), 2.9)) == [("next", DONE)]
    assert replies(beat(raft, 3.0)) == [("waits 4", requests.Lost())]
    propose(raft, "gives back", HOLDER, 2, release(1), 3.1)
    assert holders(raft) == []


def test_a_late_copy_of_a_request_that_is_over_gets_no_answer_of_the_next() -> None:
    raft = queueing()
    raft.step(events.Proposed("next", WAITER, 2, acquire()), 2.9)
    assert replies(depose(raft, 3.0)) == [("next", requests.Lost()), ("waits 4", requests.Lost())]
    elect(raft, 5.1)
    raft.step(events.Proposed("late copy", WAITER, 1, acquire()), 5.15)  # the next is in the log, and not yet applied
    acknowledge(raft, "n2", now=5.2)
    assert raft.machine.waiting[WAITER].serial == 2
    told = replies(propose(raft, "gives back", HOLDER, 2, release(1), 5.3))
    assert told == [("late copy", requests.Lost()), ("gives back", DONE)]


def test_who_waits_is_told_by_a_leader_that_steps_down_that_nobody_can_say() -> None:
    raft = queueing(waiters=2)
    assert replies(depose(raft, 3.0)) == [("waits 4", requests.Lost()), ("waits 5", requests.Lost())]
    assert raft.held == {}
    assert list(raft.machine.waiting) == [WAITER, THIRD]


def test_a_retry_at_the_next_leader_is_held_without_a_new_entry() -> None:
    raft = queueing()
    depose(raft, 3.0)
    elect(raft, 5.1)
    effects = raft.step(events.Proposed("again", WAITER, 1, acquire()), 5.15)
    assert (replies(effects), appended(effects)) == ([], [])
    beat(raft, 5.2)
    told = replies(propose(raft, "gives back", HOLDER, 2, release(1), 5.3))
    assert [handle for handle, _ in told] == ["again", "gives back"]


def test_a_leader_says_no_log_time_before_its_first_entry_is_committed() -> None:
    """Until then another might yet lead with entries of a later time, and who waits would reckon with too long."""
    raft = queueing()
    depose(raft, 3.0)
    elect(raft, 5.1)
    raft.step(events.Proposed("again", WAITER, 1, acquire()), 5.15)
    for now in (5.3, 5.5, 5.7):
        raft.progress["n2"].contact = now
        assert replies(raft.step(events.TimerFired(events.HEARTBEAT), now)) == []
        end(raft, now)
    acknowledge(raft, "n2", now=5.75)
    assert replies(beat(raft, 5.8)) == [("again", requests.Waiting(pytest.approx(raft.log_time())))]


# --- silence ---


def test_who_is_silent_for_three_election_timeouts_leaves_the_line() -> None:
    """LK3."""
    raft = queueing(waiters=2)
    found = []
    for tenths in range(29, 70):
        now = tenths / 10
        effects = beat(raft, now)
        found += [(now, gone) for gone in appended(effects)]
        if any(handle != "waits 4" for handle, _ in replies(effects)):
            propose(raft, f"again at {now}", THIRD, 1, acquire(), now)
    assert found == [(5.8, Entry(2, pytest.approx(log_time(5.8)), WAITER, 1, b""))]
    assert list(raft.machine.waiting) == [THIRD]
    propose(raft, "gives back", HOLDER, 2, release(1), 7.0)
    assert [session for session, _ in holders(raft)] == [THIRD]
    assert replies(propose(raft, "late", WAITER, 1, acquire(), 7.1)) == [("late", GIVEN_UP)]


def test_who_asks_just_as_it_is_given_up_is_not_left_without_an_answer() -> None:
    raft = queueing()
    beat(raft, 3.1)
    raft.progress["n2"].contact = 5.7
    given_up = raft.step(events.TimerFired(events.HEARTBEAT), 5.8)
    assert [gone.session for gone in appended(given_up)] == [WAITER]
    assert appended(raft.step(events.TimerFired(events.HEARTBEAT), 5.82)) == []
    assert replies(propose(raft, "late", WAITER, 1, acquire(), 5.85)) == []
    assert replies(beat(raft, 5.9)) == [("late", requests.Lost())]
    assert replies(propose(raft, "again", WAITER, 1, acquire(), 5.95)) == [("again", GIVEN_UP)]


def test_a_leader_that_hands_over_gives_up_on_nobody() -> None:
    raft = queueing()
    beat(raft, 3.1)
    raft.step(events.TransferAsked(), 5.7)
    assert appended(beat(raft, 5.85) + beat(raft, 6.65)) == []
    assert [gone.session for gone in appended(beat(raft, 6.75))] == [WAITER]  # it was not relieved


def test_a_new_leader_lets_who_waits_look_for_it_before_it_gives_up() -> None:
    raft = queueing()
    depose(raft, 3.0)
    elect(raft, 9.0)
    for now, expected in ((9.1, []), (10.0, []), (11.0, []), (12.0, []), (12.2, [WAITER])):
        assert [gone.session for gone in appended(beat(raft, now))] == expected


# --- what is due ---


def test_a_leader_wakes_when_the_next_lease_ends() -> None:
    raft = leading()
    assert alarms(propose(raft, "long", HOLDER, 1, acquire(0.0, 8.0), 3.0)) == [pytest.approx(8.0, abs=0.002)]
    other = pack(Acquire((Claim("b"),), 2.0))
    assert alarms(propose(raft, "short", WAITER, 1, other, 4.0)) == [pytest.approx(2.0, abs=0.002)]
    assert alarms(propose(raft, "neither", THIRD, 1, put("x", 1), 4.5)) == []
    assert alarms(propose(raft, "gives back", WAITER, 2, release(2), 5.0)) == [pytest.approx(6.0, abs=0.002)]


def test_what_is_due_is_told_once_by_an_empty_entry() -> None:
    raft = queueing(lease=1.0)
    assert appended(ring(raft, 3.6)) == []  # too early
    assert appended(ring(raft, 3.75)) == [Entry(2, pytest.approx(log_time(3.75)), 0, 0, b"")]
    raft.progress["n2"].contact = 3.8
    again = ring(raft, 3.8) + raft.step(events.TimerFired(events.HEARTBEAT), 3.85)
    assert (appended(again), alarms(again)) == ([], [])
    end(raft, 3.85)
    acknowledge(raft, "n2", now=3.9)
    assert holders(raft) == [(WAITER, pytest.approx(log_time(3.75) + LEASE_S))]
    assert alarms(end(raft, 3.9)) == [pytest.approx(LEASE_S - 0.15, abs=0.002)]


def test_nothing_is_told_where_another_entry_told_it() -> None:
    raft = queueing(lease=1.0)
    propose(raft, "else", THIRD, 1, put("x", 1), 3.75)
    assert [session for session, _ in holders(raft)] == [WAITER]
    assert appended(ring(raft, 3.8)) == []


def test_a_heartbeat_tells_what_is_due_if_the_timer_was_lost() -> None:
    raft = queueing(lease=1.0)
    assert appended(beat(raft, 3.8)) == [Entry(2, pytest.approx(log_time(3.8)), 0, 0, b"")]
    assert [session for session, _ in holders(raft)] == [WAITER]


def test_the_timer_of_an_idle_leader_is_not_set_for_ever() -> None:
    raft = leading()
    assert alarms(propose(raft, "put", HOLDER, 1, put("x", 1), 3.0) + beat(raft, 3.1) + ring(raft, 3.2)) == []


def test_a_leader_that_hands_over_tells_no_time_until_it_goes_on_leading() -> None:
    raft = queueing(lease=1.0)
    raft.step(events.TransferAsked(), 3.7)
    effects = ring(raft, 3.75)
    assert (appended(effects), alarms(effects)) == ([], [])
    raft.progress["n2"].contact = 4.7
    effects = raft.step(events.TimerFired(events.HEARTBEAT), 4.75)
    assert raft.transfer_to is None
    assert [told.command for told in appended(effects)] == [b""]


def test_a_follower_tells_no_time() -> None:
    raft = queueing(lease=1.0)
    depose(raft, 3.0)
    assert [*raft.step(events.TimerFired(events.LEASES), 9.0), *end(raft, 9.0)] == []
    assert [session for session, _ in holders(raft)] == [HOLDER]


def test_a_deposed_leader_revokes_nothing() -> None:
    """R12: what it appends is never committed, and once it hears nobody it steps down."""
    raft = queueing(lease=1.0)
    assert replies(ring(raft, 3.75)) == []
    assert [told.command for told in raft.log.read(raft.commit + 1, 10, 1000)] == [b""]
    assert replies(raft.step(events.TimerFired(events.HEARTBEAT), 3.85)) == [("waits 4", requests.Lost())]
    assert raft.role == "follower"
    assert ring(raft, 4.0) == []
    assert [session for session, _ in holders(raft)] == [HOLDER]


def test_a_told_time_that_was_truncated_suppresses_no_later_one() -> None:
    raft = queueing(lease=1.0)
    last = (raft.log.last, raft.log.last_term)
    for serial in (2, 3):
        raft.step(events.Proposed("lost", HOLDER, serial, put("x", serial)), 3.7)
    assert len(appended(ring(raft, 3.75))) == 1
    receive(raft, "n2", append(3, last, [3], commit=last[0] + 1), 3.8)  # in the place of all that
    assert (raft.log.last, raft.log.last_term) == (last[0] + 1, 3)
    elect(raft, 7.0)
    propose(raft, "again", WAITER, 1, acquire(), 7.1)
    assert [session for session, _ in holders(raft)] == [HOLDER]
    assert [told.session for told in appended(beat(raft, 9.5))] == [0]
    assert [session for session, _ in holders(raft)] == [WAITER]


def test_the_first_entry_of_a_new_leader_extends_leases_before_it_ends_any() -> None:
    """A full term more: who holds it may have found nobody to extend it."""
    raft = queueing(lease=1.0)
    before = holders(raft)[0][1]
    assert before == pytest.approx(log_time(TAKEN_AT) + 1.0)
    depose(raft, 3.0)
    elect(raft, 30.0)
    assert holders(raft) == [(HOLDER, before)]
    acknowledge(raft, "n2", now=30.05)
    assert holders(raft) == [(HOLDER, pytest.approx(before + 1.0))]
    (after,) = alarms(end(raft, 30.05))
    first = raft.log.entry(raft.term_start).time
    assert after == pytest.approx(before + 1.0 - first - 0.05, abs=0.002)


def test_log_time_stands_still_while_nobody_leads() -> None:
    """So no lease ends while nobody can be asked to extend it."""
    raft = queueing()
    depose(raft, 3.0)
    elect(raft, 1000.0)
    assert raft.log.entry(raft.term_start).time == pytest.approx(log_time(ASKED_AT))


def test_alone_a_node_tells_time_and_serves_who_waits() -> None:
    raft = queueing(lease=1.0, size=1)
    effects = step(raft, events.TimerFired(events.LEASES), 3.75)
    assert replies(effects) == [("waits 4", granted(2, log_time(ASKED_AT), log_time(3.75) + LEASE_S))]


@settings(max_examples=300, deadline=None)
@given(
    started_at=st.floats(0.0, 1e6),
    taken_after=st.floats(0.0, 100.0),
    lease=st.floats(0.001, 100.0),
)
def test_a_timer_that_fires_a_little_early_by_rounding_brings_time_on(
    started_at: float, taken_after: float, lease: float
) -> None:
    """In virtual time one that is set for less than the clock can tell would fire at the same instant for ever."""
    raft = core(1, size=1, log=[entry(1), entry(1, time=1 / 3, command=b"open")])
    raft.step(events.TimerFired(events.ELECTION), started_at)
    end(raft, started_at)
    now = started_at + taken_after
    waits = alarms(propose(raft, "holds", 2, 1, acquire(0.0, lease), now))
    for _ in range(3):
        assert len(waits) == 1
        now += waits[0]
        effects = step(raft, events.TimerFired(events.LEASES), now)
        if appended(effects):
            return
        waits = alarms(effects)
    pytest.fail(f"not told after three timers, the last of {waits} s at {now} s")
