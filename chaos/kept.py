"""Run directories, read back: what was run, with which seed, and what came of it."""

from pathlib import Path
from typing import Literal

import msgspec

from chaos.pinned import pin
from chaos.scenario import Scenario, load_scenario
from chaos.schedule import Schedule, schedule_from_json
from testbed.base.errors import UsageError


class _Check(msgspec.Struct, frozen=True):
    name: str
    verdict: Literal["valid", "invalid", "unknown"]
    detail: str


class _Summary(msgspec.Struct, frozen=True):
    """What is read of `summary.json`."""

    scenario: str
    seed: int
    world: Literal["live", "sim"]
    verdict: Literal["valid", "invalid", "unknown"]
    source: str
    checks: list[_Check]
    operations: dict[str, int]
    plant: str | None = None
    digest: str | None = None  # of simulations


class Kept(msgspec.Struct, frozen=True):
    """A run. `scenario` is pinned: it has the run's own faults, each at its time."""

    directory: Path
    scenario: Scenario
    seed: int
    world: Literal["live", "sim"]
    plant: str | None
    verdict: str
    failure: str | None  # see `chaos.verdicts.failure`
    operations: int  # how many were invoked
    digest: str | None  # of a simulation


def load_run(directory: str | Path) -> Kept:
    """The run in that directory. UsageError for what is none, or was not finished."""
    from chaos.verdicts import failure

    place = Path(directory)
    if not place.is_dir():
        raise UsageError(place, "", "there is no such run directory")
    summary = _summary(place / "summary.json")
    copy = load_scenario(place / "scenario.toml")
    there = summary.source and Path(summary.source).is_file()
    source = summary.source if there else copy.source  # its modules lie beside where it came from
    scenario = msgspec.structs.replace(copy, name=summary.scenario, source=source)
    return Kept(
        directory=place,
        scenario=pin(scenario, _schedule(place / "schedule.json", scenario)),
        seed=summary.seed,
        world=summary.world,
        plant=summary.plant,
        verdict=summary.verdict,
        failure=failure(msgspec.to_builtins(summary.checks)),
        operations=sum(summary.operations.values()),
        digest=summary.digest,
    )


def _summary(path: Path) -> _Summary:
    try:
        return msgspec.json.decode(_read(path), type=_Summary)
    except msgspec.DecodeError as error:
        raise UsageError(path, "", f"is no summary of a run of this version: {error}") from error


def _schedule(path: Path, scenario: Scenario) -> Schedule:
    schedule = schedule_from_json(_read(path), str(path))
    if schedule.nodes != scenario.cluster.names:
        raise UsageError(path, "nodes", "are not those of the scenario beside it")
    if schedule.duration <= 0:
        raise UsageError(path, "duration", "must be longer than nothing")
    return schedule


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(path, "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(path, "", f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
