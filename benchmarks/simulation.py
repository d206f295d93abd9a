"""The simulation: simulated seconds a second on one core, where its time goes, and what a second job adds.

All with the codec and the invariants on, as in any simulated run.
"""

import cProfile
import pstats
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.measures import Row
from chaos.campaign import campaign
from chaos.scenario import parse_scenario
from chaos.seeds import Question
from chaos.simulation import Simulated, simulate

SCENARIO = """
name = "simulation"
duration = "60s"
[cluster]
nodes = 5
heartbeat = "100ms"
election_timeout = "1s"
[[workload]]
kind = "kv"
clients = 5
rate = 10
[[fault]]
kind = "kill"
target = "leader"
every = "10s"
for = "1s"
[[fault]]
kind = "pause"
target = "one"
every = "12s"
for = "2s"
[[fault]]
kind = "partition"
target = "one"
every = "12s"
for = "2s"
"""
RUNS = 5
SPEED_REACH, JOBS_REACH = 300, 1.8
SEEDS_OF_CAMPAIGN = 24
PARTS = {  # of a path -> what that is
    "testbed/core/membership": "failure detection",
    "testbed/core/raft": "Raft",
    "testbed/core": "other cores",
    "testbed/base": "codec",
    "testbed/sim": "world",
    "testbed/": "nodes",
    "chaos/invariants": "invariants",
    "chaos/": "clients, nemesis, judges",
}


def speed() -> Row:
    """The best of some runs of one seed; noise only slows."""
    scenario = parse_scenario(SCENARIO, "benchmarks/simulation.py")
    best = max((simulate(scenario, 1).result for _ in range(RUNS)), key=_speed)
    profile = cProfile.Profile()
    profile.runcall(simulate, scenario, 1)
    return Row(
        "simulation: five nodes, 10 operations/s, faults",
        f"{_speed(best):.0f} simulated s/s, {best.events / best.seconds:,.0f} events/s",
        "real time",
        f"{_speed(best):.0f}",
        f">= {SPEED_REACH}",
        _speed(best) >= SPEED_REACH,
        f"{best.events / best.simulated_s:.0f} events a simulated second, in Python; profiled: {_shares(profile)}",
    )


def jobs() -> Row:
    """The same seeds by one worker and by two."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "simulation.toml"
        path.write_text(SCENARIO)
        question = Question(str(path), 0)
        one, two = (campaign(question, range(SEEDS_OF_CAMPAIGN), number, check_every=0).seconds for number in (1, 2))
    return Row(
        f"{SEEDS_OF_CAMPAIGN} seeds by two jobs",
        f"{two:.1f} s",
        f"{one:.1f} s by one",
        f"{one / two:.2f}",
        f">= {JOBS_REACH}",
        one / two >= JOBS_REACH,
        "two cores that share a machine with others; half a second until a worker has loaded",
    )


def _speed(result: Simulated) -> float:
    return result.simulated_s / result.seconds


def _shares(profile: cProfile.Profile) -> str:
    spent: Counter[str] = Counter()
    for (path, _, _), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        spent[next((name for part, name in PARTS.items() if part in path), "Python itself")] += own
    return ", ".join(f"{name} {own / spent.total():.0%}" for name, own in spent.most_common())
