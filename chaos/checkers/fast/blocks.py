"""Blocks of calls that must not be interleaved, and registers, whose distinct values make such blocks.

Knows the real-time order and which value a call wrote or saw. Knows no model by name, and no search.

The lemma (Gibbons and Korach, Testing shared memories, 1997, for known read mappings): let each block be contiguous in
any order, `first` its earliest completion and `last` its latest invocation. Block A must precede B if and only if
A.first < B.last. In a cycle of this relation take A with the least `first`, P before it and Q before P:
A.first <= Q.first < P.last, so A and P precede each other. Hence an order exists if and only if no two blocks precede
each other: no two forward zones [first, last] overlap, and no backward zone [last, first] lies within a forward one.

A value of a register that is written once makes a block of its write and what saw it. Where a cas led from one value
to another, their blocks follow one another, and make one. A refused cas saw any value but one: it is put into a block
in which it costs nothing, or the least, so that the answer is an order or none; where this fails it proves nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import Any, Final, NamedTuple

import msgspec

from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import show

# Iterations between two questions whether to go on: a few milliseconds.
STEPS_PER_QUESTION: Final = 4096

# How many blocks of one kind are tried for a refused cas, and how many a block may be checked against.
NEIGHBOURS_MAX: Final = 8
CONTAINED_MAX: Final = 64

# The value before all calls was written before all of them.
BEFORE_ALL: Final = -2

Ask = Callable[[], None]
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


def order_of(zones: Sequence[Zone]) -> list[int]:
    """The numbers of the blocks in an order that real time allows, if `conflict` found none: by the zones' low ends."""
    return sorted(range(len(zones)), key=lambda number: min(zones[number]))


class _Value(msgspec.Struct):
    """A stretch of time in which a register holds a value that is written once.

    `writer` is None for the value at the start. `leaving`: the cas that led from here to the next value. `chain` and
    `place` say which block it is part of, and where in it.
    """

    value: Hashable
    writer: Call | None
    previous: Hashable = None
    reads: list[Call] = []
    leaving: "_Value | None" = None
    chain: int = -1
    place: int = -1

    def seen_by(self) -> list[Call]:
        return [self.writer, *self.reads] if self.writer is not None else self.reads


class _Chain(NamedTuple):
    """Values that cas joined; with the call that completed first and the one that was invoked last."""

    values: list[_Value]
    first: float
    last: float
    opening: Call | None
    closing: Call | None


class _Known(NamedTuple):
    """What is known of a register's calls: its values, and refused cas whose old value was ever there.

    `unseen` are calls of unknown outcome whose value nobody saw, so that only refused cas may need them; `spare` those
    of them whose value no refused cas asked for either.
    """

    values: dict[Hashable, _Value]
    refused: list[Call]
    unseen: list[Call]
    spare: list[Call]


def decide_register(calls: Sequence[Call], start: Hashable, ask: Ask) -> Decision:
    """Whether an order of reads, writes and cas `[old, new]` is possible; None unless each value is written once."""
    known = _known(calls, start, ask)
    if not isinstance(known, _Known):
        return known
    chains = _chains(known.values, ask)
    if isinstance(chains, Impossible):
        return chains
    found = conflict([(chain.first, chain.last) for chain in chains], ask)
    if found is not None:
        return _interleaved(known.values, chains[found[0]], chains[found[1]])
    if not known.refused:
        return Explained()
    return (
        _within(known, ask)
        or _Placement(chains, known, graded=True, ask=ask).decide()
        or _Placement(chains, known, graded=False, ask=ask).decide()
    )


def _known(calls: Sequence[Call], start: Hashable, ask: Ask) -> "_Known | Impossible | None":
    """None where a value that somebody saw may have been written more than once."""
    seen, asked_for = _seen(calls)
    ask()
    values = {start: _Value(start, None, None, [])}
    looking: list[Call] = []
    refused: list[Call] = []
    unseen: list[Call] = []
    twice = False
    for number, call in enumerate(calls):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if call.f == "read":
            looking.append(call)
            continue
        old, new = _pair(call)
        if call.refused:
            refused.append(call)
        elif call.f == "cas" and old == new:
            looking.extend([call] if call.known else [])
        elif not call.known and new not in seen:
            unseen.append(call)
        else:
            name = new if new in seen or new in asked_for else ("unread", call.invoked)
            twice = twice or name in values
            values[name] = _Value(new, call, old if call.f == "cas" else None, [])
    for call in looking:
        value = call.result if call.f == "read" else _pair(call)[0]
        if value not in values:
            return Impossible(f"nobody ever wrote {show(value)}", (call,))
        values[value].reads.append(call)
    if twice:
        return None
    spare = [call for call in unseen if _pair(call)[1] not in asked_for and _pair(call)[1] != start]
    return _Known(values, [call for call in refused if _pair(call)[0] in values], unseen, spare)


def _pair(call: Call) -> tuple[Hashable, Hashable]:
    """The frozen old and new value of a cas or write; a write has no old one."""
    argument: Any = call.argument
    return (argument[1], argument[2]) if call.f == "cas" else (None, argument)


def _seen(calls: Sequence[Call]) -> tuple[set[Hashable], set[Hashable]]:
    """The values that were certainly there (if anybody wrote them), and those that a refused cas asked for."""
    seen: set[Hashable] = set()
    asked_for: set[Hashable] = set()
    unsure: dict[Hashable, list[Hashable]] = {}
    for call in calls:
        if call.f == "read":
            seen.add(call.result)
        elif call.f == "cas":
            old, new = _pair(call)
            if call.refused:
                asked_for.add(old)
            elif call.known:
                seen.add(old)
            elif old != new:
                unsure.setdefault(new, []).append(old)
    found = [new for new in unsure if new in seen]
    while found:
        for old in unsure[found.pop()]:
            if old not in seen:
                seen.add(old)
                found.extend([old] if old in unsure else [])
    return seen, asked_for


def _chains(values: dict[Hashable, _Value], ask: Ask) -> list[_Chain] | Impossible:
    """The values joined into blocks, each of which is possible by itself; or why one is not."""
    joined = [value for value in values.values() if value.writer is not None and value.writer.f == "cas"]
    again: _Value | None = None
    for value in joined:
        before = values.get(value.previous)
        if before is not None and before.leaving is None:
            before.leaving = value
        else:
            again = value
    if again is not None:
        before = values.get(again.previous)
        if before is None or before.leaving is None:
            return Impossible(f"nobody ever wrote {show(again.previous)}", _evidence(values, [again]))
        reason = f"{show(before.value)} was replaced by cas twice, and was written only once"
        return Impossible(reason, _evidence(values, [before.leaving, again]))
    ask()
    chains: list[_Chain] = []
    for number, value in enumerate(values.values()):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if value.writer is None or value.writer.f != "cas":
            chain = _chain(values, value, len(chains))
            if isinstance(chain, Impossible):
                return chain
            chains.append(chain)
    circle = next((value for value in joined if value.chain < 0), None)
    if circle is not None:
        around = [circle]
        while (after := around[-1].leaving) is not None and after is not circle:
            around.append(after)
        calls = tuple(value.writer for value in around if value.writer is not None)
        return Impossible(f"{show(circle.value)} was only ever written by cas that need it first", calls)
    return chains


def _chain(values: dict[Hashable, _Value], root: _Value, number: int) -> _Chain | Impossible:
    """The block that begins with `root`: its values follow one another, so nothing of a later one may be over before
    something of an earlier one began."""
    first: float = inf
    last: float = BEFORE_ALL
    opening: Call | None = None
    closing: Call | None = None
    if root.writer is None:
        first = BEFORE_ALL + 1
    found: list[_Value] = []
    value: _Value | None = root
    while value is not None:
        value.chain, value.place = number, len(found)
        found.append(value)
        before = last
        for call in value.seen_by():
            completed = call.completed
            if completed is not None:
                if completed < before:
                    return _backwards(values, value, call, closing)
                if completed < first:
                    first, opening = completed, call
            if call is value.writer:
                before = max(before, call.invoked)
                if call.invoked > last:
                    last, closing = call.invoked, call
        for call in value.reads:
            if call.invoked > last:
                last, closing = call.invoked, call
        value = value.leaving
    return _Chain(found, first, last, opening, closing)


def _backwards(values: dict[Hashable, _Value], value: _Value, early: Call, late: Call | None) -> Impossible:
    assert late is not None
    if late is value.writer:
        reason = f"{show(value.value)} was seen before anybody began to write it"
    else:
        reason = f"{show(value.value)} was there before a value that it replaced was over"
    return Impossible(reason, _evidence(values, [value], early, late))


def _interleaved(values: dict[Hashable, _Value], one: _Chain, other: _Chain) -> Impossible:
    """Why two blocks cannot both be contiguous."""
    calls = _evidence(values, [], one.opening, one.closing, other.opening, other.closing)
    first, second = show(one.values[0].value), show(other.values[0].value)
    reason = f"{first} was there before {second} was for the last time, and {second} before {first} was"
    if one.values[1:] or other.values[1:]:
        reason += " (or what cas made of them)"
    return Impossible(reason, calls)


def _evidence(values: dict[Hashable, _Value], shown: Iterable[_Value], *others: Call | None) -> tuple[Call, ...]:
    """The calls given and the writers of the values given, with what they need: how each value came to be there, and
    that it was, if its writer's outcome is unknown."""
    found = {call.invoked: call for call in others if call is not None}
    tops = list(shown)
    for call in list(found.values()):
        old, new = (call.result, call.result) if call.f == "read" else _pair(call)
        name = old if call.refused or (call.f == "cas" and old == new) else new
        value = values.get(name) or values.get(("unread", call.invoked))
        if value is not None:
            tops.append(value)
    done: set[int] = set()
    for top in tops:
        origin: _Value | None = top
        while origin is not None and origin.writer is not None and origin.writer.invoked not in done:
            done.add(origin.writer.invoked)
            found[origin.writer.invoked] = origin.writer
            origin = values.get(origin.previous) if origin.writer.f == "cas" else None
        witness: _Value | None = top
        while witness is not None and witness.writer is not None:
            found[witness.writer.invoked] = witness.writer
            if witness.writer.known or witness.reads:
                found.update((call.invoked, call) for call in witness.reads[:1] if not witness.writer.known)
                break
            witness = witness.leaving
    return tuple(found[invoked] for invoked in sorted(found))


def _within(known: _Known, ask: Ask) -> Impossible | None:
    """A refused cas that was running only while its old value was certainly there."""
    certain: dict[Hashable, tuple[float, float, Call | None, Call | None]] = {}
    for number, call in enumerate(known.refused):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        old = _pair(call)[0]
        if old not in certain:
            certain[old] = _certainly_there(known.values[old])
        first, last, opening, closing = certain[old]
        if first < call.invoked and call.completed is not None and call.completed < last:
            reason = f"a cas from {show(old)} was refused while {show(old)} was there"
            return Impossible(reason, _evidence(known.values, [], call, opening, closing))
    return None


def _certainly_there(value: _Value) -> tuple[float, float, Call | None, Call | None]:
    """From when to when a value was there for certain, and the calls that show it."""
    completed = [(call.completed, call) for call in value.seen_by() if call.completed is not None]
    first, opening = min(completed, key=lambda pair: pair[0], default=(inf, None))
    if value.writer is None:
        first, opening = BEFORE_ALL + 1, None
    leaving = [value.leaving.writer] if value.leaving is not None and value.leaving.writer is not None else []
    closing = max([*value.seen_by(), *leaving], key=lambda call: call.invoked, default=None)
    return first, BEFORE_ALL if closing is None else closing.invoked, opening, closing


class _Inside:
    """The places within a block that values follow one another in, for refused cas that need to be at one of them.

    Those are placed by their completions, each as early as possible. A `spare` cas from the last value makes one more
    place.
    """

    def __init__(self, chain: _Chain, spare: Call | None) -> None:
        self.spare = spare
        self._over: list[float] = []  # at each place: the earliest completion there or later
        self._begun: list[float] = []  # at each place: the latest invocation that must precede it
        self._placed: list[int] = []  # the completions of the refused cas placed so far, and how far they went
        self._reached = [0]
        begun: float = BEFORE_ALL
        for value in chain.values:
            if value.writer is not None:
                begun = max(begun, value.writer.invoked)
            self._begun.append(begun)
            begun = max([begun, *(call.invoked for call in value.reads)])
            completed = [call.completed for call in value.seen_by() if call.completed is not None]
            self._over.append(min(completed, default=inf))
        self._over[0] = BEFORE_ALL if chain.values[0].writer is None else self._over[0]
        if spare is not None:
            self._begun.append(max(begun, spare.invoked))
            self._over.append(inf)
        for place in range(len(self._over) - 2, -1, -1):
            self._over[place] = min(self._over[place], self._over[place + 1])

    def bounds(self, refused: Call) -> tuple[int, int]:
        """The first and the last place that real time leaves to a refused cas."""
        assert refused.completed is not None
        first = max(bisect_left(self._over, refused.invoked) - 1, 0)
        return first, bisect_left(self._begun, refused.completed) - 1

    def place(self, refused: Call, taken: int) -> int | None:
        """The first place but `taken` that is left to a refused cas after those placed before, if any."""
        first, last = self.bounds(refused)
        place = max(first, self._reached[bisect_left(self._placed, refused.invoked)])
        place += place == taken
        return place if place <= last else None

    def add(self, refused: Call, place: int) -> None:
        assert refused.completed is not None
        self._placed.append(refused.completed)
        self._reached.append(max(place, self._reached[-1]))

    def is_extra(self, place: int) -> bool:
        return self.spare is not None and place == len(self._over) - 1


class _Placement:
    """Puts each refused cas into a block where another value was there.

    Blocks that later refused cas need to be over are used last: the most urgent of them (`graded`), or the earliest.
    Changes the zones as it goes on. Whether they still allow an order is made sure of in the end.
    """

    def __init__(self, chains: list[_Chain], known: _Known, graded: bool, ask: Ask) -> None:
        self._chains = chains
        self._known = known
        self._graded = graded
        self._ask = ask
        self._zones: list[Zone] = [(chain.first, chain.last) for chain in chains]
        self._begins = [_begins(chain) for chain in chains]
        forward = sorted((zone, number) for number, zone in enumerate(self._zones) if zone[0] < zone[1])
        self._firsts = [zone[0] for zone, _ in forward]
        self._lasts = [zone[1] for zone, _ in forward]
        self._forward = [number for _, number in forward]
        backward = [(zone, number) for number, zone in enumerate(self._zones) if zone[0] > zone[1]]
        self._by_last = sorted((last, number) for (_, last), number in backward)
        self._by_first = sorted((first, number) for (first, _), number in backward)
        self._asked_until: list[int] = [BEFORE_ALL] * len(
            chains
        )  # when a cas from a block's last value was refused the last time
        for call in known.refused:
            value = known.values[_pair(call)[0]]
            if value.leaving is None and call.completed is not None:
                self._asked_until[value.chain] = max(self._asked_until[value.chain], call.completed)
        self._inside: dict[int, _Inside] = {}
        self._spare_writes = [call for call in known.spare if call.f == "write"]
        self._spare_writes.reverse()
        self._spare_cas: dict[Hashable, Call] = {}
        for call in known.spare:
            if call.f == "cas":
                self._spare_cas.setdefault(_pair(call)[0], call)

    def decide(self) -> Decision:
        entered = 0
        open_at: list[tuple[float, int]] = []
        starting = list(self._by_last)
        refused = [(call.completed, call) for call in self._known.refused if call.completed is not None]
        refused.sort(key=lambda pair: pair[0])
        for number, (completed, call) in enumerate(refused):
            if number % STEPS_PER_QUESTION == 0:
                self._ask()
            while entered < len(starting) and starting[entered][0] < completed:
                block = starting[entered][1]
                heappush(open_at, (self._chains[block].first, block))
                entered += 1
            while open_at and open_at[0][0] < completed:
                heappop(open_at)
            if not self._place(call, [block for _, block in open_at[:NEIGHBOURS_MAX]]):
                return self._alone(call)
        return Explained() if conflict(self._zones, self._ask) is None else None

    def _place(self, call: Call, spanning: list[int]) -> bool:
        """Whether the call was put into a block: at no cost, by keeping what was there last, or by hurrying a write."""
        value = self._known.values[_pair(call)[0]]
        own = value.chain
        completed = call.completed
        assert completed is not None
        if self._is_beside_forward(call, own) or self._place_inside(call, value):
            return True
        overlapping = self._overlapping(call, spanning)
        if any(number != own and self._widened(number, call) == self._zones[number] for number in overlapping):
            return True
        overlapping.sort(key=lambda number: (-self._free_until(number, completed), self._zones[number][0]))
        left = self._left_of(call)
        left.sort(key=lambda number: (-self._free_until(number, completed), -max(self._zones[number])))
        for number in (*left, *overlapping, *self._right_of(call)):
            zone = self._widened(number, call)
            if number != own and self._begins[number] < completed and self._fits(number, zone):
                self._change(number, zone)
                return True
        return self._use_spare_write(call)

    def _free_until(self, block: int, completed: int) -> float:
        """When a later refused cas needs that another block's value is there."""
        if self._asked_until[block] <= completed:
            return inf
        return self._asked_until[block] if self._graded else -inf

    def _widened(self, block: int, call: Call) -> Zone:
        """The zone of a block that the call is put into."""
        first, last = self._zones[block]
        assert call.completed is not None
        return min(first, call.completed), max(last, call.invoked)

    def _is_beside_forward(self, call: Call, own: int) -> bool:
        """Whether another block's value was certainly there for a moment of the call."""
        assert call.completed is not None
        around = bisect_left(self._lasts, call.invoked)
        if around < len(self._forward) and self._forward[around] == own:
            around += 1
        if around < len(self._forward) and self._firsts[around] < call.completed:
            return self._begins[self._forward[around]] < call.completed
        return False

    def _place_inside(self, call: Call, value: _Value) -> bool:
        """Whether the call can be put beside another value of its own value's block."""
        block = value.chain
        chain = self._chains[block]
        spare = self._spare_cas.get(chain.values[-1].value)
        if len(chain.values) == 1 and spare is None:
            return False
        if block not in self._inside:
            self._inside[block] = _Inside(chain, spare)
        inside = self._inside[block]
        place = inside.place(call, value.place)
        if place is None:
            return False
        zone = self._widened(block, call)
        if inside.is_extra(place):
            assert inside.spare is not None
            zone = (zone[0], max(zone[1], inside.spare.invoked))
        if not self._fits(block, zone):
            return False
        self._change(block, zone)
        inside.add(call, place)
        return True

    def _overlapping(self, call: Call, spanning: list[int]) -> list[int]:
        """Blocks that could be anywhere in their zones, which have a moment in common with the call."""
        low = bisect_left(self._by_first, (call.invoked, -1))
        found = [
            number for first, number in self._by_first[low : low + NEIGHBOURS_MAX] if first < (call.completed or 0)
        ]
        return found + spanning

    def _left_of(self, call: Call) -> list[int]:
        high = bisect_left(self._by_first, (call.invoked, -1))
        found = [number for _, number in self._by_first[max(0, high - NEIGHBOURS_MAX) : high][::-1]]
        around = bisect_left(self._lasts, call.invoked)
        return found + self._forward[max(0, around - 2) : around][::-1]

    def _right_of(self, call: Call) -> list[int]:
        low = bisect_left(self._by_last, (call.completed or 0, -1))
        found = [number for _, number in self._by_last[low : low + NEIGHBOURS_MAX]]
        around = bisect_left(self._firsts, call.completed or 0)
        return found + self._forward[around : around + 2]

    def _use_spare_write(self, call: Call) -> bool:
        """Whether a write of unknown outcome, whose value nobody saw, can have been there just then."""
        if not self._spare_writes or call.completed is None or self._spare_writes[-1].invoked > call.completed:
            return False
        spare = self._spare_writes[-1]
        block = len(self._zones)
        zone = (call.completed, max(call.invoked, spare.invoked))
        if not self._fits(block, zone):
            return False
        self._spare_writes.pop()
        self._zones.append(zone)
        self._begins.append(spare.invoked)
        self._asked_until.append(BEFORE_ALL)
        self._insert(block, zone)
        return True

    def _insert(self, block: int, zone: Zone) -> None:
        """Makes a backward zone known; where it was before it may still be found, which does no harm."""
        insort(self._by_first, (zone[0], block))
        insort(self._by_last, (zone[1], block))

    def _fits(self, block: int, zone: Zone) -> bool:
        """Whether a block with another zone gets in no other's way, as far as a quick look can tell."""
        first, last = zone
        if last < first:
            around = bisect_left(self._firsts, last) - 1
            return around < 0 or self._forward[around] == block or first > self._lasts[around]
        if zone == self._zones[block]:
            return True
        around = bisect_left(self._firsts, first)
        if around > 0 and self._lasts[around - 1] > first:
            return False
        if around < len(self._forward) and self._forward[around] == block:
            around += 1
        if around < len(self._forward) and self._firsts[around] < last:
            return False
        low = bisect_left(self._by_last, (first, -1))
        within = self._by_last[low : low + CONTAINED_MAX]
        if len(within) == CONTAINED_MAX and within[-1][0] < last:
            return False
        return not any(
            start < last and number != block and self._zones[number][1] < self._zones[number][0] < last
            for start, number in within
        )

    def _change(self, block: int, zone: Zone) -> None:
        old = self._zones[block]
        if zone == old:
            return
        self._zones[block] = zone
        if zone[0] > zone[1]:
            self._insert(block, zone)
            return
        if old[0] < old[1]:
            at = bisect_left(self._firsts, old[0])
            self._firsts[at], self._lasts[at] = zone
            return
        at = bisect_left(self._firsts, zone[0])
        self._firsts.insert(at, zone[0])
        self._lasts.insert(at, zone[1])
        self._forward.insert(at, block)

    def _alone(self, call: Call) -> Impossible | None:
        """Why the call cannot be put anywhere: all that may have begun by then was over before its value was there."""
        assert call.completed is not None
        value = self._known.values[_pair(call)[0]]
        chain = self._chains[value.chain]
        first, last = _Inside(chain, None).bounds(call)
        if first != value.place or last != value.place or _certainly_there(value)[0] > call.invoked:
            return None
        if any(unseen.invoked < call.completed for unseen in self._known.unseen):
            return None
        for number, other in enumerate(self._chains):
            if number != value.chain and _begins(other) < call.completed and other.first > chain.last:
                return None
        old = _pair(call)[0]
        opening = _certainly_there(value)[2]
        calls = _evidence(self._known.values, [], call, opening, chain.closing)
        return Impossible(
            f"a cas from {show(old)} was refused, and nothing can have replaced {show(old)} by then", calls
        )


def _begins(chain: _Chain) -> int:
    """The invocation of what wrote the first value of a block."""
    writer = chain.values[0].writer
    return BEFORE_ALL if writer is None else writer.invoked
