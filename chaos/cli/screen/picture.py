"""What a run looks like at one instant: plain values, taken in the thread that runs it, to be drawn by any other.

Knows runs; not terminals, colours or widths.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from chaos.cli.screen.words import comes_next, harms, health, in_effect
from testbed.ports import NodeStatus

if TYPE_CHECKING:
    from chaos.experiment import Run

RATE_S: Final = 2.0  # what "a second" is measured over: long enough to stand still, short enough to show a fail-over
LATENCY_S: Final = 5.0


class Row(msgspec.Struct, frozen=True):
    """A node. What is not known of it is empty."""

    id: str
    state: str
    role: str = ""
    term: str = ""
    incarnation: str = ""
    health: Mapping[str, int] = {}  # what the others believe of it -> how many of them; the worst first
    harms: Sequence[tuple[str, str]] = ()  # what is being done to it, in full and in short


class Picture(msgspec.Struct, frozen=True):
    """A run. Times in seconds; `rates` and `totals` by outcome (ok, fail, info); `latency` is p50 and p99 of what was
    ok lately. `held` and `next`: faults, in words. `phase` is empty while faults are being made."""

    title: str
    phase: str
    elapsed: float
    duration: float
    rows: Sequence[Row]
    rates: Mapping[str, float] = {}
    totals: Mapping[str, int] = {}
    latency: tuple[float, float] | None = None
    held: Sequence[str] = ()
    next: str = ""


def awaited(run: "Run", world: str) -> Picture:
    """Before anything has begun."""
    title = f"{run.scenario.name}, {'simulated' if world == 'sim' else 'live'}, seed {run.seed}"
    rows = tuple(Row(node, "starting") for node in run.scenario.cluster.names)
    return Picture(title, "starting the nodes", 0.0, run.duration, rows)


def look(run: "Run", status: Mapping[str, NodeStatus], before: Picture) -> Picture:
    """As it is now. To be called in the thread that runs it."""
    elapsed = min(run.elapsed(), run.duration)
    leases = list(run.nemesis.leases) if run.nemesis is not None else []
    held = [lease for lease in leases if lease.held]
    links = run.nemesis.links if run.nemesis is not None else []
    lately = run.recent.since(LATENCY_S)
    counted = Counter(kind for time, kind, _ in lately if time > run.elapsed() - RATE_S)
    span = max(min(RATE_S, elapsed), 1e-3)
    return msgspec.structs.replace(
        before,
        phase=run.phase,
        elapsed=elapsed,
        rows=tuple(_row(node, status, harms(node.id, held, links)) for node in status.values()),
        rates={kind: counted[kind] / span for kind in ("ok", "fail", "info")},
        totals=run.counts,
        latency=_percentiles(sorted(latency for _, kind, latency in lately if kind == "ok")),
        held=tuple(in_effect(held, run.schedule.faults, elapsed)),
        next=comes_next(leases, run.schedule.faults, elapsed, run.duration),
    )


def _row(node: NodeStatus, status: Mapping[str, NodeStatus], done: Sequence[tuple[str, str]]) -> Row:
    known = node.state != "down"
    return Row(
        node.id,
        node.state,
        node.role or "" if known else "",
        str(node.term) if known and node.term is not None else "",
        str(node.incarnation),
        health(node.id, status),
        tuple(done) or (((node.note, node.note),) if node.note else ()),
    )


def _percentiles(latencies: Sequence[float]) -> tuple[float, float] | None:
    if not latencies:
        return None
    last = len(latencies) - 1
    return latencies[round(0.5 * last)], latencies[round(0.99 * last)]
