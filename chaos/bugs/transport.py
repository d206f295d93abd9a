"""Mistakes in what carries messages."""

from collections.abc import Sequence

from chaos.bugs.bug import Replacement, bug
from testbed.client import Answered, Ask, Session


@bug(
    "transport",
    source="ZeroMQ, REQ_RELAXED without REQ_CORRELATE (libzmq#1690, #1695)",
    caught_by=("cas-register",),
    scenario="duplicates.toml",
)
def takes_any_answer() -> Sequence[Replacement]:
    """Whatever answer arrives is taken for one to the latest request, even if an earlier one was asked."""
    right = Session._answered

    def answered(session: Session, event: Answered, now: float) -> list[Ask]:
        return right(session, Answered(session._asks, event.ok, event.body), now)

    return [(Session, "_answered", answered)]


@bug(
    "transport",
    source="zguide, chapter 4: the Lazy Pirate sends a request again",
    caught_by=("workload",),
    world="live",
    scenario="at_most_once.toml",
    seeds=3,
)
def resends_unacknowledged() -> Sequence[Replacement]:
    """What a peer did not acknowledge in time is sent again, behind the back of the protocol above."""
    from testbed.live.transport import Peer, Transport

    right_pump, right_send = Transport.pump, Transport._send_batch

    def send_batch(transport: Transport, peer: Peer, now: float) -> None:
        waiting = list(peer.waiting)
        right_send(transport, peer, now)
        vars(peer)["under_way"] = waiting[: len(waiting) - len(peer.waiting)]

    def pump(transport: Transport, now: float) -> None:
        for peer in transport._peers.values():
            if peer.in_flight_until is not None and now >= peer.in_flight_until:
                again = vars(peer)["under_way"]
                peer.waiting.extendleft(reversed(again))
                peer.waiting_bytes += sum(map(len, again))
        right_pump(transport, now)

    return [(Transport, "pump", pump), (Transport, "_send_batch", send_batch)]
