"""What the machine has: system, interpreter, cores, memory, files, ports, disk. Also where a container gets less."""

import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Final

from chaos.doctor.finding import ALL, LIVE, Asked, Finding
from testbed.base.limits import NODES_MAX
from testbed.live.sockets import PORT_MAX, PORT_MIN

PYTHON_MIN: Final = (3, 11)
MEMORY_BYTES: Final = 60 * 2**20  # a fork server, a supervisor, and its clients ...
MEMORY_BYTES_PER_NODE: Final = 30 * 2**20  # ... and for each node 15 MB, and what it keeps
FDS: Final = (
    30  # of a node's process, and of the supervisor's, however many clients there are: they share connections ...
)
FDS_PER_NODE: Final = 10  # ... and for each node of the cluster: measured, nine
DISK_BYTES_MIN: Final = 200 * 2**20  # an hour of a busy cluster's databases and logs
CGROUP: Final = Path("/sys/fs/cgroup")
PORTS_OF_KERNEL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def platform(_: Asked) -> Finding:
    if not sys.platform.startswith("linux"):
        meaning = "live clusters need Linux (parent-death signals, pidfd); simulation and judges work everywhere"
        return Finding("platform", "bad", sys.platform, meaning, LIVE)
    return Finding("platform", "good", f"Linux {os.uname().release}, {os.uname().machine}")


def python(_: Asked) -> Finding:
    found = sys.version.split()[0]
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "bad", found, f"at least {'.'.join(map(str, PYTHON_MIN))} is needed", ALL)
    return Finding("python", "good", found)


def cores(asked: Asked) -> Finding:
    """Those that this process may use, or less where its group has a quota."""
    there = float(len(os.sched_getaffinity(0)))
    quota, _, period = _limit("cpu.max").partition(" ")
    usable = min(there, int(quota) / int(period)) if quota.isdigit() else there
    found = f"{usable:g}" + (f" of {there:g}, by the quota of this container" if usable < there else "")
    if usable < 2:
        meaning = f"{asked.nodes} nodes share it with their clients: expect elections that no fault caused"
        return Finding("cores", "doubtful", found, meaning, LIVE)
    return Finding("cores", "good", found)


def memory(asked: Asked) -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _limit("memory.max"), _limit("memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(int(limit) - int(used), 0))
    found = f"{free / 2**20:.0f} MiB"
    if free < MEMORY_BYTES + asked.nodes * MEMORY_BYTES_PER_NODE:
        meaning = "the kernel may kill nodes, and no fault will have caused it"
        return Finding("memory available", "doubtful", found, meaning, (*LIVE, "sim"))
    return Finding("memory available", "good", found)


def open_files(asked: Asked) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
    needed = FDS + FDS_PER_NODE * asked.nodes
    fits = min((limit - FDS) // FDS_PER_NODE, NODES_MAX)
    nodes = f"enough for {fits} nodes and any number of clients, who share connections" if fits > 0 else "too few"
    found = f"{_count(soft)} a process, and up to {_count(hard)} if asked for; {nodes}"
    if limit < needed:
        meaning = f"{asked.nodes} nodes need {needed}, and cannot open their sockets: raise it with ulimit -n"
        return Finding("open files", "bad", found, meaning, LIVE)
    if fits < NODES_MAX:
        meaning = "larger clusters run out of it: raise it with ulimit -n"
        return Finding("open files", "doubtful", found, meaning, LIVE)
    return Finding("open files", "good", found)


def _count(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def ports(_: Asked) -> Finding:
    """Whether the kernel gives outgoing connections ports that belong to nodes."""
    low, high = map(int, PORTS_OF_KERNEL.read_text().split())
    found = f"nodes listen on {PORT_MIN} to {PORT_MAX}, outgoing connections start at {low}"
    if low < PORT_MAX and high >= PORT_MIN:
        meaning = "while a node is down its port may be given to somebody else, and it will not start again"
        return Finding("ports", "doubtful", found, meaning, LIVE)
    return Finding("ports", "good", found)


def disk(asked: Asked) -> Finding:
    free = shutil.disk_usage(asked.directory).free
    found = f"{free / 2**20:.0f} MiB in {asked.directory.resolve()}"
    if not os.access(asked.directory, os.W_OK | os.X_OK):
        return Finding("free disk", "doubtful", f"{found}, not writable", "runs cannot be kept here", (*LIVE, "sim"))
    if free < DISK_BYTES_MIN:
        meaning = "an hour of a busy cluster may fill it, and a node with a full disk ends"
        return Finding("free disk", "doubtful", found, meaning, LIVE)
    return Finding("free disk", "good", found)


def _limit(name: str) -> str:
    """What this process' control group says, as text; nothing where there is none."""
    try:
        return (CGROUP / name).read_text().strip()
    except OSError:
        return ""
