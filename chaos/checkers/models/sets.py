"""The model set: elements are added, removed, asked for one by one, and read as a whole.

Knows which calls its state allows. Does not know about time, concurrency or other keys.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.checkers.fast.sets import decide_set, repeated
from chaos.checkers.model import OTHER_VALUE, Call, Decision, Explained, Impossible, Inconsistent, anonymous
from chaos.checkers.search import Blocked, Reach, search
from chaos.checkers.values import freeze, freeze_items, items_of, show, start_items, thaw
from chaos.history import Operation

_TRUE, _FALSE = freeze(True), freeze(False)

# Of each kind, so many elements are named in an account.
NAMED_MAX: Final = 5

# One element that was added many times is searched for so many turns, and for one more per so many calls.
ALONE_TURNS_MIN: Final = 16
CALLS_PER_TURN: Final = 16


@dataclass(frozen=True)
class GrowShrinkSet:
    """A set; add, remove, contains (true or false) and read (a list in any order). Adding twice is adding once."""

    name: str = "set"
    operations: frozenset[str] = frozenset({"add", "remove", "contains", "read"})
    observations: frozenset[str] = frozenset({"contains", "read"})

    def start(self, initial: Any) -> Hashable:
        return frozenset(start_items(self.name, initial))

    def step(self, state: frozenset[Hashable], call: Call) -> Hashable | Inconsistent:
        if call.f == "add":
            return state | {call.argument}
        if call.f == "remove":
            return state - {call.argument}
        if call.f == "contains":
            return state if call.result == (_TRUE if call.argument in state else _FALSE) else OTHER_VALUE
        items = items_of(call.result)
        return state if items is not None and len(items) == len(state) == len(state & set(items)) else OTHER_VALUE

    def describe(self, state: frozenset[Hashable]) -> str:
        return f"it holds {', '.join(sorted(map(show, state))[:20]) or 'nothing'}"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Drops adds of unknown outcome whose element nobody ever saw in the set: nobody misses them."""
        seen = {item for call in calls if call.f == "read" for item in items_of(call.result) or ()}
        seen.update(call.argument for call in calls if call.f == "contains" and call.result == _TRUE)
        return anonymous(call for call in calls if call.known or call.f != "add" or call.argument in seen)

    def decide(self, calls: Sequence[Call], start: frozenset[Hashable], ask: Callable[[], None]) -> Decision:
        def alone(concerned: Sequence[Call], element: Hashable) -> Decision:
            return self._searched(concerned, [thaw(element)] if element in start else [], ask)

        return decide_set(calls, start, alone, ask)

    def _searched(self, calls: Sequence[Call], initial: list[Any], ask: Callable[[], None]) -> Decision:
        turns = search(calls, self, initial, Reach())
        for _ in range(ALONE_TURNS_MIN + len(calls) // CALLS_PER_TURN):
            ask()
            try:
                next(turns)
            except StopIteration as stop:
                if stop.value is None:
                    return Explained()
                if isinstance(stop.value, Blocked):
                    return Impossible(f"no order explains all about {show(calls[0].argument)}", tuple(calls))
        return None

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """All about an element, where no read of the whole set could miss it: the others do not depend on it.

        Such a read would miss what it returned, and what must have been removed, as it may have been there initially.
        Of those elements each contains by itself, and each read by itself: what they saw was there without them.
        """
        reads = [call for call in calls if call.f == "read"]
        bound = {item for call in reads for item in items_of(call.result) or ()}
        bound.update(call.argument for call in calls if reads and call.f == "remove")
        changed = {call.argument for call in calls if not call.observes}
        parts: dict[Hashable, list[Call]] = {}
        for call in calls:
            if call.f != "read" and call.argument in changed and call.argument not in bound:
                parts.setdefault(("element", call.argument), []).append(call)
            elif call.observes:
                parts[("call", call.invoked)] = [call]
        return list(parts.values())

    def account(self, operations: Sequence[Operation]) -> str:
        """In words, what became of the elements whose add was acknowledged and that nobody tried to remove.

        Lost: from some time on nobody saw it who asked after it was known. Stale: somebody did not see it who asked
        after it was known, but another did later. Never read: nobody asked after it was known. An element is known
        from its first acknowledgement on, or from when it was first seen. Whoever reads the whole set asks after all.
        Empty if nobody ever asked.
        """
        reads = [(one, freeze_items(one.result) or ()) for one in operations if one.f == "read" and one.outcome == "ok"]
        asked = [one for one in operations if one.f == "contains" and one.outcome == "ok"]
        if not reads and not asked:
            return ""
        removed = {freeze(one.argument) for one in operations if one.f == "remove" and one.outcome != "fail"}
        known: dict[Hashable, int] = {}
        for one in operations:
            if one.f == "add" and one.outcome == "ok" and one.completed is not None:
                element = freeze(one.argument)
                known[element] = min(known.get(element, one.completed), one.completed)
        known = {element: completed for element, completed in known.items() if element not in removed}
        sightings: dict[Hashable, list[tuple[int, bool]]] = {}
        for one, items in reads:
            for item in dict.fromkeys(items):
                if item in known:
                    sightings.setdefault(item, []).append((one.invoked, True))
                    known[item] = min(known[item], one.completed or 0)
        for one in asked:
            element = freeze(one.argument)
            if element in known:
                sightings.setdefault(element, []).append((one.invoked, one.result is True))
                known[element] = min(known[element], one.completed or 0) if one.result is True else known[element]
        kinds: dict[str, list[Hashable]] = {"lost": [], "stale": [], "never read": []}
        starts = [one.invoked for one, _ in reads]
        for element, completed in known.items():
            kind = _fate(sightings.get(element, []), starts, completed)
            if kind is not None:
                kinds[kind].append(element)
        kinds["duplicated"] = list(dict.fromkeys(item for _, items in reads for item in repeated(items)))
        return f"of {len(known)} acknowledged: " + ", ".join(_named(kind, found) for kind, found in kinds.items())


def _fate(sightings: list[tuple[int, bool]], reads: list[int], known: int) -> str | None:
    """What became of an element, by who saw it or not, `reads` of the whole set being invoked at these positions."""
    later = sorted(pair for pair in sightings if pair[0] > known)
    seen = {invoked for invoked, found in later if found}
    asked = {invoked for invoked, _ in later}
    first = bisect_right(reads, known)
    missed = [invoked for invoked, found in later if not found]
    number = len(reads) - 1
    while number >= first and reads[number] in asked:
        number -= 1
    if number >= first:
        missed.append(reads[number])
    if not missed:
        return None if seen else "never read"
    return "lost" if max(missed) > max(seen, default=-1) else "stale"


def _named(kind: str, found: Sequence[Hashable]) -> str:
    if not found:
        return f"0 {kind}"
    more = ", …" if len(found) > NAMED_MAX else ""
    return f"{len(found)} {kind} ({', '.join(map(show, found[:NAMED_MAX]))}{more})"
