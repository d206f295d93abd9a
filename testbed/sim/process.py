"""One process of a simulated node: drain, decide, save once, then send - as the live loop does, on virtual time.

It joins a `Host` (which decides) with links, a disk and a clock. When a sync is under way nothing else happens in it;
when it is paused nothing happens at all, and what arrives waits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from testbed.base import limits
from testbed.base.links import CLIENTS, LinkRule
from testbed.base.rand import Random
from testbed.core.links import Links
from testbed.core.restart import ExitKind
from testbed.host import ClientRequest, Closed, Connected, Host, HostConfig, Input, PeerMessage, Publication
from testbed.node import LogLine, Node, Outbox, Request
from testbed.sim.agenda import Agenda
from testbed.sim.clients import Clients
from testbed.sim.clocks import LocalClock
from testbed.sim.conditions import Conditions
from testbed.sim.disk import Disk
from testbed.sim.logs import Logs
from testbed.sim.network import Network
from testbed.sim.trace import Trace

if TYPE_CHECKING:
    from testbed.ports import Observer

WAKE_LATE_S = 1e-5  # a timer fires a little late: a loop that sets timers of no length must still let time pass
STOP_AGAIN_S = 0.01  # how often a node that is asked to stop is asked whether it is ready to


@dataclass
class Site:
    """What all processes of a world share."""

    agenda: Agenda
    network: Network
    clients: Clients
    trace: Trace
    conditions: Conditions
    observers: list[Observer]
    happened: Counter[str]
    logs: Logs
    listening: Callable[[Process], None]
    ended: Callable[[Process, str, ExitKind], None]


@dataclass(frozen=True)
class Ended:
    """Why a process ended: in words, and as the restart policy sees it."""

    reason: str
    kind: ExitKind


KILLED = Ended("killed by fault", "fault")
STOPPED = Ended("stopped as asked", "stopped")


class Process:
    """From its start to its end. Hashed by identity: a restarted node is another process."""

    def __init__(self, site: Site, pid: int, config: HostConfig, disk: Disk, random: Random, dice_of_links: Random):
        self.site = site
        self.node = config.id
        self.pid = pid
        self.alive = True
        self.paused = False
        self.listening = False  # its first step is durable, and it is connected to
        self.stopping_since = math.inf
        self.well_since = math.inf
        self.report_is_due = False
        self.counters: Counter[str] = Counter()
        self.links = Links(dice_of_links)
        self.connected: dict[str, Process] = {}
        self.clock = LocalClock(random)
        self.host: Host | None = None
        self._config = config
        self._disk = disk
        self._random = random
        self._inbox: list[tuple[str, int, Input]] = []
        self._shown: list[Input] = []  # what new link rules have shown of connections
        self._boots: dict[str, int] = {}
        self._rules: tuple[tuple[LinkRule, ...], int] | None = None  # not obeyed yet, because it is paused
        self._syncing = False
        self._synced_while_paused: Outbox | None = None
        self._leaving = False
        self._armed = math.inf  # when it is woken, in virtual time
        self._armed_for = math.inf  # ... for which deadline of the host, on its own clock
        self._killed_in_sync = False

    # --- what the laboratory does to it ---

    def begin(self, node_class: type[Node], rules: tuple[LinkRule, ...], version: int) -> None:
        """Load what is stored, and make the first step."""
        if not self.alive:
            return
        now = self.site.agenda.now
        self.links.configure(rules, version, now)
        try:
            self.host = Host(self._config, node_class, self._disk.load(), self.clock.now(now))
        except KeyboardInterrupt:  # of whoever runs the simulation
            raise
        except BaseException as error:
            self._crash(error)
            return
        for observer in self.site.observers:
            observer.began(self.node, self.host, now)
        self._step(self.host.start)

    def obey(self, rules: tuple[LinkRule, ...], version: int) -> None:
        """Obey these link rules from now on, or first of all once it goes on. Tables may overtake each other."""
        known = self.links.version if self._rules is None else self._rules[1]
        if not self.alive or self.host is None or version < known:
            return
        if self.paused:
            self._rules = (rules, version)
            return
        self._rules = None
        shown = self.links.obey(self.node, rules, version, self.site.agenda.now, self.connected)
        self._shown += [Connected(peer) if is_connected else Closed(peer) for peer, is_connected in shown]
        self.report_is_due = True
        self._go_on()

    def pause(self) -> None:
        """Stop in its tracks."""
        if self.alive and not self.paused:
            self.paused = True
            self.well_since = math.inf

    def resume(self) -> None:
        """Go on: first obey, then finish what was under way, then look at what has arrived."""
        if not self.alive or not self.paused:
            return
        self.paused = False
        self._is_well()
        if self._rules is not None:
            self.obey(*self._rules)
        if self._synced_while_paused is not None:
            out, self._synced_while_paused = self._synced_while_paused, None
            self._synced(out)
        else:
            self._go_on()

    def kill(self, in_sync: bool) -> None:
        """End at once, or (`in_sync`) in the middle of its next sync."""
        if in_sync and not self._syncing:
            self._killed_in_sync = True
        else:
            self.end(KILLED)

    def terminate(self) -> None:
        """Stop in good order, within `limits.STOP_PATIENCE_S`."""
        if self.host is None:
            self.end(STOPPED)
            return
        self.stopping_since = min(self.stopping_since, self.site.agenda.now)
        self.well_since = math.inf
        self.resume()
        self._stop()

    def end(self, why: Ended) -> None:
        """No more of this process. What it had not synced is lost or torn."""
        if not self.alive:
            return
        self.alive = False
        self.well_since = math.inf
        came_to = self._disk.crash()
        if came_to is not None:
            self.site.happened[came_to] += 1
        self._inbox.clear()
        now = self.site.agenda.now
        self.site.trace.note(now, f"{self.node} ends: {why.reason}".encode())
        for observer in self.site.observers:
            observer.ended(self.node, now)
        for peer in self.connected.values():
            self.site.network.carry(self.node, peer.node, "closing", b"", peer.disconnected, self)
        self.connected = {}
        self.site.clients.ended(self)
        self.site.ended(self, why.reason, why.kind)

    # --- what arrives ---

    def connected_to(self, peer: Process) -> None:
        """A connection stands."""
        if self.alive and peer.alive:
            self.connected[peer.node] = peer
            self._arrived(peer.node, 0, Connected(peer.node))

    def disconnected(self, peer: Process) -> None:
        """The other end is gone."""
        if self.connected.get(peer.node) is peer:
            del self.connected[peer.node]
            self._arrived(peer.node, 0, Closed(peer.node))

    def asked(self, number: int, body: bytes) -> None:
        """A client's request."""
        self._arrived(CLIENTS, 0, ClientRequest(Request(None, number), body))

    def _arrived(self, source: str, boot: int, item: Input) -> None:
        if not self.alive:
            return
        if len(self._inbox) >= limits.HELD_MESSAGES_MAX and not isinstance(item, Connected | Closed):
            self.counters["overflowed"] += 1
            return
        if self.paused or self._syncing or self.links.active:
            self._inbox.append((source, boot, item))
            self._go_on()
        elif self._is_current(source, boot):  # the common case: it is idle, and nothing else has arrived
            self._step_with([item])

    def _is_current(self, source: str, boot: int) -> bool:
        """Not from a process that a newer one of the same node has replaced. `boot` 0 is of no process."""
        if boot:
            if boot < self._boots.get(source, 0):
                self.counters["stale"] += 1
                return False
            self._boots[source] = boot
        return True

    # --- steps ---

    def _go_on(self) -> None:
        if self.alive and not self.paused and not self._syncing:
            self._turn()

    def _turn(self) -> None:
        """One step with all that has arrived."""
        if self.host is not None:
            self._step_with(self._drained())

    def _step_with(self, inputs: list[Input]) -> None:
        host, now = self.host, self.site.agenda.now
        assert host is not None
        try:
            out = host.step(inputs, self.clock.now(now))
        except KeyboardInterrupt:  # of whoever runs the simulation
            raise
        except BaseException as error:
            self._crash(error)
            return
        if not host.was_idle:
            self._stepped(out, now)
        elif self._leaving or self._inbox or self._shown:
            self._settle()
        else:
            self._arm()

    def _drained(self) -> list[Input]:
        links, now = self.links, self.site.agenda.now
        inbox, self._inbox = self._inbox, []
        inputs, self._shown = self._shown, []
        if links.deadline is not None and links.deadline <= now:
            self._due(inputs, now)
        for source, boot, item in inbox:
            if self._is_current(source, boot) and (not links.active or self._passes(source, item, now)):
                inputs.append(item)
        return inputs

    def _passes(self, source: str, item: Input, now: float) -> bool:
        """Under link rules: as in the live transport, the receiver's part of them."""
        match item:
            case Connected() | Closed():
                return source not in self.links.cut_peers(self.node)
            case PeerMessage():
                return self.links.receive(source, self.node, item)
            case _:
                return self.links.send(source, self.node, item, now)

    def _due(self, inputs: list[Input], now: float) -> None:
        for _, target, item in self.links.due(now):
            if target == self.node:
                inputs.append(item)
            elif target == CLIENTS:
                self.site.clients.answer(self, *item)
            else:
                self._send(target, item)

    def _step(self, make: Callable[[float], Outbox]) -> None:
        now = self.site.agenda.now
        assert self.host is not None
        try:
            out = make(self.clock.now(now))
        except KeyboardInterrupt:  # of whoever runs the simulation
            raise
        except BaseException as error:
            self._crash(error)
            return
        self._stepped(out, now)

    def _stepped(self, out: Outbox, now: float) -> None:
        """Carry it out: early messages, one durable write, then everything else."""
        host = self.host
        assert host is not None
        for observer in self.site.observers:
            observer.stepped(self.node, host, out, now)
        if out.traces:
            self.site.logs.trace(self.node, host.boot, now, out.traces)
        if out.early:
            self._offer(out.early)
        if not out.saves:
            self._depart(out)
            self._settle()
            return
        self._disk.write(out.saves)
        self._syncing = True
        conditions, random = self.site.conditions, self._random.random
        takes = conditions.sync * (1.0 + 2.0 * random())
        if conditions.stall_rate and random() < conditions.stall_rate:
            takes += conditions.stall * random()
            self.site.happened["sync stalled"] += 1
        if takes > self._config.heartbeat:
            self.well_since = math.inf  # for those around it that is as good as a pause
        if self._killed_in_sync:
            self.site.agenda.at(now + takes * random(), self.end, KILLED)
        self.site.agenda.at(now + takes, self._synced, out)

    def _synced(self, out: Outbox) -> None:
        if not self.alive:
            return
        if self.paused:
            self._synced_while_paused = out
            return
        self._disk.sync()
        self._syncing = False
        if self.well_since == math.inf:
            self._is_well()
        self._depart(out)
        if self.alive:
            assert self.host is not None
            self._step(self.host.saved)

    def _settle(self) -> None:
        """Nothing is under way: look at what has arrived meanwhile, or wait."""
        if not self.alive or self._syncing:
            return
        if self._leaving:
            self.end(STOPPED)
        elif (self._inbox or self._shown) and not self.paused:
            self._turn()
        else:
            self._arm()

    def _arm(self) -> None:
        """Be woken when the host or a link has something to do."""
        assert self.host is not None
        deadline = self.host.deadline
        if deadline < self._armed_for:
            self._armed_for = deadline
            now = self.site.agenda.now
            self._arm_at(now + self.clock.until(deadline, now) + WAKE_LATE_S)
        link_deadline = self.links.deadline
        if link_deadline is not None:
            self._arm_at(link_deadline)

    def _arm_at(self, due: float) -> None:
        if due < self._armed:
            self._armed = due
            self.site.agenda.at(due, self._woken, due)

    def _woken(self, due: float) -> None:
        if due != self._armed or not self.alive:
            return
        self._armed = self._armed_for = math.inf
        if self.paused or self._syncing:
            return
        assert self.host is not None
        now = self.site.agenda.now
        link_due = self.links.deadline
        if self.clock.now(now) >= self.host.deadline or (link_due is not None and link_due <= now):
            self._turn()
        else:
            self._arm()

    def _stop(self) -> None:
        if not self.alive or self._leaving:
            return
        self.site.agenda.at(self.site.agenda.now + STOP_AGAIN_S, self._stop)
        if self._syncing or self.paused:
            return
        last = self.site.agenda.now >= self.stopping_since + limits.STOP_PATIENCE_S
        host = self.host
        assert host is not None

        def stop(now: float) -> Outbox:
            self._leaving, out = host.stop(now, last)
            return out

        self._step(stop)

    def _crash(self, error: BaseException) -> None:
        if self.host is not None:
            for line in self.host.node.log.lines:  # of the step that was not finished: they lead up to the crash
                self._log(line)
        text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        self._log(LogLine("ERROR", f"crashed: {text}", {}))
        if isinstance(error, SystemExit):
            clean = error.code in (None, 0)
            code = error.code if isinstance(error.code, int) else 0 if clean else 1
            words = f": {error.code}" if isinstance(error.code, str) else ""
            self.end(Ended(f"exited with code {code}{words}", "clean" if clean else "failed"))
        else:
            self.end(Ended(f"crashed: {text}", "failed"))

    # --- what leaves ---

    def _offer(self, sends: Iterable[tuple[str, bytes]]) -> None:
        links, now = self.links, self.site.agenda.now
        for to, data in sends:
            if not links.active or links.send(self.node, to, data, now):
                self._send(to, data)

    def _send(self, to: str, data: bytes) -> None:
        peer = self.connected.get(to)
        if peer is None:
            self.counters["unsent"] += 1
            return
        assert self.host is not None
        message = PeerMessage(self.node, data)
        self.site.network.carry(self.node, to, "message", data, peer._arrived, self.node, self.host.boot, message)

    def _publish(self, data: bytes) -> None:
        assert self.host is not None
        message = Publication(self.node, data)
        for to, peer in self.connected.items():
            self.site.network.carry(self.node, to, "news", data, peer._arrived, self.node, self.host.boot, message)

    def _depart(self, out: Outbox) -> None:
        """What may leave once the step's saves are durable."""
        now = self.site.agenda.now
        host = self.host
        assert host is not None
        for line in out.log:
            self._log(line)
        if out.leaving:
            self.site.logs.trace(self.node, host.boot, now, out.leaving)
        if out.sends:
            self._offer(out.sends)
        for data in out.beats:
            self._publish(data)
        for data in out.published:
            self._publish(data)
        for request, ok, body in out.replies:
            item = (request.number, ok, body)
            if not self.links.active or self.links.send(self.node, CLIENTS, item, now):
                self.site.clients.answer(self, *item)
        if out.report:
            self.report_is_due = True
        for observer in self.site.observers:
            observer.departed(self.node, host, now)
        if not self.listening:
            self.listening = True
            self._is_well()
            self.site.listening(self)

    def _is_well(self) -> None:
        if self.listening and self.stopping_since == math.inf:
            self.well_since = self.site.agenda.now

    def _log(self, line: LogLine) -> None:
        now = self.site.agenda.now
        self.site.logs.write(self.node, self.host.boot if self.host else 0, now, self.clock.wall(now), line)

    def status_of_host(self) -> dict[str, Any] | None:
        """As the node reports itself, through a codec: nothing is shared. None if it crashed over the question."""
        assert self.host is not None
        self.report_is_due = False
        try:
            shown = msgspec.msgpack.decode(msgspec.msgpack.encode(self.host.status()))
        except KeyboardInterrupt:  # of whoever runs the simulation
            raise
        except BaseException as error:
            self._crash(error)
            return None
        counters = {**shown["counters"], **self.counters, **self.links.counters}
        return {**shown, "counters": counters}
