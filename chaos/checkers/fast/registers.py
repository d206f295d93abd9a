"""Registers without a search: where each value is written once, a value is a stretch of time.

Knows values, what wrote and what saw them. Knows no model by name, and no search.

A value's write and what saw it are a block (see `fast.blocks`). Where a cas led from one value to another, their blocks
follow one another and make one, a chain. Without refused cas that decides all.

A refused cas from a value needs that it was not there for a moment: that it began after the invocation, or that the
next value began before the completion. So the later a value begins, the longer it can stay. If the order of the values
is given, let each begin as late as what saw it, what follows and the refused cas allow: this finds times if there are
any. The order tried is that of the latest times; where a value cannot stay until the next one must begin, it changes
places with the one before it, or another is begun early. What this finds is an order; if it finds none, it proves
nothing, unless a chain cannot end in time whatever the others do.

A time is a position in the history, just before it: any number of values may begin there, one after the other.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from itertools import count
from math import inf
from typing import Any, Final

import msgspec

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.fast.blocks import conflict
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import show

# How many chains are tried to replace a value that cannot stay.
TRIED_MAX: Final = 32

# When the value at the start begins.
BEFORE_ALL: Final = -1


class _Value(msgspec.Struct, eq=False):
    """A value that is written once: `writer` is None for the one at the start, `after` is what a cas made of it.

    `opening` completed `first` and `closing` was invoked `last` of its write and what saw it. In its chain it begins
    after `earliest` and not after `latest`. Of the cas from it that were refused, those that were invoked from
    `asked[n]` on completed with `soonest[n]` at the earliest.
    """

    value: Hashable
    seen: bool = False
    writer: Call | None = None
    first: float = inf
    last: float = -inf
    opening: Call | None = None
    closing: Call | None = None
    after: "_Value | None" = None
    earliest: float = -inf
    latest: float = inf
    asked: list[int] = []
    soonest: list[Call] = []

    def add(self, call: Call, invoked: int, completed: int | None) -> None:
        if completed is not None and completed < self.first:
            self.first, self.opening = completed, call
        if invoked > self.last:
            self.last, self.closing = invoked, call

    def follower(self) -> Call | None:
        return None if self.after is None else self.after.writer

    def refusal(self, begun: float) -> Call | None:
        """The refused cas that must find another value first if this one begins then."""
        number = bisect_left(self.asked, begun)
        return self.soonest[number] if number < len(self.soonest) else None

    def due(self, begun: float) -> float:
        """When the next one must begin at the latest if this one begins then."""
        refusal = self.refusal(begun)
        return inf if refusal is None else _end(refusal)

    def ask(self, refused: Sequence[Call]) -> None:
        """Takes note of the refused cas, which come in the order of their invocations."""
        self.asked = [call.invoked for call in refused]
        self.soonest = list(refused)
        for number in range(len(refused) - 2, -1, -1):
            if _end(self.soonest[number + 1]) < _end(self.soonest[number]):
                self.soonest[number] = self.soonest[number + 1]


class _Chain(msgspec.Struct):
    """Values that cas joined, from `root` to `tail`. It must have begun at `first` and may end after `last`.

    `begun`: when its first value was asked to be written. `latest`: when it must begin at the latest.
    """

    root: _Value
    tail: _Value
    begun: float
    first: float
    last: float
    opening: Call | None
    closing: Call | None
    latest: float = inf
    used: bool = False


class _Placed(msgspec.Struct):
    """A chain whose first value begins at `time`. Another must begin before `due`, because of its last value."""

    chain: _Chain
    time: float
    due: float


class _Known(msgspec.Struct):
    """What the calls say. `unseen`: those of unknown outcome whose value nobody saw, so that only refused cas may need
    them; `spare` are those of them whose value no refused cas asks for."""

    values: dict[Hashable, _Value]
    listed: list[_Value]
    unseen: list[Call]
    spare: list[Call]
    refusals: bool = False
    twice: bool = False


def decide_register(calls: Sequence[Call], start: Hashable, ask: Ask) -> Decision:
    """Whether an order of reads, writes and cas `[old, new]` is possible; None unless each value is written once."""
    known = _known(calls, start, ask)
    if known.twice:
        return None
    chains = _chains(known, ask)
    if isinstance(chains, Impossible):
        return chains
    found = conflict([(chain.first, chain.last) for chain in chains], ask)
    if found is not None:
        return _interleaved(known, chains[found[0]], chains[found[1]])
    if not known.refusals:
        return Explained()
    return _Timeline(known, chains, ask).decide()


def _known(calls: Sequence[Call], start: Hashable, ask: Ask) -> _Known:
    values = {start: _Value(start, first=BEFORE_ALL, last=BEFORE_ALL)}
    writers: list[Call] = []
    refused: dict[Hashable, list[Call]] = {}
    unsure: dict[Hashable, list[Hashable]] = {}  # the new values of cas of unknown outcome, and their old ones
    for number, call in enumerate(calls):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        f, argument, result, _, outcome, was_refused, _, invoked, completed, _ = call
        if f == "write":
            writers.append(call)
            continue
        old, new = (result, result) if f == "read" else _pair(argument)
        if was_refused:
            refused.setdefault(old, []).append(call)
            continue
        if old != new:
            writers.append(call)
        if not outcome:
            unsure.setdefault(new, []).append(old)
            continue
        value = values.get(old)
        if value is None:
            value = values[old] = _Value(old)
        value.seen = True
        if old == new:
            value.add(call, invoked, completed)
    found = [new for new in unsure if new in values and values[new].seen]
    while found:
        for old in unsure[found.pop()]:
            value = values.setdefault(old, _Value(old))
            if not value.seen:
                value.seen = True
                found.extend([old] if old in unsure else [])
    return _written(_Known(values, list(values.values()), [], []), writers, refused, start, ask)


def _written(
    known: _Known, writers: Sequence[Call], refused: dict[Hashable, list[Call]], start: Hashable, ask: Ask
) -> _Known:
    """Adds to what is known who wrote the values, and who could not replace them."""
    values = known.values
    for number, call in enumerate(writers):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        new = call.argument if call.f == "write" else _pair(call.argument)[1]
        value = values.get(new)
        needed = value is not None and value.seen
        if not call.known and not needed:
            known.unseen.append(call)
            known.spare.extend([] if new in refused or new == start else [call])
            continue
        if not needed and new not in refused:
            value = _Value(new)  # of which nobody can tell if it was there again
            known.listed.append(value)
        elif value is None:
            value = values[new] = _Value(new)
            known.listed.append(value)
        elif value.writer is not None or new == start:
            known.twice = True
        value.writer = call
        value.add(call, call.invoked, call.completed)
    for old, calls in refused.items():
        if old in values:
            values[old].ask(calls)
            known.refusals = True
    return known


def _pair(argument: Any) -> tuple[Hashable, Hashable]:
    """The frozen old and new value of a cas."""
    return argument[1], argument[2]


def _end(call: Call) -> float:
    return inf if call.completed is None else call.completed


def _chains(known: _Known, ask: Ask) -> list[_Chain] | Impossible:
    """The values joined into chains, each of which is possible by itself; or why one is not."""
    roots: list[_Value] = []
    again: Call | None = None
    for value in known.listed:
        if value.writer is None or value.writer.f != "cas":
            roots.append(value)
            continue
        before = known.values[_pair(value.writer.argument)[0]]
        if before.after is None:
            before.after = value
        else:
            again = value.writer
    ask()
    for value in roots:
        if value.writer is None and value is not known.listed[0]:
            witness = value.closing or value.follower()
            return Impossible(f"nobody ever wrote {show(value.value)}", _evidence(known, witness))
    if again is not None:
        before = known.values[_pair(again.argument)[0]]
        reason = f"{show(before.value)} was replaced by cas twice, and was written only once"
        return Impossible(reason, _evidence(known, again, before.follower()))
    chains: list[_Chain] = []
    reached: set[_Value] = set()
    for number, root in enumerate(roots):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        values = [root]
        while (after := values[-1].after) is not None:
            values.append(after)
        reached.update(values)
        chain = _joined(known, values)
        if isinstance(chain, Impossible):
            return chain
        chains.append(chain)
    if len(reached) < len(known.listed):
        return _circle(known, reached)
    return chains


def _joined(known: _Known, values: Sequence[_Value]) -> _Chain | Impossible:
    """The chain of values that follow one another: none may be over before one up to it began, or was asked for."""
    root = values[0]
    first, opening = inf, None
    last, closing = -inf, None
    for value in values:
        if value.writer is not None and value.writer.invoked > last:
            last, closing = value.writer.invoked, value.writer
        if value.first < last:
            if closing is value.writer:
                reason = f"{show(value.value)} was seen before anybody began to write it"
            else:
                reason = f"{show(value.value)} was there before a value that it replaced was over"
            return Impossible(reason, _evidence(known, value.opening, value.writer, closing))
        value.earliest = last
        if value.first < first:
            first, opening = value.first, value.opening
        if value.last > last:
            last, closing = value.last, value.closing
    latest = inf
    for value in reversed(values):
        latest = value.latest = min(latest, value.first)
    begun = BEFORE_ALL - 1 if root.writer is None else root.writer.invoked
    return _Chain(root, values[-1], begun, first, last, opening, closing, latest)


def _circle(known: _Known, reached: set[_Value]) -> Impossible:
    """Why values that no root leads to cannot have been written."""
    first = next(value for value in known.listed if value not in reached)
    around = [first]
    while (after := around[-1].after) is not None and after is not first:
        around.append(after)
    reason = f"{show(first.value)} was only ever written by cas that need it first"
    return Impossible(reason, _evidence(known, *(value.writer for value in around)))


def _interleaved(known: _Known, one: _Chain, other: _Chain) -> Impossible:
    """Why two chains cannot both be contiguous."""
    first, second = show(one.root.value), show(other.root.value)
    reason = f"{first} was there before {second} was for the last time, and {second} before {first} was"
    if one.root.after is not None or other.root.after is not None:
        reason += " (or what cas made of them)"
    return Impossible(reason, _evidence(known, one.opening, one.closing, other.opening, other.closing))


def _evidence(known: _Known, *shown: Call | None) -> tuple[Call, ...]:
    """The calls given with what they need: who wrote what they saw, and that those of unknown outcome took effect."""
    found: dict[int, Call] = {}
    waiting = [call for call in shown if call is not None]
    while waiting:
        call = waiting.pop()
        if call.invoked in found:
            continue
        found[call.invoked] = call
        if call.f != "write":
            value = known.values.get(call.result if call.f == "read" else _pair(call.argument)[0])
            waiting += [value.writer] if value is not None and value.writer is not None else []
        if not call.known:
            value = known.values[call.argument if call.f == "write" else _pair(call.argument)[1]]
            witness = value.opening or value.follower()
            waiting += [witness] if witness is not None else []
    return tuple(found[invoked] for invoked in sorted(found))


class _Timeline:
    """Finds a time for each value at which it begins. `placed` are the chains that have begun, in their order."""

    def __init__(self, known: _Known, chains: list[_Chain], ask: Ask) -> None:
        self._chains = chains
        self._known = known
        self._ask = ask
        forward = sorted((chain.first, chain.last) for chain in chains if chain.first < chain.last)
        firsts = [first for first, _ in forward]
        for chain in chains:
            around = bisect_left(firsts, chain.first) - 1
            if around >= 0 and chain.first < forward[around][1]:
                chain.latest = firsts[around]  # later, another has to stay
        ask()
        self._order = sorted(chains, key=lambda chain: (chain.latest, chain.first < chain.last))
        self._next = 0  # the place in this order of the first chain that has not begun
        ask()
        self._arriving = sorted(range(len(chains)), key=lambda number: -self._order[number].begun)
        self._open: list[int] = []  # the places of chains that can begin, or have begun
        self._placed: list[_Placed] = []
        self._writes = [call for call in reversed(known.spare) if call.f == "write"]
        self._cas = {_pair(call.argument)[0]: call for call in reversed(known.spare) if call.f == "cas"}

    def decide(self) -> Decision:
        for steps in count():
            if steps % STEPS_PER_QUESTION == 0:
                self._ask()
            chain, until, after = self._upcoming()
            due = self._placed[-1].due if self._placed else inf
            if due < until:
                stuck = self._placed[-1].chain
                placed = self._replacement(due, until, after)
            elif chain is None:
                break
            else:
                stuck = chain
                placed = _begun(chain, until, after)
            if placed is None:
                return self._alone(stuck)
            placed.chain.used = True
            self._placed.append(placed)
        return Explained()

    def _upcoming(self) -> tuple[_Chain | None, float, float]:
        """The chain that must begin next, when at the latest, and when the one after it must."""
        found: list[_Chain] = []
        number = self._next
        while number < len(self._order) and len(found) < 2:
            if not self._order[number].used:
                found.append(self._order[number])
            number += 1
            self._next = self._next if found else number
        times = [*(chain.latest for chain in found), inf, inf]
        return found[0] if found else None, times[0], times[1]

    def _replacement(self, due: float, until: float, after: float) -> _Placed | None:
        """What can begin when the last chain has to be over, best of all what can stay until the next one must begin.

        That may be the one before it. The last one then begins just before that, and both are taken back here.
        """
        before = self._before()
        if before is None or before.due < until:
            pulled, stays = self._pulled(due, until, after)
            other = pulled if stays else self._spare(due) or pulled
            if other is not None or before is None:
                return other
        del self._placed[-2:]
        return before

    def _before(self) -> _Placed | None:
        """The chain before the last one, if the last one can begin and end when that begins."""
        if len(self._placed) < 2:
            return None
        before, last = self._placed[-2:]
        return before if _begun(last.chain, before.time, before.time) else None

    def _pulled(self, time: float, until: float, after: float) -> tuple[_Placed | None, bool]:
        """A chain that can begin early, and whether it can stay until the next one must begin; if none can, the one
        that can stay for longest."""
        while self._arriving and self._order[self._arriving[-1]].begun < time:
            insort(self._open, self._arriving.pop())
        del self._open[: bisect_left(self._open, self._next)]
        self._open[:TRIED_MAX] = [number for number in self._open[:TRIED_MAX] if not self._order[number].used]
        best: _Placed | None = None
        for number in self._open[:TRIED_MAX]:
            end = after if number == self._next else until
            placed = _begun(self._order[number], time, end)
            if placed is not None and placed.due >= end:
                return placed, True
            if placed is not None and (best is None or placed.due > best.due):
                best = placed
        return best, False

    def _spare(self, time: float) -> _Placed | None:
        """A call of unknown outcome whose value nobody saw, and no refused cas asked for: it may have taken effect."""
        call = self._cas.get(self._placed[-1].chain.tail.value)
        if call is not None and call.invoked < time:
            return _Placed(_unseen(_pair(call.argument)[1]), -inf, inf)  # nothing else can come before it
        if self._writes and self._writes[-1].invoked < time:
            return _Placed(_unseen(self._writes.pop().argument), time, inf)
        return None

    def _alone(self, chain: _Chain) -> Impossible | None:
        """Why the last value of a chain, or one that cas leads on from, stays for too long whatever else happens."""
        value = chain.root
        begun, since = chain.root.latest, chain.root
        late: Call | None = None
        bounds: list[Call | None] = []
        while True:
            if value.closing is not None and (late is None or value.closing.invoked > late.invoked):
                late = value.closing
            refusal, due = value.refusal(begun), value.due(begun)
            after = value.after
            if after is None:
                break
            if due < after.latest:
                begun = due
                bounds.append(refusal)
            else:
                begun, since, bounds = after.latest, after, []
            if begun < after.earliest:
                return self._stays(since, [*bounds, late, after.writer], value, "while it was there")
            value = after
        if refusal is None:
            return None
        bounds.append(refusal)
        if due < chain.last:
            return self._stays(since, [*bounds, late], value, "while it was there")
        if any(call.invoked < due for call in self._known.unseen):
            return None
        if any(other.begun < due and other.first > chain.last for other in self._chains if other is not chain):
            return None
        return self._stays(since, bounds, value, "and nothing can have replaced it by then")

    def _stays(self, since: _Value, bounds: Sequence[Call | None], value: _Value, why: str) -> Impossible:
        latest = since.latest
        while since.first != latest:
            assert since.after is not None
            since = since.after
        old = show(value.value)
        return Impossible(f"a cas from {old} was refused, {why}", _evidence(self._known, since.opening, *bounds))


def _unseen(value: Hashable) -> _Chain:
    alone = _Value(value)
    return _Chain(alone, alone, -inf, inf, -inf, None, None)


def _begun(chain: _Chain, time: float, until: float) -> _Placed | None:
    """The chain if it begins then, with each of its values as late as possible, and the next one begins `until`."""
    if not chain.begun < time <= chain.latest or chain.last > until:
        return None
    value = chain.root
    due = value.due(time)
    while value.after is not None:
        value = value.after
        begun = min(due, value.latest, until)
        if begun < value.earliest:
            return None
        due = value.due(begun)
    return _Placed(chain, time, due) if due > chain.last else None
