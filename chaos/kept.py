"""Run directories, read back: what was run, with which seed, and what came of it."""

import json
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from chaos.pinned import pin
from chaos.scenario import Scenario, parse_scenario
from chaos.schedule import schedule_from_json
from testbed.base.errors import UsageError


class Kept(msgspec.Struct, frozen=True):
    """A run. `scenario` is pinned: it has the run's own faults, each at its time."""

    directory: Path
    scenario: Scenario
    seed: int
    world: Literal["live", "sim"]
    plant: str | None
    failure: str | None  # see `chaos.verdicts.failure`
    summary: dict[str, Any]


def load_run(directory: str | Path) -> Kept:
    """The run in that directory. UsageError for what is none, or was not finished."""
    from chaos.verdicts import failure

    place = Path(directory)
    if not place.is_dir():
        raise UsageError(place, "", "there is no such run directory")
    summary = _summary(place / "summary.json")
    text = _read(place / "scenario.toml")
    source = summary["source"] or str(place / "scenario.toml")  # its modules lie beside where it came from
    schedule = schedule_from_json(_read(place / "schedule.json"), str(place / "schedule.json"))
    return Kept(
        place,
        pin(parse_scenario(text, source), schedule),
        summary["seed"],
        cast(Literal["live", "sim"], summary["world"]),
        summary.get("plant"),
        failure(summary["checks"]),
        summary,
    )


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(_read(path))
    except ValueError as error:
        raise UsageError(path, "", f"not valid JSON: {error}") from error
    if not isinstance(summary, dict):
        raise UsageError(path, "", "is no run summary")
    for key in ("seed", "world", "checks", "source", "verdict", "operations"):
        if key not in summary:
            raise UsageError(path, key, "is missing: not the summary of a run of this version")
    return summary


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(path, "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(path, "", f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
