"""Runs again: the same run once more, or smaller and smaller ones that still fail in the same way."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from chaos.experiment import Run
from chaos.kept import Kept
from chaos.pinned import to_toml
from chaos.scenario import Scenario, load_scenario
from chaos.shrink import TRIES_MAX, Shrunk, describe, shrink
from chaos.verdicts import failure
from testbed.base.errors import UsageError

MINIMAL: Final = "minimal.toml"  # in a run's directory
LIVE_CHANCES: Final = 2  # processes do not repeat themselves: a live candidate has so many runs in which to fail
LIVE_TRIES_MAX: Final = 40  # ... each of which takes its real time

World = Literal["live", "sim"]


def run_again(kept: Kept, world: World, out: str | Path | None) -> dict[str, Any]:
    """The summary of the same scenario, schedule and seed, run once more. `out`: parent of its directory, if kept."""
    return _run(kept.scenario, kept, world, out)


def shrink_run(
    kept: Kept, tries_max: int | None = None, report: Callable[[int, Scenario], None] | None = None
) -> Shrunk:
    """The smallest run that still fails in the same way. UsageError for a run that did not fail."""
    if kept.failure is None:
        raise UsageError(kept.directory, "verdict", f"is {kept.verdict}: there is nothing to shrink")
    live = kept.world == "live"
    chances = LIVE_CHANCES if live else 1

    def fails(candidate: Scenario) -> bool:
        try:
            return any(_failure(candidate, kept) == kept.failure for _ in range(chances))
        except UsageError:  # such as a node that ends at its start: not the failure looked for
            return False

    limit = tries_max or (LIVE_TRIES_MAX if live else TRIES_MAX)
    before = _capped(kept)
    smaller = _found_before(kept)
    begin = smaller if smaller is not None and fails(smaller) else before
    shrunk = shrink(begin, fails, tries_max=limit, report=report)
    return msgspec.structs.replace(shrunk, summary=describe(before, shrunk.scenario))


def _found_before(kept: Kept) -> Scenario | None:
    """What an earlier search left, to go on from."""
    path = kept.directory / MINIMAL
    try:
        return msgspec.structs.replace(load_scenario(path), source=kept.scenario.source) if path.is_file() else None
    except UsageError:
        return None


def minimal_file(kept: Kept, shrunk: Shrunk) -> Path:
    """Write the small scenario into the run's directory, with a comment that says how to run it; its path.

    What it needs of the user's own modules is found there, too.
    """
    path = kept.directory / MINIMAL
    plant = f" --plant {kept.plant}" if kept.plant else ""
    command = f"testbed run {shlex.quote(str(path))} --world {kept.world}{plant}"
    comment = [f"Fails with: {kept.failure}", f"Found in {shrunk.tries} tries: {shrunk.summary}", "", f"  {command}"]
    modules = _modules(kept.scenario)
    if modules:
        comment += ["", f"Needs beside it: {', '.join(modules)}"]
    try:
        path.write_text(to_toml(shrunk.scenario, "\n".join(comment)), encoding="utf-8")
        if modules:
            _link_modules(Path(kept.scenario.source).resolve().parent, kept.directory)
    except OSError as error:
        raise UsageError(path, "", f"cannot be written: {error.strerror}") from error
    return path


def _link_modules(source: Path, target: Path) -> None:
    """All that can be imported there, for modules import others; by links, so that a mended module is what is run."""
    for path in sorted(source.iterdir()):
        link = target / path.name
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and not link.is_symlink() and not link.exists():
            link.symlink_to(os.path.relpath(path, target.resolve()))  # a project may be moved as a whole


def _modules(scenario: Scenario) -> list[str]:
    """The user's own modules that a scenario names."""
    kinds = [*(spec.kind for spec in scenario.workloads), *(spec.kind for spec in scenario.faults)]
    names = [scenario.cluster.node, *kinds]
    tops = dict.fromkeys(name.partition(":")[0].partition(".")[0] for name in names if ":" in name)
    return [f"{top}.py" for top in tops if top not in ("testbed", "chaos")]


def _capped(kept: Kept) -> Scenario:
    """With as many operations as were really invoked: the search for fewer begins there."""
    invoked = max(1, kept.operations)
    workloads = tuple(
        spec if spec.operations is not None else msgspec.structs.replace(spec, operations=invoked)
        for spec in kept.scenario.workloads
    )
    return msgspec.structs.replace(kept.scenario, workloads=workloads)


def _failure(scenario: Scenario, kept: Kept) -> str | None:
    return failure(_run(scenario, kept, kept.world, None)["checks"])


def _run(scenario: Scenario, kept: Kept, world: World, out: str | Path | None) -> dict[str, Any]:
    return Run(scenario, seed=kept.seed, world=world, plant=kept.plant, out=out).execute()
