"""What no node of a simulated cluster may ever do, whatever happens to it: watched step by step, recorded, not raised.

It looks into the nodes, which no judge of a history can. It changes nothing in them and drives nothing.
"""

from collections import Counter

import msgspec

from chaos.checkers.model import Verdict
from chaos.invariants.membership import MEMBERSHIP_INVARIANTS, MEMBERSHIP_SOMETIMES, MembershipInvariants
from chaos.invariants.raft import RAFT_INVARIANTS, RAFT_SOMETIMES, RaftInvariants
from chaos.invariants.services import SERVICE_INVARIANTS, ServiceInvariants
from testbed.host import Host
from testbed.node import Outbox
from testbed.ports import SimulatedWorld

SOMETIMES: tuple[str, ...] = (*RAFT_SOMETIMES, *MEMBERSHIP_SOMETIMES)
"""What a campaign of many seeds must have reached, or it has tested less than it seems to.

With locks and queues, `LOCK_SOMETIMES` and `QUEUE_SOMETIMES` of `chaos.invariants.services` as well.
"""


class Violation(msgspec.Struct, frozen=True):
    """An invariant that did not hold: its name, what was seen (one sentence), and when, in seconds of `World.now`."""

    name: str
    detail: str
    at: float


class Invariants:
    """An observer of a simulated world; give it to `SimulatedWorld.observe` before the first node starts.

    `heartbeat` and `election_timeout` in seconds. `violations`: of each name the first. `sometimes`: how often each
    event of `SOMETIMES`, and of locks and queues, was seen.
    """

    def __init__(
        self, nodes: tuple[str, ...], heartbeat: float, election_timeout: float, world: SimulatedWorld
    ) -> None:
        self.violations: list[Violation] = []
        self.sometimes: Counter[str] = Counter()
        self._steps = 0
        self._raft = RaftInvariants(nodes, election_timeout, world, self._violated, self.sometimes)
        self._services = ServiceInvariants(self._violated, self.sometimes)
        self._membership = MembershipInvariants(nodes, heartbeat, world, self._violated, self.sometimes)

    def checks(self) -> list[Verdict]:
        """A verdict about Raft, if the nodes have any, one about locks and queues that were used, one on detectors."""
        watched = f"held in {self._steps} steps"
        checks = []
        if self._raft.watched_any:
            checks.append(self._verdict("raft-invariants", RAFT_INVARIANTS, f"{watched}; {self._raft.summary()}"))
        if self._services.watched_any:
            summary = self._services.summary()
            checks.append(self._verdict("service-invariants", SERVICE_INVARIANTS, f"{watched}; {summary}"))
        checks.append(self._verdict("membership-invariants", MEMBERSHIP_INVARIANTS, watched))
        return checks

    def _verdict(self, judge: str, names: tuple[str, ...], watched: str) -> Verdict:
        for violation in self.violations:
            if violation.name in names:
                detail = f"{violation.name} at {violation.at:.3f} s: {violation.detail}"
                return Verdict(verdict="invalid", model=judge, operations=0, detail=detail)
        return Verdict(verdict="valid", model=judge, operations=0, detail=f"{len(names)} invariants {watched}")

    def _violated(self, name: str, detail: str, at: float) -> None:
        if all(violation.name != name for violation in self.violations):
            self.violations.append(Violation(name, detail, at))

    # --- the observer ---

    def began(self, node: str, host: Host, now: float) -> None:  # noqa: ARG002  # as the port has it
        """A process of the node begins."""
        self._raft.began(node, host)
        self._services.began(node)
        self._membership.began(node, host)

    def stepped(self, node: str, host: Host, out: Outbox, now: float) -> None:
        """The node made a step."""
        self._steps += 1
        self._raft.stepped(node, host, out, now)
        self._services.stepped(node, host, out, now)
        self._membership.stepped(node, host, out, now)

    def departed(self, node: str, host: Host, now: float) -> None:  # noqa: ARG002  # as the port has it
        """Others may rely on what the last step saved."""
        self._raft.departed(node)

    def ended(self, node: str, now: float) -> None:
        """The node's process is gone."""
        self._raft.ended(node, now)

    def passed(self, now: float) -> None:
        """A simulated second is over."""
        self._raft.passed(now)
        self._membership.passed(now)
