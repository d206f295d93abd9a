"""The Node API: what a node is told, and what it may ask for. Users subclass `Node`; the built-in node does too.

A node is a state machine: between two hooks nothing happens. It never reads a clock, rolls dice of its own, or touches
a socket or a file; what it asks for is collected in an `Outbox` and carried out by the world after the step - saves
first, in one durable transaction, then everything that is sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from testbed.base.brief import brief
from testbed.base.codec import Codec, pack, unpack
from testbed.base.rand import Random

MembershipState = Literal["alive", "suspect", "failed"]


class Request:
    """A client's request, to be answered once, in this step or a later one. Answering twice does nothing."""

    __slots__ = ("answered", "delivered", "number", "origin")

    def __init__(self, origin: Any, number: int) -> None:
        self.origin = origin
        self.number = number
        self.answered = False
        self.delivered = False


class LogLine(msgspec.Struct, frozen=True):
    """One line for the node's log."""

    level: str
    text: str
    fields: dict[str, Any]


def log_entry(head: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    """A line of a log file, as JSON: `head`, then the line's own fields; one that is called as something in `head` gets
    a `_`. What JSON cannot hold (such as a dict whose keys are tuples) is shown as Python shows it."""
    entry = dict(head)
    for name, value in fields.items():
        entry[f"{name}_" if name in entry else name] = value
    try:
        return _as_json(entry)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _as_json(
            {name: value if isinstance(value, str | float) else repr(value) for name, value in entry.items()}
        )


_as_json = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(slots=True)
class Outbox:
    """What a node asked for in one step. Saves hold bytes, or None for a deletion; the last one of a key counts."""

    saves: dict[str, bytes | None] = field(default_factory=dict)
    early: list[tuple[str, bytes]] = field(default_factory=list)  # may leave before the saves are durable
    sends: list[tuple[str, bytes]] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    beats: list[bytes] = field(default_factory=list)  # the host's heartbeats
    replies: list[tuple[Request, bool, bytes]] = field(default_factory=list)
    timers: dict[str, float | None] = field(default_factory=dict)
    report: bool = False  # what `status` shows has changed
    log: list[LogLine] = field(default_factory=list)
    traces: list[LogLine] = field(default_factory=list)  # of a traced node: what it took and what that came to ...
    leaving: list[LogLine] = field(default_factory=list)  # ... and what it sends once all is saved

    @property
    def is_empty(self) -> bool:
        """There is nothing to carry out (timers are the host's own business; traces are nobody's)."""
        return not (
            self.saves
            or self.sends
            or self.early
            or self.replies
            or self.beats
            or self.published
            or self.report
            or self.log
        )


class Log:
    """The node's log: `self.log.info("elected", term=3)`, or `self.log.info("took {} ms", 7)`.

    Lines carry the world's time, virtual or real.
    """

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.traces: list[LogLine] | None = None  # None: nobody wants them

    def trace(self, text: str, **fields: Any) -> None:
        """A step of the work itself. Costs nothing unless the cluster is traced, and is kept in a file of its own."""
        if self.traces is not None:
            self.traces.append(LogLine("TRACE", text, fields))

    def debug(self, text: str, *values: Any, **fields: Any) -> None:
        """For whoever looks closely."""
        self.lines.append(LogLine("DEBUG", _filled(text, values), fields))

    def info(self, text: str, *values: Any, **fields: Any) -> None:
        """Something happened."""
        self.lines.append(LogLine("INFO", _filled(text, values), fields))

    def warning(self, text: str, *values: Any, **fields: Any) -> None:
        """Something is not as it should be."""
        self.lines.append(LogLine("WARNING", _filled(text, values), fields))

    def error(self, text: str, *values: Any, **fields: Any) -> None:
        """Something failed."""
        self.lines.append(LogLine("ERROR", _filled(text, values), fields))


def _filled(text: str, values: tuple[Any, ...]) -> str:
    """As loguru does: braces are filled only where there are values."""
    return text.format(*values) if values else text


class Node:
    """Subclass this and override hooks. No `super().__init__()` is needed.

    Messages and bodies are what JSON can hold, or msgspec structs declared in `messages`.
    """

    messages: tuple[type, ...] = ()

    id: str
    peers: tuple[str, ...]  # the other nodes' ids, in order
    options: Mapping[str, Any]  # [cluster.options] of the scenario
    now: float  # seconds, monotonic; the same during one step
    random: Random  # seeded
    log: Log

    # --- hooks ---

    def on_start(self) -> None:
        """The node runs: what was saved can be loaded."""

    def on_message(self, sender: str, message: Any) -> None:
        """A peer sent or published `message`."""

    def on_request(self, request: Request, body: Any) -> None:  # noqa: ARG002  # a hook's default
        """A client asks. Answer with `self.reply` or `self.refuse`, now or later."""
        self.refuse(request, f"{type(self).__name__} answers no requests")

    def on_timer(self, name: str) -> None:
        """A timer that was set is due."""

    def on_membership(self, peer: str, state: MembershipState) -> None:
        """The failure detector changed its mind about `peer`, or saw it restart (alive again)."""

    def on_status(self) -> Any:
        """Whatever should show in `status`: anything JSON can hold.

        Of a dict, `role` (a str), `term` (an int) and `leader` (a node's id) have columns of their own, and travel
        with the heartbeats.
        """
        return None

    def on_connected(self, peer: str) -> None:
        """A connection to `peer` stands (again). A hint: it may be paused."""

    def on_closed(self, peer: str) -> None:
        """The connection to `peer` closed. A hint that it crashed, no proof."""

    def on_step(self) -> None:
        """All events of this step were handled: the place to send what they add up to."""

    def on_saved(self) -> None:
        """What the last step saved is durable."""

    def on_stop(self) -> bool:
        """The node is asked to stop. False asks for a little more time: it is called again, for a second at most."""
        return True

    # --- what a node can do ---

    def send(self, to: str, message: Any, *, early: bool = False) -> None:
        """Send to one peer, at most once. `early`: it may leave before what this step saves is durable."""
        if to not in self.peers:
            raise ValueError(f"{to!r} is no peer of {self.id}")
        outbox = self._outbox.early if early else self._outbox.sends
        outbox.append((to, self._codec.encode(message)))
        if self.log.traces is not None:
            traces = self.log.traces if early else self._outbox.leaving
            traces.append(LogLine("TRACE", "sent", {"to": to, "what": brief(message)}))

    def publish(self, message: Any) -> None:
        """Send to every peer that listens, at most once."""
        self._outbox.published.append(self._codec.encode(message))
        if self.log.traces is not None:
            self._outbox.leaving.append(LogLine("TRACE", "published", {"what": brief(message)}))

    def reply(self, request: Request, body: Any) -> None:
        """Answer a client's request."""
        self._answer(request, True, body)

    def refuse(self, request: Request, reason: str) -> None:
        """Tell a client that its request had no effect and never will."""
        self._answer(request, False, reason)

    def set_timer(self, name: str, after: float) -> None:
        """Call `on_timer(name)` in `after` seconds; replaces a timer of that name."""
        self._outbox.timers[name] = self.now + max(0.0, after)

    def cancel_timer(self, name: str) -> None:
        """Forget a timer, set or not."""
        self._outbox.timers[name] = None

    def save(self, key: str, value: Any) -> None:
        """Keep `value` under `key`, durable before anything that this step sends leaves."""
        if key.startswith("\0"):
            raise ValueError("keys that begin with a null character are the host's")
        data = pack(value)
        self._stored[key] = data
        self._outbox.saves[key] = data

    def load(self, key: str, default: Any = None) -> Any:
        """What was saved last under `key`."""
        data = self._stored.get(key)
        return default if data is None else unpack(data)

    def delete(self, key: str) -> None:
        """Forget `key`, saved or not."""
        if self._stored.pop(key, None) is not None:
            self._outbox.saves[key] = None

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """What is saved under keys that begin with `prefix`, in key order."""
        for key in sorted(key for key in self._stored if key.startswith(prefix)):
            yield key, unpack(self._stored[key])

    def report(self) -> None:
        """What `on_status` answers has changed: let whoever watches know soon, not at the next heartbeat."""
        self._outbox.report = True

    # --- the world's side ---

    _outbox: Outbox
    _stored: dict[str, bytes]
    _codec: Codec

    def _answer(self, request: Request, ok: bool, body: Any) -> None:
        if not request.answered:
            what = {} if self.log.traces is None else {"what": brief(body)}
            self._answer_encoded(request, self._codec.encode(body), ok, what)

    def _answer_encoded(
        self, request: Request, data: bytes, ok: bool = True, traced: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        if not request.answered:
            request.answered = True
            self._outbox.replies.append((request, ok, data))
            if self.log.traces is not None:
                fields = {"request": request.number, "ok": ok, **traced}
                self._outbox.leaving.append(LogLine("TRACE", "answered", fields))


def build_node(
    node_class: type[Node],
    node_id: str,
    peers: tuple[str, ...],
    options: Mapping[str, Any],
    random: Random,
    stored: dict[str, bytes],
    now: float,
) -> Node:
    """A node that can act from its `__init__` on, without a `super().__init__()`. `stored`: what it saved before."""
    node = node_class.__new__(node_class)
    node.id = node_id
    node.peers = peers
    node.options = options
    node.random = random
    node.now = now
    node.log = Log()
    node._outbox = Outbox()
    node._stored = stored
    node._codec = Codec(node_class.messages)
    node.__init__()  # type: ignore[misc]  # it acts through the attributes above
    return node
