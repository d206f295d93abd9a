"""What people see when a run is over: the verdict in words, from summaries and from runs."""

import json
import re
import signal
import sys
from types import SimpleNamespace

import msgspec
import pytest
from screens import DARK, LIGHT, photograph, replayed, watch

from chaos.cli import call, failing
from chaos.cli.answers import Answer
from chaos.cli.verdict import text_of
from chaos.kept import load_run

FAULTS = [
    {"kind": "kill", "asked": 4, "applied": 3, "healed": 3, "skipped": 1},
    {"kind": "mine:Melting", "asked": 2, "applied": 1, "healed": 1, "skipped": 0},
]
RECORDS = [
    SimpleNamespace(fault=SimpleNamespace(kind="kill"), skipped="no node leads", failed=None),
    SimpleNamespace(fault=SimpleNamespace(kind="kill"), skipped="no node leads", failed=None),
    SimpleNamespace(fault=SimpleNamespace(kind="mine:Melting"), skipped=None, failed="not in effect: it did not melt"),
]
STEPS = {
    "kill": {
        "detect": {"p50": 0.012, "max": 0.02},
        "elect": {"p50": 0.31, "max": 0.65},
        "write": {"p50": 0.42, "max": 1.79},
    },
    "mine:Melting": {"write": {"p50": 0.05, "max": 0.05}},
}
EVENTS = [
    {"index": 4, "time": 1, "process": 0, "type": "invoke", "f": "write", "key": "x", "value": 1},
    {"index": 5, "time": 2, "process": 0, "type": "ok", "f": "write", "key": "x", "value": 1},
    {"index": 8, "time": 3, "process": 2, "type": "invoke", "f": "read", "key": "x", "value": None},
    {"index": 9, "time": 4, "process": 2, "type": "ok", "f": "read", "key": "x", "value": 7},
]
ANOMALY = {
    "check": "cas-register",
    "workload": "kv",
    "history": "history-2.jsonl",
    "event": 9,
    "key": "x",
    "prefix": 10,
    "shortest": True,
    "operation": "read -> 7 (process 2, events 8 to 9)",
    "reason": "nobody wrote 7",
    "concurrent": ["write 3 with unknown outcome (process 1, events 6 on)"],
    "states": ["it holds 1"],
    "minimal": EVENTS,
}


def check(name, verdict="valid", detail="all is well", workload=None):
    return {"name": name, "workload": workload, "verdict": verdict, "detail": detail}


def summary(verdict="valid", checks=(), **more):
    return {
        "scenario": "crash",
        "world": "live",
        "seed": 7,
        "verdict": verdict,
        "duration_s": 30.1,
        "run_dir": "runs/a-run",
        "replay": "testbed replay runs/a-run",
        "operations": {"ok": 4000, "fail": 120, "info": 3},
        "faults": FAULTS,
        "checks": [*checks, check("membership"), check("cas-register", workload="mine:Load", detail="very " * 30)],
        "recovery_s": {"kill": {"p50": 0.42, "max": 1.79}},
        "source": "",
        **more,
    }


def lines_of(*arguments, **more):
    """The text's lines, none of which is wider than a terminal."""
    lines = text_of(*arguments, **more).splitlines()
    assert all(len(line) <= 80 for line in lines), lines
    return lines


def test_the_verdict_comes_first_and_then_each_check_beside_its_words():
    lines = lines_of(summary())
    assert lines[0] == "VALID  crash, seed 7, 30.1 s: 4000 ok, 120 failed, 3 unknown"
    assert lines[2] == "  valid   membership           all is well"
    assert lines[3].startswith("  valid   cas-register (Load)  very very")
    assert lines[4].startswith(" " * 31 + "very")


def test_a_verdict_that_scrolls_out_of_sight_is_repeated_at_the_end():
    lines = lines_of(summary())
    assert lines_of(summary(), rows=len(lines) + 1) == lines
    assert lines_of(summary(), rows=len(lines)) == [*lines, "", lines[0]]


def test_the_gravest_checks_come_first():
    checks = [check("coverage", "unknown", "no fault of kind kill took hold"), check("crashes", "invalid", "n1 exited")]
    lines = lines_of(summary("invalid", checks))
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["invalid", "crashes"],
        ["unknown", "coverage"],
        ["valid", "membership"],
    ]


def test_recovery_is_a_table_by_kind_of_fault_and_what_was_not_measured_is_a_dash():
    lines = lines_of(summary(recovery_steps_s=STEPS))
    start = next(number for number, line in enumerate(lines) if line.startswith("  recovery"))
    assert lines[start : start + 4] == [
        "  recovery       others see it    a leader again        next write",
        "  in seconds       p50     max       p50     max       p50     max",
        "  kill           0.012   0.020     0.310   0.650     0.420   1.790",
        "  Melting            -       -         -       -     0.050   0.050",
    ]


def test_an_old_summary_has_only_the_time_to_the_next_write():
    lines = lines_of(summary())
    start = next(number for number, line in enumerate(lines) if line.startswith("  recovery"))
    assert lines[start : start + 3] == [
        "  recovery          next write",
        "  in seconds       p50     max",
        "  kill           0.420   1.790",
    ]
    assert "recovery" not in text_of(summary(recovery_s={}))


def test_faults_are_counted_and_those_that_were_not_made_say_why():
    lines = lines_of(summary(), RECORDS)
    assert "  kill                 4           3           3           1" in lines
    assert "  skipped kill, 2 times: no node leads" in lines
    assert "  failed  Melting: not in effect: it did not melt" in lines


def test_it_ends_with_where_the_run_is_and_how_to_see_more(tmp_path):
    place = tmp_path / "a run"
    place.mkdir()
    where = {"run_dir": str(place), "replay": f"testbed replay '{place}'"}
    lines = text_of(summary(**where)).splitlines()
    assert lines[-3:] == [
        f"  kept in {place}",
        f"  logs    testbed logs '{place}'",
        f"  again   testbed replay '{place}'",
    ]
    (place / "report.html").touch()
    assert f"  report  {place}/report.html" in text_of(summary(**where)).splitlines()


def test_an_invalid_run_shows_the_operations_around_what_broke():
    checks = [check("cas-register", "invalid", "words " * 100, "kv")]
    lines = lines_of(summary("invalid", checks, anomaly=ANOMALY))
    assert lines[2:4] == [
        '  invalid cas-register (kv)    on key "x" no order explains read -> 7 (process',
        "                               2, events 8 to 9)",
    ]
    start = lines.index("  seed    7")
    assert lines[start - 6 : start + 3] == [
        '  wrong   cas-register: on key "x" no order explains read -> 7 (process 2,',
        "          events 8 to 9): nobody wrote 7",
        "  open    write 3 with unknown outcome (process 1, events 6 on)",
        "  states  it holds 1",
        "  alone   write 1 ok (process 0, events 4 to 5)",
        "          read -> 7 (process 2, events 8 to 9)",
        "  seed    7",
        "  smaller testbed shrink runs/a-run",
        "",
    ]


def test_what_broke_can_be_followed_where_messages_were_traced(tmp_path):
    checks = [check("cas-register", "invalid", "words", "kv")]
    (tmp_path / "clients.jsonl").touch()
    told = summary("invalid", checks, anomaly=ANOMALY, run_dir=str(tmp_path))
    assert f"  explain testbed explain {tmp_path} 2:9" in text_of(told).splitlines()
    first = told | {"anomaly": ANOMALY | {"history": "history.jsonl"}}
    assert f"  explain testbed explain {tmp_path} 9" in text_of(first).splitlines()


def test_an_invalid_run_of_an_earlier_version_has_its_sentence():
    lines = lines_of(summary("invalid", [check("crashes", "invalid", "n1 exited")]))
    assert "  wrong   crashes: n1 exited" in lines
    assert "open" not in "".join(lines)


def test_a_path_is_not_broken_however_long_it_is():
    path = f"runs/{'long' * 30}/minimal.toml"
    found = {"minimal": path, "shrunk": "3 faults -> 1", "schedule": ["at 0s: kill n1 for 10ms"], "simulated_seed": 9}
    lines = text_of(summary("invalid", [check("crashes", "invalid", "n1 exited")], **found)).splitlines()
    start = lines.index(f"  minimal {path}")
    assert lines[start + 1 : start + 4] == [
        "          (3 faults -> 1)",
        "          found in simulation, with seed 9",
        "          at 0s: kill n1 for 10ms",
    ]


def test_an_unknown_run_tells_what_nobody_knows_right_below_the_verdict():
    lines = lines_of(summary("unknown", [check("coverage", "unknown", "no fault of kind kill took hold")]))
    assert lines[0].startswith("UNKNOWN  crash")
    assert lines[2] == "  unknown coverage             no fault of kind kill took hold"
    assert lines[-1] == "  again   testbed replay runs/a-run"


def test_colours_are_only_where_they_are_wanted_and_only_on_words_that_say_the_same():
    checks = [check("crashes", "invalid", "n1 exited")]
    plain, coloured = text_of(summary("invalid", checks)), text_of(summary("invalid", checks), colour=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert re.findall(r"\x1b\[[\d;]+m(\w+) *\x1b\[0m", coloured) == ["INVALID", "invalid", "valid", "valid"]


# --- runs that fail ---

FORGETFUL = """
import sys
import time
from testbed import Node
from chaos import Op, Workload

class Forgetful(Node):
    def on_start(self):
        self.count = 0

    def on_request(self, request, body):
        self.count += 1
        self.reply(request, f"{self.id}-{self.count}")

class Real(Forgetful):
    def on_start(self):
        super().on_start()
        while "chaos.experiment" in sys.modules:  # it does not know of simulations, and never ends there
            time.sleep(1)

class Tickets(Workload):
    model = "unique-ids"

    def client(self, number, random):
        while True:
            yield Op("generate", request="a ticket, please")
"""
SCENARIO = """
name = "tickets"
duration = "1500ms"
[cluster]
nodes = 3
node = "forgetful:{node}"
[[workload]]
kind = "forgetful:Tickets"
clients = 3
rate = 60
[[fault]]
kind = "kill"
target = ["n1", "n2"]
at = "300ms"
for = "200ms"
[[fault]]
kind = "pause"
target = ["n3"]
at = "400ms"
for = "200ms"
"""


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    """Writes the scenario of a node that forgets; its path."""
    monkeypatch.chdir(tmp_path)

    def write(node="Forgetful"):
        (tmp_path / "forgetful.py").write_text(FORGETFUL)
        (tmp_path / "tickets.toml").write_text(SCENARIO.format(node=node))
        return "tickets.toml"

    return write


def test_the_schedule_of_a_live_run_that_failed_is_cut_down_in_simulation(tickets, tmp_path, browser, artefacts):
    watched = watch(["run", tickets(), "--seed", "4"], tmp_path)
    assert watched.status == 1
    lines = [line.rstrip() for line in replayed(watched.output, rows=90).display]
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "\nINVALID  tickets, seed 4" in text
    assert re.search(r"\n  wrong   unique-ids: no order explains generate -> \"n\d-\d+\"", text)
    assert re.search(r"\n  alone   generate -> \"n\d-\d+\" \(process", text)
    assert "\n          found in simulation, with seed " in text
    assert re.search(r"\n          at \w+: kill n[12] for \w+\n", text)
    assert "pause n3 for" not in text
    (small,) = (tmp_path / "runs" / "latest").glob("minimal.toml")
    assert "--world sim\n" in small.read_text()
    height = max(number for number, line in enumerate(lines) if line) + 1
    screen = replayed(watched.output, rows=height + 1)
    for name, palette in (("dark", DARK), ("light", LIGHT)):
        photograph(browser, screen, palette, artefacts / f"ending-{name}.png")


def test_a_node_that_cannot_be_simulated_does_not_keep_the_verdict_back(tickets, monkeypatch, capsys):
    monkeypatch.setattr(failing, "SEARCH_S_MAX", 0.5)
    monkeypatch.setattr(failing, "GRACE_S", 0.5)
    assert call(["run", tickets("Real"), "--seed", "4", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["searched"] == "no simulation of this schedule failed like this in 0.5 s"
    assert "minimal" not in told


class Deaf:
    """An answer that nobody reads any more."""

    def progress(self, text):
        raise BrokenPipeError("nobody reads")


def test_whatever_is_in_the_way_of_the_search_the_run_keeps_its_verdict(tmp_path, capsys):
    failed = summary("invalid", [check("crashes", "invalid", "n1 exited")], run_dir=str(tmp_path / "gone"))
    assert failing.smaller(Deaf(), failed) == {"searched": "the search was given up: nobody reads"}
    assert failing.smaller(Answer(False, sys.stdout), failed) == {
        "searched": f"the search was given up: {tmp_path}/gone: there is no such run directory"
    }
    assert failing.smaller(Deaf(), summary()) == {}


def test_a_live_failure_that_no_simulation_shows_is_told_as_such(tickets, monkeypatch, capsys):
    assert call(["run", tickets(), "--world", "sim", "--seed", "4", "--json"]) == 1
    run = json.loads(capsys.readouterr().out)["run_dir"]
    kept = msgspec.structs.replace(load_run(run), world="live", failure="crashes")
    assert failing.simulated_to_file(Answer(False, sys.stdout), kept) == {
        "searched": "none of 6 simulations of this schedule failed like this"
    }


def test_ctrl_c_ends_the_search_and_not_the_verdict(tickets, tmp_path):
    pressed = []

    def press(lines, process):
        if not pressed and any("INVALID; looking for" in line for line in lines):
            pressed.append(True)
            process.send_signal(signal.SIGINT)

    watched = watch(["run", tickets("Real"), "--seed", "4"], tmp_path, act=press)
    assert watched.status == 1
    text = "\n".join(line.rstrip() for line in replayed(watched.output, rows=90).display)
    assert "\nINVALID  tickets, seed 4" in text
    assert "\n  smaller testbed shrink runs/" in text
    assert "\n          the search was ended\n" in text


def test_ctrl_c_in_a_campaign_tells_what_it_has_come_to(tickets, tmp_path):
    pressed = []

    def press(lines, process):
        if not pressed and any(" seeds, " in line for line in lines):
            pressed.append(True)
            process.send_signal(signal.SIGINT)

    command = ["sim", tickets("Forgetful"), "--seeds", "100000", "--jobs", "1", "--keep-going", "--check-every", "0"]
    watched = watch(command, tmp_path, rows=90, act=press)
    assert watched.status == 130
    text = watched.output.decode().replace("\r", "")
    assert re.search(r"INTERRUPTED after \d+ of 100000 seeds; so far:\n\nINVALID  tickets.toml: \d+ seeds, ", text)
