"""`testbed logs`: the lines of all nodes' logs and of the supervisor's, merged by time.

Knows the log files' shape and place. It reads files only, so that the logs of a cluster that is down can be read too.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from chaos.cli.answers import VALID, Answer, answering
from chaos.console import Place
from testbed.base.errors import UsageError
from testbed.live import clock

POLL_S: Final = 0.2
LINES_DEFAULT: Final = 50
_OWN: Final = ("time", "utc", "node", "boot", "level", "text", "what")  # the rest of a line are its fields

Entry = dict[str, Any]


@click.command()
@click.argument("node", required=False)
@click.option(
    "--lines", type=click.IntRange(0), default=LINES_DEFAULT, show_default=True, help="How many, at the most."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C or the end of the cluster.")
@answering
def logs(answer: Answer, node: str | None, lines: int, follow: bool) -> int:
    """The nodes' logs and the supervisor's, merged by time; with NODE, only what is about that node.

    It also serves after the cluster is down. What nodes print is in .testbed/nodes/NODE/output.log.
    """
    if follow and answer.as_json:
        raise click.UsageError("--follow does not go with --json, which is one object")
    place = Place(Path.cwd())
    files = LogFiles(place, node)
    entries = files.new()
    shown = entries[len(entries) - lines :] if lines < len(entries) else entries
    answer.result({"lines": shown})
    if not answer.as_json:
        _print(answer, shown)
    running = follow and place.card.exists()
    while running:
        running = place.card.exists()  # before the look: what is written until then is still shown
        _print(answer, files.new())
        clock.sleep(POLL_S if running else 0)
    return VALID


def _print(answer: Answer, entries: Iterable[Entry]) -> None:
    for entry in entries:
        answer.say(readable(entry))


class LogFiles:
    """The log files of a directory's cluster, read as they grow. UsageError if there are none, or no such node."""

    def __init__(self, place: Place, node: str | None) -> None:
        known = sorted(path.name for path in place.nodes.glob("*") if path.is_dir())
        if not known:
            raise UsageError(place.directory.parent, "", "no cluster has run in this directory")
        if node is not None and node not in known:
            raise UsageError("logs", node, f"is no node of this cluster; there are {', '.join(known)}")
        self._place = place
        self._node = node
        self._read: dict[Path, int] = {}  # bytes

    def new(self) -> list[Entry]:
        """The entries since the last call, ordered by time; where that is equal, in each file's order."""
        paths = sorted(self._place.nodes.glob(f"{self._node or '*'}/log-*.jsonl"))
        entries = [entry for path in paths for entry in self._of(path)]
        for entry in self._of(self._place.directory / "supervisor.jsonl"):
            if self._node is None or entry.get("node") in (None, self._node):
                entries.append(entry)
        return sorted(entries, key=lambda entry: entry["time"])

    def _of(self, path: Path) -> list[Entry]:
        """Whole lines only: the last one may be being written."""
        try:
            with open(path, "rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UsageError(path, "", f"cannot be read: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        entries: list[Entry] = []
        for line in whole.splitlines():
            before = entries[-1]["time"] if entries else 0.0
            entries.append(_entry(line, before, path))
        return entries


def _entry(line: bytes, before: float, path: Path) -> Entry:
    """A damaged line keeps its place and is shown as it is."""
    try:
        entry = msgspec.json.decode(line)
        if isinstance(entry, dict) and isinstance(entry.get("time"), int | float):
            return entry
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return {"time": before, "level": "DAMAGED", "text": line.decode(errors="replace"), "file": str(path)}


def readable(entry: Entry) -> str:
    """One line: when, who, how grave, what, and the fields."""
    who = entry["node"] if "text" in entry and "node" in entry else "supervisor"
    text = entry.get("text", entry.get("what", ""))
    fields = {key: value for key, value in entry.items() if key not in _OWN}
    if who == "supervisor" and entry.get("node") is not None:
        fields = {"node": entry["node"]} | fields
    shown = " ".join(f"{key}={_short(value)}" for key, value in fields.items())
    line = f"{_clock(entry)} {who:<10} {entry.get('level', 'INFO'):<7} {text}  {shown}"
    return " ".join(line.rstrip().splitlines())


def _clock(entry: Entry) -> str:
    """The local time of day, in milliseconds."""
    try:
        return datetime.fromisoformat(str(entry["utc"])).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (KeyError, ValueError):
        return f"{entry['time']:12.3f}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
