"""Sessions: each command once, expiry decided by the log alone, and the same bytes on every node."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from cores import entry, put

from testbed.base import limits
from testbed.base.codec import pack, unpack
from testbed.core.raft.machine import Applied, ReplicatedState
from testbed.core.services.machine import Services


class Counting:
    """A service that counts. `wait`: the session waits; `wake`: all that wait are told. Something is due at time 50."""

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
        return b"%d" % self.count

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
