"""The experiment's own logs, in the run's directory: what it did and when, and which requests its clients sent.

It writes; `chaos.logbook` reads. Times are seconds on the world's clock, as in the logs of the nodes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

EXPERIMENT: Final = "experiment.jsonl"
CLIENTS: Final = "clients.jsonl"

_encode = msgspec.json.Encoder().encode


class Journal:
    """Both files; nothing is written without a directory. Close it."""

    def __init__(self, directory: Path | None, requests: bool = True) -> None:
        self._experiment: IO[bytes] | None = None
        self._clients: IO[bytes] | None = None
        if directory is not None:
            self._experiment = (directory / EXPERIMENT).open("wb", buffering=0)
            self._clients = (directory / CLIENTS).open("wb") if requests else None

    def note(self, time: float, what: str, **fields: Any) -> None:
        """A line of the experiment's log, on disk when this returns."""
        if self._experiment is not None:
            self._experiment.write(_encode({"time": round(time, 6), "what": what, **fields}) + b"\n")

    def fault(self, time: float, event: Mapping[str, Any]) -> None:
        """A step of a fault: an event as `chaos.leases.event` makes it."""
        self.note(time, "fault", kind=event["f"], **event["value"])

    def request(self, time: float, workload: int, invocation: tuple[int, int], request: int, node: str) -> None:
        """A client sent a request: for the operation that this process invoked at that stamp of the history."""
        if self._clients is not None:
            process, invoked = invocation
            line = {"time": round(time, 6), "process": process, "invoked": invoked, "workload": workload}
            self._clients.write(_encode({**line, "request": request, "asks": node}) + b"\n")

    def close(self) -> None:
        """Close the files."""
        for file in (self._experiment, self._clients):
            if file is not None:
                file.close()
        self._experiment = self._clients = None
