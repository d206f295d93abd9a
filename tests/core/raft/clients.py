"""Clients of the small network: each drives a `Session` with random operations and records what it saw."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from audit import LOCKS, Audit
from harness import CODEC, Handle, Network

from chaos.history import Event
from testbed.base.codec import pack
from testbed.client import Answered, Ask, ClientEvent, NodeClosed, NotSent, Operation, Outcome, Session, Woken
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.services.commands import (
    DEADLOCK,
    FULL,
    LEASE_LOST,
    NOT_GRANTED,
    PRECONDITION_FAILED,
    Ack,
    Acquire,
    Cas,
    Claim,
    Command,
    Extend,
    Get,
    Nack,
    Publish,
    Put,
    Release,
    Take,
    value,
)

ATTEMPT_TIMEOUT_S = 0.4
OPERATION_TIMEOUT_S = 2.5
KEYS = ("a", "b", "c")
LEASE_S = 0.5
WAIT_S_MAX = 1.5
DELIVERIES_MAX = 3
REFUSALS = (PRECONDITION_FAILED, LEASE_LOST, NOT_GRANTED, DEADLOCK, FULL)  # what the services say no with
JUDGED = ("read", "write", "cas")


class History:
    """What all clients saw, in real-time order, as the judges want it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, now: float, process: int, kind: Any, call: "Call", result: Any, error: str | None = None) -> None:
        self.events.append(
            Event(
                index=len(self.events),
                time=int(now * 1e9),
                process=process,
                type=kind,
                f=call.f,
                key=call.key,
                value=result,
                error=error,
            )
        )


@dataclass(frozen=True)
class Call:
    """An operation as the judges know it, and as the session does."""

    f: str
    key: str
    argument: Any
    operation: Operation


class Client:
    """One client, one operation at a time, for as long as it is `active`."""

    def __init__(self, network: Network, history: History, think_s: float) -> None:
        self.number = len(network.clients)
        network.clients.append(self)
        self._network = network
        self._history = history
        self._dice = network.streams.stream("client", self.number)
        self._delivered: set[int] = set()
        self._think_s = think_s
        self._process = self.number
        self._began = 0.0
        self._seen: dict[str, Any] = dict.fromkeys(KEYS)
        self._tokens: list[int] = []
        self._receipts: list[tuple[int, int]] = []  # each with its message
        self._count = 0
        self._call: Call | None = None
        self.active = True
        self.hurried = False  # thinks no more
        self.answered = 0
        nodes = tuple(network.nodes)
        self._session = Session(nodes, ATTEMPT_TIMEOUT_S, CODEC, first=self.number)
        network.after(self._dice.uniform(0.0, 0.5), self._begin)

    @property
    def idle(self) -> bool:
        return not self._session.busy

    # --- operations ---

    def _begin(self) -> None:
        if not self.active:
            return
        self._call = self._draw()
        self._began = self._network.now
        if self._call.f in JUDGED:
            self._history.add(self._began, self._process, "invoke", self._call, self._call.argument)
        self._carry_out(self._session.begin(self._call.operation, self._began, OPERATION_TIMEOUT_S))

    def _draw(self) -> Call:
        """Every command is unique, so that the audit can tell a repetition from another of the same kind."""
        key, kind = self._dice.choice(KEYS), self._dice.random()
        self._count += 1
        new = self.number * 1_000_000 + self._count
        if kind < 0.3:
            return Call("read", key, None, Get(key))
        if kind < 0.5:
            return Call("write", key, new, Put(key, value(new)))
        if kind < 0.6:
            old = self._seen[key]
            return Call("cas", key, [old, new], Cas(key, value(old), value(new)))
        return self._draw_lock(key, new) if kind < 0.8 else self._draw_queue(new)

    def _draw_lock(self, key: str, new: int) -> Call:
        dice, lease = self._dice, LEASE_S + new * 1e-9
        if len(self._tokens) < 2 and dice.random() < 0.4:
            claims = tuple(Claim(lock) for lock in dice.sample(LOCKS, dice.choice([1, 1, 2])))
            return Call("acquire", "", None, Acquire(claims, lease, dice.choice([0.0, WAIT_S_MAX])))
        if not self._tokens:
            return Call("write", key, new, Put(key, value(new)))
        token = dice.choice(self._tokens)
        if dice.random() < 0.3:
            self._tokens.remove(token)
            held = self._network.audit.held_until
            held[token] = min(held[token], self._network.now)
            return Call("release", "", token, Release(token))
        if dice.random() < 0.3:
            return Call("extend", "", token, Extend(token, lease))
        return Call("write", key, new, Put(key, value(new), fence=token))

    def _draw_queue(self, new: int) -> Call:
        dice = self._dice
        if self._receipts and dice.random() < 0.6:
            receipt, message = self._receipts.pop()
            if dice.random() < 0.7:
                return Call("ack", "", message, Ack(receipt))
            return Call("nack", "", message, Nack(receipt, dice.choice([0.0, 0.2])))
        if dice.random() < 0.5:
            return Call("publish", "", new, Publish("q", value(new), dice.choice([None, "k"]), f"p{new}", 1))
        wait, window = dice.choice([0.0, WAIT_S_MAX]), dice.choice([2, 1000])
        return Call("take", "", None, Take("q", LEASE_S + new * 1e-9, wait, window, DELIVERIES_MAX))

    def _end(self) -> None:
        outcome, call = self._session.outcome, self._call
        assert outcome is not None
        assert call is not None
        network, audit = self._network, self._network.audit
        audit.counts[f"outcome {outcome.type}"] += 1
        refusal = (outcome.error or "").split(":")[0] if outcome.type == "fail" else ""
        if isinstance(call.operation, Command):
            self._check(audit, pack(call.operation), outcome.type, refusal)
        self.answered += outcome.type == "ok" or refusal in REFUSALS
        if refusal in REFUSALS:
            audit.counts[f"refused: {refusal}"] += 1
        if outcome.type == "ok":
            self._learn(call, outcome)
        if call.f in JUDGED:
            result = outcome.value if call.f == "read" else call.argument
            self._history.add(network.now, self._process, outcome.type, call, result, outcome.error)
        if outcome.type == "info":
            self._process += 1000
            audit.counts[f"info: {outcome.error}"] += 1
        think = self._dice.expovariate(1.0) * self._think_s
        network.after(min(think, 0.05) if self.hurried else think, self._begin)

    def _learn(self, call: Call, outcome: Outcome) -> None:
        audit = self._network.audit
        match call.f:
            case "read":
                self._seen[call.key] = outcome.value
            case "write":
                self._seen[call.key] = call.argument
            case "cas":
                self._seen[call.key] = call.argument[1]
            case "acquire":
                self._tokens.append(outcome.value)
                assert outcome.until is not None
                audit.held_until[outcome.value] = outcome.until
            case "extend":
                assert outcome.until is not None
                audit.held_until[call.argument] = outcome.until
            case "take":
                if outcome.value is not None:
                    audit.delivered(outcome.value["id"], self._began)
                    self._receipts.append((outcome.value["receipt"], outcome.value["id"]))
            case "ack":
                audit.acknowledged[call.argument] = self._network.now

    def _check(self, audit: Audit, command: bytes, kind: str, refusal: str) -> None:
        executed = command in audit.executions
        if kind == "ok" or refusal in REFUSALS:
            audit.require(executed, "an acknowledged command was not carried out", self.number, command)
        elif kind == "fail":
            audit.require(not executed, "a failed command had been carried out", self.number, command, refusal)
            audit.never.add(command)

    # --- the wire ---

    def _carry_out(self, asks: list[Ask]) -> None:
        network = self._network
        for ask in asks:
            if network.nodes[ask.node].raft is None:
                network.after(0.0002, partial(self._step, NotSent(ask.ask)))
                continue
            boot = network.nodes[ask.node].boot
            for delay in network.delays(network.client_weather):
                network.after(delay, partial(self._deliver, ask, boot))
        deadline = self._session.deadline
        if deadline is not None:
            network.after(deadline - network.now, lambda: self._wake(deadline))

    def _deliver(self, ask: Ask, boot: int) -> None:
        """As a host does: once, however many copies the network makes; what was under way ends with the process."""
        if ask.ask in self._delivered or self._network.nodes[ask.node].boot != boot:
            return
        self._delivered.add(ask.ask)
        handle = Handle(self.number, ask.ask)
        match CODEC.decode(ask.body):
            case requests.Submit() as body:
                event: Any = events.Proposed(handle, body.session, body.serial, bytes(body.command))
            case requests.Query() as body:
                event = events.QueryAsked(handle, bytes(body.query))
            case requests.OpenSession():
                event = events.SessionAsked(handle)
        self._network.put(ask.node, event)

    def reply(self, node: str, handle: Handle, body: bytes) -> None:
        """A node answers."""
        network = self._network
        network.audit.counts[f"reply {type(CODEC.decode(body)).__name__}"] += 1
        for delay in network.delays(network.client_weather):
            network.after(delay, lambda: self._step(Answered(handle.ask, True, body)))

    def node_closed(self, node: str) -> None:
        """A node's process ended."""
        self._network.after(self._dice.uniform(0.0, 0.002), lambda: self._step(NodeClosed(node)))

    def _wake(self, deadline: float) -> None:
        if self._session.deadline == deadline:
            self._step(Woken())

    def _step(self, event: ClientEvent) -> None:
        if not self._session.busy:
            return
        asks = self._session.step(event, self._network.now)
        if self._session.busy:
            self._carry_out(asks)
        else:
            assert not asks
            self._end()
