"""Virtual time: what will happen, in order. It knows no nodes and no chance."""

import heapq
import math
from collections.abc import Callable
from typing import Any


class Agenda:
    """Actions with the virtual time (seconds) at which they happen; of equal times the one planned first goes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do that at `time`; at once, but after what is planned for now already, if `time` is past."""
        self._order += 1
        heapq.heappush(self._heap, (max(time, self.now), self._order, action, arguments))

    @property
    def next(self) -> float:
        """When something happens next; infinity if nothing is planned."""
        return self._heap[0][0] if self._heap else math.inf

    def step(self) -> None:
        """Let time pass to the next action, and do it."""
        self.now, _, action, arguments = heapq.heappop(self._heap)
        action(*arguments)

    def pass_to(self, time: float) -> None:
        """Let time pass in which nothing happens."""
        assert self.now <= time <= self.next
        self.now = time
