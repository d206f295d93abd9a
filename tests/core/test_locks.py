"""Locks as a state machine: every fact by hand, then all of them at random against a slow and obvious model."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import Raw, pack, unpack
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services.commands import (
    DEADLOCK,
    FULL,
    LEASE_LOST,
    NOT_GRANTED,
    READERS,
    UNFIT,
    Acquire,
    Claim,
    Extend,
    LockStatus,
    Release,
    Settle,
)
from testbed.core.services.locks import Locks, SavedLocks

LEASE = 10.0
NULL = Done(Raw(pack(None)))
AnyLockCommand = Acquire | Release | Extend | Settle

decode_state = msgspec.msgpack.Decoder(SavedLocks).decode


def acquire(*names: str, limit: int = 1, lease: float = LEASE, wait: float = 0.0) -> Acquire:
    return Acquire(tuple(Claim(name, limit) for name in names), lease, wait)


def granted(token: int, asked: float = 0.0, until: float = LEASE) -> Granted:
    return Granted(Raw(pack(token)), asked, until)


def taken_out(locks: Locks) -> list[tuple[int, Any]]:
    resolved = list(locks.resolved)
    locks.resolved.clear()
    return resolved


def word(reply: Any) -> Any:
    """A refusal without its reason."""
    return Rejected(reply.error.split(":")[0]) if isinstance(reply, Rejected) else reply


def waiting(locks: Locks, name: str) -> list[int]:
    return locks.query(LockStatus(name))["waiting"]  # type: ignore[no-any-return]


def holding(locks: Locks, name: str) -> list[int]:
    return [holder["session"] for holder in locks.query(LockStatus(name))["holders"]]


def copied(locks: Locks) -> Locks:
    copy = Locks()
    copy.restore(decode_state(msgspec.msgpack.encode(locks.snapshot())))
    return copy


# --- grants ---


def test_a_free_lock_is_granted_at_once() -> None:
    locks = Locks()
    assert locks.apply(acquire("a"), 7, 5.0) == granted(1, asked=5.0, until=15.0)
    assert locks.holds(1)
    assert locks.next_deadline == 15.0
    assert locks.query(LockStatus("a")) == {
        "holders": [{"token": 1, "session": 7, "limit": 1, "until": 15.0}],
        "waiting": [],
    }


def test_a_held_lock_is_refused_to_whoever_does_not_wait() -> None:
    locks = Locks()
    locks.apply(acquire("b"), 1, 0.0)
    before = locks.snapshot()
    assert locks.apply(acquire("a", "b"), 2, 0.0) == Rejected(f"{NOT_GRANTED}: 'b' is held by session 1")
    assert locks.snapshot() == before


def test_a_lock_with_a_line_is_refused_to_whoever_does_not_wait() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", "b", wait=5.0), 2, 0.0)
    assert locks.apply(acquire("b"), 3, 0.0) == Rejected(f"{NOT_GRANTED}: session 2 waits for 'b' and more")


def test_what_is_released_is_granted_to_the_next_in_line() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    assert locks.apply(acquire("a", lease=2.0, wait=5.0), 2, 1.0) is None
    assert waiting(locks, "a") == [2]
    assert locks.apply(Release(1), 1, 3.0) == NULL
    assert taken_out(locks) == [(2, granted(2, asked=1.0, until=5.0))]
    assert (holding(locks, "a"), waiting(locks, "a")) == ([2], [])


def test_a_lease_ends_in_log_time_and_the_next_in_line_is_granted() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", wait=50.0), 2, 1.0)
    locks.advance(9.999)
    assert locks.holds(1)
    locks.advance(10.0)
    assert not locks.holds(1)
    assert taken_out(locks) == [(2, granted(2, asked=1.0, until=20.0))]


def test_a_wait_that_ends_is_answered_and_leaves_the_line() -> None:
    """LK3, LK4: the line goes on, and nothing is granted to who left it."""
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", wait=5.0), 2, 1.0)
    locks.apply(acquire("a", wait=50.0), 3, 1.0)
    assert locks.next_deadline == 6.0
    locks.advance(6.0)
    assert taken_out(locks) == [(2, Rejected(f"{NOT_GRANTED}: 'a' is held by session 1"))]
    locks.apply(Release(1), 1, 7.0)
    assert [session for session, _ in taken_out(locks)] == [3]
    assert holding(locks, "a") == [3]


def test_whoever_waits_up_to_the_instant_of_the_release_is_granted() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", wait=10.0), 2, 0.0)
    locks.advance(10.0)
    assert taken_out(locks) == [(2, granted(2, until=20.0))]


def test_what_was_due_ends_in_its_order_however_late_that_is_told() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    locks.apply(acquire("a", wait=11.0), 3, 0.0)
    locks.advance(30.0)
    assert [(session, word(reply)) for session, reply in taken_out(locks)] == [
        (2, Rejected(NOT_GRANTED)),
        (3, granted(2, until=40.0)),
    ]


def test_whoever_gives_up_gets_no_answer_and_holds_nobody_up() -> None:
    """LK4: a cancelled waiter must not leak a held lock."""
    locks = Locks()
    locks.apply(acquire("a", limit=READERS), 1, 0.0)
    locks.apply(acquire("a", wait=50.0), 2, 0.0)
    locks.apply(acquire("a", limit=READERS, wait=50.0), 3, 1.0)
    locks.advance(2.0)
    locks.give_up(2)
    locks.give_up(2)
    assert taken_out(locks) == [(3, granted(2, asked=1.0, until=12.0))]
    assert (holding(locks, "a"), waiting(locks, "a")) == ([1, 3], [])


def test_a_wait_that_ends_lets_those_behind_pass_whom_only_it_held_up() -> None:
    locks = Locks()
    locks.apply(acquire("a", limit=READERS), 1, 0.0)
    locks.apply(acquire("a", wait=2.0), 2, 0.0)
    locks.apply(acquire("a", limit=READERS, wait=50.0), 3, 0.0)
    locks.advance(2.0)
    assert [(session, word(reply)) for session, reply in taken_out(locks)] == [
        (2, Rejected(NOT_GRANTED)),
        (3, granted(2, until=12.0)),
    ]


def test_a_session_that_comes_with_another_command_waits_no_more() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", wait=50.0), 2, 0.0)
    assert locks.apply(acquire("b"), 2, 0.0) == granted(2)
    assert waiting(locks, "a") == []
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == []


def test_a_hundred_waiters_are_woken_one_a_release_in_the_order_of_the_log() -> None:
    """LK5."""
    locks = Locks()
    order = [session * 37 % 101 for session in range(1, 101)]
    locks.apply(acquire("a"), 500, 0.0)
    for session in order:
        assert locks.apply(acquire("a", wait=50.0), session, 0.0) is None
    for token, session in enumerate(order, 1):
        locks.apply(Release(token), 500, 1.0)
        assert taken_out(locks) == [(session, granted(token + 1, until=11.0))]
    locks.apply(Release(101), 500, 1.0)
    assert taken_out(locks) == []
    assert locks.snapshot() == SavedLocks(1.0, 101, 100, [], [])


def lines_run(action: Callable[[], object]) -> int:
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def test_a_release_is_no_more_work_with_many_waiters_than_with_few() -> None:
    def work(waiters: int) -> int:
        locks = Locks()
        locks.apply(acquire("a"), 1, 0.0)
        for session in range(2, 2 + waiters):
            locks.apply(acquire("a", f"b{session % 7}", wait=50.0), session, 0.0)
        return lines_run(lambda: locks.apply(Release(1), 1, 0.0))

    assert work(400) == work(20)


def test_to_line_up_is_no_more_work_behind_many_waiters_than_behind_few() -> None:
    def work(waiters: int) -> int:
        locks = Locks()
        locks.apply(acquire("a"), 1, 0.0)
        locks.apply(acquire("b"), 2, 0.0)
        for session in range(3, 3 + waiters):
            locks.apply(acquire("a", wait=50.0), session, 0.0)
        return lines_run(lambda: locks.apply(acquire("a", wait=50.0), 2, 0.0))

    assert work(400) == work(20)


# --- sharing ---


def test_readers_share_and_a_writer_shares_with_nobody() -> None:
    locks = Locks()
    assert locks.apply(acquire("a", limit=READERS), 1, 0.0) == granted(1)
    assert locks.apply(acquire("a", limit=READERS), 2, 0.0) == granted(2)
    assert locks.apply(acquire("a", wait=9.0), 3, 0.0) is None
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == []
    locks.apply(Release(2), 2, 0.0)
    assert taken_out(locks) == [(3, granted(3))]
    assert word(locks.apply(acquire("a", limit=READERS), 1, 0.0)) == Rejected(NOT_GRANTED)


def test_a_writer_is_not_starved_by_readers() -> None:
    locks = Locks()
    locks.apply(acquire("a", limit=READERS), 1, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    assert locks.apply(acquire("a", limit=READERS, wait=9.0), 3, 0.0) is None
    assert locks.apply(acquire("a", limit=READERS, wait=9.0), 4, 0.0) is None
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == [(2, granted(2))]
    locks.apply(Release(2), 2, 0.0)
    assert taken_out(locks) == [(3, granted(3)), (4, granted(4))]


def test_a_semaphore_admits_as_many_as_the_least_limit_says() -> None:
    locks = Locks()
    assert locks.apply(acquire("a", limit=3), 1, 0.0) == granted(1)
    assert word(locks.apply(acquire("a", limit=1), 2, 0.0)) == Rejected(NOT_GRANTED)
    assert locks.apply(acquire("a", limit=2), 2, 0.0) == granted(2)
    assert word(locks.apply(acquire("a", limit=3), 3, 0.0)) == Rejected(NOT_GRANTED)
    locks.apply(Release(2), 2, 0.0)
    assert locks.apply(acquire("a", limit=3), 2, 0.0) == granted(3)
    assert locks.apply(acquire("a", limit=3), 3, 0.0) == granted(4)
    assert word(locks.apply(acquire("a", limit=READERS), 4, 0.0)) == Rejected(NOT_GRANTED)


# --- several at once ---


def test_all_of_the_locks_are_granted_or_none() -> None:
    locks = Locks()
    locks.apply(acquire("b"), 1, 0.0)
    locks.apply(acquire("c"), 2, 0.0)
    assert locks.apply(acquire("a", "b", "c", wait=9.0), 3, 0.0) is None
    assert holding(locks, "a") == []
    locks.apply(Release(1), 1, 0.0)
    assert (taken_out(locks), holding(locks, "b")) == ([], [])
    locks.apply(Release(2), 2, 0.0)
    assert taken_out(locks) == [(3, granted(3))]
    assert [holding(locks, name) for name in "abc"] == [[3], [3], [3]]
    locks.apply(Release(3), 3, 0.0)
    assert [holding(locks, name) for name in "abc"] == [[], [], []]


def test_nobody_passes_in_any_line_of_one_who_waits_for_several() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("a", "b", wait=9.0), 2, 0.0)
    assert locks.apply(acquire("b", wait=9.0), 3, 0.0) is None
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == [(2, granted(2))]
    locks.apply(Release(2), 2, 0.0)
    assert taken_out(locks) == [(3, granted(3))]


def test_one_release_wakes_all_whom_it_lets_through_in_the_order_of_the_log() -> None:
    locks = Locks()
    locks.apply(acquire("a", "b", "c"), 1, 0.0)
    locks.apply(acquire("c", wait=9.0), 4, 0.0)
    locks.apply(acquire("a", limit=2, wait=9.0), 3, 0.0)
    locks.apply(acquire("b", wait=9.0), 5, 0.0)
    locks.apply(acquire("a", limit=2, wait=9.0), 2, 0.0)
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == [(4, granted(2)), (3, granted(3)), (5, granted(4)), (2, granted(5))]


# --- release, extend, settle ---


@pytest.mark.parametrize("command", [Release(1), Extend(1, 5.0), Release(0), Release(99), Release(-1), Extend(99, 5.0)])
def test_a_stale_token_neither_releases_nor_extends(command: AnyLockCommand) -> None:
    """LK8: an old holder's release must not release the new holder's lock."""
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.advance(10.0)
    assert locks.apply(acquire("a"), 2, 10.0) == granted(2, asked=10.0, until=20.0)
    before = locks.snapshot()
    assert word(locks.apply(command, 1, 10.0)) == Rejected(LEASE_LOST)
    assert locks.snapshot() == before
    assert (locks.holds(1), locks.holds(2)) == (False, True)


def test_whoever_knows_the_token_may_extend_and_release() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    assert locks.apply(Extend(1, 20.0), 2, 5.0) == granted(1, asked=5.0, until=25.0)
    assert locks.apply(Release(1), 2, 6.0) == NULL
    assert not locks.holds(1)


def test_an_extended_lease_ends_at_its_new_end_only() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(Extend(1, 20.0), 1, 5.0)
    locks.advance(10.0)
    assert (locks.holds(1), locks.next_deadline) == (True, 25.0)
    assert locks.apply(Extend(1, 1.0), 1, 10.0) == granted(1, asked=10.0, until=11.0)
    locks.advance(11.0)
    assert (locks.holds(1), locks.next_deadline) == (False, inf)


def test_settling_ends_what_the_session_holds_but_for_the_named_tokens() -> None:
    locks = Locks()
    for session, name in [(1, "a"), (1, "b"), (2, "c"), (1, "d")]:
        locks.apply(acquire(name), session, 0.0)
    locks.apply(acquire("a", "d", wait=9.0), 3, 0.0)
    assert locks.apply(Settle((2, 77)), 1, 0.0) == Done(Raw(pack(2)))
    assert [locks.holds(token) for token in (1, 2, 3, 4)] == [False, True, True, False]
    assert taken_out(locks) == [(3, granted(5))]
    assert locks.apply(Settle(()), 9, 0.0) == Done(Raw(pack(0)))


# --- tokens, leaders, snapshots ---


def test_tokens_grow_over_snapshots_and_though_nothing_is_held() -> None:
    """LK11."""
    locks = Locks()
    for expected in range(1, 6):
        assert locks.apply(acquire("a"), 1, 0.0) == granted(expected)
        locks.apply(Release(expected), 1, 0.0)
        locks = copied(locks)
    assert locks.snapshot() == SavedLocks(0.0, 5, 0, [], [])


def test_a_new_leader_gives_every_lease_a_full_term_more_and_no_wait() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("b", lease=4.0), 2, 1.0)
    locks.apply(acquire("a", wait=9.0), 3, 1.0)
    locks.promote(20.0)  # both leases and the wait were over, had anyone been there to say so
    locks.advance(20.0)
    assert [(session, word(reply)) for session, reply in taken_out(locks)] == [(3, Rejected(NOT_GRANTED))]
    locks.promote(8.0)
    assert not locks.holds(2)


def test_the_term_of_a_new_leader_is_the_present_lease_and_keeps_the_spread() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("b", lease=4.0), 2, 1.0)
    locks.apply(Extend(2, 6.0), 2, 1.5)
    locks.promote(5.0)
    assert locks.query(LockStatus("a"))["holders"][0]["until"] == 20.0
    assert locks.query(LockStatus("b"))["holders"][0]["until"] == 13.5
    assert locks.next_deadline == 13.5


def test_leaders_that_follow_fast_upon_each_other_add_up_to_two_terms_at_most() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    for _ in range(5):
        locks.promote(1.0)
    assert locks.next_deadline == 21.0


def test_nothing_is_kept_of_locks_that_nobody_holds_or_waits_for() -> None:
    locks = Locks()
    for token in range(1, 30, 3):
        locks.apply(acquire(f"a{token}", f"b{token}"), 1, 0.0)
        assert locks.apply(acquire(f"a{token}", f"c{token}", wait=9.0), 2, 0.0) is None
        locks.apply(Release(token), 1, 0.0)
        locks.apply(Release(token + 1), 2, 0.0)
        locks.apply(acquire(f"d{token}"), 1, 0.0)
        locks.apply(Settle(()), 1, 0.0)
    assert not locks._locks
    assert not locks._tokens_of
    assert locks.next_deadline == inf


def test_a_status_names_so_many_holders_as_fit_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.core.services.locks._HOLDERS_SHOWN_MAX", 2)
    locks = Locks()
    for session in (1, 2, 3):
        locks.apply(acquire("a", limit=READERS), session, 0.0)
    assert holding(locks, "a") == [1, 2]


# --- what is refused ---


@pytest.mark.parametrize(
    "command",
    [
        Acquire((), LEASE),
        Acquire((Claim("a"), Claim("b"), Claim("a")), LEASE),
        Acquire((Claim("a"), Claim("a", 2)), LEASE),
        acquire(*map(str, range(limits.CLAIMS_MAX + 1))),
        acquire(""),
        acquire("ü" * (limits.NAME_BYTES_MAX // 2) + "x"),
        acquire("a", limit=0),
        acquire("a", limit=-1),
        acquire("a", limit=READERS + 1),
        *(acquire("a", lease=lease) for lease in (0.0, -1.0, nan, inf, limits.LEASE_S_MAX + 1)),
        *(acquire("a", wait=wait) for wait in (-1.0, nan, inf, limits.WAIT_S_MAX + 1)),
        *(Extend(1, lease) for lease in (0.0, -1.0, nan, inf, limits.LEASE_S_MAX + 1)),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(command: AnyLockCommand) -> None:
    locks = Locks()
    locks.apply(acquire("z"), 1, 0.0)
    before = locks.snapshot()
    assert word(locks.apply(command, 2, 0.0)) == Rejected(UNFIT)
    assert locks.snapshot() == before


def test_what_is_at_its_limit_makes_sense() -> None:
    locks = Locks()
    names = ["ü" * (limits.NAME_BYTES_MAX // 2), *map(str, range(limits.CLAIMS_MAX - 1))]
    command = acquire(*names, limit=READERS, lease=limits.LEASE_S_MAX, wait=limits.WAIT_S_MAX)
    assert isinstance(locks.apply(command, 1, 0.0), Granted)


def test_no_more_locks_are_held_or_waited_for_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRANTS_MAX", 4)
    locks = Locks()
    locks.apply(acquire("a", "b"), 1, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    assert word(locks.apply(acquire("c", "d"), 3, 0.0)) == Rejected(FULL)
    assert locks.apply(acquire("c"), 3, 0.0) == granted(2)
    locks = copied(locks)
    assert word(locks.apply(acquire("d"), 4, 0.0)) == Rejected(FULL)
    locks.apply(Release(1), 1, 0.0)
    assert taken_out(locks) == [(2, granted(3))]
    assert locks.apply(acquire("d", "e"), 4, 0.0) == granted(4)
    assert word(locks.apply(acquire("f"), 5, 0.0)) == Rejected(FULL)


def test_no_more_sessions_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_MAX", 1)
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 2, 0.0) is None
    before = locks.snapshot()
    assert word(locks.apply(acquire("a", wait=9.0), 3, 0.0)) == Rejected(FULL)
    assert locks.snapshot() == before
    locks.give_up(2)
    assert locks.apply(acquire("a", wait=9.0), 3, 0.0) is None


# --- deadlocks ---


def test_of_two_that_cross_one_is_the_victim_and_the_other_goes_on() -> None:
    """LK9."""
    locks = Locks()
    locks.apply(acquire("a"), 12, 0.0)
    locks.apply(acquire("b"), 14, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 14, 0.0) is None
    before = locks.snapshot()
    assert locks.apply(acquire("b", wait=9.0), 12, 0.0) == Rejected(
        f"{DEADLOCK}: session 12 waits for 'b' of session 14, which waits for 'a' of session 12"
    )
    assert locks.snapshot() == before
    assert taken_out(locks) == []
    locks.apply(Release(1), 12, 0.0)
    assert taken_out(locks) == [(14, granted(3))]


def test_whoever_does_not_wait_is_in_no_deadlock() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("b"), 2, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    assert word(locks.apply(acquire("b"), 1, 0.0)) == Rejected(NOT_GRANTED)


def test_a_cycle_of_three_is_found_when_it_closes() -> None:
    locks = Locks()
    for session, name in enumerate("abc", 1):
        locks.apply(acquire(name), session, 0.0)
    assert locks.apply(acquire("b", wait=9.0), 1, 0.0) is None
    assert locks.apply(acquire("c", wait=9.0), 2, 0.0) is None
    assert locks.apply(acquire("d", "a", wait=9.0), 3, 0.0) == Rejected(
        f"{DEADLOCK}: session 3 waits for 'a' of session 1, which waits for 'b' of session 2, "
        "which waits for 'c' of session 3"
    )


def test_a_session_that_asks_for_what_it_holds_is_a_cycle_of_one() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 1, 0.0) == Rejected(f"{DEADLOCK}: session 1 waits for 'a' of session 1")
    locks.apply(acquire("b", limit=READERS), 2, 0.0)
    locks.apply(acquire("b", limit=READERS), 3, 0.0)
    assert word(locks.apply(acquire("b", wait=9.0), 2, 0.0)) == Rejected(DEADLOCK)


def test_two_readers_that_both_want_to_write_are_a_cycle() -> None:
    locks = Locks()
    locks.apply(acquire("a", limit=READERS), 1, 0.0)
    assert word(locks.apply(acquire("a", wait=9.0), 1, 0.0)) == Rejected(DEADLOCK)


def test_a_reader_that_comes_again_behind_a_writer_is_a_cycle() -> None:
    locks = Locks()
    locks.apply(acquire("a", limit=READERS), 1, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    assert locks.apply(acquire("a", limit=READERS, wait=9.0), 1, 0.0) == Rejected(
        f"{DEADLOCK}: session 1 waits for 'a' behind session 2, which waits for 'a' of session 1"
    )


def test_a_line_is_a_way_to_wait_for_one_another() -> None:
    """Session 3 could share `b` with its holder, but stands in line behind one who waits for what it holds."""
    locks = Locks()
    locks.apply(acquire("a"), 3, 0.0)
    locks.apply(acquire("b", limit=READERS), 1, 0.0)
    assert locks.apply(acquire("a", "b", wait=9.0), 2, 0.0) is None
    assert word(locks.apply(acquire("b", limit=READERS, wait=9.0), 3, 0.0)) == Rejected(DEADLOCK)


def test_a_semaphore_is_no_deadlock_while_one_of_its_holders_can_go_on() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("s", limit=2), 2, 0.0)
    locks.apply(acquire("s", limit=2), 3, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 2, 0.0) is None
    assert locks.apply(acquire("s", limit=2, wait=9.0), 1, 0.0) is None  # a cycle with 2, but 3 gives its share back
    locks.apply(Release(3), 3, 0.0)
    assert taken_out(locks) == [(1, granted(4))]


def test_a_semaphore_is_a_deadlock_once_none_of_its_holders_can_go_on() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("b"), 1, 0.0)
    locks.apply(acquire("s", limit=2), 2, 0.0)
    locks.apply(acquire("s", limit=2), 3, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 2, 0.0) is None
    assert locks.apply(acquire("s", limit=2, wait=9.0), 1, 0.0) is None
    before = locks.snapshot()
    assert locks.apply(acquire("b", wait=9.0), 3, 0.0) == Rejected(
        f"{DEADLOCK}: session 3 waits for 'b' of session 1, which waits for 's' of session 3"
    )
    assert locks.snapshot() == before


def test_a_chain_that_ends_at_one_who_can_go_on_is_no_deadlock() -> None:
    locks = Locks()
    for session, name in enumerate("abc", 1):
        locks.apply(acquire(name), session, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 4, 0.0) is None
    assert locks.apply(acquire("c", wait=9.0), 2, 0.0) is None
    assert locks.apply(acquire("b", wait=9.0), 1, 0.0) is None
    for token, session in [(3, 2), (2, 1), (1, 4)]:
        locks.apply(Release(token), 9, 0.0)
        assert [woken for woken, _ in taken_out(locks)] == [session]


def test_whoever_goes_on_lets_all_go_on_who_need_what_it_holds() -> None:
    """Session 1 needs both 2 and 3, and 2 needs 3, which needs only 5."""
    locks = Locks()
    for session, names in [(1, "x"), (2, "p"), (3, "qr"), (5, "s")]:
        locks.apply(acquire(*names), session, 0.0)
    assert locks.apply(acquire("x", wait=9.0), 4, 0.0) is None
    assert locks.apply(acquire("s", wait=9.0), 3, 0.0) is None
    assert locks.apply(acquire("r", wait=9.0), 2, 0.0) is None
    assert locks.apply(acquire("p", "q", wait=9.0), 1, 0.0) is None


def test_a_lease_that_will_run_out_is_no_way_out() -> None:
    locks = Locks()
    locks.apply(acquire("a", lease=0.001), 1, 0.0)
    locks.apply(acquire("b", lease=0.001), 2, 0.0)
    assert locks.apply(acquire("a", wait=9.0), 2, 0.0) is None
    assert word(locks.apply(acquire("b", wait=9.0), 1, 0.0)) == Rejected(DEADLOCK)


def test_a_session_that_left_the_line_closes_no_cycle() -> None:
    locks = Locks()
    locks.apply(acquire("a"), 1, 0.0)
    locks.apply(acquire("b"), 2, 0.0)
    locks.apply(acquire("a", wait=9.0), 2, 0.0)
    locks.give_up(2)
    assert locks.apply(acquire("b", wait=9.0), 1, 0.0) is None


def test_a_long_cycle_is_told_in_short() -> None:
    locks = Locks()
    count = 300
    for session in range(count):
        locks.apply(acquire(str(session)), session, 0.0)
    for session in range(count - 1):
        assert locks.apply(acquire(str(session + 1), wait=9.0), session, 0.0) is None
    reply = locks.apply(acquire("0", wait=9.0), count - 1, 0.0)
    assert isinstance(reply, Rejected)
    assert reply.error == (
        f"{DEADLOCK}: session 299 waits for '0' of session 0, "
        + "".join(f"which waits for '{step}' of session {step}, " for step in range(1, 6))
        + "which waits for 293 more in turn, which waits for '299' of session 299"
    )


# --- at random, against a model ---


@dataclass
class Held:
    token: int
    session: int
    claims: dict[str, int]
    lease: float
    until: float


@dataclass
class Queued:
    session: int
    claims: dict[str, int]
    lease: float
    asked: float
    until: float


@dataclass
class Model:
    """The same service as plain lists, of which everything is worked out anew each time."""

    tokens: int = 0
    grants: list[Held] = field(default_factory=list)
    waits: list[Queued] = field(default_factory=list)  # in the order of the log
    resolved: list[tuple[int, Any]] = field(default_factory=list)

    def may(self, claims: dict[str, int], ahead: list[Queued]) -> bool:
        for name, limit in claims.items():
            shares = [held.claims[name] for held in self.grants if name in held.claims]
            if any(name in queued.claims for queued in ahead) or len(shares) + 1 > min([limit, *shares]):
                return False
        return True

    def grant(self, session: int, claims: dict[str, int], lease: float, asked: float, now: float) -> Granted:
        self.tokens += 1
        self.grants.append(Held(self.tokens, session, claims, lease, now + lease))
        return granted(self.tokens, asked, now + lease)

    def first_ready(self) -> Queued | None:
        for place, queued in enumerate(self.waits):
            if self.may(queued.claims, self.waits[:place]):
                return queued
        return None

    def wake(self, now: float) -> None:
        while queued := self.first_ready():
            self.waits.remove(queued)
            reply = self.grant(queued.session, queued.claims, queued.lease, queued.asked, now)
            self.resolved.append((queued.session, reply))

    def advance(self, now: float) -> None:
        while True:
            ends = [(held.until, 0, held.token) for held in self.grants]
            ends += [(queued.until, 1, queued.session) for queued in self.waits]
            end = min(ends, default=(inf, 0, 0))
            if end[0] > now:
                return
            if end[1] == 0:
                self.grants = [held for held in self.grants if held.token != end[2]]
            else:
                self.waits = [queued for queued in self.waits if queued.session != end[2]]
                self.resolved.append((end[2], Rejected(NOT_GRANTED)))
            self.wake(now)

    def promote(self, now: float) -> None:
        for held in self.grants:
            held.until = min(held.until, now + held.lease) + held.lease

    def give_up(self, session: int, now: float) -> None:
        self.waits = [queued for queued in self.waits if queued.session != session]
        self.wake(now)

    def can_be_granted(self, session: int, stuck: frozenset[int], seen: dict[frozenset[int], bool]) -> bool:
        """Whether in some order of those in `stuck` each goes on, up to that session; the others have left."""
        if session not in stuck:
            return True
        if stuck not in seen:
            rest = Model(
                grants=[held for held in self.grants if held.session in stuck],
                waits=[queued for queued in self.waits if queued.session in stuck],
            )
            seen[stuck] = any(
                rest.may(queued.claims, rest.waits[:place])
                and self.can_be_granted(session, stuck - {queued.session}, seen)
                for place, queued in enumerate(rest.waits)
            )
        return seen[stuck]

    def is_stuck(self, session: int) -> bool:
        return not self.can_be_granted(session, frozenset(queued.session for queued in self.waits), {})

    def acquire(self, command: Acquire, session: int, now: float) -> Any:
        claims = {claim.lock: claim.limit for claim in command.claims}
        if self.may(claims, self.waits):
            return self.grant(session, claims, command.lease, now, now)
        if not command.wait:
            return Rejected(NOT_GRANTED)
        self.waits.append(Queued(session, claims, command.lease, now, now + command.wait))
        if self.is_stuck(session):
            self.waits.pop()
            return Rejected(DEADLOCK)
        return None

    def apply(self, command: AnyLockCommand, session: int, now: float) -> Any:
        self.give_up(session, now)
        if isinstance(command, Acquire):
            return self.acquire(command, session, now)
        if isinstance(command, Settle):
            ended = [held for held in self.grants if held.session == session and held.token not in command.tokens]
            self.grants = [held for held in self.grants if held not in ended]
            self.wake(now)
            return Done(Raw(pack(len(ended))))
        for held in self.grants:
            if held.token == command.token:
                if isinstance(command, Extend):
                    held.lease, held.until = command.lease, now + command.lease
                    return granted(held.token, now, held.until)
                self.grants.remove(held)
                self.wake(now)
                return NULL
        return Rejected(LEASE_LOST)

    def status(self, name: str) -> dict[str, Any]:
        return {
            "holders": [
                {"token": held.token, "session": held.session, "limit": held.claims[name], "until": held.until}
                for held in self.grants
                if name in held.claims
            ],
            "waiting": [queued.session for queued in self.waits if name in queued.claims],
        }


@dataclass(frozen=True)
class Step:
    after: float
    session: int
    what: AnyLockCommand | str


NAMES = ("a", "b", "c", "d")
SESSIONS = 6

sessions = st.integers(1, SESSIONS)
seconds = st.integers(1, 30).map(float)
claims = st.lists(
    st.builds(Claim, st.sampled_from(NAMES), st.sampled_from([1, 1, 1, 2, 2, 3, READERS])),
    min_size=1,
    max_size=3,
    unique_by=lambda claim: claim.lock,
).map(tuple)
ages = st.integers(-1, 7)  # in the place of a token: that many before the latest
acquires = st.builds(Acquire, claims, seconds, st.sampled_from([0.0, 3.0, 5.0, 9.0, 20.0, 30.0]))
others = [
    st.builds(Release, ages),
    st.builds(Release, ages),
    st.builds(Extend, ages, seconds),
    st.builds(Settle, st.lists(ages, max_size=3).map(tuple)),
    st.sampled_from(["promote", "give up", "nothing"]),
]
steps = st.builds(
    Step,
    st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 5.0]),
    sessions,
    st.sampled_from([acquires] * 10 + others).flatmap(lambda chosen: chosen),
)
stories = st.lists(steps, min_size=20, max_size=40)


def with_tokens(what: AnyLockCommand | str, latest: int) -> AnyLockCommand | str:
    match what:
        case Release() | Extend():
            return msgspec.structs.replace(what, token=latest - what.token)
        case Settle():
            return Settle(tuple(latest - age for age in what.tokens))
        case _:
            return what


def told(locks: Locks, story: list[Step], now: float = 0.0) -> Iterator[tuple[Step, float, Any]]:
    """Each step, with the tokens it means, its time and the reply to it."""
    for planned in story:
        now += planned.after
        step = replace(planned, what=with_tokens(planned.what, locks.snapshot().tokens))
        if step.what == "promote":
            locks.promote(now)
        locks.advance(now)
        reply = None
        if step.what == "give up":
            locks.give_up(step.session)
        elif not isinstance(step.what, str):
            reply = locks.apply(step.what, step.session, now)
        yield step, now, reply


def check_cycle(reason: str, asker: int, model: Model) -> None:
    """Every step of it is there, those that wait do, and it comes back to where it began."""
    at = asker
    start, *parts = re.split(r" waits |, which waits ", reason)
    assert start == f"session {asker}"
    for part in parts:
        match = re.fullmatch(r"for '(\w)' (of|behind) session (\d+)", part)
        assert match, part
        name, how, other = match[1], match[2], int(match[3])
        line = [queued.session for queued in model.waits if name in queued.claims]
        assert at in line
        if how == "of":
            assert any(held.session == other and name in held.claims for held in model.grants)
        else:
            assert line.index(other) < line.index(at)
        at = other
    assert at == asker


@settings(max_examples=150, deadline=None)
@given(story=stories)
def test_it_does_what_the_slow_and_obvious_model_does(story: list[Step]) -> None:
    locks, model = Locks(), Model()
    last_token = 0
    for step, now, reply in told(locks, story):
        if step.what == "promote":
            model.promote(now)
        model.advance(now)
        if step.what == "give up":
            model.give_up(step.session, now)
        elif not isinstance(step.what, str):
            assert word(reply) == model.apply(step.what, step.session, now)
        if isinstance(reply, Rejected) and reply.error.startswith(DEADLOCK) and isinstance(step.what, Acquire):
            asked = {claim.lock: claim.limit for claim in step.what.claims}
            closed = replace(model, waits=[*model.waits, Queued(step.session, asked, 0.0, now, now)])
            check_cycle(reply.error.removeprefix(f"{DEADLOCK}: "), step.session, closed)
        resolved = taken_out(locks)
        assert [(session, word(answer)) for session, answer in resolved] == model.resolved
        model.resolved.clear()
        for answer in [*(answer for _, answer in resolved), reply]:
            if isinstance(answer, Granted) and not isinstance(step.what, Extend):
                assert unpack(answer.result) > last_token
                last_token = unpack(answer.result)
        assert {name: locks.query(LockStatus(name)) for name in NAMES} == {name: model.status(name) for name in NAMES}
        assert [token for token in range(100) if locks.holds(token)] == [held.token for held in model.grants]
        ends = [held.until for held in model.grants] + [queued.until for queued in model.waits]
        assert locks.next_deadline == min(ends, default=inf)
        check_promises(model)


def check_promises(model: Model) -> None:
    """The model agrees with the service by now: here it is held to what both promise."""
    for name in NAMES:
        shares = [held.claims[name] for held in model.grants if name in held.claims]
        assert len(shares) <= min(shares, default=0), "mutual exclusion"
    assert model.first_ready() is None, "a lost wake-up"
    assert not any(model.is_stuck(queued.session) for queued in model.waits), "a deadlock among those who wait"


@settings(max_examples=50, deadline=None)
@given(before=stories, after=stories)
def test_a_restored_copy_goes_on_as_the_original_does(before: list[Step], after: list[Step]) -> None:
    original = Locks()
    for _ in told(original, before):
        original.resolved.clear()
    now = sum(step.after for step in before)
    copy = copied(original)
    assert copy.snapshot() == original.snapshot()
    for (_, _, one), (_, _, other) in zip(told(original, after, now), told(copy, after, now), strict=True):
        assert one == other
        assert taken_out(original) == taken_out(copy)
        assert original.next_deadline == copy.next_deadline
        assert msgspec.msgpack.encode(original.snapshot()) == msgspec.msgpack.encode(copy.snapshot())
        assert [original.query(LockStatus(name)) for name in NAMES] == [copy.query(LockStatus(name)) for name in NAMES]
