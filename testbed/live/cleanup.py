"""Finds and ends what a dead supervisor has left behind: fork servers, nodes, and whatever nodes have started.

Normally there is nothing: they die with their supervisor. It never touches a cluster whose supervisor lives, and knows
nothing of run directories and their lock files.
"""

from typing import Final

import msgspec

from testbed.live import clock
from testbed.live.procfs import kill_exactly, marked_processes, observe, process_start_time, process_title

REAP_S_MAX: Final = 5.0


class Leftover(msgspec.Struct, frozen=True):
    """One process without a supervisor. `started` in clock ticks since boot; `name` as `ps -o comm` shows it."""

    pid: int
    started: int
    name: str
    supervisor: int
    directory: str


def find_leftovers() -> list[Leftover]:
    """All processes of this user that descend from a fork server whose supervisor is gone, by pid."""
    found = []
    for pid, marker in marked_processes():
        started = process_start_time(pid)
        supervised = process_start_time(marker.supervisor) == marker.supervisor_started
        if started is None or observe(pid) in ("zombie", "gone"):
            continue
        if not supervised or observe(marker.supervisor) == "zombie":
            found.append(Leftover(pid, started, process_title(pid), marker.supervisor, marker.directory))
    return found


def reap(leftovers: list[Leftover]) -> list[Leftover]:
    """Kill them, and wait until they are dead; returns those that are not after `REAP_S_MAX` seconds.

    A process that has got the pid of one since is not touched.
    """
    for leftover in leftovers:
        kill_exactly(leftover.pid, leftover.started)
    deadline = clock.now() + REAP_S_MAX
    left = leftovers
    while (left := [one for one in left if _lives(one)]) and clock.now() < deadline:
        clock.sleep(0.01)
    return left


def _lives(leftover: Leftover) -> bool:
    return process_start_time(leftover.pid) == leftover.started and observe(leftover.pid) not in ("zombie", "gone")
