"""The logs of a simulated cluster: the same lines in the same files as the live world's, at virtual times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from testbed.base.limits import TRACE_BYTES_MAX
from testbed.node import LogLine, log_entry

LEVELS_KEPT: Final = ("INFO", "WARNING", "ERROR")
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # nobody's: a simulated wall clock has to show something


class Logs:
    """One file per node and incarnation below `directory`, and the laboratory's own; nothing is written without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[Path, IO[bytes]] = {}

    @property
    def kept(self) -> bool:
        """Whether there is a place for them."""
        return self._directory is not None

    def write(self, node: str, boot: int, time: float, wall: float, line: LogLine) -> None:
        """One line, at `time` (virtual seconds) and as the node's wall clock (seconds) shows it."""
        if self._directory is None or line.level not in LEVELS_KEPT:
            return
        head = {
            "time": round(time, 6),
            "utc": (EPOCH + timedelta(seconds=wall)).isoformat(),
            "node": node,
            "boot": boot,
            "level": line.level,
            "text": line.text,
        }
        file = self._file(self._directory / "nodes" / node / f"log-{boot:04d}.jsonl")
        file.write(log_entry(head, line.fields) + b"\n")

    def trace(self, node: str, boot: int, time: float, lines: Sequence[LogLine]) -> None:
        """What a step did, at `time` (virtual seconds)."""
        if self._directory is None:
            return
        path = self._directory / "nodes" / node / f"trace-{boot:04d}.jsonl"
        file = self._file(path)
        if file.tell() > TRACE_BYTES_MAX:
            self._files.pop(path).close()
            path.replace(path.with_suffix(".old.jsonl"))
            file = self._file(path)
        head = round(time, 6)
        file.write(b"".join([log_entry({"time": head, "text": line.text}, line.fields) + b"\n" for line in lines]))

    def supervise(self, time: float, what: str, **fields: Any) -> None:
        """A line of the laboratory's log, at `time` (virtual seconds)."""
        if self._directory is not None:
            utc = (EPOCH + timedelta(seconds=time)).isoformat()
            entry = log_entry({"time": round(time, 6), "utc": utc, "what": what}, fields)
            self._file(self._directory / "supervisor.jsonl").write(entry + b"\n")

    def _file(self, path: Path) -> IO[bytes]:
        file = self._files.get(path)
        if file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._files[path] = path.open("wb", buffering=0)
        return file

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
