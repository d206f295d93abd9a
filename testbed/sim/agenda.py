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
        self._interrupted = False

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do that at `time`; at once, but after what is planned for now already, if `time` is past."""
        self._order += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._order, action, arguments))

    @property
    def next(self) -> float:
        """When something happens next; infinity if nothing is planned."""
        return self._heap[0][0] if self._heap else math.inf

    def run(self, until: float) -> None:
        """Let time pass and do what is planned, up to and including `until`, or until an action interrupts."""
        heap, pop = self._heap, heapq.heappop
        self._interrupted = False
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = pop(heap)
            action(*arguments)
            if self._interrupted:
                return
        self.now = until

    def interrupt(self) -> None:
        """Have `run` return after the present action."""
        self._interrupted = True
