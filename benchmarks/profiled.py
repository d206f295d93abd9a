"""The built-in node under cProfile, for whoever wants to know where a step's time goes.

    python -m benchmarks.profiled [puts | deliveries [CLIENTS [CYCLES]]]

prints each node's profile: under puts, or under messages that are published, taken and acknowledged. cProfile slows
small functions down most: believe its order, not its seconds.
"""

import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

from benchmarks import leases, load
from testbed import Cluster
from testbed.service import ServiceNode

LINES = 45
VALUE_BYTES = 100
WORKS = {"puts": load.puts, "deliveries": leases.deliveries}


class ProfiledNode(ServiceNode):
    """Profiles its whole process from its first hook until it is asked to stop. Option `profile`: a directory."""

    def on_start(self) -> None:
        """Begin."""
        super().on_start()
        self._profile = cProfile.Profile()
        self._profile.enable()

    def on_stop(self) -> bool:
        """Write the profile down."""
        self._profile.disable()
        self._profile.dump_stats(Path(self.options["profile"]) / f"{self.id}-{self.raft.role}.prof")
        return super().on_stop()


def main(arguments: list[str]) -> None:
    """Load a cluster of three, print what each node did meanwhile."""
    work = WORKS[arguments[0] if arguments else "puts"](VALUE_BYTES)
    clients, cycles = (int(arguments[1]) if arguments[1:] else 100), (int(arguments[2]) if arguments[2:] else 20_000)
    with tempfile.TemporaryDirectory() as directory:
        with Cluster(node="benchmarks.profiled:ProfiledNode", options={"profile": directory}) as cluster:
            print(load.measure(cluster, clients, cycles, work))
        for path in sorted(Path(directory).iterdir()):
            print(f"=== {path.stem}")
            pstats.Stats(str(path)).sort_stats("tottime").print_stats(LINES)


if __name__ == "__main__":
    main(sys.argv[1:])
