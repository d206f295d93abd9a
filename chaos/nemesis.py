"""The nemesis: makes faults happen, on schedule or on request, sees that they did, and undoes every one of them.

A fault is a lease: asked for, observed in effect, ended, observed healed. Leases may overlap; then they add up. What is
never observed in effect within its bound is recorded as not having taken hold. Observation is polled between the acts
of a schedule, so that no fault waits until another is verified. The nemesis reaches a cluster through `World` only and
lets time pass only in `World.wait`. It does not protect majorities: the schedule says what it says.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from chaos.custom_faults import CustomGrip, CustomKinds
from chaos.faults import Fault, is_custom, link_rules, mistake
from chaos.grips import Down, FaultSkipped, Grip, Holds, LinksHeld, Pause
from chaos.leases import Lease, event
from chaos.records import FaultRecord, applied, majority_windows, summary
from chaos.schedule import Schedule
from chaos.targets import resolve
from testbed.base.errors import UsageError
from testbed.base.links import LinkRule
from testbed.cluster import leader_of

if TYPE_CHECKING:
    from testbed.ports import NodeStatus, World

__all__ = ["FaultNotApplied", "FaultRecord", "Lease", "Nemesis", "majority_windows"]

IN_EFFECT_S_MAX: Final = 10.0  # a fault not seen in effect by then has not taken hold; a loaded machine needs seconds
HEALED_S_MAX: Final = 15.0  # ... and a restarted node has to load its log before it is up
POLL_S: Final = 0.02  # between looks at the processes: well below a fail-over, which is measured from what is seen here
LEADER_POLL_S: Final = 0.1  # between looks for a leader: an election takes longer
FRESH_POLL_S: Final = 0.1  # between questions to the nodes themselves, which cost each of them a step

Observer = Callable[[Mapping[str, Any]], None]


class FaultNotApplied(RuntimeError):
    """A fault that a test relies on was skipped, or did not verifiably take hold. The message says why."""


class Nemesis:
    """Use as a context manager: on the way out, whatever the reason, every fault that is still held is healed.

    `heartbeat`: the cluster's, in seconds; a cut link is believed once it was quiet for longer than two of them.
    `observer` is told of each step of each fault, in the shape of a history's events (see `chaos.leases.event`).
    `tick` is called many times a second while time passes, in the thread that waits: it must be quick.
    `custom`: the kinds of users' own that it may be asked for.
    """

    def __init__(
        self,
        world: "World",
        *,
        heartbeat: float = 0.1,
        observer: Observer | None = None,
        tick: Callable[[], None] | None = None,
        custom: CustomKinds | None = None,
    ) -> None:
        self.world = world
        self.heartbeat = heartbeat
        self.observer = observer
        self._tick = tick
        self._custom = custom
        self.leases: list[Lease] = []
        self._holds = Holds(world)
        self._ask_nodes_at = 0.0

    def __enter__(self) -> "Nemesis":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal_all()

    # --- what happened ---

    @property
    def records(self) -> list[FaultRecord]:
        """Every fault asked for so far, in that order."""
        return [lease.record for lease in self.leases]

    @property
    def applied(self) -> list[tuple[str, float]]:
        """(kind, seconds on the world's clock at which it was observed in effect), in order of time."""
        return applied(self.records)

    @property
    def links(self) -> list[LinkRule]:
        """The link rules in force: one for each directed link that any held fault touches."""
        return list(self._holds.in_force)

    def summary(self, planned: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Counts per kind, as in a run's summary; `planned` kinds are listed even if none was asked for."""
        return summary(self.records, planned)

    def held(self, kind: str | None = None, node: str | None = None) -> list[Lease]:
        """The leases that are held now, oldest first; of that kind, and on that node, if given."""
        return [
            lease
            for lease in self.leases
            if lease.held and kind in (None, lease.fault.kind) and (node is None or node in lease.nodes)
        ]

    # --- on schedule ---

    def run(self, schedule: Schedule, until: float | None = None, start: float | None = None) -> None:
        """Make the faults of `schedule` happen at `start` (now, if None) plus their times, and end.

        Returns at `until`, when all faults are healed and seen to be, or HEALED_S_MAX later at the latest; without
        `until`, when the last one is healed. All in seconds on the world's clock. A fault planned after `until` is not
        asked for; one still held at `until` ends then. On any exception everything is healed before it goes on.

        A fault on the leader that comes while nobody leads waits for a leader, as long as it would last.
        """
        begin = self.world.now() if start is None else start
        for planned in schedule.faults:
            self._validate(planned.fault)
        leases: dict[int, Lease] = {}
        acts = [(begin + planned.at, 1, index) for index, planned in enumerate(schedule.faults)]
        acts += [(begin + planned.until, 0, index) for index, planned in enumerate(schedule.faults)]
        try:
            heapify(acts)
            while acts:
                at, asking, index = heappop(acts)  # at the same time, ends come before beginnings
                if until is not None and at > until:
                    break
                self._let_pass(at)
                planned = schedule.faults[index]
                if not asking:
                    self._end(leases[index])
                elif at + LEADER_POLL_S < begin + planned.until and self._wants_leader(planned.fault):
                    heappush(acts, (at + LEADER_POLL_S, 1, index))
                else:
                    leases[index] = self._ask(planned.fault)
            if until is not None:
                self._let_pass(until)
            for lease in reversed(leases.values()):
                self._end(lease)
            self._settle(list(leases.values()))
        except BaseException:
            self.heal_all()
            raise

    # --- on request ---

    def hold(self, fault: Fault, wait: bool = True) -> Lease:
        """Apply `fault` until it is released. With `wait`, returns once it is seen in effect, or cannot be.

        UsageError for a fault that cannot be in this cluster. `lease.record` says whether it was skipped or failed.
        Without `wait`, call `poll` from time to time, or nothing is observed.
        """
        self._validate(fault)
        lease = self._ask(fault)
        if wait:
            self._settle([lease])
        return lease

    def release(self, lease: Lease, wait: bool = True) -> None:
        """End the fault. With `wait`, returns once it is seen healed, or has not been in HEALED_S_MAX. Idempotent."""
        self._end(lease)
        if wait:
            self._settle([lease])

    @contextmanager
    def holding(self, fault: Fault) -> Iterator[Lease]:
        """The fault is in effect inside the block and healed after it; FaultNotApplied if it did not take hold."""
        lease = self.hold(fault, wait=False)
        try:
            self._settle([lease])
            reason = lease.skipped or lease.failed
            if reason:
                raise FaultNotApplied(f"{fault.kind}: {reason}")
            yield lease
        finally:
            self.release(lease)

    def heal_all(self) -> None:
        """End every fault and see that it healed, within HEALED_S_MAX. Idempotent.

        Everything is undone first, whatever goes wrong with one of them; the first error is raised at the end.
        """
        first_error: BaseException | None = None
        for lease in reversed(self.leases):
            try:
                if lease.ended is None:
                    self._end(lease)
                elif lease.grip is not None and lease.healed is None:
                    lease.grip.let_go()  # again: what cut its end short the first time may be over
            except BaseException as error:  # also Ctrl-C: the others must be undone all the same
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        self._settle(self.leases)

    def poll(self) -> None:
        """Look whether faults have come into effect or have healed. Lets no time pass of its own."""
        pending = [lease for lease in self.leases if lease.deadline is not None]
        if not pending:
            return
        now = self.world.now()
        fresh = now >= self._ask_nodes_at and any(lease.grip and lease.grip.fresh for lease in pending)
        if fresh:
            self._ask_nodes_at = now + FRESH_POLL_S
        statuses = self.world.status(fresh=fresh)
        for lease in pending:
            if lease.grip is not None and (fresh or not lease.grip.fresh):
                self._judge(lease, lease.grip, statuses)

    # --- steps of one lease ---

    def _validate(self, fault: Fault) -> None:
        reason = mistake(fault, self.world.nodes)
        if reason:
            raise UsageError("fault", fault.kind, reason)
        if is_custom(fault.kind):
            if self._custom is None or fault.kind not in self._custom.classes:
                raise UsageError("fault", fault.kind, "is not known here")
            self._custom.make(fault, 0)  # its options are looked at now

    def _wants_leader(self, fault: Fault) -> bool:
        """Whether the fault is for a leader, or for those who follow one, and there is none."""
        return isinstance(fault.target, str) and leader_of(self.world.status()) is None

    def _ask(self, fault: Fault) -> Lease:
        """Apply the fault, or skip it."""
        lease = Lease(len(self.leases) + 1, fault, self.world.now())
        self.leases.append(lease)
        late = isinstance(fault.target, str)
        statuses = self.world.status(fresh=late)
        targets = resolve(fault.target, self.world.nodes, leader_of(statuses) if late else None)
        if targets is None:
            self._tell(lease, "asked")
            return self._skip(lease, "no node leads")
        down = tuple(node for node in targets if statuses[node].state == "down")
        if fault.kind in ("kill", "terminate", "pause") or is_custom(fault.kind):
            lease.nodes = tuple(node for node in targets if node not in down)
            lease.missed = down
        else:
            lease.nodes = targets or tuple(node for group in fault.groups for node in group) or self.world.nodes
            lease.rules = link_rules(fault, self.world.nodes, targets)
        self._tell(lease, "asked")
        if not lease.nodes:
            return self._skip(lease, f"{', '.join(down)} down already")
        lease.deadline = lease.asked + IN_EFFECT_S_MAX
        lease.grip = self._grip(lease, statuses)
        try:
            lease.grip.take()
        except FaultSkipped as skipped:
            lease.grip = lease.deadline = None
            return self._skip(lease, str(skipped))
        return lease

    def _grip(self, lease: Lease, statuses: "Mapping[str, NodeStatus]") -> Grip:
        match lease.fault.kind:
            case "kill" | "terminate":
                return Down(self._holds, lease.nodes, terminate=lease.fault.kind == "terminate")
            case "pause":
                return Pause(self._holds, lease.nodes, statuses)
            case kind if self._custom is not None and kind in self._custom.classes:
                made = self._custom.make(lease.fault, lease.number)
                return CustomGrip(
                    self._holds, made, lease.nodes, heartbeat=self.heartbeat, directory=self._custom.directory
                )
            case _:
                return LinksHeld(self._holds, lease.rules, self.heartbeat)

    def _skip(self, lease: Lease, reason: str) -> Lease:
        lease.skipped = reason
        lease.ended = lease.asked
        self._tell(lease, "skipped", reason=reason)
        return lease

    def _end(self, lease: Lease) -> None:
        """Undo the fault, once; what was not seen in effect by now has not taken hold."""
        if not lease.held or lease.grip is None:
            return
        try:
            if lease.deadline is not None:
                self._judge(lease, lease.grip, self.world.status(fresh=lease.grip.fresh), last=True)
            self._tell(lease, "ended")
        finally:
            lease.ended = self.world.now()
            lease.deadline = lease.ended + HEALED_S_MAX
            lease.grip.let_go()

    def _judge(self, lease: Lease, grip: Grip, statuses: "Mapping[str, NodeStatus]", last: bool = False) -> None:
        """Take note of what the observation says about the lease. `last`: it has to be seen in effect now or never."""
        now = self.world.now()
        seen = grip.seen_in_effect(statuses, now) if lease.ended is None else grip.seen_healed(statuses, now)
        if isinstance(seen, str):
            if lease.deadline is None or (now < lease.deadline and not last):
                return
            step = "not in effect" if lease.ended is None else "not healed"
            lease.failed = "; ".join(part for part in (lease.failed, f"{step}: {seen}") if part)
            self._tell(lease, step, reason=seen)
        elif lease.ended is None:
            lease.in_effect = seen
            self._tell(lease, "in effect", since=seen)
        else:
            lease.healed = seen
            self._tell(lease, "healed", since=seen)
        lease.deadline = None

    def _tell(self, lease: Lease, step: str, **more: Any) -> None:
        if self.observer is not None:
            self.observer(event(lease, step, self.world.now(), **more))

    # --- letting time pass ---

    def _let_pass(self, deadline: float) -> None:
        """Wait until `deadline` (seconds on the world's clock), observing meanwhile what is to be observed."""
        while True:
            self.poll()
            left = deadline - self.world.now()
            if left < 1e-6:  # of a second: less is rounding, and a world might not wait for it at all
                return
            pending = any(lease.deadline is not None for lease in self.leases)
            self.world.wait(self._never, min(left, POLL_S) if pending else left)

    def _settle(self, leases: list[Lease]) -> None:
        """Wait until nothing about these leases is left to be observed; their deadlines bound it."""
        while True:
            self.poll()
            if all(lease.deadline is None for lease in leases):
                return
            self.world.wait(self._never, POLL_S)

    def _never(self) -> bool:
        if self._tick is not None:
            self._tick()
        return False
