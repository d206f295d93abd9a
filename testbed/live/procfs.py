"""Processes as the kernel shows them: whether one runs, is stopped or gone, what it has used, whose descendant it is.

It names a process by its pid and its start time, which no reuse of the pid can repeat. It knows nothing of nodes.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from testbed.live import clock

MARKER_ENV: Final = "TESTBED_FORKSERVER"  # inherited by all that descends from a fork server

Observed = Literal["running", "stopped", "zombie", "gone"]


class Resources(msgspec.Struct, frozen=True):
    """What a process has used: memory of its own in bytes (USS), processor time in seconds, open files, threads."""

    memory: int
    cpu: float
    files: int
    threads: int


class Marker(msgspec.Struct, frozen=True):
    """What everything that descends from one fork server bears in its environment.

    `supervisor_started` in clock ticks since boot: with the pid it names one process for ever.
    """

    supervisor: int
    supervisor_started: int
    serial: str
    directory: str

    def arguments(self) -> list[str]:
        """As the fork server's command line has it."""
        return [str(self.supervisor), str(self.supervisor_started), self.serial, self.directory]


def marked_processes() -> Iterator[tuple[int, Marker]]:
    """Fork servers of this user and all that descends from them, except what has cleared its environment."""
    prefix = MARKER_ENV.encode() + b"="
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            variables = Path("/proc", name, "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or gone
            continue
        for variable in variables:
            parts = os.fsdecode(variable.removeprefix(prefix)).split(":", 3)
            if variable.startswith(prefix) and len(parts) == 4 and parts[0].isdigit() and parts[1].isdigit():
                yield int(name), Marker(int(parts[0]), int(parts[1]), parts[2], parts[3])


def kill_exactly(pid: int, started: int | None) -> bool:
    """SIGKILL to the process that has this pid and started then (see `process_start_time`); False if it is gone.

    The pidfd is taken before the look at the start time, so that no reuse of the pid can come between.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if started is None or process_start_time(pid) != started:
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def process_start_time(pid: int) -> int | None:
    """In clock ticks since boot, so that setting the clock does not change it; None for no such process."""
    try:
        return int(_stat(f"/proc/{pid}/stat")[19])
    except OSError:
        return None


def process_age(pid: int) -> float | None:
    """Seconds since the process began, exact to a hundredth; None if there is no such process."""
    started = process_start_time(pid)
    return None if started is None else clock.since_boot() - started / os.sysconf("SC_CLK_TCK")


def process_title(pid: int) -> str:
    """The process's short name; empty for no such process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def observe(pid: int) -> Observed:
    """What the kernel says of the process. It is stopped once all its threads are."""
    try:
        states = [_stat(f"/proc/{pid}/stat")[0]]
        if states[0] in "Tt":
            states += [_stat(f"/proc/{pid}/task/{thread}/stat")[0] for thread in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return "gone" if not os.path.exists(f"/proc/{pid}") else observe(pid)
    if states[0] in "ZX":
        return "zombie"
    return "stopped" if all(state in "Tt" for state in states) else "running"


def children_of(parent: int) -> list[int]:
    """The pids of its direct children."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(_stat(f"/proc/{name}/stat")[1]) == parent:
                found.append(int(name))
        except OSError:  # it has ended since
            pass
    return found


def _stat(path: str) -> list[str]:
    """The fields behind the name, which may itself contain blanks and parentheses: state first, see proc(5)."""
    return Path(path).read_text(errors="replace").rpartition(")")[2].split()


def resources(pid: int) -> Resources | None:
    """None for a process that is gone. Takes about a millisecond: the kernel adds up the memory map."""
    import psutil  # only here: fork servers, and with them nodes, have no use for it

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            memory = process.memory_full_info().uss
            return Resources(memory, times.user + times.system, process.num_fds(), process.num_threads())
    except psutil.Error:
        return None
