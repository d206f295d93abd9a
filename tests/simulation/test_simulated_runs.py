"""Single simulated runs: what is told of them, what bounds their operations, when their faults happen."""

import json
from pathlib import Path

import pytest

from chaos.scenario import Scenario, load_scenario, parse_scenario
from chaos.simulation import simulate

STORE = """
name = "store"
duration = "4s"
[cluster]
nodes = 3
heartbeat = "50ms"
election_timeout = "250ms"
[[workload]]
kind = "kv"
clients = 3
rate = 40
"""


def store(more: str = "") -> Scenario:
    return parse_scenario(STORE + more, "store.toml")


def test_the_same_seed_is_the_same_run_and_another_seed_is_not():
    one, again, other = (simulate(store(), seed) for seed in (1, 1, 2))
    assert one.result.digest == again.result.digest != other.result.digest
    assert one.summary["run_dir"] is None
    assert one.trace is None
    assert one.result.verdict == "valid"
    assert (one.result.failure, one.result.detail, one.result.invalid) == (None, "", [])
    assert one.result.operations == one.summary["operations"]
    assert one.result.simulated_s >= 4.0


def test_a_traced_run_tells_every_event_and_is_the_same_run():
    traced, silent = simulate(store(), 3, every_event=True), simulate(store(), 3)
    assert traced.trace is not None
    assert len(traced.trace) == traced.result.events == silent.result.events
    assert traced.result.digest == silent.result.digest
    assert any("n1>n2" in line for line in traced.trace)


def test_how_a_run_failed_is_told_with_every_check_that_says_so():
    faults = '[[fault]]\nkind = "pause"\ntarget = ["n1"]\nat = "500ms"\nfor = "1500ms"\n'
    result = simulate(store(faults), 1, plant="no-refutation").result
    assert result.verdict == "invalid"
    assert result.failure is not None
    assert result.failure.startswith("membership-invariants: ")
    assert [name for name, _ in result.invalid] == ["membership-invariants", "membership"]
    assert result.detail == "membership-invariants: " + result.invalid[0][1]
    assert result.faults == {"pause": 1}
    assert simulate(store(faults), 1).result.verdict == "valid"  # the bug is gone with its run


def test_a_run_is_kept_only_where_it_is_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    simulate(store(), 1)
    assert list(tmp_path.iterdir()) == []
    summary = simulate(store(), 1, out=tmp_path / "kept").summary
    directory = Path(summary["run_dir"])
    assert directory.parent == tmp_path / "kept"
    assert json.loads((directory / "summary.json").read_text()) == summary
    assert {path.name for path in directory.iterdir()} == {
        *("summary.json", "history.jsonl", "schedule.json", "scenario.toml", "nodes"),
        *("supervisor.jsonl", "experiment.jsonl", "clients.jsonl", "junit.xml", "report.html"),
    }
    assert {path.name for path in (directory / "nodes").iterdir()} == {"n1", "n2", "n3"}


@pytest.mark.parametrize("operations", [1, 7, 50])
def test_no_more_operations_are_invoked_than_the_workload_has(operations: int):
    result = simulate(store(f"operations = {operations}\n"), 1).result
    assert sum(result.operations.values()) == operations
    assert result.simulated_s >= 4.0  # the run goes on without them


def test_operations_that_do_not_fit_into_the_run_do_not_make_it_longer():
    result = simulate(store("operations = 100000\n"), 1).result
    assert sum(result.operations.values()) == sum(simulate(store(), 1).result.operations.values()) < 1000


def test_each_workload_has_operations_of_its_own(tmp_path: Path):
    second = '[[workload]]\nkind = "kv"\nclients = 2\nrate = 40\noperations = 11\n'
    directory = Path(simulate(store("operations = 5\n" + second), 1, out=tmp_path).summary["run_dir"])
    counts = [
        sum(json.loads(line)["type"] == "invoke" for line in (directory / name).read_text().splitlines())
        for name in ("history.jsonl", "history-2.jsonl")
    ]
    assert counts == [5, 11]


def nemesis_steps(directory: Path) -> list[tuple[float, str, str]]:
    events = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [
        (event["time"] / 1e9, event["f"], event["value"]["step"]) for event in events if event["process"] == "nemesis"
    ]


def test_a_fault_with_a_time_happens_once_and_then(tmp_path: Path):
    faults = (
        '[[fault]]\nkind = "kill"\ntarget = ["n3"]\nat = "1250ms"\nfor = "500ms"\n'
        '[[fault]]\nkind = "pause"\ntarget = ["n2"]\nat = "0s"\nfor = "300ms"\n'
    )
    for seed in (1, 2):
        directory = Path(simulate(store(faults), seed, out=tmp_path).summary["run_dir"])
        steps = nemesis_steps(directory)
        asked = [(at, kind) for at, kind, step in steps if step == "asked"]
        assert asked == [(pytest.approx(0.0, abs=0.05), "pause"), (pytest.approx(1.25, abs=0.05), "kill")]
        ended = {kind: at for at, kind, step in steps if step == "ended"}
        assert ended == {"pause": pytest.approx(0.3, abs=0.05), "kill": pytest.approx(1.75, abs=0.05)}
        planned = json.loads((directory / "schedule.json").read_text())["faults"]
        assert [(fault["at"], fault["until"]) for fault in planned] == [(0.0, 0.3), (1.25, 1.75)]


GREETERS = """
from chaos import Op, Workload, models
from testbed import Node

class Greeter(Node):
    def on_start(self): self.count = 0
    def on_request(self, request, body):
        self.count += 1
        self.reply(request, self.count)

class Growing:
    initial = 0
    def step(self, state, call):
        if not call.known:
            return state
        return call.result if call.result > state else models.Inconsistent("it did not grow")

class Greetings(Workload):
    model = Growing
    def client(self, number, random):
        while True:
            yield Op("greet", request={"hello": number})
"""


def test_a_workload_can_bring_a_model_of_its_own(tmp_path: Path):
    (tmp_path / "growing.py").write_text(GREETERS)
    text = 'duration = "2s"\n[cluster]\nnodes = NODES\nnode = "growing:Greeter"\n'
    text += '[[workload]]\nkind = "growing:Greetings"\nclients = 2\nrate = 40\n'
    path = tmp_path / "growing.toml"
    verdicts = []
    for nodes in (1, 3):  # three of them count each on its own
        path.write_text(text.replace("NODES", str(nodes)))
        summary = simulate(load_scenario(path), 1).summary
        verdicts.append(next(check["verdict"] for check in summary["checks"] if check["name"] == "Growing"))
    assert verdicts == ["valid", "invalid"]
