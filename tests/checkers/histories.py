"""Histories for tests, written down in a line an operation."""

from collections.abc import Callable
from typing import Any

from chaos.history import Event, Recorder

Row = tuple[Any, ...]


def history(*rows: Row) -> list[Event]:
    """Events from rows (process, type, f, value[, error]) on one key, each at its own instant."""
    recorder = Recorder()
    for time, row in enumerate(rows):
        process, kind, f, value = row[:4]
        recorder.add(time, process, kind, f, "x", value, row[4] if len(row) > 4 else None)
    return recorder.events()


def sequential(*calls: Row) -> list[Event]:
    """Events from calls (f, argument, result) that follow one another, by alternating processes."""
    rows: list[Row] = []
    for number, (f, argument, result) in enumerate(calls):
        rows += [(number % 2, "invoke", f, argument), (number % 2, "ok", f, result)]
    return history(*rows)


def expires_after(questions: int) -> Callable[[], bool]:
    """A budget that is used up once it has been asked about `questions` times."""
    asked = 0

    def expired() -> bool:
        nonlocal asked
        asked += 1
        return asked > questions

    return expired
