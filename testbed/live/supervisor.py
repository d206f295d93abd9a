"""The live world: a supervisor that spawns, watches and stops the processes of one cluster.

It is the laboratory, not part of the system under test: nodes serve, detect failures and elect without it. One thread
owns the fork server and the control socket; the methods of `LiveWorld` leave orders for it and read what it knows.
"""

import fcntl
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from testbed.base.codec import Garbage
from testbed.base.errors import UsageError
from testbed.base.limits import STOP_S_MAX
from testbed.base.links import LinkRule
from testbed.base.rand import Streams, entropy
from testbed.client import ClientProgram, Sent
from testbed.core.restart import GiveUp, Restart, RestartPolicy
from testbed.live import clock, control
from testbed.live.clients import ClientDriver
from testbed.live.control import Ports
from testbed.live.exits import (
    EXIT_ADDRESS_IN_USE,
    EXIT_CORRUPT_STORAGE,
    EXIT_USAGE,
    Asked,
    classify,
    decode,
    expected,
)
from testbed.live.logs import JsonLines
from testbed.live.members import Member
from testbed.live.nodeclass import describe
from testbed.live.processes import Exited, Failed, ForkServer, Ready, Spawned
from testbed.live.procfs import observe
from testbed.live.sockets import LOOPBACK
from testbed.ports import ClusterSettings, Exit, NodeStatus

START_S_MAX = 30.0  # a starved machine forks slowly; a node that needs longer than this does not start at all
CLOSE_S_MAX = STOP_S_MAX + 2.0  # then the fork server itself is ended, and everything with it
FRESH_S_MAX = 0.5  # how long `status(fresh=True)` waits for nodes that may be starved
HINDRANCES = (EXIT_ADDRESS_IN_USE, EXIT_CORRUPT_STORAGE, EXIT_USAGE)
HOPELESS = (EXIT_CORRUPT_STORAGE, EXIT_USAGE)  # of these, what another start cannot get over
POLL_S = 0.02  # how often `wait` looks again at what no event announces, such as a stopped process


class LiveWorld:
    """A cluster of processes; see `testbed.ports.World`. `directory` is made if need be and kept."""

    def __init__(self, settings: ClusterSettings, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.cluster = f"{entropy().getrandbits(64):016x}"
        self.seed = settings.seed if settings.seed is not None else entropy().getrandbits(32)
        self._reference = describe(settings.node, list(settings.search))
        policy = RestartPolicy(settings.restart)
        self._members = {node: Member(node, policy, directory / "nodes" / node) for node in settings.nodes}
        for member in self._members.values():
            member.directory.mkdir(parents=True, exist_ok=True)
        self._random = Streams(self.seed).stream("supervisor")
        self._log = JsonLines(directory / "supervisor.jsonl")
        self._changed = threading.Condition()
        self._orders: deque[Callable[[], None]] = deque()
        self._exits: list[Exit] = []
        self._rules: list[LinkRule] = []
        self._links_version = 0
        self._ready = False
        self._asking = 0
        self._closing = False
        self._close_by = float("inf")  # when the fork server is to kill whatever is left
        self._closed = False
        self._gone = False  # closed to the end: the descriptors may be somebody else's by now
        self._failure: BaseException | None = None
        self._clients = ClientDriver(self.cluster, self.notify)
        self._lock: int | None = None  # on the directory, while the cluster runs
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="testbed-supervisor", daemon=True)

    def open(self) -> None:
        """Start all nodes; returns when each listens, or has crashed. UsageError, with nothing left running, where
        something outside the node's code is in the way: its database, its port, its class."""
        self._lock = self._take_directory()
        self._thread.start()
        try:
            started = self.wait(self._all_settled, START_S_MAX)
            if not started:
                slow = [member.node for member in self._members.values() if member.running and not member.listening]
                raise UsageError("cluster", ", ".join(slow), f"not started within {START_S_MAX:g} s")
        except BaseException:
            self.close()
            raise

    def _take_directory(self) -> int:
        """Two clusters on the same databases would corrupt each other's state. The lock goes with this process."""
        lock = os.open(self.directory / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self.close()
            raise UsageError(self.directory, "", "another cluster runs in this directory") from None
        return lock

    def _all_settled(self) -> bool:
        for member in self._members.values():
            if member.hindered:
                raise UsageError(member.directory, member.node, f"could not be started: {member.note}")
        return self._ready and all(member.listening or not member.running for member in self._members.values())

    # --- the port ---

    @property
    def nodes(self) -> tuple[str, ...]:
        """All ids, in order."""
        return self.settings.nodes

    def now(self) -> float:
        """CLOCK_MONOTONIC."""
        return clock.now()

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Real time passes. Raises what a client program, or the supervisor itself, failed with."""
        give_up = clock.now() + timeout
        with self._changed:
            while True:
                if self._closed:
                    raise UsageError("cluster", "", "is not running any more")
                failure = self._failure or self._clients.failure
                if failure is not None:
                    raise failure
                if condition():
                    return True
                left = give_up - clock.now()
                if left <= 0:
                    return False
                self._changed.wait(min(left, POLL_S))

    def notify(self) -> None:
        """Look again at what `wait` waits for."""
        with self._changed:
            self._changed.notify_all()

    def start(self, node: str) -> None:
        """Start a node that is down, or once it is."""
        member = self._members[node]
        self._order(lambda: self._start(member))

    def kill(self, node: str) -> None:
        """SIGKILL."""
        member = self._members[node]
        self._order(lambda: self._end(member, "kill", signal.SIGKILL))

    def terminate(self, node: str) -> None:
        """SIGTERM, then SIGCONT (a stopped process gets no TERM), then SIGKILL."""
        member = self._members[node]
        self._order(lambda: self._end(member, "stop", signal.SIGTERM))

    def pause(self, node: str) -> None:
        """SIGSTOP."""
        self._order(lambda: self._fork_server.signal(node, signal.SIGSTOP))

    def resume(self, node: str) -> None:
        """SIGCONT."""
        self._order(lambda: self._fork_server.signal(node, signal.SIGCONT))

    def set_links(self, rules: Sequence[LinkRule]) -> int:
        """Send the rules to every node that runs; one that starts later begins with them."""
        with self._changed:
            self._rules = list(rules)
            self._links_version += 1
            version = self._links_version
        self._order(self._broadcast_rules)
        return version

    def status(self, fresh: bool = False) -> dict[str, NodeStatus]:
        """What is known; with `fresh`, after asking every node that runs and is not paused."""
        if fresh:
            with self._changed:
                self._asking += 1
                number = self._asking
            self._order(lambda: self._ask_for_status(number))
            self.wait(lambda: self._reported(number), FRESH_S_MAX)
        with self._changed:
            return {node: member.status() for node, member in self._members.items()}

    def exits(self) -> list[Exit]:
        """Every process that ended, oldest first."""
        with self._changed:
            return list(self._exits)

    def run_client(self, program: ClientProgram, sent: Sent | None = None) -> None:
        """Drive it in the clients' thread."""
        self._clients.run(program, sent)

    def tell_client(self, program: ClientProgram, what: Any) -> None:
        """Hand it over to the clients' thread."""
        self._clients.tell(program, what)

    def close(self) -> None:
        """Stop all nodes - TERM, CONT, KILL - and everything else. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._clients.close()
        if self._thread.is_alive():
            self._order(self._begin_closing)
            self._thread.join()
        with self._changed:
            self._gone = True
        self._log.close()
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # also for copies of the descriptor in forked processes
            os.close(self._lock)
        os.close(self._wake)
        os.close(self._waker)

    # --- orders, from any thread ---

    def _order(self, order: Callable[[], None]) -> None:
        with self._changed:
            if self._gone:
                raise UsageError(self.directory, "", "this cluster has been stopped")
            self._orders.append(order)
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            pass  # the thread has thousands of wake-up calls already

    def _reported(self, number: int) -> bool:
        return all(
            (member.report is not None and member.report.number >= number) or member.status().state == "paused"
            for member in self._members.values()
            if member.listening
        )

    # --- the thread ---

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._control = context.socket(zmq.ROUTER)
            self._control.setsockopt(zmq.LINGER, 0)
            self._control.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._control.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what cannot be sent would vanish unnoticed
            self._control_port = self._control.bind_to_random_port(f"tcp://{LOOPBACK}")
            with ForkServer(
                "testbed.live.loop:run_node", self._reference, self.directory, self.settings.search
            ) as self._fork_server:
                poller = zmq.Poller()
                for source in (self._control, self._fork_server.fileno(), self._wake):
                    poller.register(source, zmq.POLLIN)
                while not self._over():
                    self._turn(dict(poller.poll(self._patience_ms())))
            self._process_events()
        except BaseException as error:  # nobody sees a thread die: `wait` raises it where it is seen
            self._failure = error
            self.notify()
        finally:
            context.destroy(linger=0)

    def _patience_ms(self) -> int:
        times = [
            at for member in self._members.values() for at in (member.kill_at, member.restart_at) if at is not None
        ]
        if self._closing:
            times.append(self._close_by)
        return max(0, int((min(times) - clock.now()) * 1000 + 0.999)) if times else 1000

    def _turn(self, ready: dict[Any, int]) -> None:
        with self._changed:
            if self._wake in ready:
                os.read(self._wake, 65536)
            while self._orders:
                self._orders.popleft()()
            if self._fork_server.fileno() in ready:
                self._process_events()
            if self._control in ready:
                self._hear_nodes()
            self._look_at_the_clock()
            self._changed.notify_all()

    def _over(self) -> bool:
        return self._closing and (
            clock.now() >= self._close_by or not any(member.running for member in self._members.values())
        )

    # --- processes ---

    def _process_events(self) -> None:
        for event in self._fork_server.events():
            match event:
                case Ready():
                    self._ready = True
                    for member in self._members.values():
                        self._start(member)
                case Spawned():
                    member = self._members[event.node]
                    member.pid = event.pid
                    member.restarts.started(clock.now())
                case Exited():
                    self._ended(self._members[event.node], event)
                case Failed():
                    self._could_not(event)

    def _could_not(self, event: Failed) -> None:
        self._log.write(what="failed", node=event.node, reason=event.reason, traceback=event.traceback)
        if event.node is not None:
            member = self._members[event.node]
            member.running, member.note, member.hindered = False, event.reason, True
            return
        if event.usage:
            self._failure = UsageError("", "", event.reason)
        elif not self._closing:
            self._failure = RuntimeError(f"{event.reason}\n{event.traceback}".strip())
        self._closing, self._close_by = True, clock.now()  # without it nothing can be started or stopped any more
        for member in self._members.values():  # a start that it never obeyed ends nowhere else
            member.running = member.listening = member.wanted = False
            member.restart_at = member.kill_at = None

    def _start(self, member: Member) -> None:
        if self._closing or not self._ready:
            return
        member.restart_at = None
        if member.running:
            member.wanted = member.asked is not None
            return
        member.running, member.listening, member.wanted = True, False, False
        member.hindered = False
        member.asked = member.pid = member.report = member.note = member.kill_at = None
        self._log.write(what="start", node=member.node)
        self._fork_server.spawn(
            member.node,
            {
                "id": member.node,
                "members": list(self.nodes),
                "cluster": self.cluster,
                "directory": str(member.directory),
                "control": self._control_port,
                "heartbeat": self.settings.heartbeat,
                "election_timeout": self.settings.election_timeout,
                "seed": self.seed,
                "options": dict(self.settings.options),
                "ports": member.ports,
                "table": self._table(),
                "links_version": self._links_version,
                "rules": self._rules,
                "trace": self.settings.trace,
                "output": str(member.directory / "output.log"),
            },
        )

    def _end(self, member: Member, why: Asked, signum: int) -> None:
        if not member.running:
            member.restart_at = None
            return
        member.asked = member.asked or why
        member.wanted = False
        self._fork_server.signal(member.node, signum)
        if signum == signal.SIGTERM:
            self._fork_server.signal(member.node, signal.SIGCONT)
            member.kill_at = clock.now() + STOP_S_MAX

    def _ended(self, member: Member, event: Exited) -> None:
        reason = decode(event.status, member.asked, event.oom, event.last_words or None)
        as_asked = expected(event.status, member.asked)
        kind = classify(event.status, member.asked)
        self._exits.append(Exit(member.node, event.pid, clock.now(), reason, as_asked))
        self._log.write(what="exit", node=member.node, pid=event.pid, reason=reason, expected=as_asked)
        member.running = member.listening = False
        member.note, member.kill_at, member.route = reason, None, None
        code = os.WEXITSTATUS(event.status) if os.WIFEXITED(event.status) else None
        member.hindered, member.hopeless = code in HINDRANCES, code in HOPELESS
        if member.wanted:
            member.restarts.forgive()
            self._start(member)
            return
        if member.asked is not None or member.hopeless:
            return  # it was to go down, however it went; or it would only end like this again
        decision = member.restarts.decide(kind, clock.now(), self._random)
        match decision:
            case Restart():
                member.restart_at = clock.now() + decision.after
            case GiveUp():
                member.note = f"{reason}; gives up: {decision.reason}"
                self._log.write(what="gives up", node=member.node, reason=decision.reason)
            case _:
                pass

    def _look_at_the_clock(self) -> None:
        now = clock.now()
        for member in self._members.values():
            if member.kill_at is not None and now >= member.kill_at:
                member.kill_at = None
                self._fork_server.signal(member.node, signal.SIGKILL)
            if member.restart_at is not None and now >= member.restart_at:
                self._start(member)

    def _begin_closing(self) -> None:
        self._close_by = clock.now() + CLOSE_S_MAX
        self._fork_server.wake()
        self._broadcast(control.Closing())
        self._closing = True
        for member in self._members.values():
            self._end(member, "stop", signal.SIGTERM)

    # --- nodes ---

    def _hear_nodes(self) -> None:
        while True:
            try:
                route, data = self._control.recv_multipart(zmq.NOBLOCK)[:2]
                message = control.decode_from_node(data)
            except zmq.Again:
                return
            except (Garbage, ValueError) as error:
                self._log.write(what="drops a control message", error=str(error))
                continue
            member = self._members.get(message.node)
            if member is None or not member.running or member.pid not in (None, message.pid):
                continue  # from a process that has ended since
            match message:
                case control.Listening():
                    member.pid, member.ports, member.route = message.pid, message.ports, route
                    member.listening = True
                    self._log.write(what="listens", node=member.node, pid=message.pid, incarnation=message.boot)
                    self._clients.connect(member.node, message.ports.clients)
                    self._tell(member, control.Rules(self._links_version, self._rules))
                    self._broadcast(control.Addresses(self._table()))
                case control.Report():
                    self._note_changes(member, message)
                    member.report = message
                    member.reported_at = clock.now()

    def _note_changes(self, member: Member, report: control.Report) -> None:
        """Subscribers of the failure detector's news: the supervisor's log."""
        before = member.report.host.get("views", {}) if member.report is not None else {}
        for peer, state in report.host.get("views", {}).items():
            if before.get(peer, "alive") != state:
                self._log.write(what="membership", node=member.node, peer=peer, state=state)

    def _table(self) -> dict[str, Ports]:
        return {member.node: member.ports for member in self._members.values() if member.ports.peers}

    def _broadcast_rules(self) -> None:
        self._log.write(what="links", version=self._links_version, rules=self._rules)
        self._broadcast(control.Rules(self._links_version, self._rules))

    def _ask_for_status(self, number: int) -> None:
        """A stopped node is not asked: its socket must not fill up with questions and then lose link rules."""
        for member in self._members.values():
            if member.pid is not None and observe(member.pid) == "running":
                self._tell(member, control.StatusAsked(number))

    def _broadcast(self, message: control.ToNode) -> None:
        for member in self._members.values():
            self._tell(member, message)

    def _tell(self, member: Member, message: control.ToNode) -> None:
        if member.route is None:
            return
        try:
            self._control.send_multipart([member.route, control.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError:  # EAGAIN: it reads nothing; EHOSTUNREACH: its connection is gone, and so is it
            self._log.write(what="a node reads no control messages", node=member.node)
