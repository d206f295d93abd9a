"""Blocks of calls that must not be interleaved.

Knows the real-time order. Knows no model and no search.

The lemma (Gibbons and Korach, Testing shared memories, 1997, for known read mappings): let each block be contiguous in
any order, `first` its earliest completion and `last` its latest invocation. Block A must precede B if and only if
A.first < B.last. In a cycle of this relation take A with the least `first`, P before it and Q before P:
A.first <= Q.first < P.last, so A and P precede each other. Hence an order exists if and only if no two blocks precede
each other: no two forward zones [first, last] overlap, and no backward zone [last, first] lies within a forward one.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask

Zone = tuple[float, float]
"""A block's earliest completion (inf: none of its calls is known to have completed) and its latest invocation."""


def conflict(zones: Sequence[Zone], ask: Ask) -> tuple[int, int] | None:
    """The numbers of two blocks each of which must precede the other; None if there is an order of all."""
    forward = sorted((first, last, number) for number, (first, last) in enumerate(zones) if first < last)
    ask()
    for (_, last, one), (first, _, other) in pairwise(forward):
        if first < last:
            return one, other
    ask()
    starts = [first for first, _, _ in forward]
    for number, (first, last) in enumerate(zones):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if first > last:
            around = bisect_left(starts, last) - 1
            if around >= 0 and first < forward[around][1]:
                return forward[around][2], number
    return None
