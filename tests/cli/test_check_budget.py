"""`testbed check` answers within its time and its memory, whatever the history or a user's model does.

Where a budget is short here, it is because the test has to wait for its end; no test measures how long anything took.
"""

import errno
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback

import pytest
from terminals import PATIENCE_S, environment, mistake

from chaos.checkers import Explanation
from chaos.cli import call
from chaos.cli.bounded import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, Outcome, parse_size, run_bounded
from chaos.cli.judge import _Judging as Judging
from chaos.cli.judge import _Question as Question
from testbed.base.errors import UsageError
from testbed.live import clock
from testbed.live.procfs import children_of, observe

MEMORY_BYTES = 64 * 10**6


def bounded(work, so_far=lambda: None, seconds=PATIENCE_S):
    """`work` takes no argument here: it tells nothing of its own accord."""
    return run_bounded(lambda _: work(), so_far, clock.now() + seconds, MEMORY_BYTES)


def for_ever():
    while True:
        pass


def eat():
    eaten = []
    while True:
        eaten.append(bytearray(2**20))


def is_gone(pid):
    return observe(pid) in ("gone", "zombie")


def event(index, process, kind, f, value, **more):
    return json.dumps({"index": index, "time": index, "process": process, "type": kind, "f": f, "value": value, **more})


def history(path, *operations):
    """A file of operations one after the other: (f, argument, result)."""
    lines = []
    for f, argument, result in operations:
        lines.append(event(len(lines), 0, "invoke", f, argument))
        lines.append(event(len(lines), 0, "ok", f, result))
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def hard(path):
    """A history that nobody decides soon: which of forty adds of unknown outcome make up a sum that was read?"""
    lines = [event(n, n, "invoke", "add", 10**15 + pow(7919, n + 2, 10**15)) for n in range(40)]
    lines.append(event(40, 40, "invoke", "read", None))
    lines.append(event(41, 40, "ok", "read", 30 * 10**15 + 123456789))
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def told(capsys):
    return json.loads(capsys.readouterr().out)


# --- the child ---


def test_what_a_child_returns_is_the_answer_however_long_it_is():
    assert bounded(lambda: {"a": ["x" * 10**6, None]}) == Outcome("answer", {"a": ["x" * 10**6, None]})


def test_a_child_that_is_late_is_killed_and_what_it_told_last_is_kept():
    began = clock.now()
    ended = bounded(for_ever, lambda: [os.getpid(), clock.now() - began], seconds=0.5)
    pid, at = ended.value
    assert ended.kind == "late"
    assert at > 0.1  # not only at the start
    assert is_gone(pid)
    with pytest.raises(ChildProcessError):  # reaped, too
        os.waitpid(pid, os.WNOHANG)


def test_a_child_can_tell_before_a_step_that_no_signal_interrupts():
    steps = []

    def work(tell):
        steps.append("long")
        tell()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        steps.append("over")
        for_ever()

    assert run_bounded(work, lambda: steps, clock.now() + 0.2, MEMORY_BYTES) == Outcome("late", ["long"])


def test_a_child_that_waits_for_something_is_late_as_well():
    def wait():
        os.read(os.pipe()[0], 1)

    assert bounded(wait, os.getpid, seconds=0.2).kind == "late"


def test_memory_that_does_not_suffice_is_no_fault():
    assert bounded(eat, lambda: "half").kind == "starved"
    assert bounded(eat, lambda: "half").value == "half"


def test_memory_that_does_not_suffice_is_recognised_behind_other_errors():
    def hidden():
        try:
            eat()
        except Exception:
            raise UsageError("file", "key", "another reason") from None

    assert bounded(hidden).kind == "starved"


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_by_signal_is_want_of_memory_if_much_was_taken_and_else_a_fault(signum):
    def die(taken):
        faulthandler.disable()  # it would say much about what is meant to be
        held = b"x" * taken
        os.kill(os.getpid(), signum)
        return len(held)

    assert bounded(lambda: die(MEMORY_BYTES * 3 // 4)).kind == "starved"
    with pytest.raises(ChildProcessError, match=signal.Signals(signum).name):
        bounded(lambda: die(0))


def test_a_child_that_leaves_without_an_answer_is_a_fault():
    with pytest.raises(ChildProcessError, match="code 3"):
        bounded(lambda: os._exit(3))


def test_a_mistake_is_raised_as_it_was():
    def refuse():
        raise UsageError("file", "line 3", "is\nwrong")

    with pytest.raises(UsageError) as raised:
        bounded(refuse)
    assert (raised.value.where, raised.value.key, raised.value.reason) == ("file", "line 3", "is\nwrong")


def test_any_other_error_bears_its_name_and_the_childs_traceback():
    class Odd(Exception):
        pass

    def fail():
        raise Odd("so")

    with pytest.raises(Exception, match="so") as raised:
        bounded(fail)
    assert str(raised.value) == "so"
    assert type(raised.value).__name__ == "Odd"
    assert "in fail" in "".join(traceback.format_exception(raised.value)).partition("\nTraceback")[2]


def test_an_interrupt_in_the_child_is_one():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bounded(interrupt)


def test_no_descriptor_is_left():
    def count():
        return len(os.listdir("/proc/self/fd"))

    bounded(lambda: 1)
    before = count()
    for _ in range(3):
        bounded(lambda: 1)
        bounded(for_ever, seconds=0.01)
    assert count() == before


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 * 10**6), ("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("1024KiB", 2**20), ("16TiB", 2**44)],
)
def test_sizes_are_as_people_write_them(text, size):
    assert parse_size(text) == size
    assert MEMORY_BYTES_MIN <= size <= MEMORY_BYTES_MAX


@pytest.mark.parametrize("text", ["", "2", "2G", "GB", "-1GB", "2 GB", "2GBs", "0GB", "1KB", "17TiB", "9" * 400 + "TB"])
def test_absurd_sizes_are_refused(text):
    with pytest.raises(ValueError, match=r"is not (a size|from)"):
        parse_size(text)


# --- what is asked ---


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--budget", "0s"), "--budget: must be more than nothing and at most a week, not '0s'"),
        (("--budget", "-1s"), "--budget: '-1s' is not a duration"),
        (("--budget", "20000m"), "--budget: must be more than nothing and at most a week"),
        (("--budget", "9" * 400 + "s"), "--budget: must be more than nothing and at most a week"),
        (("--memory", "0MB"), "--memory: '0MB' is not from"),
        (("--memory", "lots"), "--memory: 'lots' is not a size"),
        (("--minimal", "missing/h.jsonl"), "missing/h.jsonl: --minimal: there is no directory 'missing'"),
        (("--minimal", "."), ".: --minimal: is a directory"),
        (("--minimal", "least.txt"), "least.txt: --minimal: ends in none of .jsonl"),
        (("--minimal", "h.jsonl"), "h.jsonl: --minimal: is the history itself"),
    ],
)
def test_a_limit_that_makes_no_sense_is_a_mistake(tmp_path, monkeypatch, capsys, arguments, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chaos.cli.bounded.run_bounded", None)  # nothing is begun
    history(tmp_path / "h.jsonl", ("read", None, 1))
    assert call(["check", "h.jsonl", "--model", "register", *arguments]) == 254
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert reason in said.err


# --- time ---


def test_a_tiny_budget_makes_the_verdict_unknown(tmp_path, capsys):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", "register", "--budget", "1ms", "--json"]) == 2
    assert told(capsys)["verdict"] == "unknown"
    assert call(["check", path, "--model", "register", "--budget", "0.0001ms"]) == 2
    assert capsys.readouterr().out.splitlines()[1] == "the budget ran out before the history was read"


def test_a_hard_history_is_given_up_in_time_with_what_was_decided(tmp_path, capsys):
    path = hard(tmp_path / "h.jsonl")
    assert call(["check", path, "--model", "counter", "--budget", "500ms", "--json"]) == 2
    verdict = told(capsys)
    assert list(verdict) == ["verdict", "model", "operations", "detail", "seconds"]
    assert (verdict["verdict"], verdict["model"], verdict["operations"]) == ("unknown", "counter", 41)
    assert "the budget ran out" in verdict["detail"]


def test_the_check_gives_up_by_itself_when_the_budget_is_used_up(tmp_path):
    question = Question(hard(tmp_path / "h.jsonl"), "counter", None, None, clock.now() + 0.2, 10**9)
    assert Judging(question).verdict(lambda: None)["verdict"] == "unknown"


ENDLESS = """
import os

class Endless:
    def step(self, state, call):
        if call.argument == 3:
            with open("pid", "w") as file:
                file.write(str(os.getpid()))
            while True:
                try:
                    while True:
                        pass
                except Exception:
                    pass
        return call.argument
"""


def test_a_step_that_never_ends_is_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless_model.py").write_text(ENDLESS)
    path = history(tmp_path / "h.jsonl", *(("write", number, number) for number in range(5)))
    assert call(["check", path, "--model", "endless_model:Endless", "--budget", "2s", "--json"]) == 2
    verdict = told(capsys)
    assert (verdict["verdict"], verdict["model"]) == ("unknown", "endless_model:Endless")
    assert verdict["operations"] == 5
    assert verdict["detail"] == (
        "the budget ran out while it was judged:"
        " 10 events read, 0 of 1 keys decided, 0 of 5 operations put into an order"
    )
    assert is_gone(int((tmp_path / "pid").read_text()))


SPEECHLESS = """
from chaos import models


class Speechless:
    initial = 0

    def step(self, state, call):
        if call.f == "write":
            return call.argument
        return state if state == call.result else models.Inconsistent("another value")

    def describe(self, state):
        while True:
            pass
"""


def test_what_is_known_to_be_invalid_is_so_even_if_there_is_no_time_to_explain_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "speechless.py").write_text(SPEECHLESS)
    path = history(tmp_path / "h.jsonl", ("write", 1, 1), ("read", None, 2))
    assert call(["check", path, "--model", "speechless:Speechless", "--budget", "2s", "--json"]) == 1
    verdict = told(capsys)
    assert verdict["verdict"] == "invalid"
    assert verdict["detail"].startswith(
        "on the unnamed key no order explains all: read -> 2 (process 0, events 2 to 3)"
    )


def test_a_module_that_never_ends_is_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless_module.py").write_text("while True: pass\n")
    path = history(tmp_path / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", "endless_module:Model", "--budget", "500ms"]) == 2
    assert capsys.readouterr().out.splitlines()[1] == "the budget ran out before the history was read"


def test_a_pipe_in_which_nothing_comes_any_more_is_left(tmp_path, capsys):
    path = tmp_path / "h.jsonl"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    for number in range(100):
        line = event(number, number // 2, "ok" if number % 2 else "invoke", "write", number // 2)
        os.write(writer, line.encode() + b"\n")
    try:
        assert call(["check", str(path), "--model", "register", "--budget", "500ms", "--json"]) == 2
    finally:
        os.close(writer)
    verdict = told(capsys)
    assert verdict["verdict"] == "unknown"
    assert verdict["detail"].startswith("the budget ran out while the history was read: ")


def test_a_history_that_never_ends_is_given_up(tmp_path):
    endless = (
        "import itertools, json\n"
        "for n in itertools.count():\n"
        "    for type in ('invoke', 'ok'):\n"
        "        print(json.dumps({'index': 2 * n + (type == 'ok'), 'time': n, 'process': 0, 'type': type,"
        " 'f': 'write', 'value': n}))\n"
    )
    with subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
        done = subprocess.run(
            [sys.executable, "-m", "chaos.cli", "check", "-", "--model", "register", "--budget", "500ms", "--json"],
            stdin=source.stdout,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        source.kill()
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["verdict"] == "unknown"


# --- memory ---

GLUTTON = """
class Glutton:
    eaten = []

    def step(self, state, call):
        while True:
            self.eaten.append(bytearray(2**20))
"""


def test_a_model_that_eats_all_memory_makes_the_verdict_unknown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glutton_model.py").write_text(GLUTTON)
    path = history(tmp_path / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", "glutton_model:Glutton", "--memory", "64MB", "--json"]) == 2
    verdict = told(capsys)
    assert verdict["verdict"] == "unknown"
    assert verdict["detail"].startswith("memory limit reached while it was judged: 2 events read")


def test_a_line_that_does_not_fit_into_memory_makes_the_verdict_unknown(tmp_path, capsys):
    path = tmp_path / "h.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"index": 0, "value": "')
        file.truncate(250 * 10**6)  # a hole: it takes no disk
    assert call(["check", str(path), "--model", "register", "--memory", "64MB"]) == 2
    assert "memory limit reached while the history was read: 0 events read" in capsys.readouterr().out


# --- the answer ---


def test_a_mistake_in_the_history_is_the_same_one_line(terminal):
    (terminal.directory / "h.jsonl").write_text('{"index": 0')
    assert "h.jsonl: line 1: " in mistake(terminal.run("check", "h.jsonl", "--model", "register"))


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_the_exit_status_tells_even_if_nobody_reads_the_answer(tmp_path, more):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1), ("read", None, 2))
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "chaos.cli", "check", path, "--model", "register", *more]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE_S)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_standard_input_can_be_judged(tmp_path):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1), ("read", None, 1))
    with open(path) as file:
        done = subprocess.run(
            [sys.executable, "-m", "chaos.cli", "check", "-", "--model", "register"],
            stdin=file,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("valid: register, 2 operations")


def test_an_invalid_verdict_is_explained_in_words_and_on_request_as_data(tmp_path, capsys):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1), ("read", None, 1), ("write", 5, 5), ("read", None, 2))
    assert call(["check", path, "--model", "register", "--json"]) == 1
    brief = told(capsys)
    assert list(brief) == ["verdict", "model", "operations", "detail", "seconds"]
    assert call(["check", path, "--model", "register", "--json", "--explain"]) == 1
    verdict = told(capsys)
    explanation = verdict["explanation"]
    assert {**verdict, "seconds": 0} == {**brief, "seconds": 0, "explanation": explanation}
    assert list(explanation) == list(Explanation.__struct_fields__)
    assert (explanation["key"], explanation["prefix"], explanation["shortest"]) == (None, 8, True)
    assert {"index": 7, "time": 7, "process": 0, "type": "ok", "f": "read", "value": 2} in explanation["minimal"]
    for more in [], ["--explain"]:
        assert call(["check", path, "--model", "register", *more]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("invalid: register, 4 operations")
        assert f"no order explains {explanation['operation']}" in lines[1]
        assert "  prefix     the first 8 events are the fewest that nothing explains" in lines
        assert f"  broken by  {explanation['operation']}" in lines
        assert "  open then  nothing else" in lines
        assert [line.split(maxsplit=1)[0] for line in lines if line[:2] == "  " and line[2] != " "][-1] == "minimal"
        assert any(line.endswith("read -> 2 (process 0, events 6 to 7)") for line in lines[-4:])


def test_what_is_not_invalid_has_no_explanation(tmp_path, capsys):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1), ("read", None, 1))
    assert call(["check", path, "--model", "register", "--json", "--explain"]) == 0
    assert told(capsys)["explanation"] is None
    assert call(["check", path, "--model", "register", "--explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert call(["check", path, "--model", "register", "--json", "--explain", "--budget", "0.0001ms"]) == 2
    assert told(capsys)["explanation"] is None


def test_the_minimal_part_is_a_history_that_is_invalid_by_itself(tmp_path, capsys):
    path = history(tmp_path / "h.jsonl", *(("write", number, number) for number in range(9)), ("read", None, 2))
    least = str(tmp_path / "least.jsonl")
    assert call(["check", path, "--model", "register", "--minimal", least]) == 1
    assert capsys.readouterr().out.endswith(f"the minimal part is in {least}\n")
    assert call(["check", least, "--model", "register", "--json"]) == 1
    assert told(capsys)["operations"] < 10


def test_no_minimal_part_is_written_of_a_valid_history(tmp_path):
    path = history(tmp_path / "h.jsonl", ("write", 1, 1))
    assert call(["check", path, "--model", "register", "--minimal", str(tmp_path / "least.jsonl")]) == 0
    assert os.listdir(tmp_path) == ["h.jsonl"]


# --- the end of it ---


@pytest.fixture
def stuck(tmp_path):
    """A check that waits for its history, and its child."""
    path = tmp_path / "h.jsonl"
    os.mkfifo(path)
    checking = subprocess.Popen(
        [sys.executable, "-m", "chaos.cli", "check", str(path), "--model", "register", "--budget", "5m"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with Writer(path) as writer:
            until(lambda: writer.is_open() or checking.poll() is not None)
            assert checking.poll() is None, checking.communicate()
            (child,) = children_of(checking.pid)
            yield checking, child
    finally:
        checking.kill()
        checking.communicate()


class Writer:
    """The writing end of a named pipe: it can be opened once somebody waits to read from it."""

    def __init__(self, path):
        self.path = path
        self.descriptor = None

    def is_open(self):
        try:
            self.descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return self.descriptor is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.descriptor is not None:
            os.close(self.descriptor)


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_ends_both(stuck):
    checking, child = stuck
    os.killpg(checking.pid, signal.SIGINT)  # as a terminal does
    assert checking.wait(PATIENCE_S) == 130
    assert checking.communicate() == ("", "")
    assert is_gone(child)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent(stuck, signum):
    checking, child = stuck
    checking.send_signal(signum)
    assert checking.wait(PATIENCE_S) == -signum
    until(lambda: is_gone(child))
