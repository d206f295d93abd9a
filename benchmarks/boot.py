"""From the command to the first acknowledged write: a fresh interpreter, five nodes, one put.

As a program (`python -m benchmarks.boot`) it is that command.
"""

import subprocess
import sys
import time
from statistics import median

from benchmarks.measures import Row, ms

NODES = 5
RUNS = 9
REACH_S = 1.0


def main() -> None:
    """Start a cluster, write, say so."""
    from testbed import Cluster  # the import is part of what is measured

    with Cluster(nodes=NODES) as cluster:
        cluster.client().kv.put("first", 1)
        print("acknowledged", flush=True)


def boot() -> Row:
    """The median of some starts."""
    ours, bare = [], []
    for _ in range(RUNS):
        bare.append(_seconds_to_first_line("-c", "print('acknowledged', flush=True)"))
        ours.append(_seconds_to_first_line("-m", "benchmarks.boot"))
    found = median(ours)
    return Row(
        f"{NODES} nodes, command to first write",
        f"{ms(found)} (max {ms(max(ours))})",
        f"{ms(median(bare))} bare interpreter",
        f"{found / median(bare):.1f}",
        f"<= {ms(REACH_S)}",
        found <= REACH_S,
        "two interpreters, one after the other, that import ZeroMQ; then connecting, and the first election",
    )


def _seconds_to_first_line(*arguments: str) -> float:
    begun = time.monotonic()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.monotonic() - begun
    if line.strip() != "acknowledged":
        raise RuntimeError(f"{arguments} exited with {process.returncode} and without a write")
    return seconds


if __name__ == "__main__":
    main()
