"""`testbed check --model module:Class`: models of users' own, and what of a history is none of a model's business."""

import json

import pytest
from terminals import mistake

from chaos.cli import call

CELL = """
from chaos import models

class Cell:
    def step(self, state, call):
        if call.f == "write":
            return call.argument
        return state if call.result == state or not call.known else models.Inconsistent("another value")

class Strict(Cell):
    operations = frozenset({"read", "write"})

ready = Strict()

class Broken(Cell):
    def step(self, state, call):
        raise ValueError("a bug\\nof mine")

class Talks(Cell):
    def step(self, state, call):
        print("hello")
        return super().step(state, call)
"""


def history(path, *operations):
    lines = []
    for f, argument, result in operations:
        for kind, value in (("invoke", argument), ("ok", result)):
            lines.append({"index": len(lines), "time": 0, "process": 0, "type": kind, "f": f, "value": value})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "own_cells.py").write_text(CELL)
    return tmp_path


@pytest.mark.parametrize("name", ["Cell", "Strict", "ready"])
def test_a_model_beside_the_history_judges_it(place, capsys, name):
    right = history(place / "right.jsonl", ("write", 1, 1), ("read", None, 1))
    wrong = history(place / "wrong.jsonl", ("write", 1, 1), ("read", None, 2))
    assert call(["check", right, "--model", f"own_cells:{name}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["model"], told["operations"]) == ("valid", f"own_cells:{name}", 2)
    assert call(["check", wrong, "--model", f"own_cells:{name}"]) == 1
    assert call(["check", wrong, "--model", f"own_cells:{name}", "--initial", "3"]) == 1


def test_the_initial_state_is_that_of_the_command_line(place):
    path = history(place / "h.jsonl", ("read", None, [3, 4]))
    assert call(["check", path, "--model", "own_cells:Cell"]) == 1
    assert call(["check", path, "--model", "own_cells:Cell", "--initial", "[3, 4]"]) == 0


def test_beside_the_history_comes_before_the_current_directory_and_that_before_all_else(place, capsys):
    other = CELL.replace("call.argument", "'never'")
    (place / "elsewhere" / "own_cells.py").write_text(other)
    (place / "elsewhere" / "my_own_cells.py").write_text(other)
    path = history(place / "h.jsonl", ("write", 1, 1), ("read", None, 1))
    assert call(["check", path, "--model", "own_cells:Cell"]) == 0
    assert call(["check", path, "--model", "my_own_cells:Cell"]) == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("nowhere:Cell", "check: --model: there is no module 'nowhere'"),
        ("own_cells:Shell", "check: --model: module 'own_cells' has no 'Shell'"),
        ("own_cells:models", "check: --model: model 'own_cells:models': it has no method step"),
        ("own_cells:Broken", "check: --model: model 'own_cells:Broken': step fails at write 1 -> 1 (process 0,"),
        (":Cell", "check: --model: "),
        ("registre", "check: --model: there is no model 'registre'"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(place, capsys, model, reason):
    path = history(place / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", model, "--json"]) == 254
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert reason in said.err


def test_an_initial_state_that_a_model_refuses_is_named(place, capsys):
    (place / "picky.py").write_text(CELL + "    def initial(self, given):\n        return {}\n")
    path = history(place / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", "picky:Talks"]) == 254
    assert "model 'picky:Talks': the initial state cannot be hashed" in capsys.readouterr().err


def test_what_a_model_prints_does_not_spoil_the_answer(terminal, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (terminal.directory / "own_cells.py").write_text(CELL)
    history(terminal.directory / "h.jsonl", ("write", 1, 1))
    done = terminal.ok("check", "h.jsonl", "--model", "own_cells:Talks", "--json")
    assert json.loads(done.stdout)["verdict"] == "valid"
    assert "hello\n" in done.stderr
    shown = terminal.ok("check", "h.jsonl", "--model", "own_cells:Talks").stdout
    assert shown.startswith("hello\n")
    assert "valid: own_cells:Talks" in shown


def test_a_traceback_of_a_users_mistake_is_not_shown(terminal):
    (terminal.directory / "own_cells.py").write_text(CELL)
    history(terminal.directory / "h.jsonl", ("write", 1, 1))
    assert "ValueError: a bug of mine" in mistake(terminal.run("check", "h.jsonl", "--model", "own_cells:Broken"))


# --- what is left out ---


def test_a_model_that_names_its_operations_leaves_those_of_others_out(place, capsys):
    path = history(place / "h.jsonl", ("write", 1, 1), ("acquire", None, 2), ("read", None, 1), ("enqueue", 1, 1))
    assert call(["check", path, "--model", "own_cells:Strict", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["operations"] == 2
    assert told["detail"].endswith("; 2 operations that other models judge were left out")
    assert call(["check", path, "--model", "own_cells:Cell", "--json"]) == 1  # it claims to know them all
    told = json.loads(capsys.readouterr().out)
    assert told["operations"] == 4
    assert "left out" not in told["detail"]


@pytest.mark.parametrize("model", ["register", "own_cells:Strict"])
def test_a_model_is_not_applied_to_a_history_without_its_operations(place, capsys, model):
    path = history(place / "h.jsonl", ("acquire", None, 1), ("release", None, 1))
    assert call(["check", path, "--model", model]) == 254
    assert f"model {model!r} does not know f 'acquire'; it knows read, write" in capsys.readouterr().err


@pytest.mark.parametrize("f", ["dance", "cas"])
def test_operations_that_a_users_model_cannot_do_without_are_a_mistake(place, capsys, f):
    path = history(place / "h.jsonl", ("write", 1, 1), (f, 1, 1))
    assert call(["check", path, "--model", "own_cells:Strict"]) == 254
    assert f"model 'own_cells:Strict' does not know f {f!r}" in capsys.readouterr().err
