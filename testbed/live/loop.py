"""The main loop of a node's process: drain, decide, save once, then send.

It joins a `Host` (which decides) with a `Transport` and a `Storage`; control messages of the supervisor come before
data, so that a node that was stopped obeys on waking. A node needs nothing from its supervisor while it runs.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq

from testbed.base import limits
from testbed.base.codec import Garbage
from testbed.base.links import LinkRule
from testbed.base.rand import Streams
from testbed.core.links import Links
from testbed.host import Host, HostConfig, Input
from testbed.live import clock, control
from testbed.live.control import Ports
from testbed.live.logs import NodeLog
from testbed.live.sockets import LOOPBACK
from testbed.live.storage import Storage
from testbed.live.transport import Transport
from testbed.node import LogLine, Node, Outbox

LINGER_MS = 200  # for the last messages of a node that stops in good order
AWAY_S = 0.1  # a turn that takes so much longer than it should: the process was stopped, or is starved
CONTROL_FIRST_MS = 20  # then ZeroMQ's thread hands over what came meanwhile in any order: control has so long to come


class NodeConfig(msgspec.Struct, frozen=True):
    """What a node's process is started with. `control`: port of its supervisor. Durations in seconds."""

    id: str
    members: list[str]
    cluster: str
    directory: str
    control: int
    heartbeat: float
    election_timeout: float
    seed: int | str
    options: dict[str, Any]
    ports: Ports
    table: dict[str, Ports]
    links_version: int
    rules: list[LinkRule]
    trace: bool = False
    lifeline: int = -1
    output: str = ""


def run_node(node_class: type[Node], config: Mapping[str, Any]) -> None:
    """Be a node until told to stop. Raises what a hook raises, `CorruptStorage`, or OSError if a port is taken."""
    NodeProcess(node_class, msgspec.convert(config, NodeConfig)).run()


class NodeProcess:
    """One node's process."""

    def __init__(self, node_class: type[Node], config: NodeConfig) -> None:
        self._config = config
        directory = Path(config.directory)
        self._storage = Storage(directory / "data.db")
        now = clock.now()
        self._host = Host(
            HostConfig(
                config.id,
                tuple(config.members),
                config.heartbeat,
                config.election_timeout,
                config.seed,
                config.options,
                config.trace,
            ),
            node_class,
            self._storage.load(),
            now,
        )
        self._log = NodeLog(directory, config.id, self._host.boot)
        self._links = Links(Streams(config.seed).stream("links", config.id, self._host.boot))
        self._links.configure(config.rules, config.links_version, now)
        self._transport = Transport(
            config.id, config.cluster, self._host.boot, config.ports, self._links, config.heartbeat
        )
        self._control = self._transport.context.socket(zmq.DEALER)
        self._control.setsockopt(zmq.LINGER, 0)
        self._control.setsockopt(zmq.ROUTING_ID, f"{config.id}/{self._host.boot}".encode())
        self._control.connect(f"tcp://{LOOPBACK}:{config.control}")
        self._poller = self._transport.poller
        self._poller.register(self._control, zmq.POLLIN)
        if config.lifeline >= 0:
            self._poller.register(config.lifeline, zmq.POLLIN)
        self._wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller.register(self._wake, zmq.POLLIN)
        self._turned_at = now
        self._stopping_since: float | None = None
        self._stop_patience = limits.STOP_PATIENCE_S
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on the terminal is for the supervisor to decide about

    def _terminated(self, *_: object) -> None:
        if self._stopping_since is None:
            self._stopping_since = clock.now()

    def run(self) -> None:
        """Until told to stop."""
        self._transport.connect(self._config.table)
        try:
            self._carry_out(self._host.start(clock.now()))
            # Only now: its incarnation is durable, and a node that cannot start has never been up.
            self._tell(control.Listening(self._config.id, os.getpid(), self._host.boot, self._transport.ports))
            while not self._stopped():
                self._turn()
        except Exception as error:
            for line in self._host.node.log.lines:  # of the step that was not finished: they lead up to the crash
                self._log.write(line)
            self._log.write(LogLine("ERROR", f"crashed: {type(error).__name__}: {error}", {}))
            raise
        self._log.write(LogLine("INFO", "stopped", {}))
        self._transport.close(LINGER_MS)
        self._storage.close()

    def _turn(self) -> None:
        patience_ms = self._patience_ms()
        ready = dict(self._poller.poll(patience_ms))
        if self._config.lifeline in ready:
            os._exit(0)  # the supervisor is gone, and nobody is left to tell
        if self._wake in ready:
            os.read(self._wake, 4096)
        now = clock.now()
        away = now - self._turned_at > AWAY_S + patience_ms / 1000
        self._turned_at = now
        heard_control = self._control in ready or (away and self._control.poll(CONTROL_FIRST_MS))
        inputs = self._obey(now) if heard_control else []
        inputs += self._transport.receive(ready, now)
        # the time after draining: what a leader stamps must not be earlier than the sending of what it stamps
        self._carry_out(self._host.step(inputs, clock.now()))

    def _patience_ms(self) -> int:
        now = clock.now()
        due = self._host.deadline
        transport_due = self._transport.deadline
        if transport_due is not None and transport_due < due:
            due = transport_due
        if self._stopping_since is not None:
            due = min(due, now + 0.01)
        return max(0, int((due - now) * 1000 + 0.999))

    def _carry_out(self, out: Outbox) -> None:
        """Early messages, one durable transaction, the log, then everything else: who has an answer finds in the log
        what led to it, even if the node is killed right then. What becomes possible once it is durable is carried out
        in the same way, until nothing more is to be saved."""
        now = clock.now()
        self._log.trace(out.traces, now)
        while True:
            self._transport.send_early(out, now)
            if out.saves:
                self._storage.commit(out.saves)
            for line in out.log:
                self._log.write(line)
            if out.leaving:
                self._log.trace(out.leaving, clock.now())
            self._transport.send(out, now)
            self._note(out)
            if not out.saves:
                return
            out = self._host.saved(now)
            if out.traces:
                self._log.trace(out.traces, clock.now())
            if out.is_empty:
                return

    def _note(self, out: Outbox) -> None:
        if self._transport.troubles:
            for what, detail in self._transport.troubles:
                self._log.write(LogLine("WARNING", f"drops what it cannot use: {what}", {"detail": detail}))
            self._transport.troubles.clear()
        if out.report:
            self._report(0)

    # --- the supervisor ---

    def _obey(self, now: float) -> list[Input]:
        inputs: list[Input] = []
        while True:
            try:
                message = control.decode_to_node(self._control.recv(zmq.NOBLOCK))
            except zmq.Again:
                return inputs
            except Garbage as error:
                self._log.write(LogLine("WARNING", "drops a control message", {"error": str(error)}))
                continue
            match message:
                case control.Addresses():
                    self._transport.connect(message.table)
                case control.Rules():
                    inputs += self._transport.configure(message.rules, message.version, now)
                    self._report(0)
                case control.StatusAsked():
                    self._report(message.number)
                case control.Closing():
                    self._stop_patience = 0.0

    def _report(self, number: int) -> None:
        counters = {**self._transport.counters, **self._links.counters}
        if self._log.lost:
            counters["log_lost"] = self._log.lost
        self._tell(
            control.Report(self._config.id, os.getpid(), number, self._links.version, self._host.status(), counters)
        )

    def _tell(self, message: control.FromNode) -> None:
        try:
            self._control.send(control.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            pass  # the supervisor is slow or gone; a node goes on without it

    def _stopped(self) -> bool:
        if self._stopping_since is None:
            return False
        now = clock.now()
        ready, out = self._host.stop(now, last=now >= self._stopping_since + self._stop_patience)
        self._carry_out(out)
        return ready
