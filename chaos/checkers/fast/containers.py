"""Containers whose elements are distinct: whether an order exists that puts them in and takes them out, and queues.

Knows when each element was put in and taken at the earliest and at the latest, and the two kinds of queues. Does not
know stacks (see `stacks`), nor what to say of an element that was put in twice: then the answer is None.

An element is certainly inside from the end of its put to the beginning of its take, if that comes later. Henzinger,
Sezgin and Vafeiadis (Aspect-oriented linearizability proofs, 2013) show that a FIFO queue's history is right unless an
element is taken that was not put in, or twice, or in the wrong order, or a take found nothing (an empty take) although
at each instant of it some element was certainly inside. Without the order this holds for the unordered queue: let each
element be inside only while it certainly is.

Puts of unknown outcome whose element nobody took can be left out of any order. A take of unknown outcome may have taken
any element that nobody is known to have taken (an element left over), or nothing. Give the first such take, by
invocation, the element left over whose put completed first, the second the second, and so on. For queues nothing is
lost by that: if an order must be rid of an element at some instant, then also of all those left over whose puts
completed before that element's; so it needs as many takes by then, and any of these will do for any of those.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import show

# Beyond every position in a history.
NEVER: Final = 1 << 62

SHOWN_MAX: Final = 8

Item = TypeVar("Item")


class Element(NamedTuple):
    """An element with the positions between which it was put in, and between which it was taken.

    Left over: `take` is NEVER and `take_completed` is later, or, once it was given to a take of unknown outcome, `take`
    is where that was invoked. `put_completed` is NEVER if the outcome of the put is unknown.
    """

    put: int
    put_completed: int
    take: int
    take_completed: int
    value: Hashable
    put_call: Call | None
    take_call: Call | None

    @property
    def calls(self) -> list[Call]:
        return [call for call in (self.put_call, self.take_call) if call is not None]

    @property
    def left_over(self) -> bool:
        return self.take_completed > NEVER


class Contents(NamedTuple):
    """What was put in, in the order of invocations; takes that found nothing; takes of unknown outcome."""

    elements: list[Element]
    empty: list[Call]
    unknown: list[Call]


def decide_queue(calls: Sequence[Call], start: Sequence[Hashable], put: str, ask: Ask) -> Decision:
    """Whether an unordered queue explains `calls`, whose puts have the f `put`, from the elements `start` on."""
    found = contents(calls, start, put, ask)
    if not isinstance(found, Contents):
        return found
    return empty_violation(given(found), found, ask) or Explained()


def decide_fifo(calls: Sequence[Call], start: Sequence[Hashable], put: str, ask: Ask) -> Decision:
    """Whether a FIFO queue explains `calls`, whose puts have the f `put`, from `start` on, oldest element first."""
    found = contents(calls, start, put, ask)
    if not isinstance(found, Contents):
        return found
    elements = given(found)
    return _order_violation(elements, found, ask) or empty_violation(elements, found, ask) or Explained()


def parts(calls: Sequence[Call], start: Iterable[Hashable], put: str) -> list[list[Call]]:
    """Calls that can be left out: all that put or take one value; each empty take.

    Takes of unknown outcome must stay, since they may have taken anything. So must all calls about a value of `start`:
    without its takes it would stay inside.
    """
    values = {call.argument for call in calls if call.f == put} - set(start)
    found: list[list[Call]] = []
    by_value: dict[Hashable, list[Call]] = {}
    for call in calls:
        value = call.argument if call.f == put else call.result
        if value in values:
            if value not in by_value:
                found.append(by_value.setdefault(value, []))
            by_value[value].append(call)
        elif value is None and call.known and call.f != put:
            found.append([call])
    return found


def contents(calls: Sequence[Call], start: Sequence[Hashable], put: str, ask: Ask) -> Contents | Impossible | None:
    """The calls as elements; impossible if an element was taken that was not there; None if one was put in twice."""
    puts: list[Call] = []
    takes: dict[Hashable, Call] = {}
    again: list[Call] = []
    empty: list[Call] = []
    unknown: list[Call] = []
    for call in asking(calls, ask):
        if call.f == put:
            puts.append(call)
        elif not call.known:
            unknown.append(call)
        elif call.result is None:
            empty.append(call)
        elif call.result in takes:
            again.append(call)
        else:
            takes[call.result] = call
    puts = [call for call in asking(puts, ask) if call.known or call.argument in takes]
    ask()
    values = {*start, *(call.argument for call in puts)}
    if len(values) < len(start) + len(puts):
        return None
    elements = [
        _element(2 * (number - len(start)), 2 * (number - len(start)) + 1, value, None, takes.get(value))
        for number, value in enumerate(start)
    ]
    for call in asking(puts, ask):
        completed = NEVER if call.completed is None else call.completed
        elements.append(_element(call.invoked, completed, call.argument, call, takes.get(call.argument)))
    ask()
    return _take_violation(elements, values, takes, again) or Contents(elements, empty, unknown)


def _element(put: int, put_completed: int, value: Hashable, put_call: Call | None, take: Call | None) -> Element:
    if take is None:
        return Element(put, put_completed, NEVER, NEVER + 1, value, put_call, None)
    assert take.completed is not None
    return Element(put, put_completed, take.invoked, take.completed, value, put_call, take)


def _take_violation(
    elements: Sequence[Element], values: set[Hashable], takes: dict[Hashable, Call], again: Sequence[Call]
) -> Impossible | None:
    for call in again:
        both = [one for element in elements if element.value == call.result for one in element.calls]
        both = both or [takes[call.result]]
        return Impossible(f"{show(call.result)} was taken twice, and put in once at the most", (*both, call))
    for value, call in takes.items():
        if value not in values:
            return Impossible(f"{show(value)} was taken, and never put in", (call,))
    for element in elements:
        if element.take_completed < element.put:
            return Impossible(f"{show(element.value)} was taken before it was put in", tuple(element.calls))
    return None


def asking(items: Sequence[Item], ask: Ask) -> Iterator[Item]:
    """The items; `ask` is called every few thousand of them."""
    for begin in range(0, len(items), STEPS_PER_QUESTION):
        ask()
        yield from items[begin : begin + STEPS_PER_QUESTION]


def given(found: Contents) -> list[Element]:
    """The elements, those left over given to the takes of unknown outcome in the order of the puts' completions."""
    if not found.unknown:
        return found.elements
    left_over = [number for number, element in enumerate(found.elements) if element.take == NEVER]
    left_over.sort(key=lambda number: found.elements[number].put_completed)
    elements = list(found.elements)
    for number, call in zip(left_over, found.unknown, strict=False):
        elements[number] = elements[number]._replace(take=call.invoked)
    return elements


def _order_violation(elements: Sequence[Element], found: Contents, ask: Ask) -> Impossible | None:
    """Of two elements, one put in and taken before the other was."""
    by_completion = sorted(elements, key=attrgetter("put_completed"))
    ask()
    before = 0
    latest: Element | None = None
    for element in asking(elements, ask):
        while by_completion[before].put_completed < element.put:
            if latest is None or by_completion[before].take > latest.take:
                latest = by_completion[before]
            before += 1
        if latest is not None and latest.take > element.take_completed:
            reason = f"{show(latest.value)} was put in before {show(element.value)}, and taken after it"
            if latest.left_over:
                reason = f"{show(latest.value)} was put in before {show(element.value)}, and not taken before it"
            return impossible(reason, _with_waiting([latest, element], found), (), found, element.take_completed)
    return None


def empty_violation(elements: Sequence[Element], found: Contents, ask: Ask) -> Impossible | None:
    """A take that found nothing, although at each instant of it some element was certainly inside."""
    if not found.empty:
        return None
    begins, ends = _uncovered(elements, ask)
    for call in asking(found.empty, ask):
        assert call.completed is not None
        at = bisect_right(ends, call.invoked)
        if begins[at] > call.completed:
            covering = chain(elements, call.invoked, call.completed)
            reason = f"nothing was found, although {listed(covering)} {_was(covering)} certainly inside"
            reason += ", one or another all the time" if len(covering) > 1 else ""
            return impossible(reason, _with_waiting(covering, found), (call,), found, call.completed)
    return None


def _uncovered(elements: Sequence[Element], ask: Ask) -> tuple[list[int], list[int]]:
    """Where the stretches begin and end, in order, in which no element is certainly inside."""
    inside = [element for element in asking(elements, ask) if element.put_completed < element.take]
    puts = sorted(element.put_completed for element in inside)
    ask()
    takes = sorted(element.take for element in inside)
    begins = [-NEVER]
    ends: list[int] = []
    for number, position in enumerate(asking(puts, ask)):
        # All `number` elements that came in before have left again by then, at the last of the first takes.
        left = takes[number - 1] if number else -NEVER
        if left < position:
            if number:
                begins.append(left)
            ends.append(position)
    begins += takes[-1:]
    ends.append(2 * NEVER)
    return begins, ends


def chain(elements: Iterable[Element], begin: int, end: int) -> list[Element]:
    """As few elements as possible of which one is certainly inside at each instant from `begin` to `end`."""
    inside = [one for one in elements if one.put_completed < min(one.take, end) and one.take > begin]
    inside.sort(key=attrgetter("put_completed"))
    chosen: list[Element] = []
    best = inside[0]
    for element in inside:
        if element.put_completed > begin:
            chosen.append(best)
            begin = best.take
            if begin >= end:
                return chosen
        if element.take > best.take:
            best = element
    return [*chosen, best]


def impossible(
    reason: str, elements: Iterable[Element], others: Iterable[Call], found: Contents, end: int
) -> Impossible:
    """The violation by `elements` and `others`, over by `end`, with the takes of unknown outcome that matter to it."""
    calls = [call for element in elements for call in element.calls] + list(others)
    able = [call for call in found.unknown if call.invoked < end]
    if able and any(element.left_over for element in elements):
        calls += able
        reason += f"; the takes of unknown outcome ({len(able)}) do not explain it"
    return Impossible(reason, tuple(sorted({id(call): call for call in calls}.values(), key=attrgetter("invoked"))))


def _with_waiting(elements: Sequence[Element], found: Contents) -> list[Element]:
    """The elements, and all left over that had to be taken before one of them."""
    last = max((element.put_completed for element in elements if element.left_over), default=-NEVER)
    if not found.unknown:
        return list(elements)
    waiting = [one for one in found.elements if one.left_over and one.put_completed < last]
    return [*waiting, *elements]


def listed(elements: Sequence[Element]) -> str:
    shown = [show(element.value) for element in elements[:SHOWN_MAX]]
    more = len(elements) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _was(elements: Sequence[Element]) -> str:
    return "was" if len(elements) == 1 else "were"
