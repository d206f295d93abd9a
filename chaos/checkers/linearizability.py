"""Whether each key's calls can be explained by some order: without a search where that is possible, else by searching.

Knows keys, fairness between them and the budget (as a question to ask). Does not know how an order is searched for, nor
what makes a history wrong.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, Final, NamedTuple

from chaos.checkers.explain import decide, describe, explain, key_phrase
from chaos.checkers.model import (
    Accounts,
    Explanation,
    Impossible,
    Model,
    OutOfBudget,
    Progress,
    Verdict,
    VerdictType,
    calls_of,
)
from chaos.checkers.search import Answer, Blocked, Reach, search
from chaos.checkers.values import counted
from chaos.history import Operation, is_lapse

KEYS_NAMED_MAX: Final = 8
WORD_BYTES: Final = 8

ByKey = dict[Hashable, list[Operation]]


class _Turn(NamedTuple):
    key: Hashable
    search: Generator[None, None, Answer]
    reach: Reach


def judge_keys(
    by_key: ByKey, model: Model, initial: Any, expired: Callable[[], bool], memory: int, progress: Progress
) -> Verdict:
    """Decide all keys that need no search; search the others in turns, so that one that has no order ends the check.

    `expired` is asked between turns, which last milliseconds; once it says yes, the answer is unknown. Once all
    searches together remember more than `memory` bytes, the greatest of them is given up.
    """
    return _Check(by_key, model, initial, expired, memory, progress).verdict()


class _Check:
    def __init__(
        self, by_key: ByKey, model: Model, initial: Any, expired: Callable[[], bool], memory: int, progress: Progress
    ) -> None:
        self._by_key = by_key
        self._model = model
        self._initial = initial
        self._expired = expired
        self._words_max = memory // WORD_BYTES
        self._progress = progress
        self._total = sum(not is_lapse(one.process) for listed in by_key.values() for one in listed)
        self._waiting = deque(by_key)
        self._turns: deque[_Turn] = deque()
        self._words = 0  # that all of them remember
        self._given_up: list[_Turn] = []

    def verdict(self) -> Verdict:
        try:
            self._progress.required = sum(one.completed is not None for each in self._by_key.values() for one in each)
            while self._waiting:
                self._ask()
                wrong = self._decide(self._waiting[0])
                self._waiting.popleft()
                if wrong is not None:
                    return wrong
            while self._turns:
                self._ask()
                wrong = self._search(self._turns.popleft())
                if wrong is not None:
                    return wrong
        except OutOfBudget:
            return self._say("unknown", self._expired_detail())
        if self._given_up:
            lost = ", ".join(key_phrase(turn.key) for turn in self._given_up[:KEYS_NAMED_MAX])
            valid = counted(self._progress.keys_decided, "key")
            return self._say("unknown", f"memory limit reached: too many possible orders for {lost}; {valid} valid")
        keys = counted(len(self._by_key), "key")
        account = self._account(next(iter(self._by_key.values()))) if len(self._by_key) == 1 else ""
        return self._say("valid", f"{counted(self._total, 'operation')} on {keys} can be put into an order{account}")

    def _ask(self) -> None:
        if self._expired():
            raise OutOfBudget

    def _decide(self, key: Hashable) -> Verdict | None:
        """A verdict if the key is wrong. One that cannot be decided without a search gets its first turn."""
        calls = calls_of(self._model, self._by_key[key])
        decision = decide(self._model, calls, self._initial, self._ask)
        if isinstance(decision, Impossible):
            return self._wrong(key, decision)
        if decision is not None:
            self._decided(key)
            return None
        reach = Reach()
        return self._search(_Turn(key, search(calls, self._model, self._initial, reach), reach))

    def _search(self, turn: _Turn) -> Verdict | None:
        before, words = turn.reach.placed, turn.reach.words
        try:
            next(turn.search)
        except StopIteration as stop:
            answer: Answer = stop.value
            if isinstance(answer, Blocked):
                return self._wrong(turn.key, answer)
            self._progress.placed -= before
            self._words -= words
            self._decided(turn.key)
        else:
            self._progress.placed += turn.reach.placed - before
            self._words += turn.reach.words - words
            self._turns.append(turn)
            if self._words > self._words_max:
                self._give_up(max(self._turns, key=lambda turn: turn.reach.words))
        return None

    def _give_up(self, turn: _Turn) -> None:
        self._turns.remove(turn)
        turn.search.close()
        self._words -= turn.reach.words
        self._given_up.append(turn)

    def _decided(self, key: Hashable) -> None:
        self._progress.keys_decided += 1
        self._progress.placed += sum(one.completed is not None for one in self._by_key[key])

    def _wrong(self, key: Hashable, why: Impossible | Blocked) -> Verdict:
        reason = why.reason if isinstance(why, Impossible) else f"{describe(why.call.operation)} is beyond all orders"
        self._progress.invalid = f"on {key_phrase(key)} no order explains all: {reason}"
        detail, explanation = explain(key, self._by_key[key], self._model, self._initial, why, self._expired)
        return self._say("invalid", detail + self._account(self._by_key[key]), explanation)

    def _account(self, operations: Sequence[Operation]) -> str:
        account = self._model.account(operations) if isinstance(self._model, Accounts) else ""
        return f" ({account})" if account else ""

    def _say(self, kind: VerdictType, detail: str, explanation: Explanation | None = None) -> Verdict:
        return Verdict(
            verdict=kind, model=self._model.name, operations=self._total, detail=detail, explanation=explanation
        )

    def _expired_detail(self) -> str:
        keys = counted(len(self._by_key), "key")
        names = [
            f"{key_phrase(turn.key)} (an order for {turn.reach.placed} of {turn.reach.required} completed operations)"
            for turn in [*self._turns, *self._given_up]
        ]
        names += [f"{key_phrase(key)} (not begun)" for key in self._waiting]
        more = len(names) - KEYS_NAMED_MAX
        detail = f"the budget ran out: {self._progress.keys_decided} of {keys} decided, all valid; undecided: "
        return detail + ", ".join(names[:KEYS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
