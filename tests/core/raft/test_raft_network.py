"""Whole clusters in stated situations, on virtual time, with every invariant checked after every step."""

from functools import partial
from typing import Any

import pytest
from clients import Client, History
from harness import CODEC, Handle, Network

from chaos.checkers import check
from testbed.base.codec import pack
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import RaftConfig
from testbed.core.services.commands import Get, Put, value

ELECTED_S = 5.0


class Caller:
    """A client that is driven by hand: it keeps every reply to each of its requests."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._number = len(network.clients)
        network.clients.append(self)
        self.replies: dict[int, list[Any]] = {}

    def ask(self, node: str, kind: type, *args: Any) -> int:
        ask = len(self.replies) + 1
        self.replies[ask] = []
        self._network.put(node, kind(Handle(self._number, ask), *args))
        return ask

    def reply(self, node: str, handle: Handle, body: bytes) -> None:
        self.replies[handle.ask].append(CODEC.decode(body))

    def node_closed(self, node: str) -> None:
        """Nothing to do: replies just stay away."""

    def result(self, ask: int, within: float = 3.0) -> Any:
        network = self._network
        assert network.run(network.now + within, lambda: bool(self.replies[ask])), f"no reply, seed {network.seed}"
        return self.replies[ask][0]


def put_of(key: str, new: Any) -> bytes:
    return pack(Put(key, value(new)))


def get_of(key: str) -> bytes:
    return pack(Get(key))


def led(network: Network) -> bool:
    return network.leader() is not None


def elect(network: Network) -> str:
    """Let time pass until a leader has committed its no-op and everybody follows it."""

    def followed() -> bool:
        leader = network.leader()
        cores = [p.raft for p in network.nodes.values() if p.raft is not None and not p.paused]
        return leader is not None and all(
            core.leader == leader and core.commit >= network.core(leader).term_start for core in cores
        )

    assert network.run(network.now + ELECTED_S, followed), f"no leader, seed {network.seed}"
    leader = network.leader()
    assert leader is not None
    return leader


def test_all_nodes_restarting_at_once_keep_every_acknowledged_write() -> None:
    """R1: ten times, and the terms only grow."""
    network = Network("restart all")
    caller = Caller(network)
    terms = []
    session = 0
    for number in range(1, 11):
        leader = elect(network)
        terms.append(network.core(leader).term)
        if not session:
            session = caller.result(caller.ask(leader, events.SessionAsked)).session
        done = caller.result(caller.ask(leader, events.Proposed, session, number, put_of(f"k{number}", number)))
        assert isinstance(done, requests.Done)
        for node in network.nodes:
            network.crash(node)
        for node in network.nodes:
            network.start(node)
    leader = elect(network)
    for number in range(1, 11):
        found = caller.result(caller.ask(leader, events.QueryAsked, get_of(f"k{number}")))
        assert bytes(found.result) == bytes([number])
    assert terms == sorted(set(terms))


def test_a_leader_cut_off_serves_no_reads_and_steps_down() -> None:
    """R9."""
    network = Network("cut off")
    caller = Caller(network)
    old = elect(network)
    network.cut = {pair for node in network.nodes for pair in ((old, node), (node, old))}
    asks = [caller.ask(old, events.QueryAsked, get_of("x"))]
    others = [node for node in network.nodes if node != old]
    assert network.run(network.now + 5.0, lambda: any(network.core(node).role == "leader" for node in others))
    asks.append(caller.ask(old, events.QueryAsked, get_of("x")))
    network.run(network.now + 1.5)
    assert network.core(old).role != "leader"
    for ask in asks:
        assert [type(reply) for reply in caller.replies[ask]] == [requests.NotLeader]


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_wakes_deposed_serves_no_stale_read(seed: int) -> None:
    """R11: the read reaches it while it is stopped, a newer value is acknowledged elsewhere, then it goes on."""
    network = Network(f"stopped {seed}")
    caller = Caller(network)
    old = elect(network)
    session = caller.result(caller.ask(old, events.SessionAsked)).session
    caller.result(caller.ask(old, events.Proposed, session, 1, put_of("x", 1)))
    network.pause(old)
    stale = caller.ask(old, events.QueryAsked, get_of("x"))
    others = [node for node in network.nodes if node != old]
    assert network.run(network.now + 5.0, lambda: network.leader() in others)
    new = network.leader()
    assert new is not None
    caller.result(caller.ask(new, events.Proposed, session, 2, put_of("x", 2)))
    network.resume(old)
    assert caller.result(stale) in (requests.NotLeader(None), requests.NotLeader(new))


def test_a_write_retried_at_the_next_leader_is_applied_once() -> None:
    """R13: the first leader replicated it and crashed before it could answer."""
    network = Network("retried")
    caller = Caller(network)
    old = elect(network)
    session = caller.result(caller.ask(old, events.SessionAsked)).session
    first = caller.ask(old, events.Proposed, session, 1, put_of("x", 1))
    others = [node for node in network.nodes if node != old]
    assert network.run(
        network.now + 1.0, lambda: all(network.core(n).log.last == network.core(old).log.last for n in others)
    )
    assert caller.replies[first] == []
    network.crash(old)
    new = elect(network)
    again = [caller.ask(new, events.Proposed, session, 1, put_of("x", 1)) for _ in range(3)]
    replies = [caller.result(ask) for ask in again]
    assert all(isinstance(reply, requests.Done) for reply in replies)
    assert network.audit.counts["retry answered from the session"] > 0  # the audit refuses a second execution


@pytest.mark.parametrize("size", [3, 5])
def test_a_minority_that_was_cut_off_for_long_disturbs_nobody_when_it_comes_back(size: int) -> None:
    """R15, thesis 9.6: same leader, same term."""
    network = Network(f"minority {size}", size)
    leader = elect(network)
    term = network.core(leader).term
    minority = [node for node in network.nodes if node != leader][: size // 2]
    network.cut = {(a, b) for a in network.nodes for b in network.nodes if (a in minority) != (b in minority)}
    network.run(network.now + 60.0)
    assert {network.core(node).role for node in minority} <= {"candidate", "follower"}
    network.cut = set()
    network.run(network.now + 10.0)
    assert {(core.term, core.leader) for core in map(network.core, network.nodes)} == {(term, leader)}


def test_without_faults_the_first_leader_stays() -> None:
    network = Network("calm", 5)
    leader = elect(network)
    term = network.core(leader).term
    network.run(network.now + 60.0)
    assert (network.leader(), network.core(leader).term) == (leader, term)
    assert network.audit.counts["leader stepped down"] == 0


def test_a_crashed_leader_is_replaced_at_once_where_its_connection_is_seen_to_close() -> None:
    times = []
    for seed in range(20):
        network = Network(f"fail-over {seed}", 5)
        old = elect(network)
        start = network.now
        network.crash(old)
        assert network.run(network.now + 5.0, partial(led, network))
        times.append(network.now - start)
    assert sorted(times)[10] < 0.2


def test_leadership_is_handed_over_without_a_gap() -> None:
    """Thesis 3.10: far faster than an election timeout."""
    network = Network("transfer")
    old = elect(network)
    network.put(old, events.TransferAsked())
    assert network.run(network.now + 0.2, lambda: network.leader() not in (None, old))


@pytest.mark.parametrize("round_trip", [0.15, 0.3, 0.6])
def test_long_round_trips_slow_a_cluster_down_and_do_not_stop_it(round_trip: float) -> None:
    """Longer than a heartbeat, shorter than an election timeout; one node missed everything and needs a snapshot."""
    network = Network("far", 3, RaftConfig(compact_entries=10, trailing_entries=3, snapshot_chunk=500))
    history = History()
    for _ in range(2):
        Client(network, history, think_s=0.01)
    leader = elect(network)
    late = next(node for node in network.nodes if node != leader)
    network.crash(late)
    network.run(network.now + 2.0)
    network.weather.base_s = round_trip / 2
    network.start(late)

    def caught_up() -> bool:
        leader = network.leader()
        return leader is not None and network.core(late).applied >= network.core(leader).applied - 5

    assert network.run(network.now + 30.0, caught_up)
    assert network.audit.counts["snapshot installed"] > 0
    assert check(history.events, "cas-register").verdict == "valid"
