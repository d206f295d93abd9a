"""The log files of a directory: which there are, whose they are, and what a line of each becomes.

Knows places, names and the shape of a line, and that any of it may be missing, empty or damaged. Does not know what the
lines are about, nor what order there is between two files.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

Entry = dict[str, Any]
Source = Literal["clients", "experiment", "supervisor", "node"]

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
DAMAGED: Final = "DAMAGED"
RANK_OF_LEVEL: Final = {name: rank for rank, name in enumerate(LEVELS)} | {"SUCCESS": 2, "CRITICAL": 4, DAMAGED: 5}

LINE_BYTES_MAX: Final = 2**20  # what is longer was never written by a testbed: it is read in pieces
SHOWN_CHARACTERS_MAX: Final = 300  # of a damaged line
TIME_S_MAX: Final = 1e12  # nor does a clock of the testbed get so far

_NAME: Final = re.compile(r"(log|trace)-(\d+)(\.old)?\.jsonl\Z")


class _Stamp(msgspec.Struct):
    time: float


_decode = msgspec.json.Decoder().decode
_stamp = msgspec.json.Decoder(_Stamp).decode


@dataclass(frozen=True)
class LogFile:
    """One file. `level`: of those lines that name none. `node` and `boot`: of a node's file."""

    path: Path
    source: Source
    level: str = "INFO"
    node: str | None = None
    boot: int | None = None

    @property
    def is_trace(self) -> bool:
        """Whether it holds what a node did message by message, and nothing else."""
        return self.source == "node" and self.level == "TRACE"


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for. `since` and `until` in the seconds of their `time`; `nodes` None: of all."""

    nodes: frozenset[str] | None = None
    rank: int = RANK_OF_LEVEL["INFO"]
    since: float | None = None
    until: float | None = None

    def takes(self, entry: Entry) -> bool:
        """Whether it is one of those. What is about no node in particular belongs to each of them."""
        if RANK_OF_LEVEL.get(entry["level"], RANK_OF_LEVEL["INFO"]) < self.rank or not self.covers(entry["time"]):
            return False
        return self.nodes is None or not (about := nodes_of(entry)) or not self.nodes.isdisjoint(about)

    def covers(self, time: float) -> bool:
        """Whether the time is one of those."""
        return (self.since is None or time >= self.since) and (self.until is None or time <= self.until)


def wanted(
    node: str | Collection[str] | None, level: str, since: float | None = None, until: float | None = None
) -> Wanted:
    """The same, as it is asked for: one node, several, or None for all."""
    nodes = None if node is None else frozenset([node] if isinstance(node, str) else node)
    return Wanted(nodes, RANK_OF_LEVEL[level.upper()], since, until)


def nodes_of(entry: Entry) -> tuple[str, ...]:
    """Which nodes an entry is about; none if it is about all."""
    if isinstance(entry.get("node"), str):
        return (entry["node"],)
    found = entry.get("nodes")
    return tuple(node for node in found if isinstance(node, str)) if isinstance(found, list) else ()


def node_directories(directory: Path) -> list[Path]:
    """Those of the nodes, n2 before n10."""
    try:
        found = [path for path in (directory / "nodes").iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


def log_files(directory: Path, asked: Wanted) -> list[LogFile]:
    """The files that may hold what is asked for, who acts before who is acted upon; each node's oldest first."""
    files = [LogFile(directory / f"{name}.jsonl", name) for name in ("experiment", "supervisor")]
    traced = asked.rank <= RANK_OF_LEVEL["TRACE"]
    if traced:
        files.insert(0, LogFile(directory / "clients.jsonl", "clients", "TRACE"))
    for place in node_directories(directory):
        if asked.nodes is None or place.name in asked.nodes:
            files += [file for file in files_of_node(place) if traced or not file.is_trace]
    return files


def files_of_node(place: Path) -> list[LogFile]:
    """A node's logs, and then its traces."""
    found: list[tuple[str, int, bool, LogFile]] = []
    try:
        paths = list(place.iterdir())
    except OSError:
        return []
    for path in paths:
        name = _NAME.match(path.name)
        if name is not None:
            level = "TRACE" if name[1] == "trace" else "INFO"
            file = LogFile(path, "node", level, place.name, int(name[2]))
            found.append((name[1], int(name[2]), name[3] is None, file))
    return [file for *_, file in sorted(found, key=lambda one: one[:3])]


def read_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines with their ends, the last one perhaps without; whatever their length, in pieces of a bounded one."""
    return iter(lambda: stream.readline(LINE_BYTES_MAX), b"")


def entries_of(lines: Iterator[bytes], file: LogFile, before: float, asked: Wanted) -> Iterator[tuple[float, Entry]]:
    """What is asked for, each with the place in time that it has there: never before the line before it.

    `before`: the place of what came before these lines. A damaged line has the time of its predecessor.
    """
    bounded = asked.since is not None or asked.until is not None
    for line in lines:
        if bounded and (time := _time_of(line)) is not None and not asked.covers(time):
            before = max(before, time)
            continue
        if not line.strip():
            continue
        entry = entry_of(line, file, before)
        before = max(before, entry["time"])
        if asked.takes(entry):
            yield before, entry


def _time_of(line: bytes) -> float | None:
    """Read at a third of the cost of the whole line."""
    try:
        return _stamp(line).time
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def entry_of(line: bytes, file: LogFile, before: float) -> Entry:
    """A line as an entry; a damaged one as it is, with the time `before`."""
    try:
        found = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _is_time(found.get("time")):
        text = line.decode(errors="replace").strip()[:SHOWN_CHARACTERS_MAX]
        return {"time": before, **_whose(file), "level": DAMAGED, "text": text, "file": str(file.path)}
    if file.source == "node" and "source" in found:
        found["source_"] = found.pop("source")  # the node's own word, as `testbed.node.log_entry` does it
    entry = {"time": 0.0, **_whose(file), "level": file.level, "text": ""} | found
    if file.source == "clients":
        entry |= {"text": "asks", "node": entry.get("asks")}
    elif isinstance(found.get("what"), str) and file.source != "node":
        entry |= {"text": found["what"]} | ({"text_": found["text"]} if "text" in found else {})
    if not isinstance(entry["text"], str):
        entry["text"] = msgspec.json.encode(entry["text"]).decode()
    entry["level"] = _level(entry, file)
    return entry


def _whose(file: LogFile) -> Entry:
    return {"source": file.source} | ({"node": file.node, "boot": file.boot} if file.node is not None else {})


def _level(entry: Entry, file: LogFile) -> str:
    if file.source == "supervisor" and "level" in entry:
        if entry["text"] == "failed":
            return "ERROR"
        if entry.get("expected") is False:  # an exit that no fault had caused
            return "WARNING"
    return entry["level"].upper() if isinstance(entry["level"], str) else file.level


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < TIME_S_MAX
