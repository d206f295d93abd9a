"""The supervisor: starts, restarts and stops real processes, says why they ended, and leaves none behind."""

import os
import signal
import socket
import threading
from itertools import pairwise

import pytest
from live_nodes import Unstoppable
from watching import alive, processes_of, settled

from testbed import Cluster, Refused, Unknown, UsageError
from testbed.live import clock
from testbed.live.processes import ForkServer
from testbed.live.sockets import LOOPBACK


def crash(cluster, node):
    """Have the node's hook raise; returns the pid of the process that ended by it."""
    pid = cluster.status()[node].pid
    with pytest.raises((Unknown, Refused)):
        cluster.client().request({"crash": "asked to"}, to=node, timeout=2)
    cluster.wait_for(lambda: any(exit.pid == pid for exit in cluster.world.exits()), "the exit to be seen")
    return pid


def test_a_crashed_node_is_restarted_on_failure_and_remembers(new_cluster):
    cluster = new_cluster(2, "live_nodes:Obedient", restart="on-failure")
    cluster.client().request({"save": ["key", 7]}, to="n1")
    crashed = crash(cluster, "n1")
    cluster.wait_for(lambda: cluster.status()["n1"].pid not in (None, crashed), "a new process")
    cluster.wait_for(lambda: cluster.status()["n1"].state == "up", "n1 up")
    assert cluster.client().request({"load": "key"}, to="n1") == 7
    settled(cluster)


def test_a_node_that_crashes_again_and_again_is_restarted_with_pauses_then_given_up(new_cluster):
    """SV2."""
    cluster = new_cluster(2, "live_nodes:Obedient", restart="on-failure")
    client = cluster.client()

    def given_up():
        status = cluster.status(fresh=False)["n1"]
        if status.state == "up":
            try:
                client.request({"crash": "again"}, to="n1", timeout=1)
            except (Refused, Unknown):
                pass
        return "gives up" in (status.note or "")

    cluster.wait_for(given_up, "the supervisor to give up")
    note = cluster.status()["n1"].note
    assert note.startswith("crashed: RuntimeError: again; gives up: ended again after 5 restarts")
    assert cluster.status()["n1"].state == "down"
    ends = [exit.at for exit in cluster.world.exits() if exit.node == "n1"]
    assert len(ends) == 6
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(ends))
    cluster.start_node("n1")  # by command it starts all the same
    assert cluster.status()["n2"].state == "up"


def test_a_crashed_node_stays_down_if_restarts_are_never_made(new_cluster):
    cluster = new_cluster(2, "live_nodes:Obedient", restart="never")
    crash(cluster, "n1")
    settled(cluster)
    assert cluster.status()["n1"].state == "down"
    assert cluster.status()["n1"].note == "crashed: RuntimeError: asked to"


def test_a_node_killed_or_stopped_on_command_is_not_restarted_and_counts_as_no_crash(new_cluster):
    """SV6."""
    cluster = new_cluster(2, "live_nodes:Obedient", restart="always")
    for _ in range(7):
        cluster.kill("n1")
        cluster.start_node("n1")
    cluster.terminate("n1")
    settled(cluster)
    assert cluster.status()["n1"].state == "down"
    assert {exit.expected for exit in cluster.world.exits()} == {True}
    assert {exit.reason for exit in cluster.world.exits()} == {"killed by fault", "stopped as asked"}


def test_a_signal_from_outside_is_no_fault_and_is_named(obedient):
    """SV9."""
    os.kill(obedient.status()["n1"].pid, signal.SIGSEGV)
    obedient.wait_for(lambda: obedient.status()["n1"].state == "down", "n1 down")
    exit = obedient.world.exits()[-1]
    assert exit.expected is False
    assert exit.reason.startswith("killed by signal SIGSEGV")


def test_stopped_and_unstoppable_nodes_are_gone_after_stop(tmp_path):
    """SV3."""
    cluster = Cluster(3, Unstoppable, directory=tmp_path, heartbeat=0.05, election_timeout=0.4).start()
    pids = [status.pid for status in cluster.status().values()]
    cluster.pause("n1")
    begun = clock.now()
    cluster.stop()
    assert clock.now() - begun < 20
    assert not any(alive(pid) for pid in pids)
    assert processes_of(tmp_path) == []


def test_a_stopped_node_can_be_killed_terminated_and_started_again(service):
    """SV3."""
    for end in (service.kill, service.terminate):
        service.pause("n2")
        end("n2")
        service.start_node("n2")
    service.client().kv.put("x", 1)


def test_a_node_ended_while_it_starts_is_down_and_starts_again(service):
    """SV10."""
    for end in (service.world.kill, service.world.terminate, service.world.kill, service.world.terminate):
        service.kill("n2")
        service.world.start("n2")
        end("n2")
        service.wait_for(lambda: service.status()["n2"].state == "down", "n2 down")
    assert {exit.expected for exit in service.world.exits()} == {True}
    service.start_node("n2")
    settled(service)


def test_start_right_after_kill_starts_a_new_process(service):
    before = service.status()["n2"].pid
    service.world.kill("n2")
    service.world.start("n2")
    service.wait_for(lambda: service.status()["n2"].pid not in (None, before), "a new process")
    service.wait_for(lambda: service.status()["n2"].state == "up", "n2 up")


def held_port(port):
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((LOOPBACK, port))
    holder.listen()
    return holder


def test_a_node_waits_for_a_port_that_somebody_else_holds_for_a_moment(service):
    """SV8."""
    port = service.world._members["n2"].ports.peers
    service.kill("n2")
    with held_port(port):
        service.world.start("n2")
        service.wait_for(lambda: service.status()["n2"].pid is not None, "n2 to have a process")
        pid = service.status()["n2"].pid
        assert service.status()["n2"].state == "starting"
    service.wait_for(lambda: service.status()["n2"].state == "up", "n2 up")
    assert service.status()["n2"].pid == pid
    assert service.world._members["n2"].ports.peers == port


def test_a_port_that_stays_taken_is_named_as_the_reason(service):
    """SV8."""
    port = service.world._members["n2"].ports.clients
    service.kill("n2")
    with held_port(port), pytest.raises(UsageError, match=f"address in use: .*{port}"):
        service.start_node("n2")
    assert service.status()["n2"].state == "down"
    service.start_node("n2")
    service.client().kv.put("x", 1)


def test_faults_on_nodes_that_are_not_there_or_down_are_the_callers_mistake(service):
    with pytest.raises(UsageError, match="n7"):
        service.kill("n7")
    service.kill("n1")
    with pytest.raises(UsageError, match="is down"):
        service.pause("n1")


def test_a_node_stopped_while_it_is_asked_for_its_status_over_and_over_obeys_link_rules_on_waking(service):
    service.pause("n2")
    for _ in range(300):
        service.status(fresh=True)
    service.partition(["n2"])
    service.resume("n2")
    version = service.world._links_version
    service.wait_for(lambda: service.status()["n2"].links_version == version, "n2 to obey")
    service.heal()


def within(seconds, call):
    """What the call raised, or None; fails if it takes longer."""
    raised = []

    def run():
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it hangs after {seconds} s"
    return raised[0] if raised else None


def test_stop_returns_though_the_fork_server_died_while_a_start_was_pending(tmp_path):
    cluster = Cluster(2, directory=tmp_path, heartbeat=0.1, election_timeout=1.0).start()
    fork_server = cluster.world._fork_server.pid
    os.kill(fork_server, signal.SIGSTOP)
    cluster.world.kill("n1")
    cluster.world.start("n1")
    begun = clock.now()
    while clock.now() - begun < 0.5:  # the orders have reached the stopped fork server's socket
        clock.sleep(0.05)
    os.kill(fork_server, signal.SIGKILL)
    within(15, cluster.stop)
    assert processes_of(tmp_path) == []


def test_start_raises_though_the_fork_server_died_while_it_was_to_start_nodes(tmp_path, monkeypatch):
    spawn = ForkServer.spawn

    def dying(self, node, config):
        if node == "n1":
            os.kill(self.pid, signal.SIGSTOP)
        spawn(self, node, config)
        if node == "n2":
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(ForkServer, "spawn", dying)
    assert within(15, Cluster(2, directory=tmp_path).start) is not None
    assert processes_of(tmp_path) == []


def test_two_clusters_cannot_run_in_one_directory(service):
    """SV11."""
    with pytest.raises(UsageError, match="another cluster runs in this directory"):
        Cluster(3, directory=service.directory).start()
    service.client().kv.put("still", "serving")


def test_thirty_restarts_leak_no_descriptor_and_leave_no_zombie(obedient):
    """SV5, SV12."""

    def open_files():
        return len(os.listdir("/proc/self/fd"))

    obedient.restart("n1")
    before = open_files()
    for _ in range(30):
        obedient.restart("n1")
    assert open_files() < before + 10  # a connection may just be being made; thirty leaks would be thirty
    assert len(obedient.world.exits()) == 31
    assert len(processes_of(obedient.directory)) == 4
