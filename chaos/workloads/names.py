"""Numbers for the names of keys and locks, each retired after some uses.

Operations of unknown outcome must not pile up on one name: a judge has to try every one of them everywhere.
"""

from collections import Counter
from typing import Final

USES_MAX: Final = 250


class Numbers:
    """So many places, each with a number; one that was used `USES_MAX` times gives way to the next."""

    def __init__(self, places: int) -> None:
        self._used: Counter[int] = Counter()
        self._present = list(range(places))

    def use(self, place: int) -> int:
        """The number at that place, once more."""
        number = self._present[place]
        self._used[number] += 1
        if self._used[number] >= USES_MAX:
            del self._used[number]
            self._present[place] = max(self._present) + 1
        return number
