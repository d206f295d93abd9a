"""SV9: how every end of a process reads in words."""

import errno
import signal

import pytest

from testbed.base.errors import CorruptStorage, UsageError
from testbed.live.exits import (
    EXIT_ADDRESS_IN_USE,
    EXIT_CORRUPT_STORAGE,
    EXIT_CRASHED,
    EXIT_OUT_OF_MEMORY,
    EXIT_USAGE,
    LAST_WORDS_BYTES_MAX,
    OomWatch,
    classify,
    code_for,
    decode,
    oom_kills,
)


def exited(code):
    return code << 8


def killed(signum, core=False):
    return int(signum) | (0x80 if core else 0)


TABLE = [
    # status, asked, oom, last words, reason, kind
    (exited(0), None, False, "", "exited with code 0", "clean"),
    (exited(3), None, False, "", "exited with code 3", "failed"),
    (exited(1), None, False, "no more", "exited with code 1: no more", "failed"),
    (exited(0), "stop", False, "", "stopped as asked", "stopped"),
    (killed(signal.SIGTERM), "stop", False, "", "stopped as asked", "stopped"),
    (killed(signal.SIGKILL), "stop", False, "", "stopped as asked", "stopped"),
    (killed(signal.SIGKILL), "kill", False, "", "killed by fault", "fault"),
    (killed(signal.SIGKILL), None, False, "", "killed by signal SIGKILL", "failed"),
    (killed(signal.SIGKILL), None, True, "", "out of memory (killed by the kernel)", "failed"),
    (
        killed(signal.SIGKILL),
        None,
        False,
        "its fork server ended",
        "killed by signal SIGKILL: its fork server ended",
        "failed",
    ),
    (killed(signal.SIGTERM), None, False, "", "killed by signal SIGTERM", "failed"),
    (killed(signal.SIGTERM), "kill", False, "", "killed by signal SIGTERM", "failed"),
    (killed(signal.SIGSEGV), None, False, "", "killed by signal SIGSEGV", "failed"),
    (killed(signal.SIGSEGV, core=True), None, False, "", "killed by signal SIGSEGV (core dumped)", "failed"),
    (killed(signal.SIGSEGV), "stop", False, "", "killed by signal SIGSEGV", "failed"),
    (killed(35), None, False, "", "killed by signal 35", "failed"),
    (exited(EXIT_CRASHED), None, False, "ValueError: no", "crashed: ValueError: no", "failed"),
    (exited(EXIT_CRASHED), "kill", False, "ValueError: no", "crashed: ValueError: no", "failed"),
    (exited(EXIT_CRASHED), "stop", False, "ValueError: no", "crashed: ValueError: no", "failed"),
    (exited(EXIT_CRASHED), None, False, "", "exited with code 70", "failed"),
    (exited(0), "kill", False, "", "exited with code 0", "clean"),
    (exited(EXIT_OUT_OF_MEMORY), None, False, "MemoryError", "out of memory (MemoryError)", "failed"),
    (exited(EXIT_CORRUPT_STORAGE), None, False, "n1/db: torn", "corrupt storage: n1/db: torn", "failed"),
    (exited(EXIT_ADDRESS_IN_USE), None, False, "port 1", "address in use: port 1", "failed"),
    (exited(EXIT_USAGE), None, False, "a.toml: x", "usage error: a.toml: x", "failed"),
]


@pytest.mark.parametrize(("status", "asked", "oom", "words", "reason", "kind"), TABLE)
def test_every_end_has_its_words_and_its_kind(status, asked, oom, words, reason, kind):
    assert (decode(status, asked, oom, words), classify(status, asked)) == (reason, kind)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("two\n  lines"), EXIT_CRASHED, "ValueError: two lines"),
        (KeyError(), EXIT_CRASHED, "KeyError"),
        (MemoryError(), EXIT_OUT_OF_MEMORY, "MemoryError"),
        (CorruptStorage("n1/db", "", "torn"), EXIT_CORRUPT_STORAGE, "n1/db: torn"),
        (UsageError("a.toml", "x", "bad"), EXIT_USAGE, "a.toml: x: bad"),
        (OSError(errno.EADDRINUSE, "in use"), EXIT_ADDRESS_IN_USE, f"[Errno {errno.EADDRINUSE}] in use"),
        (OSError(errno.ENOSPC, "full"), EXIT_CRASHED, f"OSError: [Errno {errno.ENOSPC}] full"),
        (SystemExit(), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("no\nmore"), 1, "no more"),
    ],
)
def test_every_exception_has_its_code_and_its_words(error, code, words):
    assert code_for(error) == (code, words)


def test_an_occupied_zeromq_port_is_recognised():
    import zmq

    assert code_for(zmq.ZMQError(zmq.EADDRINUSE))[0] == EXIT_ADDRESS_IN_USE


def test_last_words_fit_the_pipe_whatever_was_raised():
    _, words = code_for(ValueError("é" * 100_000))
    assert LAST_WORDS_BYTES_MAX - 2 <= len(words.encode()) <= LAST_WORDS_BYTES_MAX


class Kernel:
    """An OOM counter and a clock, both set by hand."""

    def __init__(self, kills):
        self.kills = kills
        self.now = 0.0

    def watch(self):
        return OomWatch(lambda: self.kills, lambda: self.now)


def test_without_an_oom_kill_nothing_is_blamed_on_the_kernel():
    assert not Kernel(4).watch().claim()


def test_one_oom_kill_explains_one_exit():
    kernel = Kernel(4)
    watch = kernel.watch()
    kernel.kills = 5
    assert [watch.claim(), watch.claim()] == [True, False]


def test_an_oom_kill_counted_before_the_last_tick_still_explains_the_exit_seen_after_it():
    kernel = Kernel(4)
    watch = kernel.watch()
    kernel.kills = 5
    kernel.now += OomWatch.TICK_S
    watch.tick()
    assert watch.claim()


def test_an_oom_kill_of_two_ticks_ago_explains_nothing():
    kernel = Kernel(4)
    watch = kernel.watch()
    kernel.kills = 5
    for _ in range(2):
        kernel.now += OomWatch.TICK_S
        watch.tick()
    assert not watch.claim()


def test_ticks_in_quick_succession_do_not_shorten_the_memory():
    kernel = Kernel(4)
    watch = kernel.watch()
    kernel.kills = 5
    for _ in range(100):
        watch.tick()
    assert watch.claim()


def test_the_machines_counter_is_readable_here():
    with open("/proc/vmstat") as file:
        counted = next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    assert oom_kills() >= counted
