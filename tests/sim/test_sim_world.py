"""The simulated world as a whole, where it differs from the live one: virtual time, one seed, a disk that forgets."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from testbed import Cluster, Node, Refused, Unknown
from testbed.base.links import LinkRule

ROOT = Path(__file__).parents[2]


class Diary(Node):
    """Saves every request under its number; counts its starts."""

    def on_start(self):
        self.save("starts", self.load("starts", 0) + 1)

    def on_request(self, request, body):
        if body == "read":
            self.reply(request, [value for _, value in self.items("page/")])
        else:
            self.save(f"page/{body:04}", body)
            self.reply(request, "saved")

    def on_status(self):
        return {"starts": self.load("starts"), "now": self.now}


def simulated(**options):
    return Cluster(**{"nodes": 3, "world": "sim", "seed": 7} | options)


def eventful_digest(seed):
    with simulated(nodes=5, seed=seed) as cluster:
        client = cluster.client()
        for number in range(10):
            client.kv.put("x", number)
        leader = cluster.wait_for_leader()
        cluster.world.set_links([LinkRule(leader, "n1", loss=0.3), LinkRule("n2", "n3", delay=0.05, jitter=0.1)])
        cluster.kill(leader)
        client.kv.put("x", "after")
        cluster.start_node(leader)
        cluster.pause(cluster.wait_for_leader())
        client.kv.put("x", "at last")
        cluster.world.wait(lambda: False, 5.0)
        return cluster.world.digest


def test_the_same_seed_gives_the_same_events_and_another_seed_others():
    digests = [eventful_digest(seed) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_other_processes_and_other_hash_seeds_give_the_same_events():
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_sim_world as t; print(t.eventful_digest(3))"
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    digests = [
        subprocess.run(
            command, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "4242")
    ]
    assert digests == [f"{eventful_digest(3)}\n"] * 3


def test_time_passes_only_in_calls_and_an_hour_of_it_takes_no_hour():
    with simulated(node=Diary, heartbeat=1.0, election_timeout=10.0) as cluster:
        before = cluster.world.now()
        assert cluster.world.now() == before
        cluster.world.wait(lambda: False, 3600.0)
        assert cluster.world.now() == before + 3600.0


def test_a_condition_is_looked_at_again_when_it_may_have_changed():
    with simulated() as cluster:
        asked = cluster.world.now()
        cluster.world.kill("n2")
        assert cluster.world.wait(lambda: cluster.world.status()["n2"].state == "down", 10.0)
        assert cluster.world.now() - asked <= 0.2


def test_kills_strike_in_the_middle_of_syncs_and_what_was_not_acknowledged_may_be_lost():
    """A SIGKILL never loses the page cache; a power cut does."""
    kept, lost = 0, 0
    for seed in range(30):
        with simulated(nodes=1, node=Diary, seed=seed) as cluster:
            client = cluster.client(timeout=0.2)
            acknowledged = []
            cluster.world.kill("n1")
            for number in range(5):
                try:
                    client.request(number)
                    acknowledged.append(number)
                except (Refused, Unknown):
                    break
            cluster.wait_for(lambda cluster=cluster: cluster.world.status()["n1"].state == "down")
            cluster.start_node("n1")
            pages = client.request("read", timeout=5.0)
            assert pages[: len(acknowledged)] == acknowledged
            kept += len(pages) > len(acknowledged)
            lost += len(pages) == len(acknowledged)
    assert kept
    assert lost


def test_clocks_of_nodes_differ_and_run_at_different_speeds():
    with simulated(node=Diary) as cluster:
        first = {node: status.extra["now"] for node, status in cluster.status().items()}
        cluster.world.wait(lambda: False, 1000.0)
        second = {node: status.extra["now"] for node, status in cluster.status().items()}
        passed = {round(second[node] - first[node], 6) for node in cluster.nodes}
        assert len(passed) == 3
        assert all(998.0 < seconds < 1002.0 for seconds in passed)


class Chatty(Node):
    """Sets a timer of no length for ever."""

    def on_start(self):
        self.set_timer("again", after=0)

    def on_timer(self, name):
        self.set_timer("again", after=0)


def test_a_node_that_sets_timers_of_no_length_does_not_stop_time():
    with simulated(nodes=1, node=Chatty) as cluster:
        before = cluster.world.now()
        cluster.world.wait(lambda: False, 0.05)
        assert cluster.world.now() == before + 0.05


def test_memory_does_not_grow_with_simulated_time():
    """The log is compacted and forgotten, events are digested, dead processes vanish."""
    with simulated(options={"snapshot_entries": 50, "trailing_entries": 10}) as cluster:
        client = cluster.client()

        def live_on():
            for _ in range(5):
                for number in range(60):
                    client.kv.put(f"k{number % 7}", number)
                node = cluster.wait_for_leader()
                cluster.kill(node)
                client.kv.put("x", "with two")
                cluster.start_node(node)
                cluster.world.wait(lambda: False, 20.0)

        live_on()
        tracemalloc.start()
        try:
            live_on()
            first, _ = tracemalloc.get_traced_memory()
            live_on()
            live_on()
            second, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert second < first + 200_000


def test_logs_of_nodes_are_written_with_virtual_times(tmp_path):
    with simulated(directory=tmp_path) as cluster:
        cluster.wait_for_leader()
    lines = "".join(path.read_text() for path in tmp_path.glob("nodes/*/log-0001.jsonl"))
    assert '"text":"elected"' in lines
    assert len(list(tmp_path.glob("nodes/*"))) == 3


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with simulated() as cluster:
        cluster.wait_for_leader()
        assert cluster.directory is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("act", ["pause", "resume", "kill", "terminate"])
def test_what_is_done_to_a_node_that_is_down_does_nothing(act):
    with simulated() as cluster:
        cluster.kill("n2")
        exits = len(cluster.world.exits())
        getattr(cluster.world, act)("n2")
        cluster.world.wait(lambda: False, 5.0)
        assert cluster.world.status()["n2"].state == "down"
        assert len(cluster.world.exits()) == exits


class Moody(Node):
    """Its status raises, and its hooks raise what is no Exception."""

    def on_status(self):
        if self.load("asked"):
            raise ValueError("do not ask me")
        return [1, 2]

    def on_request(self, request, body):
        if body == "exit":
            raise GeneratorExit
        self.save("asked", True)
        self.reply(request, "never ask again")


def test_a_node_that_raises_when_asked_for_its_status_crashes_and_not_the_laboratory():
    with simulated(nodes=1, node=Moody) as cluster:
        cluster.client().request("be moody")
        assert cluster.status()["n1"].state == "down"
        assert cluster.world.exits()[-1].reason == "crashed: ValueError: do not ask me"


def test_whatever_a_hook_raises_is_a_crash_of_its_node():
    with simulated(nodes=1, node=Moody) as cluster:
        with pytest.raises(Unknown):
            cluster.client().request("exit")
        assert cluster.world.exits()[-1].reason == "crashed: GeneratorExit"


def test_what_a_node_shows_is_no_part_of_it():
    with simulated(nodes=1, node=Moody) as cluster:
        cluster.status()["n1"].extra.append(99)
        assert cluster.status()["n1"].extra == [1, 2]


def test_a_node_that_is_paused_while_it_stops_goes_on_stopping_once_it_is_resumed():
    with simulated() as cluster:
        leader = cluster.wait_for_leader()
        cluster.world.set_links([LinkRule(leader, peer, "drop") for peer in cluster.nodes if peer != leader])
        cluster.world.wait(lambda: False, 0.1)
        asked = cluster.world.now()
        cluster.world.terminate(leader)
        cluster.world.wait(lambda: False, 0.05)
        cluster.pause(leader)
        cluster.world.wait(lambda: False, 0.1)
        cluster.world.resume(leader)
        cluster.wait_for(lambda: cluster.world.status()[leader].state == "down")
        assert cluster.world.now() - asked < 2.0


class Publisher(Node):
    """Publishes more than a paused peer has room for; tells which connections it saw close."""

    def on_start(self):
        self.closed = []
        self.set_timer("publish", after=0.01)

    def on_timer(self, name):
        for number in range(self.options.get("burst", 0)):
            self.publish(number)
        self.set_timer("publish", after=0.01)

    def on_closed(self, peer):
        self.closed.append(peer)

    def on_status(self):
        return self.closed


def test_a_full_inbox_loses_messages_and_no_closed_connection():
    with simulated(node=Publisher, options={"burst": 200}) as cluster:
        cluster.pause("n1")
        cluster.world.wait(lambda: False, 1.0)
        cluster.kill("n3")
        cluster.world.wait(lambda: False, 0.1)
        cluster.resume("n1")
        cluster.wait_for(lambda: cluster.status()["n1"].extra == ["n3"])
        assert cluster.status()["n1"].counters["overflowed"] > 0


class Saver(Publisher):
    """Saves now and then."""

    def on_timer(self, name):
        self.save("at", self.now)
        self.set_timer("again", after=0.05)


def test_what_link_rules_show_in_the_middle_of_a_sync_is_told_at_its_end():
    with simulated(node=Saver) as cluster:
        agenda, process = cluster.world._agenda, cluster.world._members["n1"].process
        cluster.world.wait(lambda: False, 0.5)
        while not process._syncing:
            agenda.run(until=agenda.next)
        process.obey((LinkRule("n1", "n2", "reset"),), 1)
        assert process.host.node.closed == []
        while process._syncing:
            agenda.run(until=agenda.next)
        assert process.host.node.closed == ["n2"]
