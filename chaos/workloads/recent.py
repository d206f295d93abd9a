"""The operations that were completed lately: for whoever looks on. Judges look at histories instead."""

from collections import deque
from collections.abc import Callable
from typing import Final

KEPT_MAX: Final = 20_000  # seconds of a busy run

Completed = tuple[float, str, float]  # seconds since the start of the run, ok / fail / info, latency in seconds


class Recent:
    """Written by the clients' thread, read by others. `now`: seconds since the start of the run."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._completed: deque[Completed] = deque(maxlen=KEPT_MAX)

    def note(self, time: float, kind: str, latency: float) -> None:
        """One operation came to its end."""
        self._completed.append((time, kind, latency))

    def since(self, seconds: float) -> list[Completed]:
        """What was completed in the last `seconds`, oldest first."""
        begin = self._now() - seconds
        return [one for one in self._completed.copy() if one[0] >= begin]
