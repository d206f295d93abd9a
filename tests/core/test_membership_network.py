"""The failure detector among its like: three to five cores on a small seeded network, with faults and healing."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest

from testbed.base.rand import Streams
from testbed.core.membership import (
    Accusation,
    AccusationReceived,
    Beat,
    BeatReceived,
    Changed,
    ConnectionClosed,
    Event,
    Leaving,
    Log,
    Membership,
    MembershipConfig,
    Publish,
    SaveIncarnation,
    Started,
    Tell,
    Tick,
)

CONFIG = MembershipConfig()
CONVICTION_S = 2.0  # within this after a kill, every node that is up and connected holds the killed one failed
CONVERGENCE_S = 4.0  # within this after the last heal, all views agree
decode_accusation = msgspec.msgpack.Decoder(Accusation).decode
decode_beat = msgspec.msgpack.Decoder(Beat).decode


@dataclass
class Process:
    """One node: its core while it runs, its inbox while it is paused, its own clock."""

    offset: float
    drift: float
    incarnation: int = 0  # on disk
    core: Membership | None = None
    paused: bool = False
    inbox: list[Event] = field(default_factory=list)
    wake_at: float = float("inf")
    stepped_at: float = float("-inf")

    def local(self, now: float) -> float:
        return self.offset + now * (1 + self.drift)


class Network:
    """Passes messages with delay, loss and duplication; virtual time in seconds; everything follows from the seed."""

    def __init__(self, count: int, seed: int, skew: float = 0.0, drift: float = 0.0) -> None:
        self.random = Streams(seed).stream("network")
        self.ids = tuple(f"n{number}" for number in range(1, count + 1))
        self.now = 0.0
        self.nodes = {
            node: Process(self.random.uniform(0, skew), self.random.uniform(-drift, drift)) for node in self.ids
        }
        self.loss = 0.0
        self.duplication = 0.0
        self.delay = (0.0001, 0.003)
        self.cuts: set[tuple[str, str]] = set()
        self.changes: list[tuple[float, str, Changed]] = []
        self.counts: dict[str, int] = {"beats": 0, "logs": 0, "saves": 0, "tells": 0}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for node in self.ids:
            self.at(self.random.uniform(0, 0.3), partial(self.start, node))

    # --- time ---

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Seconds until the condition held, looked at every 10 ms; fails after `seconds`."""
        start = self.now
        while not condition():
            assert self.now - start < seconds, self.describe()
            self.run(0.01)
        return self.now - start

    def describe(self) -> str:
        return "\n".join(f"{when:.3f} {observer}: {change}" for when, observer, change in self.changes[-40:])

    # --- faults ---

    def start(self, node: str) -> None:
        process = self.nodes[node]
        process.incarnation += 1
        peers = tuple(peer for peer in self.ids if peer != node)
        process.core = Membership(node, peers, CONFIG, process.incarnation)
        process.paused, process.inbox, process.wake_at = False, [], float("inf")
        self.feed(node, Started())

    def kill(self, node: str, closing_seen: bool = True) -> None:
        self.nodes[node].core = None
        for peer in self.ids:
            if closing_seen and peer != node and (node, peer) not in self.cuts:
                self.at(self.now + 0.001, partial(self.deliver, peer, ConnectionClosed(node)))

    def pause(self, node: str) -> None:
        self.nodes[node].paused = True

    def resume(self, node: str) -> None:
        """What waited is drained at one instant; the tick that is due comes before it or after it."""
        process = self.nodes[node]
        process.paused = False
        waiting, process.inbox = process.inbox, []
        events = [Tick(), *waiting] if self.random.random() < 0.5 else [*waiting, Tick()]
        for event in events:
            self.feed(node, event)

    def leave(self, node: str) -> None:
        self.feed(node, Leaving())
        self.nodes[node].core = None

    def cut(self, sources: Iterable[str], targets: Iterable[str], both: bool = True) -> None:
        for one, other in itertools.product(sources, list(targets)):
            self.cuts |= {(one, other), (other, one)} if both else {(one, other)}

    # --- messages ---

    def deliver(self, node: str, event: Event) -> None:
        process = self.nodes[node]
        if process.core is not None and process.paused:
            process.inbox.append(event)
        elif process.core is not None:
            self.feed(node, event)

    def send(self, source: str, target: str, event: Event) -> None:
        copies = 2 if self.random.random() < self.duplication else 1
        for _ in range(copies):
            if (source, target) not in self.cuts and self.random.random() >= self.loss:
                self.at(self.now + self.random.uniform(*self.delay), partial(self.deliver, target, event))

    def feed(self, node: str, event: Event) -> None:
        process = self.nodes[node]
        core = process.core
        if core is None:
            return
        now = max(process.local(self.now), process.stepped_at)
        if isinstance(event, Tick):
            now = max(now, min(core.next_deadline, now + 1e-6))  # against rounding between the two clocks
        process.stepped_at = now
        for number, effect in enumerate(core.step(event, now)):
            match effect:
                case Publish(beat=beat):
                    assert beat.incarnation == process.incarnation, "a beat left before its incarnation was durable"
                    self.counts["beats"] += 1
                    sent = decode_beat(msgspec.msgpack.encode(beat))
                    for peer in self.ids:
                        if peer != node:
                            self.send(node, peer, BeatReceived(node, sent))
                case Tell(to=to, accusation=accusation):
                    self.counts["tells"] += 1
                    told = decode_accusation(msgspec.msgpack.encode(accusation))
                    self.send(node, to, AccusationReceived(node, told))
                case SaveIncarnation(incarnation=incarnation):
                    assert number == 0
                    assert incarnation > process.incarnation
                    self.counts["saves"] += 1
                    process.incarnation = incarnation
                case Changed():
                    self.changes.append((self.now, node, effect))
                case Log():
                    self.counts["logs"] += 1
        core.validate()
        self._schedule(node)

    def _schedule(self, node: str) -> None:
        process = self.nodes[node]
        assert process.core is not None
        when = (process.core.next_deadline - process.offset) / (1 + process.drift)
        if when < process.wake_at:
            process.wake_at = max(when, self.now) + self.random.uniform(0, 0.002)
            self.at(process.wake_at, partial(self._wake, node, process.core, process.wake_at))

    def _wake(self, node: str, core: Membership, when: float) -> None:
        process = self.nodes[node]
        if process.core is not core or process.wake_at != when:
            return
        process.wake_at = float("inf")
        if not process.paused:
            self.feed(node, Tick())

    # --- what holds ---

    def up(self) -> list[str]:
        return [node for node, process in self.nodes.items() if process.core is not None]

    def view(self, observer: str) -> dict[str, str]:
        core = self.nodes[observer].core
        assert core is not None
        return dict(core.view())

    def agreed(self) -> bool:
        """Every node that is up holds exactly the nodes that are up alive, at the incarnations they have."""
        for observer in self.up():
            core = self.nodes[observer].core
            assert core is not None
            for peer, state in core.view().items():
                process = self.nodes[peer]
                if state != ("failed" if process.core is None else "alive"):
                    return False
                if process.core is not None and core.incarnations()[peer] != process.incarnation:
                    return False
        return True

    def verdicts(self, *states: str) -> list[tuple[float, str, Changed]]:
        return [entry for entry in self.changes if entry[2].state in states]


def settled(count: int, seed: int, **options: float) -> Network:
    """A cluster whose members have all heard each other."""
    network = Network(count, seed, **options)
    network.run(5.0)
    assert network.agreed(), network.describe()
    assert network.verdicts("suspect", "failed") == []
    network.changes.clear()
    return network


seeds = pytest.mark.parametrize("seed", range(4))


@seeds
def test_a_healthy_cluster_with_foreign_drifting_clocks_and_30_percent_loss_suspects_nobody(seed: int) -> None:
    """FD7, FD8."""
    network = settled(5, seed, skew=20_000.0, drift=100e-6)  # FD8: no clock is shared, only each one's progress counts
    network.loss, network.duplication = 0.3, 0.2
    network.run(120.0)
    assert network.verdicts("failed") == [], network.describe()
    assert network.agreed()
    assert network.counts["saves"] == 0


@seeds
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("closing_seen", [True, False])
def test_all_agree_on_a_killed_node_within_the_bound(count: int, closing_seen: bool, seed: int) -> None:
    network = settled(count, seed)
    network.kill("n2", closing_seen)
    bound = 1.1 if closing_seen else CONVICTION_S
    assert network.run_until(network.agreed, bound) >= CONFIG.failed_after_min
    assert {change.peer for _, _, change in network.changes} == {"n2"}
    network.run(30.0)
    assert network.agreed(), "a verdict does not come undone by itself"


@seeds
def test_two_nodes_killed_at_once_are_convicted_by_the_remaining_three(seed: int) -> None:
    network = settled(5, seed)
    network.kill("n1", closing_seen=False)
    network.kill("n5", closing_seen=False)
    network.run_until(network.agreed, CONVICTION_S)


@seeds
@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 3.0, 5.0])
def test_a_paused_node_convicts_nobody_on_its_return_and_refutes_its_own_conviction(times: float, seed: int) -> None:
    """FD1."""
    network = settled(5, seed, skew=5_000.0, drift=100e-6)
    length = times * (CONFIG.suspect_after + CONFIG.failed_after_min)
    network.pause("n3")
    network.run(length)
    convicted = any(change.state == "failed" for _, _, change in network.changes)
    assert convicted or length < 1.5
    assert not convicted or length > 1.2
    network.resume("n3")
    network.run_until(network.agreed, CONVERGENCE_S)
    network.run(10.0)
    assert network.agreed()
    assert [entry for entry in network.verdicts("suspect", "failed") if entry[1] == "n3"] == [], network.describe()
    assert {change.peer for _, _, change in network.changes} <= {"n3"}
    assert network.nodes["n3"].incarnation == (2 if convicted else 1)


@seeds
def test_a_paused_node_still_notices_a_death_that_happened_meanwhile(seed: int) -> None:
    network = settled(5, seed)
    network.pause("n3")
    network.run(1.0)
    network.kill("n4", closing_seen=False)
    network.run(4.0)
    network.resume("n3")
    network.run_until(network.agreed, CONVERGENCE_S)
    assert {change.peer for _, observer, change in network.changes if observer == "n3"} == {"n4"}


@seeds
@pytest.mark.parametrize("both", [True, False])
def test_a_cut_between_two_nodes_convicts_nobody_while_others_hear_both(both: bool, seed: int) -> None:
    """FD3."""
    network = settled(3, seed)
    network.cut(["n1"], ["n2"], both)
    for peer in ("n1", "n2"):  # the closing of the connection is seen, and outweighed by what the third one hears
        network.deliver("n2" if peer == "n1" else "n1", ConnectionClosed(peer))
    network.run(30.0)
    assert network.verdicts("failed") == [], network.describe()
    assert network.agreed()
    assert len(network.changes) == 4, network.describe()  # each suspects at once, and thinks better of it


@seeds
def test_an_observer_that_is_stopped_a_fifth_of_the_time_causes_no_conviction(seed: int) -> None:
    """FD4."""
    network = settled(5, seed)
    for second in range(60):
        network.at(network.now + second, partial(network.pause, "n1"))
        network.at(network.now + second + 0.2, partial(network.resume, "n1"))
    network.run(62.0)
    assert network.verdicts("suspect", "failed") == [], network.describe()
    network.kill("n4", closing_seen=False)
    for second in range(10):
        network.at(network.now + second, partial(network.pause, "n1"))
        network.at(network.now + second + 0.2, partial(network.resume, "n1"))
    network.run_until(network.agreed, 2 * CONVICTION_S)


@seeds
@pytest.mark.parametrize("down", [0.2, 6.0])
def test_all_but_one_restarting_at_once_come_back(down: float, seed: int) -> None:
    """FD5."""
    network = settled(5, seed)
    for node in network.ids[1:]:
        network.kill(node)
    network.run(down)
    for node in network.ids[1:]:
        network.at(network.now + network.random.uniform(0, 0.3), partial(network.start, node))
    network.run(0.4)
    network.run_until(network.agreed, CONVERGENCE_S)
    assert all(process.incarnation <= 3 for process in network.nodes.values()), "an incarnation storm"


@seeds
def test_a_restart_within_the_detection_window_is_noticed_by_everyone(seed: int) -> None:
    """FD6."""
    network = settled(5, seed)
    network.kill("n2", closing_seen=False)
    network.run(0.05)
    network.start("n2")
    network.run(1.0)
    noticed = [(observer, change) for _, observer, change in network.changes if observer != "n2"]
    assert sorted(noticed, key=lambda entry: entry[0]) == [
        (observer, Changed("n2", "alive", 2, "restarted")) for observer in ("n1", "n3", "n4", "n5")
    ]


@seeds
def test_both_sides_of_a_partition_convict_each_other_and_agree_again_after_the_heal(seed: int) -> None:
    """FD14."""
    network = settled(5, seed, skew=5_000.0)
    network.cut(["n1", "n2"], ["n3", "n4", "n5"])
    network.run(4.0)
    assert network.view("n1") == {"n2": "alive", "n3": "failed", "n4": "failed", "n5": "failed"}
    assert network.view("n4") == {"n1": "failed", "n2": "failed", "n3": "alive", "n5": "alive"}
    network.cuts.clear()
    network.run_until(network.agreed, 1.0)
    network.run(10.0)
    assert network.agreed()
    assert all(process.incarnation == 2 for process in network.nodes.values()), "each is refuted once, by itself"


@seeds
def test_a_node_alone_convicts_the_others_late_for_nobody_confirms(seed: int) -> None:
    network = settled(5, seed)
    network.cut(["n1"], network.ids[1:])
    network.run(CONFIG.suspect_after + CONFIG.failed_after_max - 0.2)
    assert set(network.view("n1").values()) == {"suspect"}
    assert network.view("n3")["n1"] == "failed"
    network.run(0.5)
    assert set(network.view("n1").values()) == {"failed"}
    network.cuts.clear()
    network.run_until(network.agreed, 1.0)


@seeds
def test_a_node_that_leaves_is_failed_at_once_and_alive_again_when_it_returns(seed: int) -> None:
    network = settled(5, seed)
    network.leave("n5")
    network.run_until(network.agreed, 0.02)
    network.run(3.0)
    assert [change for _, _, change in network.changes] == [Changed("n5", "failed", 1, "left")] * 4
    network.start("n5")
    network.run_until(network.agreed, 0.2)
    assert [change for _, observer, change in network.changes if observer != "n5"][4:] == [
        Changed("n5", "alive", 2, "restarted")
    ] * 4


@seeds
def test_a_leave_that_one_node_missed_reaches_it_through_the_others(seed: int) -> None:
    network = settled(5, seed)
    network.cut(["n5"], ["n1"], both=False)
    network.leave("n5")
    network.run_until(network.agreed, CONVICTION_S)


@seeds
def test_a_link_that_becomes_a_second_slower_recovers_without_healing(seed: int) -> None:
    network = settled(5, seed)
    network.delay = (1.0, 1.02)
    network.run(20.0)
    network.changes.clear()
    network.run(20.0)
    assert network.agreed(), network.describe()
    assert network.verdicts("suspect", "failed") == []


@seeds
def test_a_flapping_link_raises_neither_incarnations_nor_log_lines_without_bound(seed: int) -> None:
    """FD13."""
    network = settled(3, seed)
    before = dict(network.counts)
    for turn in range(100):
        network.at(network.now + turn, partial(network.cut, ["n1"], ["n2", "n3"]))
        network.at(network.now + turn + 0.7, network.cuts.clear)
    network.run(100.0)
    assert len(network.changes) > 300, "the link does flap"
    assert network.counts["logs"] - before["logs"] <= 11 * 3 * 3 * 6  # windows, observers, quotas each, lines
    assert network.counts["beats"] - before["beats"] < 3 * 100 * 20
    assert network.counts["saves"] - before["saves"] < 100


@pytest.mark.parametrize("seed", range(50))
def test_after_any_schedule_of_faults_has_healed_no_healthy_node_stays_convicted(seed: int) -> None:
    random = Streams(seed).stream("schedule")
    network = settled(random.choice([3, 4, 5]), seed, skew=10_000.0, drift=100e-6)
    for _ in range(random.randint(5, 25)):
        node = random.choice(network.ids)
        running = network.nodes[node].core is not None
        match random.choice(["kill", "start", "pause", "resume", "cut", "heal", "loss", "delay", "hint"]):
            case "kill":
                network.kill(node, closing_seen=random.random() < 0.5)
            case "start" if not running:
                network.start(node)
            case "pause" if running:
                network.pause(node)
            case "resume" if running and network.nodes[node].paused:
                network.resume(node)
            case "cut":
                others = [peer for peer in network.ids if peer != node and random.random() < 0.6]
                network.cut([node], others, both=random.random() < 0.6)
            case "heal":
                network.cuts.clear()
            case "loss":
                network.loss, network.duplication = random.choice([0.0, 0.3, 0.7]), random.choice([0.0, 0.3])
            case "delay":
                network.delay = random.choice([(0.0001, 0.003), (0.05, 0.4), (0.3, 1.0)])
            case "hint":
                network.deliver(node, ConnectionClosed(random.choice([n for n in network.ids if n != node])))
        network.run(random.choice([0.05, 0.5, 1.5, 5.0]))
    network.cuts.clear()
    network.loss, network.delay = 0.0, (0.0001, 0.003)
    for node, process in network.nodes.items():
        if process.core is None:
            network.start(node)
        elif process.paused:
            network.resume(node)
    network.run_until(network.agreed, CONVERGENCE_S)
    network.changes.clear()
    network.run(10.0)
    assert network.agreed(), network.describe()
    assert network.verdicts("failed") == [], network.describe()


def test_the_same_seed_gives_the_same_history() -> None:
    def history() -> list[tuple[float, str, Changed]]:
        network = settled(5, 42, skew=100.0)
        network.loss = 0.6
        network.kill("n1", closing_seen=False)
        network.run(20.0)
        return network.changes

    assert history() == history()
