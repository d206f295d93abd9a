"""What becomes due at which log time. Order depends on the times and the keys alone: replicas must agree on it."""

import heapq
from collections.abc import Iterable, Iterator
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K", bound=tuple[object, ...])


class Deadlines(Generic[K]):
    """One instant for each key; keys must be comparable with each other."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __setitem__(self, key: K, time: float) -> None:
        self._at[key] = time
        heapq.heappush(self._heap, (time, key))
        if len(self._heap) > 64 + 4 * len(self._at):  # most of it is of keys that were set anew, or deleted
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def __delitem__(self, key: K) -> None:
        del self._at[key]

    def __contains__(self, key: K) -> bool:
        return key in self._at

    @property
    def next(self) -> float:
        """The earliest instant; infinity if there is none."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return inf

    def due(self, time: float) -> Iterable[K]:
        """Takes out what is due by `time`, one after the other, the earliest first; sees what is set meanwhile."""
        nothing = not self._heap or self._heap[0][0] > time  # the usual answer, asked for each entry of the log
        return () if nothing else self._take_due(time)

    def _take_due(self, time: float) -> Iterator[K]:
        while self.next <= time:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            yield key
