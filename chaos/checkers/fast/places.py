"""The order of reads of a whole set: one by one, each as early as possible.

Knows which elements each read saw, and between which times each element must come and go. Knows no calls.

What may come next depends on which reads were placed and on the time, not on their order: so a set of reads that led
nowhere is remembered, and need not be tried again at that time or later.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask

# Places of reads that are tried, per read and at least, before the search has to.
TRIES_PER_READ_MAX: Final = 16
TRIES_MIN: Final = 1 << 14

Window = tuple[float, float]


class Known(NamedTuple):
    """An element that reads saw, so many of them. It came before `latest` and went after `earliest`, as the calls about
    it say; as the reads do, too, it went after `last`."""

    latest: float
    earliest: float
    last: float
    reads: int


class Places:
    """Places reads one by one. They are numbered by when they must have been placed; all before `front` were, and of
    those after it the bits of `mask` say so."""

    def __init__(
        self,
        items: Sequence[frozenset[Hashable]],
        earliest: Sequence[float],
        latest: Sequence[float],
        known: dict[Hashable, Known],
        gaps: Sequence[Window],
        ask: Ask,
    ) -> None:
        self._numbers = sorted(range(len(items)), key=latest.__getitem__)
        self._items = [items[number] for number in self._numbers]
        self._earliest = [earliest[number] for number in self._numbers]
        self._latest = [latest[number] for number in self._numbers]
        self._known = known
        self._gaps = gaps
        self._ask = ask
        self._open = self._concurrent()
        self._came: dict[Hashable, int] = {}  # at which place
        self._placed: list[int] = []
        self.times: list[float] = []
        self.exhausted = False

    @property
    def order(self) -> list[int]:
        return [self._numbers[place] for place in self._placed]

    def _concurrent(self) -> list[list[int]]:
        """For each read, which may be placed before it must be, and after those that must be before."""
        arriving = sorted(range(len(self._latest)), key=self._earliest.__getitem__)
        running: dict[int, None] = {}
        concurrent = []
        arrived = 0
        for number, latest in enumerate(self._latest):
            while arrived < len(arriving) and self._earliest[arriving[arrived]] < latest:
                running[arriving[arrived]] = None
                arrived += 1
            concurrent.append(sorted(running))
            running.pop(number, None)
        return concurrent

    def found(self) -> bool:
        """Whether there is an order. If there is none, all were tried if `exhausted`."""
        count = len(self._items)
        tried: dict[tuple[int, int], float] = {}
        trail = [self._successors(0, 0)]
        for tries in range(TRIES_MIN + TRIES_PER_READ_MAX * count):
            if tries % STEPS_PER_QUESTION == 0:
                self._ask()
            following = next(trail[-1], None)
            if following is None:
                trail.pop()
                if not trail:
                    self.exhausted = True
                    return False
                self._take_back()
                continue
            number, time, front, mask = following
            if time >= tried.get((front, mask), inf):
                continue
            tried[front, mask] = time
            for item in self._items[number] - self._last():
                self._came[item] = len(self._placed)
            self._placed.append(number)
            self.times.append(time)
            if front == count:
                return True
            trail.append(self._successors(front, mask))
        return False

    def _last(self) -> frozenset[Hashable]:
        return self._items[self._placed[-1]] if self._placed else frozenset()

    def _take_back(self) -> None:
        items = self._items[self._placed.pop()]
        self.times.pop()
        for item in items - self._last():
            del self._came[item]

    def _successors(self, front: int, mask: int) -> Iterator[tuple[int, float, int, int]]:
        """Reads that may come next, with their times and what is placed then."""
        waiting = [number for number in self._open[front] if not mask >> (number - front) & 1]
        for number in waiting:
            time = self._time(number, waiting)
            if time is None:
                continue
            after = mask | 1 << (number - front)
            shift = (~after & after + 1).bit_length() - 1
            if front + shift < len(self._latest) and time >= self._latest[front + shift]:
                continue
            yield number, time, front + shift, after >> shift

    def _time(self, number: int, waiting: Sequence[int]) -> float | None:
        """When the read takes effect, if it is the next; None if it cannot be."""
        items, last = self._items[number], self._last()
        before = self.times[-1] if self.times else -inf
        time = max(before, self._earliest[number])
        if items is not last:
            for item in last - items:
                known = self._known[item]
                if len(self._placed) - self._came[item] < known.reads:
                    return None
                time = max(time, known.earliest)
            for item in items - last:
                known = self._known[item]
                if before >= known.latest:
                    return None
                for other in waiting:
                    if self._latest[other] <= known.last and item not in self._items[other]:
                        return None
        gap = bisect_right(self._gaps, (time, inf)) - 1
        if gap >= 0:
            time = max(time, self._gaps[gap][1])
        return time if time < self._latest[number] else None
