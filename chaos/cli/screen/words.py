"""What happens to a cluster, in a few words: what is done to a node, what is in effect, what comes next, what was new.

Pure. Knows faults, leases and statuses; not who looks, nor how much room there is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.faults import WHOLE_CLUSTER_SHAPES, Fault
from chaos.leases import Lease
from chaos.schedule import PlannedFault
from testbed.base.durations import format_duration
from testbed.base.links import LinkRule
from testbed.cluster import leader_of
from testbed.ports import Exit, NodeStatus

NAMED_MAX: Final = 3  # nodes that are named one by one ...
EVENT_NAMED_MAX: Final = 9  # ... where there is a line for it
DONE: Final = {"kill": "killed", "terminate": "terminated", "pause": "paused"}
ENDED: Final = ("kill", "terminate")
HAMPERED: Final = {"loss": "loses", "duplicate": "duplicates", "reorder": "reorders"}


def health(node: str, status: Mapping[str, NodeStatus]) -> dict[str, int]:
    """How many of the others that are up believe it failed, suspect and alive; the worst first, without zeros."""
    views = [
        other.views[node]
        for other in status.values()
        if other.id != node and other.state == "up" and node in other.views
    ]
    return {view: views.count(view) for view in ("failed", "suspect", "alive") if view in views}


def harms(node: str, held: Sequence[Lease], links: Sequence[LinkRule]) -> list[tuple[str, str]]:
    """What is being done to a node by the faults that are held, in full and in short; `links`: the rules in force."""
    faults = [lease.fault for lease in held if node in lease.nodes]
    done = [(DONE[fault.kind], DONE[fault.kind]) for fault in faults if fault.kind in DONE]
    if any(fault.kind in ENDED for fault in faults):  # it has no links then
        return list(dict.fromkeys(done))
    done += _cuts(node, links)
    done += [_hampered(fault) for fault in faults if fault.kind not in DONE and fault.kind != "partition"]
    return list(dict.fromkeys(done))


def _cuts(node: str, links: Sequence[LinkRule]) -> list[tuple[str, str]]:
    cut = [rule for rule in links if rule.cut is not None]
    unheard = [rule.target for rule in cut if rule.source == node]
    deaf = [rule.source for rule in cut if rule.target == node]
    parts = (
        ("cut off", "from", [other for other in unheard if other in deaf]),
        ("unheard", "by", [other for other in unheard if other not in deaf]),
        ("deaf", "to", [other for other in deaf if other not in unheard]),
    )
    return [(f"{words} {to} {_named(others)}", words) for words, to, others in parts if others]


def _named(nodes: Sequence[str], most: int = NAMED_MAX) -> str:
    return ",".join(nodes) if len(nodes) <= most else f"{len(nodes)} nodes"


def _hampered(fault: Fault) -> tuple[str, str]:
    if fault.kind == "delay":
        return f"delayed {_delay(fault)}", "delayed"
    words = HAMPERED.get(fault.kind, kind_words(fault.kind))
    return (f"{words} {fault.rate:.0%}" if fault.rate else words), words


def _delay(fault: Fault) -> str:
    least, most = format_duration(fault.delay), format_duration(fault.delay + fault.jitter)
    return least if least == most else f"{least} to {most}"


def kind_words(kind: str) -> str:
    """A kind of fault; a user's own, "module:Class", goes by its class."""
    return kind.rpartition(":")[2]


def fault_words(fault: Fault, nodes: Sequence[str] = ()) -> str:
    """A fault and whom it hits, or is to hit; `nodes`: whom it has hit."""
    how = [kind_words(fault.kind)]
    if fault.kind == "partition":
        how += [fault.shape] * (not fault.groups and fault.shape != "split") + [fault.mode] * (fault.mode != "drop")
    elif fault.kind == "delay":
        how.append(_delay(fault))
    elif fault.rate:
        how.append(f"{fault.rate:.0%}")
    return " ".join([*how, _whom(fault, nodes)]).rstrip()


def _whom(fault: Fault, nodes: Sequence[str]) -> str:
    if fault.groups:
        return " | ".join(",".join(group) for group in fault.groups)
    if isinstance(fault.target, str):
        return f"{_named(nodes, EVENT_NAMED_MAX)} ({fault.target})" if nodes else fault.target
    return _named(fault.target, EVENT_NAMED_MAX)


def in_effect(held: Sequence[Lease], plan: Sequence[PlannedFault], elapsed: float) -> list[str]:
    """The faults that are held, each with the seconds that are left of it, as far as they are known."""
    ends = {id(planned.fault): planned.until for planned in plan}  # a lease holds the very fault that was planned
    return [
        fault_words(lease.fault, lease.nodes)
        + (f" {_whole(ends[id(lease.fault)] - elapsed)} more" if id(lease.fault) in ends else "")
        for lease in held
    ]


def comes_next(leases: Sequence[Lease], plan: Sequence[PlannedFault], elapsed: float, duration: float) -> str:
    """The first fault that was not yet asked for, and in how many seconds it will be."""
    asked = {id(lease.fault) for lease in leases}
    planned = next((one for one in plan if id(one.fault) not in asked and one.at < duration), None)
    if planned is None:
        return "no more faults"
    left = planned.at - elapsed
    when = f"in {_whole(left)}" if left > 0 else "as soon as somebody leads"
    return f"{fault_words(planned.fault)} {when}"


def _whole(seconds: float) -> str:
    return f"{max(0, math.ceil(seconds))} s"


def step_words(event: Mapping[str, Any]) -> str | None:
    """A step of a fault, in the shape of a history's event, as a line; None for steps that go without saying."""
    value = event["value"]
    if value["step"] in ("asked", "ended"):
        return None
    whom = _named(value["nodes"], EVENT_NAMED_MAX) or value.get("target", "")
    if value["nodes"] and "target" in value:
        whom += f" ({value['target']})"
    shape = value.get("shape", "split")
    if shape != "split":
        whom = f"({shape})" if shape in WHOLE_CLUSTER_SHAPES else f"{whom} ({shape})"
    reason = f": {value['reason']}" if value.get("reason") else ""
    return " ".join(part for part in (kind_words(event["f"]), whom, value["step"]) if part) + reason


class News:
    """What has changed between two looks at a cluster, beside its faults: who leads, and who ended unasked."""

    def __init__(self) -> None:
        self._leader: tuple[str | None, int | None] = (None, None)
        self._exits = 0

    def note(self, status: Mapping[str, NodeStatus], exits: Sequence[Exit]) -> list[str]:
        """A line for each change since the last call; `exits` are all so far."""
        leader = leader_of(status)
        seen = (leader, status[leader].term if leader is not None else None)
        lines = [f"{exit.node} ended: {exit.reason}" for exit in exits[self._exits :] if not exit.expected]
        if seen != self._leader:
            lines.append(f"{leader} leads in term {seen[1]}" if leader is not None else "nobody leads")
        self._leader, self._exits = seen, len(exits)
        return lines
