"""What the bugs planted in locks and queues do wrong, shown on the state machines, on single cores and on sessions."""

from typing import Any

import msgspec
import pytest
from biting import both
from cores import answers, core, entry, leader

from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.client import Answered, Session
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.machine import ReplicatedState
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services.commands import (
    READERS,
    Ack,
    Acquire,
    Claim,
    Command,
    LockStatus,
    Nack,
    Publish,
    Put,
    QueueStatus,
    Release,
    Take,
    value,
)
from testbed.core.services.locks import Locks
from testbed.core.services.machine import Services
from testbed.core.services.queues import Queues, SavedQueues
from testbed.sim.clocks import LocalClock

CODEC = Codec((*requests.REQUESTS, *requests.REPLIES))
LEASE = 10.0


def acquire(name: str, limit: int = 1, wait: float = 0.0) -> Acquire:
    return Acquire((Claim(name, limit),), LEASE, wait)


def publish(body: str = "m", key: str | None = None) -> Publish:
    return Publish("q", value(body), key)


def woken(service: Locks | Queues) -> list[int]:
    """The sessions whose wait is over."""
    return [session for session, _ in service.resolved]


# --- clients, as far as to what they send ---


def opened(number: int, now: float) -> Session:
    """A client that has its session, and has done nothing yet."""
    session = Session(("n1",), 1.0, CODEC)
    (opening,) = session.begin(Put("x", value(1)), now, 5.0)
    (put,) = session.step(Answered(opening.ask, True, CODEC.encode(requests.Opened(number))), now)
    session.step(Answered(put.ask, True, CODEC.encode(Done(value(None)))), now)
    return session


def sent(session: Session, command: Command, now: float, reply: Any = None) -> bytes:
    """The command as the log keeps it. With a `reply`, the client gets it."""
    (ask,) = session.begin(command, now, 5.0)
    if reply is not None:
        session.step(Answered(ask.ask, True, CODEC.encode(reply)), now)
    submitted = CODEC.decode(ask.body)
    return bytes(submitted.command)


# --- locks: whose clock ---


class Dice:
    """For a clock that somebody sets forward once, by an hour."""

    def __init__(self) -> None:
        self._choices = 0

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def choice(self, options: Any) -> float:
        self._choices += 1
        return 0.0 if self._choices == 1 else max(options)


def test_expires_by_wall_clock() -> None:
    def held_on() -> bool:
        locks, clock = Locks(), LocalClock(Dice())
        for time in (1.0, 5.0):
            clock.now(time)
            locks.advance(time)
            locks.apply(acquire("a"), 1, time)
        return locks.holds(1)

    assert both("expires-by-wall-clock", held_on) == (True, False)


def test_expires_by_client_clock() -> None:
    def held_on() -> bool:
        services = Services()
        services.apply(pack(acquire("a")), 1, 0.0)
        services.apply(sent(opened(2, 99.0), acquire("b"), 100.0), 2, 1.0)
        return services.locks.holds(1)

    assert both("expires-by-client-clock", held_on) == (True, False)


# --- locks: who may end a lease ---


def test_deposed_leader_revokes() -> None:
    def held_on() -> bool:
        raft = core(1)
        locks = raft.machine.service.locks
        locks.apply(acquire("a"), 3, 0.0)
        raft.step(events.TimerFired(events.LEASES), 2 * LEASE)
        return locks.holds(1)

    assert both("deposed-leader-revokes", held_on) == (True, False)


def test_stale_release_accepted() -> None:
    def held_on() -> bool:
        services, client = Services(), opened(1, 0.0)
        granted = Granted(Raw(pack(1)), 0.0, LEASE)
        services.apply(sent(client, acquire("a"), 0.0, granted), 1, 0.0)
        services.advance(LEASE)
        services.apply(pack(acquire("a")), 2, LEASE)
        services.apply(sent(client, Release(1), LEASE), 1, LEASE)
        return services.locks.holds(2)

    assert both("stale-release-accepted", held_on) == (True, False)


def test_lease_not_extended() -> None:
    def end() -> float:
        services = Services()
        services.apply(pack(acquire("a")), 1, 0.0)
        services.promote(1.0)
        return services.next_deadline

    assert both("lease-not-extended", end) == (2 * LEASE, LEASE)


# --- locks: what they protect ---


def test_lock_without_fencing() -> None:
    def written() -> bool:
        services = Services()
        services.apply(pack(Put("x", value(1), fence=7)), 1, 0.0)
        return "x" in services.keyvalue.values

    assert both("lock-without-fencing", written) == (False, True)


def test_token_reused_after_snapshot() -> None:
    def token() -> int:
        locks, restarted = Locks(), Locks()
        locks.apply(acquire("a"), 1, 0.0)
        locks.apply(Release(1), 1, 0.0)
        restarted.restore(locks.snapshot())
        granted = restarted.apply(acquire("a"), 2, 0.0)
        assert isinstance(granted, Granted)
        found: int = unpack(granted.result)
        return found

    assert both("token-reused-after-snapshot", token) == (2, 1)


# --- locks: who is granted ---


def test_limit_of_the_asker_only() -> None:
    def reply() -> type:
        locks = Locks()
        locks.apply(acquire("a"), 1, 0.0)
        return type(locks.apply(acquire("a", READERS), 2, 0.0))

    assert both("limit-of-the-asker-only", reply) == (Rejected, Granted)


def test_newcomers_overtake() -> None:
    def reply() -> type:
        locks = Locks()
        locks.apply(acquire("a", READERS), 1, 0.0)
        locks.apply(acquire("a", wait=5.0), 2, 0.0)
        return type(locks.apply(acquire("a", READERS), 3, 0.0))

    assert both("newcomers-overtake", reply) == (Rejected, Granted)


@pytest.mark.parametrize(("name", "wrong"), [("release-wakes-all", [2, 3]), ("release-wakes-nobody", [])])
def test_whom_a_release_wakes(name: str, wrong: list[int]) -> None:
    def sessions() -> list[int]:
        locks = Locks()
        locks.apply(acquire("a"), 1, 0.0)
        for session in (2, 3):
            locks.apply(acquire("a", wait=5.0), session, 0.0)
        locks.apply(Release(1), 1, 1.0)
        return woken(locks)

    assert both(name, sessions) == ([2], wrong)


def test_no_deadlock_detection() -> None:
    def reply() -> type:
        locks = Locks()
        for session, first in ((1, "a"), (2, "b")):
            locks.apply(acquire(first), session, 0.0)
        locks.apply(acquire("b", wait=5.0), 1, 0.0)
        return type(locks.apply(acquire("a", wait=5.0), 2, 0.0))

    assert both("no-deadlock-detection", reply) == (Rejected, type(None))


def test_waiter_leaked_on_cancel() -> None:
    """Told that its time is over, or given up by the leader."""

    def lines() -> list[list[int]]:
        services = Services()
        services.apply(pack(acquire("a")), 1, 0.0)
        found = []
        for session, end in ((2, lambda: services.advance(5.0)), (3, lambda: services.give_up(3))):
            services.apply(pack(acquire("a", wait=5.0)), session, 0.0)
            end()
            found.append(services.locks.query(LockStatus("a"))["waiting"])
        return found

    assert both("waiter-leaked-on-cancel", lines) == ([[], []], [[2], [2, 3]])


# --- queues: answers and receipts ---


@pytest.mark.parametrize(
    ("name", "command"), [("publish-confirmed-before-commit", publish()), ("acknowledged-before-commit", Ack(1))]
)
def test_what_is_answered_before_it_is_committed(name: str, command: Command) -> None:
    def answered() -> list[Any]:
        raft = leader()
        asked = [events.Proposed(other, 1, 1, pack(other)) for other in (publish(), Ack(1), Nack(1))]
        return [handle for event in asked for handle, _ in answers(raft.step(event, 2.6))]

    assert both(name, answered) == ([], [command])


def test_ack_by_message_id() -> None:
    def kept() -> int:
        services, client = Services(), opened(1, 0.0)
        services.apply(pack(publish()), 3, 0.0)
        taken = {"id": 1, "body": "m", "key": None, "receipt": 1, "deliveries": 1}
        services.apply(sent(client, Take("q", LEASE), 0.0, Granted(Raw(pack(taken)), 0.0, LEASE)), 1, 0.0)
        services.advance(LEASE)
        services.apply(pack(Take("q", LEASE)), 2, LEASE)
        services.apply(sent(client, Ack(1), LEASE), 1, LEASE)
        return status(services.queues)["in_flight"]

    assert both("ack-by-message-id", kept) == (1, 0)


def status(queues: Queues) -> dict[str, int]:
    found = queues.query(QueueStatus("q"))
    assert isinstance(found, dict)
    return found


def test_deduplication_lost_on_leader_change() -> None:
    """Both a command's retry, and a publication that a producer repeats under another session."""

    def ready() -> int:
        services = Services()
        state = ReplicatedState(services)
        numbered = pack(Publish("q", value(1), producer="p", serial=1))
        log = [entry(1, command=b"open"), entry(1, command=b"open")]
        log += [entry(1, session=1, serial=1, command=pack(publish())), entry(1, session=2, serial=1, command=numbered)]
        log += [entry(2)]
        log += [entry(2, session=1, serial=1, command=pack(publish())), entry(2, session=2, serial=2, command=numbered)]
        for index, one in enumerate(log, 1):
            state.apply(one, index)
        return status(services.queues)["ready"]

    assert both("deduplication-lost-on-leader-change", ready) == (2, 4)


# --- queues: leases ---


def test_delivers_to_two() -> None:
    def sessions() -> list[int]:
        queues = Queues()
        for session in (1, 2, 3):
            queues.apply(Take("q", LEASE, wait=5.0), session, 0.0)
        queues.apply(publish(), 4, 1.0)
        return woken(queues)

    assert both("delivers-to-two", sessions) == ([1], [1, 2])


def copied(queues: Queues) -> Queues:
    copy = Queues()
    copy.restore(msgspec.msgpack.decode(pack(queues.snapshot()), type=SavedQueues))
    return copy


def test_visibility_forgotten_over_snapshot() -> None:
    def in_flight() -> int:
        queues = Queues()
        queues.apply(publish(), 1, 0.0)
        queues.apply(Take("q", LEASE), 1, 0.0)
        queues = copied(queues)
        queues.promote(1.0)
        queues.advance(100 * LEASE)
        return status(queues)["in_flight"]

    assert both("visibility-forgotten-over-snapshot", in_flight) == (0, 1)


# --- queues: what comes back ---


def test_redelivery_to_the_tail() -> None:
    def order() -> list[str]:
        queues = Queues()
        for body in ("first", "second"):
            queues.apply(publish(body, "k"), 1, 0.0)
        bodies = []
        for receipt in (1, 2, 3):
            granted = queues.apply(Take("q", LEASE), 1, 0.0)
            assert isinstance(granted, Granted)
            bodies.append(unpack(granted.result)["body"])
            queues.apply(Nack(receipt) if receipt == 1 else Ack(receipt), 1, 0.0)
        return bodies

    assert both("redelivery-to-the-tail", order) == (["first", "first", "second"], ["first", "second", "first"])


def given_back_too_often() -> Queues:
    queues = Queues()
    queues.apply(publish(), 1, 0.0)
    queues.apply(Take("q", LEASE, limit=1), 1, 0.0)
    queues.apply(Nack(1), 1, 0.0)
    return queues


def test_poison_for_ever() -> None:
    def dead() -> tuple[int, int]:
        found = status(given_back_too_often())
        return found["ready"], found["dead"]

    assert both("poison-for-ever", dead) == ((0, 1), (1, 0))


def test_dead_letters_in_two_steps() -> None:
    """The second step comes with the next command, and not at all out of a snapshot."""

    def dead() -> list[int]:
        queues = given_back_too_often()
        found = []
        for kept in (queues, copied(queues)):
            kept.apply(publish(), 1, 0.0)
            found.append(status(kept)["dead"])
        return found

    assert both("dead-letters-in-two-steps", dead) == ([1, 1], [1, 0])
