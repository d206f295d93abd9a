"""`--timeouts`: what becomes of a scenario's timeouts on a machine that may be too slow for them."""

import textwrap
from pathlib import Path
from typing import Final

import click

from chaos.cli.answers import Answer
from chaos.readiness import FACTOR_MAX, assess, scaled
from chaos.scenario import Scenario
from testbed.base.errors import UsageError

AS_WRITTEN: Final = "scenario"
AS_NEEDED: Final = "auto"
FACTOR_MIN: Final = 1.0
WIDTH: Final = 80

Timeouts = str | float  # one of the two words, or a factor


def _timeouts(_: click.Context, __: click.Parameter, text: str) -> Timeouts:
    if text in (AS_WRITTEN, AS_NEEDED):
        return text
    try:
        factor = float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither {AS_WRITTEN} nor {AS_NEEDED} nor a number") from None
    if not FACTOR_MIN <= factor <= FACTOR_MAX:
        raise click.BadParameter(f"must be from {FACTOR_MIN:g} to {FACTOR_MAX:g}, not {text}")
    return factor


TIMEOUTS: Final = click.option(
    "--timeouts",
    default=AS_WRITTEN,
    callback=_timeouts,
    metavar=f"{AS_WRITTEN}|{AS_NEEDED}|2",
    show_default=True,
    help="As written; as long as this machine needs them; or so many times as long. Faults and run scale with them.",
)


def fitted(answer: Answer, scenario: Scenario, timeouts: Timeouts, *, world: str, out: str) -> Scenario:
    """The scenario as it is to be run. Says on stderr what was changed, or that the machine is too slow for it."""
    if not isinstance(timeouts, str):
        return scaled(scenario, timeouts)
    if world != "live":  # virtual time is never late
        return scenario
    try:
        ready = assess(scenario.cluster.heartbeat, scenario.cluster.election_timeout, _existing(Path(out)))
    except OSError as error:
        raise UsageError(out, "--out", f"cannot be written: {error.strerror}") from error
    if not ready.warnings:
        return scenario
    for warning in ready.warnings:
        _tell(answer, warning)
    if timeouts == AS_NEEDED:
        _tell(answer, f"all times of the scenario are multiplied by {ready.factor:g}")
        return scaled(scenario, ready.factor)
    _tell(
        answer, f"expect elections that no fault caused; --timeouts auto would multiply all times by {ready.factor:g}"
    )
    return scenario


def _existing(path: Path) -> Path:
    """That directory or, where it is still to be made, the one that it will be made in."""
    return next((place for place in (path, *path.absolute().parents) if place.is_dir()), Path.cwd())


def _tell(answer: Answer, text: str) -> None:
    lines = textwrap.wrap(text, WIDTH, initial_indent="too slow? ", subsequent_indent="          ")
    answer.progress("\n".join(lines))
