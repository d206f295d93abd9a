"""Small scenarios from file to verdict on real processes: what is valid, what is not, and what nobody can tell."""

import json
import os

import pytest

from chaos.experiment import Nobody, Run
from chaos.scenario import load_scenario
from testbed.base.errors import UsageError
from testbed.live.procfs import marked_processes, observe

SERVICE = """
name = "kv"
duration = "{duration}"
[cluster]
nodes = 3
heartbeat = "100ms"
election_timeout = "1s"
[[workload]]
kind = "kv"
clients = 3
rate = 60
"""

USERS_NODE = """
name = "mine"
duration = "4s"
[cluster]
nodes = 3
node = "mine:Ticket"
[[workload]]
kind = "mine:Tickets"
clients = 3
rate = 60
"""

MODULE = """
from chaos import Op, Workload
from testbed import Node

class Ticket(Node):
    def on_start(self):
        self.number = self.load("number", 0)

    def on_request(self, request, body):
        self.number += 1
        self.save("number", self.number)
        self.reply(request, f"{self.id}-{self.number}")

class Silent(Node):
    def on_request(self, request, body):
        pass

class Fragile(Ticket):
    def on_timer(self, name):
        raise RuntimeError("as fragile as that")

    def on_start(self):
        super().on_start()
        if self.id == "n2":
            self.set_timer("break", after=1.5)

class Suspicious(Workload):
    def client(self, number, random):
        for _ in range(5 if number == 0 else 1000):
            outcome = yield Op("generate", request="a ticket, please")
        assert outcome.value == "what nobody says", f"{number} was told something else"

class Mistaken(Workload):
    def client(self, number, random):
        yield Op("generate", request="a ticket, please")
        raise RuntimeError("my own mistake")

class Tickets(Workload):
    model = "unique-ids"

    def client(self, number, random):
        while True:
            yield Op("generate", request="a ticket, please")
"""


def fault(kind, every="2s", lasting="700ms", **keys):
    lines = [f'kind = "{kind}"', f'every = "{every}"', f'for = "{lasting}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "[[fault]]\n" + "\n".join(lines) + "\n"


class Result:
    """A run that is over: its summary, and its directory."""

    def __init__(self, run, summary):
        self.run, self.directory = run, run.directory
        self.summary = summary
        self.verdict = summary["verdict"]
        self.checks = {check["name"]: check for check in summary["checks"]}
        self.faults = {count["kind"]: count for count in summary["faults"]}

    def __repr__(self):
        return json.dumps(self.summary, indent=1)


@pytest.fixture
def execute(tmp_path):
    """Runs a scenario's text, with `mine.py` beside it; no process of it is left."""

    def run(text, seed=7, watcher=None):
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        (tmp_path / "mine.py").write_text(MODULE)
        run = Run(load_scenario(path), seed=seed, out=tmp_path / "runs", watcher=watcher)
        return Result(run, run.execute())

    yield run
    assert left_over() == []


def left_over():
    return [
        pid
        for pid, marker in marked_processes()
        if marker.supervisor == os.getpid() and observe(pid) not in ("zombie", "gone")
    ]


def test_a_users_node_and_workload_beside_the_scenario_come_out_valid(execute):
    result = execute(USERS_NODE + fault("pause", target="one"))
    assert result.verdict == "valid", result
    assert result.checks["unique-ids"]["verdict"] == "valid"
    assert result.summary["operations"]["ok"] > 20


def test_a_node_that_never_replies_makes_the_verdict_unknown(execute):
    result = execute(USERS_NODE.replace("mine:Ticket", "mine:Silent", 1).replace('"4s"', '"2s"'))
    assert result.verdict == "unknown", result
    assert result.summary["operations"]["ok"] == 0
    assert "no operation that succeeded" in result.checks["coverage"]["detail"]


def test_a_planned_kind_of_fault_that_never_takes_hold_makes_the_verdict_unknown(execute):
    result = execute(USERS_NODE + fault("kill", target="leader"))
    assert result.verdict == "unknown", result
    assert result.faults["kill"]["applied"] == 0
    assert result.faults["kill"]["skipped"] == result.faults["kill"]["asked"] > 0
    assert {name for name, check in result.checks.items() if check["verdict"] != "valid"} == {"coverage"}


def test_a_node_that_raises_in_a_hook_makes_the_run_invalid_and_is_named(execute):
    result = execute(USERS_NODE.replace("mine:Ticket", "mine:Fragile", 1))
    assert result.verdict == "invalid", result
    assert "n2 exited: crashed: RuntimeError: as fragile as that" in result.checks["crashes"]["detail"]


def test_the_service_stays_valid_under_kills_pauses_and_partitions_and_the_run_directory_holds_it_all(execute):
    faults = [
        fault("kill", target="leader", every="3s"),
        fault("pause", target="leader", every="3s", lasting="1500ms"),
        fault("partition", target="one", every="3s", lasting="1s"),
    ]
    result = execute(SERVICE.format(duration="8s") + "".join(faults))
    assert result.verdict == "valid", result
    assert set(result.summary["recovery_s"]) == {"kill", "pause", "partition"}
    directory = result.directory
    assert json.loads((directory / "summary.json").read_text()) == result.summary
    events = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    assert [event["index"] for event in events] == list(range(len(events)))
    assert sum(event["type"] == "ok" for event in events) >= result.summary["operations"]["ok"]
    assert any(event["process"] == "nemesis" for event in events)
    assert json.loads((directory / "schedule.json").read_text())
    assert 'kind = "kv"' in (directory / "scenario.toml").read_text()
    assert (directory.parent / "latest").resolve() == directory.resolve()
    for node in ("n1", "n2", "n3"):
        assert (directory / "nodes" / node / "data.db").stat().st_size > 0
        logs = sorted((directory / "nodes" / node).glob("log-*.jsonl"))
        assert logs
        for path in logs:
            for line in path.read_text().splitlines():
                assert json.loads(line)["node"] == node


def test_the_service_stays_valid_when_links_lose_duplicate_reorder_and_delay_messages_of_nodes_and_clients(execute):
    links = {"links": "all", "target": "all", "every": "2s", "lasting": "1500ms"}
    faults = [
        fault("loss", rate=0.2, **links),
        fault("duplicate", rate=0.2, **links),
        fault("reorder", rate=0.2, **links),
        fault("delay", delay="10ms", jitter="20ms", **links),
    ]
    result = execute(SERVICE.format(duration="8s") + "".join(faults))
    assert result.verdict == "valid", result
    assert {kind: count["applied"] > 0 for kind, count in result.faults.items()} == dict.fromkeys(
        ("loss", "duplicate", "reorder", "delay"), True
    )


def test_an_assertion_of_a_workload_that_fails_makes_the_run_invalid_and_the_other_clients_go_on(execute):
    result = execute(USERS_NODE.replace("mine:Tickets", "mine:Suspicious", 1))
    assert result.verdict == "invalid", result
    assert {name for name, check in result.checks.items() if check["verdict"] != "valid"} == {"workload"}
    assert result.checks["workload"]["detail"].startswith("client 0, mine.py:")
    assert result.checks["workload"]["detail"].endswith(": 0 was told something else")
    assert result.summary["operations"]["ok"] > 20


def test_any_other_error_of_a_workload_is_its_authors_mistake(execute):
    with pytest.raises(UsageError, match="RuntimeError: my own mistake"):
        execute(USERS_NODE.replace("mine:Tickets", "mine:Mistaken", 1))
    assert left_over() == []


def test_a_history_that_cannot_be_written_leaves_no_process(execute, monkeypatch):
    def no_room(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Run, "_write_history", no_room)
    with pytest.raises(OSError, match="no space left"):
        execute(USERS_NODE.replace('"4s"', '"1s"'))
    assert left_over() == []


class Impatient(Nobody):
    """Presses Ctrl-C as soon as the first fault is seen in effect."""

    def __init__(self):
        self.steps = []

    def fault(self, event):
        self.steps.append(event["value"]["step"])
        if self.steps.count("in effect") == 1 and self.steps[-1] == "in effect":
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["pause", "kill", "partition"])
def test_ctrl_c_heals_what_is_held_and_leaves_no_process(execute, tmp_path, kind):
    watcher = Impatient()
    with pytest.raises(KeyboardInterrupt):
        execute(SERVICE.format(duration="60s") + fault(kind, target="one", every="1s"), watcher=watcher)
    assert "ended" in watcher.steps
    assert left_over() == []
    (history,) = (tmp_path / "runs" / "latest").glob("history.jsonl")
    assert history.read_text()
