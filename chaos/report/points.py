"""What clients did, made small enough to be drawn: single operations, how many at a time, queues, and who held what.

Pure. Knows operations and what the f's of queues and locks mean. Of answers that went well some are left out where
there are too many, never the fastest and the slowest of their time.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from chaos.checkers.explain import describe
from chaos.checkers.values import show_json
from chaos.history import NS_PER_S, Operation, is_lapse

OK_MAX: Final = 24_000  # points: what a browser draws at every step of a zoom, and 60 bytes each in the file
OTHERS_MAX: Final = 6_000  # of failed, and of unknown ones
PER_BUCKET: Final = 8  # of ok ones that are left of a stretch of time, where not all are
WORDS_MAX: Final = 60  # characters of what an operation asked and got
BUCKETS_MAX: Final = 200
DEPTHS_MAX: Final = 1_500
LOCKS_MAX: Final = 8
HOLDS_MAX: Final = 400  # of each lock
NS_PER_US: Final = 1_000
STEPS_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 600.0, 3600.0)
OUTCOMES: Final = ("ok", "fail", "info")


class Points(msgspec.Struct, frozen=True):
    """Operations, column by column, in the order of their invocations. Times in microseconds.

    `began` and `index` (the invocation's, in its history) are told as differences from the one before. `latency` of an
    operation that was never completed is -1. `workload`, `key` and `words` are places in `workloads`, `keys`, `texts`.
    """

    workloads: list[str]
    keys: list[str]
    texts: list[str]
    began: list[int]
    latency: list[int]
    outcome: list[int]
    index: list[int]
    process: list[int]
    workload: list[int]
    key: list[int]
    words: list[int]
    left_out: dict[str, int]


class Throughput(msgspec.Struct, frozen=True):
    """Operations a second by when they ended, for each outcome; one of unknown end counts where it began."""

    step: float
    ok: list[float]
    fail: list[float]
    info: list[float]


class Depth(msgspec.Struct, frozen=True):
    """How many messages were acknowledged as published and not as done, after each change that is shown."""

    workload: str
    time: list[float]
    depth: list[int]
    words: str


class Hold(msgspec.Struct, frozen=True):
    """A lock in the hands of a client, from the grant's arrival to the release's; `what` is held, or lapsed."""

    start: float
    end: float
    what: str
    words: str


class Lock(msgspec.Struct, frozen=True):
    """One lock. `held`: how often in all."""

    key: str
    held: int
    holds: list[Hold]
    words: str


def of_clients(operations: Iterable[Operation]) -> list[Operation]:
    """Without what happened by itself."""
    return [one for one in operations if not is_lapse(one.process)]


def latency_ns(one: Operation) -> int | None:
    """From invocation to completion, whatever it says; None where there is none."""
    return None if one.answered is None else one.ended - one.began


# --- single operations ---


def thinned(operations: Sequence[tuple[int, Operation]], most: int) -> list[tuple[int, Operation]]:
    """At most about so many, in their order; of each stretch of time the fastest, the slowest and some others.

    Each comes with the place of its workload.
    """
    if len(operations) <= most:
        return list(operations)
    size = math.ceil(PER_BUCKET * len(operations) / most)  # stretches of equal numbers, where much happens shorter
    left: list[tuple[int, Operation]] = []
    for first in range(0, len(operations), size):
        bucket = operations[first : first + size]
        order = sorted(range(len(bucket)), key=lambda place: latency_ns(bucket[place][1]) or 0)
        places = {order[0], order[-1]}
        stride = max(1, math.ceil(len(bucket) / max(1, PER_BUCKET - len(places))))
        places.update(range(0, len(bucket), stride))
        left += [bucket[place] for place in sorted(places)]
    return left


def points(histories: Sequence[tuple[str, Sequence[Operation]]]) -> Points:
    """The operations of all workloads, each under its name."""
    kept: list[tuple[int, Operation]] = []
    left_out = {}
    for kind in OUTCOMES:
        those = [(place, one) for place, (_, found) in enumerate(histories) for one in found if one.outcome == kind]
        if len(histories) > 1:
            those.sort(key=_began)
        left = thinned(those, OK_MAX if kind == "ok" else OTHERS_MAX)
        left_out[kind] = len(those) - len(left)
        kept += left
    kept.sort(key=_began)
    return _columns([name for name, _ in histories], kept, left_out)


def _began(placed: tuple[int, Operation]) -> int:
    return placed[1].began


class _Numbered:
    """Different strings, each with its place."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))


def _columns(workloads: list[str], kept: Sequence[tuple[int, Operation]], left_out: dict[str, int]) -> Points:
    keys, texts = _Numbered(), _Numbered()
    shown = Points(workloads, [], [], [], [], [], [], [], [], [], [], left_out)
    time = index = 0
    for workload, one in kept:
        began, latency = one.began // NS_PER_US, latency_ns(one)
        shown.began.append(began - time)
        shown.index.append(one.invoked - index)
        time, index = began, one.invoked
        shown.latency.append(-1 if latency is None else latency // NS_PER_US)
        shown.outcome.append(OUTCOMES.index(one.outcome))
        shown.process.append(one.process)
        shown.workload.append(workload)
        shown.key.append(keys.place(cut(key_text(one.key))))
        shown.words.append(texts.place(cut(in_short(one))))
    return msgspec.structs.replace(shown, keys=list(keys.texts), texts=list(texts.texts))


def in_short(one: Operation) -> str:
    """What was asked, and what came of it."""
    return describe(one).rpartition(" (process ")[0]


def cut(text: str, most: int = WORDS_MAX) -> str:
    """Not longer than that."""
    return text if len(text) <= most else text[: most - 1] + "…"


def key_text(key: object) -> str:
    """A key as a title; none is empty."""
    return key if isinstance(key, str) else "" if key is None else show_json(key)


# --- how many ---


def throughput(operations: Iterable[Operation], end: float) -> Throughput:
    """Counts over stretches of equal length, of which there are not too many."""
    step = next((step for step in STEPS_S if end / step <= BUCKETS_MAX), end / BUCKETS_MAX)
    counts = {kind: [0] * max(1, math.ceil(end / step - 1e-9)) for kind in OUTCOMES}
    for one in operations:
        counts[one.outcome][max(0, min(int(one.ended / NS_PER_S / step), len(counts["ok"]) - 1))] += 1
    return Throughput(step, *([round(count / step, 3) for count in counts[kind]] for kind in OUTCOMES))


# --- queues ---


def depth(workload: str, operations: Iterable[Operation], end: float) -> Depth | None:
    """None where there was nothing to be queued."""
    steps = sorted(
        (one.ended, 1 if one.f == "enqueue" else -1)
        for one in operations
        if one.outcome == "ok" and (one.f == "enqueue" or (one.f == "dequeue" and one.result is not None))
    )
    if not any(step > 0 for _, step in steps):
        return None
    times, depths, now = [0.0], [0], 0
    for at, step in steps:
        now += step
        times.append(min(at / NS_PER_S, end))
        depths.append(now)
    most = max(depths)
    words = f"{workload}: at most {most} at {times[depths.index(most)]:.2f} s, {now} in the end."
    chosen = _extremes(depths)
    return Depth(workload, [round(times[place], 4) for place in chosen], [depths[place] for place in chosen], words)


def _extremes(numbers: Sequence[int]) -> list[int]:
    """Places of numbers that have the same outline: of each stretch the first, the least, the greatest and the last."""
    if len(numbers) <= DEPTHS_MAX:
        return list(range(len(numbers)))
    size = math.ceil(4 * len(numbers) / DEPTHS_MAX)
    chosen: list[int] = []
    for first in range(0, len(numbers), size):
        places = range(first, min(first + size, len(numbers)))
        few = {places[0], min(places, key=numbers.__getitem__), max(places, key=numbers.__getitem__), places[-1]}
        chosen += sorted(few)
    return chosen


# --- locks ---


def locks(operations: Sequence[Operation], end: float, first: object = None) -> tuple[list[Lock], int]:
    """Who held the locks that were held most often, and how many there were in all.

    `first` is among them in any case. Where two were taken at once, under one key, each of them was held.
    """
    ends: dict[tuple[str, str], Operation] = {}
    for one in operations:
        if one.f == "release":
            token = key_text(one.key), show_json(one.argument)
            if token not in ends or one.ended < ends[token].ended:
                ends[token] = one
    held: dict[str, list[Hold]] = {}
    for one in operations:
        if one.f == "acquire" and one.outcome == "ok":
            hold = _hold(one, ends.get((key_text(one.key), show_json(one.result))), end)
            for name in (key_text(one.key) or "the lock").split(" and "):
                held.setdefault(name, []).append(hold)
    busiest = sorted(held, key=lambda name: (name != first, -len(held[name]), name))[:LOCKS_MAX]
    shown = [_lock(name, held[name]) for name in sorted(busiest, key=lambda name: held[name][0].start)]
    return shown, len(held)


def _hold(grant: Operation, release: Operation | None, end: float) -> Hold:
    start = grant.ended / NS_PER_S
    stop = end if release is None else release.ended / NS_PER_S
    lapsed = release is not None and is_lapse(release.process)
    how = "not seen to be released" if release is None else "its lease may have ended" if lapsed else "released"
    token = "" if grant.result is None else f", token {cut(show_json(grant.result), 20)}"
    words = f"process {grant.process}{token}: {start:.3f} to {stop:.3f} s, {how} (event {grant.invoked})"
    return Hold(round(start, 4), round(max(start, min(stop, end)), 4), "lapsed" if lapsed else "held", words)


def _lock(name: str, holds: list[Hold]) -> Lock:
    holds.sort(key=lambda hold: hold.start)
    lapsed = sum(hold.what == "lapsed" for hold in holds)
    words = f"{name}: held {_times(len(holds))} from {holds[0].start:.2f} to {max(hold.end for hold in holds):.2f} s"
    words += f", {_times(lapsed)} until the lease may have ended." if lapsed else "."
    return Lock(cut(name, 24), len(holds), holds[:HOLDS_MAX], words)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
