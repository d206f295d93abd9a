"""Schedules: which fault happens when, drawn from a scenario and a seed, and carried in JSON.

Pure. The same scenario, seed and duration give the same schedule in every process. Each `[[fault]]` entry draws from a
stream of its own, so that adding an entry changes nothing for those before it. Knows no cluster and no clock: all
times are seconds since the start of the run.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chaos.faults import WHOLE_CLUSTER_SHAPES, Fault, link_rules, mistake
from chaos.scenario import FaultSpec, Scenario
from chaos.targets import draw_target
from testbed.base.durations import format_duration
from testbed.base.errors import UsageError
from testbed.base.rand import Random, Streams

GAP_FACTOR_MIN: Final = 0.5
GAP_FACTOR_MAX: Final = 1.5
TAIL_S_MIN: Final = 2.0  # the last seconds of a run are quiet, so that recovery from the last fault can be seen
TAIL_ELECTION_TIMEOUTS: Final = 6  # ... with room for the bound of the availability check, which is five of them
TAIL_SHARE_MAX: Final = 0.4  # ... but never more than this part of a short run
FAULTS_MAX: Final = 100_000  # of one schedule: a day of a fault a second


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault with its time: from `at` until `until`, seconds since the start; `entry` is its `[[fault]]`, from 1."""

    fault: Fault
    at: float
    until: float
    entry: int


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Planned faults in the order of their starts, for a cluster of `nodes` and a run of `duration` seconds."""

    seed: int | str
    duration: float
    nodes: tuple[str, ...]
    faults: tuple[PlannedFault, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds planned, in order of appearance."""
        return tuple(dict.fromkeys(planned.fault.kind for planned in self.faults))

    def dry_run(self) -> dict[str, Any]:
        """`{"faults": […]}`: what will happen, without the seed it was drawn from."""
        return {"faults": [_planned_to_dict(planned, self.nodes) for planned in self.faults]}

    def to_json(self) -> bytes:
        """The contents of `schedule.json`, a fault a line; `schedule_from_json` reads an equal schedule from them."""
        head: dict[str, Any] = {"seed": self.seed, "duration": self.duration, "nodes": self.nodes, "faults": []}
        lines = b",\n".join(b"  " + msgspec.json.encode(fault) for fault in self.dry_run()["faults"])
        return msgspec.json.encode(head).removesuffix(b"]}") + b"\n" + lines + b"\n]}\n"


def tail(duration: float, election_timeout: float) -> float:
    """Seconds at the end of a run in which no planned fault is left."""
    return min(max(TAIL_S_MIN, TAIL_ELECTION_TIMEOUTS * election_timeout), TAIL_SHARE_MAX * duration)


def draw(scenario: Scenario, seed: int | str, duration: float | None = None) -> Schedule:
    """The schedule for that seed. `duration` in seconds, the scenario's own if None.

    Starts of one entry's faults are 0.5 to 1.5 times `every` apart, the first from the start of the run - or sooner,
    where the run is too short for that. An entry whose faults last longer than the gaps overlaps itself: leases add up.
    An entry with `at` is taken at its word: its fault may last into the tail, and to the end of the run.
    UsageError for an entry whose fault does not fit into the duration, because it would never fire.
    """
    length = scenario.duration if duration is None else duration
    planned: list[PlannedFault] = []
    for entry, spec in enumerate(scenario.faults, 1):
        random = Streams(seed).stream("schedule", "fault", entry)
        for at_ms in _starts(scenario, entry, spec, length, random):
            fault = _draw_fault(spec, scenario.cluster.names, random)
            until = (at_ms + round(spec.lasting * 1000)) / 1000
            planned.append(PlannedFault(fault=fault, at=at_ms / 1000, until=until, entry=entry))
    planned.sort(key=lambda fault: (fault.at, fault.entry))
    return Schedule(seed=seed, duration=length, nodes=scenario.cluster.names, faults=tuple(planned))


def _starts(scenario: Scenario, entry: int, spec: FaultSpec, length: float, random: Random) -> Iterator[int]:
    """The starts of one entry's faults, in milliseconds, such that each fault of many ends before the tail."""
    where = scenario.source or scenario.name
    if spec.at is not None:
        if round(spec.at * 1000) >= round(length * 1000):
            reason = f"{format_duration(spec.at)} is not within a run of {format_duration(length)}"
            raise UsageError(where, f"fault[{entry}].at", reason)
        yield round(spec.at * 1000)
        return
    assert spec.every is not None, "either at or every says when"
    horizon = length - tail(length, scenario.cluster.election_timeout)
    every_ms, lasting_ms = spec.every * 1000, round(spec.lasting * 1000)
    shortest, longest = math.ceil(every_ms * GAP_FACTOR_MIN), math.floor(every_ms * GAP_FACTOR_MAX)
    last_ms = math.floor(horizon * 1000) - lasting_ms
    if last_ms <= 0:
        room = format_duration(horizon)
        reason = f"{format_duration(spec.lasting)} do not fit into a run whose faults end within its first {room}"
        raise UsageError(where, f"fault[{entry}].for", reason)
    if last_ms / every_ms > FAULTS_MAX:
        raise UsageError(where, f"fault[{entry}].every", f"makes more than {FAULTS_MAX} faults")
    # Only the first start is narrowed to what fits: an entry that can fire must fire, whatever the seed, also where
    # the run was made shorter than its scenario meant it.
    earliest = shortest if shortest <= last_ms else last_ms // 2
    at = random.randint(earliest, min(longest, last_ms))
    while at <= last_ms:
        yield at
        at += random.randint(shortest, longest)


def _draw_fault(spec: FaultSpec, nodes: tuple[str, ...], random: Random) -> Fault:
    order = spec.order
    if not order and spec.kind == "partition" and spec.shape in WHOLE_CLUSTER_SHAPES:
        order = tuple(random.sample(nodes, len(nodes)))
    return Fault(
        kind=spec.kind,
        target=() if spec.target is None else draw_target(spec.target, nodes, random),
        shape=spec.shape,
        mode=spec.mode,
        groups=spec.groups,
        order=order,
        delay=spec.delay,
        jitter=spec.jitter,
        rate=spec.rate,
        links=spec.links,
        options=spec.options,
    )


def _planned_to_dict(planned: PlannedFault, nodes: tuple[str, ...]) -> dict[str, Any]:
    """One flat object with what matters to the fault's kind. `cuts` are derived, for people, if targets are known."""
    fault = planned.fault
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fault))
    flat = {key: value for key, value in plain.items() if value}
    flat |= {"at": planned.at, "until": planned.until, "entry": planned.entry}
    if fault.kind == "partition":
        flat |= {"mode": fault.mode} if fault.groups else {"shape": fault.shape, "mode": fault.mode}
        if not isinstance(fault.target, str):
            flat["cuts"] = [[rule.source, rule.target] for rule in link_rules(fault, nodes, fault.target)]
    return flat


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: int | str
    duration: float
    nodes: tuple[str, ...]
    faults: list[dict[str, Any]]


def schedule_from_json(data: bytes | str, where: str = "schedule.json") -> Schedule:
    """The schedule in that JSON, which may have been edited by hand; UsageError says what is wrong with it."""
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.DecodeError as error:
        raise UsageError(where, "", str(error)) from error
    faults = [_planned_from_dict(flat, head.nodes, where, f"faults[{n}]") for n, flat in enumerate(head.faults, 1)]
    faults.sort(key=lambda fault: (fault.at, fault.entry))
    return Schedule(seed=head.seed, duration=head.duration, nodes=head.nodes, faults=tuple(faults))


def _planned_from_dict(flat: dict[str, Any], nodes: tuple[str, ...], where: str, key: str) -> PlannedFault:
    outer: dict[str, Any] = {name: flat[name] for name in ("at", "until", "entry") if name in flat}
    outer["fault"] = {name: value for name, value in flat.items() if name not in ("at", "until", "entry", "cuts")}
    try:
        planned = msgspec.convert(outer, PlannedFault)
    except msgspec.ValidationError as error:
        raise UsageError(where, key, str(error).replace("$.fault", "$")) from error
    fault = planned.fault
    if reason := mistake(fault, nodes):
        raise UsageError(where, key, reason)
    if not 0 <= planned.at < planned.until:
        raise UsageError(where, f"{key}.until", "must be later than at, and at not negative")
    if "cuts" in flat and flat["cuts"] != _planned_to_dict(planned, nodes).get("cuts"):
        raise UsageError(where, f"{key}.cuts", "are not what the other keys say; leave cuts out, it is derived")
    return planned
