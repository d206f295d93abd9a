"""One client of a workload as a client program: paces its generator, drives a session, records what it saw.

Stamps are taken from the time that the world gives: before an operation is sent, and after its answer arrived.
"""

import traceback
from typing import Any

from chaos.history import NS_PER_S, Recorder
from chaos.workloads.api import Client, Op, Outcome
from testbed.base.codec import is_plain
from testbed.base.rand import Random
from testbed.client import Ask, ClientEvent, Session, Started, Told


class WorkloadFailed(Exception):
    """A workload's own code raised something other than an AssertionError."""


class Allowance:
    """How many operations the clients of a workload may start, all together; None: as many as they like."""

    def __init__(self, operations: int | None) -> None:
        self._left = operations

    def take(self) -> bool:
        """One more; False if that is one too many."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


class WorkloadClient:
    """See `testbed.client.ClientProgram`. Tell it `None` to stop: it finishes its operation and starts no other.

    `interval`: seconds between the starts of two operations, drawn from 0.5 to 1.5 times it; a client that is late
    does not hurry to catch up. `processes`: how many clients the run has; after an operation of unknown outcome the
    client goes on under its number plus that. `origin`: the instant that stamps count from, in the seconds of `now`.
    """

    def __init__(
        self,
        client: Client,
        session: Session,
        recorder: Recorder,
        *,
        process: int,
        processes: int,
        interval: float,
        timeout: float,
        random: Random,
        origin: float,
        allowance: Allowance | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._recorder = recorder
        self._process = process
        self._processes = processes
        self._interval = interval
        self._timeout = timeout
        self._random = random
        self._origin = origin
        self._allowance = allowance or Allowance(None)
        self._op: Op | None = None
        self._next: Op | None = None
        self._next_at = 0.0
        self._last_ns = 0
        self._stopping = False
        self._ended = False
        self.broken: str | None = None  # the assertion of the workload that failed, which ended this client
        self.counts = {"ok": 0, "fail": 0, "info": 0}

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; the requests to send."""
        if isinstance(event, Told):
            self._stopping = True
            return []
        if isinstance(event, Started):
            self._next_at = now + self._random.uniform(0.0, self._interval)
            self._next = self._advance(None)
            return []
        asks = self._session.step(event, now)
        if self._op is not None and self._session.outcome is not None:
            self._complete(self._op, self._session.outcome, now)
        if self._op is None and self._next is not None and now >= self._next_at and not self._stopping:
            if self._allowance.take():
                asks += self._invoke(self._next, now)
            else:
                self._ended = True
        return asks

    @property
    def deadline(self) -> float | None:
        """When the session or the pace wants it woken."""
        if self._op is not None:
            return self._session.deadline
        return None if self.finished else self._next_at

    @property
    def finished(self) -> bool:
        """Nothing is under way, and nothing more will be."""
        return self._op is None and (self._stopping or self._ended)

    def _invoke(self, op: Op, now: float) -> list[Ask]:
        self._op, self._next = op, None
        self._next_at = max(self._next_at + self._interval * self._random.uniform(0.5, 1.5), now)
        self._record("invoke", op, op.value, None, now)
        try:
            return self._session.begin(op.operation(), now, self._timeout)
        except (TypeError, ValueError) as error:  # the request cannot be put into a message
            raise WorkloadFailed(f"{op.f}: {error}") from error

    def _complete(self, op: Op, outcome: Outcome, now: float) -> None:
        self._op = None
        self.counts[outcome.type] += 1
        result = outcome.value if outcome.type == "ok" and outcome.value is not None else op.value
        self._record(outcome.type, op, result, outcome.error, now)
        if outcome.type == "info":
            self._process += self._processes
        self._next = self._advance(outcome)

    def _record(self, kind: Any, op: Op, value: Any, error: str | None, now: float) -> None:
        """A process's stamps rise, so that its next invocation is not taken to overlap its last operation."""
        self._last_ns = max(round((now - self._origin) * NS_PER_S), self._last_ns + 1)
        self._recorder.add(self._last_ns, self._process, kind, op.f, op.key, value, error)

    def _advance(self, outcome: Outcome | None) -> Op | None:
        try:
            op = next(self._client) if outcome is None else self._client.send(outcome)
        except StopIteration:
            self._ended = True
            return None
        except AssertionError as error:  # not a mistake of the workload, but what it found out about the cluster
            self._ended = True
            self.broken = _described(error, self._process % self._processes)
            return None
        except (Exception, SystemExit) as error:
            raise WorkloadFailed(f"{type(error).__name__}: {error}") from error
        if not isinstance(op, Op):
            raise WorkloadFailed(f"a client yielded {op!r}, which is no Op")
        if not is_plain([op.f, op.key, op.value]):
            raise WorkloadFailed(f"a client yielded {op!r}, and a history holds only what JSON can")
        return op


def _described(error: AssertionError, client: int) -> str:
    """What failed, and where; an assertion without a message is told by its source line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    return f"client {client}, {place}: {str(error) or where.line or 'AssertionError'}"
