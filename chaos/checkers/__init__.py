"""Judges: whether what clients saw is allowed. Pure functions of a history; no I/O, no clock, no chance.

Knows models and how to apply one to a history. Does not know clusters, files or time; a budget is a question to ask.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from chaos.checkers.linearizability import judge_keys
from chaos.checkers.model import (
    Call,
    Explanation,
    Inconsistent,
    Judge,
    Model,
    OutOfBudget,
    Progress,
    Strict,
    Verdict,
)
from chaos.checkers.models import MODELS
from chaos.checkers.models.custom import wrap
from chaos.checkers.totals.keys import judge_totals
from chaos.checkers.values import freeze
from chaos.history import Event, Operation, operations

__all__ = [
    "MODELS",
    "Call",
    "Explanation",
    "Inconsistent",
    "Judge",
    "Model",
    "Progress",
    "Verdict",
    "check",
    "operations_of",
]

MEMORY_DEFAULT: Final = 512 * 2**20

EVENTS_PER_QUESTION: Final = 4096


def check(
    history: Iterable[Event | Mapping[str, Any]],
    model: str | Model | Judge | object,
    initial: Any = None,
    expired: Callable[[], bool] = lambda: False,
    others: frozenset[str] = frozenset(),
    *,
    memory: int = MEMORY_DEFAULT,
    progress: Progress | None = None,
) -> Verdict:
    """Judge each key of a history by a model, given by name (see `MODELS`) or as an object or class of the user's own.

    `history`: events in real-time order, or mappings in their shape, in which `index`, `time` and `value` may be left
    out; they are asked for one by one. `initial` is each key's JSON value at the start; None stands for the model's
    default. `others` are the f's that other models judge: operations which this one does not know are left to them.

    `expired` says whether the budget is used up: it is asked every few milliseconds, and when it says yes the verdict
    is unknown. So it is when a search would remember more than `memory` bytes. `progress` is kept up to date meanwhile.

        until = time.monotonic() + 5.0
        check(events, "fifo-queue", expired=lambda: time.monotonic() > until)

    `Verdict.operations` counts the clients' operations that were judged, whatever their outcome. A history that
    constrains nothing is valid. Raises ValueError if there is no such model, if neither it nor `others` know an
    operation's `f`, if an argument or `initial` makes no sense to it, or if the events do not pair up.
    """
    judge = _by_name(model) if isinstance(model, str) else wrap(model)
    progress = progress or Progress()
    if isinstance(judge, Model):
        judge.start(initial)  # an impossible one is refused even where there is no key to start
    complaint = judge.complaint if isinstance(judge, Strict) else None
    events = _Events(history, expired)
    by_key: dict[Hashable, list[Operation]] = {}
    try:
        for operation in operations(events):
            if operation.f in others and operation.f not in judge.operations:
                continue
            if operation.f not in judge.operations:
                raise ValueError(
                    f"model {judge.name!r} does not know f {operation.f!r} (event {operation.invoked});"
                    f" it knows {', '.join(sorted(judge.operations))}"
                )
            if complaint is not None and (reason := complaint(operation)) is not None:
                raise ValueError(f"model {judge.name!r} cannot judge event {operation.invoked}: {reason}")
            by_key.setdefault(freeze(operation.key), []).append(operation)
    except OutOfBudget:
        detail = f"the budget ran out while the history was read: {events.count} events"
        return Verdict(verdict="unknown", model=judge.name, operations=0, detail=detail)
    progress.keys = len(by_key)
    if isinstance(judge, Model):
        return judge_keys(by_key, judge, initial, expired, memory, progress)
    return judge_totals(by_key, judge, initial, expired, progress)


def operations_of(model: str | Model | Judge | object) -> frozenset[str]:
    """The f's that a model knows, given as to `check`. Raises ValueError if there is no such model."""
    return (_by_name(model) if isinstance(model, str) else wrap(model)).operations


class _Events:
    """The events of a history, counted, as long as the budget lasts."""

    def __init__(self, history: Iterable[Event | Mapping[str, Any]], expired: Callable[[], bool]) -> None:
        self._history = history
        self._expired = expired
        self.count = 0

    def __iter__(self) -> Iterator[Event]:
        time = 0
        for event in self._history:
            if self.count % EVENTS_PER_QUESTION == 0 and self._expired():
                raise OutOfBudget
            if not isinstance(event, Event):
                event = msgspec.convert({"index": self.count, "time": time, "value": None, **event}, Event)
                time = event.time
            self.count += 1
            yield event


def _by_name(name: str) -> Model | Judge:
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]
