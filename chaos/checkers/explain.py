"""Why one key's operations cannot be explained: where that begins, the fewest of them that show it, and words for it.

Knows prefixes, parts that may be left out (see `model.Parts`), and how to ask again whether what is left can be
explained. Does not know how that is found out. Everything here is bounded: by the budget, and by how often it asks.

If a prefix of a history can be explained, so can every shorter one (see `narrow.prefix`); so there is a shortest that
cannot, and it ends with a completion.
"""

import sys
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from chaos.checkers.model import (
    PRECONDITION_FAILED,
    Argues,
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
from chaos.checkers.narrow import events_of, prefix, thinned
from chaos.checkers.search import STEPS_PER_TURN, Blocked, Reach, search
from chaos.checkers.values import counted, show, show_json, thaw
from chaos.history import Operation

SHOWN_MAX: Final = 8

# An explanation may cost so many times what it took to find out that there is something to explain, and so much more:
# calls that were looked at (a fast way looks at all), or configurations that were tried.
CALLS_FACTOR: Final = 4
TRIED_FACTOR: Final = 3
WORK_MIN: Final = 20_000

# Turns of a search that is to tell the states alone: a fraction of a second.
STATES_TURNS_MAX: Final = 50

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
        self._start = model.start(initial)
        self._operations = operations
        self._expired = expired
        cost = TRIED_FACTOR * why.tried if isinstance(why, Blocked) else CALLS_FACTOR * len(operations)
        self._work = cost + WORK_MIN
        self._stuck = why.call.operation if isinstance(why, Blocked) else None
        self._ends = sorted(one.completed for one in operations if one.completed is not None)
        self._cut = 0
        self._shortest = False
        self._why: Impossible | Blocked = why
        self._left: list[Operation] = []

    # --- the shortest prefix ---

    def shorten(self) -> None:
        """Find the shortest prefix that is impossible, as far as the budget lasts."""
        explained, wrong = 0, len(self._ends)
        back = 0
        try:
            while wrong - explained > 1:
                tried = self._end_of(self._why.calls if isinstance(self._why, Impossible) else [self._why.call])
                if not explained < tried < wrong:  # else only a guess: what was open then may explain it after all
                    back += 1
                    tried = wrong - 1 if back <= STEPS_BACK else (explained + wrong) // 2
                decision = self._asked(self._prefix(tried))
                if isinstance(decision, Explained):
                    explained = tried
                else:
                    self._why = decision
                    wrong = tried
            self._shortest = True
        except OutOfBudget:
            pass
        self._cut = self._ends[wrong - 1] + 1
        self._left = prefix(self._operations, self._cut)

    def _end_of(self, calls: Sequence[Call]) -> int:
        """How many completions there are up to the last of these calls."""
        last = max((call.completed for call in calls if call.completed is not None), default=self._ends[-1])
        return bisect_left(self._ends, last) + 1

    def _prefix(self, completions: int) -> list[Operation]:
        return prefix(self._operations, self._ends[completions - 1] + 1)

    # --- the fewest operations ---

    def thin(self) -> None:
        """Leave out all that can be left out, as far as the budget lasts."""
        try:
            if isinstance(self._why, Impossible):
                self._keep_proof(self._why)
            for left in thinned(self._left, self._parts, self._is_wrong):
                self._left = left
        except OutOfBudget:
            pass

    def _parts(self, operations: Sequence[Operation]) -> list[set[int]]:
        """What the model knows it can do without, what only observes, and what means nothing to it."""
        calls = calls_of(self._model, operations)
        parts: list[set[int]] = []
        if isinstance(self._model, Parts):
            parts = [{call.invoked for call in part} for part in self._model.parts(calls, self._start)]
        parts += [{call.invoked} for call in calls if call.observes]
        known = {call.invoked for call in calls}
        return parts + [{one.invoked} for one in operations if one.invoked not in known]

    def _keep_proof(self, why: Impossible) -> None:
        """Only what the proof is about, and what must stay; or the proof alone, if it is wrong for the same reason."""
        proof = {call.invoked for call in why.calls}
        gone = set[int]().union(*(part for part in self._parts(self._left) if part.isdisjoint(proof)))
        left = [one for one in self._left if one.invoked not in gone]
        if self._is_wrong(left):
            self._left = left
        alone = [one for one in self._left if one.invoked in proof]
        decision = self._ask(alone)
        if isinstance(decision, Impossible) and decision.reason == why.reason:
            self._left, self._why = alone, decision

    # --- asking ---

    def _is_wrong(self, operations: Sequence[Operation]) -> bool:
        decision = self._ask(operations)
        if decision is None or isinstance(decision, Explained):
            return False
        self._why = decision
        return True

    def _asked(self, operations: Sequence[Operation]) -> Explained | Impossible | Blocked:
        """As `_ask`, for answers without which there is no going on."""
        decision = self._ask(operations)
        if decision is None:
            raise OutOfBudget
        return decision

    def _ask(self, operations: Sequence[Operation]) -> Explained | Impossible | Blocked | None:
        """Whether these can be explained; None if that would take too long to find out."""
        calls = calls_of(self._model, operations)
        self._work -= len(operations)
        self._stop_if_expired()
        decision = decide(self._model, calls, self._initial, self._stop_if_expired)
        return self._searched(calls) if decision is None else decision

    def _searched(self, calls: Sequence[Call], turns_max: int = sys.maxsize) -> Explained | Blocked | None:
        turns = search(calls, self._model, self._initial, Reach())
        for _ in range(min(turns_max, self._work // 2 // STEPS_PER_TURN + 1)):
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
            states=self._described(blocked) if blocked else [],
            minimal=events_of(self._left),
        )
        clauses = [explanation.reason] if explanation.reason else []
        if blocked:
            placed = counted(blocked.placed, "completed operation")
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
        for operations in (begun, prefix(self._operations, self._cut), self._left):
            try:
                found = self._searched(calls_of(self._model, operations), STATES_TURNS_MAX)
            except OutOfBudget:
                return None
            if isinstance(found, Blocked) and found.call.invoked == broken.invoked:
                return found
        return None

    def _described(self, blocked: Blocked) -> list[str]:
        model = self._model
        described = [model.describe(state) if isinstance(model, Shown) else repr(state) for state in blocked.states]
        if isinstance(model, Argues):
            reasons = [model.argue(state, blocked.call) for state in blocked.states]
            described = [f"{words}: {why}" if why else words for words, why in zip(described, reasons, strict=True)]
        return list(dict.fromkeys(described))


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
