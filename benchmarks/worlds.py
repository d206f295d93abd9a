"""The same finding in both worlds: planted bugs that simulation finds, and how often processes show them as well.

`python -m benchmarks.worlds [BUG…]`: for each bug a seed with which a scenario fails in simulation, the faults that it
takes, and those on real processes, again and again, with the bug and without it. Exit status 0 whatever the figures,
254 for an unknown bug. What was tried is kept as a scenario in `runs/worlds`.

A bug counts as found by the checks of clients' histories, nodes' views and exits, which both worlds have, and not by
invariants. Load and times are left as they are, and some seeds must agree: a schedule that fails at one simulated
pace only says nothing about processes, which have another one each time.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from chaos.bugs import find
from chaos.bugs.bug import Bug
from chaos.cli.failing import schedule_lines
from chaos.experiment import Run
from chaos.pinned import pin, to_toml
from chaos.scenario import Scenario, load_scenario
from chaos.schedule import draw
from chaos.shrink import Shrunk, shrink
from chaos.simulation import simulate
from testbed.base.errors import UsageError
from testbed.cluster import stopwatch

BUGS: Final = (
    "takes-any-answer",
    "no-session-table",
    "timeout-as-failure",
    "answers-before-commit",
    "commit-stops-at-old-terms",
    "reads-locally",
    "no-refutation",
    "snapshot-gap",
    "lock-without-fencing",
    "delivers-to-two",
    "redelivery-to-the-tail",
    "publish-confirmed-before-commit",
)
SCENARIOS: Final = Path(__file__).parent / "scenarios"
MIXED: Final = {"locks": "services.toml", "queues": "services.toml"}  # part -> some of everything, if not of the store
OWN: Final = {"reads-locally": "stale_reads.toml", "reads-on-lease": "stale_reads.toml"}  # bug -> what the mix has not
KEPT: Final = Path("runs/worlds")
SEEDS_MAX: Final = 40
SEEDS_AGREE: Final = 3  # runs of a schedule, each with a seed of its own, that must all fail
TRIES_MAX: Final = 60
TIMES, TIMES_WITHOUT = 10, 1
HEAD: Final = ("bug", "seed", "faults", "clients", "operations", "seconds", "failed live", "by", "valid without it")


class Found(NamedTuple):
    """A bug that simulation found. `seed`: of the schedule it was found with, and of every live run."""

    bug: Bug
    seed: int
    before: Scenario
    shrunk: Shrunk


def find_in_simulation(bug: Bug) -> Found | None:
    """The first seed of which the schedule fails whatever seed it is run with, and the faults that it takes."""
    scenario = load_scenario(SCENARIOS / (OWN.get(bug.name) or MIXED.get(bug.part, "worlds.toml")))
    for seed in range(1, SEEDS_MAX + 1):

        def fails(candidate: Scenario, seed: int = seed) -> bool:
            seeds = range(seed, seed + SEEDS_AGREE)
            return all(_seen(bug, simulate(candidate, other, plant=bug.name).summary) for other in seeds)

        before = pin(scenario, draw(scenario, seed))
        if fails(before):
            shrunk = shrink(before, fails, tries_max=TRIES_MAX, parts=("faults",))
            return Found(bug, seed, before, shrunk)
    return None


def row(found: Found) -> tuple[str, ...]:
    """Run it live; a line of the table. The operations are those of a simulated run."""
    bug, scenario = found.bug, found.shrunk.scenario
    simulated = simulate(scenario, found.seed, plant=bug.name).result
    runs = [_seen(bug, Run(scenario, seed=found.seed, plant=bug.name, out=None).execute()) for _ in range(TIMES)]
    without = [Run(scenario, seed=found.seed, out=None).execute()["verdict"] for _ in range(TIMES_WITHOUT)]
    by = Counter(check for checks in runs for check in checks)
    return (
        bug.name,
        str(found.seed),
        f"{len(found.before.faults)} -> {len(scenario.faults)}",
        str(sum(spec.clients for spec in scenario.workloads)),
        str(sum(simulated.operations.values())),
        f"{scenario.duration:g}",
        f"{sum(map(bool, runs))} of {TIMES}",
        ", ".join(f"{check} {count}" for check, count in by.most_common()) or "-",
        f"{without.count('valid')} of {TIMES_WITHOUT}",
    )


def keep(found: Found) -> Path:
    """Write the scenario that is run live; its path."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{found.bug.name}.toml"
    path.write_text(to_toml(found.shrunk.scenario, f"testbed run {path} --plant {found.bug.name}"), encoding="utf-8")
    return path


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they must be."""
    lines = [HEAD, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def main(names: list[str]) -> int:
    """Try the bugs of these names, or those of the fixed list."""
    try:
        bugs = [find(name) for name in names or BUGS]
    except UsageError as error:
        print(error, file=sys.stderr)
        return 254
    rows = []
    for bug in bugs:
        passed = stopwatch()
        found = find_in_simulation(bug)
        if found is None:
            print(f"{bug.name}: not found in simulation with {SEEDS_MAX} seeds", file=sys.stderr, flush=True)
            continue
        schedule = "; ".join(schedule_lines(found.shrunk.scenario))
        told = f"{bug.name}: seed {found.seed}, {found.shrunk.summary}, in {found.shrunk.tries} tries and"
        print(f"{told} {passed():.0f} s: {schedule}; kept as {keep(found)}", file=sys.stderr, flush=True)
        rows.append(row(found))
        print(f"  {' | '.join(rows[-1])}", file=sys.stderr, flush=True)
    print(table(rows))
    return 0


def _seen(bug: Bug, summary: dict[str, object]) -> list[str]:
    """The checks that found the bug, of those that both worlds have."""
    checks: list[dict[str, str]] = summary["checks"]  # type: ignore[assignment]
    wrong = [check["name"] for check in checks if check["verdict"] == "invalid"]
    return [name for name in wrong if name in bug.caught_by and not name.endswith("-invariants")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
