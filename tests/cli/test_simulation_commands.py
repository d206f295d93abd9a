"""The commands that simulate: `run --world sim`, `sim`, `replay`, `shrink`, `bugs`, each with its exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from terminals import PATIENCE_S, environment, mistake

from chaos.cli import call

PAUSING = """
name = "pausing"
duration = "4s"
[cluster]
nodes = 3
heartbeat = "50ms"
election_timeout = "250ms"
[[workload]]
kind = "kv"
clients = 2
rate = 20
[[fault]]
kind = "pause"
target = ["n2"]
at = "500ms"
for = "1500ms"
"""
PLANTED = ("--world", "sim", "--seed", "1", "--plant", "no-refutation")  # a paused node stays convicted

MINE = """
import os
import random
import time
from pathlib import Path

from chaos import Op, Workload
from mine_too import ANSWER
from testbed import Node

class Answering(Node):
    def on_request(self, request, body):
        self.reply(request, ANSWER)

class Asking(Workload):
    def client(self, number, random):
        while True:
            yield Op("ask", request="a question")

class Doubting(Asking):
    def client(self, number, random):
        outcome = yield Op("ask", request="a question")
        assert outcome.value != ANSWER, "I doubt that"

class Raising(Asking):
    def client(self, number, random):
        yield Op("ask", request="a question")
        raise KeyError("my own mistake")

class Diced(Answering):
    def on_request(self, request, body):
        self.reply(request, random.random())

class Silent(Node):
    def on_request(self, request, body):
        pass

class Hanging(Node):
    def on_start(self):
        Path(f"hangs {os.getpid()}").touch()
        while True:
            time.sleep(1)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory to call commands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pausing(place):
    (place / "pausing.toml").write_text(PAUSING)
    return "pausing.toml"


def mine(place, node="Answering", load="Asking"):
    """A user's own modules, and a scenario beside them; its path."""
    (place / "mine.py").write_text(MINE)
    (place / "mine_too.py").write_text("ANSWER = 42\n")
    (place / "mine.toml").write_text(
        f'duration = "2s"\n[cluster]\nnodes = 2\nnode = "mine:{node}"\n'
        f'[[workload]]\nkind = "mine:{load}"\nclients = 1\nrate = 10\n'
    )
    return "mine.toml"


def told(capsys):
    """What a command called with `--json` said: one JSON object on stdout."""
    return json.loads(capsys.readouterr().out)


def newest(place):
    return place / "runs" / (place / "runs" / "latest").readlink()


def failing_check(summary):
    return next(check["name"] for check in summary["checks"] if check["verdict"] == "invalid")


# --- run ---


def test_a_simulated_run_has_the_summary_of_any_run_and_files_of_its_own(place, capsys):
    assert call(["run", pausing(place), "--world", "sim", "--seed", "7", "--json"]) == 0
    summary = told(capsys)
    directory = newest(place)
    expected = {"scenario": "pausing", "world": "sim", "seed": 7, "verdict": "valid", "duration_s": 4.0}
    assert {key: summary[key] for key in expected} == expected
    assert (place / summary["run_dir"]).samefile(directory)
    assert summary["replay"] == f"testbed replay {summary['run_dir']}"
    assert summary["operations"]["ok"] > 0
    assert set(summary["operations"]) == {"ok", "fail", "info"}
    assert summary["faults"] == [{"kind": "pause", "asked": 1, "applied": 1, "healed": 1, "skipped": 0}]
    assert all(set(check) == {"name", "workload", "verdict", "detail"} for check in summary["checks"])
    assert {"raft-invariants", "cas-register", "availability", "recovery", "membership", "crashes", "coverage"} <= {
        check["name"] for check in summary["checks"]
    }
    assert set(summary["recovery_s"]["pause"]) == {"p50", "max"}
    assert summary == json.loads((directory / "summary.json").read_text())
    assert "plant" not in summary


def test_the_same_seed_in_two_processes_gives_the_same_bytes(terminal):
    pausing(terminal.directory)
    runs = [terminal.json("run", "pausing.toml", "--world", "sim", "--seed", "7") for _ in range(2)]
    assert runs[0]["digest"] == runs[1]["digest"]
    directories = [terminal.directory / run["run_dir"] for run in runs]
    assert directories[0] != directories[1]
    for name in ("history.jsonl", "schedule.json"):
        one, other = [(directory / name).read_bytes() for directory in directories]
        assert one == other != b""
    other = terminal.json("run", "pausing.toml", "--world", "sim", "--seed", "8")
    assert other["digest"] != runs[0]["digest"]


def test_a_run_that_fails_ends_in_what_went_wrong_its_seed_the_smallest_schedule_and_the_command_for_more(
    place, capsys
):
    assert call(["run", pausing(place), *PLANTED]) == 1
    lines = capsys.readouterr().out.splitlines()
    run = f"runs/{newest(place).name}"
    assert lines[0].startswith("INVALID  pausing, seed 1, 4.0 s:")
    ends = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.startswith("  ")}
    assert ends["wrong"].startswith("membership-invariants: ")
    assert ends["seed"] == "1"
    assert ends["minimal"].startswith(f"{run}/minimal.toml (")
    assert ends["at"].endswith("ms")  # the one fault that it needs
    assert sum(line.lstrip().startswith("at ") for line in lines) == 1
    assert ends["again"] == f"testbed replay {run}"


def test_a_run_that_fails_says_the_same_in_json_and_its_small_scenario_fails_in_the_same_way(place, capsys):
    assert call(["run", pausing(place), *PLANTED, "--json"]) == 1
    summary = told(capsys)
    assert (summary["verdict"], summary["plant"], summary["is_minimal"]) == ("invalid", "no-refutation", True)
    assert len(summary["schedule"]) == 1
    assert "pause n2 for" in summary["schedule"][0]
    assert summary["tries"] > 1
    assert "clients -> 1" in summary["shrunk"]
    small = summary["minimal"]
    text = Path(small).read_text()
    assert f"#   testbed run {small} --world sim --plant no-refutation\n" in text
    assert "# Needs beside it" not in text
    assert call(["run", small, "--world", "sim", "--plant", "no-refutation", "--json"]) == 1
    again = told(capsys)
    assert failing_check(again) == failing_check(summary)
    assert again["shrunk"] == "nothing could be taken away"
    assert call(["run", small, "--world", "sim"]) in (0, 2)  # it is the bug that fails; too little is left to be valid


def test_a_users_node_of_its_own_file_runs_in_both_commands_as_it_is(place, capsys):
    scenario = mine(place)
    assert call(["run", scenario, "--world", "sim", "--json"]) == 0
    assert told(capsys)["operations"]["ok"] > 10
    assert call(["sim", scenario, "--seeds", "2", "--jobs", "1", "--json"]) == 0
    result = told(capsys)
    assert (result["seeds"], result["invalid"], result["determinism"]) == (2, 0, {"checked": 1, "diverged": []})
    assert result["valid"] > 0


# --- sim ---


def test_a_campaign_tells_its_tally_as_one_object_and_its_progress_elsewhere(place, capsys):
    assert call(["sim", pausing(place), "--seeds", "3", "--first", "5", "--as-written", "--jobs", "2", "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["scenario"], result["first"], result["seeds"]) == ("pausing.toml", 5, 3)
    assert (result["valid"], result["invalid"], result["unknown"]) == (3, 0, 0)
    assert (result["failures"], result["first_failure"]) == ([], None)
    assert result["determinism"] == {"checked": 1, "diverged": []}
    assert result["faults"] == {"pause": 3}
    assert result["sometimes"]["leader elected"] >= 3
    assert "snapshot installed" in result["never"]
    assert "leader elected" not in result["never"]
    assert "3 of 3 seeds" in said.err.splitlines()[-1]
    assert not (place / "runs").exists()


def test_a_campaign_stops_at_the_first_seed_that_fails_and_keeps_and_shrinks_it(place, capsys):
    command = ["sim", pausing(place), "--seeds", "50", "--as-written", "--jobs", "1", "--plant", "no-refutation"]
    assert call([*command, "--first", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "INVALID  pausing.toml: 1 seeds, 0 valid, 1 invalid, 0 unknown"
    assert any(line.startswith("  never reached, so nothing was tested there: ") for line in lines)
    assert any(line.startswith("  seed 1 failed: membership-invariants: ") for line in lines)
    assert f"  again   testbed replay runs/{newest(place).name}" == lines[-1]
    assert (newest(place) / "minimal.toml").exists()


def test_a_campaign_that_is_to_keep_going_tells_all_that_failed_and_keeps_the_first(place, capsys):
    command = ["sim", pausing(place), "--seeds", "3", "--as-written", "--jobs", "2", "--plant", "no-refutation"]
    assert call([*command, "--keep-going", "--no-shrink", "--json"]) == 1
    result = told(capsys)
    assert (result["seeds"], result["invalid"]) == (3, 3)
    assert [failure["seed"] for failure in result["failures"]] == [0, 1, 2]
    assert all(failure["failure"].startswith("membership-invariants: ") for failure in result["failures"])
    first = result["first_failure"]
    assert (first["seed"], first["verdict"], first["plant"]) == (0, "invalid", "no-refutation")
    assert "minimal" not in first
    assert call(["replay", first["run_dir"], "--json"]) == 1
    assert told(capsys)["same_digest"] is True


def test_a_campaign_in_which_nothing_was_valid_is_unknown(place, capsys):
    assert call(["sim", mine(place, node="Silent"), "--seeds", "1", "--as-written", "--json"]) == 2
    result = told(capsys)
    assert (result["valid"], result["invalid"], result["unknown"]) == (0, 0, 1)


def test_a_node_that_rolls_dice_of_its_own_is_reported_with_the_event_and_is_no_success(place, capsys):
    assert call(["sim", mine(place, node="Diced"), "--seeds", "3", "--as-written", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("INVALID  mine.toml: 1 seeds, 1 valid")
    assert "determinism: 1 seeds run twice, 1 differed" in said
    (line,) = [line for line in said.splitlines() if line.startswith("    seed 0: from event ")]
    one, other = line.partition(" on: ")[2].split(" / ")
    assert one != other


def test_a_failure_that_does_not_come_again_is_told_as_such(place, capsys):
    scenario = mine(place, load="Doubting")
    source = (place / "mine.py").read_text()
    once = 'Path("doubted").exists() or (Path("doubted").touch(), False)[1]'  # what no seed decides
    (place / "mine.py").write_text(source.replace("outcome.value != ANSWER", once))
    assert call(["sim", scenario, "--seeds", "1", "--check-every", "0", "--as-written"]) == 1
    said = capsys.readouterr().out
    assert "seed 0 failed: workload: " in said
    assert "VALID  seed 0\n  did not fail once more" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.toml",), "missing.toml: No such file"),
        (("bad.toml",), "bad.toml: not valid TOML"),
        (("mine.toml", "--plant", "no-refutatoin"), "no-refutatoin: no such bug; did you mean 'no-refutation'?"),
        (("nowhere.toml",), "nowhere.toml: cluster.node: there is no module 'nowhere'"),
        (("raising.toml",), "raising.toml: workload: KeyError: 'my own mistake'"),
        (("mine.toml", "--jobs", "0"), "--jobs"),
        (("mine.toml", "--first", str(2**63 - 5), "--seeds", "6"), "--seeds: the last of them would be above"),
    ],
)
def test_what_the_caller_got_wrong_is_one_line(place, capfd, arguments, said):
    mine(place)
    text = (place / "mine.toml").read_text()
    (place / "bad.toml").write_text("duration = \n")
    (place / "nowhere.toml").write_text(text.replace("mine:Answering", "nowhere:Node"))
    (place / "raising.toml").write_text(text.replace("mine:Asking", "mine:Raising"))
    before = psutil.Process().children()
    assert call(["sim", "--seeds", "3", "--json", *arguments]) == 254
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err
    assert psutil.Process().children() == before


class Campaign:
    """`testbed sim` in a process of its own, two of whose workers are at a seed that never ends."""

    def __init__(self, terminal):
        mine(terminal.directory, node="Hanging")
        self._directory = terminal.directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.cli", "sim", "mine.toml", "--jobs", "2", "--as-written", "--json"],
            cwd=terminal.directory,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        terminal.until(lambda: len(self.busy()) == 2 or self.process.poll() is not None, "two busy workers")
        self.workers = psutil.Process(self.process.pid).children()

    def busy(self):
        return [int(path.name.split()[1]) for path in self._directory.glob("hangs *")]

    def end(self):
        """Its exit status, what it said on stdout and on stderr, and which workers are left."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        _, left = psutil.wait_procs(self.workers, timeout=PATIENCE_S)
        return self.process.returncode, out, err, left

    def close(self):
        self.process.kill()
        for worker in self.workers:
            if worker.is_running():
                worker.kill()
        self.process.communicate()


@pytest.fixture
def hanging(terminal):
    with closing(Campaign(terminal)) as campaign:
        yield campaign


def test_ctrl_c_ends_a_campaign_and_all_its_workers(hanging):
    assert len(hanging.workers) == 4  # two of them are there to run seeds once more
    hanging.process.send_signal(signal.SIGINT)
    assert hanging.end() == (130, "", "", [])


@pytest.mark.parametrize("which", [0, 1])  # the first seed is waited for; an end at another one counts at once, too
def test_a_worker_that_is_killed_ends_the_campaign_with_one_line(hanging, which):
    os.kill(sorted(hanging.busy())[which], signal.SIGKILL)
    status, out, err, left = hanging.end()
    assert (status, out, left) == (255, "", [])
    assert err.count("\n") == 1
    assert err.startswith("testbed: a fault of the testbed itself: the process that simulated seed ")
    assert err.endswith(" ended: SIGKILL\n")


def test_workers_die_with_a_campaign_that_is_killed(hanging):
    hanging.process.kill()
    status, _, _, left = hanging.end()
    assert (status, left) == (-signal.SIGKILL, [])


# --- replay ---


def test_a_simulated_run_is_replayed_event_for_event(place, capsys):
    assert call(["run", pausing(place), "--world", "sim", "--seed", "3", "--json"]) == 0
    run = told(capsys)["run_dir"]
    assert call(["replay", run, "--times", "2", "--json"]) == 0
    result = told(capsys)
    assert (result["run_dir"], result["world"], result["seed"], result["times"]) == (run, "sim", 3, 2)
    assert (result["verdicts"], result["failed"], result["failure"]) == (["valid", "valid"], 0, None)
    assert result["same_digest"] is True
    assert len({*result["run_dirs"], run}) == 3
    assert (place / run / "history.jsonl").read_bytes() == (Path(result["run_dirs"][1]) / "history.jsonl").read_bytes()
    assert call(["replay", run]) == 0
    assert capsys.readouterr().out == "was valid; now valid; event for event the same run\n"


def test_a_replay_of_a_run_that_failed_says_whether_it_failed_in_the_same_way(place, capsys):
    assert call(["run", pausing(place), *PLANTED, "--json"]) == 1
    summary = told(capsys)
    run = summary["run_dir"]
    assert call(["replay", run]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("failed again in 1 of 1 repetitions, 1 of them in the same way (membership-invariants: ")
    assert said.out.endswith("; event for event the same run\n")
    assert said.err.startswith("1 of 1: invalid")
    spoiled = {**summary, "digest": "0" * 32, "plant": None}  # as if the code had changed, and the bug had been mended
    (Path(run) / "summary.json").write_text(json.dumps(spoiled))
    assert call(["replay", run]) == 0
    assert "failed again in 0 of 1 repetitions" in (now := capsys.readouterr().out)
    assert now.endswith("; not the same events: the code is not what it was\n")


def test_a_run_can_be_replayed_in_the_other_world(place, capsys):
    scenario = mine(place)
    assert call(["run", scenario, "--world", "sim"]) == 0
    capsys.readouterr()
    simulated = f"runs/{newest(place).name}"
    assert call(["replay", simulated, "--world", "live", "--times", "1", "--json"]) == 0
    result = told(capsys)
    assert (result["world"], result["verdicts"]) == ("live", ["valid"])
    assert "same_digest" not in result
    (live,) = result["run_dirs"]
    assert json.loads((Path(live) / "summary.json").read_text())["world"] == "live"
    assert call(["replay", live, "--times", "2", "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["world"], result["verdicts"]) == ("live", ["valid", "valid"])
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["1 of 2", "2 of 2"]
    assert call(["replay", live, "--world", "sim", "--json"]) == 0
    result = told(capsys)
    assert (result["world"], result["times"], result["verdicts"]) == ("sim", 1, ["valid"])
    assert "same_digest" not in result


@pytest.mark.parametrize("command", ["replay", "shrink"])
def test_what_is_no_run_is_one_line(place, capsys, command):
    assert call(["run", pausing(place), "--world", "sim", "--seed", "3"]) == 0
    capsys.readouterr()

    def said(path):
        assert call([command, str(path), "--json"]) == 254
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        return told.err

    assert "missing: there is no such run directory" in said("missing")
    (place / "empty").mkdir()
    assert "empty/summary.json: No such file" in said("empty")
    for name in ("summary.json", "schedule.json", "scenario.toml"):
        broken = place / f"broken-{name}"
        shutil.copytree(newest(place), broken)
        (broken / name).write_text("{")
        assert f"broken-{name}/{name}: " in said(broken)
    summary = json.loads((newest(place) / "summary.json").read_text())
    (newest(place) / "summary.json").write_text(json.dumps({**summary, "plant": "no-bug", "checks": []}))
    assert {"replay": "no-bug: no such bug", "shrink": "nothing to shrink"}[command] in said(newest(place))


# --- shrink ---


def test_a_run_that_did_not_fail_is_not_shrunk(terminal):
    pausing(terminal.directory)
    terminal.ok("run", "pausing.toml", "--world", "sim", "--seed", "3")
    assert "verdict: is valid: there is nothing to shrink" in mistake(terminal.run("shrink", "runs/latest"))


def test_shrinking_says_what_became_of_the_schedule_and_whether_it_is_the_smallest(place, capsys):
    assert call(["sim", pausing(place), "--seeds", "1", "--as-written", "--plant", "no-refutation", "--no-shrink"]) == 1
    run = f"runs/{newest(place).name}"
    assert not (newest(place) / "minimal.toml").exists()
    capsys.readouterr()
    assert call(["shrink", run, "--tries", "2", "--json"]) == 0
    result = told(capsys)
    assert (result["run_dir"], result["seed"], result["tries"], result["is_minimal"]) == (run, 0, 2, False)
    assert call(["shrink", run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "tries" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["at", "written"]
    assert lines[-1] == f"  written to {run}/minimal.toml"


def test_a_small_scenario_finds_the_users_modules_from_anywhere(terminal):
    project, elsewhere = terminal.directory / "project", terminal.directory / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    mine(project, load="Doubting")
    done = terminal.run("run", "project/mine.toml", "--world", "sim", "--seed", "1", "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, failing_check(summary)) == (1, "workload")
    small = terminal.directory / summary["minimal"]
    assert "# Needs beside it: mine.py" in small.read_text()
    terminal.directory = elsewhere
    again = terminal.run("run", str(small), "--world", "sim", "--json")
    assert (again.returncode, failing_check(json.loads(again.stdout))) == (1, "workload")
    (project / "mine_too.py").write_text("ANSWER = 43\n")
    mended = (project / "mine.py").read_text().replace("!= ANSWER", "== ANSWER")
    (project / "mine.py").write_text(mended)  # what runs is the module as it is now
    assert terminal.run("run", str(small), "--world", "sim").returncode == 0


# --- bugs ---


def test_known_bugs_are_caught_and_nothing_is_found_without_them(place, capsys):
    assert call(["bugs", "no-refutation", "convicts-at-once", "--jobs", "2", "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert [bug["name"] for bug in result["bugs"]] == ["no-refutation", "convicts-at-once"]
    assert all(bug["caught"] and bug["by"] and bug["detail"] and bug["world"] == "sim" for bug in result["bugs"])
    assert (result["escaped"], result["false_alarms"]) == ([], [])
    assert sorted(line.split()[:2] for line in said.err.splitlines()) == [
        ["caught", "convicts-at-once"],
        ["caught", "no-refutation"],
    ]


def test_an_unknown_bug_is_a_mistake_with_a_suggestion(terminal):
    assert "bugs: no-refutatoin: no such bug; did you mean 'no-refutation'?" in mistake(
        terminal.run("bugs", "no-refutatoin")
    )


def test_the_catalogue_is_listed_with_names(capsys):
    assert call(["list", "bugs", "--json"]) == 0
    (key, bugs), *others = told(capsys).items()
    assert (key, others) == ("bugs", [])
    names = [bug["name"] for bug in bugs]
    assert len(names) == len(set(names)) >= 20
    assert "no-refutation" in names
