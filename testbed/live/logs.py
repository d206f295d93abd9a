"""A node's log: loguru, one file per node and incarnation, one JSON object a line, one write a line.

No queue, no thread, no sink that can block: what is logged is in the file before the node goes on, and a SIGKILL loses
none of it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from testbed.live import clock
from testbed.node import LogLine, log_entry

if TYPE_CHECKING:
    from loguru import Message

_encode = msgspec.json.Encoder(enc_hook=str).encode


def log_path(directory: Path, boot: int) -> Path:
    """The log of a node's process, by the incarnation that it started with."""
    return directory / f"log-{boot:04d}.jsonl"


class NodeLog:
    """Writes log lines. `time`: seconds of the machine's monotonic clock, which orders the lines of all nodes."""

    def __init__(self, directory: Path, node: str, boot: int, level: str = "INFO") -> None:
        self._file = os.open(log_path(directory, boot), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        logger.remove()
        logger.add(self._write, level=level, format="{message}", backtrace=False, diagnose=False, catch=False)
        self._logger = logger.bind(node=node, boot=boot)

    def write(self, line: LogLine) -> None:
        """One line."""
        self._logger.bind(fields=line.fields).log(line.level, "{}", line.text)

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
        os.write(self._file, log_entry(head, extra["fields"]) + b"\n")


class JsonLines:
    """Appends JSON objects to a file, one a line, one write a line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, **fields: Any) -> None:
        """One line; `time` (monotonic) and `utc` are added."""
        entry = {"time": round(clock.now(), 6), "utc": clock.utc().isoformat(), **fields}
        os.write(self._file, _encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
