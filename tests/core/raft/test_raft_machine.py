"""Sessions: each command once, expiry decided by the log alone, and the same bytes on every node."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest
from cores import entry, put

from testbed.base import limits
from testbed.base.codec import Codec, pack, unpack
from testbed.core import requests
from testbed.core.raft.machine import Applied, ReplicatedState
from testbed.core.services.commands import Acquire, Claim, Command, Publish, Release, Take, value
from testbed.core.services.machine import Services


class Counting:
    """A service that counts. `wait`: the session waits; `wake`: all that wait are told. Something is due at time 50.

    `long`: is answered with 100 bytes.
    """

    next_deadline = inf

    def __init__(self) -> None:
        self.count = 0
        self.due = 50.0
        self.waiting: list[int] = []
        self.told: list[tuple[int, bytes]] = []
        self.calls: list[object] = []
        self.holders: set[int] = set()

    def apply(self, command: bytes, session: int, time: float) -> bytes | None:
        self.count += 1
        if command == b"wait":
            self.waiting.append(session)
            return None
        if command == b"wake":
            self._wake(b"woken")
        return b"x" * 100 if command == b"long" else b"%d" % self.count

    def _wake(self, answer: bytes) -> None:
        self.told += [(session, answer) for session in self.waiting]
        self.waiting.clear()

    def advance(self, time: float) -> None:
        self.calls.append(time)
        if time >= self.due:
            self._wake(b"too late")

    def promote(self, time: float) -> None:
        self.calls.append(f"promoted at {time:g}")

    def give_up(self, session: int) -> bytes:
        self.waiting.remove(session)
        return b"given up"

    def holds_for(self, session: int) -> bool:
        return session in self.holders

    def answered(self) -> list[tuple[int, bytes]]:
        told, self.told = self.told, []
        return told

    def query(self, query: bytes) -> bytes:
        return b"%d" % self.count

    def snapshot(self) -> bytes:
        return pack([self.count, self.waiting])

    def restore(self, data: bytes) -> None:
        self.count, self.waiting = unpack(data)


def state(sessions_max: int = 100) -> ReplicatedState:
    return ReplicatedState(Counting(), sessions_max)


OPEN = b"open"


def test_a_session_is_numbered_by_the_entry_that_opens_it() -> None:
    machine = state()
    assert machine.apply(entry(1), 1) == Applied()
    assert machine.apply(entry(1, command=OPEN), 2) == Applied(opened=2)


def test_a_repeated_command_is_answered_and_not_carried_out_again() -> None:
    """R13, thesis checklist 12."""
    machine = state()
    machine.apply(entry(1, command=OPEN), 1)
    command = entry(1, 0.0, 1, 1, b"add")
    assert machine.apply(command, 2) == Applied(answer=b"1")
    assert machine.apply(command, 3) == Applied(answer=b"1")
    assert machine.service.query(b"") == b"1"


def test_a_late_repetition_of_an_earlier_command_does_nothing() -> None:
    """Thesis figure 6.2: the client has gone on since."""
    machine = state()
    machine.apply(entry(1, command=OPEN), 1)
    for serial, index in ((1, 2), (2, 3)):
        machine.apply(entry(1, 0.0, 1, serial, b"add"), index)
    assert machine.apply(entry(1, 0.0, 1, 1, b"add"), 4) == Applied()
    assert machine.service.query(b"") == b"2"


def test_an_unknown_session_is_an_error_and_never_created_silently() -> None:
    """Thesis checklist 12."""
    machine = state()
    assert machine.apply(entry(1, 0.0, 7, 1, b"add"), 1) == Applied(expired=True)
    assert machine.apply(entry(1, 0.0, 7, 1, b"add"), 2) == Applied(expired=True)
    assert (machine.sessions, machine.service.query(b"")) == ({}, b"0")


def test_a_session_ends_by_log_time_alone() -> None:
    """Thesis checklist 12: decided by the time that the leader stamped, the same on every node."""
    ttl = limits.SESSION_TTL_S
    machine = state()
    machine.apply(entry(1, 0.0, command=OPEN), 1)
    assert machine.apply(entry(1, ttl, 1, 1, b"add"), 2) == Applied(answer=b"1")
    assert machine.apply(entry(1, 2 * ttl, 1, 2, b"add"), 3) == Applied(answer=b"2")
    assert machine.apply(entry(1, 3 * ttl + 0.001, 1, 3, b"add"), 4) == Applied(expired=True)


def test_a_noop_lets_sessions_expire_too() -> None:
    machine = state()
    machine.apply(entry(1, 0.0, command=OPEN), 1)
    machine.apply(entry(1, limits.SESSION_TTL_S + 1), 2)
    assert machine.sessions == {}


def test_the_least_recently_used_session_makes_room() -> None:
    """Thesis 6.3."""
    machine = state(sessions_max=2)
    machine.apply(entry(1, command=OPEN), 1)
    machine.apply(entry(1, command=OPEN), 2)
    machine.apply(entry(1, 0.0, 1, 1, b"add"), 3)
    machine.apply(entry(1, command=OPEN), 4)
    assert list(machine.sessions) == [1, 4]
    assert machine.apply(entry(1, 0.0, 2, 1, b"add"), 5) == Applied(expired=True)


def test_a_restored_state_goes_on_as_the_original_would() -> None:
    """Thesis checklist 19: order of use, answers and times included."""
    machine = state(sessions_max=3)
    for index in range(1, 4):
        machine.apply(entry(1, float(index), command=OPEN), index)
    machine.apply(entry(1, 4.0, 1, 1, b"add"), 4)
    other = state(sessions_max=3)
    other.restore(machine.snapshot())
    later = [entry(1, 5.0, command=OPEN), entry(1, 6.0, 2, 1, b"add"), entry(1, 7.0, 1, 1, b"add")]
    for index, later_entry in enumerate(later, 5):
        assert machine.apply(later_entry, index) == other.apply(later_entry, index)
    assert machine.snapshot() == other.snapshot()


@pytest.mark.parametrize(
    "command", [b"\xc1", b"\x93\xa3Put\xa1\xff\xc0", b"\x92\xa3Get\xa1x", b"\x93\xa3Put\xa1k" + b"\x91" * 99_999]
)
def test_a_command_that_cannot_be_read_is_rejected_and_not_a_crash(command: bytes) -> None:
    """Thesis checklist 20 and 21: one that raised would end every node, at every start, for ever."""
    machine = ReplicatedState(Services())
    machine.apply(entry(1, command=OPEN), 1)
    result = machine.apply(entry(1, 0.0, 1, 1, command), 2)
    assert result.answer is not None
    assert b"not a command" in result.answer
    assert b"not a query" in machine.service.query(command.replace(b"Get\xa1x", b"Get\xa1\xff"))


# --- commands that wait ---


def waiting() -> ReplicatedState:
    """Sessions 1 and 2, the first of which waits under its serial 1."""
    machine = state()
    machine.apply(entry(1, command=OPEN), 1)
    machine.apply(entry(1, command=OPEN), 2)
    assert machine.apply(entry(1, 1.0, 1, 1, b"wait"), 3) == Applied(waits=True)
    return machine


def test_a_wait_ends_by_another_entry_and_its_answer_is_kept() -> None:
    machine = waiting()
    woken = machine.apply(entry(1, 2.0, 2, 1, b"wake"), 4)
    assert woken == Applied(answer=b"2", answered=[(1, 1, b"woken")])
    assert machine.apply(entry(1, 3.0, 1, 1, b"wait"), 5) == Applied(answer=b"woken")
    assert machine.waiting == {}


def test_a_repeated_command_that_waits_goes_on_waiting_at_its_place() -> None:
    """LK2: a retry of a lost acquire is no second acquire."""
    machine = waiting()
    assert machine.apply(entry(1, 2.0, 1, 1, b"wait"), 4) == Applied(waits=True)
    assert machine.service.query(b"") == b"1"


def test_the_next_command_of_a_session_ends_its_wait() -> None:
    machine = waiting()
    assert machine.apply(entry(1, 2.0, 1, 2, b"add"), 4) == Applied(answer=b"2")
    assert machine.apply(entry(1, 3.0, 2, 1, b"wake"), 5) == Applied(answer=b"3")


def test_a_wait_that_ends_just_before_the_sessions_next_command_is_not_mixed_up_with_it() -> None:
    machine = waiting()
    late = machine.apply(entry(1, 50.0, 1, 2, b"wait"), 4)
    assert late == Applied(waits=True, answered=[(1, 1, b"too late")])
    assert machine.sessions[1].answer is None


def test_a_leader_that_hears_no_more_of_a_client_ends_its_wait_and_no_other() -> None:
    """LK3."""
    machine = waiting()
    assert machine.apply(entry(1, 2.0, 1, 7), 4) == Applied()
    assert list(machine.waiting) == [1]
    assert machine.apply(entry(1, 2.0, 1, 1), 5) == Applied()
    assert machine.waiting == {}
    assert machine.apply(entry(1, 3.0, 1, 1, b"wait"), 6) == Applied(answer=b"given up")


def test_a_session_that_waits_neither_expires_nor_makes_room_for_another() -> None:
    ttl = limits.SESSION_TTL_S
    machine = ReplicatedState(Counting(), sessions_max=2)
    machine.apply(entry(1, 0.0, command=OPEN), 1)
    machine.apply(entry(1, 0.0, 1, 1, b"wait"), 2)
    machine.service.due = inf  # nothing else ends the wait
    machine.apply(entry(1, 2 * ttl), 3)
    assert list(machine.waiting) == [1]
    machine.apply(entry(1, 2 * ttl, command=OPEN), 4)
    machine.apply(entry(1, 2 * ttl, command=OPEN), 5)
    assert (list(machine.sessions), list(machine.waiting)) == ([1, 5], [1])


def test_a_session_that_waits_makes_no_room_while_there_are_others_however_new() -> None:
    machine = state(sessions_max=3)
    for index in (1, 2, 3):
        machine.apply(entry(1, command=OPEN), index)
    machine.apply(entry(1, 0.0, 1, 1, b"wait"), 4)
    for session, index in ((3, 5), (2, 6)):
        machine.apply(entry(1, 0.0, session, 1, b"add"), index)
    assert machine.apply(entry(1, command=OPEN), 7) == Applied(opened=7)
    assert list(machine.sessions) == [1, 2, 7]
    assert machine.apply(entry(1, command=OPEN), 8) == Applied(opened=8)
    assert (list(machine.sessions), list(machine.waiting)) == ([1, 7, 8], [1])


def test_if_all_sessions_wait_the_least_recently_used_one_makes_room_and_leaves_the_line() -> None:
    """Else no new client could do anything until one of them waits no more."""
    machine = state(sessions_max=2)
    for index in (1, 2):
        machine.apply(entry(1, command=OPEN), index)
    for session, index in ((2, 3), (1, 4)):
        machine.apply(entry(1, 0.0, session, 1, b"wait"), index)
    assert machine.apply(entry(1, command=OPEN), 5) == Applied(opened=5)
    assert (list(machine.sessions), list(machine.waiting)) == ([1, 5], [1])
    assert machine.apply(entry(1, 0.0, 5, 1, b"wake"), 6) == Applied(answer=b"3", answered=[(1, 1, b"woken")])
    assert machine.apply(entry(1, 0.0, 2, 1, b"wait"), 7) == Applied(expired=True)


def test_a_new_term_promotes_the_service_once_before_its_time_counts() -> None:
    machine = state()
    for term, time in ((1, 1.0), (1, 2.0), (3, 2.0), (3, 4.0)):
        machine.apply(entry(term, time), 1)
    assert machine.service.calls == ["promoted at 1", 1.0, 2.0, "promoted at 2", 2.0, 4.0]


def test_a_restored_state_knows_who_waits_and_whose_term_it_is() -> None:
    machine, other = waiting(), state()
    other.restore(machine.snapshot())
    other.apply(entry(1, 2.0), 4)
    assert other.service.calls == [2.0]
    assert other.apply(entry(1, 2.0, 2, 1, b"wake"), 5).answered == [(1, 1, b"woken")]


# --- sessions that hold a grant ---

_REPLIES = Codec(requests.REPLIES)


def replied(result: Applied) -> Any:
    assert result.answer is not None
    return _REPLIES.decode(result.answer)


class Log:
    """Commands of sessions in the log of a replicated state, one entry each."""

    def __init__(self) -> None:
        self.machine = ReplicatedState(Services())
        self._last = 0
        self._serials: dict[int, int] = {}

    def open(self, time: float) -> int:
        opened = self._append(time, 0, 0, OPEN).opened
        assert opened is not None
        return opened

    def do(self, session: int, time: float, command: Command) -> Applied:
        self._serials[session] = self._serials.get(session, 0) + 1
        return self._append(time, session, self._serials[session], pack(command))

    def _append(self, time: float, session: int, serial: int, command: bytes) -> Applied:
        self._last += 1
        return self.machine.apply(entry(1, time, session, serial, command), self._last)


def acquire(name: str, lease: float, wait: float = 0.0) -> Acquire:
    return Acquire((Claim(name),), lease, wait)


def test_a_session_that_holds_a_grant_expires_only_once_it_holds_none() -> None:
    ttl = limits.SESSION_TTL_S
    machine = state()
    for index in (1, 2):
        machine.apply(entry(1, command=OPEN), index)
    machine.service.holders = {1}
    machine.apply(entry(1, 5 * ttl), 3)
    assert list(machine.sessions) == [1]
    machine.service.holders = set()
    machine.apply(entry(1, 7 * ttl), 4)
    assert machine.sessions == {}


def test_a_lock_keeps_its_holders_session_until_it_is_released_or_its_lease_is_over() -> None:
    ttl = limits.SESSION_TTL_S
    log = Log()
    releases, loses = log.open(0.0), log.open(0.0)
    token = unpack(replied(log.do(releases, 0.0, acquire("a", 10 * ttl))).result)
    log.do(loses, 0.0, acquire("b", 3 * ttl))
    other = log.open(2 * ttl)
    assert list(log.machine.sessions) == [releases, loses, other]
    log.do(releases, 2 * ttl, Release(token))
    other = log.open(5 * ttl)
    assert list(log.machine.sessions) == [other]


def test_who_crosses_with_another_after_being_idle_for_longer_than_sessions_last_is_refused_as_a_deadlock() -> None:
    """A holder that asks under another session would not be seen to close the cycle."""
    late = limits.SESSION_TTL_S + 1
    log = Log()
    one, two = log.open(0.0), log.open(0.0)
    log.do(one, 0.0, acquire("y", 3600.0))
    log.do(two, late - 10, acquire("z", 3600.0))
    assert log.do(one, late, acquire("z", 10.0, 60.0)) == Applied(waits=True)
    refused = replied(log.do(two, late, acquire("y", 10.0, 60.0)))
    assert isinstance(refused, requests.Rejected)
    assert refused.error.startswith("deadlock: ")


# --- the answers that are kept ---


@pytest.fixture
def two_long_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much is kept, and a few short ones."""
    monkeypatch.setattr(limits, "ANSWERS_BYTES_MAX", 250)


def kept_of(machine: ReplicatedState) -> int:
    return sum(len(session.answer or b"") for session in machine.sessions.values())


@pytest.mark.usefixtures("two_long_answers")
def test_too_many_bytes_of_answers_end_the_least_recently_used_session() -> None:
    machine = state()
    for index in (1, 2, 3):
        machine.apply(entry(1, command=OPEN), index)
    for session, index in ((2, 4), (1, 5)):
        machine.apply(entry(1, 0.0, session, 1, b"long"), index)
    machine.apply(entry(1, 0.0, 3, 1, b"short"), 6)
    assert list(machine.sessions) == [2, 1, 3]
    assert machine.apply(entry(1, 0.0, 3, 2, b"long"), 7) == Applied(answer=b"x" * 100)
    assert list(machine.sessions) == [1, 3]
    assert machine.apply(entry(1, 0.0, 2, 1, b"long"), 8) == Applied(expired=True)
    assert machine.apply(entry(1, 0.0, 1, 1, b"long"), 9) == Applied(answer=b"x" * 100)


@pytest.mark.usefixtures("two_long_answers")
def test_an_answer_that_another_replaced_counts_no_more() -> None:
    machine = state()
    for index in (1, 2):
        machine.apply(entry(1, command=OPEN), index)
    for serial in range(1, 20):
        for session in (1, 2):
            machine.apply(entry(1, 0.0, session, serial, b"long"), 2 * serial + session)
    assert sorted(machine.sessions) == [1, 2]


@pytest.mark.usefixtures("two_long_answers")
def test_a_session_that_waits_is_not_ended_for_the_answers_of_others() -> None:
    machine = state()
    for index in range(1, 5):
        machine.apply(entry(1, command=OPEN), index)
    machine.apply(entry(1, 0.0, 1, 1, b"wait"), 5)
    for session in (2, 3, 4):
        machine.apply(entry(1, 0.0, session, 1, b"long"), 4 + session)
    assert (list(machine.sessions), list(machine.waiting)) == ([1, 3, 4], [1])


@pytest.mark.usefixtures("two_long_answers")
def test_sessions_that_ended_and_waits_that_were_given_up_leave_nothing_in_the_count() -> None:
    machine = state(sessions_max=2)
    for index in range(10, 200, 10):
        machine.apply(entry(1, command=OPEN), index)
        machine.apply(entry(1, 0.0, index, 1, b"wait"), index + 1)
        machine.apply(entry(1, 0.0, index, 1), index + 2)
        assert machine.sessions[index].answer == b"given up"
        machine.apply(entry(1, 0.0, index, 2, b"long"), index + 3)
    assert list(machine.sessions) == [180, 190]
    assert kept_of(machine) == 200


@pytest.mark.usefixtures("two_long_answers")
def test_a_restored_state_ends_the_same_sessions_for_their_answers_as_the_original() -> None:
    machine, other = state(), state()
    for index in range(1, 6):
        machine.apply(entry(1, command=OPEN), index)
    for session in (2, 1):
        machine.apply(entry(1, 0.0, session, 1, b"long"), 5 + session)
    machine.apply(entry(1, 0.0, 3, 1, b"wait"), 8)
    other.apply(entry(1, command=OPEN), 1)
    other.apply(entry(1, 0.0, 1, 1, b"long"), 2)  # replaced by what is restored, and of no account then
    other.restore(machine.snapshot())
    ended = []
    for index, session in enumerate((4, 5, 4, 3), 9):
        later = entry(1, 0.0, session, index, b"long")
        assert machine.apply(later, index) == other.apply(later, index)
        assert list(machine.sessions) == list(other.sessions)
        assert kept_of(machine) <= limits.ANSWERS_BYTES_MAX
        ended.append(5 - len(machine.sessions))
    assert machine.snapshot() == other.snapshot()
    assert ended[0] > 0
    assert list(machine.sessions) == [4, 3]


def test_what_was_taken_by_consumers_that_are_gone_does_not_make_snapshots_grow_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ANSWERS_BYTES_MAX", 50_000)
    log = Log()
    log.do(log.open(0.0), 0.0, Publish("q", value("x" * 10_000)))
    consumers = []
    for number in range(20):
        consumers.append(log.open(float(number)))
        taken = replied(log.do(consumers[-1], float(number), Take("q", 0.5)))
        assert unpack(taken.result)["deliveries"] == number + 1
        assert kept_of(log.machine) <= limits.ANSWERS_BYTES_MAX
    assert len(log.machine.snapshot()) < 50_000 + 11_000 + 2_000  # answers, the message itself, and the rest
    assert list(log.machine.sessions) == consumers[-4:]


APPLY = """
import sys
sys.path.insert(0, sys.argv[1])
from cores import entry, put
from testbed.core.raft.machine import ReplicatedState
from testbed.core.services.machine import Services
machine = ReplicatedState(Services(), 5)
for index in range(1, 400):
    session = index // 20 * 20 if index % 20 else 0
    command = put(f"key {index * 7919 % 50}", {f"field {n}": [index, n, 0.1 * n] for n in range(index % 7)})
    machine.apply(entry(1, index * 0.1, session, index % 20, command), index)
print(machine.snapshot().hex())
"""


def test_applying_does_not_depend_on_the_hash_seed() -> None:
    """Thesis checklist 20."""
    here = Path(__file__).parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", APPLY, str(here)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here.parents[2])},
            capture_output=True,
            check=True,
            timeout=100,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000


def test_commands_in_the_test_above_are_canonical() -> None:
    assert put("k", {"a": 1, "b": 2}) == put("k", {"b": 2, "a": 1})
