"""A lease: one fault in a nemesis's hands, from the asking to the healing, and the events that tell of it.

Holds what was observed. Decides nothing and acts on nothing.
"""

from typing import Any

from chaos.faults import Fault
from chaos.grips import Grip
from chaos.records import FaultRecord
from testbed.base.links import LinkRule


class Lease:
    """One fault in the nemesis's hands. Read `record`; ask the nemesis to release it."""

    def __init__(self, number: int, fault: Fault, asked: float) -> None:
        self.number = number
        self.fault = fault
        self.asked = asked
        self.grip: Grip | None = None
        self.nodes: tuple[str, ...] = ()
        self.missed: tuple[str, ...] = ()
        self.rules: tuple[LinkRule, ...] = ()
        self.in_effect: float | None = None
        self.ended: float | None = None
        self.healed: float | None = None
        self.skipped: str | None = None
        self.failed: str | None = None
        self.deadline: float | None = None  # of the observation that is still missing; None if none is

    @property
    def held(self) -> bool:
        """Whether it was applied and has not been released."""
        return self.grip is not None and self.ended is None

    @property
    def record(self) -> FaultRecord:
        """What became of it so far."""
        return FaultRecord(
            number=self.number,
            fault=self.fault,
            asked=self.asked,
            nodes=self.nodes,
            missed=self.missed,
            rules=self.rules,
            in_effect=self.in_effect,
            ended=self.ended,
            healed=self.healed,
            skipped=self.skipped,
            failed=self.failed,
        )


def event(lease: Lease, step: str, now: float, **more: Any) -> dict[str, Any]:
    """An event as in a history: `time` in nanoseconds on the world's clock, `f` the fault's kind, `value` the rest.

    `step` is asked (an invocation; all others are info), skipped, in effect, not in effect, ended, healed or not
    healed. `value` has `fault` (its number), `step` and `nodes`, and for partitions `shape` and `mode`; `more` is
    `since` (seconds) of what was observed, or `reason` of what was not.
    """
    fault = lease.fault
    value = {"fault": lease.number, "step": step, "nodes": list(lease.nodes), **more}
    if isinstance(fault.target, str):
        value["target"] = fault.target
    if fault.kind == "partition":
        value |= {"shape": "groups" if fault.groups else fault.shape, "mode": fault.mode}
    kind = "invoke" if step == "asked" else "info"
    return {"time": round(now * 1e9), "process": "nemesis", "type": kind, "f": fault.kind, "value": value}
