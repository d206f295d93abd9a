"""Commands that need no cluster, the console's two ends, and what every command has in common."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from terminals import ROOT, environment, mistake

import chaos.cli
from chaos.cli import call
from chaos.cli.logs import readable
from chaos.console import LINE_BYTES_MAX, Act, Done, Failed, Heal, Place, Server, Status, ask
from testbed.base.errors import UsageError
from testbed.live.cleanup import Leftover


def history(path, *lines):
    path.write_text("".join(json.dumps({"index": i, "time": i, **line}) + "\n" for i, line in enumerate(lines)))
    return str(path)


def write(value, kind="ok", process=0):
    invoked = {"process": process, "type": "invoke", "f": "write", "value": value}
    return invoked, invoked | {"type": kind}


def read(value, process=0):
    return (
        {"process": process, "type": "invoke", "f": "read", "value": None},
        {"process": process, "type": "ok", "f": "read", "value": value},
    )


def called(f, value, result, process=0):
    invoked = {"process": process, "type": "invoke", "f": f, "key": "x", "value": value}
    return invoked, invoked | {"type": "ok", "value": result}


# --- what all have in common ---


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "Missing command"),
        (("bogus",), "no such command 'bogus'"),
        (("statsu",), "did you mean 'status'?"),
        (("--bogus",), "--bogus"),
        (("status",), "no cluster runs in this directory"),
        (("status", "--json"), "no cluster runs in this directory"),
        (("status", "n1"), "n1"),
        (("kill",), "NODE"),
        (("kill", "n1"), "no cluster runs in this directory"),
        (("down",), "no cluster runs in this directory"),
        (("heal",), "no cluster runs in this directory"),
        (("partition",), "GROUP"),
        (("logs",), "no cluster has run in this directory"),
        (("logs", "--follow", "--json"), "--follow"),
        (("up", "missing.toml"), "missing.toml"),
        (("up", "--nodes", "0"), "--nodes"),
        (("up", "--nodes", "32"), "--nodes"),
        (("up", "--seed", "x"), "--seed"),
        (("list",), "faults"),
        (("list", "sins"), "sins"),
        (("check",), "HISTORY"),
        (("check", "missing.jsonl"), "--model"),
        (("check", "missing.jsonl", "--model", "register"), "missing.jsonl"),
        (("check", "missing.jsonl", "--model", "registre"), "did you mean 'register'?"),
        (("check", "missing.jsonl", "--model", "register", "--budget", "soon"), "--budget: 'soon' is not a duration"),
        (("check", "missing.jsonl", "--model", "register", "--initial", "{"), "--initial: '{' is not JSON"),
    ],
)
def test_a_mistake_is_254_and_one_line_that_names_it(terminal, arguments, reason):
    assert reason in mistake(terminal.run(*arguments))
    assert not terminal.place.exists()


def test_a_scenario_with_a_mistake_is_named_with_its_key(terminal):
    (terminal.directory / "bad.toml").write_text('duration = "1s"\n[cluster]\nnodes = 0\n')
    assert "bad.toml: cluster.nodes: must be from 1 to" in mistake(terminal.run("up", "bad.toml"))
    (terminal.directory / "bad.toml").write_text('duration = "1s"\n[cluster]\nnode = "nowhere:Node"\n')
    done = terminal.run("up", "bad.toml")
    assert done.returncode == 254
    assert done.stderr.count("\n") == 1
    assert "nowhere:Node: there is no module nowhere" in done.stderr
    assert terminal.processes() == []


def test_the_script_beside_the_packages_is_the_same_command(terminal):
    command = [sys.executable, str(ROOT / "run.py")]
    told = subprocess.run(
        [*command, "list", "bugs", "--json"], cwd=terminal.directory, capture_output=True, check=True, text=True
    )
    assert "forgets-vote" in [bug["name"] for bug in json.loads(told.stdout)["bugs"]]
    refused = subprocess.run([*command, "status"], cwd=terminal.directory, capture_output=True, text=True)
    assert "no cluster runs" in mistake(refused)


def test_help_and_version_are_good_ends(terminal):
    assert "partition" in terminal.ok("--help").stdout
    assert terminal.ok("--version").stdout.startswith("testbed")
    for name in chaos.cli.COMMANDS:
        assert f"testbed {name}" in terminal.ok(name, "--help").stdout


@pytest.mark.parametrize("arguments", [("--help",), ("status",), ("list", "faults"), ("list", "models")])
def test_commands_beside_a_cluster_load_neither_zeromq_nor_a_terminal_library(terminal, arguments):
    code = (
        "import sys; from chaos.cli import call; call(sys.argv[1:]);"
        "print([m for m in ('zmq', 'rich', 'loguru', 'psutil', 'asyncio', 'multiprocessing') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=terminal.directory,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", done


def test_a_fault_of_our_own_is_255_with_its_place(monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("chaos.formats.read_events", broken)
    assert call(["check", "h.jsonl", "--model", "register"]) == 255
    told = capsys.readouterr()
    assert told.out == ""
    assert "test_commands.py" in told.err
    assert told.err.splitlines()[-1] == "testbed: a fault of the testbed itself: ZeroDivisionError: ours"


def test_ctrl_c_is_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("chaos.formats.read_events", interrupted)
    assert call(["check", "h.jsonl", "--model", "register"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_fault(terminal):
    for arguments in ("list models", "--help"):
        pipe, ours = os.pipe()
        os.close(pipe)
        done = subprocess.run(
            [sys.executable, "-m", "chaos.cli", *arguments.split()],
            cwd=terminal.directory,
            env=environment(),
            stdout=ours,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(ours)
        assert (done.returncode, done.stderr) == (0, "")


# --- check ---


def test_a_verdict_is_an_exit_status(tmp_path, capsys):
    good = history(tmp_path / "good.jsonl", *write(1), *read(1))
    bad = history(tmp_path / "bad.jsonl", *write(1), *read(2))
    for path, model, verdict, status in (
        (good, "register", "valid", 0),
        (good, "cas-register", "valid", 0),
        (bad, "register", "invalid", 1),
    ):
        assert call(["check", path, "--model", model, "--json"]) == status
        told = json.loads(capsys.readouterr().out)
        assert set(told) == {"verdict", "model", "operations", "detail", "seconds"}
        assert (told["verdict"], told["model"], told["operations"]) == (verdict, model, 2)
    assert call(["check", bad, "--model", "register"]) == 1
    assert capsys.readouterr().out.startswith("invalid: register, 2 operations")


def test_operations_of_another_kind_of_thing_are_left_out_and_counted(tmp_path, capsys):
    lapse = {"process": -1, "type": "invoke", "f": "release", "key": "x", "value": 1}
    fault = {"process": "nemesis", "type": "info", "f": "kill", "value": None}
    held = [
        *called("acquire", None, 1),
        *called("read", None, None),
        lapse,
        fault,
        *called("cas", [None, 5], [None, 5]),
    ]
    path = history(tmp_path / "h.jsonl", *held, *called("release", 1, 1), *called("acquire", None, 1, 1))
    for model, verdict, status, left_out in (("fenced-mutex", "invalid", 1, 2), ("cas-register", "valid", 0, 3)):
        assert call(["check", path, "--model", model, "--json"]) == status
        told = json.loads(capsys.readouterr().out)
        assert told["verdict"] == verdict
        assert told["detail"].endswith(f"; {left_out} operations that other models judge were left out")
    only = history(tmp_path / "only.jsonl", *called("acquire", None, 1))
    assert call(["check", only, "--model", "fenced-mutex"]) == 0
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("f", "model"),
    [
        ("dance", "fenced-mutex"),  # nobody knows it
        ("cas", "register"),  # what reads and writes say depends on it
        ("take", "queue"),
        ("acquire", "register"),  # the model knows none of the operations
    ],
)
def test_operations_that_a_model_cannot_do_without_are_a_mistake(tmp_path, capsys, f, model):
    known = {
        "fenced-mutex": [*called("acquire", None, 1)],
        "register": [*write(1)],
        "queue": [*called("enqueue", 1, 1)],
    }
    path = history(tmp_path / "h.jsonl", *([] if f == "acquire" else known[model]), *called(f, 1, 1))
    assert call(["check", path, "--model", model]) == 254
    assert f"model '{model}' does not know f '{f}'" in capsys.readouterr().err


def test_a_budget_that_is_used_up_makes_the_verdict_unknown(tmp_path, capsys):
    lines = []
    for round in range(400):  # many writes of unknown outcome at once: hard, and not decided within a millisecond
        lines += [write(round * 50 + process, "info", process)[0] for process in range(round * 30, round * 30 + 30)]
        lines += read(round * 50 + round * 30, 10**6)
    path = history(tmp_path / "hard.jsonl", *lines)
    assert call(["check", path, "--model", "register", "--budget", "1ms", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "unknown"


def test_the_initial_state_counts(tmp_path, capsys):
    path = history(tmp_path / "h.jsonl", *read(7))
    assert call(["check", path, "--model", "register", "--initial", "7"]) == 0
    assert call(["check", path, "--model", "register"]) == 1
    assert call(["check", path, "--model", "counter", "--initial", '"x"']) == 254
    told = capsys.readouterr().err
    assert "--initial" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ('{"index": 0, "time": 1', "line 1: is no event"),
        ("\x00\xff", "line 1: is no event"),
        ('{"index": 0, "time": 1, "process": 0, "type": "ok", "f": "read", "value": 1}\n', "which it never invoked"),
        ('{"index": 1, "time": 1, "process": 0, "type": "invoke", "f": "read", "value": 1}\n', "lines are missing"),
        ('{"index": 0, "time": 1, "process": 0, "type": "invoke", "f": "dance", "value": 1}\n', "f 'dance'"),
    ],
)
def test_a_damaged_history_is_254_and_one_line(tmp_path, capsys, text, reason):
    path = tmp_path / "h.jsonl"
    path.write_text(text)
    assert call(["check", str(path), "--model", "register", "--json"]) == 254
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "h.jsonl" in told.err
    assert reason in told.err


# --- list ---


def test_everything_there_is_has_a_name_and_a_description(capsys):
    names = {}
    for what in ("faults", "workloads", "models", "bugs"):
        assert call(["list", what, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert list(told) == [what]
        assert all(entry["description"] for entry in told[what])
        names[what] = [entry["name"] for entry in told[what]]
    assert {"kill", "terminate", "pause", "partition", "delay", "loss", "duplicate", "reorder"} == set(names["faults"])
    assert "kv" in names["workloads"]
    assert {"register", "cas-register", "fenced-mutex", "total-queue"} <= set(names["models"])


# --- cleanup ---


def test_cleanup_takes_all_leftovers_or_only_those_of_this_directory(monkeypatch, tmp_path, capsys):
    mine = Leftover(11, 1, "testbed:n1", 9, str(tmp_path / ".testbed"))
    other = Leftover(12, 1, "testbed:n2", 9, "/elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chaos.cli.cleanup.find_leftovers", lambda: [mine, other])
    monkeypatch.setattr("chaos.cli.cleanup.reap", lambda found: [one for one in found if one is other])
    assert call(["cleanup", "--here", "--json"]) == 0
    assert [one["pid"] for one in json.loads(capsys.readouterr().out)["ended"]] == [11]
    assert call(["cleanup", "--json"]) == 2  # one would not end
    told = json.loads(capsys.readouterr().out)
    assert ([one["pid"] for one in told["ended"]], [one["pid"] for one in told["left"]]) == ([11], [12])
    assert told["removed"] == []


# --- the console ---


@pytest.fixture
def served(tmp_path):
    """A place, and a server whose jobs are answered by `answers` (request -> reply) in a thread of their own."""
    directory = tmp_path / ("long" * 20) / ("path" * 20)  # longer than the kernel's 107 bytes for a socket's path
    directory.mkdir(parents=True)
    place = Place(directory)
    place.hold()
    place.announce(("n1",))
    jobs = []
    server = Server(place, jobs.append)
    server.start()
    yield place, jobs
    for job in jobs:
        if job.wait(0) is None:
            job.finish(Failed(254, "over"))
    server.close()
    place.forget()
    place.release()


def answer_next(jobs, reply):
    def answer():
        while not jobs:
            pass
        jobs[-1].finish(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"{}\n",
        b"\xff\x00\n",
        b"[" * 100_000 + b"\n",
        b'{"request": "format"}\n',
        b'{"request": "act", "verb": "melt", "target": "n1"}\n',
        b'{"request": "act", "verb": "kill", "target": 7}\n',
        b'{"request": "heal", "more": 1}\n',
        b"x" * (LINE_BYTES_MAX + 2**17),
        b"",
    ],
)
def test_garbage_is_refused_and_the_next_request_is_served(served, garbage):
    place, jobs = served
    fd = os.open(place.directory, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(f"/proc/self/fd/{fd}/control.sock")
        os.close(fd)
        try:
            link.sendall(garbage)
            link.shutdown(socket.SHUT_WR)
            told = link.recv(65536)
        except (BrokenPipeError, ConnectionResetError):  # it was refused before it was read to its end
            told = b""
    assert told == b"" or b'"status":254' in told
    assert jobs == []
    thread = answer_next(jobs, Done({"links": 0}))
    assert ask(place, Heal()) == {"links": 0}
    thread.join()
    assert [job.request for job in jobs] == [Heal()]


def test_a_refusal_reaches_the_companion_as_its_own_mistake(served):
    place, jobs = served
    thread = answer_next(jobs, Failed(254, "kill: n9: is no node"))
    with pytest.raises(UsageError, match="n9: is no node"):
        ask(place, Act("kill", "n9"))
    thread.join()


def test_a_supervisor_that_is_busy_says_so_until_it_has_an_answer(served, monkeypatch):
    place, jobs = served
    monkeypatch.setattr("chaos.console.SILENCE_S_MAX", 3.0)
    timer = threading.Timer(4.0, lambda: jobs[0].finish(Done({"ready": True})))
    timer.start()
    assert ask(place, Status()) == {"ready": True}
    timer.join()


def test_a_second_holder_is_refused_and_a_lock_file_without_a_holder_is_no_obstacle(tmp_path):
    first = Place(tmp_path)
    first.hold()
    with pytest.raises(UsageError, match=f"pid {os.getpid()}"):
        Place(tmp_path).hold()
    first.release()
    (tmp_path / ".testbed" / "lock").write_text("999999\n")
    second = Place(tmp_path)
    second.hold()
    second.release()


def test_a_card_that_is_damaged_or_of_a_dead_supervisor_is_a_mistake_and_no_fault(tmp_path):
    place = Place(tmp_path)
    place.directory.mkdir()
    place.card.write_text("{")
    with pytest.raises(UsageError, match=r"cluster\.json"):
        ask(place, Status())
    with subprocess.Popen(["true"]) as dead:
        pass
    place.card.write_text(json.dumps({"pid": dead.pid, "started": 1, "nodes": ["n1"]}))
    with pytest.raises(UsageError, match=f"pid {dead.pid}"):
        ask(place, Status())


def test_the_card_and_the_socket_are_for_their_owner_only(served):
    place, _ = served
    assert [path.stat().st_mode & 0o777 for path in (place.card, place.socket)] == [0o600, 0o600]


# --- logs ---


def test_a_damaged_log_line_keeps_its_place(terminal):
    node = terminal.place / "nodes" / "n1"
    node.mkdir(parents=True)
    line = '{"time": %s, "utc": "2026-01-01T00:00:0%s+00:00", "node": "n1", "boot": 1, "level": "INFO", "text": "%s"}\n'
    (node / "log-0001.jsonl").write_text(line % (1.0, 1, "one") + "torn{\n" + line % (3.0, 3, "three") + '{"time": 4')
    supervisor = '{"time": 2.0, "utc": "2026-01-01T00:00:02+00:00", "what": "exit", "node": "n1", "pid": 7}\n'
    (terminal.place / "supervisor.jsonl").write_text(supervisor)
    shown = terminal.ok("logs").stdout.splitlines()
    assert [text for line in shown for text in ("one", "torn{", "exit", "three") if text in line] == [
        "one",
        "torn{",
        "exit",
        "three",
    ]
    assert len(terminal.json("logs", "--lines", "2")["lines"]) == 2
    assert terminal.json("logs", "--lines", "0")["lines"] == []


def test_a_log_line_is_one_line_whatever_it_says():
    entry = {"time": 1.0, "node": "n1", "level": "INFO", "text": "a\nb", "reason": "c\r\nd", "more": {"x": [1]}}
    assert readable(entry) == '       1.000 n1         INFO    a b  reason=c d more={"x":[1]}'
    assert signal.SIGINT.name not in readable(entry)
