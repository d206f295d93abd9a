"""The logs of simulated nodes: the same lines in the same files as the live world's, at virtual times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from testbed.node import LogLine, log_entry

LEVELS_KEPT: Final = ("INFO", "WARNING", "ERROR")
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # nobody's: a simulated wall clock has to show something


class Logs:
    """One file per node and incarnation below `directory`; nothing is written without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[tuple[str, int], IO[bytes]] = {}

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
        self._file(node, boot).write(log_entry(head, line.fields) + b"\n")

    def _file(self, node: str, boot: int) -> IO[bytes]:
        file = self._files.get((node, boot))
        if file is None:
            assert self._directory is not None
            path = self._directory / "nodes" / node / f"log-{boot:04d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._files[node, boot] = path.open("wb")
        return file

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
