"""Campaigns: many seeds of one scenario, in several processes, and what they add up to.

Every n-th seed is run twice, in two processes that hash strings differently: a simulation that is not a function of
its seed is a bug of the testbed, and the first event in which the two runs differ says where to look.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from queue import SimpleQueue
from typing import Final, Self, TypeVar

import msgspec

from chaos.invariants.membership import MEMBERSHIP_SOMETIMES
from chaos.invariants.raft import RAFT_SOMETIMES
from chaos.invariants.services import LOCK_SOMETIMES, QUEUE_SOMETIMES
from chaos.seeds import Answer, Question
from chaos.simulation import Simulated
from testbed.base.errors import UsageError
from testbed.cluster import stopwatch
from testbed.ports import SIMULATED_SOMETIMES

CHECK_EVERY: Final = 10  # the determinism check costs so much less than the runs themselves
AHEAD: Final = 4  # seeds of one job that wait for a slow one before them
PARTS: Final = (RAFT_SOMETIMES, LOCK_SOMETIMES, QUEUE_SOMETIMES)  # that a scenario may do without
OPERATIONS: Final = ("operation ok", "operation fail", "operation info", "precondition failed")

T = TypeVar("T")


class Diverged(msgspec.Struct, frozen=True):
    """Two runs of one seed differ: from event number `event` on (counted from 1), in which they say this and that."""

    seed: int
    event: int
    first: str
    second: str


@dataclass
class Tally:
    """What a campaign came to so far. `seconds`: real ones."""

    done: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[Simulated] = field(default_factory=list)
    unknown: list[Simulated] = field(default_factory=list)
    diverged: list[Diverged] = field(default_factory=list)
    checked: int = 0  # seeds run twice
    sometimes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    simulated_s: float = 0.0
    seconds: float = 0.0

    @property
    def never(self) -> list[str]:
        """What no seed has reached: nothing was tested there. Of Raft, locks and queues only where there are any."""
        parts = [part for part in PARTS if any(self.sometimes[name] for name in part)]
        names = (*chain(*parts), *MEMBERSHIP_SOMETIMES, *SIMULATED_SOMETIMES, *OPERATIONS)
        return [name for name in names if not self.sometimes[name]]

    def add(self, result: Simulated) -> None:
        """One more seed."""
        self.done += 1
        self.verdicts[result.verdict] += 1
        if result.verdict == "invalid":
            self.failures.append(result)
        elif result.verdict == "unknown":
            self.unknown.append(result)
        self.sometimes.update(result.sometimes)
        self.faults.update(result.faults)
        self.events += result.events
        self.simulated_s += result.simulated_s


class WorkerEnded(RuntimeError):
    """A process that simulated a seed ended over it, or was ended by somebody."""


class Worker:
    """A process that simulates one seed after the other. `number` decides how it hashes strings.

    To be created in a thread that lives as long as it is needed: it dies with that thread.
    """

    def __init__(self, number: int) -> None:
        path = [os.path.abspath(part) for part in sys.path]
        code = f"import sys; sys.path[:] = {path!r}; from chaos.seeds import main; main({os.getpid()})"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C on the terminal is for the campaign to decide about
        )

    def ask(self, question: Question) -> Answer:
        """Simulate one seed. UsageError for what its caller got wrong; WorkerEnded if there is no answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # there will be no answer
        line = process.stdout.readline()
        if not line:
            raise WorkerEnded(f"the process that simulated seed {question.seed} ended: {_exit_of(process.wait())}")
        found = msgspec.json.decode(line, type=Answer)
        if found.mistake is not None:
            raise UsageError(*found.mistake)
        return found

    def kill(self) -> None:
        """End the process, whatever it is at; who waits for its answer is told so."""
        self._process.kill()

    def close(self) -> None:
        """Let go of a process that was killed."""
        self._process.communicate()


def _exit_of(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class Crew:
    """Workers that simulate `jobs` seeds at a time, and `checkers` that simulate some of them once more.

    Use it in a `with` statement, at the end of which no worker is left, whatever it was at.
    """

    def __init__(self, jobs: int, checkers: int = 0) -> None:
        self._all = [Worker(number) for number in range(jobs + checkers)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._idle_checkers: SimpleQueue[Worker] = SimpleQueue()
        for number, worker in enumerate(self._all):
            (self._idle if number < jobs else self._idle_checkers).put(worker)
        self._pool = ThreadPoolExecutor(max(1, jobs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:  # first, so that no thread goes on waiting for an answer
            worker.kill()
        self._pool.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()

    def submit(self, task: Callable[..., T], *arguments: object) -> Future[T]:
        """Call it, soon, with a worker that nobody else asks meanwhile, and these arguments."""
        return self._pool.submit(self._with_worker, task, *arguments)

    def _with_worker(self, task: Callable[..., T], *arguments: object) -> T:
        with _taken(self._idle) as worker:
            return task(worker, *arguments)

    def run(self, worker: Worker, question: Question, checked: bool) -> tuple[Simulated, Diverged | None]:
        """What came of the seed; if `checked`, it is run twice: where the second run differed, if it did."""
        result = worker.ask(question).result
        assert result is not None
        if not checked:
            return result, None
        with _taken(self._idle_checkers) as checker:
            again = checker.ask(question).result
            assert again is not None
            return result, None if again.digest == result.digest else _parting(question, worker, checker)


@contextmanager
def _taken(idle: "SimpleQueue[Worker]") -> Iterator[Worker]:
    worker = idle.get()
    try:
        yield worker
    finally:
        idle.put(worker)


def _parting(question: Question, worker: Worker, checker: Worker) -> Diverged:
    """Where two runs of the seed part. They are two new ones, with all their events."""
    telling = msgspec.structs.replace(question, every_event=True)
    first, second = worker.ask(telling).trace or [], checker.ask(telling).trace or []
    for number, (one, other) in enumerate(zip_longest(first, second, fillvalue="(the end)"), 1):
        if one != other:
            return Diverged(question.seed, number, one, other)
    return Diverged(question.seed, 0, "the runs differed, and did not when they were repeated", "")


def campaign(
    question: Question,
    seeds: range,
    jobs: int,
    *,
    check_every: int = CHECK_EVERY,
    keep_going: bool = True,
    progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Simulate `seeds` of the scenario in `question`, `jobs` at a time; `progress` is called after each.

    They count in their own order, so that what comes of it does not depend on how many run at a time. Unless it is to
    `keep_going`, the first one that fails ends it.
    """
    checks = seeds[::check_every] if check_every else range(0)
    jobs = min(jobs, len(seeds))
    tally = Tally()
    passed = stopwatch()
    with Crew(jobs, min(jobs, len(checks))) as crew:
        for result, diverged in _results(crew, question, seeds, checks, AHEAD * jobs):
            tally.add(result)
            tally.checked += result.seed in checks
            if diverged is not None:
                tally.diverged.append(diverged)
            tally.seconds = passed()
            progress(tally)
            if not keep_going and (tally.failures or tally.diverged):
                break
    return tally


def _results(
    crew: Crew, question: Question, seeds: range, checks: range, ahead: int
) -> Iterator[tuple[Simulated, Diverged | None]]:
    """In the order of the seeds, of which at most so many are done `ahead`; but an error is raised at once."""
    finished: SimpleQueue[Future[tuple[Simulated, Diverged | None]]] = SimpleQueue()
    early: dict[int, tuple[Simulated, Diverged | None]] = {}

    def submit(seed: int) -> None:
        future = crew.submit(crew.run, msgspec.structs.replace(question, seed=seed), seed in checks)
        future.add_done_callback(finished.put)

    for seed in seeds[:ahead]:
        submit(seed)
    for place, seed in enumerate(seeds):
        while seed not in early:
            result, diverged = finished.get().result()
            early[result.seed] = result, diverged
        yield early.pop(seed)
        if place + ahead < len(seeds):
            submit(seeds[place + ahead])
