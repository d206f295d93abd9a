"""Models of locks: mutex, owner-mutex and fenced-mutex.

Each knows who may take the lock and who may give it back. None knows about leases' lengths, time or other keys.
"""

from collections import deque
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from operator import itemgetter
from typing import Any, Final, NamedTuple

from chaos.checkers.fast import STEPS_PER_QUESTION
from chaos.checkers.fast.alternation import alternate
from chaos.checkers.fast.blocks import conflict
from chaos.checkers.model import Call, Decision, Explained, Impossible, Inconsistent, anonymous
from chaos.checkers.values import show_json

HELD = Inconsistent("the lock was held")
FREE = Inconsistent("the lock was free")
NOT_HOLDER = Inconsistent("another process held the lock")
STALE_TOKEN = Inconsistent("the token is not greater than every earlier one")
NO_TOKEN = Inconsistent("the acquire returned no token")
OTHER_TOKEN = Inconsistent("the lock was held under another token")

_OPERATIONS = frozenset({"acquire", "release"})

# Holds, or processes, between two questions about the budget: some milliseconds.
_HOLDS_PER_QUESTION: Final = 512


@dataclass(frozen=True)
class Mutex:
    """A lock that anybody may release. The state is whether it is held; `initial` true means held.

    It has no `parts`: which release ended which hold is for the order to say, and without one of two calls that are
    neighbours in one order another order may be spoilt.
    """

    name: str = "mutex"
    operations: frozenset[str] = _OPERATIONS
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        if initial is not None and not isinstance(initial, bool):
            raise ValueError(f"model 'mutex' starts with true (held) or false, not with {show_json(initial)}")
        return bool(initial)

    def step(self, state: bool, call: Call) -> Hashable | Inconsistent:
        if call.f == "acquire":
            return HELD if state else True
        return False if state else FREE

    def describe(self, state: bool) -> str:
        return "the lock is held" if state else "the lock is free"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return anonymous(calls)

    def decide(self, calls: Sequence[Call], start: bool, ask: Callable[[], None]) -> Decision:
        return alternate(calls, ("release", "acquire") if start else ("acquire", "release"), ask)


@dataclass(frozen=True)
class OwnerMutex:
    """A lock that only the process which holds it may release. The state is the holder, None if free."""

    name: str = "owner-mutex"
    operations: frozenset[str] = _OPERATIONS
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        if initial is not None and (isinstance(initial, bool) or not isinstance(initial, int)):
            raise ValueError(f"model 'owner-mutex' starts with a process number or null, not {show_json(initial)}")
        return initial

    def step(self, state: int | None, call: Call) -> Hashable | Inconsistent:
        if call.f == "acquire":
            return call.process if state is None else HELD
        if state is None:
            return FREE
        return None if state == call.process else NOT_HOLDER

    def describe(self, state: int | None) -> str:
        return "the lock is free" if state is None else f"process {state} holds the lock"

    def decide(self, calls: Sequence[Call], start: int | None, ask: Callable[[], None]) -> Decision:
        """Finds each process' holds, and whether any two of them overlap for certain.

        Only the holder's own calls can change the lock while it is held, so that nothing comes between an acquire and
        its release, and an order exists unless two holds must each precede the other (see `fast.blocks`). Exact but
        where a process has both acquires and releases of unknown outcome, by which a known acquire and a known release
        may belong to different holds: then only an order that does without counts.
        """
        by_process = _by_process(calls)
        if start is not None:
            by_process.setdefault(start, [])
        holds: list[_Hold] = []
        doubtful = set()
        for number, (process, own) in enumerate(by_process.items()):
            if number % _HOLDS_PER_QUESTION == 0:
                ask()
            if len({call.f for call in own if not call.known}) == len(_OPERATIONS):
                doubtful.add(process)
            found = _holds(process, own, process == start, ask)
            if isinstance(found, Impossible):
                return None if process in doubtful else found
            holds += found
        found_two = conflict([(hold.known_from, hold.known_to) for hold in holds], ask)
        if found_two is None:
            return Explained()
        pair = [holds[number] for number in found_two]
        if any(hold.who in doubtful for hold in pair):
            return None
        proof = {call.invoked: call for hold in pair for call in hold.calls}
        for process in (start, *(hold.who for hold in pair)):
            own = by_process.get(process, [])
            if process == start or not all(call.known for call in own):
                proof.update((call.invoked, call) for call in own)
        reason = f"two held the lock at once: {_told(pair[0])}, and {_told(pair[1])}"
        return Impossible(reason, tuple(proof[position] for position in sorted(proof)))

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """A hold, or all calls of a process of which some have an unknown outcome: neighbours in any order.

        A release by which a process may have given back what it held at first must stay.
        """
        parts = []
        for own in _by_process(calls).values():
            held_first = own[0].f == "release" or not own[0].known
            rest = own[1:] if held_first else own
            if not any(call.f == "release" for call in own):
                parts.append(own)
            elif not all(call.known for call in own):
                parts += [] if held_first else [own]
            elif all(call.f == ("acquire", "release")[number % 2] for number, call in enumerate(rest)):
                parts += [rest[number : number + 2] for number in range(0, len(rest), 2)]
        return parts


class _Hold(NamedTuple):
    """A process' acquire and release; the acquire is missing if it held the lock at first.

    `known_from` is when it had certainly begun: the first completion in it, -1 for the start. `known_to` is until when
    it had certainly not ended: the last invocation in it, infinity if it never ends.
    """

    known_from: float
    known_to: float
    who: int | None
    calls: tuple[Call, ...]


def _by_process(calls: Sequence[Call]) -> dict[int | None, list[Call]]:
    found: dict[int | None, list[Call]] = {}
    for call in calls:
        found.setdefault(call.process, []).append(call)
    return found


def _holds(
    process: int | None, own: Sequence[Call], held_first: bool, ask: Callable[[], None]
) -> list[_Hold] | Impossible:
    """The holds of one process, each as short as its calls of unknown outcome allow.

    Known calls follow one another. Where two acquires do, a release of unknown outcome came between them; of those
    invoked before the second one, the earliest leave most to choose. A release that follows no acquire was preceded by
    one of unknown outcome; which of those invoked before does not matter.
    """
    releases = deque(call for call in own if not call.known and call.f == "release")
    acquires = deque(call for call in own if not call.known and call.f == "acquire")
    holds: list[_Hold] = []
    open_since: Call | None = None
    holding = held_first

    def close(known_to: float, release: Call | None) -> None:
        known_from = -1 if open_since is None else open_since.completed
        assert known_from is not None
        known_to = known_to if open_since is None else max(known_to, open_since.invoked)
        holds.append(_Hold(known_from, known_to, process, tuple(call for call in (open_since, release) if call)))

    def impossible(call: Call, reason: str) -> Impossible:
        narrow = not held_first and all(call.known for call in own)
        before = (open_since,) if holding and open_since else holds[-1].calls if holds else ()
        return Impossible(f"process {process} {reason}", (*before, call) if narrow else tuple(own))

    for number, call in enumerate(own, start=1):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if not call.known:
            continue
        if call.f == "acquire":
            if holding:
                if not releases or releases[0].invoked > call.invoked:
                    return impossible(call, f"took the lock (event {call.completed}) that it had not given back")
                close(releases[0].invoked, releases.popleft())
            open_since, holding = call, True
        elif holding:
            close(call.invoked, call)
            open_since, holding = None, False
        elif acquires and acquires[0].invoked < call.invoked:
            assert call.completed is not None
            holds.append(_Hold(call.completed, call.invoked, process, (acquires.popleft(), call)))
        else:
            return impossible(call, f"gave back the lock (event {call.completed}) that it had not taken")
    if holding:
        close(releases[0].invoked if releases else inf, releases.popleft() if releases else None)
    return holds


def _told(hold: _Hold) -> str:
    start, end = hold.known_from, hold.known_to
    if end < start:
        return f"process {hold.who} at some moment between events {end:.0f} and {start:.0f}"
    since = "the start" if start < 0 else f"event {start:.0f}"
    return f"process {hold.who} from {since} " + ("on" if end == inf else f"to event {end:.0f}")


# The lock is held under a token that nobody was told: the acquire's outcome is unknown.
_UNTOLD = "untold"


@dataclass(frozen=True)
class FencedMutex:
    """A lock whose acquires return tokens, each greater than every earlier one. Anybody may release it.

    The state is (held under, last token): `held under` is None if free. A release whose argument is a number must name
    the token that the lock is held under. `initial` is the last token given out before.

    A lease that runs out is a release that nobody invokes. Who judges leases records it as one: a release under a
    process number of its own, invoked at the earliest moment at which the lease may end, and never completed, with the
    token as its value. None is due after an acquire of unknown outcome: as long as no release could be of its token,
    the acquire may as well be left out. One without a token would excuse whatever else was granted too early.
    """

    name: str = "fenced-mutex"
    operations: frozenset[str] = _OPERATIONS
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        if initial is not None and not _is_token(initial):
            raise ValueError(f"model 'fenced-mutex' starts with the last token or null, not {show_json(initial)}")
        return (None, initial)

    def step(self, state: tuple[Any, Any], call: Call) -> Hashable | Inconsistent:
        held, last = state
        if call.f == "release":
            return _release(held, last, call)
        if held is not None:
            return HELD
        if not call.known:
            return (_UNTOLD, last)
        if not _is_token(call.result):
            return NO_TOKEN
        token: Any = call.result
        return STALE_TOKEN if last is not None and token <= last else (token, token)

    def describe(self, state: tuple[Any, Any]) -> str:
        held, last = state
        lock = "free" if held is None else "held" if held == _UNTOLD else f"held under token {held}"
        return f"the lock is {lock}, the last token known is {show_json(last)}"

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """Leaves nothing that may or may not happen, if each release names a token that an acquire returned.

        Such a token t is held once: from its acquire to the first release that names it, which comes before the next
        acquire, in the order of tokens. So no release could end a hold under an unknown token, and an acquire of
        unknown outcome would come last and explain nothing. Of the releases of t with unknown outcome the first one
        invoked can stand for all; it is needless if there is one with a known outcome (which must then be the only
        one), or if nobody acquired the lock after t; otherwise it happened, by the time when the next acquire
        completed.
        """
        calls = anonymous(calls)
        acquired = _known_acquires(calls)
        if not _all_named(calls, acquired):
            return calls
        after = dict(pairwise(acquired))
        released = {call.argument for call in calls if call.f == "release" and call.known}
        kept = []
        for call in calls:
            if call.known:
                kept.append(call)
                continue
            following = acquired.get(after.get(call.argument))
            if call.f == "acquire" or call.argument in released or following is None:
                continue
            released.add(call.argument)
            assert following.completed is not None
            happened = call.invoked < following.completed  # else the history is wrong, which is for the search to find
            kept.append(call._replace(completed=following.completed) if happened else call)
        return kept

    def decide(self, calls: Sequence[Call], start: tuple[Any, Any], ask: Callable[[], None]) -> Decision:
        """Tokens tell the order of the acquires; where each release names one, that of all calls that matter.

        So it only needs to be compared with real time. Where some releases name none, and the acquires' order is
        possible, it cannot be told.
        """
        for call in calls:
            if call.f == "acquire" and call.known and not _is_token(call.result):
                return Impossible(f"process {call.operation.process} was granted the lock without a token", (call,))
        kept = self.reduce(calls)
        ask()
        named = _all_named(calls, _known_acquires(calls))
        ask()
        ordered = [call for call in kept if named or (call.f == "acquire" and call.known)]
        wrong = _out_of_order(ordered, start[1], named, ask)
        if wrong is None:
            return Explained() if named else None
        reason, tokens = wrong
        return Impossible(reason, tuple(call for call in calls if _place(call)[0] in tokens))

    def parts(self, calls: Sequence[Call], start: Any = None) -> list[list[Call]]:  # noqa: ARG002  # whatever it is
        """What is held under one token: an acquire and its releases, which follow it at once in any order.

        Without them the last token is a smaller one or the same, which allows no less. A hold whose release names no
        token must stay, and so must unknown acquires whose hold such a release may end; else those may go alone, since
        no release can be of their tokens, and one could only come last.
        """
        acquired = _known_acquires(calls)
        named = _all_named(calls, acquired)
        kept = acquired if named else {call.argument for call in calls if call.f == "release" and call.known}
        holds: dict[Any, list[Call]] = {}
        alone = []
        for call in calls:
            token = _place(call)[0]
            if token in acquired and token in kept:
                holds.setdefault(token, []).append(call)
            elif named:
                alone.append([call])
        return [*holds.values(), *alone]

    def order(self, calls: Sequence[Call], start: Any) -> Callable[[Call, Call], bool] | None:  # noqa: ARG002  # any
        """Acquires are in the order of their tokens, and a release lies between that of its token and the next."""
        tokens_only = all(_is_token(call.result) for call in calls if call.f == "acquire")
        if not tokens_only or not _all_named(calls, _known_acquires(calls)):
            return None
        return lambda first, second: _place(first) < _place(second)


def _release(held: Any, last: Any, call: Call) -> Hashable | Inconsistent:
    token: Any = call.argument
    if held is None:
        return FREE
    if not _is_token(token):
        return (None, last)
    if held != _UNTOLD:
        return (None, last) if token == held else OTHER_TOKEN
    return (None, token) if last is None or token > last else OTHER_TOKEN


def _place(call: Call) -> tuple[Any, bool]:
    """The token that a call is about, and whether it gives it back."""
    return (call.argument, True) if call.f == "release" else (call.result, False)


def _out_of_order(
    calls: Sequence[Call], last: Any, named: bool, ask: Callable[[], None]
) -> tuple[str, tuple[Any, ...]] | None:
    """Why the calls, put into the order of tokens, are not possible, and the tokens it is about; None if they are.

    `named`: the releases are among the calls. None is missing then but for the last token.
    """
    latest: Call | None = None  # of the calls so far, the one invoked last
    before: Call | None = None
    for number, call in enumerate(sorted(calls, key=_place)):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        token, releases = _place(call)
        if not releases and last is not None and token <= last:
            return f"token {show_json(token)} was granted, which is not greater than {show_json(last)}", (token, last)
        if named and not releases and before is not None and before.f == "acquire":
            return _both(before, call), (last, token)
        if releases and before is not None and before.f == "release":
            return f"the lock was given back twice under token {show_json(token)}", (token,)
        completed = call.completed if call.known else None  # `reduce` may have given an unknown one an end
        if latest is not None and completed is not None and completed < latest.invoked:
            return _too_late(latest, call), (_place(latest)[0], token)
        latest = call if latest is None or call.invoked > latest.invoked else latest
        before, last = call, token
    return None


def _both(first: Call, second: Call) -> str:
    return (
        f"token {show_json(second.result)} was granted (event {second.completed}) though nobody had given back the lock"
        f" held under token {show_json(first.result)}"
    )


def _too_late(earlier: Call, later: Call) -> str:
    def told(call: Call) -> str:
        token, releases = _place(call)
        return f"the {'release' if releases else 'grant'} of token {show_json(token)}"

    return (
        f"{told(earlier)} was asked for (event {earlier.invoked}) after {told(later)} (event {later.completed}),"
        " which must follow it"
    )


def _known_acquires(calls: Sequence[Call]) -> dict[Any, Call]:
    """By token, in the order of tokens."""
    found: list[tuple[Any, Call]] = [(call.result, call) for call in calls if call.f == "acquire" and call.known]
    return dict(sorted((pair for pair in found if _is_token(pair[0])), key=itemgetter(0)))


def _all_named(calls: Sequence[Call], acquired: Container[Hashable]) -> bool:
    """Whether every release names a token that is known to have been acquired."""
    return all(call.argument in acquired for call in calls if call.f == "release")


def _is_token(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
