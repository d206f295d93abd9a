"""The `Cluster` that people use, over either world: nodes, faults, clients, in plain Python.

It holds the world and the leases of link cuts; it decides nothing about what a fault means for a verdict.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from testbed.base.codec import Codec
from testbed.base.errors import UsageError
from testbed.base.limits import NODES_MAX
from testbed.base.links import Cut, LinkRule
from testbed.blocking.client import CALL_TIMEOUT_S, Client
from testbed.client import Sent
from testbed.core.restart import RestartKind
from testbed.node import Node
from testbed.ports import ClusterSettings, NodeStatus, Observer, SimulatedWorld, World

READY_TIMEOUT_S = 30.0  # for conditions that come true in milliseconds on a machine that is not starved


def node_names(count: int) -> tuple[str, ...]:
    """n1 … nN. UsageError unless 1 <= count <= NODES_MAX."""
    if not 1 <= count <= NODES_MAX:
        raise UsageError("cluster", "nodes", f"{count} is not between 1 and {NODES_MAX}")
    return tuple(f"n{number}" for number in range(1, count + 1))


def make_world(
    settings: ClusterSettings,
    world: Literal["live", "sim"],
    directory: Path | None,
    observer: Callable[[SimulatedWorld], Observer] | None = None,
) -> World:
    """A running cluster in that world. Close it. `directory`: for data and logs; a simulation can do without.

    `observer` makes who looks into the nodes of a simulation from the beginning; a live cluster has no such place.
    """
    if world == "sim":
        from testbed.live.nodeclass import describe, load
        from testbed.sim.world import SimWorld

        simulated = SimWorld(settings, load(describe(settings.node, settings.search)), directory)
        if observer is not None:
            simulated.observe(observer(simulated))
        simulated.open()
        return simulated
    from testbed.live.supervisor import LiveWorld  # loads ZeroMQ, which cores and judges do without

    assert directory is not None, "live nodes keep their data in it"
    live = LiveWorld(settings, directory)
    live.open()
    return live


def utc_stamp() -> str:
    """Wall-clock time for names of directories, such as 20261122T140335.169Z."""
    from testbed.live.clock import utc

    return utc().strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"


def stopwatch() -> Callable[[], float]:
    """Seconds of real time since it was made, in whichever world: for budgets of work that is not simulated."""
    from testbed.live.clock import now

    start = now()
    return lambda: now() - start


class Cluster:
    """A running cluster; use it in a `with` statement, or call `start` and `stop`.

    `node`: a class or "module:Class". `heartbeat` and `election_timeout`: seconds. `directory`: where the nodes keep
    their data and logs; a temporary one, removed in the end, if not given. `trace`: they also keep what each of them
    took and sent, message by message. `every_event` (kept) and `observer` are for simulations.
    """

    def __init__(
        self,
        nodes: int = 3,
        node: type[Node] | str = "testbed:ServiceNode",
        *,
        world: Literal["live", "sim"] = "live",
        seed: int | None = None,
        heartbeat: float = 0.1,
        election_timeout: float = 1.0,
        restart: RestartKind = "never",
        options: Mapping[str, Any] | None = None,
        directory: str | Path | None = None,
        search: Iterable[str] = (),
        trace: bool = False,
        every_event: bool = False,
        observer: Callable[[SimulatedWorld], Observer] | None = None,
    ) -> None:
        names = node_names(nodes)
        if heartbeat <= 0 or election_timeout < 3 * heartbeat:
            raise UsageError("cluster", "election_timeout", "must be at least 3 heartbeats, and heartbeat above 0")
        self.settings = ClusterSettings(
            names, node, heartbeat, election_timeout, restart, options or {}, seed, tuple(search), every_event, trace
        )
        self._world_name = world
        self._observer = observer
        self._given_directory = Path(directory) if directory is not None else None
        self.directory: Path | None = self._given_directory
        self._world: World | None = None
        self._cuts: list[LinkRule] = []
        self._clients = 0

    # --- life ---

    def start(self, tolerant: bool = False) -> Self:
        """Start all nodes; returns when all of them run. UsageError, with nothing left running, if one cannot.

        `tolerant`: a node that crashes right away is left to whoever looks at `status`.
        """
        if self._world is not None:
            raise UsageError("cluster", "", "is running already")
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
        elif self._world_name == "live":
            self.directory = Path(tempfile.mkdtemp(prefix="testbed-"))
        try:
            self._world = make_world(self.settings, self._world_name, self.directory, self._observer)
            crashed = [exit for exit in self._world.exits() if not exit.expected]
            if crashed and not tolerant:
                self._world.close()
                raise UsageError("cluster", crashed[0].node, crashed[0].reason)
        except BaseException:
            self._world = None
            self._remove_directory()
            raise
        return self

    def stop(self) -> None:
        """Stop all nodes in good order. Nothing is left running."""
        if self._world is not None:
            self._world.close()
            self._world = None
            self._remove_directory()

    def _remove_directory(self) -> None:
        if self._given_directory is None and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._world is not None

    @property
    def world(self) -> World:
        """The port below, for experiments. UsageError if the cluster does not run."""
        if self._world is None:
            raise UsageError("cluster", "", "is not running")
        return self._world

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of all nodes, in order."""
        return self.settings.nodes

    # --- looking ---

    def status(self, fresh: bool = True) -> dict[str, NodeStatus]:
        """Every node; `fresh`: asked now, not as last reported."""
        return self.world.status(fresh)

    @property
    def leader(self) -> str | None:
        """The node that leads in the highest term, of those that are up; None if nobody does."""
        return leader_of(self.world.status())

    def wait_for_leader(self, timeout: float = READY_TIMEOUT_S) -> str:
        """The leader's id, once a majority follows it. TimeoutError if that takes longer than `timeout` seconds."""
        self.wait_for(lambda: self._followed_leader() is not None, "a leader that a majority follows", timeout)
        leader = self._followed_leader()
        return leader if leader is not None else self.wait_for_leader(timeout)

    def _followed_leader(self) -> str | None:
        status = self.world.status()
        leader = leader_of(status)
        following = sum(node.state == "up" and node.leader == leader for node in status.values())
        return leader if 2 * following > len(status) else None

    def wait_for(
        self, condition: Callable[[], bool], what: str = "the condition", timeout: float = READY_TIMEOUT_S
    ) -> None:
        """Let time pass until `condition()` holds; TimeoutError naming `what` after `timeout` seconds."""
        if not self.world.wait(condition, timeout):
            raise TimeoutError(f"{what}: not within {timeout:g} s")

    # --- breaking ---

    def kill(self, node: str) -> None:
        """SIGKILL; returns when the process is gone. It stays down until `start_node`."""
        self.world.kill(self._known(node))
        self._until(node, "down")

    def terminate(self, node: str) -> None:
        """Stop in good order; returns when the process is gone."""
        self.world.terminate(self._known(node))
        self._until(node, "down")

    def start_node(self, node: str) -> None:
        """Start a node that is down; returns when it is up. UsageError with the reason if it ends instead."""
        before = len(self.world.exits())
        self.world.start(self._known(node))

        def is_up() -> bool:
            ended = [exit for exit in self.world.exits()[before:] if exit.node == node]
            status = self.world.status()[node]
            if ended and status.state == "down" and self.settings.restart == "never":
                raise UsageError("cluster", node, f"could not be started: {ended[-1].reason}")
            return status.state == "up"

        self.wait_for(is_up, f"{node} up")

    def restart(self, node: str) -> None:
        """Kill (if it is not down) and start."""
        if self.world.status()[self._known(node)].state != "down":
            self.kill(node)
        self.start_node(node)

    def pause(self, node: str) -> None:
        """Stop the process in its tracks; returns when it is seen stopped. UsageError if there is none."""
        if self.world.status()[self._known(node)].state == "down":
            raise UsageError("cluster", node, "is down and cannot be paused")
        self.world.pause(node)
        self._until(node, "paused")

    def resume(self, node: str) -> None:
        """Let a paused process go on."""
        self.world.resume(self._known(node))
        self.wait_for(lambda: self.world.status()[node].state != "paused", f"{node} resumed")

    def partition(self, *groups: Iterable[str], mode: Cut = "drop") -> None:
        """Cut all links between the groups; one group is cut off from all the others. Adds to earlier partitions."""
        sides = [[self._known(node) for node in group] for group in groups]
        named = {node for side in sides for node in side}
        if len(sides) == 1:
            sides.append([node for node in self.nodes if node not in named])
        for one in sides:
            for other in sides:
                if one is not other:
                    self._cuts += [LinkRule(a, b, mode) for a in one for b in other if a != b]
        self._obeyed(self.world.set_links(self._cuts))

    def heal(self) -> None:
        """Heal all partitions made here."""
        self._cuts.clear()
        self._obeyed(self.world.set_links(()))

    @property
    def links(self) -> list[LinkRule]:
        """The cuts in force that were made here."""
        return list(self._cuts)

    def _obeyed(self, version: int) -> None:
        def obeyed() -> bool:
            return all(
                node.links_version >= version
                for node in self.world.status().values()
                if node.state in ("up", "starting")
            )

        self.wait_for(obeyed, "the nodes to obey the link rules")

    def _until(self, node: str, state: str) -> None:
        self.wait_for(lambda: self.world.status()[node].state == state, f"{node} {state}")

    def _known(self, node: str) -> str:
        if node not in self.nodes:
            raise UsageError("cluster", node, f"is not one of {', '.join(self.nodes)}")
        return node

    # --- using ---

    def client(self, timeout: float = CALL_TIMEOUT_S, sent: Sent | None = None) -> Client:
        """A client with a session of its own. `timeout`: seconds until a call gives up with `Unknown`.

        `sent` is told of each request that leaves, from whichever thread drives it.
        """
        self._clients += 1
        settings = self.settings
        structs = settings.node.messages if isinstance(settings.node, type) else ()
        return Client(self.world, Codec(structs), settings.election_timeout, timeout, self._clients, sent)


def leader_of(status: Mapping[str, NodeStatus]) -> str | None:
    """The node that says it leads, in the highest term, of those that are up."""
    leaders = [node for node in status.values() if node.state == "up" and node.role == "leader"]
    return max(leaders, key=lambda node: node.term or 0).id if leaders else None
