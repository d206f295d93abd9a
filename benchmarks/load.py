"""Closed-loop clients of the cluster: sessions in the benchmark's own process, driven as those of any workload are."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measures import Sample, sample
from testbed import Cluster
from testbed.base.codec import Codec
from testbed.client import Ask, ClientEvent, Operation, Outcome, Session, Told
from testbed.core.services.commands import Put, value

KEYS = 100
OPERATION_TIMEOUT_S = 20.0
FINISH_S_MAX = 120.0


Answer = tuple[Any, float]  # what an operation came to, and when its client was told, in the seconds of `now`
Cycle = Generator[Operation, Answer, None]  # what a client does over and over: operations, each after the last's answer
Work = Callable[[int], Cycle]  # from the cycle's number, that counts from 0 for all clients together


@dataclass
class Tally:
    """What all clients of one measurement share. `wanted`: cycles, all clients together."""

    wanted: int
    begun: int = 0
    latencies: list[float] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float = 0.0
    failures: int = 0


class ClosedLoop:
    """A client program: opens its session with a first put; once told to go, works until the tally has enough."""

    def __init__(self, session: Session, tally: Tally, work: Work, notify: Callable[[], None]) -> None:
        self._session = session
        self._tally = tally
        self._work = work
        self._notify = notify
        self._cycle: Cycle | None = None
        self._begun_at = 0.0
        self.is_ready = False
        self.is_done = False

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; the requests to send."""
        if isinstance(event, Told):
            return self._next_cycle(now)
        session = self._session
        asks = session.step(event, now)
        if session.busy:
            return asks
        if session.outcome is None:
            return session.begin(Put("k", value("")), now, OPERATION_TIMEOUT_S)
        return asks + self._completed(session.outcome, now)

    def _completed(self, outcome: Outcome, now: float) -> list[Ask]:
        if not self.is_ready:
            self.is_ready = True
            self._notify()
        if self._cycle is None:
            return []
        if outcome.type != "ok":
            self._tally.failures += 1
            return self._next_cycle(now)
        try:
            operation = self._cycle.send((outcome.value, now))
        except StopIteration:
            self._tally.latencies.append(now - self._begun_at)
            return self._next_cycle(now)
        return self._session.begin(operation, now, OPERATION_TIMEOUT_S)

    def _next_cycle(self, now: float) -> list[Ask]:
        tally = self._tally
        if tally.begun >= tally.wanted:
            self._cycle, self.is_done, tally.ended_at = None, True, now
            self._notify()
            return []
        if not tally.begun:
            tally.started_at = now
        self._cycle, self._begun_at = self._work(tally.begun), now
        tally.begun += 1
        return self._session.begin(next(self._cycle), now, OPERATION_TIMEOUT_S)

    @property
    def deadline(self) -> float | None:
        """The session's."""
        return self._session.deadline

    @property
    def finished(self) -> bool:
        """All is done."""
        return self.is_done


def puts(value_bytes: int) -> Work:
    """One put a cycle."""
    body = value("v" * value_bytes)

    def put(number: int) -> Cycle:
        yield Put(f"k{number % KEYS}", body)

    return put


def measure(cluster: Cluster, clients: int, cycles: int, work: Work) -> Sample:
    """That many cycles by that many closed-loop clients. The sessions are opened before the clock starts."""
    world, tally, codec = cluster.world, Tally(cycles), Codec()
    attempt = cluster.settings.election_timeout / 2
    programs = [ClosedLoop(Session(cluster.nodes, attempt, codec), tally, work, world.notify) for _ in range(clients)]
    for program in programs:
        world.run_client(program)
    cluster.wait_for(lambda: all(program.is_ready for program in programs), "all sessions")
    for program in programs:
        world.tell_client(program, None)
    cluster.wait_for(lambda: all(program.is_done for program in programs), "all cycles", FINISH_S_MAX)
    if tally.failures:
        raise RuntimeError(f"{tally.failures} operations were not acknowledged, without any fault")
    return sample(tally.latencies, tally.ended_at - tally.started_at)
