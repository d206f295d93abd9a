"""Cleaning up after supervisors that could not: and never touching a cluster whose supervisor lives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forkserver_entries import dead, read, wait_for

from testbed.live.cleanup import Leftover, find_leftovers, reap
from testbed.live.procfs import Marker, kill_exactly, marked_processes, observe, process_start_time

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SUPERVISOR = """
import os, signal, sys, time
from forkserver_entries import Idle, read, write
from testbed.live.nodeclass import describe
from testbed.live.processes import ForkServer

out = sys.argv[1]
server = ForkServer("forkserver_entries:play", describe(Idle), out + "/a:b c")
server.spawn("n1", {"report": out + "/report"})
server.spawn("n2", {"part": "with_grandchildren", "started": out + "/grandchildren"})
pids = [server.pid, read(out + "/report")["pid"], *read(out + "/grandchildren")]
write(out + "/pids", pids)
time.sleep(1000)
"""


@pytest.fixture
def cluster(tmp_path):
    """A supervisor's process, its fork server's pid and those of three of its descendants."""
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
    process = subprocess.Popen([sys.executable, tmp_path / "supervisor.py", tmp_path], env=environment)
    pids = read(tmp_path / "pids")
    started = [process_start_time(pid) for pid in pids]
    yield process, pids
    process.kill()
    process.wait()
    for pid, when in zip(pids, started, strict=True):
        kill_exactly(pid, when)


def leftovers_of(supervisor):
    return [leftover for leftover in find_leftovers() if leftover.supervisor == supervisor.pid]


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: observe(pid) == "stopped", f"{pid} to be stopped")


def test_a_cluster_whose_supervisor_lives_has_no_leftovers(cluster):
    supervisor, pids = cluster
    assert {pid for pid, marker in marked_processes() if marker.supervisor == supervisor.pid} >= set(pids)
    assert leftovers_of(supervisor) == []


def test_a_cluster_whose_supervisor_is_stopped_has_no_leftovers(cluster):
    supervisor, _ = cluster
    stop(supervisor.pid)
    assert leftovers_of(supervisor) == []


def test_orphans_of_a_dead_fork_server_and_a_dead_supervisor_are_found_and_reaped(cluster, tmp_path):
    supervisor, pids = cluster
    stop(supervisor.pid)  # or it would kill them itself
    os.kill(pids[0], signal.SIGKILL)
    supervisor.kill()
    supervisor.wait()
    wait_for(  # both nodes follow their fork server, each in its own time; what they started does not
        lambda: {leftover.pid for leftover in leftovers_of(supervisor)} == set(pids[2:]), "the nodes to be gone"
    )
    found = leftovers_of(supervisor)
    assert {leftover.directory for leftover in found} == {f"{tmp_path}/a:b c"}
    assert reap(found) == []
    assert all(dead(pid) for pid in pids)
    assert leftovers_of(supervisor) == []


def test_a_process_that_got_the_pid_of_a_leftover_is_not_touched():
    """SV7."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as stranger:
        try:
            started = process_start_time(stranger.pid)
            assert reap([Leftover(stranger.pid, started - 1, "n1", 1, "/")]) == []
            assert not kill_exactly(stranger.pid, started - 1)
            assert not kill_exactly(stranger.pid, None)
            assert stranger.poll() is None
            assert kill_exactly(stranger.pid, started)
            assert stranger.wait(30) == -signal.SIGKILL
        finally:
            stranger.kill()
    assert not kill_exactly(stranger.pid, started)


def test_a_supervisors_pid_that_somebody_else_has_by_now_does_not_protect(monkeypatch):
    """SV7."""
    reused = Marker(os.getpid(), process_start_time(os.getpid()) - 1, "00", "/d")
    mine = Marker(os.getpid(), process_start_time(os.getpid()), "00", "/d")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as orphan:
        try:
            for marker, expected in ((reused, [orphan.pid]), (mine, [])):
                monkeypatch.setattr(
                    "testbed.live.cleanup.marked_processes", lambda marker=marker: [(orphan.pid, marker)]
                )
                assert [leftover.pid for leftover in find_leftovers()] == expected
        finally:
            orphan.kill()


def test_a_process_is_observed_in_each_of_its_states():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        assert observe(process.pid) == "running"
        stop(process.pid)
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: observe(process.pid) == "running", "it to go on")
        process.kill()
        wait_for(lambda: observe(process.pid) == "zombie", "its end")
    finally:
        process.kill()
        process.wait()
    assert observe(process.pid) == "gone"
    assert process_start_time(process.pid) is None
