"""Scenarios that leave nothing to dice: a schedule written back into its scenario, and a scenario back into a file.

Pure. Knows the format of scenario files, from the writer's side (`chaos.scenario` is the reader's). Does not know why
somebody wants a run again, nor where the file goes.
"""

import datetime
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from chaos.faults import KINDS, WHOLE_CLUSTER_SHAPES, is_custom
from chaos.scenario import FaultSpec, Scenario, WorkloadSpec
from chaos.schedule import PlannedFault, Schedule
from testbed.base.durations import format_duration, parse_duration

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_NOT_IN_COMMENTS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def pin(scenario: Scenario, schedule: Schedule) -> Scenario:
    """The scenario with that schedule's faults, each at its time and on the nodes that were drawn, and with its seed.

    Whatever seed it is drawn with, it has the schedule's faults again, to the millisecond; `leader` and `followers`
    stay words. Its `text` is its own. A seed that is a text is left out: a scenario has none.
    """
    pinned = msgspec.structs.replace(
        scenario,
        duration=schedule.duration,
        faults=tuple(_pinned(planned, schedule.nodes) for planned in schedule.faults),
        seed=schedule.seed if isinstance(schedule.seed, int) else None,
    )
    return msgspec.structs.replace(pinned, text=to_toml(pinned))


def _pinned(planned: PlannedFault, nodes: tuple[str, ...]) -> FaultSpec:
    fault = planned.fault
    placed = fault.kind == "partition" and fault.shape in WHOLE_CLUSTER_SHAPES and not fault.groups
    return FaultSpec(
        kind=fault.kind,
        target=fault.target or None,
        at=planned.at,
        lasting=round((planned.until - planned.at) * 1000) / 1000,
        shape=fault.shape,
        mode=fault.mode,
        groups=fault.groups,
        order=(fault.order or nodes) if placed else (),
        delay=fault.delay,
        jitter=fault.jitter,
        rate=fault.rate,
        links=fault.links,
        options=fault.options,
    )


def to_toml(scenario: Scenario, comment: str = "") -> str:
    """A scenario file, below the lines of `comment`, that is read back as this scenario (but for `source`, `text`)."""
    top: dict[str, Any] = {"name": scenario.name, "duration": _duration(scenario.duration)}
    if scenario.seed is not None:
        top["seed"] = scenario.seed
    cluster: dict[str, Any] = {
        "nodes": scenario.cluster.nodes,
        "node": scenario.cluster.node,
        "heartbeat": _duration(scenario.cluster.heartbeat),
        "election_timeout": _duration(scenario.cluster.election_timeout),
        "restart": scenario.cluster.restart,
    }
    if not scenario.cluster.trace:
        cluster["trace"] = False
    parts = [_lines("", top), _lines("[cluster]", cluster)]
    if scenario.cluster.options:
        parts.append(_lines("[cluster.options]", scenario.cluster.options))
    parts += [_lines("[[workload]]", _workload(spec)) for spec in scenario.workloads]
    parts += [_lines("[[fault]]", _fault(spec)) for spec in scenario.faults]
    if comment:
        parts.insert(0, "".join(_comment(line) for line in comment.splitlines()))
    return "\n".join(parts)


def _workload(spec: WorkloadSpec) -> dict[str, Any]:
    own: dict[str, Any] = {"kind": spec.kind, "clients": spec.clients, "rate": spec.rate}
    if spec.operations is not None:
        own["operations"] = spec.operations
    return {**own, **spec.options}


def _fault(spec: FaultSpec) -> dict[str, Any]:
    """The keys that matter to the fault's kind, without those that have their defaults."""
    values: dict[str, Any] = {
        "target": spec.target,
        "shape": None if spec.shape == "split" else spec.shape,
        "mode": None if spec.mode == "drop" else spec.mode,
        "groups": spec.groups or None,
        "order": spec.order or None,
        "delay": _duration(spec.delay) if spec.delay else None,
        "jitter": _duration(spec.jitter) if spec.jitter else None,
        "rate": spec.rate,
        "links": None if spec.links == "nodes" else spec.links,
        "at": None if spec.at is None else _duration(spec.at),
        "every": None if spec.every is None else _duration(spec.every),
        "for": _duration(spec.lasting),
    }
    own = ("target", "order", "at", "every", "for", *(() if is_custom(spec.kind) else KINDS[spec.kind].keys))
    said = {key: value for key, value in values.items() if key in own and value is not None}
    return {"kind": spec.kind, **said, **spec.options}


def _duration(seconds: float) -> str:
    """The duration in a form that is read back as exactly this number."""
    text = format_duration(seconds)
    return text if parse_duration(text) == seconds else f"{Decimal(str(seconds)):f}s"


def _comment(line: str) -> str:
    return f"# {_NOT_IN_COMMENTS.sub('?', line)}".rstrip() + "\n"


def _lines(head: str, values: Mapping[str, Any]) -> str:
    lines = [head] if head else []
    return "\n".join([*lines, *(f"{_key(key)} = {_value(value)}" for key, value in values.items())]) + "\n"


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _value(key)


def _value(value: object) -> str:
    """A value as TOML writes it; whatever TOML can say."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():  # inf and nan are written the same way
            return repr(value)
        case str():  # JSON's escapes are TOML's, but JSON leaves DEL as it is
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case datetime.date() | datetime.time():  # a datetime is a date, too
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            pairs = ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            raise TypeError(f"TOML has no way to write {value!r}")
