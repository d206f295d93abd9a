"""A node's log: loguru, one file per node and incarnation, one JSON object a line, one write a line.

No queue, no thread, no sink that can block: what is logged is in the file before the node goes on, and a SIGKILL loses
none of it. What the file does not take at once - a full disk, a pipe that nobody reads - is lost, counted, and told by
the next line that gets through: a log must never be what stops a node.

Traces, which are many, are in a file of their own, and bypass loguru: a line of its costs 33 us, one of theirs 3.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from testbed.base.limits import TRACE_BYTES_MAX
from testbed.live import clock
from testbed.node import LogLine, log_entry

if TYPE_CHECKING:
    from loguru import Message

_encode = msgspec.json.Encoder(enc_hook=str).encode
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # of a pipe; on a disk it says nothing


def log_path(directory: Path, boot: int) -> Path:
    """The log of a node's process, by the incarnation that it started with."""
    return directory / f"log-{boot:04d}.jsonl"


def trace_path(directory: Path, boot: int) -> Path:
    """Its trace. What was in it before it grew too large is beside it, with `.old` in its name."""
    return directory / f"trace-{boot:04d}.jsonl"


class LogFile:
    """Appends lines, and never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._torn = False
        self._told = 0
        self.lost = 0  # lines, so far
        self.bytes = 0  # written here, so far
        self._open()

    def _open(self) -> None:
        try:
            self._file = os.open(self._path, _FLAGS, 0o644)
        except OSError:  # a pipe without a reader, a full disk, too many open files: tried again with the next line
            self._file = None

    def write(self, data: bytes, lines: int = 1) -> None:
        """Whole lines, with their ends."""
        if self._file is None:
            self._open()
        if self._torn:
            data = b"\n" + data
        if self.lost > self._told:
            data = _encode(
                {"time": round(clock.now(), 6), "level": "WARNING", "text": "lines lost", "lost": self.lost}
            ) + (b"\n" + data)
        try:
            written = os.write(self._file, data) if self._file is not None else 0
        except OSError:
            written = 0
        self.bytes += written
        if written == len(data):
            self._torn, self._told = False, self.lost
        else:
            self._torn = self._torn or written > 0
            self.lost += lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class NodeLog:
    """Writes log lines. `time`: seconds of the machine's monotonic clock, which orders the lines of all nodes."""

    def __init__(self, directory: Path, node: str, boot: int, level: str = "INFO") -> None:
        self._file = LogFile(log_path(directory, boot))
        self._trace_path = trace_path(directory, boot)
        self._trace: LogFile | None = None
        logger.remove()
        logger.add(self._write, level=level, format="{message}", backtrace=False, diagnose=False, catch=False)
        self._logger = logger.bind(node=node, boot=boot)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._file.lost + (self._trace.lost if self._trace is not None else 0)

    def write(self, line: LogLine) -> None:
        """One line."""
        self._logger.bind(fields=line.fields).log(line.level, "{}", line.text)

    def trace(self, lines: Sequence[LogLine], time: float) -> None:
        """What a step did, in one write. `time`: seconds of the machine's monotonic clock."""
        if not lines:
            return
        if self._trace is None or self._trace.bytes > TRACE_BYTES_MAX:
            self._next_trace()
        assert self._trace is not None
        stamp = round(time, 6)
        data = b"".join([log_entry({"time": stamp, "text": line.text}, line.fields) + b"\n" for line in lines])
        self._trace.write(data, len(lines))

    def _next_trace(self) -> None:
        if self._trace is not None:
            self._trace.close()
            self._trace_path.replace(self._trace_path.with_suffix(".old.jsonl"))
        self._trace = LogFile(self._trace_path)

    def _write(self, message: "Message") -> None:
        record = message.record
        extra: dict[str, Any] = record["extra"]
        head = {
            "time": round(clock.now(), 6),
            "utc": record["time"].astimezone().isoformat(),
            "node": extra["node"],
            "boot": extra["boot"],
            "level": record["level"].name,
            "text": record["message"],
        }
        self._file.write(log_entry(head, extra["fields"]) + b"\n")


class JsonLines:
    """Appends JSON objects to a file, one a line, one write a line."""

    def __init__(self, path: Path) -> None:
        self._file = LogFile(path)

    def write(self, **fields: Any) -> None:
        """One line; `time` (monotonic) and `utc` are added."""
        entry = {"time": round(clock.now(), 6), "utc": clock.utc().isoformat(), **fields}
        self._file.write(_encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
