"""Models of locks: mutex, owner-mutex and fenced-mutex.

Each knows who may take the lock and who may give it back. None knows about leases' lengths, time or other keys.
"""

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

from chaos.checkers.model import Call, Inconsistent, anonymous
from chaos.checkers.values import show_json

HELD = Inconsistent("the lock was held")
FREE = Inconsistent("the lock was free")
NOT_HOLDER = Inconsistent("another process held the lock")
STALE_TOKEN = Inconsistent("the token is not greater than every earlier one")
NO_TOKEN = Inconsistent("the acquire returned no token")
OTHER_TOKEN = Inconsistent("the lock was held under another token")

_OPERATIONS = frozenset({"acquire", "release"})


@dataclass(frozen=True)
class Mutex:
    """A lock that anybody may release. The state is whether it is held; `initial` true means held."""

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

    def order(self, calls: Sequence[Call], start: Any) -> Callable[[Call, Call], bool] | None:  # noqa: ARG002  # any
        """Acquires are in the order of their tokens, and a release lies between that of its token and the next."""
        tokens_only = all(_is_token(call.result) for call in calls if call.f == "acquire")
        if not tokens_only or not _all_named(calls, _known_acquires(calls)):
            return None

        def place(call: Call) -> tuple[Any, bool]:
            return (call.argument, True) if call.f == "release" else (call.result, False)

        return lambda first, second: place(first) < place(second)


def _release(held: Any, last: Any, call: Call) -> Hashable | Inconsistent:
    token: Any = call.argument
    if held is None:
        return FREE
    if not _is_token(token):
        return (None, last)
    if held != _UNTOLD:
        return (None, last) if token == held else OTHER_TOKEN
    return (None, token) if last is None or token > last else OTHER_TOKEN


def _known_acquires(calls: Sequence[Call]) -> dict[Any, Call]:
    """By token, in the order of tokens."""
    found: list[tuple[Any, Call]] = [(call.result, call) for call in calls if call.f == "acquire" and call.known]
    return dict(sorted((pair for pair in found if _is_token(pair[0])), key=itemgetter(0)))


def _all_named(calls: Sequence[Call], acquired: Container[Hashable]) -> bool:
    """Whether every release names a token that is known to have been acquired."""
    return all(call.argument in acquired for call in calls if call.f == "release")


def _is_token(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
