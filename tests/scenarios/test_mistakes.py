"""Mistakes in a user's own code, and what a run makes of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NODE = """
from testbed import Node

class Answering(Node):
    def on_request(self, request, body):
        self.reply(request, {reply})
    def on_stop(self):
        {stop}
        return True
"""
WORKLOAD = """
from chaos import Op, Workload

class Asking(Workload):
    model = {model!r}
    def client(self, number, random):
        while True:
            yield Op("generate", value={value}, request=number)
            {after}
"""
SCENARIO = """
duration = "2s"
[cluster]
nodes = {nodes}
node = "nodes:Answering"
[[workload]]
kind = "loads:Asking"
clients = 2
rate = 50
"""


def run(
    directory: Path,
    reply: str = "self.random.random()",
    stop: str = "pass",
    model: str = "unique-ids",
    value: str = "None",
    after: str = "pass",
    nodes: int = 1,
    options: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    (directory / "nodes.py").write_text(NODE.format(reply=reply, stop=stop))
    (directory / "loads.py").write_text(WORKLOAD.format(model=model, value=value, after=after))
    (directory / "some.toml").write_text(SCENARIO.format(nodes=nodes))
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "run", "some.toml", "--json", *options],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}


def test_a_run_without_mistakes_is_valid(tmp_path: Path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_node_that_raises_while_it_stops_makes_the_run_invalid(tmp_path: Path):
    done = run(tmp_path, stop="raise ValueError('boom')")
    assert done.returncode == 1, done.stderr
    assert verdicts(done)["crashes"] == "invalid"


@pytest.mark.parametrize("reply", ["b'bytes'", "float('nan')", "{1: 2}", "{3}"])
def test_a_reply_that_json_cannot_hold_is_a_crash_of_the_node(tmp_path: Path, reply: str):
    done = run(tmp_path, reply=reply)
    assert done.returncode == 1, done.stderr
    assert verdicts(done)["crashes"] == "invalid"


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"model": "nosuch"}, "some.toml: workload[1].kind: there is no model 'nosuch'"),
        ({"value": "object()"}, "a history holds only what JSON can"),
        ({"after": "raise SystemExit(0)"}, "SystemExit: 0"),
        ({"after": "raise KeyError('x')"}, "KeyError: 'x'"),
        ({"options": ("--seed", "99999999999999999999")}, "--seed"),
    ],
)
def test_a_mistake_of_the_caller_is_one_line_and_254(tmp_path: Path, mistake: dict, said: str):
    done = run(tmp_path, **mistake)
    assert (done.returncode, done.stdout) == (254, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    ("command", "kind", "key", "said"),
    [
        ("run", "queue", "visibility = 1", "visibility: 1 is not a duration such as"),
        ("run", "queue", 'lease = "1s"', "lease: unknown key"),
        ("sim", "lock", 'lease = "0s"', "lease: must be longer than zero"),
        ("sim", "lock", 'fenced = "no"', "fenced: must be true or false, not 'no'"),
        (
            "run",
            "locks",
            'lease = "1s"',
            "kind: no workload 'locks', and not \"module:Class\" either; did you mean 'lock'?",
        ),
    ],
)
def test_a_mistake_in_a_workloads_own_key_is_one_line_and_254(
    tmp_path: Path, command: str, kind: str, key: str, said: str
):
    (tmp_path / "own.toml").write_text(f'duration = "2s"\n[[workload]]\nkind = "{kind}"\n{key}\n')
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), command, "own.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (254, "", 1)
    assert f"own.toml: workload[1].{said}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]


def test_a_module_that_exits_when_it_is_imported_is_a_mistake_of_the_caller(tmp_path: Path):
    run(tmp_path)
    (tmp_path / "loads.py").write_text("raise SystemExit(0)")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "run", "some.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 254
    assert "workload[1].kind: importing loads fails: SystemExit: 0" in done.stderr


def test_something_else_called_latest_is_not_overwritten(tmp_path: Path):
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    done = run(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (254, 1)
    assert "runs/latest: --out" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["latest"]


def test_two_workloads_of_one_kind_use_keys_of_their_own(tmp_path: Path):
    (tmp_path / "two.toml").write_text(
        'duration = "3s"\n[cluster]\nnodes = 1\n' + 2 * '[[workload]]\nkind = "kv"\nclients = 2\nrate = 100\n'
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "run", "two.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
