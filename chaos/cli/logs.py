"""`testbed logs`: all logs of a run, or of the cluster in this directory, merged in causal order.

Knows which directory is meant and how a line is shown. It reads files only (see `chaos.logbook`), so that the logs of a
cluster that is down can be read too.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from chaos.cli.answers import VALID, Answer, answering
from chaos.console import Place
from chaos.logbook import LEVELS, Entry, Logbook
from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError
from testbed.live import clock

POLL_S: Final = 0.2
LINES_DEFAULT: Final = 50
RUNS: Final = "runs"
LATEST: Final = "latest"
_OWN: Final = ("time", "utc", "source", "node", "boot", "level", "text")  # the rest of an entry are its fields
_COLOURS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DAMAGED": "magenta"}
_ESCAPED: Final = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)]}


@click.command()
@click.argument("run", required=False)
@click.option("--node", "nodes", multiple=True, metavar="ID", help="Only what is about that node. May be repeated.")
@click.option(
    "--level",
    type=click.Choice([level.lower() for level in LEVELS], case_sensitive=False),
    default="info",
    show_default=True,
    help="The least; trace has every message.",
)
@click.option("--since", metavar="TIME", help='From when on: time since the beginning, such as "12.5s".')
@click.option("--until", metavar="TIME", help="Until when, in the same way.")
@click.option("--operation", metavar="ID", help="Only what is about that client's operation: see testbed explain.")
@click.option(
    "--lines",
    type=click.IntRange(0),
    help=f"The last so many. Default: {LINES_DEFAULT}, or all where a time or an operation is given.",
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C or the end of the cluster or run.")
@answering
def logs(
    answer: Answer,
    run: str | None,
    nodes: tuple[str, ...],
    level: str,
    since: str | None,
    until: str | None,
    operation: str | None,
    lines: int | None,
    follow: bool,
) -> int:
    """All logs merged in causal order: nodes, supervisor, faults; with --level trace also clients and messages.

    RUN is a run's directory, its name below runs, or latest. Without it, or with a node's id, it is the cluster of
    testbed up in this directory, also after it is down; or else the latest run. Times are seconds since the beginning.
    What nodes print is in nodes/NODE/output.log beside their logs.
    """
    if follow and answer.as_json:
        raise click.UsageError("--follow does not go with --json, which is one object")
    if follow and operation is not None:
        raise click.UsageError("--follow does not go with --operation, which is found in a finished run's history")
    book, place, node = _book(answer, run)
    nodes = _known(book, (*nodes, node) if node is not None else nodes)
    asked: dict[str, Any] = {
        "node": nodes or None,
        "level": level,
        "since": _instant(book, "--since", since),
        "until": _instant(book, "--until", until),
    }
    if lines is None and since is until is operation is None:
        lines = LINES_DEFAULT
    shown = deque(book.new(**asked, last=lines) if follow else _found(book, operation, asked), maxlen=lines)
    answer.result({"directory": str(book.directory), "begins": book.begins, "lines": list(shown)})
    if not answer.as_json:
        _print(answer, shown, book.begins)
    if follow:
        _follow(answer, book, place, asked)
    return VALID


def _found(book: Logbook, operation: str | None, asked: dict[str, Any]) -> Iterable[Entry]:
    if operation is None:
        return book.stream(**asked)
    from chaos.logbook.files import wanted
    from chaos.logbook.journey import Journey
    from chaos.logbook.operations import find

    bounds = wanted(asked["node"], "trace", asked["since"], asked["until"])
    return (entry for entry in Journey(book, find(book, operation)).entries if bounds.takes(entry))


def _follow(answer: Answer, book: Logbook, place: Place | None, asked: dict[str, Any]) -> None:
    running = True
    while running:
        running = place.card.exists() if place is not None else not book.ended
        clock.sleep(POLL_S if running else 0)
        _print(answer, book.new(**asked), book.begins)  # after the look: what was written until then is still shown
    _print(answer, book.rest(), book.begins)


def _print(answer: Answer, entries: Iterable[Entry], begins: float) -> None:
    for entry in entries:
        colour = None if os.environ.get("NO_COLOR") else _COLOURS.get(entry["level"])
        answer.say(click.style(readable(entry, begins), fg=colour) if colour else readable(entry, begins))


# --- which directory, which nodes, which time ---


def run_directory(name: str) -> Path | None:
    """The run that is meant: a directory, a name below runs, or latest; None if there is no such directory."""
    return next((path for path in (Path(name), Path(RUNS, name)) if path.is_dir()), None)


def _book(answer: Answer, run: str | None) -> tuple[Logbook, Place | None, str | None]:
    """The logs that are meant, the place if they are a cluster's in this directory, and the node if `run` was one."""
    place = Place(Path.cwd())
    chosen = run_directory(run) if run is not None else None
    if chosen is not None:
        return _of_run(chosen), None, None
    cluster = Logbook(place.directory)
    if cluster.nodes:
        if run is not None and run not in cluster.nodes:
            there = ", ".join(cluster.nodes)
            raise UsageError("logs", run, f"is no node of this cluster, nor a run; there are {there}")
        return cluster, place, run
    latest = run_directory(LATEST)
    if latest is None or (run is not None and run not in _of_run(latest).nodes):
        nothing = "no cluster has run in this directory"
        if run is None:
            raise UsageError(place.directory.parent, "", f"{nothing}, and there is no {RUNS}/{LATEST}")
        raise UsageError("logs", run, f"is no run, and {nothing} with a node of that name")
    answer.progress(f"no cluster has run in this directory: this is {latest.resolve()}")
    return _of_run(latest), None, run


def _of_run(directory: Path) -> Logbook:
    book = Logbook(directory)
    if not book.nodes and not book.beginning:
        raise UsageError(directory, "", "holds no logs of a run")
    return book


def _known(book: Logbook, nodes: tuple[str, ...]) -> tuple[str, ...]:
    for node in nodes:
        if node not in book.nodes:
            raise UsageError("logs", node, f"is no node of this cluster; there are {', '.join(book.nodes)}")
    return nodes


def _instant(book: Logbook, option: str, text: str | None) -> float | None:
    """On the clock of the logs."""
    if text is None:
        return None
    try:
        return book.begins + parse_duration(text if text[-1:].isalpha() else f"{text}s")
    except ValueError:
        raise UsageError("logs", option, f'{text!r} is not a time such as "12.5s"') from None


# --- words ---


def readable(entry: Entry, begins: float = 0.0) -> str:
    """One line: seconds since the beginning, who, how grave, what, and the fields."""
    source = entry.get("source", "node" if "text" in entry else "supervisor")
    who = str(entry.get("node", source)) if source == "node" else source
    text = entry.get("text", entry.get("what", ""))
    fields = [(key, value) for key, value in _fields(entry) if not (key == "what" and value == text)]
    if source == "supervisor" and entry.get("node") is not None:
        fields.insert(0, ("node", entry["node"]))
    shown = " ".join(_short(value) if key == "text_" else f"{key}={_short(value)}" for key, value in fields)
    line = f"{entry['time'] - begins:12.3f} {who:<10} {entry.get('level', 'INFO'):<7} {text}  {shown}"
    return " ".join(line.rstrip().splitlines()).translate(_ESCAPED)


def _fields(entry: Entry) -> Iterator[tuple[str, Any]]:
    """What is its own; a message's kind comes first, and its parts as if they were the entry's."""
    for key, value in entry.items():
        if key in _OWN:
            continue
        if key == "what" and isinstance(value, dict):
            yield "what", value.get("type", "message")
            yield from ((part, held) for part, held in value.items() if part != "type")
        else:
            yield key, value


def _short(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
