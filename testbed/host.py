"""One node with everything around it, sans-I/O: the user's (or built-in) `Node`, the failure detector, the timers.

A world gives it what arrived in a step, with the time; it gives back one `Outbox`. It knows no transport, no disk and
no clock. Both worlds run the same `Host`.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from testbed.base.brief import brief
from testbed.base.codec import Codec, Garbage, pack, unpack
from testbed.base.rand import Streams
from testbed.core import membership as detector
from testbed.core.membership.member import Member
from testbed.node import LogLine, Node, Outbox, Request, build_node

INCARNATION_KEY = "\0incarnation"  # the host's own keys begin with \0; a node never sees them
REPLACED_TIMERS_MAX = 64  # a timer that is set anew again and again must not pile up
HEARD_RESOLUTION = 0.1  # of a heartbeat: messages closer together than this are one sign of life, not many
LOGGED_GARBAGE_MAX = 20  # lines about bad messages per start; the counters go on


# --- what a host is told: structs, made for every message, at a sixth of what a frozen dataclass costs ---


class PeerMessage(msgspec.Struct, frozen=True, gc=False):
    """A peer sent this to the node alone."""

    sender: str
    data: bytes


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A peer published this: a heartbeat, or what its node published."""

    sender: str
    data: bytes


class ClientRequest(msgspec.Struct, frozen=True, gc=False):
    """A client asks."""

    request: Request
    data: bytes


class Connected(msgspec.Struct, frozen=True, gc=False):
    """A connection to the peer stands."""

    peer: str


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The connection to the peer closed."""

    peer: str


Input = PeerMessage | Publication | ClientRequest | Connected | Closed


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Who the node is. `heartbeat` and `election_timeout` in seconds; the node finds them in its options.

    `trace`: it notes every message that it takes and sends, and what that comes to.
    """

    id: str
    members: tuple[str, ...]
    heartbeat: float = 0.1
    election_timeout: float = 1.0
    seed: int | str = 0
    options: Mapping[str, Any] | None = None
    trace: bool = False


class Host:
    """Composes a node. `stored`: everything that an earlier process of it made durable."""

    def __init__(self, config: HostConfig, node_class: type[Node], stored: Mapping[str, bytes], now: float) -> None:
        self.config = config
        self.id = config.id
        self.peers = tuple(member for member in config.members if member != config.id)
        own = stored.get(INCARNATION_KEY)
        self.boot = (unpack(own) if own is not None else 0) + 1  # raised by every start, before anything is sent
        streams = Streams(config.seed)
        self._membership = detector.Membership(
            config.id, self.peers, detector.MembershipConfig(heartbeat=config.heartbeat), self.boot
        )
        options = {
            "heartbeat": config.heartbeat,
            "election_timeout": config.election_timeout,
            **(config.options or {}),
        }
        kept = {key: data for key, data in stored.items() if not key.startswith("\0")}
        self.node = build_node(
            node_class, config.id, self.peers, options, streams.stream("node", config.id, self.boot), kept, now
        )
        self.codec = Codec(node_class.messages, internal=(detector.Beat, detector.Accusation))
        self.node._codec = self.codec
        if config.trace:
            self.node.log.traces = []
        self._led: dict[str, Any] = {}  # the role, term and leader that the log knows
        self._heard_again_at: dict[str, float] = {}  # when a message of that peer is news to the detector
        self._timers: dict[str, float] = {}
        self._due: list[tuple[float, str]] = []
        self._out = self.node._outbox
        self._out.saves[INCARNATION_KEY] = pack(self.boot)
        self._handed_out = False
        self._empty = False  # the last step came to nothing
        self._told = False  # this step called a hook of the node
        self.counters: Counter[str] = Counter()
        self.received: Counter[str] = Counter(dict.fromkeys(self.peers, 0))
        self.incarnation = self.boot

    # --- steps ---

    def start(self, now: float) -> Outbox:
        """The first step."""
        out = self._begin(now)
        self._told = True
        self.node.log.info("starts", incarnation=self.boot)
        self.node.on_start()
        self._detect(detector.Started())
        return self._end(out)

    def step(self, inputs: Iterable[Input], now: float) -> Outbox:
        """Take what arrived since the last step, then the timers that are due by `now`."""
        out = self._begin(now)
        for given in inputs:
            self._take(given)
        self._fire(now)
        return self._end(out)

    def saved(self, now: float) -> Outbox:
        """What the last step saved is durable."""
        out = self._begin(now)
        self._told = True
        self.node.on_saved()
        return self._end(out)

    def stop(self, now: float, last: bool) -> tuple[bool, Outbox]:
        """Asked to stop: True once the node is ready to, or with `last`. Then it has said that it leaves."""
        out = self._begin(now)
        self._told = True
        ready = self.node.on_stop() or last
        if ready:
            self._detect(detector.Leaving())
        return ready, self._end(out)

    @property
    def was_idle(self) -> bool:
        """The last step told the node nothing and came to nothing: at most the failure detector heard a heartbeat."""
        return self._empty and not self._told

    @property
    def deadline(self) -> float:
        """When the next step is due even if nothing arrives, in the seconds of `now`."""
        due, beat = self._due, self._membership.next_deadline
        while due:
            at, name = due[0]
            if self._timers.get(name) == at:
                return at if at < beat else beat
            heapq.heappop(due)
        return beat

    @property
    def known(self) -> Mapping[str, Member]:
        """What the failure detector remembers of each peer; for whoever only looks."""
        return self._membership.members

    def status(self) -> dict[str, Any]:
        """What `status` shows of this node, beside what the world knows."""
        shown = self.node.on_status()
        return {
            **_leadership(shown),
            "incarnation": self.incarnation,
            "views": self._membership.view(),
            "received": dict(self.received),
            "counters": dict(self.counters),
            "extra": shown,
        }

    # --- inside a step ---

    def _begin(self, now: float) -> Outbox:
        self.node.now = now
        self._told = False
        if self._handed_out:
            if self._empty:  # nobody has a use for it: most steps want nothing
                self._out.timers.clear()
            else:
                self._out = Outbox()
                self.node._outbox = self._out
        return self._out

    def _end(self, out: Outbox) -> Outbox:
        node = self.node
        node.on_step()
        if out.report:
            self._note_role(_leadership(node.on_status()))
        if node.log.lines:
            out.log.extend(node.log.lines)
            node.log.lines = []
        if node.log.traces:
            out.traces.extend(node.log.traces)
            node.log.traces = []
        if out.timers:
            self._set_timers(out.timers)
        self._handed_out = True
        self._empty = out.is_empty and not out.traces
        return out

    def _set_timers(self, timers: Mapping[str, float | None]) -> None:
        for name, at in timers.items():
            if at is None:
                self._timers.pop(name, None)
            else:
                self._timers[name] = at
                heapq.heappush(self._due, (at, name))
        if len(self._due) > 2 * len(self._timers) + REPLACED_TIMERS_MAX:
            self._due = sorted((at, name) for name, at in self._timers.items())

    def _take(self, given: Input) -> None:
        match given:
            case PeerMessage():
                self._peer_sent(given.sender, given.data, published=False)
            case Publication():
                self._peer_sent(given.sender, given.data, published=True)
            case ClientRequest():
                if given.request.delivered:  # of two copies one could be refused and the other take effect
                    self.counters["repeated"] += 1
                    return
                given.request.delivered = True
                try:
                    body = self.codec.decode(given.data)
                    if isinstance(body, (detector.Beat, detector.Accusation)):
                        raise Garbage("a message of nodes among themselves")
                except Garbage as error:
                    self._garbage("a client", error)
                    self.node.refuse(given.request, f"not a message: {error}")
                    return
                self._told = True
                if self.node.log.traces is not None:
                    self.node.log.trace("received", request=given.request.number, what=brief(body))
                self.node.on_request(given.request, body)
            case Connected():
                self._told = True
                self.node.on_connected(given.peer)
            case Closed():
                self._detect(detector.ConnectionClosed(given.peer))
                self._told = True
                self.node.on_closed(given.peer)

    def _peer_sent(self, sender: str, data: bytes, published: bool) -> None:
        try:
            message = self.codec.decode(data)
        except Garbage as error:
            self._garbage(sender, error)
            return
        self.received[sender] += 1
        match message:
            case detector.Beat() if published:
                self._detect(detector.BeatReceived(sender, message))
            case detector.Accusation() if not published:
                self._detect(detector.AccusationReceived(sender, message))
            case detector.Beat() | detector.Accusation():
                self._garbage(sender, Garbage(f"{type(message).__name__} where it does not belong"))
            case _:
                if not published:  # publications queue up where nobody reads: old ones are no sign of present life
                    self._sign_of_life(sender)
                self._told = True
                if self.node.log.traces is not None:
                    self.node.log.trace("heard", sender=sender, what=brief(message))
                self.node.on_message(sender, message)

    def _sign_of_life(self, sender: str) -> None:
        now = self.node.now
        if now >= self._heard_again_at.get(sender, now):
            self._heard_again_at[sender] = now + HEARD_RESOLUTION * self.config.heartbeat
            self._detect(detector.Heard(sender))

    def _garbage(self, sender: str, error: Garbage) -> None:
        self.counters["garbage"] += 1
        if self.counters["garbage"] <= LOGGED_GARBAGE_MAX:
            self.node.log.warning("drops a message that cannot be read", sender=sender, error=str(error))

    def _fire(self, now: float) -> None:
        """Timers that were set before this step; one that is set anew meanwhile waits for the next."""
        if self._membership.next_deadline <= now:
            self._detect(detector.Tick())
        if not self._due or self._due[0][0] > now:
            return
        due = []
        while self._due and self._due[0][0] <= now:
            at, name = heapq.heappop(self._due)
            if self._timers.get(name) == at:
                due.append((at, name))
        for at, name in due:
            if name not in self._out.timers and self._timers.get(name) == at:  # not replaced meanwhile
                del self._timers[name]
                self._told = True
                self.node.on_timer(name)

    def _detect(self, event: detector.Event) -> None:
        for effect in self._membership.step(event, self.node.now):
            match effect:
                case detector.Publish():
                    self._publish_beat(effect.beat)
                case detector.Tell():
                    self._out.sends.append((effect.to, self.codec.encode(effect.accusation)))
                case detector.SaveIncarnation():
                    self.incarnation = effect.incarnation
                    self._out.saves[INCARNATION_KEY] = pack(effect.incarnation)
                    self._out.report = True
                case detector.Changed():
                    self._out.report = True
                    self._told = True
                    self.node.on_membership(effect.peer, effect.state)
                case detector.Log():
                    self.node.log.lines.append(LogLine(effect.level.upper(), effect.text, effect.fields))

    def _publish_beat(self, beat: detector.Beat) -> None:
        leadership = _leadership(self.node.on_status())
        self._note_role(leadership)
        self._out.beats.append(self.codec.encode(msgspec.structs.replace(beat, **leadership)))

    def _note_role(self, leadership: dict[str, Any]) -> None:
        """In the log, whenever it is another than before; of users' nodes, as soon as a heartbeat tells it."""
        if leadership != self._led:
            self._led = leadership
            if any(leadership.values()):
                self.node.log.info("role", **leadership)


def _leadership(shown: Any) -> dict[str, Any]:
    """Role, term and leader out of what a node's `on_status` answered; None for what is not there, or is no such."""
    known = shown if isinstance(shown, dict) else {}
    found = {name: known.get(name) for name in ("role", "term", "leader")}
    for name, kind in (("role", str), ("term", int), ("leader", str)):
        if type(found[name]) is not kind:
            found[name] = None
    return found
