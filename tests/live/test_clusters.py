"""Clusters in one process: one after the other, side by side, in threads, in scripts; and a supervisor's death."""

import random
import signal
import threading

import pytest
from live_nodes import Obedient
from watching import alive, processes_of

from testbed import Cluster, UsageError
from testbed.live import clock
from testbed.live.procfs import marked_processes, observe

FAST = {"heartbeat": 0.05, "election_timeout": 0.4}


def test_a_cluster_can_be_started_again_after_it_was_stopped(tmp_path):
    cluster = Cluster(2, directory=tmp_path, **FAST)
    for round_ in range(3):
        with cluster:
            client = cluster.client()
            assert client.kv.get("round") == (round_ - 1 if round_ else None)
            client.kv.put("round", round_)
        with pytest.raises(UsageError, match="not running"):
            client.kv.get("round")
        with pytest.raises(UsageError, match="not running"):
            cluster.status()
    assert processes_of(tmp_path) == []


def test_two_clusters_side_by_side_do_not_meet(new_cluster):
    one, other = new_cluster(2), new_cluster(2, Obedient)
    one.client().kv.put("x", "one")
    assert other.client().request("who", to="n1")["me"] == "n1"
    third = new_cluster(2)
    assert third.client().kv.get("x") is None
    one.kill("n1")
    assert other.status()["n1"].state == third.status()["n1"].state == "up"


def test_a_temporary_directory_is_removed_with_its_cluster():
    with Cluster(1, **FAST) as cluster:
        cluster.client().kv.put("x", 1)
        directory = cluster.directory
        assert (directory / "nodes" / "n1" / "data.db").exists()
    assert not directory.exists()


def test_a_cluster_lives_and_ends_in_a_thread_and_outlives_the_thread_that_started_it(tmp_path):
    kept = []

    def whole_life():
        with Cluster(2, directory=tmp_path / "whole", **FAST) as cluster:
            cluster.client().kv.put("x", 1)
            kept.append(cluster.client().kv.get("x"))

    def start_only():
        kept.append(Cluster(2, directory=tmp_path / "kept", **FAST).start())

    for body in (whole_life, start_only):
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    result, cluster = kept
    cluster.client().kv.put("x", 2)
    cluster.stop()
    assert result == 1
    assert processes_of(tmp_path / "whole") + processes_of(tmp_path / "kept") == []


UNGUARDED = """
    import msgspec, sys
    from testbed import Cluster, Node

    class Question(msgspec.Struct):
        number: int

    class Answer(msgspec.Struct):
        number: int
        by: str

    class Doubler(Node):
        messages = (Question, Answer)

        def on_request(self, request, body):
            self.reply(request, Answer(2 * body.number, self.id))

    print("once", flush=True)
    with Cluster(3, Doubler, directory=sys.argv[1]) as cluster:
        answer = cluster.client().request(Question(21), to="n2")
        print(type(answer) is Answer, answer.number, answer.by, flush=True)
"""


def test_an_unguarded_script_may_bring_its_own_node_and_messages(tmp_path, run_script):
    output, _ = run_script(UNGUARDED, tmp_path / "cluster").communicate(timeout=60)
    assert output.split("\n") == ["once", "True 42 n2", ""]
    assert processes_of(tmp_path / "cluster") == []


SUPERVISOR = """
    import sys, time
    from testbed import Cluster

    print("begins", flush=True)
    cluster = Cluster(3, directory=sys.argv[1], heartbeat=0.05, election_timeout=0.4).start()
    print("started", flush=True)
    cluster.pause("n3")
    client = cluster.client()
    while True:
        client.kv.put("x", 1)
        cluster.restart("n2")
"""
MOMENTS = 20
AT_A_TIME = 4
GONE_S_MAX = 2.0  # from the kill of the supervisor to the death of the last process


def test_a_supervisor_killed_at_any_moment_leaves_no_process(tmp_path, run_script):
    """SV1: in two seconds all that descended from it is dead, stopped nodes too; to bury them is init's affair."""
    dice = random.Random(7)
    seen = with_stopped_nodes = 0
    for batch in range(MOMENTS // AT_A_TIME):
        running = [run_script(SUPERVISOR, tmp_path / f"{batch}-{number}") for number in range(AT_A_TIME)]
        for process in running:
            assert process.stdout.readline() == "begins\n"
            assert batch % 2 or process.stdout.readline() == "started\n"
        for process in running:
            clock.sleep(dice.uniform(0.0, 0.3))  # no wait for anything: whatever it is doing then
            descendants = of_supervisor(process.pid)
            seen = max(seen, len(descendants))
            with_stopped_nodes += any(observe(pid) == "stopped" for pid in descendants)
            killed = clock.now()
            process.send_signal(signal.SIGKILL)
            process.wait()
            while left := of_supervisor(process.pid):
                assert clock.now() - killed < GONE_S_MAX, f"processes outlive their supervisor: {left}"
    assert seen >= 4  # a fork server and three nodes
    assert with_stopped_nodes > 0


def of_supervisor(supervisor):
    return [pid for pid, marker in marked_processes() if marker.supervisor == supervisor and alive(pid)]


def test_a_supervisor_that_ends_by_an_exception_takes_its_nodes_with_it(tmp_path, run_script):
    script = """
        import sys
        from testbed import Cluster
        cluster = Cluster(2, directory=sys.argv[1]).start()
        sys.stderr = open("/dev/null", "w")
        raise SystemExit(3)
    """
    process = run_script(script, tmp_path / "cluster")
    assert process.wait(timeout=60) == 3
    give_up = clock.now() + 15
    while processes_of(tmp_path / "cluster"):
        assert clock.now() < give_up
