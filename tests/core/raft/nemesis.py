"""What goes wrong in the small network: random faults, one after the other or together, all from the seed."""

from collections.abc import Callable

from harness import Network, Weather

from testbed.core.raft.events import PeerClosed, PeerConnected, TransferAsked

GAP_S = 0.5  # mean time between faults
LENGTH_S = (0.1, 2.0)
FAR_S = 0.1  # a round trip is longer than a heartbeat, and shorter than an election timeout


class Nemesis:
    """Breaks the network until `until`, then heals everything."""

    def __init__(self, network: Network, until: float) -> None:
        self._network = network
        self._dice = network.streams.stream("nemesis")
        self._until = until
        self._cuts: list[set[tuple[str, str]]] = []
        self._kinds: list[Callable[[], Callable[[], None]]] = [
            self._crash,
            self._crash_leader,
            self._crash_all,
            self._crash_in_a_step,
            self._pause,
            self._pause_leader,
            self._split,
            self._isolate_leader,
            self._one_way,
            self._ring,
            self._bad_weather,
            self._bad_weather_for_clients,
            self._transfer,
            self._false_hint,
        ]
        dice = self._dice
        if dice.random() < 0.5:  # the climate of this seed: half of the seeds know no calm links
            network.weather = Weather(dice.uniform(0, 0.1), dice.uniform(0, 0.1), dice.uniform(0, 0.2), 0.3)
            network.client_weather = Weather(dice.uniform(0, 0.1), dice.uniform(0, 0.5), dice.uniform(0, 0.2), 0.5)
        if dice.random() < 0.2:  # round trips longer than a heartbeat
            network.weather.base_s = FAR_S
        self._base_s = network.weather.base_s
        self._next()

    def _next(self) -> None:
        delay = self._dice.expovariate(1.0 / GAP_S)
        if self._network.now + delay < self._until:
            self._network.after(delay, self._strike)
        else:
            self._network.after(self._until - self._network.now, self.heal)

    def _strike(self) -> None:
        kind = self._dice.choice(self._kinds)
        heal = kind()
        self._network.audit.counts[f"fault {kind.__name__.lstrip('_')}"] += 1
        self._network.after(self._dice.uniform(*LENGTH_S), heal)
        self._next()

    def heal(self) -> None:
        """Everything runs and is connected; links behave."""
        network = self._network
        network.weather, network.client_weather = Weather(base_s=self._base_s), Weather()
        self._cuts.clear()
        self._unite()
        for node, process in network.nodes.items():
            process.crash_at = None
            network.resume(node)
            if process.raft is None:
                network.start(node)
        network.audit.counts["healed"] += 1

    # --- kinds of faults: each begins at once and returns its heal ---

    def _crash(self) -> Callable[[], None]:
        return self._down([self._any()])

    def _crash_leader(self) -> Callable[[], None]:
        return self._down([self._network.leader() or self._any()])

    def _crash_all(self) -> Callable[[], None]:
        return self._down(list(self._network.nodes))

    def _down(self, nodes: list[str]) -> Callable[[], None]:
        for node in nodes:
            self._network.crash(node)
        return lambda: self._up(nodes)

    def _up(self, nodes: list[str]) -> None:
        for node in nodes:
            if self._network.nodes[node].raft is None:
                self._network.start(node)

    def _crash_in_a_step(self) -> Callable[[], None]:
        node = self._dice.choice([self._network.leader() or self._any(), self._any()])
        self._network.nodes[node].crash_at = self._dice.choice(["before the saves", "after the saves"])
        return lambda: self._up([node])

    def _pause(self) -> Callable[[], None]:
        return self._stop(self._any())

    def _pause_leader(self) -> Callable[[], None]:
        return self._stop(self._network.leader() or self._any())

    def _stop(self, node: str) -> Callable[[], None]:
        self._network.pause(node)
        return lambda: self._network.resume(node)

    def _split(self) -> Callable[[], None]:
        nodes = list(self._network.nodes)
        some = set(self._dice.sample(nodes, self._dice.randint(1, max(1, len(nodes) - 1))))
        return self._cut({(a, b) for a in nodes for b in nodes if (a in some) != (b in some)})

    def _isolate_leader(self) -> Callable[[], None]:
        leader = self._network.leader() or self._any()
        return self._cut({pair for node in self._network.nodes for pair in ((leader, node), (node, leader))})

    def _one_way(self) -> Callable[[], None]:
        node, nodes = self._any(), list(self._network.nodes)
        deaf = self._dice.random() < 0.5
        return self._cut({(other, node) if deaf else (node, other) for other in nodes if other != node})

    def _ring(self) -> Callable[[], None]:
        """Everybody sees a majority, nobody the same one (Jepsen's majorities-ring)."""
        nodes = list(self._network.nodes)
        size = len(nodes)
        reach = range(-((size + 2) // 4), (size + 2) // 4 + 1)
        near = {(nodes[i], nodes[(i + step) % size]) for i in range(size) for step in reach}
        return self._cut({(a, b) for a in nodes for b in nodes if a != b} - near)

    def _cut(self, links: set[tuple[str, str]]) -> Callable[[], None]:
        self._cuts.append(links)
        self._unite()

        def heal() -> None:
            if links in self._cuts:
                self._cuts.remove(links)
                self._unite()

        return heal

    def _unite(self) -> None:
        self._network.cut = set().union(*self._cuts)

    def _bad_weather(self) -> Callable[[], None]:
        before = self._network.weather
        self._network.weather = self._storm(slow_s=0.3)
        return lambda: self._calm("weather", before)

    def _bad_weather_for_clients(self) -> Callable[[], None]:
        before = self._network.client_weather
        self._network.client_weather = self._storm(slow_s=1.0)
        return lambda: self._calm("client_weather", before)

    def _storm(self, slow_s: float) -> Weather:
        loss, duplicate, slow = (self._dice.uniform(0.0, 0.5) for _ in range(3))
        return Weather(loss, duplicate, slow, slow_s)

    def _calm(self, name: str, before: Weather) -> None:
        if self._network.now < self._until:
            setattr(self._network, name, before)

    def _transfer(self) -> Callable[[], None]:
        """A leader is asked to stop, and does so a little later."""
        leader = self._network.leader() or self._any()
        self._network.put(leader, TransferAsked())
        self._network.after(0.05, lambda: self._network.crash(leader) if self._network.now < self._until else None)
        return lambda: self._up([leader])

    def _false_hint(self) -> Callable[[], None]:
        """A connection closes although both ends live."""
        node, peer = self._any(), self._network.leader() or self._any()
        if node != peer:
            self._network.put(node, PeerClosed(peer))
        return lambda: self._network.put(node, PeerConnected(peer)) if node != peer else None

    def _any(self) -> str:
        return self._dice.choice(list(self._network.nodes))
