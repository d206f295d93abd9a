"""Whether each key's calls can be explained by some order, and words for it when they cannot.

Knows keys, fairness between them and the budget (as a question to ask). Does not know how an order is searched for.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, Final, NamedTuple

from chaos.checkers.model import Call, Model, Shown, Verdict, VerdictType, calls_of
from chaos.checkers.search import Answer, Blocked, Progress, TooLarge, search
from chaos.checkers.values import show, show_json
from chaos.history import Operation, is_lapse

CONCURRENT_SHOWN_MAX: Final = 8

ByKey = dict[Hashable, list[Operation]]


class _Turn(NamedTuple):
    key: Hashable
    search: Generator[None, None, Answer]
    progress: Progress


def judge_keys(by_key: ByKey, model: Model, initial: Any, expired: Callable[[], bool]) -> Verdict:
    """Search all keys in turns, so that a key without an order ends the check whatever the others cost.

    `expired` is asked between turns, which last milliseconds; once it says yes, the answer is unknown.
    """
    total = sum(not is_lapse(one.process) for listed in by_key.values() for one in listed)

    def verdict(kind: VerdictType, detail: str) -> Verdict:
        return Verdict(verdict=kind, model=model.name, operations=total, detail=detail)

    waiting = deque(by_key)
    turns: deque[_Turn] = deque()
    too_large: list[_Turn] = []
    valid = 0
    while waiting or turns:
        if expired():
            left = [turn.key for turn in turns] + [turn.key for turn in too_large] + list(waiting)
            return verdict("unknown", _expired_detail(valid, len(by_key), left, [*turns, *too_large]))
        turn = _start(waiting.popleft(), by_key, model, initial) if waiting else turns.popleft()
        try:
            next(turn.search)
            turns.append(turn)
        except StopIteration as stop:
            answer: Answer = stop.value
            if isinstance(answer, Blocked):
                return verdict("invalid", explain(turn.key, answer, model))
            if isinstance(answer, TooLarge):
                too_large.append(turn)
            else:
                valid += 1
    if too_large:
        lost = ", ".join(_key_phrase(turn.key) for turn in too_large[:CONCURRENT_SHOWN_MAX])
        return verdict("unknown", f"memory limit reached: too many possible orders for {lost}; {valid} keys are valid")
    return verdict("valid", f"{_count(total, 'operation')} on {_count(len(by_key), 'key')} can be put into an order")


def _start(key: Hashable, by_key: ByKey, model: Model, initial: Any) -> _Turn:
    progress = Progress()
    return _Turn(key, search(calls_of(model, by_key[key]), model, initial, progress), progress)


def _expired_detail(valid: int, keys: int, left: Sequence[Hashable], turns: Sequence[_Turn]) -> str:
    detail = f"the budget ran out: {valid} of {_count(keys, 'key')} decided, all valid; undecided: "
    names = []
    progress = {turn.key: turn.progress for turn in turns}
    for key in left[:CONCURRENT_SHOWN_MAX]:
        got = progress.get(key)
        reached = f" (an order for {got.placed} of {got.required} completed operations)" if got else " (not begun)"
        names.append(_key_phrase(key) + reached)
    more = len(left) - len(names)
    return detail + ", ".join(names) + (f" and {more} more" if more > 0 else "")


def explain(key: Hashable, blocked: Blocked, model: Model) -> str:
    """Why no order explains a key's calls, in words: what is stuck, where, and beside what."""
    described = [model.describe(state) if isinstance(model, Shown) else repr(state) for state in blocked.states]
    states = " or ".join(dict.fromkeys(described))
    shown = [describe_call(call) for call in blocked.concurrent[:CONCURRENT_SHOWN_MAX]]
    more = len(blocked.concurrent) - len(shown)
    concurrent = "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
    return (
        f"on {_key_phrase(key)} no order explains {describe_call(blocked.call)}: "
        f"after the longest orders, of {_count(blocked.placed, 'completed operation')}, {states}; "
        + (f"open at the time: {concurrent}" if concurrent else "nothing else was open at the time")
    )


def describe_call(call: Call) -> str:
    """A call in words: what was asked, what came of it, by whom, and where in the history."""
    operation = call.operation
    asked = f"{operation.f} {show_json(operation.argument)}" if operation.argument is not None else operation.f
    if operation.outcome == "info":
        answer = "with unknown outcome"
    elif call.refused:
        answer = f"refused as {operation.error}"
    else:
        echoed = operation.result == operation.argument or operation.result is None
        answer = "ok" if echoed and operation.argument is not None else f"-> {show_json(operation.result)}"
    end = "on" if operation.completed is None else f" to {operation.completed}"
    return f"{asked} {answer} (process {operation.process}, events {operation.invoked}{end})"


def _key_phrase(key: Hashable) -> str:
    return "the unnamed key" if key is None else f"key {show(key)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
