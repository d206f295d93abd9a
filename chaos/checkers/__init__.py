"""Judges: whether what clients saw is allowed. Pure functions of a history; no I/O, no clock, no chance.

Knows models and how to apply one to a history. Does not know clusters, files or time; a budget is a question to ask.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from chaos.checkers.linearizability import judge_keys
from chaos.checkers.model import Call, Inconsistent, Judge, Model, Strict, Verdict, VerdictType
from chaos.checkers.models import MODELS
from chaos.checkers.values import freeze, show
from chaos.history import Event, Operation, is_lapse, operations

__all__ = ["MODELS", "Call", "Inconsistent", "Judge", "Model", "Verdict", "check", "operations_of"]


def check(
    history: Sequence[Event],
    model: str | Model | Judge,
    initial: Any = None,
    expired: Callable[[], bool] = lambda: False,
    others: frozenset[str] = frozenset(),
) -> Verdict:
    """Judge each key of a history by a model, given by name (see `MODELS`) or as an object of the user's own.

    `initial` is each key's JSON value at the start; None stands for the model's default. `expired` says whether the
    budget is used up: it is asked every few milliseconds, and when it says yes the verdict is unknown. `others` are the
    f's that other models judge: operations which this one does not know are left to them.

    `Verdict.operations` counts the clients' operations that were judged, whatever their outcome. A history that
    constrains nothing is valid. Raises ValueError if there is no such model, if neither it nor `others` know an
    operation's `f`, if an argument or `initial` makes no sense to it, or if the events do not pair up.
    """
    judge = _by_name(model) if isinstance(model, str) else model
    by_key: dict[Hashable, list[Operation]] = {}
    for operation in operations(history):
        if operation.f in others and operation.f not in judge.operations:
            continue
        _refuse_unknown(judge, operation)
        by_key.setdefault(freeze(operation.key), []).append(operation)
    if isinstance(judge, Model):
        judge.start(initial)  # an impossible one is refused even where there is no key to start
        return judge_keys(by_key, judge, initial, expired)
    return _judge_all(by_key, judge, initial, expired)


def operations_of(model: str | Model | Judge) -> frozenset[str]:
    """The f's that a model knows, given by name or as an object. Raises ValueError if there is no such model."""
    return (_by_name(model) if isinstance(model, str) else model).operations


def _by_name(name: str) -> Model | Judge:
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def _refuse_unknown(judge: Model | Judge, operation: Operation) -> None:
    if operation.f not in judge.operations:
        raise ValueError(
            f"model {judge.name!r} does not know f {operation.f!r} (event {operation.invoked});"
            f" it knows {', '.join(sorted(judge.operations))}"
        )
    complaint = judge.complaint(operation) if isinstance(judge, Strict) else None
    if complaint is not None:
        raise ValueError(f"model {judge.name!r} cannot judge event {operation.invoked}: {complaint}")


def _judge_all(
    by_key: dict[Hashable, list[Operation]], judge: Judge, initial: Any, expired: Callable[[], bool]
) -> Verdict:
    """One verdict from all keys': invalid if one is, else unknown if one is."""
    total = sum(not is_lapse(operation.process) for listed in by_key.values() for operation in listed)
    worst: tuple[VerdictType, str] = ("valid", f"{total} operations on {len(by_key)} keys")
    for decided, (key, listed) in enumerate(by_key.items()):
        if expired():
            return Verdict(
                verdict="unknown",
                model=judge.name,
                operations=total,
                detail=f"the budget ran out: {decided} of {len(by_key)} keys judged, none of them invalid",
            )
        verdict, detail = judge.judge(listed, initial)
        where = detail if key is None else f"key {show(key)}: {detail}"
        if verdict == "invalid":
            return Verdict(verdict=verdict, model=judge.name, operations=total, detail=where)
        if verdict == "unknown" or len(by_key) == 1:
            worst = (verdict, where) if worst[0] == "valid" else worst
    return Verdict(verdict=worst[0], model=judge.name, operations=total, detail=worst[1])
