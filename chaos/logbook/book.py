"""All logs of a run as one: nodes, supervisor, faults, requests and traces, merged in causal order.

The order. All stamps are of one clock: the machine's monotonic one, or in simulation the virtual one. What a step sends
is stamped before it leaves, and what arrives after it arrived; so an effect never has an earlier stamp than its cause,
and the order of the stamps is a causal order. Within one file its own order counts above all: no line comes before its
predecessor, whatever its stamp. Where stamps are equal, who sends comes before who receives, and then the experiment
before the supervisor before the nodes.
"""

import os
from collections import deque
from collections.abc import Collection, Iterator
from functools import cached_property
from heapq import merge
from pathlib import Path
from typing import IO, Final

from chaos.logbook.files import (
    LEVELS,
    LINE_BYTES_MAX,
    Entry,
    LogFile,
    Wanted,
    entries_of,
    entry_of,
    files_of_node,
    log_files,
    node_directories,
    read_lines,
    wanted,
)

SENDING: Final = 0  # the order of what has the same stamp
DOING: Final = 1
RECEIVING: Final = 2
_TURNS: Final = {"asks": SENDING, "sent": SENDING, "published": SENDING, "heard": RECEIVING, "received": RECEIVING}

Placed = tuple[tuple[float, int], Entry]  # place in time, turn within it

EVERYTHING: Final = wanted(None, "TRACE")
TAIL_BYTES: Final = 4096  # of the experiment's log: its last line is shorter
LATE_S: Final = 1.0  # from a process's first line to that of its trace, at the least, if some of it is not kept


class Logbook:
    """The logs below a run directory, or below the `.testbed` of `testbed up`; tolerant of whatever is wrong with them.

    An entry is a dict: "time", "source" (clients, experiment, supervisor or node), "level", "text", where it is a
    node's or about one "node", of a node's also "boot", and the fields of its own. What cannot be read is an entry of
    level DAMAGED. Times here are in the seconds of "time"; `begins` is where the run's own time is 0.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._tails: dict[tuple[int, int], _Tail] = {}

    # --- what there is ---

    @cached_property
    def beginning(self) -> Entry:
        """The experiment's first line: scenario, world, seed, nodes …; empty if there is none."""
        file = LogFile(self.directory / "experiment.jsonl", "experiment")
        return next((entry for _, entry in self._read(file, EVERYTHING) if entry["text"] == "begins"), {})

    @cached_property
    def begins(self) -> float:
        """When the run began: as the experiment says, or else the first stamp there is."""
        if self.beginning:
            return float(self.beginning["time"])
        firsts = [self._first(file) for file in log_files(self.directory, EVERYTHING)]
        return min((first for first in firsts if first is not None), default=0.0)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes, by the experiment's word and by what they left."""
        told = self.beginning.get("nodes")
        names = [name for name in told if isinstance(name, str)] if isinstance(told, list) else []
        return tuple(dict.fromkeys([*names, *(path.name for path in node_directories(self.directory))]))

    @property
    def ended(self) -> bool:
        """Whether the run is over, as far as its experiment says."""
        if (self.directory / "summary.json").exists():
            return True
        try:
            with open(self.directory / "experiment.jsonl", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                lines = file.read().splitlines()
        except OSError:
            return False
        log = LogFile(self.directory / "experiment.jsonl", "experiment")
        return bool(lines) and entry_of(lines[-1], log, 0.0)["text"] == "ends"

    @property
    def missing(self) -> list[str]:
        """What is not there, or not whole, in words."""
        gaps = _gaps(self.directory / "supervisor.jsonl", "supervisor.jsonl", "of starts and exits")
        if self.beginning or any((self.directory / name).exists() for name in ("scenario.toml", "history.jsonl")):
            gaps += _gaps(self.directory / "experiment.jsonl", "experiment.jsonl", "of faults and phases")
            gaps += _gaps(self.directory / "clients.jsonl", "clients.jsonl", "of which request is for which operation")
        untraced = [node for node in self.nodes if not self.has_trace(node)]
        for node in self.nodes:
            files = self._files_of(node)
            if all(file.is_trace for file in files):
                gaps.append(f"nodes/{node} has no log")
            for file in files:
                gaps += _gaps(file.path, f"nodes/{node}/{file.path.name}", "")
            for boot, begins in self.late_traces(node):
                gaps.append(f"the trace of {node}'s process {boot} begins at {begins:.3f} s: older lines are not kept")
        if untraced:
            gaps.append(f"no traces of messages of {', '.join(untraced)}")
        return gaps

    def has_trace(self, node: str) -> bool:
        """Whether anything is kept of what the node did message by message."""
        return any(file.is_trace for file in self._files_of(node))

    def late_traces(self, node: str) -> list[tuple[int, float]]:
        """Which of its processes' traces lack their beginning, which was too long ago; where they begin (run's time).

        Of a trace the two newest parts are kept, so that nothing is lost before there are two.
        """
        files = self._files_of(node)
        logs = {file.boot: self._first(file) for file in files if not file.is_trace}
        traces: dict[int | None, list[LogFile]] = {}
        for file in files:
            if file.is_trace:
                traces.setdefault(file.boot, []).append(file)
        late = []
        for boot, parts in traces.items():
            begun, first = logs.get(boot), self._first(parts[0])
            if (
                boot is not None
                and len(parts) > 1
                and begun is not None
                and first is not None
                and first > begun + LATE_S
            ):
                late.append((boot, first - self.begins))
        return late

    def _files_of(self, node: str) -> list[LogFile]:
        return files_of_node(self.directory / "nodes" / node)

    def _first(self, file: LogFile) -> float | None:
        first = next(self._read(file, EVERYTHING), None)
        return None if first is None else float(first[1]["time"])

    # --- all of it ---

    def stream(
        self,
        node: str | Collection[str] | None = None,
        level: str = "INFO",
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[Entry]:
        """The entries about `node` - one, several, or None for all - from `level` up, merged while they are read.

        Traces and requests are read for level TRACE only. ValueError for a level that there is not.
        """
        asked = self._wanted(node, level, since, until)
        files = [self._read(file, asked) for file in log_files(self.directory, asked)]
        return (entry for _, entry in merge(*files, key=_place))

    def entries(
        self,
        node: str | Collection[str] | None = None,
        level: str = "INFO",
        since: float | None = None,
        until: float | None = None,
    ) -> list[Entry]:
        """The same at once. Of a long run's traces there may be millions."""
        return list(self.stream(node, level, since, until))

    def requests(self) -> Iterator[Entry]:
        """What client programs sent, one entry a request."""
        file = LogFile(self.directory / "clients.jsonl", "clients", "TRACE")
        return (entry for _, entry in self._read(file, EVERYTHING))

    def _wanted(
        self, node: str | Collection[str] | None, level: str, since: float | None, until: float | None
    ) -> Wanted:
        if level.upper() not in LEVELS:
            raise ValueError(f"{level!r} is none of {', '.join(LEVELS)}")
        return wanted(node, level, since, until)

    def _read(self, file: LogFile, asked: Wanted) -> Iterator[Placed]:
        try:
            with open(file.path, "rb") as stream:
                for time, entry in entries_of(read_lines(stream), file, 0.0, asked):
                    yield (time, _TURNS.get(entry["text"], DOING)), entry
        except OSError:  # not there, or not to be read: `missing` says so
            return

    # --- what comes ---

    def new(
        self,
        node: str | Collection[str] | None = None,
        level: str = "INFO",
        since: float | None = None,
        until: float | None = None,
        last: int | None = None,
    ) -> list[Entry]:
        """The entries since the last call, in the order of `stream`; ask for the same ones each time.

        Only whole lines: the last one of a file may be being written. An entry is held back until the call after the
        one that found it, unless all files were read once more since: another file may yet tell of what came before
        it. `last`: of each file, that many entries at the most are kept (for a first call, to begin near the end).
        """
        asked = self._wanted(node, level, since, until)
        if not self._tails:
            self._look(asked, last)
        horizon = max((tail.held[-1][0][0] for tail in self._tails.values() if tail.held), default=None)
        self._look(asked, last)
        if horizon is None:
            return []
        return [entry for _, entry in merge(*(tail.release(horizon) for tail in self._tails.values()), key=_place)]

    def rest(self) -> list[Entry]:
        """What `new` still holds back, when nothing more will come."""
        return [entry for _, entry in merge(*(tail.release(None) for tail in self._tails.values()), key=_place)]

    def _look(self, asked: Wanted, last: int | None) -> None:
        """A file keeps its place under another name: traces that have grown too large get one."""
        for file in log_files(self.directory, asked):
            try:
                with open(file.path, "rb") as stream:
                    status = os.fstat(stream.fileno())
                    tail = self._tails.setdefault((status.st_dev, status.st_ino), _Tail())
                    if status.st_size < tail.read:  # the number of a file that is gone was given to another
                        tail.read = 0
                    tail.take(stream, file, asked, last)
            except OSError:
                continue


class _Tail:
    """How far a file was read, in bytes, and what of it is held back."""

    def __init__(self) -> None:
        self.read = 0
        self.held: deque[Placed] = deque()
        self._before = 0.0

    def take(self, stream: IO[bytes], file: LogFile, asked: Wanted, last: int | None) -> None:
        stream.seek(self.read)
        for time, entry in entries_of(self._whole(stream), file, self._before, asked):
            self.held.append(((time, _TURNS.get(entry["text"], DOING)), entry))
            self._before = time
            if last is not None and len(self.held) > last:
                self.held.popleft()

    def _whole(self, stream: IO[bytes]) -> Iterator[bytes]:
        for line in read_lines(stream):
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                return
            self.read += len(line)
            yield line

    def release(self, horizon: float | None) -> list[Placed]:
        """What is not beyond it."""
        released = []
        while self.held and (horizon is None or self.held[0][0][0] <= horizon):
            released.append(self.held.popleft())
        return released


def _place(placed: Placed) -> tuple[float, int]:
    return placed[0]


def _gaps(path: Path, name: str, about: str) -> list[str]:
    """What is wrong with a file, if anything."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return [f"{name} is empty"]
            file.seek(size - 1)
            return [] if file.read(1) == b"\n" else [f"{name} ends within a line"]
    except FileNotFoundError:
        return [f"{name} is missing: nothing is known {about}".removesuffix(": nothing is known ")]
    except OSError as error:
        return [f"{name} cannot be read: {error.strerror}"]
