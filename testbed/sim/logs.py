"""The logs of simulated nodes: the same lines in the same files as the live world's, at virtual times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import msgspec

from testbed.node import LogLine

LEVELS_KEPT: Final = ("INFO", "WARNING", "ERROR")
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # nobody's: a simulated wall clock has to show something

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Logs:
    """One file per node and incarnation below `directory`; nothing is written without one."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[tuple[str, int], IO[bytes]] = {}

    def write(self, node: str, boot: int, time: float, wall: float, line: LogLine) -> None:
        """One line, at `time` (virtual seconds) and as the node's wall clock (seconds) shows it."""
        if self._directory is None or line.level not in LEVELS_KEPT:
            return
        entry = {
            "time": round(time, 6),
            "utc": (EPOCH + timedelta(seconds=wall)).isoformat(),
            "node": node,
            "boot": boot,
            "level": line.level,
            "text": line.text,
        }
        for name, value in line.fields.items():
            entry[f"{name}_" if name in entry else name] = value
        try:
            shown = _encode(entry)
        except (TypeError, ValueError, OverflowError, RecursionError):  # what JSON cannot hold
            shown = _encode(
                {name: value if isinstance(value, str | float) else repr(value) for name, value in entry.items()}
            )
        self._file(node, boot).write(shown + b"\n")

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
