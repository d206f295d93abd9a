"""The swarm: from one scenario a different one for every seed, so that many runs reach what no single mix would.

After Groce, Zhang, Eide, Chen, Regehr, "Swarm testing" (ISSTA 2012): each run leaves out features at random, because
features mask each other. Every run also has to show that the cluster makes progress again: its chaos phase is followed
by a quiet phase, in which at most a minority stays broken, and that by a tail in which all is healed (compare the
liveness mode of TigerBeetle's simulator, VOPR).

Pure. Each group of features draws from a stream of its own. Knows nothing of how a run goes or what is checked.
"""

from itertools import pairwise
from typing import Final

import msgspec

from chaos.faults import KINDS, LINKS, MODES, SHAPES, WHOLE_CLUSTER_SHAPES, Fault, Kind, Shape, impossible
from chaos.pinned import pin
from chaos.scenario import FAULT_S_MIN, NODE_DEFAULT, ClusterSpec, FaultSpec, Scenario, WorkloadSpec
from chaos.schedule import PlannedFault, draw
from chaos.targets import WORDS, size
from testbed.base.rand import Random, Streams

NODES: Final = (1, 2, 3, 3, 3, 4, 5, 5, 5, 7)
HEARTBEATS_MS: Final = (20, 50, 50, 100, 200)
HEARTBEATS_PER_ELECTION_TIMEOUT: Final = (5, 10, 10, 20)
SERVICE_OPTIONS: Final = {  # None: the default
    "snapshot_entries": (5, 20, 100, None),
    "trailing_entries": (0, 5, 50, None),
    "session_ttl": (1, 5, None, None),
}
CLIENTS: Final = (1, 6)
RATE: Final = (2, 40)  # operations a second

CHAOS_MS: Final = (3_000, 12_000)
CHAOS_ELECTION_TIMEOUTS: Final = 6  # at the least: elections have to happen for faults to meet them
QUIET_MS_MIN: Final = 2_000
QUIET_ELECTION_TIMEOUTS: Final = 8  # room for the bound of the availability check, five of them
QUIET_HEARTBEATS: Final = 100  # room for the failure detectors to convict whoever is down, and for that to be looked at
QUIET_KINDS: Final[tuple[Kind, ...]] = ("kill", "pause", "partition", "loss")
QUIET_SHAPES: Final[tuple[Shape, ...]] = ("split", "isolate", "one-way")
TAIL_MS_MIN: Final = 2_000
TAIL_ELECTION_TIMEOUTS: Final = 7  # room for the bound of the recovery check

LEADERLESS: Final = ("one", "minority", "majority", "all")  # a user's node may have no leader to be hit
FAULTS_MAX: Final = 60  # of one run: a variant is to be read by people
EXTRA_ENTRIES_MAX: Final = 4
DRAWN_KINDS: Final[tuple[Kind, ...]] = (  # a partition more often: it has eighteen forms
    *(info.name for info in KINDS.values()),
    "partition",
    "partition",
)
EVERY_MS: Final = (500, 5_000)
LASTING_MS: Final = (50, 4_000)
RATE_PERCENT: Final = (2, 60)
DELAY_ELECTION_TIMEOUTS_MAX: Final = 2


def vary(scenario: Scenario, seed: int) -> Scenario:
    """The swarm's variant of a scenario for that seed: the same in every process, with all its faults at fixed times.

    Kept are name, source, node, restart, other options, and kinds and options of workloads; of the scenario's own
    faults each is kept with probability 1/2, where it is possible. Its `duration` is not: the phases say how long.
    """
    streams = Streams(seed)
    cluster = _timeouts(_topology(scenario, streams), streams)
    chaos_ms = _chaos_ms(cluster.election_timeout, streams)
    quiet_ms, tail_ms = _quiet_ms(cluster), _tail_ms(cluster.election_timeout)
    varied = msgspec.structs.replace(
        scenario,
        cluster=_service_options(cluster, streams),
        workloads=_workloads(scenario.workloads, streams),
        faults=_mix(scenario.faults, cluster, chaos_ms / 1000, streams.stream("swarm", "mix")),
        duration=(chaos_ms + quiet_ms + tail_ms) / 1000,
    )
    schedule = draw(varied, f"{seed}/swarm")  # streams of the swarm's own
    faults = _within(schedule.faults, chaos_ms / 1000, streams.stream("swarm", "thin"))
    if minority := _minority(cluster.names, streams.stream("swarm", "quiet")):
        until = (chaos_ms + quiet_ms) / 1000
        faults.append(PlannedFault(fault=minority, at=chaos_ms / 1000, until=until, entry=len(varied.faults) + 1))
    return pin(varied, msgspec.structs.replace(schedule, seed=seed, faults=tuple(faults)))


def quiet_phase(variant: Scenario) -> tuple[float, float]:
    """From when until when a variant of the swarm has at most a minority broken, in seconds since the run's start."""
    end_ms = round(variant.duration * 1000) - _tail_ms(variant.cluster.election_timeout)
    return (end_ms - _quiet_ms(variant.cluster)) / 1000, end_ms / 1000


# --- the cluster and its load ---


def _topology(scenario: Scenario, streams: Streams) -> ClusterSpec:
    """Names in a fault mean what they mean only in a cluster of that size."""
    if any(isinstance(spec.target, tuple) or spec.groups or spec.order for spec in scenario.faults):
        return scenario.cluster
    nodes = streams.stream("swarm", "topology").choice(NODES)
    return msgspec.structs.replace(scenario.cluster, nodes=nodes)


def _timeouts(cluster: ClusterSpec, streams: Streams) -> ClusterSpec:
    random = streams.stream("swarm", "timeouts")
    heartbeat_ms = random.choice(HEARTBEATS_MS)
    election_timeout_ms = heartbeat_ms * random.choice(HEARTBEATS_PER_ELECTION_TIMEOUT)
    return msgspec.structs.replace(cluster, heartbeat=heartbeat_ms / 1000, election_timeout=election_timeout_ms / 1000)


def _service_options(cluster: ClusterSpec, streams: Streams) -> ClusterSpec:
    if cluster.node != NODE_DEFAULT:
        return cluster
    random = streams.stream("swarm", "options")
    drawn = {key: random.choice(values) for key, values in SERVICE_OPTIONS.items()}
    options = {**cluster.options, **drawn}
    return msgspec.structs.replace(cluster, options={key: options[key] for key in options if options[key] is not None})


def _workloads(specs: tuple[WorkloadSpec, ...], streams: Streams) -> tuple[WorkloadSpec, ...]:
    random = streams.stream("swarm", "workloads")
    kept = sorted(random.sample(range(len(specs)), random.randint(min(1, len(specs)), len(specs))))
    return tuple(
        msgspec.structs.replace(specs[place], clients=random.randint(*CLIENTS), rate=float(random.randint(*RATE)))
        for place in kept
    )


# --- the phases ---


def _chaos_ms(election_timeout: float, streams: Streams) -> int:
    at_least = CHAOS_ELECTION_TIMEOUTS * round(election_timeout * 1000)
    return max(streams.stream("swarm", "chaos").randint(*CHAOS_MS), at_least)


def _quiet_ms(cluster: ClusterSpec) -> int:
    election_timeout_ms, heartbeat_ms = round(cluster.election_timeout * 1000), round(cluster.heartbeat * 1000)
    return max(QUIET_MS_MIN, QUIET_ELECTION_TIMEOUTS * election_timeout_ms, QUIET_HEARTBEATS * heartbeat_ms)


def _tail_ms(election_timeout: float) -> int:
    return max(TAIL_MS_MIN, TAIL_ELECTION_TIMEOUTS * round(election_timeout * 1000))


# --- the chaos phase ---


def _mix(own: tuple[FaultSpec, ...], cluster: ClusterSpec, chaos_s: float, random: Random) -> tuple[FaultSpec, ...]:
    """Some of the scenario's own entries and some others; one seed in ten has none."""
    if random.randrange(10) == 0:
        return ()
    kept = [spec for spec in own if random.random() < 0.5 and _possible(spec, cluster.nodes)]
    extra = [_entry(cluster, random) for _ in range(random.randint(0, EXTRA_ENTRIES_MAX))]
    return tuple(_fitted(spec, chaos_s) for spec in (*kept, *extra) if spec.at is None or spec.at < chaos_s)


def _fitted(spec: FaultSpec, chaos_s: float) -> FaultSpec:
    """An entry that happens again and again does so in the chaos phase, however far apart it was meant to."""
    if spec.every is None:
        return spec
    return msgspec.structs.replace(spec, every=min(spec.every, chaos_s / 2), lasting=min(spec.lasting, chaos_s))


def _entry(cluster: ClusterSpec, random: Random) -> FaultSpec:
    """Any fault that can be in that cluster."""
    while True:
        spec = _any_entry(cluster, random)
        if _possible(spec, cluster.nodes):
            return spec


def _possible(spec: FaultSpec, nodes: int) -> bool:
    if spec.groups:
        return True
    targets = 1 if spec.target is None else size(spec.target, nodes)
    return targets > 0 and impossible(spec.kind, spec.shape, spec.links, targets, nodes) is None


def _any_entry(cluster: ClusterSpec, random: Random) -> FaultSpec:
    spec = FaultSpec(
        kind=random.choice(DRAWN_KINDS),
        target=random.choice(WORDS if cluster.node == NODE_DEFAULT else LEADERLESS),
        every=random.randint(*EVERY_MS) / 1000,
        lasting=random.randint(*LASTING_MS) / 1000,
    )
    match spec.kind:
        case "partition":
            return _partition(spec, cluster.names, random)
        case "delay":
            delay, jitter = (_delay(cluster.election_timeout, random) for _ in range(2))
            jitter *= random.randint(0, 1)
            return msgspec.structs.replace(spec, delay=delay, jitter=jitter, links=random.choice(LINKS))
        case "loss" | "duplicate" | "reorder":
            rate = random.randint(*RATE_PERCENT) / 100
            return msgspec.structs.replace(spec, rate=rate, links=random.choice(LINKS))
        case _:
            return spec


def _partition(spec: FaultSpec, nodes: tuple[str, ...], random: Random) -> FaultSpec:
    spec = msgspec.structs.replace(spec, mode=random.choice(MODES))
    shapes: list[Shape | None] = [*SHAPES, None]
    shape = random.choice(shapes)
    if shape is None:
        return msgspec.structs.replace(spec, target=None, groups=_groups(nodes, random))
    targeted = shape not in WHOLE_CLUSTER_SHAPES or random.random() < 0.5
    return msgspec.structs.replace(spec, shape=shape, target=spec.target if targeted else None)


def _groups(nodes: tuple[str, ...], random: Random) -> tuple[tuple[str, ...], ...]:
    """Two or more of them, of any sizes; sometimes nodes are left over, which see all. None of a single node."""
    if len(nodes) < 2:
        return ()
    order = random.sample(nodes, len(nodes))
    cuts = sorted(random.sample(range(1, len(nodes)), random.randint(1, len(nodes) - 1)))
    groups = [tuple(sorted(order[start:end])) for start, end in pairwise([0, *cuts, len(nodes)])]
    return tuple(groups[:-1] if len(groups) > 2 and random.random() < 0.5 else groups)


def _delay(election_timeout: float, random: Random) -> float:
    """Drawn twice, so that short delays are as likely as long ones to be met."""
    most_ms = DELAY_ELECTION_TIMEOUTS_MAX * round(election_timeout * 1000)
    return random.randint(1, random.randint(1, most_ms)) / 1000


def _within(planned: tuple[PlannedFault, ...], end: float, random: Random) -> list[PlannedFault]:
    """Those faults of a schedule that begin in the chaos phase, ended with it, and no more than a run may have."""
    cut = [
        msgspec.structs.replace(fault, until=min(fault.until, end))
        for fault in planned
        if fault.at + FAULT_S_MIN <= end
    ]
    most = FAULTS_MAX - 1  # and one in the quiet phase
    return cut if len(cut) <= most else [cut[place] for place in sorted(random.sample(range(len(cut)), most))]


# --- the quiet phase ---


def _minority(nodes: tuple[str, ...], random: Random) -> Fault | None:
    """What stays broken throughout it: some nodes, known by name, that nobody needs; two times in three."""
    most = size("minority", len(nodes))
    if most == 0 or random.randrange(3) == 0:
        return None
    chosen = random.sample(nodes, random.randint(1, most))
    target = tuple(node for node in nodes if node in chosen)
    match random.choice(QUIET_KINDS):
        case "partition":
            shape, mode = random.choice(QUIET_SHAPES), random.choice(MODES)
            return Fault(kind="partition", target=target, shape=shape, mode=mode)
        case "loss":
            return Fault(kind="loss", target=target, rate=1.0)
        case kind:
            return Fault(kind=kind, target=target)
