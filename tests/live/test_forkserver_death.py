"""SV1: a supervisor that is killed, however and whenever, leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forkserver_entries import dead, read, wait_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SUPERVISOR = """
import os, signal, sys, time
from forkserver_entries import Idle, read, wait_for, write
from testbed.live.nodeclass import describe
from testbed.live.processes import ForkServer, Spawned
from testbed.live.procfs import observe

out = sys.argv[1]
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been inherited as ignored
server = ForkServer("forkserver_entries:play", describe(Idle), out)
pids = [server.pid]

def spawn(node, **config):
    server.spawn(node, config)
    while True:
        for event in server.wait_events(1):
            if isinstance(event, Spawned):
                pids.append(event.pid)
                return event.pid
"""

READY = """
write(out + "/pids", pids)
time.sleep(1000)
"""

ALL_KINDS = """
spawn("running")
stopped = spawn("stopped")
server.signal("stopped", signal.SIGSTOP)
wait_for(lambda: observe(stopped) == "stopped", "stopped")
spawn("parent", part="with_grandchildren", started=out + "/grandchildren")
pids += read(out + "/grandchildren")
both = spawn("stopped-parent", part="with_grandchildren", started=out + "/more")
pids += read(out + "/more")
server.signal("stopped-parent", signal.SIGSTOP)
wait_for(lambda: observe(both) == "stopped", "stopped")
spawn("deaf", part="ignore_term", started=out + "/deaf")
read(out + "/deaf")
"""

FORKED_COPY = """
spawn("n1")
copy = os.fork()
if copy == 0:
    server.close()
    time.sleep(1000)
write(out + "/copy", copy)
"""

STOPPED_FORK_SERVER = """
spawn("n1", part="tell_lifeline", started=out + "/lifeline")
read(out + "/lifeline")
os.kill(server.pid, signal.SIGSTOP)
wait_for(lambda: observe(server.pid) == "stopped", "stopped")
"""


@pytest.fixture
def supervisor(tmp_path):
    started = []

    def start(script):
        out = tmp_path / str(len(started))
        out.mkdir()
        (out / "supervisor.py").write_text(SUPERVISOR + script + READY)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
        process = subprocess.Popen([sys.executable, out / "supervisor.py", out], env=environment)
        started.append(process)
        return process, read(out / "pids"), out

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("round_", range(4))
def test_a_killed_supervisor_leaves_no_running_stopped_or_grandchild_process(supervisor, round_):
    process, pids, _ = supervisor(ALL_KINDS)
    assert len(pids) == 10
    assert not any(dead(pid) for pid in pids)
    process.kill()
    wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead", deadline=10)


def test_a_supervisor_that_ends_by_an_exception_leaves_nothing(supervisor):
    process, pids, _ = supervisor(ALL_KINDS)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead", deadline=10)


def test_a_supervisor_killed_while_its_fork_server_loads_leaves_nothing(supervisor):
    process, pids, _ = supervisor("")
    process.kill()
    wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead", deadline=10)


def test_a_forked_copy_of_the_supervisor_neither_ends_the_cluster_nor_keeps_it_alive(supervisor):
    process, pids, out = supervisor(FORKED_COPY)
    copy = read(out / "copy")
    try:
        assert not any(dead(pid) for pid in pids)
        process.kill()
        wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead", deadline=10)
        assert not dead(copy)
    finally:
        os.kill(copy, signal.SIGKILL)


def test_a_supervisor_killed_while_its_fork_server_is_stopped_leaves_nothing(supervisor):
    process, pids, _ = supervisor(STOPPED_FORK_SERVER)
    process.kill()
    wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead", deadline=10)


def test_only_the_supervisor_holds_the_lifeline_so_its_death_cuts_it_whoever_else_lives(supervisor):
    process, pids, out = supervisor(STOPPED_FORK_SERVER)
    lifeline = read(out / "lifeline")
    holders = [pid for pid in (process.pid, *pids) if "writes" in ends_of(pid, lifeline)]
    watchers = [pid for pid in (process.pid, *pids) if "reads" in ends_of(pid, lifeline)]
    assert holders == [process.pid]
    assert watchers == pids


def ends_of(pid, pipe):
    """Which ends of the pipe the process has open (proc(5): `flags` in fdinfo is octal)."""
    ends = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(fd) == pipe:
            flags = int(Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().split("flags:")[1].split()[0], 8)
            ends.add("writes" if flags & os.O_ACCMODE == os.O_WRONLY else "reads")
    return ends
