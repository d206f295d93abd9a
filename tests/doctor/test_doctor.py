"""`testbed doctor`: what it finds on this machine, and what it would say of others."""

import json
import os
import resource
import sys
from pathlib import Path

import pytest

from chaos.cli import COMMANDS, call
from chaos.doctor import ALL, CHECKS, Asked, Finding, examine, people, processes, system, timing, worst
from chaos.readiness import Measured
from testbed.live.procfs import observe

SCENARIO = 'duration = "10s"\n[cluster]\nnodes = 3\nheartbeat = "20ms"\nelection_timeout = "200ms"\n'


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """What is found here, by name; tried out once."""
    found = list(examine(Asked(directory=tmp_path_factory.mktemp("runs"))))
    return {finding.name: finding for finding in found}


# --- this machine ---


def test_a_machine_that_runs_this_test_runs_live_clusters(examined):
    for name in ("platform", "python", "pidfd", "signals", "parent-death signal", "loopback", "fork server"):
        assert examined[name].grade == "good", examined[name]
    assert worst(examined.values()) != "bad"


def test_everything_is_tried_and_said(examined):
    assert set(examined) == {
        *("platform", "python", "cores", "memory available", "open files", "ports", "free disk"),
        *("monotonic clock", "wake-up", "fsync", "timeouts"),
        *("pidfd", "signals", "parent-death signal", "loopback", "fork server", "namespaces"),
        *("browser", "terminal"),
    }


def test_whatever_is_not_good_has_a_meaning(examined):
    assert all(finding.meaning for finding in examined.values() if finding.grade != "good")
    assert all(finding.affects for finding in examined.values() if finding.grade in ("doubtful", "bad"))


def test_the_commands_that_findings_speak_of_are_those_that_there_are():
    assert set(ALL) - set(COMMANDS) <= {"report", "explain"}


# --- the command ---


@pytest.fixture
def machine(monkeypatch):
    """Sets what the command is told."""

    def found(*findings):
        monkeypatch.setattr("chaos.cli.doctor.examine", lambda _asked: iter(findings))

    return found


LONG = "processes wake up 153 ms late, and a sync takes 20.5 ms, which is more than anybody would have thought"


@pytest.mark.parametrize(
    ("grade", "status"),
    [("good", 0), ("note", 0), ("doubtful", 2), ("bad", 254)],
)
def test_the_worst_finding_makes_the_status(machine, capsys, grade, status):
    machine(Finding("python", "good", "3.11"), Finding("cores", grade, "1", "too few", ("run", "up")))
    assert call(["doctor", "--json"]) == status
    told = capsys.readouterr()
    told, complaint = json.loads(told.out), told.err
    assert told["grade"] == {0: "good", 2: "doubtful", 254: "bad"}[status]
    assert told["checks"][1] == {
        "name": "cores",
        "grade": grade,
        "found": "1",
        "meaning": "too few",
        "affects": ["run", "up"],
    }
    assert told["affected"] == (["run", "up"] if status else [])
    assert set(told["affected"]) | set(told["not_affected"]) == set(ALL)
    assert complaint.count("\n") == (1 if status == 254 else 0)


def test_people_read_it_in_80_columns(machine, capsys):
    machine(
        Finding("python", "good", "3.11"),
        Finding("timeouts", "doubtful", LONG, LONG, ("demo", "run", "up", "replay")),
        Finding("terminal", "note", "none", "told in lines", ("demo",)),
    )
    assert call(["doctor"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "ok  python               3.11"
    assert lines[1].startswith("??  timeouts             processes wake up 153 ms late")
    assert lines[3] == "                         demo, run, up, replay: processes wake up 153 ms late,"
    assert lines[-5:] == [
        "",
        "live clusters may run here, with the reservations above",
        "  affected      testbed demo, run, up, replay",
        "  not affected  testbed shrink, bugs, sim, list, check, convert, report, logs,",
        "                        explain",
    ]


def test_a_scenario_says_what_is_asked_of_the_machine(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("chaos.cli.doctor.examine", lambda wanted: asked.append(wanted) or iter(()))
    scenario = tmp_path / "mine.toml"
    scenario.write_text(SCENARIO)
    assert call(["doctor", str(scenario), "--out", str(tmp_path)]) == 0
    assert asked == [Asked(nodes=3, heartbeat=0.02, election_timeout=0.2, directory=tmp_path)]


def test_a_scenario_that_cannot_be_read_is_a_mistake_in_one_line(tmp_path, capsys):
    assert call(["doctor", str(tmp_path / "missing.toml")]) == 254
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


def test_elsewhere_than_on_linux_no_live_cluster_can_run_but_simulations_and_judges_can(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "plan9")
    assert call(["doctor", "--json"]) == 254
    told = capsys.readouterr()
    assert json.loads(told.out)["grade"] == "bad"
    assert json.loads(told.out)["not_affected"][:3] == ["sim", "list", "check"]
    assert told.err.count("\n") == 1
    assert "plan9" in told.err


def test_a_check_that_cannot_be_tried_is_a_finding(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "not here")

    monkeypatch.setattr("chaos.doctor.CHECKS", (processes.loopback, system.python))
    monkeypatch.setattr("chaos.doctor.processes.socket.create_server", refuse)
    failed, python = examine(Asked())
    assert (failed.name, failed.grade, python.grade) == ("loopback", "doubtful", "good")
    assert "not here" in failed.found


# --- other machines ---


def limited(monkeypatch, soft, hard=4096):
    monkeypatch.setattr(system.resource, "getrlimit", lambda _: (soft, hard))


@pytest.mark.parametrize(
    ("soft", "nodes", "grade"),
    [
        (64, 5, "bad"),
        (79, 5, "bad"),
        (80, 5, "doubtful"),  # these five, but not the largest cluster
        (256, 31, "bad"),
        (340, 31, "good"),
        (resource.RLIM_INFINITY, 31, "good"),
    ],
)
def test_open_files_are_held_against_the_number_of_nodes(monkeypatch, soft, nodes, grade):
    limited(monkeypatch, soft)
    found = system.open_files(Asked(nodes=nodes))
    assert found.grade == grade
    assert ("ulimit -n" in found.meaning) == (grade != "good")


def test_open_files_say_how_many_nodes_they_are_enough_for(monkeypatch):
    limited(monkeypatch, 256)
    assert "enough for 22 nodes" in system.open_files(Asked()).found
    limited(monkeypatch, resource.RLIM_INFINITY)
    assert system.open_files(Asked()).found.startswith(
        "unlimited a process, and up to 4096 if asked for; enough for 31 "
    )
    limited(monkeypatch, 30)
    assert "too few" in system.open_files(Asked()).found


@pytest.fixture
def group(monkeypatch, tmp_path):
    """Sets what the process' control group says."""
    monkeypatch.setattr(system, "CGROUP", tmp_path)
    return lambda name, text: (tmp_path / name).write_text(text)


def test_a_quota_of_processor_time_counts_as_fewer_cores(monkeypatch, group):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert system.cores(Asked()).found == "4"
    group("cpu.max", "max 100000\n")
    assert system.cores(Asked()).grade == "good"
    group("cpu.max", "150000 100000\n")
    found = system.cores(Asked(nodes=7))
    assert (found.grade, found.found) == ("doubtful", "1.5 of 4, by the quota of this container")
    assert "7 nodes" in found.meaning


def test_a_limit_of_memory_counts_as_less_memory(group):
    group("memory.max", "max\n")
    group("memory.current", "1000\n")
    assert system.memory(Asked()).found != "0 MiB"
    group("memory.max", str(200 * 2**20))
    group("memory.current", str(100 * 2**20))
    found = system.memory(Asked())
    assert (found.grade, found.found) == ("doubtful", "100 MiB")
    assert "sim" in found.affects


def test_ports_that_the_kernel_gives_away_are_told(monkeypatch, tmp_path):
    ports = tmp_path / "ports"
    monkeypatch.setattr(system, "PORTS_OF_KERNEL", ports)
    ports.write_text("32768\t60999\n")
    assert system.ports(Asked()).grade == "good"
    ports.write_text("1024\t60999\n")
    assert system.ports(Asked()).grade == "doubtful"
    ports.write_text("1024\t9999\n")
    assert system.ports(Asked()).grade == "good"


def test_a_disk_that_is_nearly_full_is_told(monkeypatch, tmp_path):
    asked = Asked(directory=tmp_path)
    usage = system.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(system.shutil, "disk_usage", lambda _: usage._replace(free=50 * 2**20))
    found = system.disk(asked)
    assert (found.grade, found.found) == ("doubtful", f"50 MiB in {tmp_path}")


def test_a_directory_that_cannot_be_written_keeps_no_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = system.disk(Asked(directory=tmp_path))
    assert found.grade == "doubtful"
    assert found.found.endswith("not writable")


def test_a_clock_that_other_processes_do_not_share_is_told(monkeypatch):
    monkeypatch.setattr(timing, "_CLOCK", "import sys\nfor _ in sys.stdin: print(-1.0, flush=True)")
    found = timing.monotonic_clock(Asked())
    assert found.grade == "doubtful"
    assert "logs" in found.affects


def test_a_coarse_clock_is_told(monkeypatch):
    monkeypatch.setattr(timing.clock, "resolution", lambda: 0.004)
    found = timing.monotonic_clock(Asked())
    assert (found.grade, found.found) == ("doubtful", "steps of 4000000 ns")


def test_a_machine_too_slow_for_the_timeouts_is_told_so_with_the_factor():
    slow = Measured(late_s=0.08, fsync_s=0.05)
    asked = Asked(heartbeat=0.1, election_timeout=1.0)
    wake_up, fsync, timeouts = timing.of_measured(asked, slow)
    assert (wake_up.grade, fsync.grade, timeouts.grade) == ("good", "good", "doubtful")
    assert "100ms and 1s" in timeouts.found
    assert "--timeouts auto multiplies all times by 2" in timeouts.meaning
    assert timing.of_measured(Asked(heartbeat=0.2, election_timeout=2.0), slow)[2].grade == "good"


def test_signals_that_are_not_seen_are_named(monkeypatch):
    monkeypatch.setattr(processes, "SEEN_S_MAX", 0.05)
    monkeypatch.setattr("testbed.live.procfs.observe", lambda _pid: "running")
    found = processes.signals(Asked())
    assert (found.grade, found.found) == ("doubtful", "SIGSTOP, SIGKILL: not seen in /proc")


def test_an_orphan_that_no_signal_ends_is_told_and_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "SEEN_S_MAX", 0.2)
    note = tmp_path / "pid"
    spared = processes._PARENT.replace("die_with_parent(9, me)", f"open({str(note)!r}, 'w').write(str(os.getpid()))")
    assert spared != processes._PARENT
    monkeypatch.setattr(processes, "_PARENT", spared)
    found = processes.parent_death(Asked())
    assert (found.grade, found.found) == ("doubtful", "does not come")
    orphan = int(note.read_text())
    assert processes._seen(lambda: observe(orphan) in ("zombie", "gone")) is not None


def test_an_orphan_that_ends_by_itself_proves_nothing(monkeypatch):
    ended = processes._PARENT.replace("time.sleep(60)\n    os._exit(0)", "os._exit(0)").replace(
        "os.read(read, 1)", "os.waitpid(pid, 0)"
    )
    monkeypatch.setattr(processes, "_PARENT", ended)
    assert processes.parent_death(Asked()).grade == "doubtful"


def test_namespaces_are_tried_in_a_child_and_needed_by_no_command(monkeypatch):
    mine = os.readlink("/proc/self/ns/net")
    processes.namespaces(Asked())
    assert os.readlink("/proc/self/ns/net") == mine
    monkeypatch.setattr(processes, "_NAMESPACES", "print('Operation not permitted')")
    found = processes.namespaces(Asked())
    assert (found.grade, found.affects) == ("note", ())
    assert "Operation not permitted" in found.found
    monkeypatch.setattr(processes, "_NAMESPACES", "print('')")
    assert processes.namespaces(Asked()).grade == "good"


def test_a_machine_without_a_browser_still_makes_reports(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert people.browser(Asked()).grade == "note"
    found = tmp_path / "firefox"
    found.write_text("")
    found.chmod(0o755)
    assert people.browser(Asked()).found == str(found)


class Screen:
    def __init__(self, columns, lines):
        self.fileno = lambda: 2
        self.isatty = lambda: bool(columns)
        self.size = os.terminal_size((columns, lines))


@pytest.mark.parametrize(
    ("columns", "lines", "grade"),
    [(80, 24, "good"), (200, 50, "good"), (79, 24, "note"), (80, 23, "note"), (0, 0, "note")],
)
def test_a_terminal_is_to_have_80_columns_and_24_lines(monkeypatch, columns, lines, grade):
    screen = Screen(columns, lines)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: screen.size)
    assert people.terminal(Asked()).grade == grade


def test_each_check_is_tried_once():
    assert len(CHECKS) == len(set(CHECKS))
    assert Path(processes.__file__).parent.name == "doctor"
