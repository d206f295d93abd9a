"""Failure detection among real processes: who is told what, and what must not mislead it."""

import os
import signal

import psutil
import pytest
from watching import log_lines, settled

from testbed import Unknown
from testbed.live import clock
from testbed.live.procfs import observe


def changes(client, node, about):
    """What the node's `on_membership` was told about a peer, in order."""
    return [state for peer, state in client.request("what", to=node)["changes"] if peer == about]


def verdicts(cluster, about):
    """Everything that any node's detector logged about that peer."""
    return [
        (node, line["new"], line["reason"])
        for node in cluster.nodes
        for line in log_lines(cluster, node)
        if line["text"] == "membership" and line.get("peer") == about
    ]


def test_a_killed_node_is_held_failed_by_all_others_and_their_hooks_and_the_supervisor_are_told(obedient):
    client = obedient.client()
    obedient.kill("n3")
    settled(obedient)
    for node in ("n1", "n2"):
        assert changes(client, node, "n3")[-2:] == ["suspect", "failed"]
    log = (obedient.directory / "supervisor.jsonl").read_text()
    assert log.count('"peer":"n3","state":"failed"') == 2
    obedient.start_node("n3")
    settled(obedient)
    for node in ("n1", "n2"):
        assert changes(client, node, "n3")[-1] == "alive"


def test_a_node_that_was_stopped_convicts_nobody_when_it_wakes_and_refutes_its_own_conviction(obedient):
    """FD1."""
    client = obedient.client()
    before = obedient.status()["n3"].incarnation
    obedient.pause("n3")
    obedient.wait_for(
        lambda: all(obedient.status(fresh=False)[node].views["n3"] == "failed" for node in ("n1", "n2")),
        "n3 held failed",
    )
    assert observe(obedient.status()["n3"].pid) == "stopped"  # no connection closed: silence alone convicted it
    obedient.resume("n3")
    settled(obedient)
    obedient.wait_for(lambda: obedient.status()["n3"].incarnation > before, "a higher incarnation")
    assert "failed" not in changes(client, "n3", "n1") + changes(client, "n3", "n2")


def test_pauses_around_the_timeout_convict_no_healthy_node(obedient):
    """FD1."""
    for heartbeats in (1, 3, 6, 12, 25):
        obedient.pause("n3")
        begun = clock.now()
        obedient.wait_for(lambda begun=begun, n=heartbeats: clock.now() - begun > n * 0.05, "the pause to pass")
        obedient.resume("n3")
    settled(obedient)
    assert not [verdict for about in ("n1", "n2") for verdict in verdicts(obedient, about) if verdict[1] == "failed"]


def test_an_observer_that_is_stopped_every_now_and_then_convicts_nobody(obedient):
    """FD4."""
    for _ in range(6):
        obedient.pause("n1")
        begun = clock.now()
        obedient.wait_for(lambda begun=begun: clock.now() - begun > 0.2, "a fifth of a second")
        obedient.resume("n1")
        begun = clock.now()
        obedient.wait_for(lambda begun=begun: clock.now() - begun > 0.2, "a fifth of a second")
    settled(obedient)
    assert not [verdict for about in ("n2", "n3") for verdict in verdicts(obedient, about) if verdict[1] == "failed"]


def test_a_restart_that_no_timeout_shows_is_noticed(obedient):
    """FD6."""
    client = obedient.client()
    before = obedient.status()["n3"].incarnation
    told = {node: len(changes(client, node, "n3")) for node in ("n1", "n2")}
    obedient.restart("n3")
    for node in ("n1", "n2"):
        obedient.wait_for(lambda node=node: len(changes(client, node, "n3")) > told[node], f"{node} to be told")
    settled(obedient)
    for node in ("n1", "n2"):
        assert changes(client, node, "n3")[-1] == "alive"
    assert obedient.status()["n3"].incarnation > before
    assert any(reason == "restarted" for _, _, reason in verdicts(obedient, "n3"))


def test_megabytes_between_nodes_do_not_hold_up_their_heartbeats(new_cluster):
    """FD9."""
    cluster = new_cluster(node="live_nodes:Obedient", heartbeat=0.1)
    settled(cluster)
    client = cluster.client(timeout=20)
    for _ in range(6):
        for node, peer in (("n1", "n2"), ("n2", "n1"), ("n3", "n1")):
            client.request({"bulk": peer, "count": 6, "size": 2**20}, to=node)
    for node in cluster.nodes:
        convicted = [line for line in log_lines(cluster, node) if line.get("new") == "failed"]
        assert convicted == []
    settled(cluster)


def test_a_node_whose_loop_is_blocked_is_held_failed_though_its_process_lives(obedient):
    """FD10."""
    client = obedient.client()
    with pytest.raises(Unknown):
        client.request({"block": 300}, to="n3", timeout=0.3)
    obedient.wait_for(
        lambda: all(obedient.status(fresh=False)[node].views["n3"] == "failed" for node in ("n1", "n2")),
        "n3 held failed",
    )
    status = obedient.status()["n3"]
    assert status.state == "up"
    assert observe(status.pid) == "running"
    obedient.kill("n3")


def test_a_node_whose_hook_holds_the_gil_is_held_failed_though_its_connections_stand(obedient):
    """FD10: ZeroMQ's I/O thread needs no GIL and goes on answering."""
    client = obedient.client()
    before = obedient.status()["n3"]
    with pytest.raises(Unknown):
        client.request({"hold_gil": 4.0}, to="n3", timeout=0.3)
    obedient.wait_for(
        lambda: all(obedient.status(fresh=False)[node].views["n3"] == "failed" for node in ("n1", "n2")),
        "n3 held failed",
    )
    assert observe(before.pid) == "running"
    assert "connection closed" not in {reason for _, _, reason in verdicts(obedient, "n3")}
    settled(obedient)
    after = obedient.status()["n3"]
    assert after.pid == before.pid
    assert after.incarnation > before.incarnation  # it refuted its conviction


def test_a_stopped_node_whose_kernel_accepts_a_connection_is_not_taken_for_alive(obedient):
    """FD2."""
    client = obedient.client()
    port = obedient.world._members["n3"].ports.peers
    obedient.pause("n3")
    obedient.restart("n1")

    def peer_is_connected():
        found = psutil.Process(obedient.status(fresh=False)["n1"].pid).net_connections("tcp")
        return any(one.raddr and one.raddr.port == port and one.status == "ESTABLISHED" for one in found)

    obedient.wait_for(peer_is_connected, "n3's kernel to accept n1's connection")
    obedient.wait_for(lambda: obedient.status(fresh=False)["n1"].views.get("n3") == "failed", "n1 to hold n3 failed")
    begun = clock.now()
    obedient.wait_for(lambda: clock.now() - begun > 1.0, "twenty heartbeats")
    assert obedient.status()["n1"].views["n3"] == "failed"
    assert changes(client, "n1", "n3") == ["suspect", "failed"]
    assert "n3" not in client.request("connected", to="n1")
    obedient.resume("n3")
    settled(obedient)
    obedient.wait_for(lambda: "n3" in client.request("connected", to="n1"), "n1 to be told of a connection that stands")


def test_all_live_nodes_agree_on_who_failed_also_when_two_fail_at_once(new_cluster):
    cluster = new_cluster(5, "live_nodes:Obedient", heartbeat=0.1)
    settled(cluster)
    for node in ("n2", "n4"):
        cluster.world.kill(node)
    cluster.wait_for(lambda: all(cluster.status()[node].state == "down" for node in ("n2", "n4")), "both down")
    settled(cluster)
    views = {tuple(sorted(cluster.status()[node].views.items())) for node in ("n1", "n3", "n5")}
    assert {dict(view)["n2"] for view in views} == {dict(view)["n4"] for view in views} == {"failed"}


def test_all_but_one_restarted_at_once_are_seen_alive_again(obedient):
    """FD5."""
    for node in ("n2", "n3"):
        obedient.world.kill(node)
    obedient.wait_for(lambda: all(obedient.status()[node].state == "down" for node in ("n2", "n3")), "both down")
    for node in ("n2", "n3"):
        obedient.start_node(node)
    settled(obedient)


SUPERVISOR = """
import sys
from testbed import Cluster

cluster = Cluster(3, "live_nodes:Obedient", heartbeat=0.05, election_timeout=0.4, directory=sys.argv[1])
cluster.start()
print(*(cluster.status()[node].pid for node in cluster.nodes), flush=True)
sys.stdin.readline()
cluster.wait_for(lambda: cluster.status()["n1"].views.get("n3") == "failed", "n1 to report")
print("seen", flush=True)
sys.stdin.readline()
cluster.stop()
"""


def test_nodes_find_a_failed_peer_while_their_supervisor_is_stopped(tmp_path, run_script):
    process = run_script(SUPERVISOR, tmp_path / "cluster")
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.send_signal(signal.SIGSTOP)
    os.kill(pids[2], signal.SIGKILL)
    paths = [tmp_path / "cluster" / "nodes" / node / "log-0001.jsonl" for node in ("n1", "n2")]
    give_up = clock.now() + 30
    while not all('"peer":"n3"' in path.read_text() and '"new":"failed"' in path.read_text() for path in paths):
        assert clock.now() < give_up, "the nodes did not notice"
        clock.sleep(0.02)
    process.send_signal(signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline().strip() == "seen"
    process.communicate("\n", timeout=30)
    assert process.returncode == 0
