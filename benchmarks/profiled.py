"""The built-in node under cProfile, for whoever wants to know where a step's time goes.

    python -m benchmarks.profiled [CLIENTS [PUTS]]

prints each node's profile. cProfile slows small functions down most: believe its order, not its seconds.
"""

import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

from benchmarks import load
from testbed import Cluster
from testbed.service import ServiceNode

LINES = 45


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
    clients, puts = (int(arguments[0]) if arguments else 100), (int(arguments[1]) if arguments[1:] else 20_000)
    with tempfile.TemporaryDirectory() as directory:
        with Cluster(node="benchmarks.profiled:ProfiledNode", options={"profile": directory}) as cluster:
            print(load.measure(cluster, clients, puts, value_bytes=100))
        for path in sorted(Path(directory).iterdir()):
            print(f"=== {path.stem}")
            pstats.Stats(str(path)).sort_stats("tottime").print_stats(LINES)


if __name__ == "__main__":
    main(sys.argv[1:])
