"""Each invariant of locks and queues holds in right runs, and is seen broken where a state is corrupted by hand."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from by_hand import ELECTION_TIMEOUT, HEARTBEAT, NODES, working

from chaos.campaign import Tally
from chaos.invariants import SOMETIMES, Invariants
from chaos.invariants.services import LOCK_SOMETIMES, MESSAGES_PER_ENTRY, QUEUE_SOMETIMES, SERVICE_INVARIANTS
from testbed.base.codec import Raw, pack
from testbed.base.errors import Deadlock, LeaseLost, Refused
from testbed.cluster import Cluster
from testbed.core import requests
from testbed.core.raft.events import Snapshot
from testbed.core.raft.log import RaftLog
from testbed.core.raft.machine import ClientSession
from testbed.core.raft.messages import Entry
from testbed.core.services import locks as locking
from testbed.core.services import queues as queueing
from testbed.core.services.commands import READERS, Ack, Acquire, Claim, Command, Extend, Prolong, Release, Settle, Take
from testbed.core.services.locks import Grant, SavedLocks
from testbed.core.services.queues import Delivery, Message, SavedQueues

LATE = 1e6  # log time, after all that the cluster itself stamps
TIME = LATE + 100.0
LEASE = 10.0
END = TIME + 1000.0

MESSAGES_LOOKED_AT_EVERY = 3  # entries at most, with no more of them than here

Change = Callable[["Shown"], None]


def grant(token: int, session: int, *claims: Claim, until: float = END) -> Grant:
    return Grant(token, session, claims, LEASE, until)


def waiter(number: int, session: int, *claims: Claim, until: float = END) -> locking.Wait:
    return locking.Wait(number, session, claims, LEASE, TIME, until)


def consumer(session: int, queue: str = "jobs", until: float = END) -> queueing.Wait:
    return queueing.Wait(session, queue, TIME, until, LEASE, 5)


def delivery(receipt: int, queue: str, message: int, session: int, until: float = END) -> Delivery:
    return Delivery(receipt, queue, message, session, 5, LEASE, until)


A, B, C, D = (Claim(name) for name in "abcd")


class Shown:
    """A leader whose locks and queues are set by hand: right ones at first, in which everything occurs.

    `waiting`: the sessions that are said to wait; None: those that are in lines.
    """

    def __init__(self) -> None:
        self.cluster = working()
        self.raft = self.cluster.raft(self.cluster.leader)
        self.term = self.raft.term
        self.tokens, self.arrivals, self.last_id, self.last_receipt = 5, 3, 8, 5
        self.grants = [grant(1, 11, A), grant(2, 12, B), grant(4, 14, C)]
        self.waits = [waiter(1, 21, A), waiter(2, 22, A)]
        self.queues = {
            "jobs": [
                Message(2, b"", "k", 1, 1),
                Message(3, b"", "k"),
                Message(4, b"", None, 1, None, END),
                Message(5, b"", "l", 1, None, END),
                Message(6, b"", "l"),
            ],
            "jobs.dead": [Message(1, b"", "k")],
            "other": [Message(7, b"", None, 1, 3)],
        }
        self.deliveries = [delivery(1, "jobs", 2, 31), delivery(3, "other", 7, 32)]
        self.consumers = [consumer(41), consumer(42)]
        self.waiting: Iterable[int] | None = None

    @property
    def service(self) -> Any:
        return self.raft.machine.service

    def set(self) -> None:
        self.service.locks.restore(SavedLocks(TIME, self.tokens, self.arrivals, list(self.grants), list(self.waits)))
        queues, deliveries = list(self.queues.items()), list(self.deliveries)
        saved = SavedQueues(self.last_id, self.last_receipt, queues, deliveries, list(self.consumers), [])
        self.service.queues.restore(saved)
        waiting = self.waiting
        if waiting is None:
            waiting = [wait.session for wait in (*self.waits, *self.consumers)]
        self.raft.machine.waiting = {session: ClientSession(1, None, TIME) for session in waiting}

    def show(self, time: float = TIME, command: Command | None = None, session: int = 0) -> list[str]:
        """As if the leader had come to this by an entry; what is broken then."""
        self.set()
        return self.show_as_it_is(time, command, session)

    def show_as_it_is(self, time: float = TIME, command: Command | None = None, session: int = 0) -> list[str]:
        data = pack(command) if command is not None else b""
        self.raft.log.append(Entry(self.term, time, session, 1, data))
        self.raft.commit = self.raft.applied = self.raft.log.last
        self.cluster.show(self.raft.id)
        return self.broken

    def promote(self) -> None:
        """What is shown next is of a new term, and all leases are longer."""
        self.term += 1
        self.grants = [msgspec.structs.replace(held, until=END + LEASE) for held in self.grants]
        for one in self.deliveries:
            one.until = END + LEASE

    @property
    def broken(self) -> list[str]:
        return [name for name in self.cluster.broken if name in SERVICE_INVARIANTS]


@pytest.fixture
def shown() -> Shown:
    """Right so far, with the messages to be looked at next time."""
    state = Shown()
    while state.show() == [] and state.cluster.invariants._services._messages_due > state.raft.applied + 1:
        pass
    assert state.broken == []
    return state


# --- right runs ---


def test_locks_and_queues_that_live_through_faults_break_nothing() -> None:
    found: list[Invariants] = []

    def observer(world: Any) -> Invariants:
        found.append(Invariants(world.nodes, HEARTBEAT, ELECTION_TIMEOUT, world))
        return found[0]

    options = {"snapshot_entries": 10, "trailing_entries": 2}
    with Cluster(3, world="sim", seed=1, options=options, observer=observer) as cluster:
        one, other = cluster.client(), cluster.client()
        jobs = one.queue("jobs", visibility=1.0, limit=2)
        cluster.wait_for_leader()
        held = one.lock("x", "y", lease=30.0).acquire()
        with pytest.raises(Deadlock):
            one.lock("x").acquire()
        with pytest.raises(Refused):
            other.lock("y", wait=0.5).acquire()
        for number in range(20):
            jobs.publish(number, key=f"k{number % 3}")
        taken = jobs.take()
        assert taken is not None
        cluster.restart(cluster.wait_for_leader())
        cluster.wait_for_leader()
        with pytest.raises(Refused):
            other.lock("x", wait=0.0).acquire()
        held.extend()
        held.release()
        late = other.lock("x", lease=0.5).acquire()
        assert one.lock("x").acquire().token > late.token
        with pytest.raises(LeaseLost):
            late.release()
        for message in jobs.consume(wait=5.0):
            if message.body % 5:
                message.ack()
            elif message.deliveries == 1:
                message.nack(0.1)
        for message in jobs.dead.consume(wait=0.0):
            message.ack()
        for node in cluster.nodes:
            cluster.kill(node)
        for node in cluster.nodes:
            cluster.start_node(node)
        assert other.lock("z").acquire().token > late.token + 1
    watched = found[0]
    assert watched.violations == []
    never = {"gave up on a waiter", "gave up on a consumer"}
    missing = {name for name in (*LOCK_SOMETIMES, *QUEUE_SOMETIMES) if not watched.sometimes[name]}
    assert missing == never
    assert all(name in (*SOMETIMES, *LOCK_SOMETIMES, *QUEUE_SOMETIMES) for name in watched.sometimes)
    (judged,) = (check for check in watched.checks() if check.model == "service-invariants")
    assert judged.verdict == "valid"
    assert judged.detail.startswith(f"{len(SERVICE_INVARIANTS)} invariants held in ")
    assert "4 grants of locks, 20 messages" in judged.detail


def test_clients_of_whom_nothing_is_heard_count_as_given_up() -> None:
    cluster = working()
    sessions = [cluster.open() for _ in range(3)]
    commands = [Acquire((A,), 30.0), Acquire((A,), 30.0, 60.0), Take("jobs", 30.0, 60.0)]
    for session, command in zip(sessions, commands, strict=True):
        cluster.ask(cluster.leader, requests.Submit(session, 1, Raw(pack(command))))
    cluster.run(5 * ELECTION_TIMEOUT)
    assert (cluster.reached["gave up on a waiter"], cluster.reached["gave up on a consumer"]) == (1, 1)
    assert cluster.broken == []


def test_where_neither_locks_nor_queues_are_used_nothing_is_judged() -> None:
    assert [check.model for check in working().invariants.checks()] == ["raft-invariants", "membership-invariants"]


def test_of_locks_and_queues_a_campaign_misses_only_what_its_scenario_has() -> None:
    def missed(*reached: str) -> set[str]:
        return set(Tally(sometimes=Counter(reached)).never) & {*LOCK_SOMETIMES, *QUEUE_SOMETIMES}

    assert missed("operation ok") == set()
    assert missed("lock granted") == set(LOCK_SOMETIMES) - {"lock granted"}
    assert missed("consumer waited") == set(QUEUE_SOMETIMES) - {"consumer waited"}


# --- broken by hand ---


def two_writers(shown: Shown) -> None:
    shown.tokens = 6
    shown.grants.append(grant(6, 15, Claim("c", READERS)))


def tokens_counted_back(shown: Shown) -> None:
    shown.tokens = 4


def a_token_again(shown: Shown) -> None:
    shown.grants.append(grant(5, 15, D))


def a_token_of_the_future(shown: Shown) -> None:
    shown.grants.append(grant(7, 15, D))


def a_grant_gone(shown: Shown) -> None:
    del shown.grants[2]


def a_grant_cut_short(shown: Shown) -> None:
    shown.grants[2] = grant(4, 14, C, until=END - 1)


def a_delivery_gone(shown: Shown) -> None:
    del shown.deliveries[1]
    shown.queues["other"][0].receipt = None


def a_delivery_cut_short(shown: Shown) -> None:
    shown.deliveries[1].until -= 1


def a_message_nobody_is_woken_for(shown: Shown) -> None:
    shown.last_id = 9
    shown.queues["jobs"].append(Message(9, b"", None))


def the_next_of_a_key_nobody_is_woken_for(shown: Shown) -> None:
    del shown.queues["jobs"][3]


def a_wait_again(shown: Shown) -> None:
    shown.waits.append(waiter(3, 23, B))


def a_line_in_another_order(shown: Shown) -> None:
    shown.waits.reverse()


def a_consumer_before_another(shown: Shown) -> None:
    shown.last_id, shown.last_receipt = 9, 6
    shown.queues["jobs"].append(Message(9, b"", None, 1, 6))
    shown.deliveries.append(delivery(6, "jobs", 9, 42))
    del shown.consumers[1]


def a_newcomer_before_consumers(shown: Shown) -> None:
    a_consumer_before_another(shown)
    shown.deliveries[-1].session = 43
    shown.consumers.append(consumer(42))


def two_who_wait_for_each_other(shown: Shown) -> None:
    shown.arrivals = 5
    shown.waits += [waiter(4, 11, B), waiter(5, 12, A)]


def one_who_waits_for_itself(shown: Shown) -> None:
    shown.arrivals = 4
    shown.waits.append(waiter(4, 14, C))


def a_cycle_behind_the_head_of_a_line(shown: Shown) -> None:
    """14 waits behind 15, which waits for what 14 holds."""
    shown.arrivals = 5
    shown.waits += [waiter(4, 15, B, C), waiter(5, 14, B)]


def one_in_line_who_does_not_wait(shown: Shown) -> None:
    shown.waiting = [21, 41, 42]


def one_who_waits_in_no_line(shown: Shown) -> None:
    shown.waiting = [21, 22, 23, 41, 42]


def one_in_two_lines(shown: Shown) -> None:
    shown.waiting = [21, 22, 41, 42]
    shown.consumers.append(consumer(21))


def a_message_twice(shown: Shown) -> None:
    shown.queues["jobs"].append(Message(1, b"", None, 1, None, END))


def a_message_from_elsewhere(shown: Shown) -> None:
    shown.queues["other"].append(shown.queues["jobs"].pop())


def a_message_again(shown: Shown) -> None:
    shown.queues["other"].append(Message(8, b"", None))


def a_message_of_the_future(shown: Shown) -> None:
    shown.queues["other"].append(Message(9, b"", None))


def messages_counted_back(shown: Shown) -> None:
    shown.last_id = 7


def a_delivery_of_a_message_that_is_not_there(shown: Shown) -> None:
    shown.queues["other"].clear()


def a_message_in_flight_without_a_delivery(shown: Shown) -> None:
    shown.last_id = 9
    shown.queues["other"].append(Message(9, b"", None, 1, 5))


def a_message_in_two_deliveries(shown: Shown) -> None:
    shown.last_receipt = 6
    shown.deliveries.append(delivery(6, "other", 7, 33))


def two_of_a_key_in_flight(shown: Shown) -> None:
    shown.last_receipt = 6
    shown.queues["jobs"][1].receipt = 6
    shown.deliveries.append(delivery(6, "jobs", 3, 33))
    shown.consumers.clear()


def the_younger_of_a_key_in_flight(shown: Shown) -> None:
    shown.last_receipt = 6
    shown.queues["jobs"][4].receipt = 6
    shown.deliveries.append(delivery(6, "jobs", 6, 33))
    shown.consumers.clear()


def receipts_counted_back(shown: Shown) -> None:
    shown.last_receipt = 4


def a_receipt_again(shown: Shown) -> None:
    shown.last_id = 9
    shown.queues["other"].append(Message(9, b"", None, 1, 5))
    shown.deliveries.append(delivery(5, "other", 9, 33))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mutual-exclusion", two_writers),
        ("growing-tokens", tokens_counted_back),
        ("growing-tokens", a_token_again),
        ("growing-tokens", a_token_of_the_future),
        ("no-early-end", a_grant_gone),
        ("no-early-end", a_grant_cut_short),
        ("no-early-end", a_delivery_gone),
        ("no-early-end", a_delivery_cut_short),
        ("no-lost-wake-up", a_message_nobody_is_woken_for),
        ("no-lost-wake-up", the_next_of_a_key_nobody_is_woken_for),
        ("first-come", a_wait_again),
        ("first-come", a_line_in_another_order),
        ("first-come", a_consumer_before_another),
        ("first-come", a_newcomer_before_consumers),
        ("no-deadlock", two_who_wait_for_each_other),
        ("no-deadlock", one_who_waits_for_itself),
        ("no-deadlock", a_cycle_behind_the_head_of_a_line),
        ("only-who-waits", one_in_line_who_does_not_wait),
        ("only-who-waits", one_who_waits_in_no_line),
        ("only-who-waits", one_in_two_lines),
        ("one-place", a_message_twice),
        ("one-place", a_message_from_elsewhere),
        ("one-place", a_message_again),
        ("one-place", a_message_of_the_future),
        ("one-place", messages_counted_back),
        ("one-place", a_delivery_of_a_message_that_is_not_there),
        ("one-place", a_message_in_flight_without_a_delivery),
        ("one-place", a_message_in_two_deliveries),
        ("key-order", two_of_a_key_in_flight),
        ("key-order", the_younger_of_a_key_in_flight),
        ("fresh-receipts", receipts_counted_back),
        ("fresh-receipts", a_receipt_again),
    ],
)
def test_a_state_that_must_never_be_is_seen(name: str, change: Change, shown: Shown) -> None:
    change(shown)
    assert shown.show() == [name]
    (judged,) = (check for check in shown.cluster.invariants.checks() if check.model == "service-invariants")
    assert (judged.verdict, judged.detail.partition(" ")[0]) == ("invalid", name)


def test_each_invariant_has_a_test_that_breaks_it() -> None:
    marks = test_a_state_that_must_never_be_is_seen.pytestmark  # type: ignore[attr-defined]
    elsewhere = {"no-late-holder", "leases-extended"}
    assert {name for name, _ in marks[0].args[1]} | elsewhere == set(SERVICE_INVARIANTS)


# --- ends ---


def the_grant(shown: Shown, until: float) -> None:
    shown.grants[2] = grant(4, 14, C, until=until)


def the_waiter(shown: Shown, until: float) -> None:
    shown.waits[1] = waiter(2, 22, A, until=until)


def the_delivery(shown: Shown, until: float) -> None:
    shown.deliveries[1].until = until


def the_consumer(shown: Shown, until: float) -> None:
    shown.consumers[1] = consumer(42, until=until)


def the_delay(shown: Shown, until: float) -> None:
    shown.queues["jobs"][2].delayed_until = until


@pytest.mark.parametrize("end", [the_grant, the_waiter, the_delivery, the_consumer, the_delay])
def test_what_is_there_at_its_end_is_there_too_long(end: Callable[[Shown, float], None]) -> None:
    shown = Shown()
    end(shown, TIME + 5)
    assert shown.show(TIME + 4) == []
    assert shown.show(TIME + 5) == ["no-late-holder"]


@pytest.mark.parametrize(
    ("change", "right", "wrong"),
    [
        (a_grant_gone, Release(4), Release(14)),
        (a_grant_gone, Settle((1, 2)), Settle((4,))),
        (a_grant_cut_short, Extend(4, 1.0), Extend(1, 1.0)),
        (a_delivery_gone, Ack(3), Ack(7)),
        (a_delivery_cut_short, Prolong(3, 1.0), Prolong(1, 1.0)),
    ],
)
def test_only_a_command_that_names_a_lease_ends_it_early(change: Change, right: Command, wrong: Command) -> None:
    for command, broken in ((right, []), (wrong, ["no-early-end"])):
        shown = Shown()
        assert shown.show() == []
        change(shown)
        assert shown.show(command=command, session=14) == broken


def test_a_session_gives_back_only_what_is_its_own(shown: Shown) -> None:
    a_grant_gone(shown)
    assert shown.show(command=Settle(()), session=11) == ["no-early-end"]


@pytest.mark.parametrize(("end", "lease"), [(the_grant, "lock's"), (the_delivery, "delivery's")])
def test_the_first_entry_of_a_term_gives_each_lease_a_full_term_more(end: Callable[[Shown, float], None], lease: str):
    for until, broken in ((TIME + 5 + LEASE, []), (TIME + 5 + LEASE - 0.001, ["leases-extended"])):
        shown = Shown()
        end(shown, TIME + 5)
        assert shown.show() == []
        shown.promote()
        end(shown, until)
        assert shown.show(TIME + 5) == broken
        assert shown.cluster.reached[f"{lease} lease extended by a new leader"]


@pytest.mark.parametrize(("end", "gone"), [(the_grant, a_grant_gone), (the_delivery, a_delivery_gone)])
def test_a_lease_that_a_new_leader_lets_end_is_seen(end: Callable[[Shown, float], None], gone: Change) -> None:
    shown = Shown()
    end(shown, TIME + 5)
    assert shown.show() == []
    shown.promote()
    gone(shown)
    assert shown.show(TIME + 5) == ["leases-extended"]


@pytest.mark.parametrize(("end", "gone"), [(the_grant, a_grant_gone), (the_delivery, a_delivery_gone)])
def test_a_lease_may_end_in_its_time(end: Callable[[Shown, float], None], gone: Change, shown: Shown) -> None:
    end(shown, TIME + 5)
    shown.show(command=Extend(4, 1.0) if gone is a_grant_gone else Prolong(3, 1.0))
    gone(shown)
    assert shown.show(TIME + 5) == []


# --- who is granted what ---


def test_who_could_be_granted_and_waits_on_was_not_woken(shown: Shown) -> None:
    del shown.grants[0]
    assert shown.show(command=Release(1), session=11) == ["no-lost-wake-up"]


@pytest.mark.parametrize(("session", "broken"), [(21, []), (22, ["first-come"]), (23, ["first-come"])])
def test_only_the_first_in_line_is_granted(session: int, broken: list[str], shown: Shown) -> None:
    shown.tokens = 6
    shown.grants[0] = grant(6, session, A)
    shown.waits = [wait for wait in shown.waits if wait.session != session]
    assert shown.show(command=Release(1), session=11) == broken


def test_a_newcomer_that_shares_a_lock_goes_before_nobody_who_waited(shown: Shown) -> None:
    shown.grants[1] = grant(2, 12, Claim("b", 3))
    shown.arrivals = 4
    shown.waits.append(waiter(4, 24, B))
    assert shown.show() == []
    shown.tokens = 6
    shown.grants.append(grant(6, 15, Claim("b", 3)))
    assert shown.show() == ["first-come"]


def test_who_waits_for_those_who_do_not_is_in_no_deadlock(shown: Shown) -> None:
    shown.arrivals = 6
    shown.waits += [waiter(4, 11, B), waiter(5, 14, B), waiter(6, 25, A, C)]
    assert shown.show() == []


def test_a_semaphore_that_somebody_can_leave_is_in_no_deadlock(shown: Shown) -> None:
    two = Claim("d", 2)
    shown.tokens, shown.arrivals = 7, 4
    shown.grants += [grant(6, 15, two), grant(7, 16, two)]
    shown.waits.append(waiter(4, 15, two))
    assert shown.show() == []
    shown.arrivals = 5
    shown.waits.append(waiter(5, 16, two))
    assert shown.show() == ["no-deadlock"]


def test_a_dead_letter_may_be_older_than_one_of_its_key_that_is_in_flight(shown: Shown) -> None:
    shown.last_id, shown.last_receipt = 9, 6
    shown.queues["jobs.dead"].append(Message(9, b"", "l", 1, 6))
    shown.deliveries.append(delivery(6, "jobs.dead", 9, 33))
    shown.consumers.clear()
    assert [shown.show() for _ in range(MESSAGES_LOOKED_AT_EVERY)] == [[]] * MESSAGES_LOOKED_AT_EVERY
    shown.queues["jobs.dead"].append(Message(5, b"", "l"))
    del shown.queues["jobs"][3]
    assert [shown.show() for _ in range(MESSAGES_LOOKED_AT_EVERY)] == [[]] * MESSAGES_LOOKED_AT_EVERY
    assert shown.cluster.reached["message dead-lettered"] == 1


def test_an_entry_that_ends_leases_may_come_in_the_same_step_as_a_new_leader(shown: Shown) -> None:
    the_grant(shown, TIME + 5)
    assert shown.show(command=Extend(4, 5.0)) == []
    shown.raft.log.append(Entry(shown.term, TIME + 5, 0, 0, b""))
    shown.promote()
    a_grant_gone(shown)
    assert shown.show(TIME + 6) == []


def test_what_a_queue_says_of_itself_is_counted_again(shown: Shown) -> None:
    shown.set()
    shown.service.queues._queues["jobs"].in_flight += 1
    assert shown.show_as_it_is() == ["one-place"]


# --- what is looked at, and when ---


def test_a_long_queue_is_looked_at_less_often(shown: Shown) -> None:
    many = 3 * MESSAGES_PER_ENTRY
    shown.last_id = 8 + many
    shown.queues = {"other": [*shown.queues["other"], *(Message(9 + more, b"", None) for more in range(many))]}
    shown.deliveries, shown.consumers = shown.deliveries[1:], []
    assert shown.show(command=Ack(1)) == []
    shown.queues["more"] = [shown.queues["other"][-1]]
    assert [shown.show() for _ in range(3)] == [[], [], ["one-place"]]


def test_counters_are_compared_across_a_snapshot_and_leases_are_not(shown: Shown) -> None:
    def jump(entries: int) -> list[str]:
        shown.set()
        last = shown.raft.applied + 10
        shown.raft.log = RaftLog(last, shown.term)
        shown.raft.snapshot = Snapshot(last, shown.term, TIME, b"")
        for _ in range(entries):
            shown.raft.log.append(Entry(shown.term, TIME, 0, 0, b""))
        shown.raft.commit = shown.raft.applied = shown.raft.log.last
        shown.cluster.show(shown.raft.id)
        return shown.broken

    a_grant_gone(shown)
    a_delivery_gone(shown)
    shown.grants[0] = grant(1, 11, A, until=TIME + LEASE / 2)
    shown.term += 1
    assert jump(0) == []
    assert shown.show() == []  # it is of the same term, which has begun before
    del shown.grants[0], shown.waits[:]
    assert jump(1) == []
    shown.tokens = 3
    assert jump(0) == ["growing-tokens"]


def test_each_index_is_looked_at_in_the_first_node_that_applies_it(shown: Shown) -> None:
    two_writers(shown)
    for node in NODES:
        if node != shown.raft.id:
            raft = shown.cluster.raft(node)
            while raft.log.last < shown.raft.applied:
                raft.log.append(shown.raft.log.entry(raft.log.last + 1))
            raft.commit = raft.applied = shown.raft.applied
            raft.machine.service.locks.restore(SavedLocks(TIME, shown.tokens, shown.arrivals, shown.grants, []))
            shown.cluster.show(node)
    assert shown.broken == []
