"""A client's session, sans-I/O: finds the leader through any node, follows redirects, retries with one effect.

It is told what happened (`ClientEvent`) with the time, and answers with what it wants (`ClientEffect`). It knows no
socket and no clock; both worlds drive it. The rule it must never break: an operation is `fail` only if *every* attempt
of it was definitely refused; once one attempt went unanswered the outcome is the service's own answer, or `info`.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from testbed.base.codec import Codec, Garbage, Raw, pack, unpack
from testbed.base.limits import CLOCK_DRIFT_MAX, WAIT_S_MAX
from testbed.core import requests
from testbed.core.services.commands import Acquire, Command, Query, Take

ASK_AGAIN_AFTER_S = 0.02  # between attempts while nobody leads: short beside an election, long beside a round trip
ASK_AGAIN_AFTER_S_MAX = 0.05


# --- what a client program is told, and what it wants ---


class Started(msgspec.Struct, frozen=True):
    """The program is being driven from now on."""


class Answered(msgspec.Struct, frozen=True):
    """A node answered request `ask`: `ok` with the reply's bytes, or refused with the reason's."""

    ask: int
    ok: bool
    body: bytes


class NotSent(msgspec.Struct, frozen=True):
    """Request `ask` never left: no connection to its node. It definitely has no effect."""

    ask: int


class NodeClosed(msgspec.Struct, frozen=True):
    """The connection to a node closed: what was asked of it and not answered may or may not take effect."""

    node: str


class Woken(msgspec.Struct, frozen=True):
    """The program's deadline has come."""


class Told(msgspec.Struct, frozen=True):
    """Something from the program's owner, such as the next operation; only the program knows what."""

    what: Any


class Ask(msgspec.Struct, frozen=True):
    """Send `body` to `node` as request number `ask` (unique within the program)."""

    ask: int
    node: str
    body: bytes


ClientEvent = Started | Answered | NotSent | NodeClosed | Woken | Told


Sent = Callable[[Ask, int, float], None]
"""Told of each request of a program that is on its way: the number under which its node knows it, and when it left."""


class ClientProgram(Protocol):
    """A client as a state machine."""

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event at `now` (seconds, monotonic); return the requests to send."""

    @property
    def deadline(self) -> float | None:
        """When it wants to be `Woken`, in the seconds of `now`; None if not at all."""

    @property
    def finished(self) -> bool:
        """True once it wants nothing more, ever."""


# --- one session ---


class Outcome(msgspec.Struct, frozen=True):
    """What became of an operation: `ok` with a value, `fail` (it definitely did not happen) or `info` (unknown).

    `until`, where a lease was given: the instant, in the seconds of `now`, before which nobody else can be given it.
    """

    type: Literal["ok", "fail", "info"]
    value: Any = None
    error: str | None = None
    until: float | None = None


class PlainRequest(msgspec.Struct, frozen=True):
    """A request to a user's node: `to` one node, or to any that can be reached. Never retried once it left."""

    body: Any
    to: str | None = None


Operation = Command | Query | PlainRequest


def patience(operation: Operation) -> float:
    """Seconds that an operation may rightly wait for in the log; 0 for a wait that makes no sense and is refused."""
    wait = operation.wait if isinstance(operation, Acquire | Take) else 0.0
    return wait if 0 <= wait <= WAIT_S_MAX else 0.0


class Session:
    """One client: one operation at a time, from `begin` until `outcome` is set.

    `nodes`: ids in order of preference at first. `attempt_timeout`: seconds after which another node is tried.
    `codec`: for the bodies of plain requests.
    """

    def __init__(self, nodes: tuple[str, ...], attempt_timeout: float, codec: Codec, first: int = 0) -> None:
        self._nodes = nodes
        self._attempt_timeout = attempt_timeout
        self._codec = codec
        self._next_node = first % len(nodes)
        self._leader: str | None = None
        self._session = 0
        self._serial = 0
        self._asks = 0
        self._avoid: dict[str, float] = {}  # until when a node is passed over, if there are others
        self._asked_at: dict[str, float] = {}
        self.outcome: Outcome | None = None
        self.deadline: float | None = None
        self._operation: Operation | None = None

    @property
    def number(self) -> int:
        """The session's number in the log; 0 if none is open."""
        return self._session

    @property
    def busy(self) -> bool:
        """An operation is under way."""
        return self._operation is not None

    def begin(self, operation: Operation, now: float, timeout: float) -> list[Ask]:
        """Start an operation that is given up at `now + timeout`, and what it is ready to wait for in the log."""
        assert self._operation is None, "one operation at a time"
        self.outcome = None
        self._operation = operation
        self._log_times: list[tuple[float, float]] = []  # for `_lease_end`: after the first of these, it was the second
        self._begun = now
        self._give_up = now + timeout + patience(operation)
        self._sent_at: dict[int, float] = {}
        self._open: dict[int, str] = {}  # requests of this operation that left and were not answered
        self._in_doubt = False  # some attempt may have taken effect
        self._opening = False
        self._reason = "no node could be reached"
        self._pause = ASK_AGAIN_AFTER_S
        self._tried = 0
        if isinstance(operation, Command):
            self._serial += 1
        return self._attempt(now)

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; when `outcome` is set afterwards, the operation is over."""
        if self._operation is None:
            return []
        match event:
            case Answered():
                return self._answered(event, now)
            case NotSent():
                node = self._open.pop(event.ask, None)
                if node is None:
                    return []  # of an earlier operation, or given up before
                if node == self._leader:
                    self._leader = None
                self._reason = "no node could be reached"
                return self._elsewhere(now) if event.ask == self._asks else []
            case NodeClosed():
                if event.node == self._leader:
                    self._leader = None
                if not self._unanswered(event.node):
                    return []
                return self._elsewhere(now, soon=True)
            case Woken():
                return self._woken(now)
            case Started() | Told():
                return []

    def _woken(self, now: float) -> list[Ask]:
        if now >= self._give_up:
            unsettled = self._in_doubt or (bool(self._open) and not self._opening)
            self._finish(Outcome("info", error="timeout") if unsettled else Outcome("fail", error=self._reason))
            return []
        if self.deadline is None or now < self.deadline:
            return []
        node = self._open.get(self._asks)
        if node is not None:  # the latest attempt took too long: a paused or cut-off node, or a message was lost
            self._avoid[node] = now + 2 * self._attempt_timeout
            self._reason = "no answer in time"
            if node == self._leader:
                self._leader = None
        if isinstance(self._operation, PlainRequest) and self._open:
            self.deadline = self._give_up
            return []
        return self._attempt(now)

    def _unanswered(self, node: str) -> bool:
        """The attempts at `node` will not be answered any more. True if there were any."""
        gone = [ask for ask, asked in self._open.items() if asked == node]
        for ask in gone:
            del self._open[ask]
        if gone and not self._opening:
            self._in_doubt = True
        return bool(gone)

    def _elsewhere(self, now: float, soon: bool = False) -> list[Ask]:
        """The last attempt came to nothing: try another node, at once for the first round, then with pauses."""
        operation = self._operation
        if isinstance(operation, PlainRequest) and (self._in_doubt or operation.to is not None):
            if self._in_doubt:
                self._finish(Outcome("info", error="connection closed"))
                return []
            self.deadline = min(now + ASK_AGAIN_AFTER_S, self._give_up)
            return []
        if soon or self._tried < len(self._nodes):
            return self._attempt(now)
        self.deadline = min(now + self._pause, self._give_up)
        self._pause = min(self._pause * 1.5, ASK_AGAIN_AFTER_S_MAX)
        return []

    def _attempt(self, now: float) -> list[Ask]:
        operation = self._operation
        assert operation is not None
        if isinstance(operation, PlainRequest):
            node = operation.to or self._rotate(now)
            body = self._codec.encode(operation.body)
        else:
            node = self._leader or self._rotate(now)
            body = self._service_body(operation)
        self._tried += 1
        self._asks += 1
        again = node in self._open.values()  # it owes an answer already: another attempt must hold nothing up
        self._open[self._asks] = node
        self._asked_at[node] = self._sent_at[self._asks] = now
        self.deadline = min(now + (self._pause if again else self._attempt_timeout), self._give_up)
        return [Ask(self._asks, node, body)]

    def _service_body(self, operation: Command | Query) -> bytes:
        if isinstance(operation, Query):
            return _CODEC.encode(requests.Query(Raw(pack(operation))))
        if not self._session:
            self._opening = True
            return _CODEC.encode(requests.OpenSession())
        self._opening = False
        return _CODEC.encode(requests.Submit(self._session, self._serial, Raw(pack(operation))))

    def _rotate(self, now: float) -> str:
        """The next node in turn, passing over those that let an attempt time out lately, if there are others."""
        for _ in self._nodes:
            node = self._nodes[self._next_node]
            self._next_node = (self._next_node + 1) % len(self._nodes)
            if self._avoid.get(node, now) <= now:
                return node
        return node

    def _answered(self, event: Answered, now: float) -> list[Ask]:
        node = self._open.pop(event.ask, None)
        if node is None:
            return []  # an answer to an earlier operation, or given up before
        if isinstance(self._operation, PlainRequest):
            try:
                body = self._codec.decode_leniently(event.body)
            except Garbage as error:
                self._finish(Outcome("info", error=str(error)))
                return []
            self._finish(Outcome("ok", body) if event.ok else Outcome("fail", error=str(body)))
            return []
        try:
            reply = _CODEC.decode(event.body)
        except Garbage as error:
            self._in_doubt = True
            self._reason = str(error)
            return self._elsewhere(now)
        if not event.ok:  # it will never be taken: the command is too large, or the node is no replicated service
            self._reason = str(reply)
            if self._in_doubt or self._open:
                return self._elsewhere(now)
            self._finish(Outcome("fail", error=self._reason))
            return []
        return self._replied(event.ask, node, reply, now)

    def _replied(self, ask: int, node: str, reply: Any, now: float) -> list[Ask]:
        latest = ask == self._asks
        match reply:
            case requests.Done():
                self._leader = node
                self._finish(_result(reply.result))
                return []
            case requests.Granted():
                self._leader = node
                self._log_times.append((self._begun, reply.asked))
                self._finish(_result(reply.result, until=self._lease_end(reply.until)))
                return []
            case requests.Waiting():
                self._leader = node
                self._in_doubt = True
                self._log_times = [(self._sent_at[ask], reply.time)]
                return self._held(node, latest, now)
            case requests.Rejected():
                self._leader = node
                self._finish(Outcome("fail", error=reply.error))
                return []
            case requests.Opened():
                self._leader = node
                if self._session:  # a second session from a retried opening: unused, it will expire
                    return []
                self._session = reply.session
                self._serial = 1
                return self._attempt(now)
            case requests.NotLeader():
                self._reason = "no leader"
                # where it is not the latest, a later attempt is on its way already
                return self._redirected(node, reply.leader, now) if latest else []
            case requests.Busy():
                self._reason = "the leader has too much in flight"
                self._tried = len(self._nodes)
                return self._elsewhere(now) if latest else []
            case requests.Lost():
                self._in_doubt = self._in_doubt or not self._opening
                self._leader = None
                return self._elsewhere(now) if latest else []
            case requests.Expired():
                return self._expired(now)
            case _:
                self._reason = f"an unexpected reply: {type(reply).__name__}"
                self._in_doubt = True
                return self._elsewhere(now)

    def _held(self, node: str, latest: bool, now: float) -> list[Ask]:
        """The leader holds the latest request it has for a while, and will answer none from before."""
        self._tried, self._pause = 0, ASK_AGAIN_AFTER_S
        self._open = {ask: asked for ask, asked in self._open.items() if asked != node or ask == self._asks}
        if latest:
            return self._attempt(now)
        if self._open.get(self._asks) == node:
            self.deadline = min(now + self._attempt_timeout, self._give_up)
        return []

    def _lease_end(self, until: float) -> float:
        """Before which instant here it cannot be log time `until`.

        Log time goes no faster than the clock here, but for their drift. A leader takes it up where the last entry
        left it, so that it may fall behind when leaders change, and never gets ahead.
        """
        return max(sent + (until - stamped) * (1 - CLOCK_DRIFT_MAX) for sent, stamped in self._log_times)

    def _redirected(self, node: str, hint: str | None, now: float) -> list[Ask]:
        """Follow a hint to the leader; one that let an attempt time out lately gets another, while the search goes on:
        it may be paused, but perhaps only a message was lost."""
        self._leader = None
        if hint is None or hint not in self._nodes or hint == node:
            return self._elsewhere(now)
        avoided = self._avoid.get(hint, now) > now
        if avoided and now - self._asked_at.get(hint, now) < self._attempt_timeout / 2:
            return self._elsewhere(now)
        self._leader = hint
        return self._elsewhere(now, soon=self._tried < 4 * len(self._nodes))

    def _expired(self, now: float) -> list[Ask]:
        """The session is gone. An attempt that may have taken effect under it cannot be repeated under another."""
        self._session = 0
        if self._in_doubt or self._open:
            self._finish(Outcome("info", error="session expired"))
            return []
        return self._attempt(now)

    def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.deadline = None
        self._operation = None
        self._open = {}


def _result(data: Raw, until: float | None = None) -> Outcome:
    """What took effect; if its result cannot be read, because another client stored what none can, it is unknown."""
    try:
        return Outcome("ok", unpack(data), until=until)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Outcome("info", error=f"a result that cannot be read: {error}")


_CODEC = Codec((*requests.REQUESTS, *requests.REPLIES))
