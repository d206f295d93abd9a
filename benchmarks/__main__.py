"""`python -m benchmarks [ROW…]`: measure, print a table. Exit status 0 whatever the figures, 254 for an unknown row."""

import sys
import time
from collections.abc import Callable

from benchmarks import boot, failover, idle, judges, leases, puts, simulation
from benchmarks.measures import Row, table

BENCHMARKS: dict[str, Callable[[], Row | list[Row]]] = {
    "puts": puts.rate,
    "one": puts.one_client,
    "traced": puts.traced,
    "queue": leases.queue,
    "locks": leases.locks,
    "boot": boot.boot,
    "kill": failover.kill,
    "pause": failover.pause,
    "idle": idle.idle,
    "judges": judges.long_histories,
    "search": judges.hard_histories,
    "reading": judges.reading,
    "simulation": simulation.speed,
    "jobs": simulation.jobs,
}


def main(names: list[str]) -> int:
    """Run the benchmarks of these names, or all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"benchmarks: {unknown[0]}: is not one of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 254
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        begun = time.monotonic()
        found = BENCHMARKS[name]()
        rows += found if isinstance(found, list) else [found]
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
