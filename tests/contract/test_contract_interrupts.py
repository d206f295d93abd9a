"""The contract of one call that goes wrong: whoever is interrupted stands in nobody's way, whoever asks for nonsense is
told so, and what cannot be read or is refused leaves all else as it was. In either world.
"""

from math import inf

import pytest
from contract_asking import answered, opened, outcome_of
from contract_waiting import pass_time

from testbed import LeaseLost, Refused, Unknown
from testbed.base.codec import Raw
from testbed.core.services.commands import Acquire, Claim, LockStatus, Publish, Take

NOTHING = {"ready": 0, "delayed": 0, "in_flight": 0, "dead": 0, "waiting": 0}


class Interruption(Exception):
    """Comes out of a condition that is waited for."""


def interrupt(monkeypatch, cluster, error, meanwhile=lambda: None):
    """The next call that waits is interrupted by `error`, after what happens meanwhile."""
    wait = cluster.world.wait

    def interrupted(*_):
        monkeypatch.setattr(cluster.world, "wait", wait)
        meanwhile()
        raise error

    monkeypatch.setattr(cluster.world, "wait", interrupted)


def line_of(client, name):
    """The sessions that wait for a lock, in order."""
    return client.call(LockStatus(name))["waiting"]


def waiting_at(client, name):
    """How many consumers wait at a queue."""
    return client.queue(name).status()["waiting"]


# --- interrupted ---


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interruption])
def test_who_is_interrupted_in_an_acquire_leaves_the_line_though_it_makes_no_other_call(service, monkeypatch, error):
    client, other, behind = service.client(), service.client(), opened(service)
    name = f"left by {error.__name__}"
    held = other.lock(name, lease=600.0).acquire()

    def meanwhile():
        service.wait_for(lambda: len(line_of(other, name)) == 1, "the acquire to be in line")
        behind.ask(Acquire((Claim(name),), 600.0, 600.0))
        service.wait_for(lambda: len(line_of(other, name)) == 2, "another behind it")

    interrupt(monkeypatch, service, error, meanwhile)
    with pytest.raises(error):
        client.lock(name, lease=600.0, wait=600.0).acquire()
    service.wait_for(lambda: len(line_of(other, name)) == 1, "the interrupted one to leave the line")
    held.release()
    assert outcome_of(service, behind).type == "ok"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interruption])
def test_what_is_granted_to_who_was_interrupted_is_given_back_though_it_makes_no_other_call(
    service, monkeypatch, error
):
    client, other = service.client(), service.client()
    name = f"granted by {error.__name__}"
    kept = client.lock(f"{name}, kept", lease=600.0).acquire()

    def meanwhile():
        service.wait_for(lambda: bool(other.call(LockStatus(name))["holders"]), "the lock to be granted")

    interrupt(monkeypatch, service, error, meanwhile)
    with pytest.raises(error):
        client.lock(name, lease=600.0, wait=600.0).acquire()
    assert other.lock(name, wait=30.0).acquire().valid
    other.kv.put(name, 1, fence=kept)


def test_an_acquire_that_is_interrupted_while_it_leaves_holds_nothing_in_the_end(service, monkeypatch):
    client, other = service.client(), service.client()
    client.kv.put("at once", 1)
    interrupt(monkeypatch, service, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        client.lock("at once", lease=600.0, wait=600.0).acquire()
    pass_time(service, 0.5)  # it may be on its way
    assert other.lock("at once", wait=30.0).acquire().valid


def take(queue):
    queue.take(wait=60.0)


def consume(queue):
    next(queue.consume())


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interruption])
@pytest.mark.parametrize("begin", [take, consume])
def test_who_is_interrupted_in_a_take_is_given_no_message_though_it_makes_no_other_call(
    service, monkeypatch, begin, error
):
    client, other, behind = service.client(), service.client(), opened(service)
    name = f"{begin.__name__} {error.__name__}"

    def meanwhile():
        service.wait_for(lambda: waiting_at(other, name) == 1, "the take to wait")
        behind.ask(Take(name, 600.0, 600.0))
        service.wait_for(lambda: waiting_at(other, name) == 2, "another behind it")

    interrupt(monkeypatch, service, error, meanwhile)
    with pytest.raises(error):
        begin(client.queue(name, visibility=600.0))
    service.wait_for(lambda: waiting_at(other, name) == 1, "the interrupted one to wait no more")
    other.queue(name).publish("job")
    assert outcome_of(service, behind).value["body"] == "job"
    assert other.queue(name).status() == {**NOTHING, "in_flight": 1}


def test_who_was_interrupted_can_go_on_at_once_and_again(service, monkeypatch):
    client, other = service.client(), service.client()
    kept = client.lock("go on, kept", lease=600.0).acquire()
    held = other.lock("go on", lease=600.0).acquire()

    def meanwhile():
        service.wait_for(lambda: bool(line_of(other, "go on")), "the acquire to be in line")

    for number in range(3):
        interrupt(monkeypatch, service, KeyboardInterrupt, meanwhile)
        with pytest.raises(KeyboardInterrupt):
            client.lock("go on", lease=600.0, wait=600.0).acquire()
        client.kv.put("go on", number, fence=kept)
        assert client.lock("go on").try_acquire() is None
    held.release()
    client.lock("go on").acquire().release()
    kept.release()


# --- arguments of the wrong type ---

NONSENSE = {
    "take, wait=None": lambda client: client.queue("q").take(wait=None),
    'take, wait="5"': lambda client: client.queue("q").take(wait="5"),
    'consume, wait="5"': lambda client: next(client.queue("q").consume(wait="5")),
    "take, visibility=None": lambda client: client.queue("q", visibility=None).take(),
    "take, window=0.5": lambda client: client.queue("q", window=0.5).take(),
    'acquire, wait="5"': lambda client: client.lock("x", wait="5").acquire(),
    "acquire, wait=None": lambda client: client.lock("x", wait=None).acquire(),
    'acquire, lease="5s"': lambda client: client.lock("x", lease="5s").acquire(),
    "acquire, lease=None": lambda client: client.lock("x", lease=None).try_acquire(),
    "a list of locks": lambda client: client.lock(["a", "b"]).acquire(),
    'permits="2"': lambda client: client.semaphore("x", "2").acquire(),
    "publish, key=3": lambda client: client.queue("q").publish(1, key=3),
    "publish, serial=1.5": lambda client: client.queue("q", producer="p").publish(1, serial=1.5),
    'put, fence="1"': lambda client: client.kv.put("k", 1, fence="1"),
    "put, key=3": lambda client: client.kv.put(3, 1),
    "get, key=None": lambda client: client.kv.get(None),
    "delete, key=b''": lambda client: client.kv.delete(b""),
    "status of a queue, name=3": lambda client: client.queue(3).status(),
}


@pytest.mark.parametrize("nonsense", [pytest.param(call, id=what) for what, call in NONSENSE.items()])
def test_an_argument_of_the_wrong_type_is_an_error_here_and_nothing_is_started(service, monkeypatch, nonsense):
    client, other = service.client(), service.client()
    client.kv.put("sane", 1)
    with monkeypatch.context() as patched:
        started = []
        patched.setattr(service.world, "tell_client", lambda *told: started.append(told))
        with pytest.raises(TypeError):
            nonsense(client)
        assert started == []
    client.kv.put("sane", 2)
    assert other.kv.get("sane") == service.client().kv.get("sane") == 2


def test_whole_numbers_of_seconds_are_as_good_as_others(service):
    client = service.client()
    held = client.lock("whole", lease=20, wait=1).acquire()
    held.extend(30)
    assert 20 < held.remaining <= 30
    held.release()
    queue = client.queue("whole", visibility=20)
    queue.publish(1)
    message = queue.take(wait=1)
    message.extend(30)
    message.nack(delay=0)
    queue.take(wait=1).ack()


@pytest.mark.parametrize("lease", [None, "5", [5.0]])
def test_a_lease_cannot_be_extended_by_what_is_no_number(service, lease):
    client = service.client()
    name = f"extended by {lease!r}"
    client.queue(name).publish(1)
    with client.lock(name, lease=20.0) as held:
        message = client.queue(name).take()
        if lease is None:  # as long as at first
            held.extend(lease)
            message.extend(lease)
        else:
            for extended in (held, message):
                with pytest.raises(TypeError):
                    extended.extend(lease)
            with pytest.raises(TypeError):
                message.nack(delay=lease)
        assert held.valid
        message.ack()


# --- messages that nobody can read ---


def test_a_message_that_nobody_can_read_is_unknown_to_whoever_takes_it_and_stops_nobody(service):
    client, other = service.client(), service.client()
    assert answered(service, opened(service), Publish("unreadable", Raw(b"\xa1\xff"))).type == "ok"
    queue = client.queue("unreadable", visibility=0.3, limit=2)
    for _ in range(2):
        with pytest.raises(Unknown, match="cannot be read"):
            queue.take(wait=30.0)
        client.kv.put("unreadable", 1)
        assert other.kv.get("unreadable") == 1
        client.lock("unreadable").acquire().release()
    other.queue("unreadable").publish("readable")
    service.wait_for(lambda: other.queue("unreadable").status()["dead"] == 1, "the dead letter")
    message = queue.take(wait=30.0)
    assert message.body == "readable"
    message.ack()
    assert other.queue("unreadable").status() == {**NOTHING, "dead": 1}


def test_a_consumer_that_waits_for_a_message_that_nobody_can_read_is_told_that_nobody_knows(service):
    consumer = opened(service)
    consumer.ask(Take("waited for", 600.0, 600.0))
    client = service.client()
    service.wait_for(lambda: waiting_at(client, "waited for") == 1, "the consumer to wait")
    assert answered(service, opened(service), Publish("waited for", Raw(b"\xa1\xff"))).type == "ok"
    outcome = outcome_of(service, consumer)
    assert (outcome.type, outcome.until) == ("info", None)
    client.queue("waited for").publish("readable")
    assert answered(service, consumer, Take("waited for", 600.0)).value["body"] == "readable"


# --- what was refused ---


@pytest.mark.parametrize("nonsense", [0.0, -1.0, inf])
def test_a_lease_whose_extension_was_refused_is_extended_by_what_it_was_before(service, nonsense):
    client = service.client()
    held = client.lock(f"refused {nonsense}", lease=20.0).acquire()
    client.queue(f"refused {nonsense}").publish(1)
    message = client.queue(f"refused {nonsense}", visibility=20.0).take()
    for extended in (held, message):
        with pytest.raises(Refused):
            extended.extend(nonsense)
        assert extended.remaining > 10.0
        extended.extend()
        assert 10.0 < extended.remaining <= 20.0
    held.extend(40.0)
    held.extend()
    assert 30.0 < held.remaining <= 40.0
    held.release()
    message.ack()


def test_a_release_that_came_too_late_leaves_nothing_to_be_settled(service, monkeypatch):
    client, other = service.client(), service.client()
    held = client.lock("too late", lease=0.3).acquire()
    other.lock("too late", wait=30.0).acquire()
    asked = []
    outcome = client.outcome
    monkeypatch.setattr(
        client, "outcome", lambda operation, *rest: asked.append(operation) or outcome(operation, *rest)
    )
    with pytest.raises(LeaseLost):
        held.release()
    client.lock("next").acquire().release()
    assert [type(operation).__name__ for operation in asked] == ["Release", "Acquire", "Release"]
