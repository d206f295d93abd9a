"""Why one key's operations cannot be explained: where that begins, the fewest of them that show it, and words for it.

Knows prefixes, parts that may be left out (see `model.Parts`), and how to ask again whether what is left can be
explained. Does not know how that is found out. Everything here is bounded: by the budget, and by how often it asks.

A prefix of a history is what its first events alone tell: operations that were open then are of unknown outcome. If it
can be explained, so can every shorter one; so there is a shortest that cannot, and it ends with a completion.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import msgspec

from chaos.checkers.model import (
    PRECONDITION_FAILED,
    Call,
    Decides,
    Decision,
    Explained,
    Explanation,
    Impossible,
    Model,
    OutOfBudget,
    Parts,
    Shown,
    calls_of,
)
from chaos.checkers.search import STEPS_PER_TURN, Blocked, Reach, search
from chaos.checkers.values import show, show_json, thaw
from chaos.history import Event, Operation

SHOWN_MAX: Final = 8

# An explanation may cost so many times what it took to find out that there is something to explain; and so much more.
# Counted are calls that were looked at, and configurations that were tried.
WORK_FACTOR: Final = 2
WORK_MIN: Final = 20_000

# Prefixes that are tried one event shorter, because most wrong histories are wrong in one place, before halving begins.
STEPS_BACK: Final = 2


def explain(
    key: Hashable,
    operations: Sequence[Operation],
    model: Model,
    initial: Any,
    why: Impossible | Blocked,
    expired: Callable[[], bool],
) -> tuple[str, Explanation]:
    """One line of words, and the whole of it, for operations that `why` proves to be impossible."""
    account = _Account(model, initial, operations, why, expired)
    account.shorten()
    account.thin()
    return account.told(key)


def decide(model: Model, calls: Sequence[Call], initial: Any, ask: Callable[[], None]) -> Decision:
    """What can be told without a search."""
    if not calls:
        return Explained()
    return model.decide(calls, model.start(initial), ask) if isinstance(model, Decides) else None


class _Account:
    """A prefix of the operations that is known to be impossible, made shorter, and then thinner."""

    def __init__(
        self,
        model: Model,
        initial: Any,
        operations: Sequence[Operation],
        why: Impossible | Blocked,
        expired: Callable[[], bool],
    ) -> None:
        self._model = model
        self._initial = initial
        self._operations = operations
        self._expired = expired
        cost = why.tried if isinstance(why, Blocked) else len(operations)
        self._work = WORK_FACTOR * cost + WORK_MIN
        self._stuck = why.call.operation if isinstance(why, Blocked) else None
        self._ends = sorted(one.completed for one in operations if one.completed is not None)
        self._cut = 0
        self._shortest = False
        self._why: Impossible | Blocked = why
        self._left: list[Operation] = []

    # --- the shortest prefix ---

    def shorten(self) -> None:
        """Find the shortest prefix that is impossible, as far as the budget lasts."""
        explained, wrong, known = self._between()
        back = 0
        while known and wrong - explained > 1:
            back += 1
            tried = wrong - 1 if back <= STEPS_BACK else (explained + wrong) // 2
            decision = self._ask(self._prefix(tried))
            if isinstance(decision, Explained):
                explained = tried
            elif decision is None:
                known = False
            else:
                self._why = decision
                wrong = min(tried, self._end_of(decision.calls)) if isinstance(decision, Impossible) else tried
        self._shortest = known
        self._left = self._prefix(wrong)
        self._cut = self._ends[wrong - 1] + 1

    def _between(self) -> tuple[int, int, bool]:
        """So many completions can be explained, and so many cannot; and whether there is hope to come closer."""
        if isinstance(self._why, Impossible):
            return 0, self._end_of(self._why.calls), True
        stuck = self._end_of([self._why.call])
        decision = self._ask(self._prefix(stuck))
        if isinstance(decision, Impossible | Blocked):
            self._why = decision
            return 0, stuck, True
        return stuck, len(self._ends), decision is not None  # what came later was part of the reason

    def _end_of(self, calls: Sequence[Call]) -> int:
        """How many completions there are up to the last of these calls."""
        last = max((call.completed for call in calls if call.completed is not None), default=self._ends[-1])
        return bisect_left(self._ends, last) + 1

    def _prefix(self, completions: int) -> list[Operation]:
        """What the history tells up to that completion."""
        cut = self._ends[completions - 1] + 1
        return [_as_open(one) if one.completed is not None and one.completed >= cut else one
                for one in self._operations if one.invoked < cut]  # fmt: skip

    # --- the fewest operations ---

    def thin(self) -> None:
        """Leave out all that can be left out, as far as the budget lasts."""
        if not isinstance(self._model, Parts):
            return self._leave_out_observations()
        kept = {call.invoked for call in self._why.calls} if isinstance(self._why, Impossible) else set()
        if kept:
            parts = self._parts()
            gone = {call.invoked for part in parts if not any(call.invoked in kept for call in part) for call in part}
            self._leave_out(gone)
        before = -1
        while len(self._left) != before:
            before = len(self._left)
            self._halve([{call.invoked for call in part} for part in self._parts()])
            self._leave_out_observations()
        return None

    def _parts(self) -> list[list[Call]]:
        assert isinstance(self._model, Parts)
        return self._model.parts(calls_of(self._model, self._left), self._model.start(self._initial))

    def _leave_out_observations(self) -> None:
        """What only observes is missed by nobody. So is what means nothing to the model, such as what failed."""
        calls = {call.invoked: call for call in calls_of(self._model, self._left)}
        self._left = [one for one in self._left if one.invoked in calls]
        self._halve([{call.invoked} for call in calls.values() if call.observes])

    def _halve(self, parts: list[set[int]]) -> None:
        """Leave out as many of these as can be: half of them at a time, then a quarter, and in the end one by one."""
        size = len(parts)
        while size:
            place = 0
            while place < len(parts):
                if self._leave_out(set().union(*parts[place : place + size])):
                    del parts[place : place + size]
                else:
                    place += size
            size = min(size, len(parts) + 1) // 2

    def _leave_out(self, gone: set[int]) -> bool:
        """Leave them out if what is left is impossible still."""
        left = [one for one in self._left if one.invoked not in gone]
        decision = self._ask(left) if gone and left else None
        if not isinstance(decision, Impossible | Blocked):
            return False
        self._left, self._why = left, decision
        return True

    # --- asking ---

    def _ask(self, operations: Sequence[Operation]) -> Explained | Impossible | Blocked | None:
        """Whether these can be explained; None if that would take too long to find out."""
        calls = calls_of(self._model, operations)
        self._work -= len(calls)
        try:
            decision = decide(self._model, calls, self._initial, self._stop_if_expired)
            return self._searched(calls) if decision is None else decision
        except OutOfBudget:
            return None

    def _searched(self, calls: Sequence[Call]) -> Explained | Blocked | None:
        turns = search(calls, self._model, self._initial, Reach())
        for _ in range(self._work // 2 // STEPS_PER_TURN + 1):
            self._work -= STEPS_PER_TURN
            self._stop_if_expired()
            try:
                next(turns)
            except StopIteration as stop:
                found: Blocked | None = stop.value
                return found or Explained()
        return None

    def _stop_if_expired(self) -> None:
        if self._work < 0 or self._expired():
            raise OutOfBudget

    # --- words ---

    def told(self, key: Hashable) -> tuple[str, Explanation]:
        """The explanation, and the most important of it in one line."""
        broken = self._broken()
        concurrent = [describe(one) for one in self._open(broken) if one is not broken]
        blocked = self._blocked(broken)
        explanation = Explanation(
            key=thaw(key),
            prefix=self._cut,
            shortest=self._shortest,
            operation=describe(broken),
            reason=self._why.reason if isinstance(self._why, Impossible) else "",
            concurrent=concurrent,
            states=self._described(blocked.states if blocked else []),
            minimal=_events(self._left),
        )
        clauses = [explanation.reason] if explanation.reason else []
        if blocked:
            placed = _count(blocked.placed, "completed operation")
            clauses.append(
                f"after the longest orders, of {placed}, {' or '.join(explanation.states)} ({blocked.tried} tried)"
            )
        clauses.append(
            f"open at the time: {_listed(concurrent)}" if concurrent else "nothing else was open at the time"
        )
        fewer = "any fewer can" if self._shortest else "perhaps fewer neither"
        clauses.append(f"the first {self._cut} events cannot be explained, {fewer}")
        if [one.invoked for one in self._left] != [broken.invoked]:
            clauses.append(f"this alone shows it: {_listed([describe(one) for one in self._left])}")
        return f"on {key_phrase(key)} no order explains {explanation.operation}: {'; '.join(clauses)}", explanation

    def _broken(self) -> Operation:
        """The operation whose completion ends the prefix; or, while nothing better is known, that beyond which no order
        gets."""
        if self._stuck is not None and not self._shortest:
            return self._stuck
        return next(one for one in self._operations if one.completed == self._cut - 1)

    def _open(self, broken: Operation) -> list[Operation]:
        """What may have taken effect when it completed, and had not completed before."""
        assert broken.completed is not None
        begun = [one for one in self._operations if one.invoked < broken.completed]
        calls = {call.invoked for call in calls_of(self._model, begun)}
        return [
            one
            for one in begun
            if one.invoked in calls and (one.completed is None or one.completed >= broken.completed)
        ]

    def _blocked(self, broken: Operation) -> Blocked | None:
        """Where a search gets stuck: best with all that is known of what was open, else in what is left of it."""
        begun = [one for one in self._operations if one.invoked < self._cut]
        for operations in (begun, self._prefix(bisect_left(self._ends, self._cut - 1) + 1), self._left):
            try:
                found = self._searched(calls_of(self._model, operations))
            except OutOfBudget:
                return None
            if isinstance(found, Blocked) and found.call.invoked == broken.invoked:
                return found
        return None

    def _described(self, states: Sequence[Hashable]) -> list[str]:
        described = [self._model.describe(state) if isinstance(self._model, Shown) else repr(state) for state in states]
        return list(dict.fromkeys(described))


def _as_open(operation: Operation) -> Operation:
    return msgspec.structs.replace(operation, result=None, completed=None, outcome="info", error=None)


def _events(operations: Sequence[Operation]) -> list[Event]:
    """The operations as a history, under the indices and times of the one that they are from."""
    found = []
    for one in operations:
        found.append(
            Event(index=one.invoked, time=one.began, process=one.process, type="invoke", f=one.f, key=one.key,
                  value=one.argument)
        )  # fmt: skip
        if one.completed is not None:
            found.append(
                Event(index=one.completed, time=one.ended, process=one.process, type=one.outcome, f=one.f, key=one.key,
                      value=one.result, error=one.error)
            )  # fmt: skip
    return sorted(found, key=lambda event: event.index)


def describe(operation: Operation) -> str:
    """An operation in words: what was asked, what came of it, by whom, and where in the history."""
    asked = f"{operation.f} {show_json(operation.argument)}" if operation.argument is not None else operation.f
    if operation.outcome == "info":
        answer = "with unknown outcome"
    elif operation.outcome == "fail":
        answer = f"refused as {operation.error}" if operation.error == PRECONDITION_FAILED else "failed"
    else:
        echoed = operation.result == operation.argument or operation.result is None
        answer = "ok" if echoed and operation.argument is not None else f"-> {show_json(operation.result)}"
    end = "on" if operation.completed is None else f"to {operation.completed}"
    return f"{asked} {answer} (process {operation.process}, events {operation.invoked} {end})"


def _listed(words: Sequence[str]) -> str:
    more = len(words) - SHOWN_MAX
    return "; ".join(words[:SHOWN_MAX]) + (f"; and {more} more" if more > 0 else "")


def key_phrase(key: Hashable) -> str:
    """A key in words."""
    return "the unnamed key" if key is None else f"key {show(key)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
