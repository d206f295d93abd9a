"""One simulated run for one seed, in memory: what campaigns, the shrinker and the catalogue of bugs are made of."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from chaos.experiment import Run
from chaos.scenario import Scenario
from chaos.verdicts import failure
from testbed.cluster import stopwatch


class Simulated(msgspec.Struct, frozen=True):
    """What came of one seed. `failure`: how it failed (see `chaos.verdicts.failure`), None unless invalid.

    `detail`: what went wrong, in a sentence. `simulated_s`: virtual seconds; `seconds`: real ones.
    """

    seed: int
    verdict: str
    failure: str | None
    invalid: list[tuple[str, str]]  # the name and the detail of every check that is
    detail: str
    digest: str
    events: int
    simulated_s: float
    seconds: float
    operations: dict[str, int]
    faults: dict[str, int]  # kind -> how many took hold
    sometimes: dict[str, int]


GARBAGE_ALLOCATIONS: Final = 100_000  # a simulation allocates much and leaves few cycles: a third of its time is saved


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Done(msgspec.Struct, frozen=True):
    """A simulated run, its summary as any run has one, and (if it kept them) all its events."""

    result: Simulated
    summary: dict[str, Any]
    trace: list[str] | None


def simulate(
    scenario: Scenario,
    seed: int,
    *,
    plant: str | None = None,
    out: str | Path | None = None,
    every_event: bool = False,
) -> Done:
    """Run exactly this scenario with this seed in simulation. `out`: the parent of a run directory, if it is kept."""
    passed = stopwatch()
    run = Run(scenario, seed=seed, world="sim", plant=plant, out=out, every_event=every_event)
    with _collecting_rarely():
        summary = run.execute()
    wrong = [check for check in summary["checks"] if check["verdict"] != "valid"]
    worst = next((check for check in wrong if check["verdict"] == "invalid"), wrong[0] if wrong else None)
    result = Simulated(
        seed=seed,
        verdict=summary["verdict"],
        failure=failure(summary["checks"]),
        invalid=[(check["name"], check["detail"]) for check in wrong if check["verdict"] == "invalid"],
        detail=f"{worst['name']}: {worst['detail']}" if worst is not None else "",
        digest=summary["digest"],
        events=summary["events"],
        simulated_s=summary["simulated_s"],
        seconds=passed(),
        operations=summary["operations"],
        faults={fault["kind"]: fault["applied"] for fault in summary["faults"]},
        sometimes=summary["sometimes"],
    )
    return Done(result, summary, run.trace)
