"""What can be done to processes: stopped, ended, started, looked at, kept apart."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from chaos.doctor.finding import LIVE, Asked, Finding
from testbed.live import clock

T = TypeVar("T")

FORK_SERVER_S_MAX: Final = 30.0
SEEN_S_MAX: Final = 5.0

_SLEEPER: Final = "print('up', flush=True); import time; time.sleep(60)"

_PARENT: Final = """
import os, time
from testbed.live.forkserver import die_with_parent
me, (read, write) = os.getpid(), os.pipe()
pid = os.fork()
if pid == 0:
    die_with_parent(9, me)
    os.write(write, b"x")
    time.sleep(60)
    os._exit(0)
os.read(read, 1)
print(pid, flush=True)
time.sleep(60)
"""

_NAMESPACES: Final = """
import ctypes, os
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
print(os.strerror(ctypes.get_errno()) if failed else "", flush=True)
"""


def child(code: str) -> "subprocess.Popen[str]":
    """A Python that runs this; it finds the modules that are found here."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _first_line(of: "subprocess.Popen[str]") -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def _seen(condition: Callable[[], bool]) -> float | None:
    """Seconds until it held; None if it did not within SEEN_S_MAX."""
    began = clock.now()
    while not condition():
        if clock.now() - began > SEEN_S_MAX:
            return None
        clock.sleep(0.001)
    return clock.now() - began


def pidfd(_: Asked) -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        meaning = (
            "processes cannot be ended without meeting a stranger: Linux 5.3 and Python's os.pidfd_open are needed"
        )
        return Finding("pidfd", "bad", str(error), meaning, (*LIVE, "cleanup"))
    return Finding("pidfd", "good", "works")


def signals(_: Asked) -> Finding:
    """Whether what SIGSTOP, SIGCONT and SIGKILL do to a process is seen in /proc."""
    from testbed.live.procfs import observe

    unseen, slowest = [], 0.0
    with child(_SLEEPER) as one:
        try:
            _first_line(one)
            for signum, states in (
                (signal.SIGSTOP, ("stopped",)),
                (signal.SIGCONT, ("running",)),
                (signal.SIGKILL, ("zombie", "gone")),
            ):
                one.send_signal(signum)
                seconds = _seen(lambda states=states: observe(one.pid) in states)  # type: ignore[misc]
                if seconds is None:
                    unseen.append(signum.name)
                else:
                    slowest = max(slowest, seconds)
        finally:
            one.kill()
    if unseen:
        meaning = "the faults pause and kill cannot be verified here, and will be counted as not applied"
        return Finding(
            "signals", "doubtful", f"{', '.join(unseen)}: not seen in /proc", meaning, (*LIVE, "pause", "kill")
        )
    return Finding("signals", "good", f"stop, continue and kill seen within {slowest * 1000:.1f} ms")


def parent_death(_: Asked) -> Finding:
    from testbed.live.procfs import kill_exactly, observe, process_start_time

    with child(_PARENT) as parent:
        try:
            orphan = int(_first_line(parent))
            born = process_start_time(orphan)
            lived = born is not None and observe(orphan) == "running"
        finally:
            parent.kill()
    seconds = _seen(lambda: observe(orphan) in ("zombie", "gone") or process_start_time(orphan) != born)
    if not lived or seconds is None:
        kill_exactly(orphan, born)
        meaning = "only the lifeline pipe ends nodes whose supervisor was killed; testbed cleanup ends the rest"
        return Finding("parent-death signal", "doubtful", "does not come", meaning, LIVE)
    return Finding("parent-death signal", "good", f"comes within {seconds * 1000:.1f} ms")


def loopback(_: Asked) -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2], 5):
        return Finding("loopback", "good", f"127.0.0.1, port {server.getsockname()[1]}")


def fork_server(_: Asked) -> Finding:
    from testbed.live.nodeclass import describe
    from testbed.live.processes import Failed, ForkServer, Ready

    found = f"not ready within {FORK_SERVER_S_MAX:g} s"
    with tempfile.TemporaryDirectory(prefix="testbed-doctor-") as directory:
        began = clock.now()
        with ForkServer("testbed.live.loop:run_node", describe("testbed:ServiceNode"), directory) as server:
            for event in _events(server.wait_events, began + FORK_SERVER_S_MAX):
                match event:
                    case Ready():
                        return Finding("fork server", "good", f"ready in {(clock.now() - began) * 1000:.0f} ms")
                    case Failed(reason):
                        found = reason
                        break
    return Finding("fork server", "bad", found, "no node can be started", LIVE)


def _events(wait: Callable[[float], list[T]], give_up: float) -> Iterator[T]:
    while (left := give_up - clock.now()) > 0:
        yield from wait(left)


def namespaces(_: Asked) -> Finding:
    """Tried in a child, because there is no way back."""
    with child(_NAMESPACES) as one:
        refused = _first_line(one)
    if refused:
        meaning = "no command needs them: links are cut inside the nodes. Clusters share the machine's loopback"
        return Finding("namespaces", "note", f"a user has none of their own ({refused})", meaning)
    return Finding("namespaces", "good", "a user may have a network of their own (no command needs it)")
