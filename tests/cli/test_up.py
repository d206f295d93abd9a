"""A cluster in the foreground and the commands beside it, as processes."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys

import pytest
from terminals import environment, mistake

SMALL = """
name = "small"
duration = "1s"
[cluster]
nodes = 3
"""


@pytest.fixture
def small(terminal):
    """A scenario of three nodes beside the terminal."""
    (terminal.directory / "small.toml").write_text(SMALL)
    return "small.toml"


def test_five_nodes_come_up_with_a_leader_and_go_down_with_nothing_left(terminal):
    up = terminal.ready()
    status = terminal.json("status")
    assert set(status) == {"nodes", "leader", "links"}
    assert [node["id"] for node in status["nodes"]] == ["n1", "n2", "n3", "n4", "n5"]
    for node in status["nodes"]:
        assert {"id", "pid", "state", "role", "term", "incarnation"} <= set(node)
        assert (node["state"], node["incarnation"]) == ("up", 1)
        assert node["pid"] in terminal.processes()
    assert status["links"] == []
    assert terminal.ok("down").returncode == 0
    assert up.poll() is not None or up.wait(5) is not None
    assert up.returncode == 0
    assert terminal.processes() == []
    assert not (terminal.place / "cluster.json").exists()


def test_status_for_people_fits_into_80_columns(terminal, small):
    terminal.ready(small)
    terminal.ok("partition", "n1")
    lines = terminal.ok("status").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:4]] == ["n1", "n2", "n3"]


def test_a_killed_leader_is_down_until_it_is_restarted_and_status_does_not_fail_meanwhile(terminal, small):
    terminal.ready(small)
    leader = terminal.json("status")["leader"]
    told = terminal.json("kill", "leader")
    assert (told["command"], told["nodes"]) == ("kill", [leader])
    killed = terminal.nodes()[leader]  # `nodes` asserts that status exits with 0
    assert (killed["state"], killed["pid"], killed["role"]) == ("down", None, None)
    terminal.until(lambda: terminal.json("status")["leader"] not in (None, leader), "another leader")
    assert terminal.nodes()[leader]["state"] == "down"
    terminal.ok("restart", leader)
    back = terminal.nodes()[leader]
    assert (back["state"], back["incarnation"]) == ("up", 2)


def test_killing_what_is_down_does_nothing_and_says_so(terminal, small):
    terminal.ready(small)
    terminal.ok("kill", "n2")
    assert terminal.json("kill", "n2")["nodes"] == []
    assert "down already" in terminal.ok("kill", "n2").stdout


def test_paused_nodes_are_seen_stopped_and_resumed_all_at_once(terminal, small):
    terminal.ready(small)
    assert terminal.json("pause", "n1,n3")["nodes"] == ["n1", "n3"]
    states = {name: node["state"] for name, node in terminal.nodes().items()}
    assert states == {"n1": "paused", "n2": "up", "n3": "paused"}
    assert terminal.json("resume", "all")["nodes"] == ["n1", "n3"]
    assert all(node["state"] == "up" for node in terminal.nodes().values())


def test_words_name_nodes_and_the_same_number_of_them_each_time(terminal, small):
    terminal.ready(small)
    assert len(terminal.json("pause", "minority")["nodes"]) == 1
    terminal.ok("resume", "all")
    leader = terminal.json("status")["leader"]
    assert terminal.json("restart", "followers")["nodes"] == [name for name in ("n1", "n2", "n3") if name != leader]
    assert len(terminal.json("kill", "majority")["nodes"]) == 2
    assert len(terminal.json("kill", "one")["nodes"]) == 1  # one that is up
    assert all(node["state"] == "down" for node in terminal.nodes().values())
    assert "no node is up" in mistake(terminal.run("pause", "one"))
    assert terminal.json("restart", "all")["nodes"] == ["n1", "n2", "n3"]


def test_a_partition_cuts_both_ways_between_the_groups_until_it_is_healed(terminal):
    terminal.ready()
    terminal.ok("partition", "n1,n2", "n3,n4,n5", "--mode", "hold")
    cut = {(link["source"], link["target"], link["cut"]) for link in terminal.json("status")["links"]}
    sides = [(a, b) for a in ("n1", "n2") for b in ("n3", "n4", "n5")]
    assert cut == {(a, b, "hold") for a, b in sides} | {(b, a, "hold") for a, b in sides}
    terminal.until(lambda: terminal.json("status")["leader"] in ("n3", "n4", "n5"), "a leader of the majority")
    assert terminal.json("heal")["links"] == 12
    assert terminal.json("status")["links"] == []


def test_one_group_is_cut_off_from_all_the_others(terminal, small):
    terminal.ready(small)
    assert terminal.json("partition", "n2")["groups"] == [["n2"], ["n1", "n3"]]
    pairs = {(link["source"], link["target"]) for link in terminal.json("status")["links"]}
    assert pairs == {("n2", "n1"), ("n2", "n3"), ("n1", "n2"), ("n3", "n2")}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("kill", "n9"), "n9: is no node of this cluster; there are n1, n2, n3"),
        (("pause", "n1,"), "is no node"),
        (("restart", "leder"), "leder: is no node"),
        (("resume", "leader"), "takes node ids, or all"),
        (("partition", "n1", "n1,n2"), "groups must be two or more, apart"),
        (("partition", "n1,n2,n3"), "all nodes against nobody"),
        (("partition", "n1", "--mode", "melt"), "melt"),
        (("logs", "n9"), "n9: is no node"),
        (("up",), "a cluster runs in this directory already"),
    ],
)
def test_mistakes_beside_a_running_cluster_are_one_line_and_harm_nothing(shared, arguments, reason):
    assert reason in mistake(shared.run(*arguments))
    assert all(node["state"] == "up" for node in shared.nodes().values())
    assert shared.json("status")["links"] == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cluster of three nodes that no test changes."""
    from terminals import Terminal

    terminal = Terminal(tmp_path_factory.mktemp("shared").resolve())
    terminal.ready("--nodes", "3")
    yield terminal
    terminal.close()


def test_a_second_up_names_the_pid_of_the_first(terminal, small):
    first = terminal.ready(small)
    assert str(first.pid) in mistake(terminal.run("up", small))


def test_a_paused_node_that_is_down_cannot_be_paused(terminal, small):
    terminal.ready(small)
    terminal.ok("kill", "n1")
    assert "n1: is down" in mistake(terminal.run("pause", "n1"))
    assert terminal.json("pause", "all")["nodes"] == ["n2", "n3"]  # a word means whom it can mean


def test_what_nodes_keep_survives_from_one_up_to_the_next(terminal, small):
    terminal.ready(small)
    term = max(node["term"] for node in terminal.nodes().values())
    terminal.ok("down")
    terminal.ready(small)
    nodes = terminal.nodes()
    assert {node["incarnation"] for node in nodes.values()} == {2}
    assert max(node["term"] for node in nodes.values()) > term


def test_another_number_of_nodes_is_refused_where_the_data_of_a_cluster_is_kept(terminal, small):
    terminal.ready(small)
    terminal.ok("down")
    assert "keeps the data of 3 nodes, not 5" in mistake(terminal.run("up"))


def test_a_corrupt_database_at_the_start_is_named_on_one_line_and_nothing_is_left_running(terminal, small):
    terminal.ready(small)
    terminal.ok("down")
    corrupt(terminal, "n2")
    line = mistake_of_up(terminal, small)
    assert "nodes/n2/data.db" in line
    assert "not a database" in line
    assert terminal.processes() == []
    assert "no cluster runs" in mistake(terminal.run("status"))


def test_a_corrupt_database_at_a_restart_keeps_that_node_down_and_the_others_as_they_were(terminal, small):
    terminal.ready(small)
    before = terminal.nodes()
    terminal.ok("kill", "n2")
    corrupt(terminal, "n2")
    line = mistake(terminal.run("restart", "n2"))
    assert "corrupt storage" in line
    assert "nodes/n2/data.db" in line
    status = terminal.run("status", "--json")
    assert status.returncode == 2  # nobody wished n2 to be down
    after = {node["id"]: node for node in json.loads(status.stdout)["nodes"]}
    assert (after["n1"]["pid"], after["n3"]["pid"]) == (before["n1"]["pid"], before["n3"]["pid"])
    assert after["n2"]["state"] == "down"
    assert "data.db" in after["n2"]["note"]


def corrupt(terminal, node):
    directory = terminal.place / "nodes" / node
    for path in directory.glob("data.db-*"):
        path.unlink()
    (directory / "data.db").write_bytes(b"this is no database, whatever it was before" * 100)
    with pytest.raises(sqlite3.DatabaseError), sqlite3.connect(directory / "data.db") as database:
        database.execute("select * from kept")


def mistake_of_up(terminal, *arguments):
    """`up` says on stdout what it does before it fails."""
    done = terminal.run("up", *arguments)
    assert done.returncode == 254, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_node_that_crashes_by_itself_is_restarted_on_failure_unless_the_scenario_says_never(terminal, small):
    terminal.ready(small)
    os.kill(terminal.nodes()["n1"]["pid"], signal.SIGSEGV)
    terminal.until(
        lambda: json.loads(terminal.run("status", "--json").stdout)["nodes"][0]["incarnation"] == 2, "n1's return"
    )
    terminal.ok("down")
    (terminal.directory / small).write_text(SMALL + 'restart = "never"\n')
    terminal.ready(small)
    os.kill(terminal.nodes()["n1"]["pid"], signal.SIGSEGV)
    terminal.until(lambda: terminal.run("status").returncode == 2, "status to call it not ready")
    status = terminal.run("status", "--json")
    assert "SIGSEGV" in json.loads(status.stdout)["nodes"][0]["note"]
    assert "n1 is down" in status.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_signals_end_it_in_good_order(terminal, small, signum, code):
    up = terminal.ready(small)
    terminal.ok("pause", "n1")  # a stopped process gets no TERM
    up.send_signal(signum)
    assert up.wait(30) == code
    assert terminal.processes() == []
    assert not (terminal.place / "cluster.json").exists()
    assert "Traceback" not in (terminal.directory / "up.err").read_text()


def test_ctrl_c_while_it_starts_leaves_nothing(terminal):
    up = terminal.up()
    terminal.until(lambda: terminal.processes() != [], "the first process")
    up.send_signal(signal.SIGINT)
    assert up.wait(30) == 130
    assert terminal.processes() == []
    assert "Traceback" not in (terminal.directory / "up.err").read_text()


def test_the_nodes_of_a_supervisor_that_was_killed_are_gone_and_another_up_works(terminal, small):
    up = terminal.ready(small)
    terminal.ok("pause", "n2")
    up.kill()
    up.wait()
    assert terminal.until(lambda: terminal.processes() == [], "the end of all nodes") < 10  # 2 s on a quiet machine
    assert f"pid {up.pid}) is gone" in mistake(terminal.run("status"))
    told = terminal.json("cleanup", "--here")
    assert (told["ended"], told["left"]) == ([], [])
    assert str(terminal.place / "cluster.json") in told["removed"]
    assert "no cluster runs" in mistake(terminal.run("status"))
    terminal.ready(small)


def test_cleanup_touches_no_living_cluster(terminal, small):
    terminal.ready(small)
    before = terminal.processes()
    assert terminal.json("cleanup", "--here") == {"ended": [], "left": [], "removed": []}
    assert terminal.processes() == before
    assert terminal.nodes()["n1"]["state"] == "up"


def test_not_even_a_stopped_fork_server_outlives_its_supervisor(terminal, small):
    """SV1: the parent-death signal wakes it, and it ends itself and all below it."""
    up = terminal.ready(small)
    os.kill(min(terminal.processes()), signal.SIGSTOP)
    up.kill()
    up.wait()
    terminal.until(lambda: terminal.processes() == [], "no process of the cluster left")
    assert terminal.json("cleanup", "--here")["ended"] == []


def test_a_supervisor_that_hangs_does_not_hang_its_companions_and_does_not_obey_them_later(terminal, small):
    up = terminal.ready(small)
    os.kill(up.pid, signal.SIGSTOP)
    for command in (["status"], ["kill", "n1"], ["down"]):
        assert "does not answer" in mistake(terminal.run(*command))
    os.kill(up.pid, signal.SIGCONT)
    assert all(node["state"] == "up" for node in terminal.nodes().values())
    assert up.poll() is None


def test_up_with_json_says_one_object_on_stdout(terminal, small):
    up = terminal.ready(small, "--json")
    terminal.ok("kill", "n1")
    terminal.ok("down")
    assert up.wait(30) == 0
    told = json.loads((terminal.directory / "up.out").read_text())
    assert {"node": "n1", "reason": "killed by fault", "expected": True} in told["exits"]
    assert "n1 ended" in (terminal.directory / "up.err").read_text()


def test_up_prints_a_line_for_each_change(terminal, small):
    terminal.ready(small)
    terminal.ok("kill", "n1")
    terminal.ok("partition", "n2")
    terminal.ok("heal")
    terminal.ok("down")
    lines = (terminal.directory / "up.out").read_text().splitlines()
    for expected in ("n1 up (pid", "leads in term", "n1 ended (pid", "4 links cut", "all links healed", "are stopped"):
        assert sum(expected in line for line in lines) == 1 or expected == "leads in term", (expected, lines)
    assert any("leads in term" in line for line in lines)


def test_up_on_a_terminal_shows_a_table_and_ends_with_ctrl_c(terminal, small):
    ours, theirs = pty.openpty()
    up = subprocess.Popen(
        [sys.executable, "-m", "chaos.cli", "up", small],
        cwd=terminal.directory,
        env={**environment(), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    try:
        while b"leads in term" not in seen or b"leader:" not in seen:
            seen += os.read(ours, 65536)
        up.send_signal(signal.SIGINT)
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:  # EIO: the other side is closed
            pass
        assert up.wait(30) == 130
    finally:
        up.kill()
        up.wait()
        os.close(ours)
    assert b"n1" in seen
    assert b"Traceback" not in seen


def test_logs_are_merged_by_time_and_readable_after_the_end(terminal, small):
    terminal.ready(small)
    terminal.ok("kill", "leader")
    terminal.until(lambda: terminal.json("status")["leader"] is not None, "a leader")
    entries = terminal.json("logs", "--lines", "1000")["lines"]
    assert [entry["time"] for entry in entries] == sorted(entry["time"] for entry in entries)
    assert {entry["node"] for entry in entries if "text" in entry} == {"n1", "n2", "n3"}
    assert any(entry.get("what") == "exit" for entry in entries)
    terminal.ok("down")
    assert len(terminal.ok("logs", "--lines", "5").stdout.splitlines()) == 5
    about = terminal.json("logs", "n2", "--lines", "1000")["lines"]
    assert {entry.get("node", "n2") for entry in about} == {"n2"}


def test_following_logs_shows_what_comes_and_ends_with_the_cluster(terminal, small):
    terminal.ready(small)
    follower = subprocess.Popen(
        [sys.executable, "-m", "chaos.cli", "logs", "n2", "--lines", "1", "--follow"],
        cwd=terminal.directory,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline()  # it follows from here on
        terminal.ok("restart", "n2")
        while "listens" not in (line := follower.stdout.readline()):
            assert line, "it ended before it showed the restart"
        terminal.ok("down")
        assert follower.wait(30) == 0
    finally:
        follower.kill()
        follower.communicate()
