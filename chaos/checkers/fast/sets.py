"""Sets: each element alone comes and goes, and only reads of the whole set bind elements together.

Knows elements, when they were seen and when they were not. Knows no model by name, and no search.

Without reads of the whole set it is a product of independent registers, one an element (locality: Herlihy and Wing,
1990). An element that is added at most once and removed at most once is there for one stretch of time. Whatever saw it
narrows the ends of that stretch; those that did not see it need it as short as possible, so nothing has to be tried.

Reads of the whole set are put into the order in which they saw changes happen, and each as early as that order and the
stretches allow. What comes out is an order or proves nothing. Each element alone, with these reads as questions after
it, may prove that there is none.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec

from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import freeze, items_of, show

STEPS_PER_QUESTION: Final = 1024

# Pairs of a read and a remove that are looked at, per item of all reads, to put the reads into an order.
PAIRS_PER_ITEM_MAX: Final = 20

ALWAYS: Final = (-inf, -inf)
NEVER: Final = (inf, inf)

Window = tuple[float, float]
"""When something may have taken effect: after one position in the history and before another."""

_TRUE: Final = freeze(True)


class _Element(msgspec.Struct):
    """The calls about one element. `seen` and `missed`: those that found it, and those that did not."""

    element: Hashable
    initially: bool
    adds: list[Call] = []
    removes: list[Call] = []
    seen: list[Call] = []
    missed: list[Call] = []
    reads: list[int] = []

    def simplified(self) -> "_Element":
        """Without calls of unknown outcome that nobody can have noticed."""
        adds = [call for call in self.adds if call.known or self.seen]
        removes = [call for call in self.removes if call.known or self.missed]
        return msgspec.structs.replace(self, adds=adds, removes=removes)


class _Read(NamedTuple):
    call: Call
    items: frozenset[Hashable]
    invoked: int
    completed: int


def decide_set(
    calls: Sequence[Call],
    start: frozenset[Hashable],
    alone: Callable[[Sequence[Call], Hashable], Decision],
    ask: Callable[[], None],
) -> Decision:
    """Whether an order of adds, removes, contains and reads is possible.

    `alone` decides about the calls of one element that this cannot, in bounded time; or None.
    """
    reads: list[_Read] = []
    elements: dict[Hashable, _Element] = {item: _Element(item, True) for item in sorted(start, key=repr)}
    for number, call in enumerate(calls):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if call.f == "read":
            read = _read(call)
            if isinstance(read, Impossible):
                return read
            reads.append(read)
            continue
        about = elements.get(call.argument)
        if about is None:
            about = elements[call.argument] = _Element(call.argument, False)
        if call.f == "contains":
            (about.seen if call.result == _TRUE else about.missed).append(call)
        else:
            (about.adds if call.f == "add" else about.removes).append(call)
    if reads:
        return _decide_with_reads(elements, reads, ask)
    return _decide_apart(elements, alone, ask)


def _read(call: Call) -> _Read | Impossible:
    items = items_of(call.result)
    assert call.completed is not None
    if items is None:
        return Impossible(f"a read returned {show(call.result)}, which is no list", (call,))
    if len(distinct := frozenset(items)) < len(items):
        return Impossible(f"a read returned {show(repeated(items)[0])} twice", (call,))
    return _Read(call, distinct, call.invoked, call.completed)


def repeated(items: Sequence[Hashable]) -> list[Hashable]:
    """The items that come more than once, each once."""
    return [item for item, times in Counter(items).items() if times > 1]


def _decide_apart(
    elements: dict[Hashable, _Element],
    alone: Callable[[Sequence[Call], Hashable], Decision],
    ask: Callable[[], None],
) -> Decision:
    unsure = False
    for number, given in enumerate(elements.values()):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        about = given.simplified()
        if len(about.adds) <= 1 and len(about.removes) <= 1:
            if not _possible(about, about.missed):
                return _impossible(about, about.missed)
            continue
        concerned = [*about.adds, *about.removes, *about.seen, *about.missed]
        decision = alone(sorted(concerned, key=lambda call: call.invoked), about.element)
        if isinstance(decision, Impossible):
            return decision
        unsure = unsure or decision is None
    return None if unsure else Explained()


def _possible(about: _Element, missed: Sequence[Call]) -> bool:
    """Whether an element can have come and gone once, as those who saw it and these who missed it say."""
    add = about.adds[0] if about.adds else None
    remove = about.removes[0] if about.removes else None
    for added in [add] if add is None or add.known else [add, None]:
        for removed in [remove] if remove is None or remove.known else [remove, None]:
            if _possible_with(about.initially, added, removed, about.seen, missed):
                return True
    return False


def _possible_with(
    initially: bool, add: Call | None, remove: Call | None, seen: Sequence[Call], missed: Sequence[Call]
) -> bool:
    """Whether it is possible if just these calls took effect, in either order."""
    came, gone = _window(add), _window(remove)
    last = max(came[0], gone[0])  # what comes second takes effect after both were invoked
    if initially:
        if remove is None:
            return not missed
        if _stretch(ALWAYS, gone if add is None else (last, gone[1]), seen, missed):
            return True
        return add is not None and _stretch(gone, came, missed, seen)
    if add is None:
        return not seen
    if remove is None:
        return _stretch(came, NEVER, seen, missed)
    return _stretch(came, gone, seen, missed) or (last < came[1] and _stretch((last, came[1]), NEVER, seen, missed))


def _window(call: Call | None) -> Window:
    if call is None:
        return NEVER
    return call.invoked, inf if call.completed is None else call.completed


def _narrowed(begin: Window, end: Window, inside: Sequence[Call]) -> tuple[float, float]:
    """The latest begin and the earliest end of a stretch that all of `inside` were in for a moment."""
    latest, earliest = begin[1], end[0]
    for call in inside:
        assert call.completed is not None
        latest = min(latest, call.completed)
        earliest = max(earliest, call.invoked)
    return latest, earliest


def _stretch(begin: Window, end: Window, inside: Sequence[Call], outside: Sequence[Call]) -> bool:
    """Whether a stretch can begin and end in these windows, so that all of `inside` have a moment in it, and all of
    `outside` one out of it. It is made as short as possible; if that leaves an instant, nobody was in it throughout."""
    latest, earliest = _narrowed(begin, end, inside)
    if latest < begin[0] or earliest > end[1] or begin[0] > end[1]:
        return False
    if latest >= earliest:
        return True
    return all(call.invoked < latest or (call.completed is not None and call.completed > earliest) for call in outside)


def _impossible(about: _Element, missed: Sequence[Call]) -> Impossible:
    """Why an element cannot have come and gone as it was seen: with few of those who saw or missed it."""
    name = show(about.element)
    few = about if about.initially and about.adds else msgspec.structs.replace(about, seen=_extremes(about.seen))
    chosen = list(missed)
    if not _possible(few, []):
        chosen = []
    else:
        one = next((call for call in missed if not _possible(few, [call])), None)
        chosen = chosen if one is None else [one]
    concerned = {call.invoked: call for call in (*few.adds, *few.removes, *few.seen, *chosen)}
    calls = tuple(concerned[invoked] for invoked in sorted(concerned))
    if not about.adds and not about.initially:
        return Impossible(f"{name} was seen, and nobody ever added it", calls)
    return Impossible(f"no time at which {name} came or went explains who saw it and who did not", calls)


def _extremes(seen: Sequence[Call]) -> list[Call]:
    """Those that narrow a stretch the most."""
    if not seen:
        return []
    ends = (min(seen, key=lambda call: call.completed or 0), max(seen, key=lambda call: call.invoked))
    return list({call.invoked: call for call in ends}.values())


def _decide_with_reads(elements: dict[Hashable, _Element], reads: list[_Read], ask: Callable[[], None]) -> Decision:
    for number, read in enumerate(reads):
        ask()
        for item in read.items:
            about = elements.get(item)
            if about is None:
                return Impossible(f"{show(item)} was read, and nobody ever added it", (read.call,))
            about.reads.append(number)
    completed = [read.completed for read in reads]
    sure = True
    listed: list[_Element] = []
    for number, given in enumerate(elements.values()):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        about, missed = _with_reads(given, reads, completed)
        if len(about.adds) > 1 or len(about.removes) > 1:
            sure = False
        elif not _possible(about, missed):
            return _impossible(about, missed)
        listed.append(about)
        sure = sure and not (about.initially and about.adds)
    return _Timeline(listed, reads, ask).decide() if sure else None


def _with_reads(given: _Element, reads: list[_Read], completed: list[int]) -> tuple[_Element, list[Call]]:
    """The element with reads as questions after it: those that saw it, and those that missed it while it may have been
    there for certain (and few others)."""
    numbers = given.reads
    among = range(len(numbers)) if given.initially and given.adds else _ends(numbers, completed)
    seen = [*given.seen, *(reads[numbers[place]].call for place in among)]
    adds = [call for call in given.adds if call.known or seen]
    removes = [call for call in given.removes if call.known or given.missed or len(numbers) < len(reads)]
    about = msgspec.structs.replace(given, adds=adds, removes=removes, seen=seen)
    if len(adds) > 1 or len(removes) > 1 or not (adds or given.initially):
        return about, given.missed
    begin = ALWAYS if given.initially else _window(adds[0])
    latest, earliest = _narrowed(begin, _window(removes[0] if removes else None), seen)
    missed = list(given.missed)
    low, high = bisect_left(reads, latest, key=_invoked), bisect_left(reads, earliest, key=_invoked)
    if bisect_left(numbers, high) - bisect_left(numbers, low) == high - low:
        return about, missed
    for number in range(low, high):
        if given.element not in reads[number].items:
            missed.append(reads[number].call)
            if reads[number].completed < earliest:
                break
    return about, missed


def _ends(numbers: list[int], completed: list[int]) -> list[int]:
    """The places of the reads that completed first and were invoked last: they narrow a stretch the most."""
    if not numbers:
        return []
    ends = list(map(completed.__getitem__, numbers))
    return sorted({ends.index(min(ends)), len(ends) - 1})


def _invoked(read: _Read) -> int:
    return read.invoked


class _Timeline:
    """Finds an order and the times of all reads, of elements that were added and removed at most once."""

    def __init__(self, elements: list[_Element], reads: list[_Read], ask: Callable[[], None]) -> None:
        self._elements = elements
        self._reads = reads
        self._ask = ask
        self._gaps: list[Window] = []  # when elements were there that no read saw
        self._earliest: list[float] = []
        self._latest: list[float] = []
        self._times: list[float] = []

    def decide(self) -> Decision:
        order = self._order()
        rank = [0] * len(order)
        for place, number in enumerate(order):
            rank[number] = place
        self._earliest = [self._reads[number].invoked for number in order]
        self._latest = [self._reads[number].completed for number in order]
        spans: list[list[int]] = []
        for number, about in enumerate(self._elements):
            if number % STEPS_PER_QUESTION == 0:
                self._ask()
            ranks = list(map(rank.__getitem__, about.reads))
            spans.append([min(ranks), max(ranks)] if ranks else [])
            if ranks and spans[-1][1] - spans[-1][0] + 1 != len(ranks):
                return None
            self._bound(about, spans[-1])
        if not self._timed():
            return None
        for number, about in enumerate(self._elements):
            if number % STEPS_PER_QUESTION == 0:
                self._ask()
            if not self._holds(about, spans[number]):
                return None
        return Explained()

    def _timed(self) -> bool:
        """Whether there are times for the reads, in their order; each is the earliest that there is."""
        self._gaps.sort(reverse=True)
        time = -inf
        for earliest, latest in zip(self._earliest, self._latest, strict=True):
            time = max(time, earliest + 0.5)
            while self._gaps and self._gaps[-1][0] < time:
                time = max(time, self._gaps.pop()[1] + 0.5)
            if time > latest:
                return False
            self._times.append(time)
        return True

    def _order(self) -> list[int]:
        """The reads by how many changes they saw: an element that is gone counts twice, for coming and going."""
        gone = self._gone()
        return sorted(range(len(self._reads)), key=lambda n: (len(self._reads[n].items) + 2 * gone[n], n))

    def _gone(self) -> list[int]:
        """For each read, how many elements were there and were removed before it."""
        marks: list[tuple[float, int, int]] = []
        for number, about in enumerate(self._elements):
            if about.removes and (about.adds or about.initially):
                invoked, completed = _window(about.removes[0])
                marks += [(invoked, 0, number), (completed, 1, number)]
        for number, read in enumerate(self._reads):
            marks += [(read.invoked, 2, number), (read.completed, 3, number)]
        marks.sort()
        self._ask()
        gone = [0] * len(self._reads)
        over = 0
        removing: dict[int, None] = {}
        reading: dict[int, None] = {}
        pairs = PAIRS_PER_ITEM_MAX * (len(self._elements) + sum(len(read.items) for read in self._reads))
        for step, (_, kind, number) in enumerate(marks):
            if step % STEPS_PER_QUESTION == 0:
                self._ask()
            if kind == 0:
                removing[number] = None
                for running in reading:
                    gone[running] += self._left(number, running)
            elif kind == 1:
                del removing[number]
                over += 1
            elif kind == 2:
                gone[number] += over
                reading[number] = None
                pairs -= len(removing)
                if pairs > 0:
                    gone[number] += sum(self._left(other, number) for other in removing)
            else:
                del reading[number]
        return gone

    def _left(self, number: int, read: int) -> bool:
        """Whether an element that was being removed during a read was gone by then."""
        about = self._elements[number]
        if about.element in self._reads[read].items:
            return False
        return about.initially or (_window(about.adds[0])[1] < self._reads[read].invoked)

    def _stretch_of(self, about: _Element, span: Sequence[int]) -> tuple[Window, Window]:
        """When the element may have come, and gone."""
        begin = ALWAYS if about.initially else _window(about.adds[0] if about.adds else None)
        if not about.removes:
            return begin, NEVER
        remove = about.removes[0]
        end = _window(remove)
        needless = not remove.known and bool(span) and span[1] == len(self._reads) - 1
        if needless:
            return begin, NEVER
        if end[1] < max(begin[0], _narrowed(begin, end, about.seen)[1]):  # it was removed before it was added
            return (max(begin[0], end[0]), begin[1]), NEVER
        return begin, end

    def _bound(self, about: _Element, span: Sequence[int]) -> None:
        """Takes from the times of the reads what the element leaves them. `span`: the first and last that saw it."""
        begin, end = self._stretch_of(about, span)
        contains = [call for call in about.seen if call.f == "contains"]
        latest, earliest = _narrowed(begin, end, contains)
        if not span:
            self._gaps += [(latest, earliest)] if latest < earliest and begin != NEVER else []
            return
        first, last = span
        for call in about.missed:
            if call.completed is not None and call.completed < earliest:
                self._earliest[first] = max(self._earliest[first], call.invoked)
            elif call.completed is not None and call.invoked > latest:
                self._latest[last] = min(self._latest[last], call.completed)
        self._earliest[first] = max(self._earliest[first], begin[0])
        self._latest[last] = min(self._latest[last], end[1])
        if first > 0:
            self._latest[first - 1] = min(self._latest[first - 1], latest)
        if last + 1 < len(self._reads):
            self._earliest[last + 1] = max(self._earliest[last + 1], earliest)

    def _holds(self, about: _Element, span: Sequence[int]) -> bool:
        """Whether the element, made as short as possible, explains all about it at the times of the reads."""
        begin, end = self._stretch_of(about, span)
        if begin == NEVER:
            return not about.seen
        contains = [call for call in about.seen if call.f == "contains"]
        latest, earliest = _narrowed(begin, end, contains)
        if span:
            latest = min(latest, self._times[span[0]])
            earliest = max(earliest, self._times[span[1]])
        elif latest < earliest and bisect_right(self._times, latest) < bisect_left(self._times, earliest):
            return False
        if begin[0] > end[1] or latest < begin[0] or earliest > end[1]:
            return False
        missed = [call for call in about.missed if call.f == "contains"]
        return latest >= earliest or all(
            call.invoked < latest or (call.completed is not None and call.completed > earliest) for call in missed
        )
