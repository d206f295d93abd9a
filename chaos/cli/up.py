"""`testbed up`: starts the cluster of this directory, supervises it in the foreground, and leaves nothing behind.

It joins a scenario, the directory's lock, the console and the loop that serves; it decides nothing about nodes.
"""

import os
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from chaos.cli.answers import INTERRUPTED, VALID, Answer, answering
from chaos.cli.companions import table
from chaos.cli.foreground import Foreground
from chaos.console import Done, Place, Server
from chaos.scenario import NODES_DEFAULT, SEED_MAX, Scenario, load_scenario, parse_scenario
from testbed.base.errors import UsageError
from testbed.base.limits import NODES_MAX
from testbed.base.rand import Streams, entropy
from testbed.cluster import Cluster
from testbed.core.restart import RestartKind
from testbed.live import clock
from testbed.ports import Exit

if TYPE_CHECKING:
    from rich.live import Live

RESTART_DEFAULT: Final[RestartKind] = "on-failure"  # who watches a cluster wants it to mend itself; a run does not
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.argument("scenario", metavar="[SCENARIO.toml]", required=False, type=click.Path(path_type=Path))
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), help=f"How many; {NODES_DEFAULT} unless the scenario says.")
@click.option("--seed", type=click.IntRange(0, SEED_MAX), help="Of the nodes' dice and of the words one, minority …")
@answering
def up(answer: Answer, scenario: Path | None, nodes: int | None, seed: int | None) -> int:
    """Start a cluster in this directory and supervise it until `testbed down`, SIGTERM or Ctrl-C.

    The other commands reach it from the same directory. What the nodes keep stays in .testbed/nodes for the next time.
    A node that ends by itself is restarted on failure, unless the scenario's [cluster] restart says otherwise.
    """
    cluster, chosen_seed = _cluster(Place(Path.cwd()), scenario, nodes, seed)
    place = Place(Path.cwd())
    place.hold()
    try:
        _check_members(place, cluster.nodes)
        place.forget()  # what a supervisor that was killed has left
        with _terminal(answer) as screen:
            return _supervise(place, cluster, chosen_seed, answer, screen)
    finally:
        place.forget()
        place.release()


def _cluster(place: Place, path: Path | None, nodes: int | None, seed: int | None) -> tuple[Cluster, int]:
    if path is not None:
        scenario = load_scenario(path)
        restart = _restart(path, scenario)
        search = [str(path.resolve().parent)]  # a user's module is looked up beside the scenario file first
    else:
        scenario, restart, search = parse_scenario('duration = "1s"', "up"), RESTART_DEFAULT, []
    chosen_seed = _first(seed, scenario.seed, entropy().getrandbits(31))
    spec = scenario.cluster
    cluster = Cluster(
        nodes=_first(nodes, spec.nodes),
        node=spec.node,
        seed=chosen_seed,
        heartbeat=spec.heartbeat,
        election_timeout=spec.election_timeout,
        restart=restart,
        options=spec.options,
        directory=place.directory,
        search=search,
        trace=spec.trace,
    )
    return cluster, chosen_seed


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _restart(path: Path, scenario: Scenario) -> RestartKind:
    """The scenario's policy, if it states one: read as written, because a scenario's default is meant for runs."""
    written = tomllib.loads(path.read_text(encoding="utf-8")).get("cluster", {})
    return scenario.cluster.restart if "restart" in written else RESTART_DEFAULT


def _check_members(place: Place, nodes: tuple[str, ...]) -> None:
    """A cluster's members are part of its data: another number of nodes could elect a leader without what was kept."""
    members = place.nodes / "members"
    try:
        kept = members.read_text().split()
    except FileNotFoundError:
        place.nodes.mkdir(exist_ok=True)
        members.write_text("\n".join(nodes) + "\n")
        return
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(members, "", f"cannot be read: {error}") from error
    if kept != list(nodes):
        reason = f"{place.nodes} keeps the data of {len(kept)} nodes, not {len(nodes)}; remove it to start afresh"
        raise UsageError("up", "nodes", reason)


def _supervise(place: Place, cluster: Cluster, seed: int, answer: Answer, screen: "_Screen") -> int:
    foreground = Foreground(cluster, Streams(seed).stream("console"), screen.say, screen.show)
    server = Server(place, foreground.submit)
    began = clock.now()
    reason = "the cluster could not be started"
    exits: list[Exit] = []
    try:
        place.announce(cluster.nodes)
        server.start()
        screen.say(f"{len(cluster.nodes)} nodes in {place.nodes}, seed {seed}, supervisor's pid {os.getpid()}")
        try:
            with _signals(foreground) as started:
                cluster.start()
                started()
                screen.say(f"started in {clock.now() - began:.2f} s; testbed down or Ctrl-C stops it")
                reason = "the cluster is being stopped"
                last = foreground.run()
                exits = cluster.world.exits()
                cluster.stop()
        except KeyboardInterrupt:  # while it was being started
            last = None
        finally:
            cluster.stop()
        screen.say("all nodes are stopped")
        if last is not None:
            place.forget()
            last.finish(Done({"command": "down", "pid": os.getpid(), "nodes": list(cluster.nodes)}))
        ends = [{"node": one.node, "reason": one.reason, "expected": one.expected} for one in exits]
        answer.result({"seconds": round(clock.now() - began, 3), "seed": seed, "exits": ends})
        return _status_of(foreground)
    finally:
        foreground.refuse_the_rest(reason)
        server.close()


@contextmanager
def _signals(foreground: Foreground) -> Iterator[Callable[[], None]]:
    """Until what is given is called, the first signal interrupts; from then on it only asks the loop for the end, and
    more of them do nothing: stopping the nodes must not be interrupted."""
    starting = True

    def stop(signum: int, _: FrameType | None) -> None:
        if foreground.stopped_by is None:
            foreground.stopped_by = signum
            if starting:
                raise KeyboardInterrupt

    def started() -> None:
        nonlocal starting
        starting = False

    earlier = {signum: signal.signal(signum, stop) for signum in SIGNALS}
    try:
        yield started
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)


def _status_of(foreground: Foreground) -> int:
    """Being told to stop is a good end; Ctrl-C says so to the shell."""
    return INTERRUPTED if foreground.stopped_by == signal.SIGINT else VALID


# --- the terminal ---


class _Screen:
    """A line for each change; below them, on a terminal, the present status."""

    def __init__(self, answer: Answer, live: "Live | None") -> None:
        self._answer = answer
        self._live = live
        self._deaf = False

    def say(self, line: str) -> None:
        """A reader that went away (`up | head`) does not end a cluster."""
        stamped = f"{clock.utc().astimezone():%H:%M:%S} {line}"
        try:
            if self._live is not None:
                self._live.console.print(stamped, markup=False, highlight=False, soft_wrap=True)
            elif not self._deaf:
                self._answer.say(stamped)
        except OSError:
            self._deaf = True

    def show(self, status: dict[str, Any]) -> None:
        """Redrawn on a change only."""
        if self._live is not None:
            from rich.text import Text

            with suppress(OSError):  # the terminal was closed; SIGHUP is on its way
                self._live.update(Text.from_ansi(table(status)), refresh=True)


@contextmanager
def _terminal(answer: Answer) -> Iterator[_Screen]:
    if answer.as_json or not sys.stdout.isatty():
        yield _Screen(answer, None)
        return
    from rich.live import Live

    live = Live(auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    try:
        yield _Screen(answer, live)
    finally:
        with suppress(OSError):
            live.stop()
