"""Lists that are written over, without a search: where each item that was read was put in once, reads tell all.

Knows writes, appends, and what reads show. Knows no model by name, and no search.

An epoch is what happens from one write (or from the start) up to the next. If every item that reads show is in the list
at the start, in one written list or in one append, and no two of those lists are empty, then a read's first item, or
that it has none, tells its epoch. The longest read of an epoch shows which of its appends came in which order (as Elle
infers the versions of a list from reads: Kingsbury and Alvaro, VLDB 2020), and all calls of the epoch have a place:

    the write of L | the reads of L | the append of a | the reads of L, a | the append of b | ...

Whatever else takes effect among them would be shown by those that follow. So in any order these calls are a block (see
`fast.blocks`), in which none completed before one at an earlier place was invoked. A write or append that no read shows
is a block by itself: it disturbs nobody at the end of any epoch. The epoch at the start precedes all other blocks, as
if a call that completed before everything belonged to it. The other way round, blocks one after the other, each in the
order of its places, explain every read. Of unknown outcome, what reads show took effect, and the rest need not have.

Whatever proves a history impossible here does so in any part of it that holds the calls given, because other calls
only make blocks greater. Linear in the total length of all reads, but for sorting.
"""

from collections.abc import Hashable, Sequence
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.fast.blocks import conflict
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import items_of, show

# Reads between two questions about the budget; each may be long.
READS_PER_QUESTION: Final = 64

# When the virtual call of the epoch at the start completes.
BEFORE_ALL: Final = -1

Items = tuple[Hashable, ...]


class _Epoch(msgspec.Struct, eq=False):
    """It begins with the list `base`, by `writer`, or at the start if that is None. `longest` is what `shows` read."""

    base: Items
    writer: Call | None
    reads: list[tuple[Items, Call]] = []
    longest: Items = ()
    shows: Call | None = None

    @property
    def happened(self) -> bool:
        return bool(self.reads) or (self.writer is not None and self.writer.known)

    def add(self, items: Items, call: Call) -> None:
        self.reads.append((items, call))
        if self.shows is None or len(items) > len(self.longest):
            self.longest, self.shows = items, call


class _Block(NamedTuple):
    """`opening` completed first and `closing` was invoked last. At the start there is no `opening`: it was the virtual
    call. `epoch` is None for an append that no read shows."""

    epoch: _Epoch | None
    opening: Call | None
    closing: Call

    @property
    def zone(self) -> tuple[float, float]:
        completed = BEFORE_ALL if self.opening is None else self.opening.completed
        return inf if completed is None else completed, self.closing.invoked


class _Known(msgspec.Struct):
    """What the calls say. The first of the `epochs` is that at the start.

    `written` tells in which list an item that was read is, `appends` who appended it, and `places` where it came in an
    epoch. `hidden` are the appends that no read shows, `strays` the reads that no epoch begins with. `empty` is the one
    epoch that can begin with an empty list.
    """

    epochs: list[_Epoch]
    written: dict[Hashable, _Epoch]
    appends: dict[Hashable, Call]
    hidden: list[Call]
    empty: _Epoch | None
    strays: list[Call] = []
    places: dict[Hashable, tuple[_Epoch, int]] = {}

    def proof(self, *shown: Call | None) -> tuple[Call, ...]:
        """The calls given; a read that shows where their appends belong; and what put in whatever those reads show."""
        found = {call.invoked: call for call in shown if call is not None}
        appends = [call for call in found.values() if call.f == "append" and call.argument in self.places]
        for call in sorted(appends, key=lambda call: self.places[call.argument][1], reverse=True):
            reads = [items_of(other.result) for other in found.values() if other.f == "read"]
            if not any(call.argument in (items or ()) for items in reads):
                witness = self._shortest(*self.places[call.argument])
                found[witness.invoked] = witness
        for read in [call for call in found.values() if call.f == "read"]:
            for call in self._sources(items_of(read.result) or ()):
                found[call.invoked] = call
        return tuple(found[invoked] for invoked in sorted(found))

    def _shortest(self, epoch: _Epoch, place: int) -> Call:
        """The shortest read of the epoch that shows that many of its appends."""
        length = len(epoch.base) + place
        enough = ((items, call) for items, call in epoch.reads if len(items) >= length)
        return min(enough, key=lambda pair: len(pair[0]))[1]

    def _sources(self, items: Items) -> list[Call]:
        epochs = [self.written[item] for item in items if item in self.written]
        if self.empty is not None and (not items or items[0] in self.appends):
            epochs.append(self.empty)
        sources = [self.appends[item] for item in items if item in self.appends]
        return sources + [epoch.writer for epoch in epochs if epoch.writer is not None]


def decide_list(calls: Sequence[Call], start: Items, ask: Ask) -> Decision:
    """Whether an order of reads, appends and writes is possible; None unless it is clear what each read saw."""
    known = _known(calls, start, ask)
    if not isinstance(known, _Known):
        return known
    if known.strays:
        return _astray(known, known.strays[0])
    for number, epoch in enumerate(known.epochs):
        if number % READS_PER_QUESTION == 0:
            ask()
        wrong = _grown(known, epoch, ask)
        if wrong is not None:
            return wrong
    blocks: list[_Block] = []
    for number, epoch in enumerate(known.epochs):
        if number % READS_PER_QUESTION == 0:
            ask()
        if not epoch.happened:
            continue
        block = _block(known, epoch, ask)
        if isinstance(block, Impossible):
            return block
        blocks.append(block)
    blocks += [_Block(None, call, call) for call in known.hidden if call.known]
    found = conflict([block.zone for block in blocks], ask)
    return Explained() if found is None else _in_turns(known, blocks[found[0]], blocks[found[1]])


def parts_of_list(calls: Sequence[Call], start: Items) -> list[list[Call]] | None:
    """Each epoch with all that reads show of it, and each append that they do not show; None if that is not clear.

    Without such a part each other read still follows the write and the appends that it saw, and no others.
    """
    known = _known(calls, start, lambda: None)
    if not isinstance(known, _Known):
        return None
    parts = [[call] for call in known.strays + known.hidden]
    left = dict(known.appends)
    for epoch in known.epochs:
        part = [epoch.writer] if epoch.writer is not None else []
        part += [call for _, call in epoch.reads]
        part += [left.pop(item) for item in dict.fromkeys(epoch.longest) if item in left]
        parts.append(part)
    parts += [[call] for call in left.values()]
    return [part for part in parts if part]


def _known(calls: Sequence[Call], start: Items, ask: Ask) -> _Known | Impossible | None:
    reads: list[tuple[Items, Call]] = []
    appended: list[Call] = []
    epochs = [_Epoch(start, None)]
    seen: set[Hashable] = set()
    for number, call in enumerate(calls):
        if number % READS_PER_QUESTION == 0:
            ask()
        if call.f == "append":
            appended.append(call)
        elif call.f == "write":
            epochs.append(_Epoch(items_of(call.argument) or (), call))
        else:
            items = items_of(call.result)
            if items is None:
                return Impossible(f"a read returned {show(call.result)}, which is no list", (call,))
            reads.append((items, call))
            seen.update(items)
    empty = [epoch for epoch in epochs if not epoch.base]
    known = _Known(epochs, {}, {}, [], empty[0] if empty else None)
    if not _put_in_once(known, appended, seen, ask) or not _shared_out(known, reads, len(empty) > 1, ask):
        return None
    return known


def _put_in_once(known: _Known, appended: Sequence[Call], seen: set[Hashable], ask: Ask) -> bool:
    """Notes where the items that were read came from; False if one came from two places."""
    for number, epoch in enumerate(known.epochs):
        if number % READS_PER_QUESTION == 0:
            ask()
        for item in epoch.base:
            if item in seen:
                if item in known.written:
                    return False
                known.written[item] = epoch
    for number, call in enumerate(appended):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        item = call.argument
        if item not in seen:
            known.hidden.append(call)
        elif item in known.appends or item in known.written:
            return False
        else:
            known.appends[item] = call
    return True


def _shared_out(known: _Known, reads: Sequence[tuple[Items, Call]], unsure: bool, ask: Ask) -> bool:
    """Gives each read to its epoch; False if one may be of several, which begin with an empty list."""
    for number, (items, call) in enumerate(reads):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        begins_empty = not items or items[0] in known.appends
        if begins_empty and unsure:
            return False
        epoch = known.empty if begins_empty else known.written.get(items[0])
        if epoch is None:
            known.strays.append(call)
        else:
            epoch.add(items, call)
    return True


def _astray(known: _Known, read: Call) -> Impossible:
    """Why a read is of no epoch."""
    items = items_of(read.result)
    if items and items[0] not in known.appends and items[0] not in known.written:
        return Impossible(f"a read shows {show(items[0])}, which nobody put there", known.proof(read))
    reason = f"a read of length {len(items or ())} begins neither as the list at the start nor as one that was written"
    return Impossible(reason, known.proof(read))


def _grown(known: _Known, epoch: _Epoch, ask: Ask) -> Impossible | None:
    """Notes the places of the appends that the longest read shows; or why the epoch's reads cannot all be right."""
    longest, shows = epoch.longest, epoch.shows
    if shows is None:
        return None
    begun = len(epoch.base)
    if longest[:begun] != epoch.base:
        return _astray(known, shows)
    for place, item in enumerate(longest[begun:], start=1):
        if place % STEPS_PER_QUESTION == 0:
            ask()
        other = known.written.get(item)
        if other is None and item not in known.appends:
            return Impossible(f"a read shows {show(item)}, which nobody put there", known.proof(shows))
        if item in known.places:
            other = known.places[item][0]
        if other is epoch:
            return Impossible(f"a read shows {show(item)} again, which was put there once", known.proof(shows))
        if other is not None:
            reason = f"a read shows {show(item)}, which was put there once, into another list"
            return Impossible(reason, known.proof(shows, other.shows))
        known.places[item] = (epoch, place)
    for number, (items, call) in enumerate(epoch.reads):
        if number % READS_PER_QUESTION == 0:
            ask()
        if len(items) < begun:
            return _astray(known, call)
        if items != longest[: len(items)]:
            return Impossible("a read does not begin as a longer or equal one", known.proof(call, shows))
    return None


def _block(known: _Known, epoch: _Epoch, ask: Ask) -> _Block | Impossible:
    """The calls of an epoch that happened, once their places were compared with real time."""
    begun = len(epoch.base)
    placed = [(2 * (len(items) - begun), call) for items, call in epoch.reads]
    placed += [(2 * number - 1, known.appends[item]) for number, item in enumerate(epoch.longest[begun:], start=1)]
    placed += [(-1, epoch.writer)] if epoch.writer is not None else []
    placed.sort(key=itemgetter(0))  # those at one place stay in the order of their invocations
    opening: Call | None = None
    closing: Call | None = None
    first, last = inf, -inf
    for number, (_, call) in enumerate(placed):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        completed = inf if call.completed is None else call.completed
        if closing is not None and completed < last:
            return _too_late(known, closing, call)
        if completed < first:
            first, opening = completed, call
        if call.invoked > last:
            last, closing = call.invoked, call
    assert closing is not None
    return _Block(epoch, None if epoch.writer is None else opening, closing)


def _too_late(known: _Known, earlier: Call, later: Call | None) -> Impossible:
    """Why the place of a call is too early for it, because it was asked for after one that must follow it."""
    assert later is not None
    return Impossible(
        f"{_told(earlier)} was asked for (event {earlier.invoked}) after {_told(later)} (event {later.completed}),"
        " which must follow it",
        known.proof(earlier, later),
    )


def _told(call: Call) -> str:
    what = f"length {len(items_of(call.result) or ())}" if call.f == "read" else show(call.argument)
    return f"the {call.f} of {what}"


def _in_turns(known: _Known, one: _Block, other: _Block) -> Impossible:
    """Why two blocks cannot both be contiguous."""
    for first, second in ((one, other), (other, one)):
        if first.opening is None:
            return _too_late(known, first.closing, second.opening)
    names = _name(one), _name(other)
    reason = f"{names[0]} must come before {names[1]}, and {names[1]} before {names[0]}"
    return Impossible(reason, known.proof(one.opening, one.closing, other.opening, other.closing))


def _name(block: _Block) -> str:
    if block.epoch is None:
        return f"the append of {show(block.closing.argument)} (which no read shows)"
    return f"the list that was written as {show(('[', *block.epoch.base))}"
