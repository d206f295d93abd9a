"""Acknowledged queues: each fact by hand, then random histories beside a model that keeps plain lists."""

from collections.abc import Iterator
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import pack, unpack
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services.commands import (
    DEAD,
    FULL,
    LEASE_LOST,
    UNFIT,
    Ack,
    LastPublished,
    Nack,
    Prolong,
    Publish,
    Purge,
    QueueStatus,
    Take,
    value,
)
from testbed.core.services.queues import Queues, SavedQueues

AnyQueueCommand = Publish | Take | Ack | Nack | Prolong | Purge
Step = tuple[str, int, Any]  # what, whose session, the command or what else it needs

decode_saved = msgspec.msgpack.Decoder(SavedQueues).decode


def plain(reply: Any) -> Any:
    """A reply as what it says: the result, with a lease's times; of a refusal the word before the reason."""
    match reply:
        case None:
            return None
        case Done():
            return ("done", unpack(reply.result))
        case Granted():
            return ("granted", unpack(reply.result), reply.asked, reply.until)
        case Rejected():
            return ("rejected", reply.error.split(":")[0])


def copied(queues: Queues) -> Queues:
    """What a snapshot brings back."""
    copy = Queues()
    copy.restore(decode_saved(pack(queues.snapshot())))
    return copy


class Log:
    """One state machine; commands as the log applies them: what is due before expires first."""

    def __init__(self) -> None:
        self.queues = Queues()
        self.time = 0.0
        self.woken: list[tuple[int, Any]] = []

    def at(self, time: float) -> None:
        self.time = time
        self.queues.advance(time)
        self._collect()

    def do(self, command: AnyQueueCommand, session: int = 1) -> Any:
        self.queues.advance(self.time)
        reply = plain(self.queues.apply(command, session, self.time))
        self._collect()
        return reply

    def publish(self, body: Any = "m", key: str | None = None, queue: str = "q") -> int:
        _, result = self.do(Publish(queue, value(body), key))
        assert result["duplicate"] is False
        message: int = result["id"]
        return message

    def take(self, session: int = 1, visibility: float = 10.0, queue: str = "q", limit: int = 20) -> Any:
        """The message, None if there is none."""
        return self.do(Take(queue, visibility, limit=limit), session)[1]

    def wait(self, session: int, seconds: float = 100.0, visibility: float = 10.0, queue: str = "q") -> None:
        assert self.do(Take(queue, visibility, seconds), session) is None

    def status(self, queue: str = "q") -> dict[str, int]:
        status = self.queues.query(QueueStatus(queue))
        assert isinstance(status, dict)
        return {word: count for word, count in status.items() if count}

    def _collect(self) -> None:
        self.woken += [(session, plain(reply)) for session, reply in self.queues.resolved]
        self.queues.resolved.clear()


@pytest.fixture
def log() -> Log:
    return Log()


LOST = ("rejected", LEASE_LOST)
TOO_FULL = ("rejected", FULL)
DONE = ("done", None)


# --- publish, take, ack ---


def test_a_message_is_leased_until_it_is_acknowledged(log: Log) -> None:
    log.time = 5.0
    assert log.do(Publish("q", value({"n": 1}))) == ("done", {"id": 1, "duplicate": False})
    taken = {"id": 1, "body": {"n": 1}, "key": None, "receipt": 1, "deliveries": 1}
    assert log.do(Take("q", 3.0)) == ("granted", taken, 5.0, 8.0)
    assert log.status() == {"in_flight": 1}
    assert log.do(Ack(1)) == DONE
    assert log.status() == {}


def test_messages_come_in_the_order_of_their_publication(log: Log) -> None:
    published = [log.publish() for _ in range(5)]
    assert [log.take()["id"] for _ in range(5)] == published
    assert log.take() is None


def test_queues_do_not_share_messages_but_their_ids_are_unique(log: Log) -> None:
    assert log.publish(queue="a") != log.publish(queue="b")
    assert log.take(queue="a") is not None
    assert log.take(queue="a") is None


def test_a_body_is_kept_byte_by_byte(log: Log) -> None:
    for body in (1, 1.0, True, "x" * 1000, [{"a": None}], -0.0):
        log.publish(body)
        assert pack(log.take()["body"]) == pack(body)


def test_a_second_ack_is_refused_and_changes_nothing(log: Log) -> None:
    """MQ7."""
    log.publish("a")
    log.publish("b")
    receipt = log.take()["receipt"]
    assert log.do(Ack(receipt)) == DONE
    before = pack(log.queues.snapshot())
    for stale in (receipt, 999, 0, -1):
        assert log.do(Ack(stale)) == LOST
        assert log.do(Nack(stale)) == LOST
        assert log.do(Prolong(stale, 5.0)) == LOST
    assert pack(log.queues.snapshot()) == before


def test_whoever_knows_the_receipt_may_use_it(log: Log) -> None:
    log.publish()
    receipt = log.take(session=1)["receipt"]
    assert log.do(Ack(receipt), session=2) == DONE


# --- leases ---


def test_a_message_whose_consumer_died_is_delivered_once_more_and_counted(log: Log) -> None:
    """MQ2."""
    message = log.publish()
    log.take(session=1)
    log.at(9.9)
    assert log.take(session=2) is None
    log.at(10.0)
    again = log.take(session=2)
    assert (again["id"], again["deliveries"]) == (message, 2)
    assert log.take(session=3) is None


def test_an_old_receipt_is_refused_after_the_lease_and_after_the_next_delivery(log: Log) -> None:
    """MQ3."""
    log.publish()
    old = log.take(session=1)["receipt"]
    log.at(10.0)
    assert log.do(Ack(old), session=1) == LOST
    new = log.take(session=2)["receipt"]
    assert new != old
    for command in (Ack(old), Nack(old), Prolong(old, 5.0)):
        assert log.do(command, session=1) == LOST
    assert log.status() == {"in_flight": 1}
    assert log.do(Ack(new), session=2) == DONE


def test_a_consumer_that_comes_back_after_its_lease_can_take_again(log: Log) -> None:
    """MQ12."""
    message = log.publish()
    old = log.take(session=1)["receipt"]
    log.at(20.0)
    assert log.do(Ack(old), session=1) == LOST
    again = log.do(Take("q", 10.0, window=1), session=1)[1]
    assert (again["id"], again["deliveries"]) == (message, 2)
    assert log.do(Ack(again["receipt"]), session=1) == DONE


def test_prolong_counts_from_now_on_with_the_new_length(log: Log) -> None:
    log.publish()
    receipt = log.take(visibility=10.0)["receipt"]
    log.at(8.0)
    assert log.do(Prolong(receipt, 4.0)) == ("granted", None, 8.0, 12.0)
    log.at(11.9)
    assert log.status() == {"in_flight": 1}
    log.queues.promote(11.9)  # by the new length, not the one of the take
    assert log.queues.next_deadline == 16.0


def test_a_lease_may_be_shortened(log: Log) -> None:
    log.publish()
    receipt = log.take(visibility=10.0)["receipt"]
    log.do(Prolong(receipt, 1.0))
    assert log.queues.next_deadline == 1.0
    log.at(1.0)
    assert log.status() == {"ready": 1}


def test_a_message_that_comes_back_returns_to_its_place(log: Log) -> None:
    first, second, third = (log.publish() for _ in range(3))
    receipts = [log.take()["receipt"] for _ in range(2)]
    log.do(Nack(receipts[1]))
    log.do(Nack(receipts[0]))
    assert [log.take()["id"] for _ in range(3)] == [first, second, third]


def test_a_nack_with_a_delay_holds_the_message_back(log: Log) -> None:
    first, second = log.publish(), log.publish()
    log.do(Nack(log.take()["receipt"], delay=5.0))
    assert log.status() == {"ready": 1, "delayed": 1}
    assert log.take()["id"] == second
    assert log.take() is None
    log.at(4.9)
    log.queues = copied(log.queues)
    assert log.status() == {"delayed": 1, "in_flight": 1}
    log.at(5.0)
    assert log.status() == {"ready": 1, "in_flight": 1}
    assert log.take()["id"] == first


def test_the_window_bounds_what_one_session_has_in_flight(log: Log) -> None:
    """MQ8."""
    for _ in range(5):
        log.publish()
    receipt = log.do(Take("q", 10.0, window=2))[1]["receipt"]
    log.do(Take("q", 10.0, window=2))
    assert log.do(Take("q", 10.0, window=2)) == TOO_FULL
    assert log.do(Take("q", 10.0, 5.0, window=2)) == TOO_FULL
    assert log.do(Take("q", 10.0, window=2), session=2)[0] == "granted"
    log.do(Ack(receipt))
    assert log.do(Take("q", 10.0, window=2))[0] == "granted"


def test_a_lease_that_ends_makes_room_in_the_window(log: Log) -> None:
    """MQ8: also across queues, and for both ways a delivery ends."""
    log.publish(queue="a")
    log.publish(queue="b")
    log.take(queue="a")
    assert log.do(Take("b", 10.0, window=1)) == TOO_FULL
    log.at(10.0)
    receipt = log.do(Take("b", 10.0, window=1))[1]["receipt"]
    log.do(Nack(receipt))
    assert log.do(Take("b", 10.0, window=1))[0] == "granted"


# --- keys ---


def test_one_message_of_a_key_is_out_at_a_time(log: Log) -> None:
    first, other, second = log.publish(key="k"), log.publish(key="l"), log.publish(key="k")
    receipt = log.take()["receipt"]
    assert log.take()["id"] == other
    assert log.take() is None
    assert log.status() == {"ready": 1, "in_flight": 2}
    log.do(Ack(receipt))
    assert log.take()["id"] == second
    assert first < second


def test_a_key_keeps_its_order_when_its_first_message_comes_back(log: Log) -> None:
    """MQ10: by nack, by nack with a delay, and by the end of the lease."""
    published = [log.publish(key="k") for _ in range(3)]
    log.do(Nack(log.take()["receipt"]))
    receipt = log.take()["receipt"]
    log.do(Nack(receipt, delay=5.0))
    assert log.take() is None
    log.at(5.0)
    assert log.take(visibility=1.0)["id"] == published[0]
    log.at(6.0)
    acknowledged = []
    while (message := log.take()) is not None:
        log.do(Ack(message["receipt"]))
        acknowledged.append(message["id"])
    assert acknowledged == published


def test_a_message_without_a_key_waits_for_no_other(log: Log) -> None:
    log.publish(key=None)
    log.publish(key=None)
    assert log.take() is not None
    assert log.take() is not None


# --- waiting ---


def test_waiting_consumers_are_woken_first_come_first_served_one_for_each_message(log: Log) -> None:
    for session in (3, 1, 2):
        log.wait(session)
    assert log.status() == {"waiting": 3}
    log.time = 4.0
    log.publish("a")
    assert [session for session, _ in log.woken] == [3]
    kind, message, asked, until = log.woken[0][1]
    assert (kind, message["body"], asked, until) == ("granted", "a", 0.0, 14.0)
    log.publish("b")
    assert [session for session, _ in log.woken] == [3, 1]
    assert log.status() == {"in_flight": 2, "waiting": 1}


def test_a_wait_that_ends_is_resolved_with_nothing(log: Log) -> None:
    log.wait(1, seconds=5.0)
    assert log.queues.next_deadline == 5.0
    log.at(4.9)
    assert log.woken == []
    log.at(5.0)
    assert log.woken == [(1, DONE)]
    assert log.queues.next_deadline == inf
    log.publish()
    assert len(log.woken) == 1


def test_a_message_that_comes_back_wakes_a_consumer_even_as_its_wait_ends(log: Log) -> None:
    message = log.publish()
    log.take(session=1, visibility=10.0)
    log.wait(2, seconds=10.0)
    log.wait(3, seconds=10.0)
    log.at(10.0)
    assert [(session, reply[0]) for session, reply in log.woken] == [(2, "granted"), (3, "done")]
    assert log.woken[0][1][1]["id"] == message


def test_a_nack_a_delay_and_the_next_of_a_key_wake_consumers(log: Log) -> None:
    log.publish("a", key="k")
    log.publish("b", key="k")
    receipt = log.take(session=1)["receipt"]
    log.wait(2)
    log.do(Nack(receipt), session=1)
    assert log.woken.pop()[1][1]["body"] == "a"
    log.wait(3)
    log.do(Nack(receipt + 1, delay=5.0))
    assert log.woken == []
    log.at(5.0)
    assert log.woken.pop()[1][1]["body"] == "a"
    log.wait(4)
    log.do(Ack(receipt + 2))
    session, reply = log.woken.pop()
    assert (session, reply[1]["body"]) == (4, "b")


def test_who_gave_up_is_not_woken(log: Log) -> None:
    log.wait(1)
    log.wait(2)
    log.queues.give_up(1)
    log.queues.give_up(9)
    log.publish()
    assert [session for session, _ in log.woken] == [2]
    log.at(1000.0)
    assert len(log.woken) == 1


def test_a_session_waits_at_one_place(log: Log) -> None:
    log.wait(1, queue="a")
    log.wait(1, queue="b")
    assert log.status("a") == {}
    log.publish(queue="a")
    assert log.woken == []


def test_more_waits_than_may_be_are_refused(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    log.wait(1, queue="a")
    log.wait(2, queue="b")
    assert log.do(Take("c", 1.0, 1.0), session=3) == TOO_FULL
    log.wait(2, queue="c")


# --- dead letters ---


def test_a_poison_message_goes_to_the_dead_letters_and_others_flow(log: Log) -> None:
    """MQ4."""
    poison, good = log.publish("poison", key="k"), log.publish("good", key="k")
    for _ in range(2):
        taken = log.take(limit=2)
        assert taken["id"] == poison
        log.do(Nack(taken["receipt"]))
    assert log.status() == {"ready": 1, "dead": 1}
    assert log.take()["id"] == good
    dead = log.take(queue="q" + DEAD)
    assert (dead["id"], dead["body"], dead["key"], dead["deliveries"]) == (poison, "poison", "k", 1)


@pytest.mark.parametrize("how", ["nack", "lease"])
def test_the_last_delivery_ends_and_the_message_is_dead_in_the_same_step(log: Log, how: str) -> None:
    """MQ5."""
    log.publish()
    receipt = log.take(limit=1)["receipt"]
    assert log.status() == {"in_flight": 1}
    if how == "nack":
        log.queues.apply(Nack(receipt, delay=5.0), 1, log.time)
    else:
        log.queues.advance(10.0)
    assert log.status() == {"dead": 1}
    assert log.status("q" + DEAD) == {"ready": 1}


def test_a_message_that_is_acknowledged_in_its_last_delivery_is_not_dead(log: Log) -> None:
    log.publish()
    log.do(Ack(log.take(limit=1)["receipt"]))
    assert log.status() == {}


def test_the_limit_is_that_of_the_delivery_that_ends(log: Log) -> None:
    log.publish()
    for limit in (9, 9, 9, 5):
        log.do(Nack(log.take(limit=limit)["receipt"]))
    assert log.status() == {"ready": 1}
    log.do(Nack(log.take(limit=5)["receipt"]))
    assert log.status() == {"dead": 1}


def test_dead_letters_have_no_limit(log: Log) -> None:
    log.publish()
    log.do(Nack(log.take(limit=1)["receipt"]))
    for count in range(1, 5):
        taken = log.take(queue="q" + DEAD, limit=1)
        assert taken["deliveries"] == count
        log.do(Nack(taken["receipt"]))
    assert log.status("q" + DEAD) == {"ready": 1}


def test_dead_letters_wake_those_who_wait_for_them_however_full_the_queue(log: Log) -> None:
    log.do(Publish("q" + DEAD, value("there before"), capacity=1))
    log.take(session=1, queue="q" + DEAD)
    log.wait(2, queue="q" + DEAD)
    log.publish("poison")
    log.do(Nack(log.take(limit=1)["receipt"]))
    session, reply = log.woken.pop()
    assert (session, reply[1]["body"]) == (2, "poison")


def test_dead_letters_keep_the_order_of_ids_also_among_those_published_there(log: Log) -> None:
    first, second = log.publish(key="k"), log.publish(key="l")
    third = log.publish(key="k", queue="q" + DEAD)
    receipts = [log.take(limit=1)["receipt"] for _ in range(2)]
    log.do(Nack(receipts[1]))
    log.do(Nack(receipts[0]))
    one, two = log.take(queue="q" + DEAD), log.take(queue="q" + DEAD)
    assert (one["id"], two["id"]) == (first, second)
    assert log.take(queue="q" + DEAD) is None
    log.do(Ack(one["receipt"]))
    assert log.take(queue="q" + DEAD)["id"] == third


def test_a_dead_letter_older_than_what_is_in_flight_there_is_delivered_once_and_holds_up_the_rest(log: Log) -> None:
    poison = log.publish(key="k")
    younger, youngest = (log.publish(key="k", queue="q" + DEAD) for _ in range(2))
    taken = log.take(queue="q" + DEAD)
    assert taken["id"] == younger
    log.do(Nack(log.take(limit=1)["receipt"]))
    log.do(Ack(taken["receipt"]))
    oldest = log.take(queue="q" + DEAD)
    assert oldest["id"] == poison
    assert log.take(queue="q" + DEAD) is None
    log.do(Ack(oldest["receipt"]))
    last = log.take(queue="q" + DEAD)
    assert last["id"] == youngest
    log.do(Ack(last["receipt"]))
    assert log.status("q" + DEAD) == {}


def test_the_longest_name_has_dead_letters_that_can_be_taken(log: Log) -> None:
    name = "q" * limits.NAME_BYTES_MAX
    log.publish(queue=name)
    log.do(Nack(log.take(queue=name, limit=1)["receipt"]))
    assert log.take(queue=name + DEAD) is not None


# --- full, duplicate, unfit ---


def test_a_full_queue_refuses_and_counts_what_is_in_flight_and_delayed(log: Log) -> None:
    for _ in range(3):
        log.publish()
    log.take()
    receipt = log.take()["receipt"]
    log.do(Nack(receipt, delay=5.0))
    assert log.status() == {"ready": 1, "in_flight": 1, "delayed": 1}
    assert log.do(Publish("q", value(1), capacity=3)) == TOO_FULL
    assert log.do(Publish("other", value(1), capacity=3))[0] == "done"
    log.do(Ack(1))
    assert log.do(Publish("q", value(1), capacity=3))[0] == "done"


def test_all_queues_together_hold_no_more_bytes_than_they_may(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_BYTES_MAX", 10_000)
    published = 0
    while log.do(Publish(f"q{published}", value("x" * 700), key="k"))[0] == "done":
        published += 1
    assert 5 < published < 15
    log.queues = copied(log.queues)
    assert log.do(Publish("q", value("x" * 700), key="k")) == TOO_FULL
    log.do(Purge("q0"))
    assert log.do(Publish("q", value("x" * 700), key="k"))[0] == "done"
    assert log.do(Publish("q", value("x" * 700), key="k")) == TOO_FULL
    log.do(Ack(log.take(queue="q1")["receipt"]))
    assert log.do(Publish("q", value("x" * 700), key="k"))[0] == "done"


def test_a_repeated_serial_is_a_duplicate_however_late(log: Log) -> None:
    publish = Publish("q", value(1), producer="p", serial=1)
    assert log.do(publish) == ("done", {"id": 1, "duplicate": False})
    log.do(Ack(log.take()["receipt"]))
    for late in (1.0, 1e6, 1e9):
        log.at(late)
        log.queues.promote(late)
        log.queues = copied(log.queues)
        assert log.do(publish, session=int(late)) == ("done", {"id": 1, "duplicate": True})
    assert log.status() == {}
    assert log.queues.query(LastPublished("q", "p")) == 1


def test_an_earlier_serial_is_a_duplicate_whose_id_is_forgotten(log: Log) -> None:
    for serial in range(1, 6):
        assert log.do(Publish("q", value(1), producer="p", serial=serial))[1]["duplicate"] is False
    for serial in range(1, 5):
        reply = log.do(Publish("q", value(1), producer="p", serial=serial))
        assert reply == ("done", {"id": None, "duplicate": True})
    assert log.status() == {"ready": 5}


def test_a_serial_that_leaves_one_out_is_refused_and_changes_nothing(log: Log) -> None:
    def refusal(serial: int) -> str:
        reply = log.queues.apply(Publish("q", value(1), producer="p", serial=serial), 1, 0.0)
        assert isinstance(reply, Rejected)
        return reply.error

    before = pack(log.queues.snapshot())
    assert refusal(2) == "unfit: serial 2 does not follow 0"
    assert pack(log.queues.snapshot()) == before
    log.do(Publish("q", value(1), producer="p", serial=1))
    before = pack(log.queues.snapshot())
    assert refusal(3) == "unfit: serial 3 does not follow 1"
    assert refusal(2**62) == f"unfit: serial {2**62} does not follow 1"
    assert pack(log.queues.snapshot()) == before


def test_what_was_refused_and_is_repeated_is_never_taken_for_a_duplicate(log: Log) -> None:
    first, second, third = (
        Publish("q", value(serial), producer="p", serial=serial, capacity=1) for serial in (1, 2, 3)
    )
    log.do(first)
    assert log.do(second) == TOO_FULL
    log.do(Ack(log.take()["receipt"]))
    assert log.do(third) == ("rejected", UNFIT)
    assert log.do(second) == ("done", {"id": 2, "duplicate": False})
    log.do(Ack(log.take()["receipt"]))
    assert log.do(third) == ("done", {"id": 3, "duplicate": False})


def test_serials_are_of_one_producer_in_one_queue(log: Log) -> None:
    for queue, producer in (("a", "p"), ("b", "p"), ("a", "r")):
        reply = log.do(Publish(queue, value(1), producer=producer, serial=1))
        assert reply[1]["duplicate"] is False
    assert log.queues.query(LastPublished("b", "r")) == 0


def test_a_duplicate_is_told_by_a_full_queue_and_after_a_purge_and_from_the_dead_letters(log: Log) -> None:
    publish = Publish("q", value(1), producer="p", serial=1, capacity=1)
    log.do(publish)
    assert log.do(publish) == ("done", {"id": 1, "duplicate": True})
    log.do(Nack(log.take(limit=1)["receipt"]))
    assert log.do(publish) == ("done", {"id": 1, "duplicate": True})
    log.do(Purge("q" + DEAD))
    log.do(Purge("q"))
    assert log.do(publish) == ("done", {"id": 1, "duplicate": True})


def test_a_refused_publication_uses_up_neither_serial_nor_id(log: Log) -> None:
    log.publish()
    publish = Publish("q", value(1), producer="p", serial=1, capacity=1)
    assert log.do(publish) == TOO_FULL
    assert log.queues.query(LastPublished("q", "p")) == 0
    log.do(Purge("q"))
    assert log.do(publish) == ("done", {"id": 2, "duplicate": False})


def test_more_producers_than_may_be_are_refused_and_the_others_go_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRODUCERS_MAX", 2)
    for producer in ("p", "r"):
        assert log.do(Publish("q", value(1), producer=producer, serial=1))[0] == "done"
    assert log.do(Publish("q", value(1), producer="s", serial=1)) == TOO_FULL
    assert log.do(Publish("q", value(1), producer="p", serial=2))[0] == "done"
    assert log.do(Publish("q", value(1)))[0] == "done"


LONG = "é" * (limits.NAME_BYTES_MAX // 2) + "x"


@pytest.mark.parametrize(
    "command",
    [
        *(Take("q", visibility) for visibility in (0.0, -1.0, nan, inf, limits.LEASE_S_MAX + 1)),
        *(Take("q", 1.0, wait) for wait in (-1.0, nan, inf, limits.WAIT_S_MAX + 1)),
        *(Take("q", 1.0, window=window) for window in (0, -1)),
        *(Take("q", 1.0, limit=limit) for limit in (0, -1, limits.DELIVERIES_MAX + 1)),
        *(Take(name, 1.0) for name in ("", DEAD, LONG, LONG + DEAD)),
        *(Publish("q", value(1), capacity=capacity) for capacity in (0, -1)),
        *(Publish("q", value(1), producer="p", serial=serial) for serial in (0, -1)),
        *(Publish("q", value(1), producer=name, serial=1) for name in ("", LONG)),
        *(Publish("q", value(1), key=name) for name in ("", LONG)),
        *(Publish(name, value(1)) for name in ("", DEAD, LONG)),
        *(Nack(1, delay) for delay in (-1.0, nan, inf, limits.LEASE_S_MAX + 1)),
        *(Prolong(1, visibility) for visibility in (0.0, -1.0, nan, inf, limits.LEASE_S_MAX + 1)),
        *(Purge(name) for name in ("", LONG)),
    ],
    ids=lambda command: type(command).__name__,  # a body shows its address, and names must be the same everywhere
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(log: Log, command: AnyQueueCommand) -> None:
    log.publish()
    log.take()
    log.publish()
    before = pack(log.queues.snapshot())
    assert log.do(command) == ("rejected", UNFIT)
    assert pack(log.queues.snapshot()) == before


def test_the_largest_values_are_fit(log: Log) -> None:
    name = "é" * (limits.NAME_BYTES_MAX // 2)
    log.do(Publish(name, value(1), key=name, producer=name, serial=1, capacity=1))
    reply = log.do(Take(name, limits.LEASE_S_MAX, limits.WAIT_S_MAX, window=1, limit=limits.DELIVERIES_MAX))
    assert reply[0] == "granted"
    assert log.do(Prolong(1, limits.LEASE_S_MAX))[0] == "granted"
    assert log.do(Nack(1, limits.LEASE_S_MAX)) == DONE


# --- purge and status ---


def test_a_purge_removes_all_but_what_is_in_flight(log: Log) -> None:
    kept = log.publish(key="k")
    delayed = log.publish()
    for _ in range(3):
        log.publish(key="k")
    receipt = log.take()["receipt"]
    held_back = log.take()
    assert held_back["id"] == delayed
    log.do(Nack(held_back["receipt"], delay=5.0))
    assert log.do(Purge("q")) == ("done", 4)
    assert log.status() == {"in_flight": 1}
    log.at(6.0)
    assert log.take() is None
    log.do(Nack(receipt))
    assert log.take()["id"] == kept
    assert log.do(Purge("missing")) == ("done", 0)


def test_an_unknown_queue_has_nothing(log: Log) -> None:
    names = ("ready", "delayed", "in_flight", "dead", "waiting")
    assert log.queues.query(QueueStatus("q")) == dict.fromkeys(names, 0)


def test_a_queue_without_messages_and_waits_leaves_nothing_behind(log: Log) -> None:
    fresh = pack(log.queues.snapshot())
    log.wait(1, seconds=5.0, queue="a")
    log.wait(2, queue="b")
    log.queues.give_up(2)
    log.at(5.0)
    log.take(queue="c")
    assert pack(log.queues.snapshot()) == fresh
    log.publish(queue="d")
    log.do(Ack(log.take(queue="d")["receipt"]))
    log.publish(queue="e")
    log.do(Nack(log.take(queue="e", limit=1)["receipt"]))
    log.publish(queue="f")
    log.do(Purge("f"))
    log.do(Purge("e" + DEAD))
    saved = decode_saved(pack(log.queues.snapshot()))
    assert (saved.queues, saved.deliveries, saved.waits, saved.published) == ([], [], [], [])
    assert log.queues.next_deadline == inf
    assert log.queues._in_flight == {}  # not to be seen from outside, but it would grow


# --- a new leader ---


def test_a_new_leader_extends_leases_by_a_full_term_and_keeps_them_apart(log: Log) -> None:
    """MQ9: none is lost, and they do not end all at once."""
    for start in range(3):
        log.publish()
        log.at(float(start))
        log.take(visibility=10.0)
    log.queues.promote(5.0)
    for end, left in ((20.0, 2), (21.0, 1), (22.0, 0)):
        assert log.queues.next_deadline == end
        log.at(end)
        assert log.status().get("in_flight", 0) == left
    assert log.status() == {"ready": 3}


def test_leaders_that_follow_each_other_fast_do_not_add_up_terms(log: Log) -> None:
    log.publish()
    log.take(visibility=10.0)
    for _ in range(50):
        log.queues.promote(1.0)
    assert log.queues.next_deadline == 21.0


def test_a_new_leader_extends_neither_waits_nor_delays(log: Log) -> None:
    log.publish()
    log.do(Nack(log.take()["receipt"], delay=5.0))
    log.wait(2, seconds=3.0)
    log.queues.promote(1.0)
    assert log.queues.next_deadline == 3.0
    log.at(3.0)
    assert log.queues.next_deadline == 5.0


def test_receipts_and_ids_go_on_counting_after_a_snapshot(log: Log) -> None:
    log.publish()
    log.do(Ack(log.take()["receipt"]))
    log.queues = copied(log.queues)
    assert log.publish() == 2
    assert log.take()["receipt"] == 2


def test_a_restored_state_answers_nobody_who_waited_in_the_one_before(log: Log) -> None:
    log.wait(1, seconds=5.0)
    log.queues.advance(5.0)
    assert len(log.queues.resolved) == 1
    log.queues.restore(decode_saved(pack(Queues().snapshot())))
    assert log.queues.resolved == []


# --- random histories ---

NAMES = st.sampled_from(["q", "q" + DEAD])
RECEIPTS = st.sampled_from([1, 1, 1, 2, 3, 5])
SECONDS = st.integers(1, 4).map(float)
SESSIONS = st.integers(1, 4)
commands = st.one_of(
    st.builds(
        Publish,
        NAMES,
        st.integers(0, 3).map(value),
        key=st.sampled_from([None, "k", "l"]),
        producer=st.sampled_from([None, None, "p"]),
        serial=st.integers(0, 4),
        capacity=st.sampled_from([2, 5, 100]),
    ),
    st.builds(
        Take,
        NAMES,
        SECONDS,
        wait=st.sampled_from([0.0, 0.0, 2.0, 5.0]),
        window=st.sampled_from([1, 3, 1000]),
        limit=st.integers(1, 3),
    ),
    st.builds(Ack, RECEIPTS),
    st.builds(Nack, RECEIPTS, st.sampled_from([0.0, 0.0, 1.0, 3.0])),
    st.builds(Prolong, RECEIPTS, SECONDS),
)
steps = st.one_of(
    st.tuples(st.just("apply"), SESSIONS, commands),
    st.tuples(st.just("apply"), SESSIONS, commands),
    st.tuples(st.just("apply"), SESSIONS, commands),
    st.tuples(st.just("apply"), SESSIONS, st.builds(Purge, NAMES)),
    st.tuples(st.just("advance"), st.just(0), st.sampled_from([0.5, 1.0, 1.0, 2.0, 5.0])),
    st.tuples(st.just("promote"), st.just(0), st.none()),
    st.tuples(st.just("give_up"), SESSIONS, st.none()),
)
histories = st.lists(steps, min_size=10, max_size=80)


class Model:
    """The same in plain lists, everything computed anew at each step."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.flights: list[dict[str, Any]] = []
        self.waits: list[dict[str, Any]] = []
        self.published: list[tuple[str, str, int, int]] = []
        self.ids = 0
        self.receipts = 0
        self.resolved: list[tuple[int, Any]] = []

    def of(self, queue: str) -> list[dict[str, Any]]:
        return sorted((m for m in self.messages if m["queue"] == queue), key=lambda m: m["id"])

    def flight(self, message: dict[str, Any]) -> dict[str, Any] | None:
        return next((f for f in self.flights if f["message"] is message), None)

    def deliverable(self, queue: str) -> list[dict[str, Any]]:
        def oldest(message: dict[str, Any]) -> bool:
            return message["key"] is None or message is next(m for m in self.of(queue) if m["key"] == message["key"])

        return [m for m in self.of(queue) if m["delayed"] is None and self.flight(m) is None and oldest(m)]

    def deliver(self, wait: dict[str, Any], time: float) -> Any:
        message = self.deliverable(wait["queue"])[0]
        self.receipts += 1
        message["deliveries"] += 1
        until = time + wait["visibility"]
        self.flights.append({**wait, "message": message, "receipt": self.receipts, "until": until})
        told = {word: message[word] for word in ("id", "body", "key", "deliveries")}
        return ("granted", {**told, "receipt": self.receipts}, wait["asked"], until)

    def serve(self, queue: str, time: float) -> None:
        while self.deliverable(queue) and (waits := [w for w in self.waits if w["queue"] == queue]):
            self.waits.remove(waits[0])
            self.resolved.append((waits[0]["session"], self.deliver(waits[0], time)))

    def give_back(self, flight: dict[str, Any], delay: float, time: float) -> None:
        self.flights.remove(flight)
        message = flight["message"]
        queue = message["queue"]
        if message["deliveries"] >= flight["limit"] and not queue.endswith(DEAD):
            message.update(queue=queue + DEAD, deliveries=0)
        elif delay:
            message["delayed"] = time + delay
        self.serve(queue, time)
        self.serve(queue + DEAD, time)

    def ends(self) -> list[tuple[float, int, int, dict[str, Any]]]:
        return sorted(
            [(f["until"], 0, f["receipt"], f) for f in self.flights]
            + [(m["delayed"], 1, m["id"], m) for m in self.messages if m["delayed"] is not None]
            + [(w["until"], 2, w["session"], w) for w in self.waits],
            key=lambda end: end[:3],
        )

    def advance(self, time: float) -> None:
        while self.ends() and self.ends()[0][0] <= time:
            _, kind, _, what = self.ends()[0]
            if kind == 0:
                self.give_back(what, 0.0, time)
            elif kind == 1:
                what["delayed"] = None
                self.serve(what["queue"], time)
            else:
                self.waits.remove(what)
                self.resolved.append((what["session"], DONE))

    def promote(self, time: float) -> None:
        for flight in self.flights:
            flight["until"] = min(flight["until"], time + flight["visibility"]) + flight["visibility"]

    def give_up(self, session: int) -> None:
        self.waits = [w for w in self.waits if w["session"] != session]

    def apply(self, command: AnyQueueCommand, session: int, time: float) -> Any:
        match command:
            case Publish():
                return self.publish(command, time)
            case Take():
                return self.take(command, session, time)
            case Purge():
                gone = [m for m in self.of(command.queue) if self.flight(m) is None]
                self.messages = [m for m in self.messages if m not in gone]
                return ("done", len(gone))
        flight = next((f for f in self.flights if f["receipt"] == command.receipt), None)
        if flight is None:
            return LOST
        match command:
            case Ack():
                self.flights.remove(flight)
                self.messages.remove(flight["message"])
                self.serve(flight["queue"], time)
            case Nack():
                self.give_back(flight, command.delay, time)
            case Prolong():
                flight.update(visibility=command.visibility, until=time + command.visibility)
                return ("granted", None, time, flight["until"])
        return DONE

    def publish(self, command: Publish, time: float) -> Any:
        queue, producer, serial = command.queue, command.producer, command.serial
        if producer is not None and serial < 1:
            return ("rejected", UNFIT)
        earlier = [line for line in self.published if line[:2] == (queue, producer)]
        if producer is not None and earlier and serial <= earlier[-1][2]:
            return ("done", {"id": earlier[-1][3] if serial == earlier[-1][2] else None, "duplicate": True})
        if producer is not None and serial != (earlier[-1][2] if earlier else 0) + 1:
            return ("rejected", UNFIT)
        if len(self.of(queue)) >= command.capacity:
            return TOO_FULL
        self.ids += 1
        message = {"queue": queue, "id": self.ids, "body": unpack(command.body), "key": command.key}
        self.messages.append({**message, "deliveries": 0, "delayed": None})
        if producer is not None:
            self.published.append((queue, producer, serial, self.ids))
        self.serve(queue, time)
        return ("done", {"id": self.ids, "duplicate": False})

    def take(self, command: Take, session: int, time: float) -> Any:
        self.give_up(session)
        if sum(f["session"] == session for f in self.flights) >= command.window:
            return TOO_FULL
        words = {"session": session, "queue": command.queue, "asked": time, "until": time + command.wait}
        wait = {**words, "visibility": command.visibility, "limit": command.limit}
        if self.deliverable(command.queue):
            return self.deliver(wait, time)
        if not command.wait:
            return DONE
        self.waits.append(wait)
        return None

    def status(self, queue: str) -> dict[str, int]:
        messages = self.of(queue)
        delayed = sum(m["delayed"] is not None for m in messages)
        in_flight = sum(self.flight(m) is not None for m in messages)
        return {
            "ready": len(messages) - delayed - in_flight,
            "delayed": delayed,
            "in_flight": in_flight,
            "dead": len(self.of(queue + DEAD)),
            "waiting": sum(w["queue"] == queue for w in self.waits),
        }


def aimed(step: Step, queues: Queues) -> Step:
    """A drawn receipt is the place of a present delivery, or stale if there are not so many."""
    what, session, command = step
    if not isinstance(command, Ack | Nack | Prolong):
        return step
    present = dict(enumerate((delivery.receipt for delivery in queues.snapshot().deliveries), 1))
    return what, session, msgspec.structs.replace(command, receipt=present.get(command.receipt, command.receipt))


def run(queues: Any, step: Step, time: float) -> Any:
    """One step as the log takes it; the reply."""
    what, session, argument = step
    queues.advance(time)
    if what == "apply":
        queues.give_up(session)
        return queues.apply(argument, session, time)
    if what == "promote":
        queues.promote(time)
    elif what == "give_up":
        queues.give_up(session)
    return None


def timed(history: list[Step]) -> Iterator[tuple[Step, float]]:
    time = 0.0
    for step in history:
        time += step[2] if step[0] == "advance" else 0.0
        yield step, time


def drained(queues: Any) -> list[tuple[int, Any]]:
    resolved = list(queues.resolved)
    queues.resolved.clear()
    return resolved


@settings(max_examples=200, deadline=None)
@given(histories)
def test_random_histories_agree_with_plain_lists(history: list[Step]) -> None:
    queues, model = Queues(), Model()
    for drawn, time in timed(history):
        step = aimed(drawn, queues)
        assert plain(run(queues, step, time)) == run(model, step, time)
        assert [(session, plain(reply)) for session, reply in drained(queues)] == drained(model)
        assert queues.next_deadline == (model.ends()[0][0] if model.ends() else inf)
        for name in ("q", "q" + DEAD):
            assert queues.query(QueueStatus(name)) == model.status(name)


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(0, 80))
def test_a_copy_from_a_snapshot_goes_on_as_the_original_does(history: list[Step], when: int) -> None:
    original = Queues()
    copy = None
    for number, (drawn, time) in enumerate(timed(history)):
        step = aimed(drawn, original)
        if number == min(when, len(history) - 1):
            copy = copied(original)
            assert pack(copy.snapshot()) == pack(original.snapshot())
        reply = run(original, step, time)
        resolved = drained(original)
        if copy is not None:
            assert run(copy, step, time) == reply
            assert drained(copy) == resolved
            assert copy.next_deadline == original.next_deadline
            for name in ("q", "q" + DEAD):
                assert copy.query(QueueStatus(name)) == original.query(QueueStatus(name))
            assert pack(copy.snapshot()) == pack(original.snapshot())


def kept(queues: Queues) -> list[int]:
    """The ids of all messages, wherever they are."""
    return sorted(message.id for _, messages in queues.snapshot().queues for message in messages)


@settings(max_examples=100, deadline=None)
@given(histories)
def test_each_accepted_message_is_in_one_place_until_it_is_acknowledged_or_purged(
    history: list[Step],
) -> None:
    queues = Queues()
    expected: list[int] = []
    in_flight: dict[int, int] = {}  # receipt to message
    for drawn, time in timed(history):
        queues.advance(time)
        step = aimed(drawn, queues)
        before = kept(queues)
        assert before == expected
        reply = plain(run(queues, step, time))
        granted = [reply, *(plain(woken) for _, woken in drained(queues))]
        in_flight |= {
            told[1]["receipt"]: told[1]["id"] for told in granted if told and told[0] == "granted" and told[1]
        }
        match step[2]:
            case Publish() if reply[0] == "done" and not reply[1]["duplicate"]:
                expected.append(reply[1]["id"])
            case Ack(receipt) if reply[0] == "done":
                expected.remove(in_flight[receipt])
            case Purge():
                expected = kept(queues)
                assert len(expected) == len(before) - reply[1]
        assert kept(queues) == expected
        flying = [m.receipt for _, messages in queues.snapshot().queues for m in messages if m.receipt is not None]
        assert sorted(flying) == [delivery.receipt for delivery in queues.snapshot().deliveries]
