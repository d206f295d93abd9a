"""What an idle node costs: memory that it shares with nobody, and CPU."""

import subprocess
import sys
from statistics import median

import psutil

from benchmarks.measures import Row
from testbed import Cluster

NODES = 5
SETTLE_S = 2.0  # elections, connections and the first beats are over by then
WATCH_S = 5.0
MEMORY_REACH_MB, CPU_REACH = 15.0, 0.02
BARE = "import zmq, sqlite3, msgspec; context = zmq.Context(); context.socket(zmq.ROUTER); print(flush=True); input()"


def idle() -> list[Row]:
    """The median of five nodes, and the worst."""
    with Cluster(nodes=NODES) as cluster:
        cluster.client().kv.put("k", 1)
        cluster.world.wait(lambda: False, SETTLE_S)
        nodes = [psutil.Process(node.pid) for node in cluster.status().values()]
        before = [_cpu(node) for node in nodes]
        cluster.world.wait(lambda: False, WATCH_S)
        shares = [(_cpu(node) - then) / WATCH_S for node, then in zip(nodes, before, strict=True)]
        memory = [_own_mb(node) for node in nodes]
    bare = _bare_mb()
    return [
        Row(
            f"an idle node of {NODES}: own memory",
            f"{median(memory):.1f} MB (max {max(memory):.1f})",
            f"{bare:.1f} MB interpreter with ZeroMQ",
            f"{median(memory) / bare:.2f}",
            f"<= {MEMORY_REACH_MB:g} MB",
            median(memory) <= MEMORY_REACH_MB,
            "pages that reference counting touches, and thereby copies, after the fork; stacks and buffers of ZeroMQ",
        ),
        Row(
            f"an idle node of {NODES}: CPU",
            f"{median(shares):.1%} (max {max(shares):.1%})",
            "-",
            "-",
            f"<= {CPU_REACH:.0%}",
            median(shares) <= CPU_REACH,
            "ten beats a second from each of four peers, one wake-up for each",
        ),
    ]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _own_mb(process: psutil.Process) -> float:
    """USS: what would be freed if the process ended; pages shared with the fork server or siblings are not in it."""
    return float(process.memory_full_info().uss) / 2**20


def _bare_mb() -> float:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = _own_mb(psutil.Process(process.pid))
        process.communicate(b"\n")
    return found
