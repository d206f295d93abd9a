"""Whether this machine keeps a scenario's timeouts: how late it is, and how much longer they would have to be.

`measure` tries it out in a quarter of a second; `decide` is pure, and knows the rule only. `scaled` makes a scenario
slower; `Lateness` goes on measuring while a run is under way. It knows no cluster: a machine that is quick enough while
nobody uses it may still be too slow for many nodes.
"""

import math
import os
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from chaos.pinned import to_toml
from chaos.scenario import FaultSpec, Scenario
from testbed.live import clock

ELECTION_TIMEOUT_BROADCASTS: Final = 10  # "an order of magnitude" above the time of a broadcast (Raft 5.6)
BROADCAST_SYNCS: Final = 2  # whom an entry reaches may be in the middle of a sync, and then makes another one for it
LATE_HEARTBEATS_MAX: Final = 1  # one late to send, one late to hear: three without a word, and five are suspicious
FACTOR_STEP: Final = 0.5  # factors are for people, and what was measured is not the same twice
FACTOR_MAX: Final = 20.0  # elections of half a minute: whoever needs that needs another machine

MEASURE_S: Final = 0.25
SLEEP_S: Final = 0.005
CORES_MAX: Final = 64  # threads that sleep at a time
SYNC_BYTES: Final = 4096  # a page of a node's database
SYNC_QUANTILE: Final = 0.9  # one sync that others hold up is no reason to slow everything down; one in ten is

SAMPLE_S: Final = 0.02
SAMPLES_MAX: Final = 3000  # a minute of them


class Measured(msgspec.Struct, frozen=True):
    """`late_s`: by how much the latest wake-up came too late; `fsync_s`: what nine of ten syncs do not exceed."""

    late_s: float
    fsync_s: float


class Readiness(msgspec.Struct, frozen=True):
    """What was measured, and what follows: `factor` times as long, the timeouts are such as this machine can keep.

    `warnings`, in words, say which they are; there are none if the factor is 1.
    """

    late_s: float
    fsync_s: float
    factor: float
    warnings: tuple[str, ...]


# --- what is asked of a machine ---


def assess(heartbeat: float, election_timeout: float, directory: Path) -> Readiness:
    """Measure, and decide. Timeouts in seconds; `directory` is where nodes would sync. OSError if nobody can there."""
    return decide(measure(directory), heartbeat, election_timeout)


def decide(measured: Measured, heartbeat: float, election_timeout: float) -> Readiness:
    """Which timeouts a machine that was measured so can keep.

    An election timeout is at least ten times what a broadcast takes: a wake-up that is late, and two syncs. A heartbeat
    is at least as long as a wake-up is late.
    """
    needed = election_timeout_min(measured)
    beat = measured.late_s / LATE_HEARTBEATS_MAX
    times = max(needed / election_timeout, beat / heartbeat)
    warnings = []
    if needed > election_timeout:
        slow = f"processes wake up {_ms(measured.late_s)} late, and a sync takes {_ms(measured.fsync_s)}"
        warnings.append(
            f"election_timeout: {_ms(election_timeout)} is less than the {_ms(needed)} that this machine needs: {slow}"
        )
    if beat > heartbeat:
        warnings.append(f"heartbeat: processes wake up {_ms(beat)} late, which is longer than {_ms(heartbeat)}")
    if times > FACTOR_MAX:
        warnings.append(f"not even timeouts {FACTOR_MAX:g} times as long are long enough")
    factor = 1.0 if times <= 1 else min(math.ceil(times / FACTOR_STEP) * FACTOR_STEP, FACTOR_MAX)
    return Readiness(measured.late_s, measured.fsync_s, factor, tuple(warnings))


def election_timeout_min(measured: Measured) -> float:
    """Seconds: the shortest election timeout that a machine that was measured so can keep."""
    return ELECTION_TIMEOUT_BROADCASTS * (measured.late_s + BROADCAST_SYNCS * measured.fsync_s)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


# --- what it answers ---


def measure(directory: Path) -> Measured:
    """How late threads wake up, one on each core, while a file in `directory` is being synced."""
    until = clock.now() + MEASURE_S
    late: list[float] = [0.0]
    cores = sorted(os.sched_getaffinity(0))[:CORES_MAX]
    sleepers = [threading.Thread(target=_sleep, args=(core, until, late), daemon=True) for core in cores]
    for sleeper in sleepers:
        sleeper.start()
    times = sorted(_syncs(directory, until))
    for sleeper in sleepers:
        sleeper.join()
    return Measured(late_s=max(late), fsync_s=times[math.ceil(SYNC_QUANTILE * len(times)) - 1])


def _sleep(core: int, until: float, late: list[float]) -> None:
    """Sleep on that core again and again, and note how late that ended."""
    try:
        os.sched_setaffinity(0, {core})  # of this thread alone
    except OSError:
        pass  # not allowed everywhere: then the kernel chooses the core
    while (began := clock.now()) < until:
        clock.sleep(SLEEP_S)
        late.append(clock.now() - began - SLEEP_S)


def _syncs(directory: Path, until: float) -> list[float]:
    times: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        while not times or clock.now() < until:
            file.write(b"x" * SYNC_BYTES)
            file.flush()
            began = clock.now()
            os.fsync(file.fileno())
            times.append(clock.now() - began)
            clock.sleep(SLEEP_S)
    return times


# --- a slower scenario ---


def scaled(scenario: Scenario, factor: float) -> Scenario:
    """The scenario in slow motion: its timeouts, the times of its faults and its duration are so many times as long.

    Not the timeouts alone: a pause that is to outlast the election timeout still does, and the bounds, which are
    multiples of the election timeout, still fit between the last fault and the end. Rates and leases stay as they are.
    Its `text` is its own.
    """
    if factor == 1:
        return scenario
    cluster = msgspec.structs.replace(
        scenario.cluster,
        heartbeat=_times(scenario.cluster.heartbeat, factor),
        election_timeout=_times(scenario.cluster.election_timeout, factor),
    )
    slower = msgspec.structs.replace(
        scenario,
        cluster=cluster,
        duration=_times(scenario.duration, factor),
        faults=tuple(_slower(spec, factor) for spec in scenario.faults),
    )
    comment = f"{scenario.source or scenario.name}, with all its times multiplied by {factor:g}"
    return msgspec.structs.replace(slower, text=to_toml(slower, comment))


def _slower(spec: FaultSpec, factor: float) -> FaultSpec:
    return msgspec.structs.replace(
        spec,
        at=None if spec.at is None else _times(spec.at, factor),
        every=None if spec.every is None else _times(spec.every, factor),
        lasting=_times(spec.lasting, factor),
        delay=_times(spec.delay, factor),
        jitter=_times(spec.jitter, factor),
    )


def _times(seconds: float, factor: float) -> float:
    return round(seconds * factor, 12)  # 0.15, and not 0.15000000000000002


# --- while a run is under way ---


class Lateness:
    """How late this process is woken: a thread that sleeps for 20 ms again and again, and looks at the clock.

    What holds up all threads of the process - a machine that is starved, or a long computation - shows as well. A
    wake-up that is due and has not come yet counts already.
    """

    def __init__(self) -> None:
        self._worst = 0.0
        self._woken: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)  # (when, how late)
        self._due: float | None = None  # None while nobody sleeps
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)

    def start(self) -> Self:
        """Begin. Once only."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End; what was seen stays."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def worst(self) -> float:
        """Seconds by which the latest wake-up since the start was late."""
        return max(self._worst, self._overdue(clock.now()))

    def worst_of_last(self, seconds: float) -> float:
        """The same of the last so many seconds, a minute at the most."""
        now = clock.now()
        return max([self._overdue(now), *(late for at, late in list(self._woken) if at >= now - seconds)])

    def woken(self, due: float, now: float) -> None:
        """Note a wake-up: when it was due, and when it came."""
        late = max(now - due, 0.0)
        self._worst = max(self._worst, late)
        self._woken.append((now, late))

    def _overdue(self, now: float) -> float:
        due = self._due
        return 0.0 if due is None else max(now - due, 0.0)

    def _watch(self) -> None:
        over = False
        while not over:
            self._due = due = clock.now() + SAMPLE_S
            over = self._over.wait(SAMPLE_S)
            if not over:
                self.woken(due, clock.now())
        self._due = None
