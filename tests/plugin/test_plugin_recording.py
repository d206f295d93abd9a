"""What the clients of the fixtures' clusters are recorded as, and what the judges make of it; all in simulation."""

from typing import ClassVar

import pytest

from chaos import Op, Workload
from chaos.custom_faults import CustomFault
from chaos.fixtures.judging import Inconclusive
from chaos.fixtures.loads import BrokenPromise
from chaos.history import is_lapse
from testbed import Cluster, Node, Refused, Unknown, UsageError
from testbed.core.services.commands import Get


def told(chaos):
    """What clients did, without stamps: (process, type, f, key, value, error)."""
    return [
        (event.process, event.type, event.f, event.key, event.value, event.error)
        for event in chaos.history
        if isinstance(event.process, int) and not is_lapse(event.process)
    ]


def completions(chaos):
    """What became of it: (type, f, key, value)."""
    return [event[1:5] for event in told(chaos) if event[1] != "invoke"]


def checked(chaos, *models):
    """What the judges say. Here, where nothing is left to chance, who cannot tell has failed."""
    try:
        return chaos.check(*models)
    except Inconclusive as error:
        raise AssertionError(f"inconclusive: {error}") from error


def test_reads_writes_and_compare_and_sets_are_recorded_by_key(simulated_cluster, chaos):
    client = simulated_cluster.client()
    client.kv.put("x", 1)
    assert client.kv.cas("x", 1, 2) is True
    assert client.kv.cas("x", 1, 3) is False
    client.kv.delete("x")
    assert simulated_cluster.client().kv.get("x") is None
    assert told(chaos) == [
        (0, "invoke", "write", "x", 1, None),
        (0, "ok", "write", "x", 1, None),
        (0, "invoke", "cas", "x", [1, 2], None),
        (0, "ok", "cas", "x", [1, 2], None),
        (0, "invoke", "cas", "x", [1, 3], None),
        (0, "fail", "cas", "x", [1, 3], "precondition-failed"),
        (0, "invoke", "write", "x", None, None),
        (0, "ok", "write", "x", None, None),
        (1, "invoke", "read", "x", None, None),
        (1, "ok", "read", "x", None, None),
    ]
    stamps = [event.time for event in chaos.history]
    assert stamps == sorted(set(stamps))  # nothing that was done in turn counts as concurrent
    assert [judged.verdict.model for judged in checked(chaos)] == ["cas-register", "crashes"]


def test_after_an_unknown_outcome_a_client_goes_on_under_another_number(simulated_cluster, chaos):
    client = simulated_cluster.client(timeout=0.5)
    client.kv.put("x", 1)
    with chaos.pause("all"), pytest.raises(Unknown):
        client.kv.put("x", 2)
    client.kv.get("x")
    processes = [event[0] for event in told(chaos)]
    assert processes == [0, 0, 0, 0, 1000, 1000]
    assert told(chaos)[3][1] == "info"
    checked(chaos)


def test_what_no_message_can_hold_did_not_happen(simulated_cluster, chaos):
    with pytest.raises(ValueError, match="exceeds"):
        simulated_cluster.client().kv.put("x", "x" * 5_000_000)
    assert [event[1] for event in told(chaos)] == ["invoke", "fail"]


def test_locks_are_recorded_by_token_and_their_leases_may_end_by_themselves(simulated_cluster, chaos):
    client, other = simulated_cluster.client(), simulated_cluster.client()
    with client.lock("l", lease=5.0) as held:
        assert other.lock("l").try_acquire() is None
    with client.lock("b", "a") as both:
        pass
    with client.lock("l", shared=True), client.semaphore("s", permits=2):
        pass
    assert completions(chaos) == [
        ("ok", "acquire", "l", held.token),
        ("fail", "acquire", "l", None),
        ("ok", "release", "l", held.token),
        ("ok", "acquire", "a and b", both.token),
        ("ok", "release", "a and b", both.token),
    ]
    lapses = [event for event in chaos.history if isinstance(event.process, int) and is_lapse(event.process)]
    assert [(event.f, event.key, event.value) for event in lapses] == [
        ("release", "l", held.token),
        ("release", "a and b", both.token),
    ]
    assert [judged.verdict.model for judged in checked(chaos)] == ["fenced-mutex", "crashes"]


def test_a_lock_that_was_lost_with_its_lease_is_no_broken_promise(simulated_cluster, chaos):
    client, other = simulated_cluster.client(), simulated_cluster.client()
    held = client.lock("l", lease=0.5).acquire()
    later = other.lock("l", wait=10.0).acquire()
    with pytest.raises(Refused, match="lease-lost"):
        held.release()
    later.release()
    checked(chaos)


def test_queues_are_recorded_by_name_and_messages_by_their_bodies(simulated_cluster, chaos):
    queue = simulated_cluster.client().queue("jobs", limit=1)
    queue.publish({"n": 1})
    queue.publish("b", key="k")
    queue.publish([1, 2])
    queue.take().ack()
    taken = queue.take()
    taken.nack()
    queue.take().ack()
    queue.dead.take().ack()
    assert completions(chaos) == [
        ("ok", "enqueue", "jobs", {"n": 1}),
        ("ok", "enqueue", "jobs", ["k", "b"]),
        ("ok", "enqueue", "jobs", {"body": [1, 2]}),
        ("ok", "take", "jobs", [{"n": 1}, 1]),
        ("ok", "dequeue", "jobs", {"n": 1}),
        ("ok", "take", "jobs", [["k", "b"], 1]),
        ("ok", "nack", "jobs", ["k", "b"]),
        ("ok", "take", "jobs", [{"body": [1, 2]}, 1]),
        ("ok", "dequeue", "jobs", {"body": [1, 2]}),
        ("ok", "take", "jobs", [["k", "b"], 1, "dead"]),
        ("ok", "dequeue", "jobs", ["k", "b"]),
    ]
    names = ["total-queue", "key-order"]
    assert [judged.verdict.model for judged in checked(chaos)] == [*names, "crashes"]
    assert [judged.verdict.verdict for judged in checked(chaos, *names)] == ["valid", "valid"]


def test_what_is_left_in_a_queue_is_lost_only_for_who_asks(simulated_cluster, chaos):
    queue = simulated_cluster.client().queue("jobs")
    queue.publish(1)
    queue.publish(2)
    queue.take().ack()
    checked(chaos)
    with pytest.raises(BrokenPromise, match="acknowledged elements were lost: 2"):
        chaos.check("total-queue")


def test_a_publication_that_was_repeated_added_nothing(simulated_cluster, chaos):
    queue = simulated_cluster.client().queue("jobs", producer="p")
    queue.publish("a", serial=1)
    queue.publish("a", serial=1)
    queue.take().ack()
    assert [(event[1], event[5]) for event in told(chaos) if event[2] == "enqueue"] == [
        ("invoke", None),
        ("ok", None),
        ("invoke", None),
        ("fail", "duplicate"),
    ]
    checked(chaos, "total-queue")


def test_a_stale_read_is_told_with_the_operations_around_it(simulated_cluster, chaos):
    client = simulated_cluster.client()
    client.kv.put("x", 1)
    client.kv.put("x", 2)
    recorder = chaos._trial.ledger.calls
    stamp = chaos._trial.ledger.stamp(simulated_cluster.world.now())
    recorder.add(stamp, 7, "invoke", "read", "x")
    recorder.add(stamp + 1, 7, "ok", "read", "x", 1)
    with pytest.raises(BrokenPromise) as broken:
        chaos.check()
    words = str(broken.value)
    assert words.startswith('invalid: cas-register, 3 operations\non key "x" no order explains read -> 1 (process 7')
    assert "minimal    write 1 ok (process 0, events 0 to 1)\n             write 2 ok" in words


def test_keys_of_a_load_and_of_the_tests_own_clients_are_judged_together(simulated_cluster, chaos):
    client = simulated_cluster.client()
    with chaos.load("kv", clients=2, rate=100) as load:
        load.wait_for(30)
    for key in sorted({event.key for event in load.history}):
        client.kv.get(key)  # of what only the load wrote
    checked(chaos)
    checked(chaos, "cas-register", "recovery", "membership", "crashes")


@pytest.mark.parametrize("kind", ["queue", "lock"])
def test_other_loads_are_judged_too(simulated_cluster, chaos, kind):
    with chaos.load(kind, clients=3, rate=100) as load, chaos.kill("one"):
        load.wait_for(30)
    names = {judged.verdict.model for judged in checked(chaos)}
    assert names >= ({"total-queue", "key-order"} if kind == "queue" else {"fenced-mutex", "cas-register"})


def test_an_assertion_of_a_workload_fails_the_test_at_the_end_of_the_load(simulated_cluster, chaos):
    class Checks(Workload):
        model = "cas-register"

        def client(self, number, random):
            outcome = yield Op("read", key="x", request=Get("x"))
            assert outcome.value == 1, "it holds nothing"

    with pytest.raises(BrokenPromise, match="it holds nothing"), chaos.load(Checks, clients=1) as load:
        simulated_cluster.wait_for(lambda: load.broken is not None, "the assertion")
    with pytest.raises(BrokenPromise, match="it holds nothing"):
        chaos.check()


def test_a_load_of_which_nothing_succeeded_shows_nothing(simulated_cluster, chaos):
    with chaos.pause("all"), chaos.load("kv"):
        simulated_cluster.world.wait(lambda: False, 1.0)
    with pytest.raises(Inconclusive, match="no operation of kv succeeded"):
        chaos.check()


class Crashing(Node):
    """Ends by itself when it is asked to."""

    def on_request(self, request, body):
        self.reply(request, body)
        if body == "crash":
            raise RuntimeError("as asked")


@pytest.mark.cluster(node=Crashing)
def test_a_crash_that_no_fault_caused_is_a_broken_promise(simulated_cluster, chaos):
    client = simulated_cluster.client()
    chaos.ask(client, Op("generate", request=1))
    simulated_cluster.kill("n1")  # asked for by the test
    checked(chaos, "unique-ids", "crashes")
    with pytest.raises(Unknown):
        client.request("crash", to="n2")
    with pytest.raises(BrokenPromise, match="n2 exited: crashed: RuntimeError: as asked"):
        chaos.check("crashes")


def test_partitions_take_names_words_and_groups(simulated_cluster, chaos):
    simulated_cluster.wait_for_leader()
    with chaos.partition(simulated_cluster.leader) as lease:
        assert len(lease.rules) == 4
    with chaos.partition(["n1"], ["n2"]) as lease:
        assert [(rule.source, rule.target) for rule in lease.rules] == [("n1", "n2"), ("n2", "n1")]
    with chaos.partition("minority", shape="one-way", mode="hold") as lease:
        assert {rule.cut for rule in lease.rules} == {"hold"}
        assert {rule.source for rule in lease.rules} == set(lease.nodes)
    with chaos.partition(shape="ring") as lease:
        assert lease.in_effect is not None


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("terminate", {}),
        ("pause", {}),
        ("delay", {"delay": "20ms", "jitter": 0.01}),
        ("loss", {"rate": 0.3}),
        ("duplicate", {"rate": 0.3}),
        ("reorder", {"rate": 0.3}),
    ],
)
def test_every_kind_is_seen_in_effect_and_healed(simulated_cluster, chaos, kind, keys):
    with getattr(chaos, kind)("followers" if kind in ("terminate", "pause") else "all", **keys):
        assert chaos.records[-1].in_effect is not None
        assert chaos.records[-1].healed is None
    with chaos.fault(kind, "n1", **keys):
        pass
    assert [record.healed is not None for record in chaos.records] == [True, True]


class Sleepless(CustomFault):
    """Pauses again and again, for the time it is told to."""

    options: ClassVar = {"beats": 2}

    def begin(self):
        for _ in range(self.options["beats"]):
            for node in self.nodes:
                self.pause(node)


def test_a_fault_of_ones_own_is_held_like_any_other(simulated_cluster, chaos):
    with chaos.fault(Sleepless, "n2", beats=1) as lease:
        assert simulated_cluster.status()["n2"].state == "paused"
    assert lease.nodes == ("n2",)
    assert simulated_cluster.status()["n2"].state == "up"
    with pytest.raises(UsageError, match="beat: unknown key"), chaos.fault(Sleepless, "n2", beat=1):
        pass
    with pytest.raises(UsageError, match=r"is no chaos\.CustomFault"):
        chaos.fault("chaos.faults:Fault", "n2")


def test_a_schedule_is_played_to_its_end(simulated_cluster, chaos, tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(
        '{"seed": 1, "duration": 10, "nodes": ["n1", "n2", "n3"], "faults": ['
        '{"kind": "kill", "target": ["n1"], "at": 0.5, "until": 1.5, "entry": 1}]}'
    )
    (record,) = chaos.schedule(path)
    assert (record.fault.kind, record.healed is not None) == ("kill", True)


def test_only_this_clusters_clients_can_be_recorded(simulated_cluster, chaos):
    with Cluster(nodes=1, world="sim") as other, pytest.raises(UsageError, match="is no client"):
        chaos.ask(other.client(), Op("generate", request=1))
