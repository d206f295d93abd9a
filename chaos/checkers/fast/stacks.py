"""Stacks whose elements are distinct: whether an order exists that pushes and pops them.

Knows the stretches between the positions at which elements are certainly inside or no longer, and that an element is
above those that were pushed before it. Knows nothing of queues.

The method follows Lee and Mathur (Efficient decrease-and-conquer linearizability monitoring, 2025). An element whose
push and pop overlap can be pushed and popped at one instant, above everything: it restricts nothing and is left out.
The others are certainly inside from the end of their push to the beginning of their pop. The unions of these times fall
apart into components. If any order exists, one exists in which no element is inside outside of its component: move each
instant into it. While a component lasts the stack is never empty, so that one element lies below all the others, pushed
before the component begins and popped after it ends. Conversely any element that can be may be it: move the instants of
the others into the component, which their pushes and pops allow. So it can be left out, and what is left decides.

Put differently: an element can be left out once there is, during its push as well as during its pop, an instant at
which no other element that is left is certainly inside. An order exists if in the end all are left out. If not, let
elements cover a component that is left, one or another at each instant: none of them can lie below the others.

Elements that are never popped are popped in the end, all at once. Takes of unknown outcome may have popped any of these
(elements left over), or nothing. To be exact is hard, so two answers are tried: give the takes to the elements in the
order in which these had to be gone, as far as pairs of elements and empty takes tell; if that works, an order exists.
Let the first take pop all of them; if even that does not work, none does.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final, NamedTuple

from chaos.checkers.fast import Ask
from chaos.checkers.fast.containers import (
    NEVER,
    Contents,
    Element,
    asking,
    chain,
    contents,
    empty_violation,
    given,
    impossible,
    listed,
)
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import show

# Elements looked at, at the most, to make a proof smaller: under a second.
PROOF_LOOKS_MAX: Final = 1_000_000


def decide_stack(calls: Sequence[Call], start: Sequence[Hashable], push: str, ask: Ask) -> Decision:
    """Whether a stack explains `calls`, whose puts have the f `push`, from `start` on, oldest element first."""
    found = contents(calls, start, push, ask)
    if not isinstance(found, Contents):
        return found
    # That the takes of unknown outcome suffice for a queue's elements is necessary for a stack's, too.
    violation = empty_violation(given(found), found, ask)
    if violation is not None:
        return violation
    if not found.unknown:
        return _nesting_violation(found.elements, found, ask) or Explained()
    elements = _given_in_time(found, ask)
    if isinstance(elements, Impossible):
        return elements
    if empty_violation(elements, found, ask) is None and _nesting_violation(elements, found, ask) is None:
        return Explained()
    first = found.unknown[0].invoked
    relaxed = [one._replace(take=first) if one.take == NEVER else one for one in asking(found.elements, ask)]
    return _nesting_violation(relaxed, found, ask)


class _Need(NamedTuple):
    """An element left over that had to be gone by `deadline`, because of another element or of an empty take."""

    deadline: int
    element: Element


def _given_in_time(found: Contents, ask: Ask) -> list[Element] | Impossible:
    """The elements, those left over given to takes of unknown outcome; impossible if there are too few of these."""
    needs = sorted(_needs(found, ask), key=lambda need: (need.deadline, need.element.put_completed))
    taken: dict[int, int] = {}
    for number, need in enumerate(needs):
        if number < len(found.unknown) and found.unknown[number].invoked < need.deadline:
            taken[need.element.put] = found.unknown[number].invoked
        elif need.deadline < NEVER:
            return _too_few(needs[: number + 1], found)
        else:
            break
    return [one._replace(take=taken[one.put]) if one.put in taken else one for one in asking(found.elements, ask)]


def _needs(found: Contents, ask: Ask) -> Iterator[_Need]:
    """By when each element left over had to be gone: an older one was popped after its push, or nothing was found."""
    popped = sorted((one for one in found.elements if one.take < NEVER), key=attrgetter("put_completed"))
    takes = sorted(element.take for element in popped)
    earliest = _Earliest(len(takes))
    empty = [call.invoked for call in found.empty]
    empty_ends = [call.completed for call in found.empty if call.completed is not None]
    earliest_empty = [*accumulate(reversed(empty_ends), min, initial=NEVER)][::-1]
    older = 0
    for element in asking(found.elements, ask):
        if element.take < NEVER:
            continue
        while older < len(popped) and popped[older].put_completed < element.put:
            earliest.note(len(takes) - bisect_left(takes, popped[older].take), popped[older].take_completed)
            older += 1
        by_pop = earliest.among(len(takes) - bisect_right(takes, element.put_completed))
        by_empty = earliest_empty[bisect_right(empty, element.put_completed)]
        yield _Need(min(by_pop, by_empty), element)


class _Earliest:
    """The least number noted among the first places (a Fenwick tree)."""

    def __init__(self, places: int) -> None:
        self._least = [NEVER] * (places + 1)

    def note(self, place: int, number: int) -> None:
        while place < len(self._least):
            self._least[place] = min(self._least[place], number)
            place += place & -place

    def among(self, places: int) -> int:
        least = NEVER
        while places:
            least = min(least, self._least[places])
            places &= places - 1
        return least


def _too_few(needs: Sequence[_Need], found: Contents) -> Impossible:
    deadlines = {need.deadline for need in needs}
    left_over = [need.element for need in needs]
    older = [element for element in found.elements if element.take_completed in deadlines]
    empty = [call for call in found.empty if call.completed in deadlines]
    reason = f"{listed(left_over)} had to be popped before older elements were, or before nothing was found"
    return impossible(reason, [*left_over, *older], empty, found, needs[-1].deadline)


def _nesting_violation(elements: Sequence[Element], found: Contents, ask: Ask) -> Impossible | None:
    """Elements without a gap between them, of which none can have been below the others."""
    restricting = [element for element in asking(elements, ask) if element.put_completed < element.take]
    stuck = _Peeling(restricting, ask).stuck()
    if not stuck:
        return None
    component = min(_components(stuck), key=len)
    proof = _smaller(chain(component, component[0].put_completed, max(one.take for one in component)))
    if len(proof) == 2:
        older, younger = (show(element.value) for element in proof)
        reason = f"{younger} was pushed after {older} and before {older} was popped, and not popped before it"
    else:
        reason = f"{listed(proof)} were inside without a gap, and none of them can have been below the others"
    end = max(one.take_completed for one in proof if not one.left_over)
    return impossible(reason, proof, (), found, end)


class _Peeling:
    """Which elements can be left out, one after the other.

    Stretch 0 is before the first edge, stretch n between the edges n - 1 and n; an edge is where an element begins or
    ceases to be certainly inside. How many elements cover each stretch is kept in a segment tree that holds in each
    node by how much the least of its stretches exceeds the least of its parent's: a path of zeros ends at a stretch
    that nothing covers. For each such stretch the pushes and pops that it is part of are found on the way to the root,
    each having been noted at the few nodes of the tree which together are its stretches.
    """

    def __init__(self, elements: Sequence[Element], ask: Ask) -> None:
        self._elements = elements
        self._ask = ask
        self._waits = [2] * len(elements)
        edges = sorted({edge for element in elements for edge in (element.put_completed, element.take)})
        ask()
        place = {edge: number + 1 for number, edge in enumerate(edges)}
        self._size = 1 << len(edges).bit_length()
        self._spans = [(place[element.put_completed], place[element.take]) for element in asking(elements, ask)]
        self._surplus = self._covered(len(edges) + 1)
        self._waiting: list[list[int] | None] = [None] * (2 * self._size)
        for number, element in enumerate(asking(elements, ask)):
            first, end = self._spans[number]
            self._wait(2 * number, bisect_right(edges, element.put), first)
            self._wait(2 * number + 1, end, bisect_left(edges, element.take_completed) + 1)

    def _covered(self, stretches: int) -> list[int]:
        changes = [0] * stretches
        for first, end in asking(self._spans, self._ask):
            changes[first] += 1
            changes[end] -= 1
        surplus = [0] * self._size + list(accumulate(changes)) + [NEVER] * (self._size - stretches)
        for node in range(self._size - 1, 0, -1):
            left, right = surplus[2 * node], surplus[2 * node + 1]
            least = surplus[node] = left if left < right else right
            surplus[2 * node] = left - least
            surplus[2 * node + 1] = right - least
        return surplus

    def _wait(self, half: int, first: int, end: int) -> None:
        """Note a push or a pop (half an element) for the stretches from `first` to before `end`."""
        left, right = first + self._size, end + self._size
        while left < right:
            if left & 1:
                self._note(left, half)
                left += 1
            if right & 1:
                right -= 1
                self._note(right, half)
            left >>= 1
            right >>= 1

    def _note(self, node: int, half: int) -> None:
        halves = self._waiting[node]
        if halves is None:
            self._waiting[node] = [half]
        else:
            halves.append(half)

    def stuck(self) -> list[Element]:
        """The elements that cannot be left out."""
        met = bytearray(2 * len(self._elements))
        free = self._freed(met)
        left_out = 0
        while left_out < len(free):
            if not left_out % 1024:
                self._ask()
            self._uncover(*self._spans[free[left_out]])
            left_out += 1
            free += self._freed(met)
        return [element for number, element in enumerate(self._elements) if self._waits[number]]

    def _freed(self, met: bytearray) -> list[int]:
        """The elements that can be left out due to the stretches which nothing covers any more."""
        free = []
        for stretch in self._open():
            node = stretch
            while node:
                for half in self._waiting[node] or ():
                    if not met[half]:
                        met[half] = 1
                        self._waits[half >> 1] -= 1
                        if not self._waits[half >> 1]:
                            free.append(half >> 1)
                self._waiting[node] = None
                node >>= 1
        return free

    def _open(self) -> list[int]:
        """The leaves of the stretches that nothing covers; not to be found again."""
        surplus = self._surplus
        if surplus[1]:
            return []
        found = []
        nodes = [1]
        while nodes:
            node = nodes.pop()
            if node >= self._size:
                found.append(node)
            else:
                nodes += [child for child in (2 * node, 2 * node + 1) if not surplus[child]]
        for leaf in found:
            surplus[leaf] = NEVER
            self._settle(leaf)
        return found

    def _settle(self, node: int) -> None:
        """Restore the ancestors of a node whose surplus changed."""
        surplus = self._surplus
        while node > 1:
            own, other = surplus[node], surplus[node ^ 1]
            least = own if own < other else other
            if not least:
                return
            surplus[node] = own - least
            surplus[node ^ 1] = other - least
            node >>= 1
            surplus[node] += least

    def _uncover(self, first: int, end: int) -> None:
        """One element less covers the stretches from `first` to before `end`; neither is the first or last of all."""
        surplus = self._surplus
        left, right = first - 1 + self._size, end + self._size
        while left ^ right ^ 1:
            if not left & 1:
                surplus[left ^ 1] -= 1
            if right & 1:
                surplus[right ^ 1] -= 1
            for node in (left, right):
                own, other = surplus[node], surplus[node ^ 1]
                least = own if own < other else other
                if least:
                    surplus[node] = own - least
                    surplus[node ^ 1] = other - least
                    surplus[node >> 1] += least
            left >>= 1
            right >>= 1
        self._settle(left)


def _components(elements: Sequence[Element]) -> list[list[Element]]:
    """The elements in the order of their pushes' completions, apart where nothing is certainly inside."""
    found: list[list[Element]] = []
    end = -NEVER
    for element in sorted(elements, key=attrgetter("put_completed")):
        if element.put_completed > end:
            found.append([])
        found[-1].append(element)
        end = max(end, element.take)
    return found


def _smaller(proof: list[Element]) -> list[Element]:
    """The least part of a chain of which no element can lie below the others either, if that is soon found."""
    looks = 0
    for size in range(2, len(proof)):
        for begin in range(len(proof) - size + 1):
            if not _has_lowest(proof[begin : begin + size]):
                return proof[begin : begin + size]
            looks += size
            if looks > PROOF_LOOKS_MAX:
                return proof
    return proof


def _has_lowest(proof: Sequence[Element]) -> bool:
    begin, end = proof[0].put_completed, proof[-1].take
    return any(element.put < begin and element.take_completed > end for element in proof)
