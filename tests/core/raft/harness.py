"""A deterministic network of Raft cores and clients on virtual time: everything follows from the seed.

It models what a world promises a node: a step's saves become durable before its sends leave, early sends may leave
although the saves are lost in a crash, a paused process finds its inbox and late timers when it goes on, and messages
may be lost, repeated, late and out of order, even across a restart. It does not decide what goes wrong (`nemesis`).
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from audit import Audit, AuditedState

from testbed.base import limits
from testbed.base.codec import Codec
from testbed.base.rand import Streams
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import Raft, RaftConfig
from testbed.core.raft.messages import Entry, PeerMessage

CODEC = Codec((*requests.REQUESTS, *requests.REPLIES))
CrashPoint = Literal["before the saves", "after the saves"]


class Disk:
    """What one node's storage holds: exactly the saves that were carried out, as the built-in node lays them out."""

    def __init__(self) -> None:
        self.term = 0
        self.vote: str | None = None
        self.base = (0, 0)
        self.snapshot: events.Snapshot | None = None
        self.entries: dict[int, Entry] = {}

    def carry_out(self, effects: list[events.Effect]) -> bool:
        """Save; True if there was anything to save."""
        saved = False
        for effect in effects:
            match effect:
                case events.SaveVote():
                    self.term, self.vote = effect.term, effect.vote
                case events.SaveEntries():
                    self.entries.update(enumerate(effect.entries, effect.first))
                case events.DropEntries():
                    for index in range(effect.first, effect.last + 1):
                        self.entries.pop(index, None)
                case events.SaveSnapshot():
                    self.snapshot = effect.snapshot
                case events.SaveBase():
                    self.base = (effect.index, effect.term)
                case _:
                    continue
            saved = True
        return saved

    def stored(self) -> events.Stored:
        """What the next process finds. The entries must follow on the base without a gap (RedisRaft#43)."""
        indexes = sorted(self.entries)
        assert indexes == list(range(self.base[0] + 1, self.base[0] + 1 + len(indexes))), ("a gap", self.base, indexes)
        return events.Stored(
            self.term, self.vote, self.snapshot, *self.base, entries=[self.entries[index] for index in indexes]
        )


@dataclass
class Weather:
    """How links behave at the moment: probabilities, and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0  # probability of a delay up to `slow_s`, which reorders
    slow_s: float = 0.3
    base_s: float = 0.001


@dataclass
class Process:
    """One node: its disk, and its core while it runs."""

    id: str
    disk: Disk = field(default_factory=Disk)
    raft: Raft | None = None
    boot: int = 0
    offset: float = 0.0  # of its monotonic clock
    rate: float = 1.0  # of that, in its seconds a second
    paused: bool = False
    inbox: list[Any] = field(default_factory=list)
    timers: dict[str, int] = field(default_factory=dict)
    ready_at: float = 0.0
    waking: bool = False
    crash_at: CrashPoint | None = None


@dataclass(frozen=True)
class Handle:
    """Who waits for an answer: a request of a client."""

    client: int
    ask: int


class Network:
    """Nodes n1 … and whoever registers as a client."""

    def __init__(
        self, seed: int | str, size: int = 3, config: RaftConfig | None = None, sessions_max: int = 100
    ) -> None:
        streams = Streams(seed)
        self.seed = seed
        self.streams = streams
        self.random = streams.stream("network")
        self.config = config or RaftConfig()
        self.audit = Audit()
        self.now = 0.0
        self.nodes = {f"n{number}": Process(f"n{number}") for number in range(1, size + 1)}
        self.cut: set[tuple[str, str]] = set()
        self.weather = Weather()
        self.client_weather = Weather()
        self.clients: list[Any] = []
        self.sessions_max = sessions_max
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        for node in self.nodes:
            self.start(node)

    # --- time ---

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, action))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until `until`, or until `stop()` holds after some step (True)."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            if stop():
                return True
        self.now = until
        return stop()

    # --- processes ---

    def start(self, node: str) -> None:
        process = self.nodes[node]
        assert process.raft is None
        process.boot += 1
        process.offset = self.random.uniform(0.0, 1000.0)
        drift = self.streams.stream("drift", node, process.boot).uniform(-0.5, 0.5)
        process.rate = 1 + drift * limits.CLOCK_DRIFT_MAX
        process.paused, process.crash_at = False, None
        process.inbox, process.timers, process.ready_at = [events.Started()], {}, self.now
        peers = tuple(peer for peer in self.nodes if peer != node)
        dice = self.streams.stream("node", node, process.boot)
        state = AuditedState(self.audit, self.sessions_max)
        process.raft = Raft(node, peers, self.config, dice, state)
        process.raft.restore(process.disk.stored())
        self._wake(process)
        for peer in peers:
            if self.nodes[peer].raft is not None:
                self.connect(node, peer)

    def connect(self, one: str, other: str) -> None:
        for node, peer in ((one, other), (other, one)):
            self._hint(node, events.PeerConnected(peer))

    def _hint(self, node: str, event: events.PeerConnected | events.PeerClosed) -> None:
        def arrive() -> None:
            if not self.apart(node, event.peer):
                self.put(node, event)

        self.after(self.random.uniform(0.0, 0.005), arrive)

    def apart(self, one: str, other: str) -> bool:
        return (one, other) in self.cut or (other, one) in self.cut

    def crash(self, node: str) -> None:
        process = self.nodes[node]
        if process.raft is None:
            return
        process.raft, process.paused, process.inbox, process.timers = None, False, [], {}
        self.audit.counts["crash"] += 1
        for peer in self.nodes:
            if peer != node:
                self._hint(peer, events.PeerClosed(node))
        for client in self.clients:
            client.node_closed(node)

    def pause(self, node: str) -> None:
        self.nodes[node].paused = True

    def resume(self, node: str) -> None:
        process = self.nodes[node]
        process.paused = False
        self._wake(process)

    def leader(self) -> str | None:
        """The leader of the highest term among those that run."""
        leading = [p.raft for p in self.nodes.values() if p.raft is not None and p.raft.role == "leader"]
        return max(leading, key=lambda raft: raft.term).id if leading else None

    def core(self, node: str) -> Raft:
        raft = self.nodes[node].raft
        assert raft is not None
        return raft

    # --- steps ---

    def put(self, node: str, event: Any) -> None:
        """Something arrives at a node."""
        process = self.nodes[node]
        if process.raft is not None:
            process.inbox.append(event)
            self._wake(process)

    def _wake(self, process: Process) -> None:
        if process.waking or process.paused or not process.inbox:
            return
        process.waking = True

        def turn() -> None:
            process.waking = False
            if process.raft is not None and not process.paused and process.inbox:
                if self.now < process.ready_at:
                    self._wake(process)
                else:
                    self._turn(process, process.raft)

        self.after(max(0.0, process.ready_at - self.now), turn)

    def _turn(self, process: Process, raft: Raft) -> None:
        batch, process.inbox = process.inbox, []
        local = self.now * process.rate + process.offset
        self.audit.now = self.now
        effects: list[events.Effect] = []
        for event in batch:
            if isinstance(event, tuple):  # a timer: due unless it was set anew
                name, token = event
                if process.timers.get(name) != token:
                    continue
                event = events.TimerFired(name)
            effects += self._step(process, raft, event, local)
        effects += self._step(process, raft, events.StepEnded(), local)
        while self._carry_out(process, raft, effects):
            effects = self._step(process, raft, events.SavesDurable(), local)
            effects += self._step(process, raft, events.StepEnded(), local)

    def _step(self, process: Process, raft: Raft, event: events.Event, local: float) -> list[events.Effect]:
        effects = raft.step(event, local)
        for effect in effects:
            if isinstance(effect, events.SetTimer):
                self._set_timer(process, effect.name, effect.after)
        return effects

    def _carry_out(self, process: Process, raft: Raft, effects: list[events.Effect]) -> bool:
        """Early sends, saves, then everything else. True if something was saved and the process still runs."""
        self.audit.stepped(raft, effects)
        for effect in effects:
            if isinstance(effect, events.Send) and effect.early:
                self._send(process.id, effect)
        if process.crash_at == "before the saves":
            self.audit.counts["crash before the saves"] += 1
            self.crash(process.id)
            return False
        saved = process.disk.carry_out(effects)
        if process.crash_at == "after the saves":
            self.audit.counts["crash after the saves"] += 1
            self.crash(process.id)
            return False
        for effect in effects:
            if isinstance(effect, events.Send) and not effect.early:
                self._send(process.id, effect)
            elif isinstance(effect, events.Answer):
                reply = effect.reply
                self.clients[effect.handle.client].reply(
                    process.id, effect.handle, reply if isinstance(reply, bytes) else CODEC.encode(reply)
                )
        if saved:
            process.ready_at = self.now + self.random.uniform(0.0003, 0.003)
        return saved

    def _set_timer(self, process: Process, name: str, after: float) -> None:
        self._order += 1
        token, boot = self._order, process.boot
        process.timers[name] = token

        def due() -> None:
            if process.boot == boot and process.timers.get(name) == token:
                self.put(process.id, (name, token))

        self.after(after / process.rate, due)

    # --- messages ---

    def _send(self, sender: str, effect: events.Send) -> None:
        self.audit.departed(sender, effect)
        for delay in self.delays(self.weather):
            self.after(delay, lambda: self._arrive(sender, effect.to, effect.message))

    def _arrive(self, sender: str, to: str, message: PeerMessage) -> None:
        if (sender, to) not in self.cut:
            self.put(to, events.Received(sender, message))

    def delays(self, weather: Weather) -> list[float]:
        """When the copies of a message arrive, in seconds from now; none if it is lost."""
        dice = self.random
        if weather.loss and dice.random() < weather.loss:
            return []
        copies = 2 if weather.duplicate and dice.random() < weather.duplicate else 1
        found = []
        for _ in range(copies):
            slow = weather.slow and dice.random() < weather.slow
            found.append(dice.uniform(0.2, 1.0) * weather.base_s + (dice.uniform(0.0, weather.slow_s) if slow else 0.0))
        return found
