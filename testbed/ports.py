"""What a world must offer, so that experiments and the `Cluster` run the same over real processes and in simulation.

A world knows nodes, links, clients and the time. It does not know why a node is paused or killed: leases of faults, and
what their verdicts mean, belong to the experiment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from testbed.base.links import LinkRule
from testbed.client import ClientProgram, Sent
from testbed.core.restart import RestartKind
from testbed.host import Host
from testbed.node import Node, Outbox

State = Literal["starting", "up", "paused", "down"]


@dataclass(frozen=True)
class NodeStatus:
    """One node, as the world sees it (`state`, `pid`) and as it last reported itself (the rest)."""

    id: str
    pid: int | None
    state: State
    role: str | None = None  # leader, follower, candidate; None for a node without elections
    term: int | None = None
    leader: str | None = None
    incarnation: int = 0
    links_version: int = 0  # the version of the link rules that the node has obeyed
    views: Mapping[str, str] = field(default_factory=dict)  # peer -> alive, suspect, failed
    received: Mapping[str, int] = field(default_factory=dict)  # peer -> messages delivered from it since it started
    counters: Mapping[str, int] = field(default_factory=dict)  # of transport and links: garbage, unknown, lost ...
    extra: Any = None  # what the node's own on_status answered
    reported_at: float = 0.0  # when it last reported itself, in seconds of `World.now`
    note: str | None = None  # why it is down, or will not be restarted


def status_of(
    node: str,
    state: State,
    pid: int | None,
    report: Mapping[str, Any],
    *,
    links_version: int,
    reported_at: float,
    note: str | None,
) -> NodeStatus:
    """`report`: what the node's `Host.status` answered last, with the world's counters among its own."""
    runs = pid is not None or state != "down"
    return NodeStatus(
        id=node,
        pid=pid,
        state=state,
        role=report.get("role") if runs else None,
        term=report.get("term") if runs else None,
        leader=report.get("leader") if runs else None,
        incarnation=report.get("incarnation", 0),
        links_version=links_version,
        views=report.get("views", {}),
        received=report.get("received", {}),
        counters=report.get("counters", {}),
        extra=report.get("extra"),
        reported_at=reported_at,
        note=note,
    )


@dataclass(frozen=True)
class Exit:
    """One process that ended: `reason` in words, `expected` where a fault or a stop asked for it. `at` in seconds."""

    node: str
    pid: int
    at: float
    reason: str
    expected: bool


@dataclass(frozen=True)
class ClusterSettings:
    """What a cluster consists of, in any world. Durations in seconds. `every_event`: keep each simulated event.

    `node`: a class, or "module:Class", looked up in `search` first. `restart`: what happens to a node that ends by
    itself. `seed`: of the nodes' and links' dice; None for one that nobody knows.
    `trace`: each node keeps what it takes and sends, message by message, beside its log.
    """

    nodes: tuple[str, ...]
    node: type[Node] | str = "testbed:ServiceNode"
    heartbeat: float = 0.1
    election_timeout: float = 1.0
    restart: RestartKind = "never"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    search: tuple[str, ...] = ()
    every_event: bool = False
    trace: bool = False


class World(Protocol):
    """The port. Every method may be called from one thread at a time.

    `wait` lets time pass; `status(fresh=True)` and `close` do so for as long as answers take, within bounds.
    """

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of all nodes, up or not, in order."""

    def now(self) -> float:
        """Seconds on this world's monotonic clock; client events are stamped with the same clock."""

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Let time pass until `condition()` holds (True) or `timeout` seconds are over (False)."""

    def start(self, node: str) -> None:
        """Start a node that is down. Returns at once; it is up when `status` says so."""

    def kill(self, node: str) -> None:
        """End the node's process at once, unannounced. It stays down until `start`."""

    def terminate(self, node: str) -> None:
        """Ask the node to stop in good order (and kill it if it does not). It stays down until `start`."""

    def pause(self, node: str) -> None:
        """Stop the node's process in its tracks; it keeps its memory, its ports and its connections."""

    def resume(self, node: str) -> None:
        """Let a paused node go on."""

    def set_links(self, rules: Sequence[LinkRule]) -> int:
        """Replace the whole table of link rules; returns its version (see `NodeStatus.links_version`)."""

    def status(self, fresh: bool = False) -> dict[str, NodeStatus]:
        """Every node. `fresh` asks each running node now, and waits shortly for those that answer."""

    def exits(self) -> list[Exit]:
        """Every process of a node that has ended so far, oldest first."""

    def run_client(self, program: ClientProgram, sent: Sent | None = None) -> None:
        """Drive a client program from now on, until it finishes or the world closes.

        `sent` is told of its requests, by whoever drives it.
        """

    def tell_client(self, program: ClientProgram, what: Any) -> None:
        """Give a program that is driven the event `Told(what)`."""

    def notify(self) -> None:
        """Something changed that a condition in `wait` may look at. For client programs to call."""

    def close(self) -> None:
        """Stop everything in good order. Nothing is left running."""


class Observer(Protocol):
    """Looks into the nodes of a simulated cluster while it runs. It changes nothing in them. Times: `World.now`."""

    def began(self, node: str, host: Host, now: float) -> None:
        """A process of the node begins: what it had stored is loaded, its first step not yet made."""

    def stepped(self, node: str, host: Host, out: Outbox, now: float) -> None:
        """The node made a step that told it something or came to something; nothing of it is carried out yet."""

    def departed(self, node: str, host: Host, now: float) -> None:
        """What the last step saved is durable, and what it sends leaves: others may rely on it from now on."""

    def ended(self, node: str, now: float) -> None:
        """The node's process is gone."""

    def passed(self, now: float) -> None:
        """Called now and then: every ten heartbeats."""


SIMULATED_SOMETIMES = ("record lost", "record torn", "record kept", "sync stalled")
"""What crashes and slow disks come to: a process that ends in the middle of a sync loses its record, whole or not."""


class SimulatedWorld(World, Protocol):
    """What only a simulation can offer."""

    @property
    def digest(self) -> str:
        """Of everything that has happened so far, in hexadecimal: equal for equal seeds."""

    @property
    def events(self) -> int:
        """How many events have happened so far."""

    @property
    def trace_lines(self) -> list[str] | None:
        """Every event so far as a line of text, if the cluster keeps `every_event`."""

    @property
    def sometimes(self) -> Mapping[str, int]:
        """How often each of `SIMULATED_SOMETIMES` happened."""

    def observe(self, observer: Observer) -> None:
        """Call it from now on."""

    def well_since(self, node: str) -> float:
        """Since when the node's process runs, is not paused and is not asked to stop; infinity if that is not so."""

    def down_since(self, node: str) -> float:
        """Since when the node has no process; infinity if it has one."""

    def clear_since(self, source: str, target: str) -> float:
        """Since when no link rule touches messages from `source` to `target`; infinity while one does."""
