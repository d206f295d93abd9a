"""`testbed logs` and `testbed explain` on kept runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rundirs import RunDirectory, a_put

from chaos.cli import call


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here):
    """runs/one, which is the latest; its operation 0 is a put."""
    made = a_put(here / "runs" / "one")
    (here / "runs" / "latest").symlink_to("one")
    return made


def shown(capsys, *arguments):
    assert call(arguments) == 0
    return capsys.readouterr().out.splitlines()


def mistake(capsys, *arguments):
    assert call(arguments) == 254
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def words(line):
    return line.split()[:4]


def test_a_line_leads_with_the_time_since_the_beginning(run, capsys):
    assert words(shown(capsys, "logs", "one", "--lines", "1")[0]) == ["2.000", "n3", "INFO", "starts"]
    assert shown(capsys, "logs", "latest", "--lines", "1") == shown(capsys, "logs", "runs/one", "--lines", "1")


def test_without_a_cluster_it_is_the_latest_run(run, capsys):
    assert call(["logs", "--lines", "1"]) == 0
    out, err = capsys.readouterr()
    assert words(out)[1] == "n3"
    assert "no cluster has run in this directory: this is" in err
    assert str(run.path) in err


def test_a_name_that_is_no_run_is_a_node_of_it(run, capsys):
    assert {words(line)[1] for line in shown(capsys, "logs", "n2")} == {"n2", "experiment"}
    assert "n9: is no run, and no cluster has run in this directory" in mistake(capsys, "logs", "n9")


def test_logs_of_a_run_are_narrowed_down(run, capsys):
    run.log("n2", 1.5, "grave", level="WARNING")
    assert [words(line)[3] for line in shown(capsys, "logs", "one", "--level", "warning")] == ["grave"]
    assert words(shown(capsys, "logs", "one", "--since", "1.5s")[0])[3] == "grave"
    assert [words(line)[3] for line in shown(capsys, "logs", "one", "--since", "1.4", "--until", "1600ms")] == ["grave"]
    both = shown(capsys, "logs", "one", "--node", "n1", "--node", "n3")
    assert {words(line)[1] for line in both} == {"n1", "n3", "supervisor", "experiment"}


def test_a_message_is_shown_with_its_parts(run, capsys):
    lines = shown(capsys, "logs", "one", "--level", "trace", "--node", "n1", "--since", "1.0029s", "--until", "1.0035s")
    message = "to=n2 what=AppendEntries term=2 round=1 previous_index=6 entries=1"
    assert lines[0] == f"       1.003 n1         TRACE   sent  {message}"


def test_logs_of_an_operation_are_the_lines_about_it(run, capsys):
    run.trace("n1", 1.0021, "answered", request=16, ok=True)
    lines = shown(capsys, "logs", "one", "--operation", "0")
    assert "request=16" not in "".join(lines)
    assert [words(line)[3] for line in lines][:4] == ["asks", "received", "appended", "sent"]
    assert {words(line)[1] for line in lines} == {"clients", "n1", "n2", "n3"}
    assert sum("previous_index=6" in line for line in lines) == 4  # to n2, to n3, and what either of them heard
    only = shown(capsys, "logs", "one", "--operation", "0", "--node", "n2")
    assert {words(line)[1] for line in only} == {"n2"}


def test_logs_as_json_are_one_object(run, capsys):
    assert call(["logs", "one", "--level", "trace", "--lines", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"directory": "runs/one", "begins": 100.0, "lines": []}


def test_control_characters_do_not_reach_the_terminal(run, capsys):
    run.append("nodes/n1/log-0001.jsonl", "\x1b[2J\x07\n")
    run.log("n1", 9.0, "a\x1b[31mb\x9b")
    out = "\n".join(shown(capsys, "logs", "one"))
    assert "\x1b" not in out
    assert "\\x1b[2J\\x07" in out
    assert "a\\x1b[31mb\\x9b" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("logs", "one", "--since", "soon"), "--since: 'soon' is not a time"),
        (("logs", "one", "--node", "n9"), "n9: is no node of this cluster; there are n1, n2, n3"),
        (("logs", "one", "--operation", "99"), "99: is no event of this history"),
        (("logs", "one", "--operation", "0", "--follow"), "--follow does not go with --operation"),
        (("logs", "empty"), "empty: holds no logs of a run"),
        (("explain", "nowhere", "0"), "nowhere: there is no such run directory"),
        (("explain", "one", "99"), "99: is no event of this history"),
        (("explain", "one", "soon"), "soon: is not the index of an event"),
        (("explain", "old", "0"), "old: keeps no traces of messages"),
        (("explain", "torn", "0"), "torn: keeps no traces of messages"),
        (("explain", "damaged", "0"), "history.jsonl: line 1: is no event"),
    ],
)
def test_mistakes_are_one_line(run, here, capsys, arguments, reason):
    (here / "empty").mkdir()
    old = RunDirectory(here / "runs" / "old")
    old.event(1.0, 0, "invoke", "write", 5, "k")
    (a_put(here / "runs" / "torn").path / "clients.jsonl").unlink()
    (RunDirectory(here / "runs" / "damaged").path / "history.jsonl").write_text("torn{\n")
    assert reason in mistake(capsys, *arguments)


def test_following_a_run_ends_with_it(run):
    follower = subprocess.Popen(
        [sys.executable, "-m", "chaos.cli", "logs", str(run.path), "--follow", "--lines", "1"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        assert "starts" in follower.stdout.readline()
        run.log("n2", 3.0, "something")
        assert "something" in follower.stdout.readline()
        run.log("n1", 4.0, "last words")
        run.experiment(5.0, "ends", verdict="valid")
        assert [words(line)[3] for line in follower.stdout.read().splitlines()] == ["last", "ends"]
        assert follower.wait(30) == 0
    finally:
        follower.kill()
        follower.communicate()


def test_explain_tells_the_operation_its_way_what_is_missing_and_the_end(run, capsys):
    lines = shown(capsys, "explain", "latest", "0")
    assert lines[:4] == [
        'write 5 on key "k": ok',
        "process 0, events 0 to 1 of history.jsonl; 1.000 s after the run began",
        "at the time n3 was down from 0.800 s to 2.000 s",
        "",
    ]
    assert lines[4] == '     0.000 ms  client 0  begins: write 5 on key "k"'
    assert "     2.000 ms  n1        appends it at index 7, term 2" in lines
    assert "  n3 had the entry only 1.099 s after n1: it was down from 0.800 s to 2.000 s" in lines
    assert " ".join(lines).endswith("The client was told after 10 ms: ok.")


def test_explain_as_json_is_one_object(run, capsys):
    assert call(["explain", "latest", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"operation", "requests", "appended", "steps", "gaps", "standing", "conclusion"} <= found.keys()
    assert found["operation"]["asked"] == 'write 5 on key "k"'
