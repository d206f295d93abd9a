"""How a simulated machine and its network behave without faults: drawn once for each run."""

from dataclasses import dataclass

from testbed.base.rand import Random

LATENCY_SHARE_MAX = 0.02  # of a heartbeat: "broadcast time << election timeout" (Raft paper, 5.6) with much room
STALL_SHARE_MAX = 0.2  # of an election timeout: a slow disk holds up a node, and does not depose it


@dataclass(frozen=True, slots=True)
class Conditions:
    """Seconds, and probabilities for each message or sync."""

    latency: float  # of a message, at the least
    jitter: float  # and up to so much more
    spike_rate: float  # a message spikes with this probability:
    spike: float  # ... it takes up to so much longer; it holds up those behind it on its link
    sync: float  # what a disk takes to sync, at the least; up to three times as long
    stall_rate: float
    stall: float  # a sync that stalls takes up to so much longer
    boot: float  # from a process's start to its first step, at the least; up to three times as long
    connect: float  # until two processes that run are connected, at most


def draw(random: Random, heartbeat: float, election_timeout: float) -> Conditions:
    """The conditions of one run."""
    far = LATENCY_SHARE_MAX * heartbeat
    return Conditions(
        latency=random.uniform(0.02, 0.5) * far,
        jitter=random.uniform(0.0, 0.5) * far,
        spike_rate=random.choice((0.0, 0.001, 0.01)),
        spike=random.uniform(0.0, 0.5) * heartbeat,
        sync=random.uniform(0.0001, 0.003),
        stall_rate=random.choice((0.0, 0.001, 0.01)),
        stall=random.uniform(0.0, STALL_SHARE_MAX) * election_timeout,
        boot=random.uniform(0.003, 0.03),
        connect=random.uniform(0.001, 0.02),
    )
