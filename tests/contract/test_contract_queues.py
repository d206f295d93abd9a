"""The contract of queues: at least once, under leases, with a receipt for each delivery, in either world."""

from math import nan

import pytest
from contract_asking import answered, opened, outcome_of
from contract_waiting import counted, obey, pass_time

from testbed import LeaseLost, Refused, Unknown
from testbed.base.links import CLIENTS, LinkRule
from testbed.core.services.commands import Ack, Publish, Take, value

NOTHING = {"ready": 0, "delayed": 0, "in_flight": 0, "dead": 0, "waiting": 0}


def publish(name, body):
    return Publish(name, value(body))


def bodies_of(queue):
    """Takes and acknowledges all there is to be had now; their bodies, in order."""
    bodies = []
    for message in queue.consume(wait=0.0):
        bodies.append(message.body)
        message.ack()
    return bodies


def taken_over(queue, message):
    """The next delivery of a message, once its lease is over."""
    again = queue.take(wait=30.0)
    assert again.id == message.id
    return again


# --- publish, take, ack ---


def test_messages_are_taken_in_the_order_they_were_published_and_gone_once_acknowledged(service):
    queue, other = service.client().queue("plain"), service.client().queue("plain")
    bodies = [{"n": 1}, None, [1.5, True, "x"], {"n": 1}]
    ids = [queue.publish(body) for body in bodies]
    assert ids == sorted(set(ids))
    taken = [other.take() for _ in bodies]
    assert [message.body for message in taken] == bodies
    assert [message.id for message in taken] == ids
    assert [message.deliveries for message in taken] == [1] * 4
    assert len({message.receipt for message in taken}) == 4
    assert queue.take(wait=0.0) is None
    for message in taken:
        message.ack()
    assert queue.status() == NOTHING


def test_a_take_that_finds_nothing_waits_as_long_as_it_is_told_to(service):
    queue = service.client().queue("nothing")
    begun = service.world.now()
    assert queue.take(wait=0.3) is None
    assert service.world.now() >= begun + 0.3
    assert queue.take(wait=0.0) is None
    assert queue.status() == NOTHING


def test_a_consumer_that_waits_is_woken_by_whatever_becomes_available(service):
    client = service.client()
    queue = client.queue("woken")
    consumers = [opened(service) for _ in range(4)]
    for number, consumer in enumerate(consumers, 1):
        consumer.ask(Take("woken", 30.0, 600.0))
        service.wait_for(lambda n=number: queue.status()["waiting"] == n, f"{number} to wait")
    queue.publish("first")
    first = outcome_of(service, consumers[0]).value
    assert first["body"] == "first"
    queue.publish("second")
    second = client.call(Take("woken", 0.3))  # it was published for the next in line, who had it already
    assert second is None
    assert outcome_of(service, consumers[1]).value["body"] == "second"
    assert queue.status() == {**NOTHING, "in_flight": 2, "waiting": 2}
    answered(service, consumers[0], Ack(first["receipt"]))
    assert consumers[2].outcomes == consumers[3].outcomes == []
    service.client().queue("woken").publish("third")
    assert outcome_of(service, consumers[2]).value["body"] == "third"


def test_a_consumer_that_waits_is_woken_by_a_message_that_comes_back(service):
    client, consumer = service.client(), opened(service)
    queue = client.queue("comes back", visibility=0.4)
    queue.publish("once")
    queue.take()
    consumer.ask(Take("comes back", 30.0, 600.0))
    again = outcome_of(service, consumer)
    assert again.value["deliveries"] == 2
    answered(service, consumer, Ack(again.value["receipt"]))


def test_consuming_ends_when_nothing_comes(service):
    queue = service.client().queue("consumed")
    for number in range(5):
        queue.publish(number)
    assert bodies_of(queue) == list(range(5))
    assert list(queue.consume(wait=0.1)) == []


def test_each_message_goes_to_one_of_many_consumers(service):
    queue = service.client().queue("shared out")
    consumers = [opened(service) for _ in range(4)]
    for consumer in consumers:
        for _ in range(5):
            consumer.ask(Take("shared out", 60.0, 30.0))
    ids = [queue.publish(number) for number in range(20)]
    service.wait_for(lambda: all(len(consumer.outcomes) == 5 for consumer in consumers), "all to be taken")
    assert sorted(outcome.value["id"] for consumer in consumers for outcome in consumer.outcomes) == ids


# --- leases and receipts ---


def test_what_a_consumer_took_and_did_not_acknowledge_is_delivered_to_another(service):
    queue, consumer = service.client().queue("dies"), opened(service)
    queue.publish("job")
    first = answered(service, consumer, Take("dies", 0.4)).value
    consumer.gone = True
    again = queue.take(wait=30.0)
    assert (again.id, again.body, first["deliveries"], again.deliveries) == (first["id"], "job", 1, 2)
    assert again.receipt != first["receipt"]
    again.ack()
    assert queue.status() == NOTHING


def test_a_consumer_knows_that_its_lease_may_be_over_before_another_is_given_the_message(service):
    queue = service.client().queue("known", visibility=0.4)
    other = service.client().queue("known")
    queue.publish("job")
    message = queue.take()
    assert message.remaining <= 0.4
    until = service.world.now() + message.remaining
    again = taken_over(other, message)
    assert until <= service.world.now()
    assert message.remaining == 0
    assert 0 < again.remaining <= 30.0
    again.ack()


def test_a_receipt_of_an_earlier_delivery_is_refused(service):
    queue = service.client().queue("late", visibility=0.4)
    other = service.client().queue("late")
    queue.publish("job")
    message = queue.take()
    again = taken_over(other, message)
    for late in (message.ack, message.nack, message.extend):
        with pytest.raises(LeaseLost, match=f"nothing is in flight under receipt {message.receipt}"):
            late()
    assert queue.status() == {**NOTHING, "in_flight": 1}
    again.ack()
    assert queue.status() == NOTHING


def test_a_second_ack_is_refused_and_changes_nothing(service):
    client = service.client()
    queue = client.queue("twice")
    for number in range(2):
        queue.publish(number)
    message, kept = queue.take(), queue.take()
    message.ack()
    with pytest.raises(LeaseLost):
        message.ack()
    with pytest.raises(LeaseLost):
        message.nack()
    with pytest.raises(LeaseLost):
        client.call(Ack(kept.receipt + 1_000_000))
    assert queue.status() == {**NOTHING, "in_flight": 1}
    kept.ack()


def test_a_lease_that_is_extended_in_time_goes_on(service):
    queue = service.client().queue("extended", visibility=0.6)
    other = service.client().queue("extended")
    queue.publish("long")
    message = queue.take()
    until = service.world.now() + 1.0
    while service.world.now() < until:
        pass_time(service, 0.1)
        message.extend()
    message.extend(20.0)
    assert 10.0 < message.remaining <= 20.0
    assert other.take(wait=0.0) is None
    message.ack()
    assert queue.status() == NOTHING


def test_a_message_that_is_given_back_is_delivered_again_at_once_or_after_a_delay(service):
    queue = service.client().queue("given back")
    ids = [queue.publish(number) for number in range(2)]
    queue.take().nack()
    message = queue.take()
    assert (message.id, message.deliveries) == (ids[0], 2)  # at its old place
    given_back_at = service.world.now()
    message.nack(delay=0.4)
    assert queue.status() == {**NOTHING, "ready": 1, "delayed": 1}
    other = queue.take()
    assert other.id == ids[1]
    assert queue.take(wait=0.0) is None
    message = queue.take(wait=30.0)
    assert service.world.now() >= given_back_at + 0.4 * 0.99  # clocks drift
    assert (message.id, message.deliveries) == (ids[0], 3)
    message.ack()
    other.ack()


def test_messages_of_one_key_are_delivered_one_after_the_other_in_their_order_however_often(service):
    queue = service.client().queue("keyed")
    short = service.client().queue("keyed", visibility=0.3)
    for body, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("x", None), ("b2", "b"), ("a3", "a")):
        queue.publish(body, key=key)
    a1, b1, other = short.take(), queue.take(), queue.take()
    assert [(message.body, message.key) for message in (a1, b1, other)] == [("a1", "a"), ("b1", "b"), ("x", None)]
    assert queue.take(wait=0.0) is None
    a1 = queue.take(wait=30.0)
    assert (a1.body, a1.deliveries) == ("a1", 2)
    a1.nack(delay=0.3)
    assert queue.take(wait=0.0) is None
    b1.ack()
    assert queue.take().body == "b2"
    a1 = queue.take(wait=30.0)
    assert (a1.body, a1.deliveries) == ("a1", 3)
    a1.ack()
    assert bodies_of(queue) == ["a2", "a3"]


def test_no_more_than_the_window_is_delivered_to_one_consumer(service):
    queue, other = service.client().queue("window", window=2), service.client().queue("window", window=2)
    for number in range(5):
        queue.publish(number)
    taken = [queue.take() for _ in range(2)]
    with pytest.raises(Refused, match="full: 2 messages in flight"):
        queue.take()
    assert other.take().body == 2
    taken[0].ack()
    assert queue.take().body == 3
    assert queue.status() == {**NOTHING, "ready": 1, "in_flight": 3}


# --- dead letters, limits, purge ---


def test_a_message_that_was_delivered_in_vain_too_often_goes_to_the_dead_letters_and_others_go_on(service):
    client = service.client()
    queue, hasty = client.queue("poisoned", limit=3), client.queue("poisoned", limit=3, visibility=0.3)
    poison = queue.publish("poison", key="k")
    queue.publish("fine", key="k")
    for deliveries in (1, 2):
        message = queue.take(wait=30.0)
        assert (message.id, message.deliveries) == (poison, deliveries)
        message.nack()
        assert queue.status() == {**NOTHING, "ready": 2}
    assert hasty.take().id == poison  # and lets the lease run out
    message = queue.take(wait=30.0)
    assert message.body == "fine"
    assert queue.status() == {**NOTHING, "in_flight": 1, "dead": 1}
    message.ack()
    (dead,) = queue.dead.consume(wait=0.0)
    assert (dead.id, dead.body, dead.key) == (poison, "poison", "k")
    dead.ack()
    assert queue.status() == NOTHING


def test_a_dead_letter_is_in_one_queue_only_at_any_time_though_leaders_change(service):
    client = service.client()
    queue = client.queue("in one", visibility=0.4, limit=1)
    queue.publish("poison")
    queue.take()
    service.kill(service.wait_for_leader())
    seen = []
    while not seen or seen[-1] != {**NOTHING, "dead": 1}:
        seen.append(queue.status())
        assert len(seen) < 100_000
    assert {count["in_flight"] + count["dead"] for count in seen} == {1}
    assert {count["ready"] for count in seen} == {0}
    assert bodies_of(queue.dead) == ["poison"]


def test_a_full_queue_refuses_and_says_so_until_there_is_room(service):
    client = service.client()
    queue = client.queue("full", capacity=2)
    for number in range(2):
        queue.publish(number)
    with pytest.raises(Refused, match="full: the queue holds 2 messages"):
        queue.publish("too much")
    message = queue.take()
    with pytest.raises(Refused, match="full"):
        queue.publish("too much")  # what is in flight is still there
    message.ack()
    queue.publish(2)
    assert bodies_of(queue) == [1, 2]
    with pytest.raises(ValueError, match="exceeds"):
        queue.publish("x" * 5_000_000)


def test_a_purge_removes_what_is_not_in_flight(service):
    queue = service.client().queue("purged")
    assert queue.purge() == 0
    for number in range(5):
        queue.publish(number, key="k" if number > 2 else None)
    kept = queue.take()
    queue.take().nack(delay=60.0)
    assert queue.status() == {**NOTHING, "ready": 3, "delayed": 1, "in_flight": 1}
    assert queue.purge() == 4
    assert queue.status() == {**NOTHING, "in_flight": 1}
    assert queue.take(wait=0.0) is None
    kept.ack()
    queue.publish("next", key="k")
    assert bodies_of(queue) == ["next"]


# --- leaders that go, replies that are lost ---


def test_a_publication_that_is_retried_after_a_lost_request_or_reply_adds_one_message(service):
    queue = service.client(timeout=20).queue("retried")
    lost = counted(service, "lost")
    obey(
        service,
        [
            rule
            for node in service.nodes
            for rule in (LinkRule(CLIENTS, node, loss=0.25), LinkRule(node, CLIENTS, loss=0.25, duplicate=0.25))
        ],
    )
    number = 0
    while number < 4 or (counted(service, "lost") < lost + 3 and number < 100):
        queue.publish(number)
        message = queue.take()
        assert (message.body, message.deliveries) == (number, 1)  # a second delivery would leave the first in flight
        message.ack()
        number += 1
    assert counted(service, "lost") >= lost + 3
    service.heal()
    assert queue.status() == NOTHING


def test_what_its_leader_did_not_live_to_confirm_is_confirmed_by_the_next_and_there_once(service):
    queue, asker, consumer = service.client().queue("unconfirmed"), opened(service), opened(service)
    asker.deaf = consumer.deaf = True
    asker.ask(publish("unconfirmed", "job"), timeout=30.0)
    service.wait_for(lambda: queue.status() == {**NOTHING, "ready": 1}, "the message")
    consumer.ask(Take("unconfirmed", 30.0), timeout=30.0)
    service.wait_for(lambda: queue.status() == {**NOTHING, "in_flight": 1}, "the delivery")
    service.kill(service.wait_for_leader())
    asker.deaf = consumer.deaf = False
    added, taken = outcome_of(service, asker), outcome_of(service, consumer)
    assert (added.type, added.value["duplicate"]) == ("ok", False)
    assert (taken.type, taken.value["id"], taken.value["deliveries"]) == ("ok", added.value["id"], 1)
    assert queue.status() == {**NOTHING, "in_flight": 1}
    assert answered(service, consumer, Ack(taken.value["receipt"])).type == "ok"
    assert queue.status() == NOTHING


def test_a_publication_that_was_never_confirmed_is_unknown_and_may_be_there(service):
    client = service.client(timeout=0.4)
    queue = client.queue("unknown")
    queue.publish("before")
    obey(service, [LinkRule(node, CLIENTS, "drop") for node in service.nodes])
    with pytest.raises(Unknown):
        queue.publish("unknown")
    service.heal()
    assert bodies_of(service.client().queue("unknown")) == ["before", "unknown"]


def test_every_acknowledged_message_is_there_once_though_leaders_are_killed_while_many_publish(service):
    publishers = [opened(service) for _ in range(8)]
    asked = []  # by each of them

    def over():
        return sum(len(publisher.outcomes) for publisher in publishers)

    kills = 0
    while kills < 2:
        assert len(asked) < 250, "no kill came in time"
        for count in range(len(asked), len(asked) + 25):
            asked.append(count)
            for number, publisher in enumerate(publishers):
                publisher.ask(publish("many", [number, count]), timeout=30.0)
        enough = over() + 20
        service.wait_for(lambda enough=enough: over() >= enough, "some publications")
        leader = service.wait_for_leader()
        service.kill(leader)
        kills += over() < len(asked) * len(publishers)
        service.wait_for(lambda: service.leader is not None, "the next leader")
        service.start_node(leader)
    service.wait_for(lambda: over() == len(asked) * len(publishers), "all outcomes")
    added = {
        outcome.value["id"]: [number, count]
        for number, publisher in enumerate(publishers)
        for count, outcome in enumerate(publisher.outcomes)
    }
    assert len(added) == over()
    taken = {}
    for message in service.client().queue("many").consume(wait=0.0):
        assert message.deliveries == 1
        assert message.id not in taken
        taken[message.id] = message.body
    assert taken == added


def test_leases_outlast_their_leader_and_are_not_forgotten_by_the_next(service):
    """They last for a full term more: nobody could prolong them meanwhile."""
    client = service.client()
    queue = client.queue("outlasting", visibility=0.8)
    ids = [queue.publish(number) for number in range(3)]
    taken = [queue.take() for _ in ids]
    while taken[0].remaining > 0.3:
        client.kv.put("outlasting", "the log's time goes on")
    service.kill(service.wait_for_leader())
    service.wait_for_leader()
    pass_time(service, 0.4)
    other = service.client().queue("outlasting")
    assert other.take(wait=0.0) is None
    taken[0].ack()
    again = [other.take(wait=30.0) for _ in ids[1:]]
    assert [(message.id, message.deliveries) for message in again] == [(id_, 2) for id_ in ids[1:]]
    assert queue.status() == {**NOTHING, "in_flight": 2}
    for late in taken[1:]:
        with pytest.raises(LeaseLost):
            late.ack()


def test_a_consumer_that_waits_is_woken_though_its_leader_was_killed(service):
    queue, consumer = service.client().queue("patient"), opened(service)
    consumer.ask(Take("patient", 30.0, 600.0))
    service.wait_for(lambda: queue.status()["waiting"] == 1, "it to wait")
    service.kill(service.wait_for_leader())
    queue.publish("job")
    assert outcome_of(service, consumer).value["body"] == "job"


def test_a_consumer_that_goes_away_while_it_waits_is_given_nothing_more(service):
    queue, consumer = service.client().queue("left"), opened(service)
    consumer.ask(Take("left", 600.0, 600.0))
    service.wait_for(lambda: queue.status()["waiting"] == 1, "it to wait")
    consumer.gone = True
    service.wait_for(lambda: queue.status()["waiting"] == 0, "the leader to give up on it")
    queue.publish("job")
    assert queue.take(wait=0.0).body == "job"


def test_what_a_silent_member_of_a_group_had_is_done_by_the_others_and_counts_once(service):
    """It is not dead: it comes back, finds its receipts refused, and goes on with what is left."""
    silent, others = opened(service), [service.client().queue("group") for _ in range(2)]
    for number in range(6):
        others[0].publish(number)
    had = [answered(service, silent, Take("group", 0.8)).value for _ in range(3)]
    done = []
    while len(done) < 5:
        message = others[len(done) % 2].take(wait=30.0)
        message.ack()
        done.append((message.body, message.deliveries))
    assert [answered(service, silent, Ack(message["receipt"])).type for message in had] == ["fail"] * 3
    last = answered(service, silent, Take("group", 30.0)).value
    assert answered(service, silent, Ack(last["receipt"])).type == "ok"
    done.append((last["body"], last["deliveries"]))
    assert sorted(done) == [(0, 2), (1, 2), (2, 2), (3, 1), (4, 1), (5, 1)]
    assert others[0].status() == NOTHING


# --- producers ---


def test_a_producers_serial_tells_a_repeated_publication_whoever_repeats_it(service):
    first, second = (service.client().queue("produced", producer="p") for _ in range(2))
    other = service.client().queue("produced", producer="q")
    assert first.last_published() == 0
    ids = [first.publish(f"p{serial}", serial=serial) for serial in (1, 2)]
    service.kill(service.wait_for_leader())
    assert second.last_published() == 2
    assert second.publish("p2", serial=2) == ids[1]
    assert second.publish("p1", serial=1) is None
    assert other.last_published() == 0
    assert other.publish("q1", serial=1) > ids[1]
    assert second.publish("p3", serial=3) > ids[1]
    assert bodies_of(first) == ["p1", "p2", "q1", "p3"]
    assert first.publish("p3", serial=3) is not None  # though its message is done with
    assert second.status() == NOTHING


def test_what_was_refused_under_a_serial_is_published_under_it_before_the_next_one_is(service):
    queue = service.client().queue("gapless", producer="p", capacity=1)
    queue.publish("one", serial=1)
    with pytest.raises(Refused, match="full"):
        queue.publish("two", serial=2)
    assert bodies_of(queue) == ["one"]
    with pytest.raises(Refused, match="unfit: serial 3 does not follow 1"):
        queue.publish("three", serial=3)
    assert queue.last_published() == 1
    assert queue.publish("two", serial=2) is not None
    assert bodies_of(queue) == ["two"]
    assert queue.publish("three", serial=3) is not None
    assert bodies_of(queue) == ["three"]


def test_queues_and_serials_outlast_snapshots_and_a_restart_of_all_nodes(new_cluster):
    cluster = new_cluster(options={"snapshot_entries": 20, "trailing_entries": 5})
    early = cluster.client().queue("kept", producer="early")
    queue = cluster.client().queue("kept", producer="p", visibility=600.0)
    early_id = early.publish("early", serial=1)
    message = queue.take()
    bodies = []
    while min(status.extra["snapshot"] for status in cluster.status().values()) <= 20:
        bodies.append(len(bodies) + 1)
        last_id = queue.publish(bodies[-1], key="k", serial=bodies[-1])
        assert len(bodies) < 200
    before = queue.status()
    for node in cluster.nodes:
        cluster.kill(node)
    for node in cluster.nodes:
        cluster.start_node(node)
    client = cluster.client()
    again, again_early = client.queue("kept", producer="p"), client.queue("kept", producer="early")
    assert again.status() == before == {**NOTHING, "ready": len(bodies), "in_flight": 1}
    assert again_early.publish("early", serial=1) == early_id
    assert again.last_published() == len(bodies)
    assert again.publish(bodies[-1], key="k", serial=len(bodies)) == last_id
    assert again.publish(1, key="k", serial=1) is None
    message.ack()
    assert bodies_of(again) == bodies
    assert again.publish("new", serial=len(bodies) + 1) > last_id


# --- what cannot be asked for ---


def test_what_makes_no_sense_is_refused_and_changes_nothing(service):
    client = service.client()
    queue = client.queue("unfit")
    queue.publish("fine")
    for unfit in (
        client.queue("unfit", visibility=0.0).take,
        client.queue("unfit", visibility=-1.0).take,
        client.queue("unfit", visibility=nan).take,
        client.queue("unfit", visibility=1e9).take,
        client.queue("unfit", window=0).take,
        client.queue("unfit", limit=0).take,
        client.queue("").take,
        client.queue("x" * 5000).take,
        lambda: queue.take(wait=-0.1),
        lambda: queue.take(wait=1e9),
        lambda: client.queue("unfit", capacity=0).publish("x"),
        lambda: client.queue("").publish("x"),
        lambda: client.queue("").purge(),
        lambda: queue.publish("x", key=""),
        lambda: client.queue("unfit", producer="p").publish("x", serial=0),
        lambda: client.queue("unfit", producer="p").publish("x", serial=2),
        lambda: client.queue("unfit", producer="").publish("x", serial=1),
    ):
        with pytest.raises(Refused, match="unfit"):
            unfit()
    message = queue.take()
    for unfit in (lambda: message.nack(delay=-1.0), lambda: message.extend(0.0)):
        with pytest.raises(Refused, match="unfit"):
            unfit()
    message.ack()
    assert queue.status() == NOTHING


def test_a_serial_goes_with_a_producer_and_a_producer_with_serials(service):
    client = service.client()
    with pytest.raises(ValueError, match="serial"):
        client.queue("serial").publish("x", serial=1)
    with pytest.raises(ValueError, match="serial"):
        client.queue("serial", producer="p").publish("x")
    with pytest.raises(ValueError, match="producer"):
        client.queue("serial").last_published()
    with pytest.raises(TypeError):
        client.queue("serial").publish(object())
    assert client.queue("serial").status() == NOTHING


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_take_that_was_interrupted_holds_up_no_later_call_and_waits_no_more(service, monkeypatch):
    client = service.client()
    queue = client.queue("interrupted")
    with monkeypatch.context() as patched:
        patched.setattr(service.world, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(queue.consume())
    queue.publish("job")
    assert queue.status() == {**NOTHING, "ready": 1}
    assert bodies_of(queue) == ["job"]
