"""What a failure detector must never do, held against what the simulation knows of processes and links.

It knows verdicts and incarnations, and the truth. It does not know how the detector comes to its verdicts, nor whether
the observer was away meanwhile: a node that returns from an absence must not convict those who are well.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from testbed.core.membership.member import Member
from testbed.core.membership.messages import ALIVE, FAILED, SUSPECT
from testbed.host import Host
from testbed.node import LogLine, Outbox
from testbed.ports import SimulatedWorld

MEMBERSHIP_INVARIANTS = (
    "suspicion-first",  # nobody is convicted who was not suspected before, but for one that left
    "false-conviction",  # nobody is convicted who was well, with clear links to and from the one who convicts
    "own-incarnation",  # only a node itself raises its incarnation
    "unnoticed-death",  # a node that is down is held failed after a while
    "convicted-though-well",  # a conviction of a node that is well does not last
)
MEMBERSHIP_SOMETIMES = ("suspicion", "conviction", "refutation", "restart noticed", "was away")

WELL_HEARTBEATS = 40  # so long well and clear, and nothing can be left of what went before: five beats raise suspicion
SLOW_HEARTBEATS = 75  # in its worst health a node judges nobody for 8 x 5 of them, then suspects, and convicts 24 later

_LINES = {
    "refuting with a higher incarnation": "refutation",
    "was away; judging nobody for some seconds": "was away",
}
_gist = attrgetter("state", "incarnation")


@dataclass(slots=True)
class _Observer:
    """One node's failure detector: what it held after the last step, and since when it holds peers failed."""

    id: str
    members: tuple[Member, ...] = ()  # of its latest process
    seen: list[tuple[str, int]] = field(default_factory=list)
    failed_since: dict[str, float] = field(default_factory=dict)


class MembershipInvariants:
    """Watches the failure detectors of all nodes. `violate` takes a name, a sentence and the time in seconds."""

    def __init__(
        self,
        nodes: tuple[str, ...],
        heartbeat: float,
        world: SimulatedWorld,
        violate: Callable[[str, str, float], None],
        sometimes: Counter[str],
    ) -> None:
        self._nodes = nodes
        self._world = world
        self._violate = violate
        self._sometimes = sometimes
        self._well_s = WELL_HEARTBEATS * heartbeat
        self._slow_s = SLOW_HEARTBEATS * heartbeat
        self._observers = {node: _Observer(node) for node in nodes}
        self._incarnations = dict.fromkeys(nodes, 0)  # the highest that each has used itself

    # --- what happens ---

    def began(self, node: str, host: Host) -> None:
        """A new process knows nobody's incarnation yet."""
        members = tuple(host.known.values())
        self._observers[node] = _Observer(node, members, list(map(_gist, members)))
        self._used(node, host.incarnation)
        for member in members:  # of a process that ran before anybody looked
            self._used(member.id, member.incarnation)

    def _used(self, node: str, incarnation: int) -> None:
        self._incarnations[node] = max(self._incarnations[node], incarnation)

    def stepped(self, node: str, host: Host, out: Outbox, now: float) -> None:
        """Costs next to nothing where no verdict and no incarnation changed."""
        observer = self._observers[node]
        if host.incarnation != self._incarnations[node]:
            self._used(node, host.incarnation)
        seen = list(map(_gist, observer.members))
        if seen != observer.seen:
            self._changed(observer, seen, now)
        if out.log:
            self._read(out.log)

    def passed(self, now: float) -> None:
        """What shows only after a while."""
        for observer in self._observers.values():
            for member in observer.members:
                if member.state == FAILED:
                    self._check_lasting(observer, member.id, now)
                else:
                    self._check_unnoticed(observer, member.id, member.state, now)

    # --- verdicts ---

    def _changed(self, observer: _Observer, seen: list[tuple[str, int]], now: float) -> None:
        before, observer.seen = observer.seen, seen
        for member, (old, _), (new, incarnation) in zip(observer.members, before, seen, strict=True):
            if incarnation > self._incarnations[member.id]:
                self._violate(
                    "own-incarnation",
                    f"{observer.id} holds incarnation {incarnation} of {member.id},"
                    f" which has used none above {self._incarnations[member.id]}",
                    now,
                )
            if new == old:
                continue
            if new == SUSPECT:
                self._sometimes["suspicion"] += 1
            elif new == FAILED:
                observer.failed_since[member.id] = now
                if not member.left:
                    self._convicted(observer, member, old, now)

    def _convicted(self, observer: _Observer, member: Member, old: str, now: float) -> None:
        self._sometimes["conviction"] += 1
        if old == ALIVE:
            self._violate(
                "suspicion-first", f"{observer.id} held {member.id} alive and then at once failed, unsuspected", now
            )
        well_s = now - max(self._world.well_since(member.id), self._clear_since(observer.id, member.id))
        if well_s >= self._well_s:
            self._violate(
                "false-conviction",
                f"{observer.id} convicted {member.id}, incarnation {member.incarnation}, although that was well and the"
                f" links between them were clear for {well_s:.3f} s",
                now,
            )

    def _check_unnoticed(self, observer: _Observer, peer: str, state: str, now: float) -> None:
        down_since = self._world.down_since(peer)
        if now - down_since <= self._slow_s:
            return
        clear = sorted(self._clear_since(observer.id, other) for other in self._nodes)  # to itself: always
        able_since = max(self._world.well_since(observer.id), clear[len(self._nodes) // 2])
        if now - able_since > self._slow_s:
            self._violate(
                "unnoticed-death",
                f"{observer.id} holds {peer} {state}, which is down since {down_since:.3f} s, and was itself well and"
                f" connected to a majority since {able_since:.3f} s",
                now,
            )

    def _check_lasting(self, observer: _Observer, peer: str, now: float) -> None:
        since = max(
            observer.failed_since.get(peer, 0.0),
            self._world.well_since(observer.id),
            self._world.well_since(peer),
            self._clear_since(observer.id, peer),
        )
        if now - since > self._slow_s:
            self._violate(
                "convicted-though-well",
                f"{observer.id} holds {peer} failed, although both were well and connected since {since:.3f} s",
                now,
            )

    def _clear_since(self, one: str, other: str) -> float:
        """Both ways."""
        if one == other:
            return 0.0
        return max(self._world.clear_since(one, other), self._world.clear_since(other, one))

    def _read(self, lines: list[LogLine]) -> None:
        for line in lines:
            if line.text in _LINES:
                self._sometimes[_LINES[line.text]] += 1
            elif line.text == "membership" and line.fields.get("reason") == "restarted":
                self._sometimes["restart noticed"] += 1
