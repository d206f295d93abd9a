"""One seed from start to verdict: a network, clients, faults, healing, then progress and a judge."""

from collections import Counter

from clients import Client, History
from harness import Network
from nemesis import Nemesis

from chaos.checkers import check
from testbed.core.raft.core import RaftConfig

FAULTS_S = 4.0
PROGRESS_S = 12.0  # within this after the heal every client gets answers, and all nodes agree
ANSWERED_AFTER_HEAL = 3


def run(seed: int) -> Counter[str]:
    """Run one seed; what was reached, by name. Raises AssertionError with the seed in it."""
    network = Network(seed, size=1)
    dice = network.streams.stream("campaign")
    config = RaftConfig(
        compact_entries=dice.choice([5, 20, 60]), trailing_entries=3, snapshot_chunk=dice.choice([40, 200, 2000])
    )
    network = Network(seed, dice.choice([1, 2, 3, 3, 3, 4, 5, 5]), config, sessions_max=dice.choice([4, 5, 100]))
    history = History()
    for _ in range(3):
        Client(network, history, think_s=dice.choice([0.005, 0.03, 0.1, 1.0]))
    nemesis = Nemesis(network, FAULTS_S)
    try:
        network.run(FAULTS_S)
        nemesis.heal()
        _require_progress(network)
        network.audit.leases()
        verdict = check(history.events, "cas-register")
        assert verdict.verdict == "valid", verdict.detail
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return network.audit.counts


def _require_progress(network: Network) -> None:
    """Liveness: a healed cluster serves every client, and its nodes come to the same state."""
    before = [client.answered for client in network.clients]
    for client in network.clients:
        client.hurried = True

    def served() -> bool:
        pairs = zip(network.clients, before, strict=True)
        return all(client.answered >= count + ANSWERED_AFTER_HEAL for client, count in pairs)

    deadline = network.now + PROGRESS_S
    assert network.run(deadline, served), ("no progress", [client.answered for client in network.clients], before)
    for client in network.clients:
        client.active = False
    assert network.run(deadline, lambda: all(client.idle for client in network.clients)), "an operation does not end"
    assert network.run(deadline, lambda: _agree(network)), ("the nodes do not agree", _positions(network))
    states = {network.core(node).machine.snapshot() for node in network.nodes}
    assert len(states) == 1, "same log, different states"


def _agree(network: Network) -> bool:
    cores = [network.core(node) for node in network.nodes]
    return len({(core.applied, core.log.last) for core in cores}) == 1 and cores[0].applied == cores[0].log.last


def _positions(network: Network) -> list[tuple[str, str, int, int, int]]:
    cores = [network.core(node) for node in network.nodes]
    return [(core.id, core.role, core.term, core.applied, core.log.last) for core in cores]
