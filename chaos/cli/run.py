"""`run` and `demo`: one scenario, one seed, one verdict, watched by whoever is there (see `chaos.cli.screen`)."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click

from chaos.cli.answers import STATUS_OF_VERDICT, VALID, Answer, answering
from chaos.cli.timeouts import AS_WRITTEN, TIMEOUTS, Timeouts, fitted
from chaos.scenario import SEED_MAX
from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError

_SEED = click.option(
    "--seed", type=click.IntRange(0, SEED_MAX), help="The same seed draws the same schedule. Default: a fresh one."
)


def _duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds <= 0:
        raise click.BadParameter("must be longer than nothing")
    return seconds


@click.command()
@click.argument("scenario", metavar="SCENARIO.toml")
@_SEED
@click.option("--duration", callback=_duration, metavar="30s", help="Instead of the scenario's own.")
@click.option("--world", type=click.Choice(["live", "sim"]), default="live", help="Processes, or a simulation.")
@click.option("--out", default="runs", metavar="DIR", help="The parent of the run's directory.", show_default=True)
@click.option("--plant", metavar="BUG", help="Plant a bug (see: testbed list bugs).")
@TIMEOUTS
@click.option("--dry-run", is_flag=True, help="Print the schedule as JSON, and do nothing.")
@answering
def run(
    answer: Answer,
    scenario: str,
    seed: int | None,
    duration: float | None,
    world: Literal["live", "sim"],
    out: str,
    plant: str | None,
    timeouts: Timeouts,
    dry_run: bool,
) -> int:
    """Run a scenario: a cluster, clients, faults, and a verdict.

    Exit status 0 valid, 1 invalid, 2 unknown.
    """
    return carry_out(
        answer,
        scenario,
        seed=seed,
        duration=duration,
        world=world,
        out=out,
        plant=plant,
        timeouts=timeouts,
        dry=dry_run,
    )


@click.command()
@_SEED
@click.option("--duration", callback=_duration, metavar="30s", help="Instead of 30 s.")
@click.option("--out", default="runs", metavar="DIR", help="The parent of the run's directory.", show_default=True)
@TIMEOUTS
@answering
def demo(answer: Answer, seed: int | None, duration: float | None, out: str, timeouts: Timeouts) -> int:
    """Five nodes keep a store, a queue and locks while leaders are killed, nodes paused and cut off. About 30 s."""
    path = str(shipped("demo.toml"))
    return carry_out(answer, path, seed=seed, duration=duration, out=out, timeouts=timeouts)


def carry_out(
    answer: Answer,
    scenario_path: str,
    *,
    seed: int | None = None,
    duration: float | None = None,
    world: Literal["live", "sim"] = "live",
    out: str = "runs",
    plant: str | None = None,
    timeouts: Timeouts = AS_WRITTEN,
    dry: bool = False,
) -> int:
    """Run a scenario and answer with its summary; the exit status of the verdict."""
    from chaos.scenario import load_scenario

    scenario = load_scenario(scenario_path)
    if plant is not None:
        from chaos.bugs import find

        find(plant)
    if not dry or timeouts != AS_WRITTEN:
        scenario = fitted(answer, scenario, timeouts, world=world, out=out)
    if dry:
        from chaos.experiment import choose_seed
        from chaos.schedule import draw

        _print_schedule(draw(scenario, choose_seed(scenario, seed), duration).dry_run(), answer)
        return VALID
    from chaos.cli.failing import smaller
    from chaos.cli.screen import onlooker
    from chaos.cli.verdict import text_of
    from chaos.experiment import Run

    with _stopping_in_good_order():
        try:
            with onlooker(answer) as watcher:
                run = Run(scenario, seed=seed, duration=duration, world=world, out=out, watcher=watcher, plant=plant)
                watcher.awaits(run, world)
                summary = run.execute()
        except KeyboardInterrupt:
            with suppress(OSError):  # it may be the terminal's end that has interrupted it
                answer.progress("interrupted; everything is healed and stopped")
            raise
        summary |= smaller(answer, summary)
    records = run.nemesis.records if run.nemesis is not None else []
    seen = sys.stdout.isatty()
    rows = shutil.get_terminal_size().lines if seen else None
    text = text_of(summary, records, colour=seen and not os.environ.get("NO_COLOR"), rows=rows)
    answer.result(summary, text)
    return STATUS_OF_VERDICT[summary["verdict"]]


def _print_schedule(schedule: dict[str, Any], answer: Answer) -> None:
    import json

    answer.result(schedule, json.dumps(schedule, indent=1))


@contextmanager
def _stopping_in_good_order() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that closes heal and stop everything; a second one does not cut that short."""
    asked = False

    def interrupt(*_: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def shipped(name: str) -> Path:
    """A scenario that ships: in the checkout, or where pip put it."""
    beside = Path(__file__).resolve().parents[2] / "configs" / name
    if beside.is_file():
        return beside
    from importlib.metadata import files

    for file in files("testbed") or []:
        if file.name == name and file.parent.name == "configs":
            return Path(str(file.locate()))
    raise UsageError("testbed", name, "the scenario was not installed with the package")
