"""Campaigns: many seeds of one scenario, in several processes, and what they add up to.

Every n-th seed is run twice, in two processes that hash strings differently: a simulation that is not a function of
its seed is a bug of the testbed, and the first event in which the two runs differ says where to look.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

import msgspec

from chaos.invariants import SOMETIMES
from chaos.seeds import Answer, Question
from chaos.simulation import Simulated
from testbed.base.errors import UsageError
from testbed.cluster import stopwatch

CHECK_EVERY: Final = 10  # the determinism check costs so much less than the runs themselves
OPERATIONS: Final = ("operation ok", "operation fail", "operation info", "precondition failed")


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
        """What no seed has reached: nothing was tested there."""
        return [name for name in (*SOMETIMES, *OPERATIONS) if not self.sometimes[name]]

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


class Worker:
    """A process that simulates seeds. `number` decides how it hashes strings."""

    def __init__(self, number: int) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": str(number)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.seeds"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C on the terminal is for the campaign to decide about
        )

    def ask(self, question: Question) -> Answer:
        """Simulate one seed. UsageError for what its caller got wrong; RuntimeError if the process ended over it."""
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
            raise RuntimeError(f"the process that simulated seed {question.seed} ended: exit code {process.wait()}")
        found = msgspec.json.decode(line, type=Answer)
        if found.mistake is not None:
            raise UsageError(*found.mistake)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Lane:
    """One seed at a time, now and then by two workers."""

    def __init__(self, number: int, stack: ExitStack) -> None:
        self._stack = stack
        self._number = number
        self._worker = stack.enter_context(closing(Worker(2 * number + 1)))
        self._checker: Worker | None = None

    def run(self, question: Question, checked: bool) -> tuple[Simulated, Diverged | None]:
        """What came of the seed, and how its second run differed, if it did."""
        result = self._worker.ask(question).result
        assert result is not None
        if not checked:
            return result, None
        if self._checker is None:
            self._checker = self._stack.enter_context(closing(Worker(2 * self._number + 2)))
        again = self._checker.ask(question).result
        assert again is not None
        return result, None if again.digest == result.digest else self._where(question)

    def _where(self, question: Question) -> Diverged:
        assert self._checker is not None
        traced = msgspec.structs.replace(question, traced=True)
        first, second = (worker.ask(traced).trace or [] for worker in (self._worker, self._checker))
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

    Unless it is to `keep_going`, the first failure ends it; seeds under way by then do not count.
    """
    tally = Tally()
    passed = stopwatch()
    with _lanes(jobs) as lanes:
        for result, diverged, checked in _results(question, seeds, lanes, check_every):
            tally.add(result)
            tally.checked += checked
            if diverged is not None:
                tally.diverged.append(diverged)
            tally.seconds = passed()
            progress(tally)
            if not keep_going and (tally.failures or tally.diverged):
                break
    tally.failures.sort(key=lambda result: result.seed)
    return tally


@contextmanager
def _lanes(jobs: int) -> Iterator[list[Lane]]:
    with ExitStack() as stack:
        yield [Lane(number, stack) for number in range(jobs)]


def _results(
    question: Question, seeds: range, lanes: list[Lane], check_every: int
) -> Iterator[tuple[Simulated, Diverged | None, bool]]:
    """In the order in which they are done."""
    waiting = iter(seeds)
    with ThreadPoolExecutor(len(lanes)) as pool:
        running: dict[Future[tuple[Simulated, Diverged | None]], tuple[Lane, bool]] = {}

        def next_on(lane: Lane) -> None:
            seed = next(waiting, None)
            if seed is not None:
                checked = check_every > 0 and (seed - seeds.start) % check_every == 0
                future = pool.submit(lane.run, msgspec.structs.replace(question, seed=seed), checked)
                running[future] = (lane, checked)

        for lane in lanes:
            next_on(lane)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                lane, checked = running.pop(future)
                result, diverged = future.result()
                next_on(lane)
                yield result, diverged, checked
