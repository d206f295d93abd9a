"""The model list: a list that is read as a whole, appended to, and written over.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from chaos.checkers.model import OTHER_VALUE, Call, Decision, Explained, Impossible, Inconsistent, anonymous
from chaos.checkers.values import items_of, show, show_json, start_items
from chaos.history import Operation

# Reads between two questions about the budget; each may be long.
_READS_PER_QUESTION: Final = 64
_PLACES_PER_QUESTION: Final = 1024


@dataclass(frozen=True)
class ListRegister:
    """A list; read, append one item, write a whole list. The state is the tuple of frozen items."""

    name: str = "list"
    operations: frozenset[str] = frozenset({"read", "append", "write"})
    observations: frozenset[str] = frozenset({"read"})

    def start(self, initial: Any) -> Hashable:
        return start_items(self.name, initial)

    def step(self, state: tuple[Hashable, ...], call: Call) -> Hashable | Inconsistent:
        if call.f == "append":
            return (*state, call.argument)
        if call.f == "write":
            return items_of(call.argument)
        return state if items_of(call.result) == state else OTHER_VALUE

    def describe(self, state: tuple[Hashable, ...]) -> str:
        return f"it holds {show(('[', *state))}"

    def complaint(self, operation: Operation) -> str | None:
        if operation.f == "write" and not isinstance(operation.argument, list | tuple):
            return f"a write takes a list, not {show_json(operation.argument)}"
        return None

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops appends of unknown outcome whose item no read returned.

        In a valid order no read falls between such an append and the next write, so nobody misses it.
        """
        seen = _seen(calls)
        return anonymous(call for call in calls if call.known or call.f != "append" or call.argument in seen)

    def decide(self, calls: Sequence[Call], start: tuple[Hashable, ...], ask: Callable[[], None]) -> Decision:
        """If nothing but appends of different items changes the list, the longest read tells the order of everything.

        An append is at its item's place, a read after the last append that it shows and before the next one, and the
        appends that no read shows come last. (As Elle infers the versions of a list from reads: Kingsbury and Alvaro,
        VLDB 2020.) So that order only needs to be compared with real time. Linear in the total length of all reads.
        """
        seen = _seen(calls)
        kept = [call for call in calls if call.known or call.f != "append" or call.argument in seen]
        if any(call.f == "write" for call in kept):
            return None
        ask()
        appends = {call.argument: call for call in kept if call.f == "append"}
        if len({*appends, *start}) < sum(call.f == "append" for call in kept) + len(start):
            return None
        return _decide_appends(kept, appends, start, ask)

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """Each read, and each change that no read can have seen.

        That is one invoked after all of them, or an append of what no read shows: in an explained order there is no
        read from it until the next write.
        """
        seen = _seen(calls)
        last = max((call.completed or 0 for call in calls if call.f == "read"), default=-1)

        def goes(call: Call) -> bool:
            return call.f == "read" or call.invoked > last or (call.f == "append" and call.argument not in seen)

        return [[call] for call in calls if goes(call)]

    def order(self, calls: Sequence[Call], start: tuple[Hashable, ...]) -> Callable[[Call, Call], bool] | None:
        """Where nothing but appends of different items changes the list, the longest read tells their order."""
        appended = [call.argument for call in calls if call.f == "append"]
        ambiguous = len({*appended, *start}) < len(appended) + len(start)
        if ambiguous or any(call.f == "write" for call in calls):
            return None
        longest: tuple[Hashable, ...] = ()
        for call in calls:
            read = items_of(call.result) if call.f == "read" else None
            longest = longest if read is None or len(read) <= len(longest) else read
        place = {item: position for position, item in enumerate(longest)}
        unread = len(place)

        def precedes(first: Call, second: Call) -> bool:
            if first.f != "append" or second.f != "append":
                return False
            return place.get(first.argument, unread) < place.get(second.argument, unread)

        return precedes


def _seen(calls: Sequence[Call]) -> set[Hashable]:
    """The items that reads show."""
    return {item for call in calls if call.f == "read" for item in items_of(call.result) or ()}


def _decide_appends(
    calls: Sequence[Call], appends: Mapping[Hashable, Call], start: tuple[Hashable, ...], ask: Callable[[], None]
) -> Decision:
    """`appends` are by item, and no item is in `start` as well."""
    reads = [(items_of(call.result), call) for call in calls if call.f == "read"]
    longest, shows_it = start, None
    for items, call in reads:
        if items is None:
            return Impossible(f"a read returned {show(call.result)}, which is no list", (call,))
        if len(items) > len(longest):
            longest, shows_it = items, call

    def proof(*chosen: Call | None) -> tuple[Call, ...]:
        """The chosen calls, and the appends of all that the reads among them show."""
        found = {call.invoked: call for call in chosen if call is not None}
        for call in list(found.values()):
            for item in items_of(call.result) or () if call.f == "read" else ():
                if item in appends:
                    found[appends[item].invoked] = appends[item]
        return tuple(found[position] for position in sorted(found))

    known = set(start)
    for item in longest[len(start) :]:
        if item not in appends:
            return Impossible(f"a read shows {show(item)}, which nobody appended", proof(shows_it))
        if item in known:
            return Impossible(f"a read shows {show(item)} again, which was appended once", proof(shows_it))
        known.add(item)
    if longest[: len(start)] != start:
        return Impossible("a read does not begin as the list did", proof(shows_it))
    for number, (items, call) in enumerate(reads):
        if number % _READS_PER_QUESTION == 0:
            ask()
        if items is None or len(items) < len(start) or items != longest[: len(items)]:
            other = "the list did" if len(longest) == len(start) or shows_it is None else "a longer or equal one"
            return Impossible(f"a read does not begin as {other}", proof(call, shows_it))
    return _in_real_time(calls, longest, proof, ask)


def _in_real_time(
    calls: Sequence[Call],
    longest: tuple[Hashable, ...],
    proof: Callable[..., tuple[Call, ...]],
    ask: Callable[[], None],
) -> Decision:
    """Compares the order, in which appends are at odd places and reads at even ones, with real time."""
    place = {item: number for number, item in enumerate(longest, start=1)}
    unread = len(longest) + 1

    def placed(call: Call) -> int:
        if call.f == "append":
            return 2 * place.get(call.argument, unread) - 1
        return 2 * len(items_of(call.result) or ())

    latest: Call | None = None  # of those at earlier places, the one invoked last
    for number, (_, same_place) in enumerate(groupby(sorted(calls, key=placed), key=placed)):
        if number % _PLACES_PER_QUESTION == 0:
            ask()
        group = list(same_place)
        for call in group:
            if latest is not None and call.completed is not None and call.completed < latest.invoked:
                return _too_late(calls, latest, call, place, proof)
        group += [latest] if latest else []
        latest = max(group, key=lambda call: call.invoked)
    return Explained()


def _too_late(
    calls: Sequence[Call],
    earlier: Call,
    later: Call,
    place: Mapping[Hashable, int],
    proof: Callable[..., tuple[Call, ...]],
) -> Impossible:
    """Two appends are a contradiction only together with a read that shows their order; the shortest one will do."""
    witness: Call | None = None
    if earlier.f == later.f == "append":
        needed = place.get(later.argument, place[earlier.argument])
        shown = [(len(items_of(call.result) or ()), call) for call in calls if call.f == "read"]
        witness = min((pair for pair in shown if pair[0] >= needed), key=lambda pair: pair[0])[1]

    def told(call: Call) -> str:
        what = show(call.argument) if call.f == "append" else f"length {len(items_of(call.result) or ())}"
        return f"the {call.f} of {what}"

    return Impossible(
        f"{told(earlier)} was asked for (event {earlier.invoked}) after {told(later)} (event {later.completed}),"
        " which must follow it",
        proof(earlier, later, witness),
    )
