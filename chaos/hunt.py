"""Hunts planted bugs: each is looked for, seed by seed, until a check that must find it does.

A bug's own scenario runs as it is written; a scenario that ships is varied by the swarm. The seed that finds it must
raise no alarm without the bug: a check that always cries finds every bug.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Final

import msgspec

from chaos.bugs import SCENARIOS
from chaos.bugs.bug import Bug
from chaos.campaign import Crew, Worker
from chaos.experiment import Run
from chaos.scenario import load_scenario
from chaos.seeds import Question
from testbed.cluster import stopwatch

FIRST_SEED: Final = 1


class Hunted(msgspec.Struct, frozen=True):
    """What became of one bug. `seeds`: how many runs it took, the last of which found it if it was `caught`.

    `by`: the check that found it; `false_alarms`: how the run of that last seed without the bug failed, if it did.
    """

    name: str
    world: str
    caught: bool
    seeds: int
    by: str | None
    detail: str
    seconds: float
    false_alarms: list[str]


def hunt(bugs: Iterable[Bug], jobs: int, shipped: Callable[[str], Path]) -> Iterator[Hunted]:
    """Each bug, in the order in which they are done; `shipped` finds a scenario that ships, by its name."""
    bugs = list(bugs)
    simulated = [bug for bug in bugs if bug.world == "sim"]
    with Crew(min(jobs, len(simulated))) as crew:
        for future in as_completed([crew.submit(_simulated, bug, shipped) for bug in simulated]):
            yield future.result()
    for bug in bugs:
        if bug.world == "live":  # one after the other: they need the machine
            yield _hunt(bug, lambda seed, plant, bug=bug: _live(_scenario(bug, shipped), seed, plant))  # type: ignore[misc]


def _simulated(worker: Worker, bug: Bug, shipped: Callable[[str], Path]) -> Hunted:
    path = _scenario(bug, shipped)
    question = Question(str(path), 0, varied=path.parent != SCENARIOS)

    def run(seed: int, plant: str | None) -> list[tuple[str, str]]:
        found = worker.ask(msgspec.structs.replace(question, seed=seed, plant=plant)).result
        assert found is not None
        return found.invalid

    return _hunt(bug, run)


def _hunt(bug: Bug, run: Callable[[int, str | None], list[tuple[str, str]]]) -> Hunted:
    """`run` gives the name and the detail of each check that is invalid with that seed and that bug."""
    passed = stopwatch()
    caught: list[tuple[str, str]] = []
    seed = FIRST_SEED - 1
    while not caught and seed < FIRST_SEED - 1 + bug.seeds:
        seed += 1
        caught = [found for found in run(seed, bug.name) if found[0] in bug.caught_by]
    alarms = [f"seed {seed}: {name}: {detail}" for name, detail in run(seed, None)]
    by, detail = caught[0] if caught else (None, "")
    return Hunted(bug.name, bug.world, bool(caught), seed - FIRST_SEED + 1, by, detail, passed(), alarms)


def _scenario(bug: Bug, shipped: Callable[[str], Path]) -> Path:
    own = SCENARIOS / bug.scenario
    return own if own.is_file() else shipped(bug.scenario)


def _live(path: Path, seed: int, plant: str | None) -> list[tuple[str, str]]:
    summary = Run(load_scenario(path), seed=seed, plant=plant, out=None).execute()
    return [(check["name"], check["detail"]) for check in summary["checks"] if check["verdict"] == "invalid"]
