"""The key-value store, its fences, and all services as one: same calls, same state, same bytes."""

from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.core import requests
from testbed.core.raft.machine import UNREADABLE
from testbed.core.services.commands import (
    LEASE_LOST,
    NOT_GRANTED,
    PRECONDITION_FAILED,
    READERS,
    Ack,
    Acquire,
    Cas,
    Claim,
    Command,
    Delete,
    Extend,
    Get,
    LastPublished,
    LockStatus,
    Nack,
    Prolong,
    Publish,
    Purge,
    Put,
    QueueStatus,
    Release,
    Settle,
    Take,
    value,
)
from testbed.core.services.machine import Services

CODEC = Codec(requests.REPLIES)
REJECTED = requests.Rejected(PRECONDITION_FAILED)
STORE_FULL = requests.Rejected("full: the store holds as much as it may")
DONE = requests.Done(Raw(pack(None)))
LEASE_S = 10.0

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def do(services: Services, command: Command) -> Any:
    return CODEC.decode(services.apply(pack(command), 1, 0.0) or b"")


def get(services: Services, key: str) -> Any:
    return unpack(CODEC.decode(services.query(pack(Get(key)))).result)


def test_a_put_is_read_back_and_a_delete_forgets_it() -> None:
    services = Services()
    assert get(services, "x") is None
    assert do(services, Put("x", value({"b": [1, 2.5, None], "a": "ü"}))) == DONE
    assert get(services, "x") == {"a": "ü", "b": [1, 2.5, None]}
    assert do(services, Delete("x")) == DONE
    assert get(services, "x") is None
    assert do(services, Delete("x")) == DONE


def test_a_null_and_a_missing_key_are_the_same() -> None:
    services = Services()
    assert do(services, Cas("x", value(None), value(1))) == DONE
    assert do(services, Put("x", value(None))) == DONE
    assert services.keyvalue.values == {}
    assert do(services, Cas("x", value(1), value(2))) == REJECTED


def test_a_cas_takes_hold_only_of_the_expected_value() -> None:
    services = Services()
    do(services, Put("x", value(1)))
    assert do(services, Cas("x", value(2), value(3))) == REJECTED
    assert get(services, "x") == 1
    assert do(services, Cas("x", value(1), value(2))) == DONE
    assert get(services, "x") == 2


@pytest.mark.parametrize("other", [1.0, True, "1", [1], None])
def test_values_of_other_types_are_not_equal(other: Any) -> None:
    services = Services()
    do(services, Put("x", value(1)))
    assert do(services, Cas("x", value(other), value(2))) == REJECTED


def test_the_order_in_which_an_object_was_filled_does_not_matter() -> None:
    services = Services()
    do(services, Put("x", value({"a": 1, "b": {"d": 1, "c": 2}})))
    assert do(services, Cas("x", value({"b": {"c": 2, "d": 1}, "a": 1}), value(2))) == DONE


def test_a_full_store_rejects_what_would_make_it_grow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_BYTES_MAX", 10)
    services = Services()
    assert do(services, Put("a", value("1234567"))) == DONE  # 1 + 8 bytes
    assert do(services, Put("b", value(1))) == STORE_FULL
    assert do(services, Cas("a", value("1234567"), value("123456789"))) == STORE_FULL
    assert do(services, Put("a", value("7654321"))) == DONE
    assert do(services, Put("a", value(1))) == DONE
    assert do(services, Put("b", value(1))) == DONE
    assert do(services, Delete("a")) == DONE
    assert services.keyvalue.bytes == 2


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x93\xa3Put\xa1\xff\xc0", b"\x92\xa5Steal\xa1x", b"\x91" * 50_000]
)
def test_what_cannot_be_read_is_rejected(data: bytes) -> None:
    """Thesis checklist 20, 21: the commands of a log are applied at every start; none may raise."""
    services = Services()
    assert CODEC.decode(services.apply(data, 1, 0.0)) == requests.Rejected("unfit: not a command")
    assert CODEC.decode(services.query(data)) == requests.Rejected("unfit: not a query")


def test_a_query_is_no_command_nor_the_reverse() -> None:
    services = Services()
    assert CODEC.decode(services.apply(pack(Get("x")), 1, 0.0)) == requests.Rejected("unfit: not a command")
    assert CODEC.decode(services.query(pack(Put("x", value(1))))) == requests.Rejected("unfit: not a query")


def test_a_value_that_json_cannot_hold_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError):
        value(object())


keys = st.sampled_from(["a", "b", "c"])
commands = st.one_of(
    st.builds(Put, keys, json_values.map(value)),
    st.builds(Delete, keys),
    st.builds(Cas, keys, st.sampled_from([None, 1, "x"]).map(value), json_values.map(value)),
)


@settings(max_examples=100, deadline=None)
@given(before=st.lists(commands, max_size=15), after=st.lists(commands, max_size=15))
def test_a_restored_copy_goes_on_as_the_original_does(before: list[Command], after: list[Command]) -> None:
    original, copy = Services(), Services()
    for command in before:
        do(original, command)
    copy.restore(original.snapshot())
    assert (
        copy.keyvalue.bytes
        == original.keyvalue.bytes
        == sum(len(key) + len(held) for key, held in original.keyvalue.values.items())
    )
    assert [do(copy, command) for command in after] == [do(original, command) for command in after]
    assert copy.snapshot() == original.snapshot()


# --- fences ---


def at(services: Services, time: float, command: Command, session: int = 1) -> Any:
    """Carry out a command at a log time, as Raft does: what is due comes first. None: the session waits."""
    services.advance(time)
    reply = services.apply(pack(command), session, time)
    return None if reply is None else CODEC.decode(reply)


def lock(*names: str, wait: float = 0.0, lease: float = LEASE_S) -> Acquire:
    return Acquire(tuple(Claim(name) for name in names), lease, wait)


def word(reply: Any) -> Any:
    """What it was refused with, without the reason; or the reply."""
    return reply.error.split(":")[0] if isinstance(reply, requests.Rejected) else reply


def told(services: Services) -> list[tuple[int, Any]]:
    return [(session, CODEC.decode(answer)) for session, answer in services.answered()]


FENCED = [Put("x", value(1), 1), Delete("x", 1), Cas("x", value(0), value(1), 1)]


def fencing() -> Services:
    """Session 1 holds a lock under token 1 until log time 10; x is 0."""
    services = Services()
    at(services, 0.0, Put("x", value(0)))
    assert unpack(at(services, 0.0, lock("a")).result) == 1
    return services


@pytest.mark.parametrize("write", FENCED)
def test_a_write_with_the_token_of_a_present_grant_takes_effect(write: Command) -> None:
    services = fencing()
    assert at(services, LEASE_S - 0.001, write, session=2) == DONE  # whoever carries it
    assert get(services, "x") == (None if isinstance(write, Delete) else 1)


@pytest.mark.parametrize("write", FENCED)
def test_a_write_at_the_end_of_the_lease_or_later_is_refused_and_changes_nothing(write: Command) -> None:
    """LK1: in log time, whatever the holder's clock says."""
    for time in (LEASE_S, LEASE_S + 100):
        services = fencing()
        assert word(at(services, time, write)) == LEASE_LOST
        assert get(services, "x") == 0


@pytest.mark.parametrize("write", FENCED)
def test_a_write_with_a_token_that_was_given_back_is_refused_even_if_its_owner_holds_the_lock_again(
    write: Command,
) -> None:
    services = fencing()
    assert at(services, 1.0, Release(1)) == DONE
    assert unpack(at(services, 2.0, lock("a")).result) == 2
    assert word(at(services, 3.0, write)) == LEASE_LOST
    assert get(services, "x") == 0


@pytest.mark.parametrize("token", [0, -1, 2, 2**63])
def test_a_token_that_was_never_given_out_fences_everything_off(token: int) -> None:
    services = fencing()
    assert word(at(services, 1.0, Put("x", value(1), token))) == LEASE_LOST
    assert get(services, "x") == 0


def test_a_fenced_cas_that_finds_another_value_is_refused_for_that() -> None:
    assert at(fencing(), 1.0, Cas("x", value(7), value(1), 1)) == REJECTED


def test_an_extended_or_promoted_lease_fences_on() -> None:
    services = fencing()
    at(services, 5.0, Extend(1, LEASE_S))
    assert at(services, LEASE_S + 4.9, Put("x", value(1), 1)) == DONE
    services.promote(LEASE_S + 5.0)
    assert at(services, 2 * LEASE_S + 4.9, Put("x", value(2), 1)) == DONE
    assert word(at(services, 2 * LEASE_S + 5.0, Put("x", value(3), 1))) == LEASE_LOST


# --- all services as one ---


def test_each_command_reaches_its_service() -> None:
    services = Services()
    replies = [
        at(services, 0.0, lock("a")),
        at(services, 0.0, Extend(1, 1.0)),
        at(services, 0.0, Release(1)),
        at(services, 0.0, Settle(())),
        at(services, 0.0, Publish("q", value("x"))),
        at(services, 0.0, Take("q", LEASE_S)),
        at(services, 0.0, Prolong(1, 1.0)),
        at(services, 0.0, Nack(1)),
        at(services, 0.0, Take("q", LEASE_S)),
        at(services, 0.0, Ack(2)),
        at(services, 0.0, Purge("q")),
    ]
    message = {"id": 1, "body": "x", "key": None, "receipt": 1, "deliveries": 1}
    assert [unpack(reply.result) for reply in replies] == [
        1,
        1,
        None,
        0,
        {"id": 1, "duplicate": False},
        message,
        None,
        None,
        {**message, "receipt": 2, "deliveries": 2},
        None,
        0,
    ]


def test_each_query_reaches_its_service() -> None:
    services = Services()
    at(services, 0.0, lock("a"), session=3)
    at(services, 0.0, Publish("q", value(1), producer="p", serial=1))
    found = [
        unpack(CODEC.decode(services.query(pack(query))).result)
        for query in (LockStatus("a"), QueueStatus("q"), LastPublished("q", "p"))
    ]
    assert found == [
        {"holders": [{"token": 1, "session": 3, "limit": 1, "until": LEASE_S}], "waiting": []},
        {"ready": 1, "delayed": 0, "in_flight": 0, "dead": 0, "waiting": 0},
        1,
    ]


def waiting() -> Services:
    """Session 1 holds lock a until 10; session 2 waits for it until 5, session 3 for a message until 4."""
    services = Services()
    at(services, 0.0, lock("a"))
    assert at(services, 0.0, lock("a", wait=5.0), session=2) is None
    assert at(services, 0.0, Take("q", LEASE_S, wait=4.0), session=3) is None
    assert services.answered() == []
    return services


def test_answers_to_those_who_waited_are_given_once() -> None:
    services = waiting()
    at(services, 1.0, Publish("q", value("x")))
    at(services, 1.0, Release(1))
    by_lock, by_queue = told(services)
    assert by_lock == (2, requests.Granted(Raw(pack(2)), 0.0, 1.0 + LEASE_S))
    assert (by_queue[0], by_queue[1].until, unpack(by_queue[1].result)["body"]) == (3, 1.0 + LEASE_S, "x")
    assert services.answered() == []


def test_waits_that_end_are_answered_and_the_next_deadline_is_the_earliest_of_all() -> None:
    services = waiting()
    assert services.next_deadline == 4.0
    services.advance(4.0)
    assert told(services) == [(3, DONE)]
    assert services.next_deadline == 5.0
    services.advance(5.0)
    assert [(session, word(reply)) for session, reply in told(services)] == [(2, NOT_GRANTED)]
    assert services.next_deadline == LEASE_S
    services.advance(LEASE_S)
    assert services.next_deadline == inf


@pytest.mark.parametrize("session", [2, 3])
def test_who_is_given_up_on_is_told_nothing_but_what_a_late_question_would_be(session: int) -> None:
    services = waiting()
    assert CODEC.decode(services.give_up(session)) == requests.Rejected("not-granted: it was given up")
    at(services, 1.0, Publish("q", value("x")))
    at(services, 1.0, Release(1))
    assert [other for other, _ in told(services)] == [5 - session]


def test_who_is_given_up_on_makes_way_for_the_next() -> None:
    """LK3: a reader behind a writer that left the line is granted at once."""
    services = Services()
    at(services, 0.0, Acquire((Claim("a", READERS),), LEASE_S), session=1)
    assert at(services, 0.0, lock("a", wait=5.0), session=2) is None
    assert at(services, 0.0, Acquire((Claim("a", READERS),), LEASE_S, 5.0), session=3) is None
    services.give_up(2)
    assert [(session, unpack(reply.result)) for session, reply in told(services)] == [(3, 2)]


def test_leases_of_locks_and_messages_are_promoted_before_they_end() -> None:
    """LK7, MQ9: a new leader gives a full term more, and ends nothing at the time it takes over."""
    services = Services()
    at(services, 0.0, lock("a"))
    at(services, 0.0, Publish("q", value("x")))
    at(services, 0.0, Take("q", LEASE_S), session=2)
    services.promote(LEASE_S)
    services.advance(LEASE_S)
    assert services.next_deadline == 2 * LEASE_S
    assert at(services, 2 * LEASE_S - 0.001, Put("x", value(1), 1)) == DONE
    assert at(services, 2 * LEASE_S - 0.001, Ack(1)) == DONE


def test_a_restored_copy_has_locks_queues_waits_and_deadlines() -> None:
    original, copy = waiting(), Services()
    at(original, 1.0, Publish("other", value("x"), producer="p", serial=1))
    at(original, 1.0, Put("x", value(1), 1))
    at(copy, 0.0, lock("gone"))
    copy.restore(original.snapshot())
    assert copy.snapshot() == original.snapshot()
    for services in (original, copy):
        assert services.next_deadline == 4.0
        assert get(services, "x") == 1
        assert unpack(at(services, 2.0, Publish("other", value("x"), producer="p", serial=1)).result)["duplicate"]
        assert at(services, 2.0, Release(1)) == DONE
        assert told(services) == [(2, requests.Granted(Raw(pack(2)), 0.0, 2.0 + LEASE_S))]
        services.advance(4.0)
        assert told(services) == [(3, DONE)]
    assert copy.snapshot() == original.snapshot()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x93\x80\x80\x80", b"\x93\x80\x95\xcb"])
def test_a_snapshot_that_cannot_be_read_replaces_nothing(data: bytes) -> None:
    services = waiting()
    before = services.snapshot()
    with pytest.raises(UNREADABLE):
        services.restore(data)
    assert services.snapshot() == before


sessions = st.integers(1, 4)
names = st.sampled_from(["a", "b"])
every_command = st.one_of(
    commands,
    st.builds(Put, keys, json_values.map(value), st.integers(1, 6)),
    st.builds(
        lambda claims, lease, wait: Acquire(tuple(Claim(name) for name in claims), lease, wait),
        st.lists(names, min_size=1, max_size=2, unique=True),
        st.sampled_from([1.0, 3.0]),
        st.sampled_from([0.0, 2.0]),
    ),
    st.builds(Release, st.integers(1, 6)),
    st.builds(Extend, st.integers(1, 6), st.just(2.0)),
    st.builds(Publish, st.just("q"), st.just(value("x")), st.sampled_from([None, "k"])),
    st.builds(Take, st.just("q"), st.sampled_from([1.0, 3.0]), st.sampled_from([0.0, 2.0]), st.just(2), st.just(2)),
    st.builds(Ack, st.integers(1, 6)),
    st.builds(Nack, st.integers(1, 6), st.sampled_from([0.0, 1.0])),
)
log_entries = st.lists(st.tuples(sessions, st.sampled_from([0.0, 0.5, 1.0]), every_command), max_size=25)


class Copy:
    """Services with everything that they said."""

    def __init__(self) -> None:
        self.services = Services()
        self.said: list[Any] = []

    def apply(self, now: float, session: int, command: Command) -> None:
        self.services.advance(now)
        self.said += [
            self.services.answered(),
            self.services.apply(pack(command), session, now),
            self.services.answered(),
            self.services.next_deadline,
        ]


@settings(max_examples=80, deadline=None)
@given(before=log_entries, after=log_entries)
def test_a_restored_copy_of_all_services_goes_on_as_the_original_does(
    before: list[tuple[int, float, Command]], after: list[tuple[int, float, Command]]
) -> None:
    original, copy = Copy(), Copy()
    now = 0.0
    for session, wait, command in before:
        now += wait
        original.apply(now, session, command)
    copy.services.restore(original.services.snapshot())
    assert copy.services.snapshot() == original.services.snapshot()
    original.said.clear()
    for session, wait, command in after:
        now += wait
        original.apply(now, session, command)
        copy.apply(now, session, command)
    assert copy.said == original.said
    assert copy.services.snapshot() == original.services.snapshot()
