"""Sets: each element alone comes and goes, and only reads of the whole set bind elements together.

Knows elements, when they were seen and when they were not. Knows no model by name, and no search.

Without reads of the whole set it is a product of independent registers, one an element (locality: Herlihy and Wing,
1990). An element that comes at most once and goes at most once is there for one stretch of time. Whatever saw it
narrows the ends of that stretch; those that did not see it need it as short as possible, so nothing has to be tried.

Reads of the whole set take effect one after the other, and each element is seen by neighbours in that order only. See
`fast.places` for how that order is found.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from math import inf
from typing import Final, NamedTuple

import msgspec

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.fast.places import Known, Places, Window
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import freeze, items_of, show

# Searches for an order, each of which takes into account what contradicted those before.
ROUNDS_MAX: Final = 8

"""When something may have taken effect: after one position in the history and before another."""

ALWAYS: Final[Window] = (-2.0, -1.0)  # before everything
NEVER: Final[Window] = (inf, inf)

_TRUE: Final = freeze(True)


class _Element(msgspec.Struct):
    """The calls about one element: `seen` and `missed` are those that asked and found it, or not; `reads` saw it."""

    element: Hashable
    initially: bool
    adds: list[Call] = []
    removes: list[Call] = []
    seen: list[Call] = []
    missed: list[Call] = []
    reads: list[int] = []

    def simplify(self, reads: int) -> None:
        """Forgets calls of unknown outcome that none of those, and of so many reads, can have noticed."""
        if not self.seen and not self.reads:
            self.adds = [call for call in self.adds if call.known]
        if not self.missed and len(self.reads) == reads:
            self.removes = [call for call in self.removes if call.known]

    def once(self) -> bool:
        """Whether it came at most once and went at most once: of adds alone, or of removes alone, the first counts."""
        adds = len(self.adds) + self.initially
        return not self.removes or (adds <= 1 and (self.initially or len(self.removes) <= 1))

    def stays(self) -> list["_Stay"]:
        """The ways to come and go. A remove may also have come before the add, for nothing."""
        came, gone = ALWAYS if self.initially else _window(self.adds), _window(self.removes)
        stays = [_Stay(came, gone)]
        if not self.initially and gone[0] < came[1]:
            stays.append(_Stay((max(came[0], gone[0]), came[1]), NEVER))
        return stays


class _Stay(NamedTuple):
    """When an element came, and when it went."""

    came: Window
    gone: Window

    def core(self, seen: Sequence[Call]) -> Window:
        """From when until when it was there for certain, if all of `seen` found it. No time at all, if upside down."""
        latest, earliest = self.came[1], self.gone[0]
        for call in seen:
            latest = min(latest, _completed(call))
            earliest = max(earliest, call.invoked)
        return latest, earliest

    def allows(self, core: Window) -> bool:
        return self.came[0] < min(core[0], self.gone[1]) and core[1] <= self.gone[1]


class _Read(NamedTuple):
    call: Call
    items: frozenset[Hashable]
    invoked: int
    completed: int


def decide_set(
    calls: Sequence[Call],
    start: frozenset[Hashable],
    alone: Callable[[Sequence[Call], Hashable], Decision],
    ask: Ask,
) -> Decision:
    """Whether an order of adds, removes, contains and reads is possible.

    `alone` decides about the calls of one element that this cannot, in bounded time; or None.
    """
    elements = {item: _Element(item, True) for item in sorted(start, key=repr)}
    reads: list[_Read] = []
    wrong = _sort(calls, elements, reads, ask)
    if wrong is not None:
        return wrong
    line = _Line(reads, ask)
    unsure = False
    for number, about in enumerate(elements.values()):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        about.simplify(len(reads))
        if about.once():
            wrong = line.admit(about)
            if wrong is not None:
                return wrong
            continue
        concerned = [*about.adds, *about.removes, *about.seen, *about.missed]
        decision = alone(sorted(concerned, key=lambda call: call.invoked), about.element)
        if isinstance(decision, Impossible):
            return decision
        unsure = unsure or decision is None or bool(reads)  # what the reads saw of it is not looked at
    if not reads:
        return None if unsure else Explained()
    return line.decide(calls, unsure)


def _sort(calls: Sequence[Call], elements: dict[Hashable, _Element], reads: list[_Read], ask: Ask) -> Impossible | None:
    """Puts the calls to the elements that they are about, and among the reads."""
    for number, call in enumerate(calls):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if call.f == "read":
            items = items_of(call.result)
            if items is None:
                return Impossible(f"a read returned {show(call.result)}, which is no list", (call,))
            if len(distinct := frozenset(items)) < len(items):
                return Impossible(f"a read returned {show(repeated(items)[0])} twice", (call,))
            assert call.completed is not None
            reads.append(_Read(call, distinct, call.invoked, call.completed))
            continue
        about = elements.get(call.argument)
        if about is None:
            about = elements[call.argument] = _Element(call.argument, False)
        if call.f == "contains":
            (about.seen if call.result == _TRUE else about.missed).append(call)
        else:
            (about.adds if call.f == "add" else about.removes).append(call)
    for number, read in enumerate(reads):
        ask()
        for item in read.items:
            about = elements.get(item)
            if about is None:
                return Impossible(f"{show(item)} was read, and nobody ever added it", (read.call,))
            about.reads.append(number)
    return None


def repeated(items: Sequence[Hashable]) -> list[Hashable]:
    """The items that come more than once, each once."""
    return [item for item, times in Counter(items).items() if times > 1]


def _completed(call: Call) -> float:
    return inf if call.completed is None else call.completed


def _window(calls: Sequence[Call]) -> Window:
    """When the first of them took effect."""
    if not calls:
        return NEVER
    return min(call.invoked for call in calls), min(map(_completed, calls))


class _Line:
    """Finds the order and times of reads. A time is the position just before it; many reads may have the same."""

    def __init__(self, reads: list[_Read], ask: Ask) -> None:
        self._reads = reads
        self._ask = ask
        self._invoked = [read.invoked for read in reads]
        self._completed = [read.completed for read in reads]
        self._completed_by_then = list(accumulate(self._completed, max))
        self._earliest: list[float] = list(self._invoked)
        self._latest: list[float] = list(self._completed)
        self._known: dict[Hashable, Known] = {}
        self._about: dict[Hashable, _Element] = {}  # the same elements
        self._gaps: list[Window] = []  # when elements were there that no read saw
        self._guessed: list[tuple[_Element, _Stay, Window]] = []  # there are other ways for these to come and go

    def admit(self, about: _Element) -> Impossible | None:
        """Takes from the times of the reads what an element leaves them, if it can have come and gone at all."""
        reads, numbers = self._reads, about.reads
        extremes = list(about.seen)
        if numbers:
            soonest = min(numbers, key=self._completed.__getitem__)
            extremes += [reads[soonest].call, *([reads[numbers[-1]].call] if soonest != numbers[-1] else [])]
        if not extremes and not about.adds and not about.initially:
            return None
        possible: list[tuple[_Stay, Window]] = []
        culprits: list[Call] = []
        for stay in about.stays():
            core = stay.core(extremes)
            if stay.allows(core):
                culprit = self._culprit(about, core)
                if culprit is None:
                    possible.append((stay, core))
                else:
                    culprits.append(culprit)
        if not possible:
            return _impossible(about, extremes, culprits)
        if len(possible) > 1:
            self._guessed.append((about, *possible[0]))
        else:
            self._bound(about, *possible[0])
        return None

    def _culprit(self, about: _Element, core: Window) -> Call | None:
        """Whoever missed the element while it was there for certain."""
        for call in about.missed:
            if core[0] < call.invoked and _completed(call) < core[1]:
                return call
        low, high = bisect_right(self._invoked, core[0]), bisect_left(self._invoked, core[1])
        missing = high - low - bisect_left(about.reads, high) + bisect_left(about.reads, low)
        while missing > 0:  # from the end: only those that were open then can have missed it and be right
            high -= 1
            if about.element not in self._reads[high].items:
                missing -= 1
                if self._completed[high] < core[1]:
                    return self._reads[high].call
        return None

    def _bound(self, about: _Element, stay: _Stay, core: Window) -> None:
        if not about.reads:
            self._gaps += [core] if core[0] < core[1] else []
            return
        after, before = stay.came[0], stay.gone[1]
        for call in about.missed:
            if _completed(call) < core[1]:
                after = max(after, call.invoked)
            elif call.invoked > core[0]:
                before = min(before, _completed(call))
        self._after(about, after)
        for number in reversed(about.reads):
            if self._completed_by_then[number] < before:
                break
            self._latest[number] = min(self._latest[number], before)
        latest, earliest = stay.core(about.seen)
        self._known[about.element] = Known(latest, earliest, core[1], len(about.reads))
        self._about[about.element] = about

    def decide(self, calls: Sequence[Call], unsure: bool) -> Decision:
        """Whether there is an order; if `unsure`, there are other elements, and it can only be told that there is none.

        Where the guessed ways do not do, all about those elements is left out: if there is none even so, none is.
        """
        certain = list(self._earliest), list(self._latest), dict(self._known), list(self._gaps)
        for guessed in self._guessed:
            self._bound(*guessed)
        for _ in range(0 if unsure else ROUNDS_MAX):
            places = self._places()
            if not places.found():
                break
            if self._holds(places.order, places.times):
                return Explained()
        self._earliest, self._latest, self._known, self._gaps = certain
        places = self._places()
        if places.found() or not places.exhausted:
            return None
        return Impossible("no order of the reads explains what each of them saw", tuple(calls))

    def _places(self) -> Places:
        known = self._known.keys()
        items = [read.items if read.items <= known else read.items & known for read in self._reads]
        return Places(items, self._earliest, self._latest, self._known, _merged(self._gaps), self._ask)

    def _holds(self, order: Sequence[int], times: Sequence[float]) -> bool:
        """Whether each element, made as short as the reads leave it, has room for those that asked and missed it.

        Those that have none must have asked before it came: in this order, reads cannot be earlier. From now on, they
        are later.
        """
        rank = [0] * len(order)
        for place, number in enumerate(order):
            rank[number] = place
        holds = True
        for step, (element, known) in enumerate(self._known.items()):
            about = self._about[element]
            if step % STEPS_PER_QUESTION == 0:
                self._ask()
            if about.missed:
                ranks = list(map(rank.__getitem__, about.reads))
                first, last = times[min(ranks)], max(known.earliest, times[max(ranks)])
                for call in about.missed:
                    if last >= _completed(call) and not (call.invoked < known.latest and call.invoked <= first):
                        holds = False
                        self._after(about, call.invoked)
        return holds

    def _after(self, about: _Element, position: float) -> None:
        """Has no read see the element before."""
        for number in about.reads:
            if self._invoked[number] > position:
                break
            self._earliest[number] = max(self._earliest[number], position)


def _impossible(about: _Element, seen: Sequence[Call], culprits: Sequence[Call]) -> Impossible:
    """Why an element cannot have come and gone: with those who narrow its time the most, and who missed it then."""
    ends = [min(seen, key=_completed), max(seen, key=lambda call: call.invoked)] if seen else []
    concerned = {call.invoked: call for call in (*about.adds, *about.removes, *ends, *culprits)}
    calls = tuple(concerned[invoked] for invoked in sorted(concerned))
    name = show(about.element)
    if not about.adds and not about.initially:
        return Impossible(f"{name} was seen, and nobody ever added it", calls)
    return Impossible(f"no time at which {name} came or went explains who saw it and who did not", calls)


def _merged(gaps: list[Window]) -> list[Window]:
    merged: list[Window] = []
    for begin, end in sorted(gaps):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
