"""One client of a workload as a client program: paces its generator, drives a session, records what it saw.

Stamps are taken from the time that the world gives: before an operation is sent, and after its answer arrived.
"""

import traceback
from collections.abc import Mapping
from typing import Any

from chaos.history import NS_PER_S, Recorder
from chaos.workloads.api import Client, Op, Outcome
from chaos.workloads.recent import Recent
from testbed.base.codec import is_plain
from testbed.base.rand import Random
from testbed.client import Ask, ClientEvent, Session, Started, Told, patience

REPEATS_MAX = 3  # of an idempotent operation whose outcome is unknown


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

    Tell it a generator then, and it does what that yields, at no pace but its own.

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
        leases: Mapping[str, str] | None = None,
        recent: Recent | None = None,
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
        self._leases = leases or {}
        self._recent = recent
        self._op: Op | None = None
        self._next: Op | None = None
        self._next_at = 0.0
        self._last_ns = 0
        self._stopping = False
        self._ended = False
        self._draining = False
        self.invocation = (process, 0)  # the last one: under which number, and its stamp in the history
        self.broken: str | None = None  # the assertion of the workload that failed, which ended this client
        self.counts = {"ok": 0, "fail": 0, "info": 0}

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; the requests to send."""
        if isinstance(event, Told):
            self._told(event.what, now)
            return []
        if isinstance(event, Started):
            self._next_at = now + self._random.uniform(0.0, self._interval)
            self._next = self._advance(None, now)
            return []
        asks = self._session.step(event, now)
        if self._op is not None and self._session.outcome is not None:
            asks += self._conclude(self._op, self._session.outcome, now)
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

    @property
    def drained(self) -> bool:
        """It was told what to do last, and that is done; or it failed before."""
        return self.broken is not None or (self._draining and self.finished)

    def _told(self, what: Client | None, now: float) -> None:
        self._draining = what is not None
        if what is None:
            self._stopping = True
        elif self.broken is None:
            self._client = what
            self._stopping = self._ended = False
            self._interval, self._next_at, self._allowance = 0.0, now, Allowance(None)
            self._next = self._advance(None, now)

    def _invoke(self, op: Op, now: float) -> list[Ask]:
        self._op, self._next, self._repeats = op, None, 0
        self._next_at = max(self._next_at + self._interval * self._random.uniform(0.5, 1.5), now)
        self._record("invoke", op, op.value, None, now)
        self.invocation = (self._process, self._last_ns)
        return self._begin(op, now)

    def _begin(self, op: Op, now: float) -> list[Ask]:
        try:
            operation = op.operation()
            timeout = self._timeout if op.timeout is None else op.timeout - patience(operation)
            return self._session.begin(operation, now, timeout)
        except (TypeError, ValueError) as error:  # the request cannot be put into a message
            raise WorkloadFailed(f"{op.f}: {error}") from error

    def _conclude(self, op: Op, outcome: Outcome, now: float) -> list[Ask]:
        """Of an operation that was asked for again, a refusal says nothing about the first time."""
        if outcome.type == "info" and op.idempotent and self._repeats < REPEATS_MAX:
            self._repeats += 1
            return self._begin(op, now)
        if outcome.type == "fail" and self._repeats:
            outcome = Outcome("info", error=outcome.error)
        self._complete(op, outcome, now)
        return []

    def _complete(self, op: Op, outcome: Outcome, now: float) -> None:
        self._op = None
        self.counts[outcome.type] += 1
        if self._recent is not None:
            ended = now - self._origin
            self._recent.note(ended, outcome.type, ended - self.invocation[1] / NS_PER_S)
        result = op.value
        if outcome.type == "ok" and outcome.value is not None:
            result = outcome.value if op.shows is None else op.shows(outcome.value)
        self._note_lease(op, outcome.until, result)
        self._record(outcome.type, op, result, outcome.error, now)
        if outcome.type == "info":
            self._process += self._processes
        self._next = self._advance(outcome, now)

    def _note_lease(self, op: Op, until: float | None, result: Any) -> None:
        """A lease may end by itself. One that nobody knows to have been given needs no end: it may not have been."""
        if op.f in self._leases and until is not None:
            ends = max(round((until - self._origin) * NS_PER_S), self.invocation[1])
            self._recorder.lapse(ends, self._leases[op.f], op.key, result)

    def _record(self, kind: Any, op: Op, value: Any, error: str | None, now: float) -> None:
        """A process's stamps rise, so that its next invocation is not taken to overlap its last operation."""
        self._last_ns = max(round((now - self._origin) * NS_PER_S), self._last_ns + 1)
        self._recorder.add(self._last_ns, self._process, kind, op.f, op.key, value, error)

    def _advance(self, outcome: Outcome | None, now: float) -> Op | None:
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
        self._next_at = max(self._next_at, now + op.after)
        return op


def _described(error: AssertionError, client: int) -> str:
    """What failed, and where; an assertion without a message is told by its source line."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    return f"client {client}, {place}: {str(error) or where.line or 'AssertionError'}"
