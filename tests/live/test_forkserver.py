"""The fork server with real processes: spawning, signalling, exits, and that nothing is left or leaks."""

import os
import signal
import weakref
from pathlib import Path

import pytest
from forkserver_entries import Idle, dead, read, wait_for

from testbed.live.exits import decode
from testbed.live.nodeclass import describe
from testbed.live.processes import Exited, Failed, ForkServer, Ready, Spawned
from testbed.live.procfs import children_of, observe, resources

ENTRY = "forkserver_entries:play"
BACKLOG = weakref.WeakKeyDictionary()


@pytest.fixture
def server(tmp_path):
    with ForkServer(ENTRY, describe(Idle), tmp_path, [str(Path(__file__).parent)]) as server:
        assert collect(server, 1) == [Ready()]
        yield server


def collect(server, count):
    """The next `count` events; what came with them is kept for the next call."""
    events = BACKLOG.setdefault(server, [])
    wait_for(lambda: len(events) >= count or events.extend(server.wait_events(0.1)), f"{count} events")
    taken = events[:count]
    del events[:count]
    return taken


def spawn(server, node="n1", **config):
    server.spawn(node, config)
    (spawned,) = collect(server, 1)
    assert isinstance(spawned, Spawned)
    assert spawned.node == node
    return spawned.pid


def exit_of(server):
    (exited,) = collect(server, 1)
    assert isinstance(exited, Exited)
    return exited


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_node_is_a_clean_process_of_its_own(server, tmp_path):
    spawn(server, "n0")  # whose descriptors n1 must not get
    pid = spawn(server, "n1", report=str(tmp_path / "report"))
    report = read(tmp_path / "report")
    assert (report["pid"], report["session"], report["class"]) == (pid, pid, "Idle")
    assert (report["sigterm_default"], report["sigint_default"], report["blocked"]) == (True, True, 0)
    assert report["stdin"] == "/dev/null"
    assert report["modules"] == []
    assert not any("socket" in target for target in report["fds"].values())
    lifeline_and_last_words = [target for fd, target in report["fds"].items() if int(fd) > 2 and "pipe" in target]
    assert len(lifeline_and_last_words) == 2
    assert Path(f"/proc/{pid}/comm").read_text() == "testbed:n1\n"


def test_a_node_has_few_pages_of_its_own(server):
    used = resources(spawn(server))
    assert used is not None
    assert 0 < used.memory < 8 * 2**20


def test_a_config_larger_than_the_sockets_buffers_arrives(server, tmp_path):
    spawn(server, report=str(tmp_path / "report"), ballast="x" * 2**21)
    assert read(tmp_path / "report")["class"] == "Idle"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"part": "return"}, "exited with code 0"),
        ({"part": "exit", "code": 3}, "exited with code 3"),
        ({"part": "exit", "code": "enough"}, "exited with code 1: enough"),
        ({"part": "raise"}, "crashed: ValueError: two lines"),
        ({"part": "corrupt"}, "corrupt storage: n1/state.db: file is not a database"),
        ({"part": "usage"}, "usage error: scenario.toml: cluster.options.speed: must be positive"),
        ({"part": "address_in_use"}, "address in use: [Errno 98] Address already in use"),
        ({"part": "devour"}, "out of memory (MemoryError)"),
        ({"part": "segfault"}, "killed by signal SIGSEGV"),
        ({"part": "kill_self"}, "killed by signal SIGKILL"),
        (
            {"output": "/nonexistent/out"},
            "crashed: FileNotFoundError: [Errno 2] No such file or directory: '/nonexistent/out'",
        ),
    ],
)
def test_every_way_to_end_is_reported_with_its_reason(server, tmp_path, config, reason):
    """SV9."""
    pid = spawn(server, **{"output": str(tmp_path / "out"), **config})
    exited = exit_of(server)
    assert (exited.node, exited.pid) == ("n1", pid)
    assert decode(exited.status, None, exited.oom, exited.last_words) == reason
    assert 0.0 <= exited.elapsed < 60.0
    assert observe(pid) == "gone"


def test_output_and_traceback_are_appended_to_the_output_file(server, tmp_path):
    out = tmp_path / "out"
    out.write_text("before\n")
    for part in ("return", "raise"):
        spawn(server, part=part, output=str(out))
        exit_of(server)
    text = out.read_text()
    assert text.startswith("before\nfarewell\nTraceback")
    assert "ValueError: two\nlines" in text


def test_a_stopped_node_takes_no_term_until_it_is_continued(server):
    """SV3."""
    pid = spawn(server)
    server.signal("n1", signal.SIGSTOP)
    wait_for(lambda: observe(pid) == "stopped", "the node to be stopped")
    server.signal("n1", signal.SIGTERM)
    assert server.wait_events(0.3) == []
    server.signal("n1", signal.SIGCONT)
    assert decode(exit_of(server).status, "stop") == "stopped as asked"


def test_a_stopped_node_is_killed_at_once(server):
    """SV3."""
    pid = spawn(server)
    server.signal("n1", signal.SIGSTOP)
    wait_for(lambda: observe(pid) == "stopped", "the node to be stopped")
    server.signal("n1", signal.SIGKILL)
    assert decode(exit_of(server).status, "kill") == "killed by fault"


def test_a_node_that_ignores_term_is_killed(server, tmp_path):
    spawn(server, part="ignore_term", started=str(tmp_path / "started"))
    read(tmp_path / "started")
    server.signal("n1", signal.SIGTERM)
    assert server.wait_events(0.3) == []
    server.signal("n1", signal.SIGKILL)
    assert exit_of(server).status == signal.SIGKILL


def test_a_node_stopped_while_it_starts_takes_nobody_with_it(server):
    """SV10; a signal to a fork that still shares the fork server's wakeup pipe would end the fork server."""
    spawn(server, "bystander")
    for round_ in range(100):
        node = f"n{round_}"
        server.spawn(node, {})
        server.signal(node, signal.SIGTERM)
        spawned, exited = collect(server, 2)
        assert (spawned.node, exited.node, exited.status) == (node, node, signal.SIGTERM)
    assert server.alive


def test_a_signal_to_a_node_that_is_gone_reaches_nobody(server):
    """SV7."""
    spawn(server, "n1", part="return")
    exit_of(server)
    other = spawn(server, "n2")
    server.signal("n1", signal.SIGKILL)
    server.signal("never", signal.SIGKILL)
    spawn(server, "n3")  # the fork server is past those signals now
    assert observe(other) == "running"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_node_started_in_its_group_dies_with_it(server, tmp_path, end):
    """SV4."""
    spawn(server, part="with_grandchildren", started=str(tmp_path / "started"))
    in_group, _ = read(tmp_path / "started")
    assert observe(in_group) == "running"
    server.signal("n1", end)
    exit_of(server)
    wait_for(lambda: observe(in_group) == "gone", "the grandchild to be killed and reaped")


def test_close_kills_everything_even_what_left_the_nodes_group(server, tmp_path):
    """SV4."""
    pids = [spawn(server, f"n{number}") for number in range(3)]
    spawn(server, "n9", part="with_grandchildren", started=str(tmp_path / "started"))
    server.signal("n1", signal.SIGSTOP)
    pids += [*read(tmp_path / "started"), server.pid]
    server.close()
    assert [observe(pid) for pid in pids] == ["gone"] * 6
    assert not server.alive
    ends = server.events()
    assert sorted(event.node for event in ends) == ["n0", "n1", "n2", "n9"]
    assert all(event.status == signal.SIGKILL for event in ends)
    server.close()
    assert server.events() == []


def test_a_killed_fork_server_takes_nodes_and_grandchildren_with_it(server, tmp_path):
    """SV4."""
    pids = [spawn(server, "n0")]
    pids.append(spawn(server, "n1", part="with_grandchildren", started=str(tmp_path / "started")))
    pids += read(tmp_path / "started")
    os.kill(server.pid, signal.SIGKILL)
    events = collect(server, 3)
    assert [(event.node, event.last_words) for event in events[:2]] == [
        ("n0", "its fork server ended"),
        ("n1", "its fork server ended"),
    ]
    assert events[2] == Failed("the fork server ended: killed by signal SIGKILL")
    assert not server.alive
    wait_for(lambda: all(dead(pid) for pid in pids), "all to be dead")


def test_a_thousand_spawns_and_kills_leave_no_zombie_and_no_descriptor(server):
    """SV5, SV12."""
    spawn(server, "warm")
    server.signal("warm", signal.SIGKILL)
    exit_of(server)
    before = open_files(server.pid), open_files(os.getpid())
    seen = set()
    for batch in range(40):
        nodes = [f"n{batch * 25 + number}" for number in range(25)]
        for node in nodes:
            server.spawn(node, {})
            server.signal(node, signal.SIGKILL)
        ended = [event for event in collect(server, 50) if isinstance(event, Exited)]
        assert sorted(event.node for event in ended) == sorted(nodes)
        seen.update(event.node for event in ended)
    assert len(seen) == 1000
    assert children_of(server.pid) == []
    assert (open_files(server.pid), open_files(os.getpid())) == before


def test_opening_and_closing_servers_leaks_no_descriptor_and_no_child(tmp_path):
    """SV12."""

    def once():
        with ForkServer(ENTRY, describe(Idle), tmp_path) as server:
            collect(server, 1)
            spawn(server)

    once()
    files, children = open_files(os.getpid()), children_of(os.getpid())
    for _ in range(5):
        once()
    assert (open_files(os.getpid()), children_of(os.getpid())) == (files, children)


def test_commands_given_before_it_is_ready_are_obeyed(tmp_path):
    with ForkServer(ENTRY, describe(Idle), tmp_path) as server:
        server.spawn("n1", {})
        server.signal("n1", signal.SIGKILL)
        ready, spawned, exited = collect(server, 3)
        assert (ready, spawned.node, exited.status) == (Ready(), "n1", signal.SIGKILL)


def test_a_server_closed_while_it_loads_is_gone(tmp_path):
    server = ForkServer(ENTRY, describe(Idle), tmp_path)
    server.close()
    assert observe(server.pid) == "gone"


def test_an_entry_that_does_not_exist_is_reported_with_its_traceback(tmp_path):
    with ForkServer("no_such_module:run", describe(Idle), tmp_path) as server:
        (failed,) = collect(server, 1)
        assert failed.reason == "ModuleNotFoundError: No module named 'no_such_module'"
        assert "Traceback" in failed.traceback
        assert not failed.usage
