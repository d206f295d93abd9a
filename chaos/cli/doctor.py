"""`testbed doctor`: what this machine can and cannot do, tried out rather than looked up, and what that means.

Each check is a function of its own that answers with a `Finding`; the worst grade is the command's.
"""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import click
import msgspec

from chaos.cli.answers import UNKNOWN, USAGE, VALID, Answer, answering
from chaos.console import Place
from testbed.live import clock

T = TypeVar("T")
Grade = Literal["good", "doubtful", "bad"]

PYTHON_MIN: Final = (3, 11)
HEARTBEAT_S: Final = 0.1  # the default; a suspicion takes several of them
LATENESS_S_DOUBTFUL: Final = HEARTBEAT_S / 2  # later than this, and heartbeats bunch up
LATENESS_S_BAD: Final = 1.0  # the default election timeout: leaders would be deposed for the machine's fault
SLEEP_S: Final = 0.01
SLEEPS: Final = 50
FORK_SERVER_S_MAX: Final = 30.0
SEEN_S_MAX: Final = 5.0
FDS_PER_NODE: Final = 80  # a node in a cluster of five has 65 open; each further peer adds about ten
FDS_MIN: Final = 512  # the largest cluster's nodes
DISK_BYTES_MIN: Final = 200 * 2**20  # an hour of a busy cluster's databases and logs
FSYNC_S_DOUBTFUL: Final = 0.05  # every acknowledged write waits for one or two of them
MEMORY_BYTES_MIN: Final = 200 * 2**20  # five nodes at 15 MB each, a fork server, a supervisor with its clients


class Finding(msgspec.Struct, frozen=True):
    """What one check found. `meaning` is empty where there is nothing to say about it."""

    name: str
    grade: Grade
    found: str
    meaning: str = ""


@click.command()
@answering
def doctor(answer: Answer) -> int:
    """What this machine can and cannot do, and what that means.

    Exit status: 0 if live clusters run well here, 2 if that is doubtful, 254 if they cannot run at all.
    """
    findings: list[Finding] = []
    for check in CHECKS if sys.platform.startswith("linux") else (_platform,):
        finding = _tried(check)
        findings.append(finding)
        if not answer.as_json:
            answer.say(_shown(finding))
    worst = max((finding.grade for finding in findings), key=("good", "doubtful", "bad").index)
    conclusion = {
        "good": "live clusters run here",
        "doubtful": "live clusters may run here, with the reservations above",
        "bad": "live clusters cannot run here",
    }[worst]
    told = {"grade": worst, "conclusion": conclusion, "checks": [msgspec.to_builtins(one) for one in findings]}
    answer.result(told, conclusion)
    if worst == "bad":
        first = next(finding for finding in findings if finding.grade == "bad")
        answer.progress(f"testbed doctor: {first.name}: {first.found}: {first.meaning}")
    return {"good": VALID, "doubtful": UNKNOWN, "bad": USAGE}[worst]


def _tried(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever a machine may come up with is a finding
        name = check.__name__.strip("_").replace("_", " ")
        return Finding(name, "doubtful", f"{type(error).__name__}: {error}", "could not be tried out")


def _shown(finding: Finding) -> str:
    mark = {"good": "ok", "doubtful": "??", "bad": "NO"}[finding.grade]
    line = f"{mark}  {finding.name:<22} {finding.found}"
    return f"{line}\n{'':<27}{finding.meaning}" if finding.meaning else line


# --- the system ---


def _platform() -> Finding:
    if not sys.platform.startswith("linux"):
        meaning = "live clusters need Linux (parent-death signals, pidfd); the judges work everywhere"
        return Finding("platform", "bad", sys.platform, meaning)
    return Finding("platform", "good", f"Linux {os.uname().release}, {os.uname().machine}")


def _python() -> Finding:
    found = sys.version.split()[0]
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "bad", found, f"at least {'.'.join(map(str, PYTHON_MIN))} is needed")
    return Finding("python", "good", found)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    meaning = "five nodes share it with their clients: expect elections that a fault did not cause" if cores < 2 else ""
    return Finding("cores", "doubtful" if cores < 2 else "good", str(cores), meaning)


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    scarce = free < MEMORY_BYTES_MIN
    meaning = "the kernel may kill nodes, and no fault will have caused it" if scarce else ""
    return Finding("memory available", "doubtful" if scarce else "good", f"{free / 2**20:.0f} MiB", meaning)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = float("inf") if soft == resource.RLIM_INFINITY else soft
    found = f"{soft} (at most {hard}); a node in a cluster of five needs up to {FDS_PER_NODE}"
    if limit < FDS_PER_NODE:
        return Finding("open files", "bad", found, "nodes cannot open their sockets: raise it with ulimit -n")
    meaning = "large clusters may run out of it: raise it with ulimit -n" if limit < FDS_MIN else ""
    return Finding("open files", "doubtful" if limit < FDS_MIN else "good", found, meaning)


def _free_disk() -> Finding:
    free = shutil.disk_usage(_run_directory()).free
    meaning = "an hour of a busy cluster may fill it, and a node with a full disk ends" if free < DISK_BYTES_MIN else ""
    found = f"{free / 2**20:.0f} MiB in {_run_directory()}"
    return Finding("free disk", "doubtful" if free < DISK_BYTES_MIN else "good", found, meaning)


def _fsync() -> Finding:
    times = []
    with tempfile.TemporaryFile(dir=_run_directory()) as file:
        for _ in range(20):
            file.write(b"x" * 4096)
            file.flush()
            began = clock.now()
            os.fsync(file.fileno())
            times.append(clock.now() - began)
    median = sorted(times)[len(times) // 2]
    meaning = "each acknowledged write waits for it" if median > FSYNC_S_DOUBTFUL else ""
    found = f"{median * 1000:.2f} ms median, {max(times) * 1000:.2f} ms at the most"
    return Finding("fsync", "doubtful" if meaning else "good", found, meaning)


def _run_directory() -> Path:
    place = Place(Path.cwd())
    return place.directory if place.directory.is_dir() else Path.cwd()


# --- time ---


def _clock() -> Finding:
    step = clock.resolution()
    meaning = "operations that follow each other may bear the same stamp, and judges see less" if step > 1e-5 else ""
    return Finding("monotonic clock", "doubtful" if meaning else "good", f"steps of {step * 1e9:.0f} ns", meaning)


def _wake_up() -> Finding:
    late = []
    for _ in range(SLEEPS):
        began = clock.now()
        clock.sleep(SLEEP_S)
        late.append(clock.now() - began - SLEEP_S)
    worst, median = max(late), sorted(late)[len(late) // 2]
    found = f"a sleep of {SLEEP_S * 1000:.0f} ms ends {median * 1000:.1f} ms late, {worst * 1000:.1f} ms at the most"
    if worst >= LATENESS_S_DOUBTFUL:
        meaning = f"too slow at times for heartbeats of {HEARTBEAT_S * 1000:.0f} ms: use longer ones"
        if worst >= LATENESS_S_BAD:
            meaning += "; leaders will be deposed for no fault of theirs"
        return Finding("wake-up", "doubtful", found, meaning)
    return Finding("wake-up", "good", found)


# --- processes ---


def _child(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _seen(condition: Callable[[], bool]) -> float | None:
    """Seconds until it held; None if it did not within SEEN_S_MAX."""
    began = clock.now()
    while not condition():
        if clock.now() - began > SEEN_S_MAX:
            return None
        clock.sleep(0.001)
    return clock.now() - began


def _pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Finding("pidfd", "bad", str(error), "processes cannot be ended without meeting a stranger: Linux 5.3")
    return Finding("pidfd", "good", "works")


def _stop_and_go() -> Finding:
    from testbed.live.procfs import observe

    with _child("import sys; print('up', flush=True); import time; time.sleep(60)") as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            child.send_signal(signal.SIGSTOP)
            stopped = _seen(lambda: observe(child.pid) == "stopped")
            child.send_signal(signal.SIGCONT)
            gone_on = _seen(lambda: observe(child.pid) == "running")
        finally:
            child.kill()
    if stopped is None or gone_on is None:
        meaning = "the fault pause cannot be verified here, and will be counted as not applied"
        return Finding("SIGSTOP and SIGCONT", "doubtful", "not seen in /proc", meaning)
    return Finding("SIGSTOP and SIGCONT", "good", f"seen after {max(stopped, gone_on) * 1000:.1f} ms")


_PARENT = """
import os, time
from testbed.live.forkserver import die_with_parent
me, (read, write) = os.getpid(), os.pipe()
pid = os.fork()
if pid == 0:
    die_with_parent(9, me)
    os.write(write, b"x")
    clock.sleep(60)
    os._exit(0)
os.read(read, 1)
print(pid, flush=True)
time.sleep(60)
"""


def _parent_death() -> Finding:
    from testbed.live.procfs import kill_exactly, observe, process_start_time

    with _child(_PARENT) as parent:
        try:
            assert parent.stdout is not None
            orphan = int(parent.stdout.readline())
            born = process_start_time(orphan)
        finally:
            parent.kill()
    seconds = _seen(lambda: observe(orphan) in ("zombie", "gone") or process_start_time(orphan) != born)
    if seconds is None:
        kill_exactly(orphan, born)
        meaning = "only the lifeline pipe ends nodes whose supervisor was killed; testbed cleanup ends the rest"
        return Finding("parent-death signal", "doubtful", "does not come", meaning)
    return Finding("parent-death signal", "good", f"comes within {seconds * 1000:.1f} ms")


def _loopback() -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2], 5):
        return Finding("loopback", "good", f"127.0.0.1, port {server.getsockname()[1]}")


def _fork_server() -> Finding:
    from testbed.live.nodeclass import describe
    from testbed.live.processes import Failed, ForkServer, Ready

    with tempfile.TemporaryDirectory(prefix="testbed-doctor-") as directory:
        began = clock.now()
        with ForkServer("testbed.live.loop:run_node", describe("testbed:ServiceNode"), directory) as server:
            for event in _events(server.wait_events, began + FORK_SERVER_S_MAX):
                match event:
                    case Ready():
                        return Finding("fork server", "good", f"ready in {(clock.now() - began) * 1000:.0f} ms")
                    case Failed(reason):
                        return Finding("fork server", "bad", reason, "no node can be started")
    return Finding("fork server", "bad", f"not ready within {FORK_SERVER_S_MAX:g} s", "no node can be started")


def _events(wait: Callable[[float], list[T]], give_up: float) -> Iterator[T]:
    while (left := give_up - clock.now()) > 0:
        yield from wait(left)


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    _platform,
    _python,
    _cores,
    _memory,
    _open_files,
    _free_disk,
    _fsync,
    _clock,
    _wake_up,
    _pidfd,
    _stop_and_go,
    _parent_death,
    _loopback,
    _fork_server,
)
