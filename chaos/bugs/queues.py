"""Mistakes in queues: when an answer may be given, what a receipt is good for, and what becomes of what comes back."""

from collections.abc import Sequence
from math import inf
from typing import Any

from chaos.bugs.bug import Replacement, bug
from chaos.bugs.carrying import carried, carrying
from testbed.base.codec import Raw, pack
from testbed.client import Outcome, Session
from testbed.core.raft import replication
from testbed.core.raft.core import Raft
from testbed.core.raft.machine import Applied, ReplicatedState
from testbed.core.raft.messages import Entry
from testbed.core.requests import Done
from testbed.core.services import queues as module
from testbed.core.services.commands import DEAD, Ack, Command, Publish, Query, Take, decode_command
from testbed.core.services.machine import Services
from testbed.core.services.queues import Delivery, Message, Queues, Reply, SavedQueues

SCENARIO = "leases.toml"
JUDGE = ("total-queue",)

# --- answers and receipts ---


def _answers_early(kind: type[Command], result: Any) -> Sequence[Replacement]:
    right = replication.propose

    def propose(raft: Raft, handle: Any, session: int, serial: int, command: bytes) -> None:
        right(raft, handle, session, serial, command)
        index = raft.log.last
        if session and raft.pending.get(index) is handle and isinstance(decode_command(command), kind):
            del raft.pending[index]
            raft.uncommitted_bytes -= len(command)
            raft.answer(handle, Done(Raw(pack(result))))

    return [(replication, "propose", propose)]


@bug("queues", source="Jepsen: NATS 2.12.1", caught_by=JUDGE, scenario=SCENARIO)
def publish_confirmed_before_commit() -> Sequence[Replacement]:
    """A leader confirms a publication as soon as it stands in its own log."""
    return _answers_early(Publish, {"id": None, "duplicate": False})


@bug("queues", source="Jepsen: NATS 2.12.1", caught_by=JUDGE, scenario=SCENARIO)
def acknowledged_before_commit() -> Sequence[Replacement]:
    """A leader tells a consumer that its message is done with as soon as that stands in its own log."""
    return _answers_early(Ack, None)


@bug("queues", source="SQS, DeleteMessage: a receipt handle, not a message ID", caught_by=JUDGE, scenario=SCENARIO)
def ack_by_message_id() -> Sequence[Replacement]:
    """An ack names its message: it counts although the message is in flight to somebody else by now."""
    right_body, right_finish, right = Session._service_body, Session._finish, Services.apply

    def finish(session: Session, outcome: Outcome) -> None:
        if isinstance(session._operation, Take) and outcome.value is not None:
            vars(session).setdefault("ids", {})[outcome.value["receipt"]] = outcome.value["id"]
        right_finish(session, outcome)

    def service_body(session: Session, operation: Command | Query) -> bytes:
        body = right_body(session, operation)
        return carrying(body, vars(session)["ids"][operation.receipt]) if isinstance(operation, Ack) else body

    def apply(services: Services, command: bytes, session: int, time: float) -> bytes | None:
        number = carried(command, Ack)
        for delivery in services.queues._deliveries.values():
            if delivery.message == number:
                return right(services, pack(Ack(delivery.receipt)), session, time)
        return right(services, command, session, time)

    return [(Session, "_finish", finish), (Session, "_service_body", service_body), (Services, "apply", apply)]


@bug("queues", source="Raft thesis 6.3, figure 6.2", caught_by=JUDGE, scenario=SCENARIO)
def deduplication_lost_on_leader_change() -> Sequence[Replacement]:
    """What was carried out already is known to the leader that did it: the next one does it again on a retry."""
    right = ReplicatedState.apply

    def apply(state: ReplicatedState, entry: Entry, index: int) -> Applied:
        if entry.term > state._term:
            state.service.queues._published.clear()  # type: ignore[attr-defined]
            for session in state.sessions.values():
                session.serial = 0 if session.answer is not None else session.serial
        return right(state, entry, index)

    return [(ReplicatedState, "apply", apply)]


# --- leases ---


@bug("queues", source="RabbitMQ, work queues: one message, one consumer", caught_by=JUDGE, scenario=SCENARIO)
def delivers_to_two() -> Sequence[Replacement]:
    """A message that comes wakes the first two who wait for one, and both are given it."""
    right = Queues._serve

    def serve(queues: Queues, queue: module._Queue, time: float) -> None:
        before = len(queues.resolved)
        right(queues, queue, time)
        if len(queues.resolved) > before and queue.waits:
            session = next(iter(queue.waits))
            queues.give_up(session)
            queues.resolved.append((session, queues.resolved[-1][1]))

    return [(Queues, "_serve", serve)]


@bug("queues", source="etcd, lessor: Promote", caught_by=JUDGE, scenario=SCENARIO)
def visibility_forgotten_over_snapshot() -> Sequence[Replacement]:
    """Timers are not part of a snapshot: what was in flight when it was taken stays in flight for ever."""
    right, right_promote = Queues.restore, Queues.promote

    def restore(queues: Queues, saved: SavedQueues) -> None:
        right(queues, saved)
        for delivery in saved.deliveries:
            queues._set_until(delivery, inf)

    def promote(queues: Queues, time: float) -> None:
        timeless = [delivery for delivery in queues._deliveries.values() if delivery.until == inf]
        right_promote(queues, time)
        for delivery in timeless:
            queues._set_until(delivery, inf)

    return [(Queues, "restore", restore), (Queues, "promote", promote)]


# --- what comes back ---


@bug(
    "queues",
    source="NATS JetStream and RabbitMQ: redelivery breaks the order",
    caught_by=("key-order",),
    scenario=SCENARIO,
)
def redelivery_to_the_tail() -> Sequence[Replacement]:
    """A message that comes back lines up behind all others, those of its own key, too."""
    right = Queues._take_back

    def take_back(queues: Queues, delivery: Delivery, delay: float, time: float) -> None:
        if queues._queues[delivery.queue].messages[delivery.message].deliveries >= delivery.limit:
            right(queues, delivery, delay, time)
            return
        queue, message = queues._end(delivery)
        queue.remove(message)
        queues._last_id += 1
        message.id = queues._last_id
        if delay > 0:
            message.delayed_until = time + delay
            queues._deadlines[module._DELAY, message.id, queue.name] = message.delayed_until
        queue.add(message)
        for _ in range(2):  # the next of its key, and perhaps itself
            queues._serve(queue, time)

    return [(Queues, "_take_back", take_back)]


@bug("queues", source="NATS JetStream, MaxDeliver; SQS, maxReceiveCount", caught_by=JUDGE, scenario=SCENARIO)
def poison_for_ever() -> Sequence[Replacement]:
    """A message that comes back counts as one that was never delivered, and so never becomes a dead letter."""
    right = Queues._take_back

    def take_back(queues: Queues, delivery: Delivery, delay: float, time: float) -> None:
        queues._queues[delivery.queue].messages[delivery.message].deliveries = 0
        right(queues, delivery, delay, time)

    return [(Queues, "_take_back", take_back)]


@bug("queues", source="RabbitMQ, dead letter exchanges: at-most-once", caught_by=JUDGE, scenario="restarts.toml")
def dead_letters_in_two_steps() -> Sequence[Replacement]:
    """What was delivered too often is removed by one entry and added to the dead letters by the next: what lies between
    is in no snapshot."""
    right, right_apply, right_restore = Queues._take_back, Queues.apply, Queues.restore

    def take_back(queues: Queues, delivery: Delivery, delay: float, time: float) -> None:
        message = queues._queues[delivery.queue].messages[delivery.message]
        if message.deliveries < delivery.limit or delivery.queue.endswith(DEAD):
            right(queues, delivery, delay, time)
            return
        queue, message = queues._end(delivery)
        queue.remove(message)
        message.deliveries = 0
        vars(queues).setdefault("removed", []).append((queue.name + DEAD, message))
        queues._serve(queue, time)

    def apply(queues: Queues, command: Any, session: int, time: float) -> Reply | None:
        removed: list[tuple[str, Message]] = vars(queues).pop("removed", [])
        for name, message in removed:
            dead = queues._queue(name)
            dead.add(message)
            queues._serve(dead, time)
        return right_apply(queues, command, session, time)

    def restore(queues: Queues, saved: SavedQueues) -> None:
        vars(queues).pop("removed", None)
        right_restore(queues, saved)

    return [(Queues, "_take_back", take_back), (Queues, "apply", apply), (Queues, "restore", restore)]
