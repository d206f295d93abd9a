"""Entry functions for fork server tests: what a node's process does once it is forked, and node classes for it."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.base.errors import CorruptStorage, UsageError
from testbed.live.procfs import observe
from testbed.node import Node


class Idle(Node):
    """Does nothing."""


class Other(Node):
    """Does nothing either, under another name."""


def play(node_class: type, config: dict[str, Any]) -> None:
    """Runs the part that the configuration names, after saying what it is to the file under "report"."""
    if "report" in config:
        fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        report = {
            "class": node_class.__qualname__,
            "pid": os.getpid(),
            "fds": {fd: _target(fd) for fd in fds},
            "session": os.getsid(0),
            "sigterm_default": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            "sigint_default": signal.getsignal(signal.SIGINT) is signal.SIG_DFL,
            "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "modules": [name for name in ("zmq", "psutil", "cloudpickle") if name in sys.modules],
            "path": sys.path,
            "stdin": os.path.realpath("/proc/self/fd/0"),
            "at": time.monotonic(),
            "extra": node_class.describe_itself() if hasattr(node_class, "describe_itself") else None,
        }
        write(config["report"], report)
    getattr(sys.modules[__name__], "part_" + config.get("part", "sleep"))(config)


def write(path: str, value: Any) -> None:
    """All at once, so that a reader never sees half of it."""
    Path(path + ".new").write_text(json.dumps(value))
    os.replace(path + ".new", path)


def read(path: Any) -> Any:
    """What `write` wrote, once it is there."""
    wait_for(lambda: os.path.exists(path), f"{path} to be written")
    return json.loads(Path(path).read_text())


def wait_for(condition: Callable[[], Any], what: str, deadline: float = 30.0) -> None:
    """Generous: the machine may be busy with other things."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"waited {deadline:.0f} s in vain for {what}"
        time.sleep(0.005)


def dead(pid: int) -> bool:
    """Nothing of it runs or is stopped; an orphan's zombie is for the machine's init to reap."""
    return observe(pid) in ("zombie", "gone")


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "?"


def part_sleep(config: dict[str, Any]) -> None:
    while True:
        time.sleep(1000)


def part_return(config: dict[str, Any]) -> None:
    sys.stdout.write("farewell\n")


def part_exit(config: dict[str, Any]) -> None:
    sys.exit(config["code"])


def part_raise(config: dict[str, Any]) -> None:
    raise ValueError("two\nlines")


def part_corrupt(config: dict[str, Any]) -> None:
    raise CorruptStorage("n1/state.db", "", "file is not a database")


def part_usage(config: dict[str, Any]) -> None:
    raise UsageError("scenario.toml", "cluster.options.speed", "must be positive")


def part_address_in_use(config: dict[str, Any]) -> None:
    raise OSError(errno.EADDRINUSE, "Address already in use")


def part_devour(config: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    blocks = []
    while True:
        blocks.append(bytearray(2**26))


def part_segfault(config: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def part_kill_self(config: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def part_ignore_term(config: dict[str, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(config["started"], os.getpid())
    part_sleep(config)


def part_with_grandchildren(config: dict[str, Any]) -> None:
    """One in the node's process group, one that has left it for a session of its own."""
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    pids = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
    write(config["started"], pids)
    part_sleep(config)


def part_tell_lifeline(config: dict[str, Any]) -> None:
    write(config["started"], _target(config["lifeline"]))
    part_sleep(config)
