"""Durable puts on three nodes, beside the bare pipeline. The two take turns, so that a noisy minute meets both."""

import tempfile

from benchmarks import floor, load
from benchmarks.measures import Row, Sample, medians, ms
from testbed import Cluster

NODES = 3
CLIENTS = 100
VALUE_BYTES = 100
TURNS = 5
WARM_UP = (16, 5_000)  # clients, puts: a write-ahead log that still grows, as it does at first, is slower to sync
PUTS, PUTS_ALONE = 15_000, 1_000
RATE_SHARE = 0.5  # of the bare pipeline's rate, at least
P50_TIMES = 1.5  # the bare pipeline's median, at most


def rate() -> Row:
    """A hundred clients, as many puts as go through."""
    bare, ours = _take_turns(CLIENTS, PUTS)
    ratio = ours.rate / bare.rate
    return Row(
        f"durable puts/s, {CLIENTS} clients",
        f"{ours.rate:,.0f}",
        f"{bare.rate:,.0f} bare pipeline",
        f"{ratio:.2f}",
        f">= {RATE_SHARE}",
        ratio >= RATE_SHARE,
        "the CPU of both cores: leader, two followers and the clients share them; per put the leader and the clients "
        "cost most (log entry, state machine, session), disk and wire little, since a hundred puts share one commit",
    )


def one_client() -> Row:
    """One client, one put at a time."""
    bare, ours = _take_turns(1, PUTS_ALONE)
    ratio = ours.p50 / bare.p50
    return Row(
        "one client's put, p50",
        ms(ours.p50),
        f"{ms(bare.p50)} bare pipeline",
        f"{ratio:.2f}",
        f"<= {P50_TIMES}",
        ratio <= P50_TIMES,
        "Python at each of four hops (client, leader, follower, leader), run with cold caches: nothing is batched",
    )


def traced() -> Row:
    """What it costs to keep a trace of every message, as `testbed run` does: the same puts with and without it."""
    without: list[Sample] = []
    within: list[Sample] = []
    for _ in range(TURNS):
        for samples, trace in ((without, False), (within, True)):
            with (
                tempfile.TemporaryDirectory() as directory,
                Cluster(nodes=NODES, directory=directory, trace=trace) as cluster,
            ):
                load.measure(cluster, *WARM_UP, load.puts(VALUE_BYTES))
                samples.append(load.measure(cluster, CLIENTS, PUTS, load.puts(VALUE_BYTES)))
    plain, kept = medians(without), medians(within)
    return Row(
        f"puts/s with traces, {CLIENTS} clients",
        f"{kept.rate:,.0f}",
        f"{plain.rate:,.0f} without",
        f"{kept.rate / plain.rate:.2f}",
        "",
        None,
        "",
    )


def _take_turns(clients: int, puts: int) -> tuple[Sample, Sample]:
    bare, ours = [], []
    for _ in range(TURNS):
        with floor.pipeline() as pipeline:
            pipeline.measure(*WARM_UP, VALUE_BYTES)
            bare.append(pipeline.measure(clients, puts, VALUE_BYTES))
        with Cluster(nodes=NODES) as cluster:
            load.measure(cluster, *WARM_UP, load.puts(VALUE_BYTES))
            ours.append(load.measure(cluster, clients, puts, load.puts(VALUE_BYTES)))
    return medians(bare), medians(ours)
