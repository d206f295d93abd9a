"""One operation of a client, found in a run's histories, with the requests that were sent for it.

Knows how verdicts name operations, which file is which workload's history, and how requests are tied to an invocation.
Does not know what became of a request.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.formats import read_history
from chaos.history import NS_PER_S, Operation, is_lapse, operations
from chaos.logbook.book import Logbook
from chaos.logbook.files import Entry
from testbed.base.errors import UsageError


@dataclass(frozen=True)
class Found:
    """An operation of a workload (numbered from 1). `began`, `ended`: on the clock of the logs; None if it never did.

    `requests`: what was sent for it, in that order.
    """

    operation: Operation
    workload: int
    history: str
    began: float
    ended: float | None
    requests: tuple[Entry, ...]


def find(book: Logbook, name: str) -> Found:
    """The operation that `name` means: the index of one of its two events, after a workload's number or kind and a
    colon if it is not of the first workload. UsageError if there is no such operation."""
    workload, index = _parsed(book.directory, name)
    path = history_path(book.directory, workload)
    if not path.is_file():
        raise UsageError(path, "", f"is missing: nothing is known of operation {name}")
    events = read_history(path)
    if not 0 <= index < len(events):
        raise UsageError(path, name, f"is no event of this history, which has those from 0 to {len(events) - 1}")
    process = events[index].process
    if isinstance(process, str):
        raise UsageError(path, name, f"is a step of a fault ({events[index].f}), and no client's operation")
    if is_lapse(process):
        raise UsageError(path, name, "is the end of a lease, and no client's operation")
    found = next(one for one in operations(events) if index in (one.invoked, one.answered))
    ended = None if found.answered is None else book.begins + found.ended / NS_PER_S
    began = book.begins + found.began / NS_PER_S
    return Found(found, workload, path.name, began, ended, tuple(_requests(book, found, workload)))


def history_path(directory: Path, workload: int) -> Path:
    """Where the history of that workload is, of those numbered from 1."""
    return directory / ("history.jsonl" if workload == 1 else f"history-{workload}.jsonl")


def _parsed(directory: Path, name: str) -> tuple[int, int]:
    workload, _, index = name.rpartition(":")
    if not index.isdecimal():
        raise UsageError("operation", name, 'is not the index of an event, such as 12, "2:12" or "queue:12"')
    if not workload or workload.isdecimal():
        return int(workload or 1), int(index)
    kinds = _kinds(directory / "scenario.toml")
    numbers = [number for number, kind in enumerate(kinds, 1) if kind == workload]
    if len(numbers) == 1:
        return numbers[0], int(index)
    reason = f"{workload} is the kind of {len(numbers)} workloads; number them, as in 2:{index}"
    if not numbers:
        reason = f"{workload} is no workload of this run; there are {', '.join(kinds) or 'none that are known'}"
    raise UsageError("operation", name, reason)


def _kinds(path: Path) -> list[str]:
    """What the workloads are called; none if the scenario cannot be read."""
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8")).get("workload", [])
        return [str(workload["kind"]) for workload in found]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _requests(book: Logbook, operation: Operation, workload: int) -> list[Entry]:
    sought = {"process": operation.process, "invoked": operation.began, "workload": workload}
    return [one for one in book.requests() if all(one.get(key) == value for key, value in sought.items())]
