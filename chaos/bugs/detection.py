"""Mistakes in failure detection."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from chaos.bugs.bug import Replacement, bug
from testbed.core.membership import Beat, Reason
from testbed.core.membership.detector import FAILED_CODE, Membership
from testbed.core.membership.health import LocalHealth
from testbed.core.membership.member import Member
from testbed.core.membership.messages import FAILED, State

INVARIANTS = ("membership-invariants",)


@bug("detection", source="SWIM, section 4.2", caught_by=INVARIANTS)
def convicts_at_once() -> Sequence[Replacement]:
    """Whoever falls silent is convicted, and not first suspected, with time to refute."""

    def suspect(membership: Membership, member: Member, reason: Reason, now: float) -> None:
        membership._change(member, FAILED, reason, now)
        membership._accuse(member, now)

    return [(Membership, "_suspect", suspect)]


@bug("detection", source="Chandra and Toueg, JACM 1996: completeness", caught_by=INVARIANTS)
def never_suspects() -> Sequence[Replacement]:
    """Silence goes unnoticed: a dead node passes for alive."""

    def suspect(membership: Membership, member: Member, reason: Reason, now: float) -> None:  # noqa: ARG001  # nothing
        return

    return [(Membership, "_suspect", suspect)]


@bug("detection", source="SWIM, section 4.2", caught_by=INVARIANTS)
def never_convicts() -> Sequence[Replacement]:
    """A suspicion never becomes a verdict: a dead node is suspected for ever."""
    right = Membership._change

    def change(membership: Membership, member: Member, state: State, reason: Reason, now: float) -> None:
        if state != FAILED or member.left:
            right(membership, member, state, reason, now)

    return [(Membership, "_change", change)]


@bug("detection", source="Lifeguard, arXiv 1707.00788", caught_by=INVARIANTS, scenario="sleepers.toml")
def resumed_convicts() -> Sequence[Replacement]:
    """A node does not notice that it was away itself, and judges the others by what it has missed."""

    def observe_step(health: LocalHealth, now: float) -> float:
        health.last_step = now
        return 0.0

    return [(LocalHealth, "observe_step", observe_step)]


@bug("detection", source="SWIM, section 4.2", caught_by=("membership-invariants", "membership"))
def accuser_raises_incarnation() -> Sequence[Replacement]:
    """Whoever convicts a node raises its incarnation, which is for that node alone to do."""
    right = Membership._accuse

    def accuse(membership: Membership, member: Member, now: float) -> None:
        if member.state == FAILED:
            member.incarnation += 1
        right(membership, member, now)

    return [(Membership, "_accuse", accuse)]


@bug("detection", source="memberlist#311, #345", caught_by=("membership", "membership-invariants"))
def no_refutation() -> Sequence[Replacement]:
    """A node that hears that it is held failed does not answer, and stays convicted."""

    def answer_claim(membership: Membership, incarnation: int, state: int, now: float) -> None:  # noqa: ARG001  # none
        return

    return [(Membership, "_answer_claim", answer_claim)]


@bug("detection", source="SWIM, section 4.2", caught_by=INVARIANTS)
def believes_verdicts() -> Sequence[Replacement]:
    """A conviction that one node tells of is taken over by all others, whatever they hear themselves."""
    right = Membership._merge

    def merge(membership: Membership, beat: Beat, sent_at: float, now: float) -> None:
        right(membership, beat, sent_at, now)
        for view in beat.views:
            member = membership._members.get(view.node)
            if (
                member is not None
                and view.state == FAILED_CODE
                and (member.state, member.incarnation)
                != (
                    FAILED,
                    view.incarnation,
                )
            ):
                membership._change(member, FAILED, "accused", now)

    return [(Membership, "_merge", merge)]


@bug(
    "detection",
    source="libzmq: HEARTBEAT_TIMEOUT disconnects a peer that is merely stopped",
    caught_by=INVARIANTS,
)
def closing_is_proof() -> Sequence[Replacement]:
    """A connection that closes convicts the node at its other end."""

    def on_connection_closed(membership: Membership, peer: str, now: float) -> None:
        member = membership._members.get(peer)
        if member is not None and member.state != FAILED:
            membership._change(member, FAILED, "connection closed", now)

    return [(Membership, "_on_connection_closed", on_connection_closed)]


@bug("detection", source="circus#1231", caught_by=("crashes", "membership-invariants", "availability"))
def wall_clock() -> Sequence[Replacement]:
    """A node reads the clock that people and NTP set, and not the monotonic one."""
    from testbed.sim.clocks import LocalClock

    return [(LocalClock, "now", LocalClock.wall)]


@bug(
    "detection",
    source="dask#8537; ZMTP heartbeats are answered by libzmq's own thread",
    caught_by=("workload",),
    world="live",
    scenario="hanging.toml",
    seeds=3,
)
def helper_thread_heartbeat() -> Sequence[Replacement]:
    """Heartbeats are published by a thread of their own, which goes on while the loop that does the work hangs."""
    from chaos.bugs.beating import Beater
    from testbed.live.loop import NodeProcess
    from testbed.live.transport import Transport

    right_run, right_publish = NodeProcess.run, Transport._publish
    beaters: list[Beater] = []

    def run(process: NodeProcess) -> None:
        transport = process._transport
        publish = partial(right_publish, transport)
        beaters.append(Beater(process._host, transport._beats, publish, process._config.heartbeat))
        beaters[0].start()
        right_run(process)

    def publish(transport: Transport, socket: Any, messages: list[bytes]) -> None:
        if socket is transport._beats:
            beaters[0].latest = messages[0]
        else:
            right_publish(transport, socket, messages)

    return [(NodeProcess, "run", run), (Transport, "_publish", publish)]
