"""The simulated world: a cluster in one process on virtual time, in which everything follows from one seed.

It runs the same `Host`, links and client programs as the live world. Time passes only in `wait` and `close`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from testbed.base.errors import UsageError
from testbed.base.limits import STOP_S_MAX
from testbed.base.links import LinkRule, combine
from testbed.base.rand import Streams, entropy
from testbed.client import ClientProgram, Sent
from testbed.core.restart import ExitKind, GiveUp, Restart, RestartPolicy
from testbed.host import HostConfig
from testbed.node import Node
from testbed.ports import ClusterSettings, Exit, NodeStatus, Observer
from testbed.sim.agenda import Agenda
from testbed.sim.clients import Clients
from testbed.sim.conditions import draw
from testbed.sim.disk import Disk
from testbed.sim.logs import Logs
from testbed.sim.members import Member
from testbed.sim.network import Network
from testbed.sim.process import KILLED, STOPPED, Process, Site
from testbed.sim.trace import Trace

POLL_S: Final = 0.02  # how often `wait` looks again at what no event announces
OBEY_S_MAX: Final = 0.01  # until a node has the newest link rules
KILLED_IN_SYNC: Final = 0.5  # of kills strike while the node next syncs, where the most can go wrong ...
KILLED_BY_HEARTBEATS: Final = 5.0  # ... but so many heartbeats later at the latest
PASS_HEARTBEATS: Final = 10  # between two looks of the observers at what only time shows
START_S_MAX: Final = 30.0
SEED_BITS: Final = 32
FIRST_PID: Final = 1000


class SimWorld:
    """See `testbed.ports.SimulatedWorld`. `directory`: where the nodes' logs go; none are written without it."""

    def __init__(
        self,
        settings: ClusterSettings,
        node_class: type[Node],
        directory: Path | None = None,
    ) -> None:
        self.settings = settings
        self.seed = settings.seed if settings.seed is not None else entropy().getrandbits(SEED_BITS)
        self.trace = Trace(settings.every_event)
        self._node_class = node_class
        self._streams = Streams(self.seed)
        self._agenda = Agenda()
        conditions = draw(self._streams.stream("conditions"), settings.heartbeat, settings.election_timeout)
        network = Network(self._agenda, self.trace, self._streams.stream("network"), conditions)
        self._clients = Clients(self._agenda, network, lambda node: self._members[node].up)
        self._observers: list[Observer] = []
        self._logs = Logs(directory)
        self._site = Site(
            self._agenda,
            network,
            self._clients,
            self.trace,
            conditions,
            self._observers,
            Counter(),
            self._logs,
            self._listening,
            self._ended,
        )
        self._random = self._streams.stream("laboratory")
        policy = RestartPolicy(settings.restart)
        self._members = {
            node: Member(node, policy, Disk(self._streams.stream("disk", node))) for node in settings.nodes
        }
        self._pids = count(FIRST_PID)
        self._exits: list[Exit] = []
        self._rules: tuple[LinkRule, ...] = ()
        self._links_version = 0
        self._ruled: frozenset[tuple[str, str]] = frozenset()
        self._free_since: dict[tuple[str, str], float] = {}  # links that were under rules
        self._closed = False

    def open(self) -> None:
        """Start all nodes; returns when each listens or has ended."""
        self._pass()
        for member in self._members.values():
            self._start(member)
        self.wait(lambda: all(m.process is None or m.process.listening for m in self._members.values()), START_S_MAX)

    # --- the port ---

    @property
    def nodes(self) -> tuple[str, ...]:
        """All ids, in order."""
        return self.settings.nodes

    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self._agenda.now

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Let virtual time pass."""
        if self._closed:
            raise UsageError("cluster", "", "is not running any more")
        return self._wait(condition, timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        agenda = self._agenda
        give_up = agenda.now + timeout
        while True:
            if condition():
                return True
            if agenda.now >= give_up:
                return False
            agenda.run(until=min(give_up, agenda.now + POLL_S))

    def notify(self) -> None:
        """Look again at what `wait` waits for."""
        self._agenda.interrupt()

    def start(self, node: str) -> None:
        """Start a node that is down, or once it is."""
        self._agenda.at(self._agenda.now, self._start, self._members[node])

    def kill(self, node: str) -> None:
        """A power cut: at once, or in the middle of the next sync. What was not synced is lost or torn."""
        member = self._members[node]
        process = member.process
        member.restart_at = math.inf
        if process is None:
            return
        member.asked, member.wanted = True, False
        in_sync = self._random.random() < KILLED_IN_SYNC
        process.kill(in_sync)
        if process.alive:
            self._agenda.at(self._agenda.now + KILLED_BY_HEARTBEATS * self.settings.heartbeat, process.end, KILLED)

    def terminate(self, node: str) -> None:
        """Ask it to stop in good order."""
        member = self._members[node]
        member.restart_at = math.inf
        if member.process is None:
            return
        member.asked, member.wanted = True, False
        self._agenda.at(self._agenda.now, member.process.terminate)
        self._agenda.at(self._agenda.now + STOP_S_MAX, member.process.end, STOPPED)

    def pause(self, node: str) -> None:
        """The process stands still; what arrives waits."""
        self._of_process(node, Process.pause, "pauses")

    def resume(self, node: str) -> None:
        """The process goes on."""
        self._of_process(node, Process.resume, "goes on")

    def _of_process(self, node: str, act: Callable[[Process], None], what: str) -> None:
        process = self._members[node].process
        if process is not None:
            self.trace.note(self._agenda.now, f"{node} {what}".encode())
            self._agenda.at(self._agenda.now, act, process)

    def set_links(self, rules: Sequence[LinkRule]) -> int:
        """The nodes get the new table one after the other, as messages take their time."""
        self._rules = tuple(rules)
        self._links_version += 1
        now = self._agenda.now
        self.trace.note(now, b"links", repr(self._rules).encode())
        ruled = frozenset(combine(self._rules))
        self._free_since |= dict.fromkeys(sorted(self._ruled - ruled), now)
        self._ruled = ruled
        for member in self._members.values():
            if member.process is not None:
                delay = self._random.uniform(0.0, OBEY_S_MAX)
                self._agenda.at(now + delay, self._obey, member.process, self._rules, self._links_version)
        return self._links_version

    def status(self, fresh: bool = False) -> dict[str, NodeStatus]:
        """Every node; questions and answers take no virtual time."""
        now = self._agenda.now
        return {node: member.status(now, fresh) for node, member in self._members.items()}

    def exits(self) -> list[Exit]:
        """Every process that ended, oldest first."""
        return list(self._exits)

    def run_client(self, program: ClientProgram, sent: Sent | None = None) -> None:
        """Drive it from now on."""
        self._clients.run(program, sent)

    def tell_client(self, program: ClientProgram, what: object) -> None:
        """Give it a `Told` event."""
        self._clients.tell(program, what)

    def close(self) -> None:
        """Stop all nodes in good order. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._clients.close()
        for node in self.nodes:
            self.terminate(node)
        self._wait(lambda: all(member.process is None for member in self._members.values()), STOP_S_MAX + 1.0)
        self._logs.close()

    # --- what only a simulation can offer ---

    @property
    def digest(self) -> str:
        """Of all events so far."""
        return self.trace.digest

    @property
    def events(self) -> int:
        """How many there were."""
        return self.trace.count

    @property
    def trace_lines(self) -> list[str] | None:
        """If they are kept."""
        return self.trace.lines

    @property
    def sometimes(self) -> Mapping[str, int]:
        """Of `SIMULATED_SOMETIMES`, how often each happened."""
        return self._site.happened

    def observe(self, observer: Observer) -> None:
        """Call it from now on."""
        self._observers.append(observer)

    def well_since(self, node: str) -> float:
        """Infinity if it is not well."""
        process = self._members[node].process
        return process.well_since if process is not None else math.inf

    def down_since(self, node: str) -> float:
        """Infinity if it is not down."""
        member = self._members[node]
        return member.down_since if member.process is None else math.inf

    def clear_since(self, source: str, target: str) -> float:
        """Infinity while a rule is in force. A rule that was taken back may be obeyed `OBEY_S_MAX` longer."""
        link = (source, target)
        if link in self._ruled:
            return math.inf
        return self._free_since[link] + OBEY_S_MAX if link in self._free_since else 0.0

    # --- the laboratory ---

    def _pass(self) -> None:
        for observer in self._observers:
            observer.passed(self._agenda.now)
        self._agenda.at(self._agenda.now + PASS_HEARTBEATS * self.settings.heartbeat, self._pass)

    def _start(self, member: Member) -> None:
        if self._closed:
            return
        member.restart_at = math.inf
        if member.process is not None:
            member.wanted = member.asked
            return
        member.starts += 1
        member.asked = member.wanted = False
        member.note = None
        member.forget_report()
        settings = self.settings
        config = HostConfig(
            member.node,
            settings.nodes,
            settings.heartbeat,
            settings.election_timeout,
            self.seed,
            settings.options,
            settings.trace and self._logs.kept,
        )
        streams = (self._streams.stream(what, member.node, member.starts) for what in ("process", "links"))
        process = Process(self._site, next(self._pids), config, member.disk, *streams)
        member.process = process
        now = self._agenda.now
        member.restarts.started(now)
        self.trace.note(now, f"{member.node} starts".encode())
        self._logs.supervise(now, "start", node=member.node)
        boot = self._site.conditions.boot * self._random.uniform(1.0, 3.0)
        self._agenda.at(now + boot, self._begin, process)
        self._agenda.interrupt()

    def _begin(self, process: Process) -> None:
        process.begin(self._node_class, self._rules, self._links_version)

    def _obey(self, process: Process, rules: tuple[LinkRule, ...], version: int) -> None:
        process.obey(rules, version)
        self._agenda.interrupt()

    def _listening(self, process: Process) -> None:
        """Its first step is durable: it can be reached. Both ends of each connection see it stand."""
        self._agenda.interrupt()
        boot = process.host.boot if process.host is not None else 0
        self._logs.supervise(self._agenda.now, "listens", node=process.node, pid=process.pid, incarnation=boot)
        for member in self._members.values():
            peer = member.up
            if peer is None or peer is process:
                continue
            at = self._agenda.now + self._random.uniform(0.0, self._site.conditions.connect)
            self._agenda.at(at, self._connect, process, peer)

    def _connect(self, one: Process, other: Process) -> None:
        one.connected_to(other)
        other.connected_to(one)

    def _ended(self, process: Process, reason: str, kind: ExitKind) -> None:
        self._agenda.interrupt()
        member = self._members[process.node]
        now = self._agenda.now
        expected = kind in ("fault", "stopped") or (member.asked and kind == "clean")
        self._exits.append(Exit(member.node, process.pid, now, reason, expected))
        self._logs.supervise(now, "exit", node=member.node, pid=process.pid, reason=reason, expected=expected)
        member.process, member.note, member.down_since = None, reason, now
        if member.wanted:
            member.restarts.forgive()
            self._start(member)
            return
        if member.asked or self._closed:
            return
        match member.restarts.decide(kind, now, self._random):
            case Restart(after):
                member.restart_at = now + after
                self._agenda.at(member.restart_at, self._restart, member, member.restart_at)
            case GiveUp(why):
                member.note = f"{reason}; gives up: {why}"
            case _:
                pass

    def _restart(self, member: Member, at: float) -> None:
        if member.restart_at == at:
            self._start(member)
