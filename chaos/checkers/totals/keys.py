"""One verdict from a judge without order on all keys, and what shows best what is wrong.

Knows keys, the budget (as a question to ask), and how to ask a judge about fewer operations. Knows no particular judge.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final

from chaos.checkers.explain import describe, key_phrase
from chaos.checkers.model import Explanation, Judge, Narrows, OutOfBudget, Progress, Verdict, VerdictType
from chaos.checkers.narrow import events_of, prefix, thinned
from chaos.checkers.values import thaw
from chaos.history import Operation, is_lapse

# An explanation may look at all operations so many times, and at so many more.
QUESTIONS_FACTOR: Final = 40
WORK_MIN: Final = 20_000


def judge_totals(
    by_key: dict[Hashable, list[Operation]],
    judge: Judge,
    initial: Any,
    expired: Callable[[], bool],
    progress: Progress,
) -> Verdict:
    """One verdict from all keys': invalid if one is, else unknown if one is."""
    total = sum(not is_lapse(operation.process) for listed in by_key.values() for operation in listed)

    def say(kind: VerdictType, detail: str, explanation: Explanation | None = None) -> Verdict:
        return Verdict(verdict=kind, model=judge.name, operations=total, detail=detail, explanation=explanation)

    worst = say("valid", f"{total} operations on {len(by_key)} keys")
    for key, listed in by_key.items():
        if expired():
            return say(
                "unknown",
                f"the budget ran out: {progress.keys_decided} of {len(by_key)} keys judged, none invalid",
            )
        verdict, detail = judge.judge(listed, initial)
        where = detail if key is None else f"{key_phrase(key)}: {detail}"
        if verdict == "invalid":
            progress.invalid = where
            return say(verdict, where, _explained(key, listed, judge, initial, expired))
        if worst.verdict == "valid" and (verdict == "unknown" or len(by_key) == 1):
            worst = say(verdict, where)
        progress.keys_decided += 1
    return worst


def _explained(
    key: Hashable, operations: Sequence[Operation], judge: Judge, initial: Any, expired: Callable[[], bool]
) -> Explanation | None:
    """What there is to be shown of operations that a judge without order finds invalid; None if it knows no parts.

    What is missing at the end can only be told at the end: then the prefix is all of it, and nothing broke it but the
    first operation of what is left.
    """
    if not isinstance(judge, Narrows):
        return None
    work = QUESTIONS_FACTOR * len(operations) + WORK_MIN

    def is_wrong(by: Judge, some: Sequence[Operation]) -> bool:
        nonlocal work
        work -= len(some)
        if work < 0 or expired():
            raise OutOfBudget
        return by.judge(some, initial)[0] == "invalid"

    events = max(one.invoked if one.completed is None else one.completed for one in operations) + 1
    cut, early, shortest, left = events, False, False, list(operations)
    try:
        ongoing = judge.ongoing()
        early = is_wrong(ongoing, left)
        if early:
            cut = bisect_left(range(events), True, key=lambda cut: is_wrong(ongoing, prefix(operations, cut)))
            judge, left = ongoing, prefix(operations, cut)
        shortest = True
        for fewer in thinned(left, judge.parts, partial(is_wrong, judge)):
            left = fewer
    except OutOfBudget:
        pass
    last = [one for one in operations if cut - 1 in (one.invoked, one.completed)] if early else []
    broken = last[0] if last else left[0]
    concurrent = [describe(one) for one in operations if _are_concurrent(one, broken)]
    return Explanation(
        key=thaw(key),
        prefix=cut,
        shortest=shortest,
        operation=describe(broken),
        reason=judge.judge(left, initial)[1],
        concurrent=concurrent,
        states=[],
        minimal=events_of(left),
    )


def _are_concurrent(one: Operation, broken: Operation) -> bool:
    end = one.invoked if broken.completed is None else broken.completed
    return one is not broken and one.invoked < end and (one.completed is None or one.completed > broken.invoked)
