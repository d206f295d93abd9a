"""A cluster of real hosts, driven step by step, each step shown to the invariants. The network carries all at once."""

import math
from collections import Counter
from collections.abc import Callable

from chaos.invariants import Invariants
from testbed.base.codec import Codec, Raw, pack
from testbed.core import requests
from testbed.core.raft.core import Raft
from testbed.core.services.commands import Put, value
from testbed.host import ClientRequest, Closed, Connected, Host, HostConfig, Input, PeerMessage, Publication
from testbed.node import Node, Outbox, Request
from testbed.service import ServiceNode

HEARTBEAT = 0.1
ELECTION_TIMEOUT = 1.0
NODES = ("n1", "n2", "n3")
CODEC = Codec(ServiceNode.messages)


class Truth:
    """What a simulated world says of its nodes and links: all well and clear from the beginning, until told else."""

    def __init__(self) -> None:
        self.well: dict[str, float] = {}
        self.down: dict[str, float] = {}
        self.clear: dict[tuple[str, str], float] = {}

    def well_since(self, node: str) -> float:
        return self.well.get(node, 0.0)

    def down_since(self, node: str) -> float:
        return self.down.get(node, math.inf)

    def clear_since(self, source: str, target: str) -> float:
        return self.clear.get((source, target), 0.0)


class ByHand:
    """`nodes` run `node_class`."""

    def __init__(self, nodes: tuple[str, ...] = NODES, node_class: type[Node] = ServiceNode, **options: object) -> None:
        self.nodes = nodes
        self.node_class = node_class
        self.options = options
        self.truth = Truth()
        self.invariants = Invariants(nodes, HEARTBEAT, ELECTION_TIMEOUT, self.truth)  # type: ignore[arg-type]
        self.now = 0.0
        self.stored: dict[str, dict[str, bytes]] = {node: {} for node in nodes}
        self.hosts: dict[str, Host] = {}
        self.paused: set[str] = set()
        self.cut: set[tuple[str, str]] = set()  # links that lose all, untold
        self._isolated: str | None = None
        self.answers: dict[int, object] = {}
        self._inbox: dict[str, list[Input]] = {node: [] for node in nodes}
        self._asked = 0
        for node in nodes:
            self.start(node)

    # --- processes ---

    def start(self, node: str) -> None:
        config = HostConfig(node, self.nodes, HEARTBEAT, ELECTION_TIMEOUT, 1, self.options)
        host = Host(config, self.node_class, dict(self.stored[node]), self.now)
        self.hosts[node] = host
        self.truth.well[node] = self.now
        self.truth.down.pop(node, None)
        self.invariants.began(node, host, self.now)
        self._carry_out(node, host.start(self.now))
        for peer in self.hosts:
            if peer != node:
                self._inbox[node].append(Connected(peer))
                self._inbox[peer].append(Connected(node))

    def end(self, node: str) -> None:
        del self.hosts[node]
        self._inbox[node].clear()
        self.truth.well[node] = math.inf
        self.truth.down[node] = self.now
        self.invariants.ended(node, self.now)
        for peer in self.hosts:
            self._inbox[peer].append(Closed(node))

    def isolate(self, node: str) -> None:
        """Cut it off from all others."""
        self._isolated = node
        self._links(math.inf)

    def heal(self) -> None:
        """Nobody is cut off any more."""
        self._links(self.now)
        self._isolated = None

    def _links(self, clear_since: float) -> None:
        links = [(one, other) for one in self.nodes for other in self.nodes if not self._carries(one, other)]
        self.truth.clear |= dict.fromkeys(links, clear_since)

    def _carries(self, source: str, target: str) -> bool:
        return source == target or (self._isolated not in (source, target) and (source, target) not in self.cut)

    # --- time ---

    def run(self, seconds: float) -> None:
        """Let all that is due happen."""
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> bool:
        end = self.now + seconds
        while not condition():
            runs = [node for node in self.hosts if node not in self.paused]
            waiting = [node for node in runs if self._inbox[node]]
            due = self.now if waiting else min(self.hosts[node].deadline for node in runs)
            if due > end:
                self._pass(end)
                return False
            self._pass(max(self.now, due))
            for node in waiting or [node for node in runs if self.hosts[node].deadline <= self.now]:
                inputs, self._inbox[node] = self._inbox[node], []
                self._carry_out(node, self.hosts[node].step(inputs, self.now))
        return True

    def _pass(self, to: float) -> None:
        while math.floor(self.now) < math.floor(to):
            self.now = math.floor(self.now) + 1.0
            self.invariants.passed(self.now)
        self.now = to

    # --- steps ---

    def show(self, node: str, out: Outbox | None = None) -> None:
        """As if the node had made a step that left it in its present state."""
        self.invariants.stepped(node, self.hosts[node], out or Outbox(), self.now)

    def _carry_out(self, node: str, out: Outbox) -> None:
        self._post(node, out.early)
        while True:
            self.show(node, out)
            for key, data in out.saves.items():
                if data is None:
                    self.stored[node].pop(key, None)
                else:
                    self.stored[node][key] = data
            self.invariants.departed(node, self.hosts[node], self.now)
            self._post(node, out.sends)
            for data in out.beats:
                for peer in self.hosts:
                    if peer != node and self._carries(node, peer):
                        self._inbox[peer].append(Publication(node, data))
            for request, ok, body in out.replies:
                self.answers[request.number] = CODEC.decode(body) if ok else None
            if not out.saves:
                return
            out = self.hosts[node].saved(self.now)
            self._post(node, out.early)

    def _post(self, node: str, sends: list[tuple[str, bytes]]) -> None:
        for to, data in sends:
            if to in self.hosts and self._carries(node, to):
                self._inbox[to].append(PeerMessage(node, data))

    # --- clients ---

    def ask(self, node: str, body: object) -> object:
        """The answer to a client's request."""
        self._asked += 1
        number = self._asked
        self._inbox[node].append(ClientRequest(Request(None, number), CODEC.encode(body)))
        self.until(lambda: number in self.answers, 5.0)
        return self.answers.get(number)

    def open(self) -> int:
        opened = self.ask(self.leader, requests.OpenSession())
        assert isinstance(opened, requests.Opened), opened
        return opened.session

    def put(self, session: int, serial: int, content: object = "x") -> object:
        return self.ask(self.leader, requests.Submit(session, serial, Raw(pack(Put("k", value(content))))))

    # --- what tests look at ---

    def raft(self, node: str) -> Raft:
        return self.hosts[node].node.raft  # type: ignore[attr-defined,no-any-return]

    @property
    def leader(self) -> str:
        def leaders() -> list[str]:
            return [node for node in self.hosts if self.raft(node).role == "leader"]

        assert self.until(lambda: bool(leaders()))
        return max(leaders(), key=lambda node: self.raft(node).term)

    @property
    def follower(self) -> str:
        leader = self.leader
        return next(node for node in self.hosts if node != leader)

    @property
    def broken(self) -> list[str]:
        return [violation.name for violation in self.invariants.violations]

    @property
    def reached(self) -> Counter[str]:
        return self.invariants.sometimes


def working(**options: object) -> ByHand:
    """Three nodes, one of which leads, with a session and two entries of it applied everywhere."""
    cluster = ByHand(**options)  # type: ignore[arg-type]
    session = cluster.open()
    for serial in (1, 2):
        cluster.put(session, serial, serial)
    cluster.run(0.5)
    assert cluster.broken == []
    assert len({cluster.raft(node).applied for node in NODES}) == 1
    return cluster
