"""Closed-loop clients of the cluster: sessions in the benchmark's own process, driven as those of any workload are."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.measures import Sample, sample
from testbed import Cluster
from testbed.base.codec import Codec
from testbed.client import Ask, ClientEvent, Session, Told
from testbed.core.services.commands import Put, value

KEYS = 100
OPERATION_TIMEOUT_S = 20.0
FINISH_S_MAX = 120.0


@dataclass
class Tally:
    """What all clients of one measurement share. `wanted`: puts still to be begun."""

    wanted: int
    begun: int = 0
    latencies: list[float] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float = 0.0
    failures: int = 0


class ClosedLoop:
    """A client program: opens its session with a first put; once told to go, puts until the tally has enough."""

    def __init__(self, session: Session, tally: Tally, body: str, notify: Callable[[], None]) -> None:
        self._session = session
        self._tally = tally
        self._value = value(body)
        self._notify = notify
        self._asked_at: float | None = None
        self.is_ready = False
        self.is_done = False

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; the requests to send."""
        if isinstance(event, Told):
            return self._put(now)
        session = self._session
        asks = session.step(event, now)
        if session.outcome is None or session.busy:
            return asks if session.busy else self._session.begin(Put("k", self._value), now, OPERATION_TIMEOUT_S)
        return asks + self._completed(now)

    def _completed(self, now: float) -> list[Ask]:
        outcome = self._session.outcome
        assert outcome is not None
        if not self.is_ready:
            self.is_ready = True
            self._notify()
            return []
        if self._asked_at is None:
            return []
        if outcome.type == "ok":
            self._tally.latencies.append(now - self._asked_at)
        else:
            self._tally.failures += 1
        return self._put(now)

    def _put(self, now: float) -> list[Ask]:
        tally = self._tally
        if tally.begun >= tally.wanted:
            self._asked_at, self.is_done, tally.ended_at = None, True, now
            self._notify()
            return []
        if not tally.begun:
            tally.started_at = now
        self._asked_at = now
        key = f"k{tally.begun % KEYS}"
        tally.begun += 1
        return self._session.begin(Put(key, self._value), now, OPERATION_TIMEOUT_S)

    @property
    def deadline(self) -> float | None:
        """The session's."""
        return self._session.deadline

    @property
    def finished(self) -> bool:
        """All is done."""
        return self.is_done


def measure(cluster: Cluster, clients: int, puts: int, value_bytes: int) -> Sample:
    """That many puts by that many closed-loop clients. The sessions are opened before the clock starts."""
    world, tally, codec = cluster.world, Tally(puts), Codec()
    attempt = cluster.settings.election_timeout / 2
    programs = [
        ClosedLoop(Session(cluster.nodes, attempt, codec), tally, "v" * value_bytes, world.notify)
        for _ in range(clients)
    ]
    for program in programs:
        world.run_client(program)
    cluster.wait_for(lambda: all(program.is_ready for program in programs), "all sessions")
    for program in programs:
        world.tell_client(program, None)
    cluster.wait_for(lambda: all(program.is_done for program in programs), "all puts", FINISH_S_MAX)
    if tally.failures:
        raise RuntimeError(f"{tally.failures} puts were not acknowledged, without any fault")
    return sample(tally.latencies, tally.ended_at - tally.started_at)
