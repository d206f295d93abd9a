"""The judges: how long they take for long histories, for hard ones, and how fast a history is read.

All of it is computation in one thread: seconds are those of the CPU, so that what else runs beside it counts less.
"""

import gc
import math
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final, NamedTuple

from benchmarks.histories import (
    CLIENTS,
    KEYS,
    Container,
    Lie,
    Lists,
    Mutex,
    Register,
    Set,
    Thing,
    contains_it,
    did_not_release,
    finds_nothing,
    history,
    lists_the_first,
    overlooks_one,
    reads_the_first,
    twin,
)
from benchmarks.measures import Row
from chaos.checkers import MODELS, Model, check
from chaos.checkers.model import calls_of
from chaos.checkers.search import Reach, search
from chaos.formats import read_events, write_events
from chaos.history import Event, Operation, operations

LONG, LONGER = 100_000, 1_000_000
SECONDS_REACH, STACK_SECONDS_REACH, GROWTH_REACH = 3.0, 10.0, 13.0
TURNS = 3  # of which the median counts
FAR = 2.0  # what misses its reach by so much is not measured again

KEYED_OPERATIONS, KEYED_CLIENTS = 2_500, 50
STACK_OPERATIONS, OVERLAP, FEW = 500, 0.02, 5
SEEDS = range(10)
SEARCH_REACH_S = 1.0
GIVEN_UP_S = 1.0  # a search may take for ever

LINES, LINES_OF_EDN = 1_000_000, 200_000
LINES_REACH = 200_000


# --- long histories ---


class Subject(NamedTuple):
    """A judge, and histories for it."""

    name: str
    model: str
    thing: Callable[[], Thing]
    lie: Lie
    reach_s: float = SECONDS_REACH


LONG_HISTORIES: Final = (
    Subject("register", "register", lambda: Register(("read", "write")), reads_the_first),
    Subject("cas-register", "cas-register", lambda: Register(("read", "write", "cas")), reads_the_first),
    Subject("set: add, contains, remove", "set", lambda: Set(0.0), contains_it),
    Subject("set: and reads of all", "set", lambda: Set(0.05), lists_the_first),
    Subject("fifo-queue", "fifo-queue", lambda: Container("enqueue", "dequeue"), finds_nothing),
    Subject("mutex", "mutex", Mutex, did_not_release),
    Subject("stack", "stack", lambda: Container("push", "pop"), finds_nothing, STACK_SECONDS_REACH),
)


class Timed(NamedTuple):
    """How long a check took, and whether it came to an answer."""

    seconds: float
    answered: bool


def long_histories() -> list[Row]:
    """For each judge a row of seconds, beside those that pairing events takes, and one of how they grow.

    There is none of those for a judge that is far too slow already.
    """
    return [row for subject in LONG_HISTORIES for row in _long(subject)]


def _long(subject: Subject) -> list[Row]:
    turns, pairing = [], []
    for seed in range(TURNS):
        events = history(subject.thing(), LONG, seed)
        pairing.append(_pairing(events))
        turns.append(timed_check(events, subject.model, "valid"))
        if turns[-1].seconds > FAR * subject.reach_s:
            break
    wrong = timed_check(twin(history(subject.thing(), LONG, 0), subject.lie), subject.model, "invalid")
    found, pair = sorted(turns)[len(turns) // 2], median(pairing)
    rows = [
        Row(
            f"{subject.name}: {LONG:,} operations",
            f"{found.seconds:.2f} s",
            f"{pair:.2f} s to pair the events",
            f"{found.seconds / pair:.1f}",
            f"<= {subject.reach_s:.0f} s",
            found.seconds <= subject.reach_s,
            f"a wrong twin takes {wrong.seconds:.2f} s, explained",
        )
    ]
    if found.seconds <= FAR * subject.reach_s:
        rows.append(_growth(subject, found))
    return rows


def _growth(subject: Subject, found: Timed) -> Row:
    longer = timed_check(history(subject.thing(), LONGER, 0), subject.model, "valid")
    ratio = longer.seconds / found.seconds
    return Row(
        f"{subject.name}: {LONGER:,} operations",
        f"{longer.seconds:.2f} s",
        f"{found.seconds:.2f} s for {LONG:,}",
        f"{ratio:.1f}",
        f"<= {GROWTH_REACH:.0f}",
        ratio <= GROWTH_REACH,
        f"growth exponent {math.log(ratio, LONGER / LONG):.2f}",
    )


def timed_check(events: list[Event], model: str, expected: str, budget: float = math.inf) -> Timed:
    """Check them once, without the garbage collector, as `testbed check` does; and empty the list meanwhile: like a
    file's events, they are nobody's once they were told."""
    gc.collect()
    gc.disable()
    try:
        begun = process_time()
        verdict = check(_emptied(events), model, expired=lambda: process_time() - begun > budget)
        seconds = process_time() - begun
    finally:
        gc.enable()
    if verdict.verdict not in (expected, "unknown"):
        raise RuntimeError(f"a history that is {expected} was judged otherwise: {verdict.detail}")
    return Timed(seconds, verdict.verdict == expected)


def _emptied(events: list[Event]) -> Iterator[Event]:
    events.reverse()
    while events:
        yield events.pop()


def _pairing(events: list[Event]) -> float:
    begun = process_time()
    operations(events)
    return process_time() - begun


# --- hard histories ---


def hard_histories() -> list[Row]:
    """Keyed lists and stacks, of which only those with values put in twice are searched, beside the search alone."""
    return [
        *_keyed("overwrites now and then", 0.1),
        *_keyed("appends only", 0.0),
        *_stacks("distinct values", None, finds_nothing),
        *_stacks(f"values from {FEW}", FEW, finds_nothing),
    ]


def _keyed(what: str, overwrites: float) -> list[Row]:
    name = f"list: {KEYED_OPERATIONS:,} operations, {KEYED_CLIENTS} clients, {KEYS} keys, {what}"
    made = [history(Lists(overwrites), KEYED_OPERATIONS, seed, KEYED_CLIENTS) for seed in SEEDS]
    return _right_and_wrong(name, "list", made, overlooks_one)


def _stacks(what: str, few: int | None, lie: Lie) -> list[Row]:
    made = [history(Container("push", "pop", few), STACK_OPERATIONS, seed, CLIENTS, OVERLAP) for seed in SEEDS]
    share = median(_overlapping(events) for events in made)
    return _right_and_wrong(f"stack: {STACK_OPERATIONS} operations, {share:.0%} overlap, {what}", "stack", made, lie)


def _right_and_wrong(name: str, model: str, made: list[list[Event]], lie: Lie) -> list[Row]:
    wrong = [twin(events, lie) for events in made]
    return [_hard(f"{name}, right", model, made, "valid"), _hard(f"{name}, wrong", model, wrong, "invalid")]


def _hard(name: str, model: str, histories: list[list[Event]], expected: str) -> Row:
    alone = median(_search_alone(events, model) for events in histories)
    checks = [timed_check(events, model, expected, GIVEN_UP_S) for events in histories]
    found, most = median(one.seconds for one in checks), max(one.seconds for one in checks)
    unknown = sum(not one.answered for one in checks)
    notes = [f"{len(histories)} seeds"]
    notes += [f"{unknown} of them unknown after {GIVEN_UP_S:g} s"] if unknown else []
    notes += ["explained, which the search alone does not"] if expected == "invalid" else []
    return Row(
        name,
        f"{found:.3f} s (max {most:.3f} s)",
        f"{'over ' if alone >= GIVEN_UP_S else ''}{alone:.3f} s the search alone",
        f"{found / alone:.2f}",
        f"<= {SEARCH_REACH_S:g} s",
        not unknown and most <= SEARCH_REACH_S,
        ", ".join(notes),
    )


def _search_alone(events: list[Event], name: str) -> float:
    """Seconds without any fast way, key by key in turns, until the answer or for so long."""
    model = MODELS[name]
    assert isinstance(model, Model)
    begun = process_time()
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations(events):
        by_key.setdefault(operation.key, []).append(operation)
    turns = deque(search(calls_of(model, listed), model, None, Reach()) for listed in by_key.values())
    while turns and process_time() - begun < GIVEN_UP_S:
        try:
            next(turns[0])
            turns.rotate(-1)
        except StopIteration as stop:
            turns.popleft()
            if stop.value is not None:
                break
    return min(process_time() - begun, GIVEN_UP_S)


def _overlapping(events: list[Event]) -> float:
    """Which part of the operations were concurrent with another."""
    running: set[int | str] = set()
    concurrent: set[tuple[int | str, int]] = set()
    serial: dict[int | str, int] = {}
    for event in events:
        if event.type == "invoke":
            serial[event.process] = event.index
            running.add(event.process)
            if len(running) > 1:
                concurrent.update((process, serial[process]) for process in running)
        else:
            running.remove(event.process)
    return len(concurrent) / (len(events) / 2)


# --- reading ---


class Reading(NamedTuple):
    """What a fresh process needed to read a history: `grown` bytes more than it had before."""

    rate: float
    grown: int


def reading() -> list[Row]:
    """Lines a second, of both formats, plain and packed; and what that takes in memory."""
    with tempfile.TemporaryDirectory() as directory:
        lines = _reading(Path(directory, "history.jsonl"), LINES)
        packed = _reading(Path(directory, "history.jsonl.gz"), LINES)
        edn = _reading(Path(directory, "history.edn"), LINES_OF_EDN)
    return [
        Row(
            f"reading {LINES:,} JSON lines",
            f"{lines.rate:,.0f} lines/s",
            f"{packed.rate:,.0f} with gzip",
            f"{lines.rate / packed.rate:.2f}",
            f">= {LINES_REACH:,}",
            lines.rate >= LINES_REACH,
            f"the decoder, and that events pair up; grows by {lines.grown / 2**20:.1f} MiB, with gzip by "
            f"{packed.grown / 2**20:.1f} MiB",
        ),
        Row(
            f"reading {LINES_OF_EDN:,} lines of EDN",
            f"{edn.rate:,.0f} lines/s",
            f"{lines.rate:,.0f} JSON lines",
            f"{edn.rate / lines.rate:.2f}",
            "-",
            None,
            f"a reader in Python; grows by {edn.grown / 2**20:.1f} MiB",
        ),
    ]


def _reading(path: Path, lines: int) -> Reading:
    write_events(history(Register(("read", "write", "cas")), lines // 2, 0), path)
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.judges", str(path)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    count, seconds, grown = output.split()
    if int(count) != lines:
        raise RuntimeError(f"{count} events were read, of {lines}")
    return Reading(lines / float(seconds), int(grown))


def main(path: str) -> None:
    """Read a history, and say how many events that were, how many seconds it took and by how many bytes it grew."""
    before = _peak_bytes()
    begun = process_time()
    count = sum(1 for _ in read_events(path))
    seconds = process_time() - begun
    print(count, seconds, _peak_bytes() - before)


def _peak_bytes() -> int:
    """The most memory that this process has had since it was started; ru_maxrss begins with its parent's."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
