"""Shrinking: from a scenario that fails to a small one that still fails in the same way.

Pure search over pinned scenarios (`chaos.pinned`). Does not know how a scenario is run, nor what "the same way" is:
both are in the question that it is given. A candidate is what its own file says, so that whatever is found can be kept
as a file; and it is smaller than the best so far (`size`), so that the search ends.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from chaos.pinned import to_toml
from chaos.scenario import FAULT_S_MIN, FaultSpec, Scenario, WorkloadSpec, parse_scenario
from testbed.base.errors import UsageError

Fails = Callable[[Scenario], bool]  # whether it still fails in the same way
Report = Callable[[int, Scenario], None]  # tries so far, and the smaller scenario that was just found
Part = Literal["faults", "load", "times"]  # which faults and how plain, clients and nodes, when and how long

PARTS: Final[tuple[Part, ...]] = get_args(Part)

TRIES_MAX: Final = 400  # of a quarter to half a second each: a few minutes
ROUND_MS: Final = 100  # starts and ends are moved to such times: near enough for people, and few tries
LASTING_MIN_MS: Final = round(FAULT_S_MIN * 1000)
PRECISION: Final = 8  # a number is bisected to within this part of itself: a repro of 100 ms less is no better

T = TypeVar("T")
_replace = msgspec.structs.replace


class Shrunk(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest scenario found. `summary` says what went away, on one line.

    `minimal`: the search came to its end. Then, if faults could become less, it does not fail without any single one.
    """

    scenario: Scenario
    tries: int
    minimal: bool
    summary: str


def shrink(
    scenario: Scenario,
    fails: Fails,
    *,
    tries_max: int = TRIES_MAX,
    report: Report | None = None,
    parts: Sequence[Part] = PARTS,
) -> Shrunk:
    """Make a pinned scenario that fails smaller, with at most so many questions to `fails`. It is itself not tried.

    A workload's `operations` are best set to the number that was really invoked: the search for fewer begins there.
    `parts`: what may become less. With fewer of them there is room left for what differs from one run to another, such
    as the pace of real processes.
    """
    search = _Search(scenario, fails, tries_max, report, parts)
    while True:
        before = search.best
        search.round()
        if search.best is before:
            break
    summary = describe(scenario, search.best)
    return Shrunk(scenario=search.best, tries=search.tries, minimal=not search.refused, summary=summary)


def size(scenario: Scenario) -> tuple[int, ...]:
    """What "smaller" means, the weightiest first; every number is a natural one, so that no descent is endless."""
    faults, workloads = scenario.faults, scenario.workloads
    return (
        len(faults),
        len(workloads),
        sum(spec.clients for spec in workloads),
        sum(spec.operations is None for spec in workloads),
        sum(spec.operations or 0 for spec in workloads),
        scenario.cluster.nodes,
        sum(_intricacy(fault, scenario.cluster.names) for fault in faults),
        sum(_ms(fault.lasting) for fault in faults),
        sum(_at_ms(fault) for fault in faults),
        _ms(scenario.duration),
    )


def describe(before: Scenario, after: Scenario) -> str:
    """What became less, on one line: `31 faults -> 2, 6 clients -> 1, 300 operations -> 14, 24.0 s -> 3.1 s`."""
    parts = [
        f"{old} {noun}{'' if old == 1 else 's'} -> {new}"
        for (noun, old), (_, new) in zip(_counts(before), _counts(after), strict=True)
        if old != new
    ]
    long, short = f"{before.duration:.1f} s", f"{after.duration:.1f} s"
    if long != short:
        parts.append(f"{long} -> {short}")
    if parts:
        return ", ".join(parts)
    return "the same numbers, in plainer words" if size(after) < size(before) else "nothing could be taken away"


def _counts(scenario: Scenario) -> list[tuple[str, int]]:
    workloads = scenario.workloads
    return [
        ("fault", len(scenario.faults)),
        ("workload", len(workloads)),
        ("client", sum(spec.clients for spec in workloads)),
        ("operation", sum(_operations(spec, scenario.duration) for spec in workloads)),
        ("node", scenario.cluster.nodes),
    ]


class _Search:
    """The best scenario so far and the ways to make it smaller, each of which leaves it one that fails."""

    def __init__(
        self, scenario: Scenario, fails: Fails, tries_max: int, report: Report | None, parts: Sequence[Part]
    ) -> None:
        self.best = scenario
        self.tries = 0
        self.refused = False  # a candidate was not tried because tries were used up
        self._fails = fails
        self._tries_max = tries_max
        self._report = report
        self._parts = parts
        self._passed: set[str] = set()  # the files of candidates that did not fail

    def round(self) -> None:
        """Everything once, the big cuts first."""
        if "faults" in self._parts:
            self._thin_faults()
        if "load" in self._parts:
            self._thin_workloads()
            for place in range(len(self.best.workloads)):
                self._lower_workload(place)
            self._lower_nodes()
        for place in range(len(self.best.faults)):
            if "faults" in self._parts:
                self._simplify(place)
            if "times" in self._parts:
                self._lower_lasting(place)
        if "times" in self._parts:
            self._close_gaps()
            self._cut_end()

    def _accept(self, candidate: Scenario) -> bool:
        """Whether that is smaller, possible, and fails; then it is the best."""
        if size(candidate) >= size(self.best):
            return False
        text = to_toml(candidate)
        if text in self._passed:
            return False
        try:
            candidate = parse_scenario(text, self.best.source)
        except UsageError:
            return False
        if self.tries >= self._tries_max:
            self.refused = True
            return False
        self.tries += 1
        if not self._fails(candidate):
            self._passed.add(text)
            return False
        self.best = candidate
        if self._report is not None:
            self._report(self.tries, candidate)
        return True

    # --- two ways to search ---

    def _thin(self, items: Sequence[T], make: Callable[[Sequence[T]], Scenario], least: int = 0) -> None:
        """Take items away, in ever smaller chunks: all of them at once in the beginning, one by one in the end.

        A search ends with a round in which none could be missed, so that once through the single items is enough.
        These are the complements of ddmin (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
        IEEE TSE 28(2), 2002). Its subsets are left out: of two halves each is the other's complement, and smaller
        subsets are reached by complements, with few more tries.
        """
        kept, chunk = list(items), len(items)
        while chunk:
            start = 0
            while start < len(kept):
                rest = kept[:start] + kept[start + chunk :]
                if len(rest) >= least and self._accept(make(rest)):
                    kept = rest
                else:
                    start += chunk
            chunk //= 2

    def _lower(self, now: int, least: int, step: int, make: Callable[[int], Scenario]) -> None:
        """Bisect for a lower number that still fails, among the multiples of `step` from `least` up to below `now`."""
        low, high = math.ceil(least / step), math.ceil(now / step)
        if low >= high or self._accept(make(low * step)):
            return
        while high - low > max(1, high // PRECISION):
            middle = (low + high) // 2
            if self._accept(make(middle * step)):
                high = middle
            else:
                low = middle
        if high * step > now:  # nothing was accepted, and `now` is no multiple
            self._accept(make((high - 1) * step))

    # --- what is made smaller ---

    def _thin_faults(self) -> None:
        base = self.best
        self._thin(base.faults, lambda kept: _replace(base, faults=tuple(kept)))

    def _thin_workloads(self) -> None:
        base = self.best
        self._thin(base.workloads, lambda kept: _replace(base, workloads=tuple(kept)), least=1)

    def _lower_workload(self, place: int) -> None:
        base = self.best
        self._lower(base.workloads[place].clients, 1, 1, lambda count: _with_workload(base, place, clients=count))
        fewer = self.best
        now = _operations(fewer.workloads[place], fewer.duration)
        self._lower(now, 1, 1, lambda count: _with_workload(fewer, place, operations=count))

    def _lower_nodes(self) -> None:
        base = self.best
        self._lower(base.cluster.nodes, 1, 1, lambda count: _with_nodes(base, count))

    def _simplify(self, place: int) -> None:
        """Fewer nodes hit by a fault, and plainer values of its keys."""
        base = self.best
        fault = base.faults[place]
        if isinstance(fault.target, tuple):
            self._thin(fault.target, lambda kept: _with_fault(base, place, target=tuple(kept)), least=1)
        grouped = [(number, node) for number, group in enumerate(fault.groups) for node in group]
        self._thin(grouped, lambda kept: _with_fault(base, place, groups=_regrouped(kept)), least=2)
        for changes in _plainer(fault, base.cluster.names):
            self._accept(_with_fault(self.best, place, **changes))

    def _lower_lasting(self, place: int) -> None:
        base = self.best
        now = _ms(base.faults[place].lasting)
        self._lower(now, LASTING_MIN_MS, LASTING_MIN_MS, lambda ms: _with_fault(base, place, lasting=ms / 1000))

    def _close_gaps(self) -> None:
        """Move each fault, and all later ones with it, toward the one before it."""
        places = sorted(range(len(self.best.faults)), key=lambda place: _at_ms(self.best.faults[place]))
        earliest = 0
        for number, place in enumerate(places):
            self._close_gap(earliest, places[number:])
            earliest = _at_ms(self.best.faults[place])

    def _close_gap(self, earliest: int, places: Sequence[int]) -> None:
        base = self.best
        now = _at_ms(base.faults[places[0]])
        self._lower(now, earliest, ROUND_MS, lambda ms: _with_earlier(base, places, now - ms))

    def _cut_end(self) -> None:
        base = self.best
        begun = max((_at_ms(fault) + 1 for fault in base.faults), default=1)  # a run outlasts its last fault's start
        self._lower(_ms(base.duration), begun, ROUND_MS, lambda ms: _replace(base, duration=ms / 1000))


def _with_workload(scenario: Scenario, place: int, **changes: Any) -> Scenario:
    specs: list[WorkloadSpec] = list(scenario.workloads)
    specs[place] = _replace(specs[place], **changes)
    return _replace(scenario, workloads=tuple(specs))


def _with_fault(scenario: Scenario, place: int, **changes: Any) -> Scenario:
    specs: list[FaultSpec] = list(scenario.faults)
    specs[place] = _replace(specs[place], **changes)
    return _replace(scenario, faults=tuple(specs))


def _with_earlier(scenario: Scenario, places: Sequence[int], ms: int) -> Scenario:
    for place in places:
        scenario = _with_fault(scenario, place, at=(_at_ms(scenario.faults[place]) - ms) / 1000)
    return scenario


def _with_nodes(scenario: Scenario, count: int) -> Scenario:
    """With the last nodes away; impossible where a fault's target or groups name one of them."""
    cluster = _replace(scenario.cluster, nodes=count)
    faults = (
        _replace(fault, order=tuple(node for node in fault.order if node in cluster.names)) for fault in scenario.faults
    )
    return _replace(scenario, cluster=cluster, faults=tuple(faults))


def _regrouped(kept: Sequence[tuple[int, str]]) -> tuple[tuple[str, ...], ...]:
    groups: dict[int, list[str]] = {}
    for number, node in kept:
        groups.setdefault(number, []).append(node)
    return tuple(map(tuple, groups.values()))


def _plainer(fault: FaultSpec, nodes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Changes that may make a fault plainer; those that do not are not smaller, and so never tried."""
    yield {"mode": "drop"}
    yield {"rate": max(0.1, round(fault.rate, 1))}
    yield {"rate": 1.0}
    yield {"jitter": 0.0}
    yield {"links": "clients"}
    yield {"links": "nodes"}
    yield {"order": nodes}


def _intricacy(fault: FaultSpec, nodes: tuple[str, ...]) -> int:
    """How much there is to say about a fault, beside its times."""
    named = 0 if isinstance(fault.target, str) else len(fault.target or ())
    plain_rate = (0.0, 1.0)
    return sum(
        (
            named + sum(map(len, fault.groups)),
            fault.mode != "drop",
            0 if fault.rate in plain_rate else 1 if fault.rate == round(fault.rate, 1) else 2,
            fault.jitter > 0,
            ("nodes", "clients", "all").index(fault.links),
            fault.order not in ((), nodes),
        )
    )


def _operations(spec: WorkloadSpec, duration: float) -> int:
    """How many operations a workload has at the most, or - where nothing limits them - by its rate."""
    return math.ceil(spec.rate * duration) if spec.operations is None else spec.operations


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _at_ms(fault: FaultSpec) -> int:
    assert fault.at is not None, "a pinned fault has its time"
    return _ms(fault.at)
