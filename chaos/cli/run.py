"""`run` and `demo`: one scenario, one seed, one verdict; progress on a terminal, quiet otherwise."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import click

from chaos.cli.answers import STATUS_OF_VERDICT, VALID, Answer, answering
from chaos.cli.verdict import text_of
from chaos.scenario import SEED_MAX
from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError

REDRAW_S: Final = 0.25
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
    dry_run: bool,
) -> int:
    """Run a scenario: a cluster, clients, faults, and a verdict.

    Exit status 0 valid, 1 invalid, 2 unknown.
    """
    return carry_out(answer, scenario, seed=seed, duration=duration, world=world, out=out, plant=plant, dry=dry_run)


@click.command()
@_SEED
@click.option("--duration", callback=_duration, metavar="30s", help="Instead of 30 s.")
@click.option("--out", default="runs", metavar="DIR", help="The parent of the run's directory.", show_default=True)
@answering
def demo(answer: Answer, seed: int | None, duration: float | None, out: str) -> int:
    """Five nodes keep a key-value store while their leader is killed, nodes are paused and cut off. About 30 s."""
    return carry_out(answer, str(shipped("demo.toml")), seed=seed, duration=duration, out=out)


def carry_out(
    answer: Answer,
    scenario_path: str,
    *,
    seed: int | None = None,
    duration: float | None = None,
    world: Literal["live", "sim"] = "live",
    out: str = "runs",
    plant: str | None = None,
    dry: bool = False,
) -> int:
    """Run a scenario and answer with its summary; the exit status of the verdict."""
    from chaos.scenario import load_scenario

    scenario = load_scenario(scenario_path)
    if plant is not None:
        from chaos.bugs import find

        find(plant)
    if dry:
        from chaos.experiment import choose_seed
        from chaos.schedule import draw

        _print_schedule(draw(scenario, choose_seed(scenario, seed), duration).dry_run(), answer)
        return VALID
    from chaos.experiment import Run

    with _terminal(answer) as watcher, _stopping_in_good_order():
        prepared = Run(scenario, seed=seed, duration=duration, world=world, out=out, watcher=watcher, plant=plant)
        summary = prepared.execute()
        if summary["verdict"] == "invalid" and world == "sim":  # there, it takes seconds
            from chaos.cli.failing import shrunk_to_file
            from chaos.kept import load_run

            watcher.phase("looking for the smallest schedule that fails like this")
            summary = {**summary, **shrunk_to_file(answer, load_run(summary["run_dir"]))}
    answer.result(summary, text_of(summary))
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


class _Lines:
    """A status line that is redrawn a few times a second, with the faults as lines above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._run: Any = None
        self._phase = "starting the nodes"
        self._text = Text
        self._live = Live(
            get_renderable=self._status,
            console=Console(stderr=True, highlight=False),
            refresh_per_second=1 / REDRAW_S,
            transient=True,
        )

    def __enter__(self) -> "_Lines":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, run: Any) -> None:
        self._run, self._phase = run, ""
        nodes = len(run.cluster.nodes)
        self._live.console.print(
            f"{run.scenario.name}: {nodes} nodes, {len(run.schedule.faults)} faults, seed {run.seed}"
        )

    def phase(self, text: str) -> None:
        self._phase = text

    def fault(self, event: Mapping[str, Any]) -> None:
        value = event["value"]
        if value["step"] in ("asked", "ended"):
            return
        seconds = event["time"] / 1e9
        whom = ", ".join(value["nodes"]) or value.get("target", "")
        detail = value.get("reason", "")
        if value.get("target") == "leader" and value["nodes"]:
            whom += " (leader)"
        line = f"{seconds:6.1f} s  {event['f']} {whom}: {value['step']}" + (f" - {detail}" if detail else "")
        self._live.console.print(self._text(line, overflow="ellipsis", no_wrap=True))

    def _status(self) -> Any:
        run = self._run
        if run is None or self._phase:
            return self._text(f"  … {self._phase}")
        elapsed = min(run.cluster.world.now() - run.start_time, run.duration)
        counts = run.counts
        leader = run.cluster.leader or "none"
        return self._text(
            f"{elapsed:6.1f} of {run.duration:g} s  ok {counts['ok']}  failed {counts['fail']}"
            f"  unknown {counts['info']}  leader {leader}",
            overflow="ellipsis",
            no_wrap=True,
        )


@contextmanager
def _terminal(answer: Answer) -> Iterator[Any]:
    if answer.as_json or not sys.stderr.isatty():
        from chaos.experiment import Nobody

        yield Nobody()
        return
    with _Lines() as lines:
        yield lines
