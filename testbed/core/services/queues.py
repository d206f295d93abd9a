"""Acknowledged queues as a state machine: publish, take, ack, nack, prolong, purge. Bodies are opaque bytes.

It knows sessions by their numbers and no time but the log's: whoever applies a command has called `advance` with its
time before. What is kept is messages, deliveries, waits and serials; everything else is an index over them, built anew
from a snapshot.
"""

import heapq
from collections import OrderedDict

import msgspec

from testbed.base import limits
from testbed.base.codec import Raw, pack
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services.commands import (
    DEAD,
    FULL,
    LEASE_LOST,
    UNFIT,
    Ack,
    LastPublished,
    Nack,
    Prolong,
    Publish,
    Purge,
    QueueStatus,
    Take,
)
from testbed.core.services.deadlines import Deadlines
from testbed.core.services.keyvalue import NULL

Reply = Done | Granted | Rejected

_NULL = Done(Raw(NULL))
_MESSAGE_BYTES = 256  # counted for each message beside its body and key: so many empty ones must not be for nothing
_LEASE, _DELAY, _WAIT = range(3)  # what ends; at the same instant messages come back before waits are over


class Message(msgspec.Struct, array_like=True):
    """In flight under a receipt, or delayed, or neither."""

    id: int
    body: bytes
    key: str | None
    deliveries: int = 0
    receipt: int | None = None
    delayed_until: float | None = None


class Delivery(msgspec.Struct, array_like=True):
    """A message in flight."""

    receipt: int
    queue: str
    message: int
    session: int
    limit: int
    visibility: float
    until: float


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """A session that waits for a message, as it asked for it."""

    session: int
    queue: str
    asked: float
    until: float
    visibility: float
    limit: int


class Published(msgspec.Struct, frozen=True, array_like=True):
    """The last serial of one producer in one queue, and the message it became."""

    queue: str
    producer: str
    serial: int
    id: int


class SavedQueues(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot's contents."""

    last_id: int
    last_receipt: int
    queues: list[tuple[str, list[Message]]]
    deliveries: list[Delivery]
    waits: list[Wait]
    published: list[Published]


class _Queue:
    """The messages of one queue and the sessions that wait for them. Never are there both available ones and waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: dict[int, Message] = {}
        self.waits: OrderedDict[int, Wait] = OrderedDict()  # by session, first come first
        self.available: list[int] = []  # a heap: what can be delivered, by id
        self.in_flight = 0
        self.delayed = 0
        self._lines: dict[str, list[int]] = {}  # heaps: what there is of each key; the oldest of them is never gone

    def add(self, message: Message) -> None:
        """Keep a message. Only dead letters may be older than what is there already."""
        self.messages[message.id] = message
        self.in_flight += message.receipt is not None
        self.delayed += message.delayed_until is not None
        if message.key is not None:
            line = self._lines.setdefault(message.key, [])
            if line and message.id < line[0] and self._is_free(self.messages[line[0]]):
                self.available.remove(line[0])  # a scan, but only where somebody publishes among the dead letters
                heapq.heapify(self.available)
            heapq.heappush(line, message.id)
        self.offer(message)

    def offer(self, message: Message) -> None:
        """Make a message available, unless it is held up."""
        if self._is_free(message) and (message.key is None or self._lines[message.key][0] == message.id):
            heapq.heappush(self.available, message.id)

    def remove(self, message: Message) -> None:
        """Let go of a message that is not available: the next of its key takes its turn."""
        del self.messages[message.id]
        if message.key is None:
            return
        line = self._lines[message.key]
        turn = line[0] == message.id
        while line and line[0] not in self.messages:
            heapq.heappop(line)
        if not line:
            del self._lines[message.key]
        elif turn:
            self.offer(self.messages[line[0]])

    def purge(self) -> list[Message]:
        """Let go of all that is not in flight."""
        messages = list(self.messages.values())
        self.messages, self._lines, self.available, self.in_flight, self.delayed = {}, {}, [], 0, 0
        for message in messages:
            if message.receipt is not None:
                self.add(message)
        return [message for message in messages if message.receipt is None]

    @staticmethod
    def _is_free(message: Message) -> bool:
        return message.receipt is None and message.delayed_until is None


class Queues:
    """All queues. One that has neither messages nor waits leaves nothing behind but its producers' serials."""

    def __init__(self) -> None:
        self.resolved: list[tuple[int, Reply]] = []  # answers for sessions that waited; whoever applies takes them out
        self.restore(SavedQueues(0, 0, [], [], [], []))

    def apply(self, command: Publish | Take | Ack | Nack | Prolong | Purge, session: int, time: float) -> Reply | None:
        """Carry out a command; its answer, or None: the session waits for a message."""
        unfit = _unfit(command)
        if unfit is not None:
            return Rejected(f"{UNFIT}: {unfit}")
        match command:
            case Publish():
                return self._publish(command, time)
            case Take():
                return self._take(command, session, time)
            case Purge():
                return self._purge(command)
        delivery = self._deliveries.get(command.receipt)
        if delivery is None:
            return Rejected(f"{LEASE_LOST}: nothing is in flight under receipt {command.receipt}")
        if isinstance(command, Prolong):
            delivery.visibility = command.visibility
            self._set_until(delivery, time + command.visibility)
            return Granted(Raw(NULL), asked=time, until=delivery.until)
        del self._deadlines[_LEASE, delivery.receipt, ""]
        if isinstance(command, Nack):
            self._take_back(delivery, command.delay, time)
            return _NULL
        queue, message = self._end(delivery)
        queue.remove(message)
        self._bytes -= _size(message)
        self._serve(queue, time)
        return _NULL

    def advance(self, time: float) -> None:
        """Leases, delays and waits end that end by then, the earliest first."""
        for kind, number, name in self._deadlines.due(time):
            if kind == _LEASE:
                self._take_back(self._deliveries[number], 0.0, time)
            elif kind == _DELAY:
                queue = self._queues[name]
                message = queue.messages[number]
                message.delayed_until = None
                queue.delayed -= 1
                queue.offer(message)
                self._serve(queue, time)
            else:
                self._leave(number)
                self.resolved.append((number, _NULL))

    def promote(self, time: float) -> None:
        """A new leader gives each lease a full term more: who holds it may have found nobody to prolong it."""
        for delivery in self._deliveries.values():
            self._set_until(delivery, min(delivery.until, time + delivery.visibility) + delivery.visibility)

    def give_up(self, session: int) -> None:
        """The session waits no more, if it did."""
        if session in self._waits:
            del self._deadlines[_WAIT, session, ""]
            self._leave(session)

    @property
    def next_deadline(self) -> float:
        """When `advance` will have something to do; infinity if never."""
        return self._deadlines.next

    def query(self, query: QueueStatus | LastPublished) -> dict[str, int] | int:
        """Answer a query."""
        if isinstance(query, LastPublished):
            published = self._published.get((query.queue, query.producer))
            return 0 if published is None else published.serial
        queue = self._queues.get(query.queue) or _Queue(query.queue)
        dead = self._queues.get(query.queue + DEAD)
        return {
            "ready": len(queue.messages) - queue.in_flight - queue.delayed,
            "delayed": queue.delayed,
            "in_flight": queue.in_flight,
            "dead": 0 if dead is None else len(dead.messages),
            "waiting": len(queue.waits),
        }

    def snapshot(self) -> SavedQueues:
        """The whole state, to be encoded before anything changes it."""
        return SavedQueues(
            self._last_id,
            self._last_receipt,
            [(name, list(queue.messages.values())) for name, queue in self._queues.items()],
            list(self._deliveries.values()),
            list(self._waits.values()),
            list(self._published.values()),
        )

    def restore(self, saved: SavedQueues) -> None:
        """Replace the whole state."""
        self.resolved.clear()
        self._last_id = saved.last_id
        self._last_receipt = saved.last_receipt
        self._published = {(last.queue, last.producer): last for last in saved.published}
        self._bytes = 0
        self._queues: dict[str, _Queue] = {}
        self._deliveries: dict[int, Delivery] = {}
        self._waits: dict[int, Wait] = {}  # by session
        self._in_flight: dict[int, int] = {}  # by session
        self._deadlines: Deadlines[tuple[int, int, str]] = Deadlines()  # what, its number, its queue where one needs it
        for name, messages in saved.queues:
            queue = self._queue(name)
            for message in messages:
                self._bytes += _size(message)
                queue.add(message)
                if message.delayed_until is not None:
                    self._deadlines[_DELAY, message.id, name] = message.delayed_until
        for delivery in saved.deliveries:
            self._start(delivery)
        for wait in saved.waits:
            self._park(wait)

    # --- commands ---

    def _publish(self, command: Publish, time: float) -> Reply:
        last = None if command.producer is None else self._published.get((command.queue, command.producer))
        if last is not None and command.serial <= last.serial:
            return _done({"id": last.id if command.serial == last.serial else None, "duplicate": True})
        last_serial = 0 if last is None else last.serial
        if command.producer is not None and command.serial != last_serial + 1:  # else the one between would be lost
            return Rejected(f"{UNFIT}: serial {command.serial} does not follow {last_serial}")
        message = Message(self._last_id + 1, bytes(command.body), command.key)
        full = self._full(command, message, is_new_producer=command.producer is not None and last is None)
        if full is not None:
            return Rejected(f"{FULL}: {full}")
        self._last_id = message.id
        if command.producer is not None:
            published = Published(command.queue, command.producer, command.serial, message.id)
            self._published[command.queue, command.producer] = published
        self._bytes += _size(message)
        queue = self._queue(command.queue)
        queue.add(message)
        self._serve(queue, time)
        return _done({"id": message.id, "duplicate": False})

    def _full(self, command: Publish, message: Message, is_new_producer: bool) -> str | None:
        queue = self._queues.get(command.queue)
        if queue is not None and len(queue.messages) >= command.capacity:
            return f"the queue holds {len(queue.messages)} messages"
        if self._bytes + _size(message) > limits.STATE_BYTES_MAX:
            return "the queues hold as many bytes as they may"
        if is_new_producer and len(self._published) >= limits.PRODUCERS_MAX:
            return f"there are {len(self._published)} producers"
        return None

    def _take(self, command: Take, session: int, time: float) -> Reply | None:
        self.give_up(session)
        in_flight = self._in_flight.get(session, 0)
        if in_flight >= command.window:
            return Rejected(f"{FULL}: {in_flight} messages in flight")
        wait = Wait(session, command.queue, time, time + command.wait, command.visibility, command.limit)
        queue = self._queues.get(command.queue)
        if queue is not None and queue.available:
            return self._deliver(queue, wait, time)
        if command.wait == 0:
            return _NULL
        if len(self._waits) >= limits.WAITERS_MAX:
            return Rejected(f"{FULL}: {len(self._waits)} sessions wait")
        self._park(wait)
        return None

    def _purge(self, command: Purge) -> Reply:
        queue = self._queues.get(command.queue)
        if queue is None:
            return _done(0)
        purged = queue.purge()
        for message in purged:
            self._bytes -= _size(message)
            if message.delayed_until is not None:
                del self._deadlines[_DELAY, message.id, queue.name]
        self._forget_if_empty(queue)
        return _done(len(purged))

    # --- deliveries ---

    def _deliver(self, queue: _Queue, wait: Wait, time: float) -> Granted:
        message = queue.messages[heapq.heappop(queue.available)]
        self._last_receipt += 1
        message.receipt = self._last_receipt
        message.deliveries += 1
        queue.in_flight += 1
        until = time + wait.visibility
        self._start(Delivery(message.receipt, queue.name, message.id, wait.session, wait.limit, wait.visibility, until))
        result = {
            "id": message.id,
            "body": Raw(message.body),
            "key": message.key,
            "receipt": message.receipt,
            "deliveries": message.deliveries,
        }
        return Granted(Raw(pack(result)), asked=wait.asked, until=until)

    def _start(self, delivery: Delivery) -> None:
        self._deliveries[delivery.receipt] = delivery
        self._in_flight[delivery.session] = self._in_flight.get(delivery.session, 0) + 1
        self._set_until(delivery, delivery.until)

    def _set_until(self, delivery: Delivery, until: float) -> None:
        delivery.until = until
        self._deadlines[_LEASE, delivery.receipt, ""] = until

    def _end(self, delivery: Delivery) -> tuple[_Queue, Message]:
        """Nobody holds the message any more; its deadline is gone already."""
        del self._deliveries[delivery.receipt]
        self._in_flight[delivery.session] -= 1
        if not self._in_flight[delivery.session]:
            del self._in_flight[delivery.session]
        queue = self._queues[delivery.queue]
        queue.in_flight -= 1
        message = queue.messages[delivery.message]
        message.receipt = None
        return queue, message

    def _take_back(self, delivery: Delivery, delay: float, time: float) -> None:
        """A delivery without ack is over: the message goes back to its place, or to the dead letters."""
        queue, message = self._end(delivery)
        if message.deliveries >= delivery.limit and not queue.name.endswith(DEAD):
            queue.remove(message)
            message.deliveries = 0
            dead = self._queue(queue.name + DEAD)
            dead.add(message)
            self._serve(queue, time)
            self._serve(dead, time)
            return
        if delay > 0:
            message.delayed_until = time + delay
            queue.delayed += 1
            self._deadlines[_DELAY, message.id, queue.name] = message.delayed_until
        queue.offer(message)
        self._serve(queue, time)

    # --- waits ---

    def _park(self, wait: Wait) -> None:
        self._waits[wait.session] = wait
        self._queue(wait.queue).waits[wait.session] = wait
        self._deadlines[_WAIT, wait.session, ""] = wait.until

    def _leave(self, session: int) -> None:
        """The session stands in no line any more; its deadline is gone already."""
        queue = self._queues[self._waits.pop(session).queue]
        del queue.waits[session]
        self._forget_if_empty(queue)

    def _serve(self, queue: _Queue, time: float) -> None:
        """One message at most became available: it wakes who has waited longest."""
        if queue.available and queue.waits:
            session, wait = queue.waits.popitem(last=False)
            del self._waits[session]
            del self._deadlines[_WAIT, session, ""]
            self.resolved.append((session, self._deliver(queue, wait, time)))
        self._forget_if_empty(queue)

    # --- records ---

    def _queue(self, name: str) -> _Queue:
        if name not in self._queues:
            self._queues[name] = _Queue(name)
        return self._queues[name]

    def _forget_if_empty(self, queue: _Queue) -> None:
        if not queue.messages and not queue.waits:
            del self._queues[queue.name]


def _size(message: Message) -> int:
    return _MESSAGE_BYTES + len(message.body) + len(message.key or "")


def _done(result: dict[str, int | bool | None] | int) -> Done:
    return Done(Raw(pack(result)))


def _unfit(command: Publish | Take | Ack | Nack | Prolong | Purge) -> str | None:
    """Why a command makes no sense, if it makes none. Written so that NaN makes none."""
    match command:
        case Publish():
            if command.producer is not None and command.serial < 1:
                return "a producer's serials count from 1"
            if command.capacity < 1:
                return "a queue's capacity is at least 1"
            return _unfit_name(command.queue.removesuffix(DEAD), command.key, command.producer)
        case Take():
            if not 0 <= command.wait <= limits.WAIT_S_MAX:
                return f"a wait lasts 0 to {limits.WAIT_S_MAX} s"
            if command.window < 1:
                return "a window is at least 1"
            if not 1 <= command.limit <= limits.DELIVERIES_MAX:
                return f"a limit is 1 to {limits.DELIVERIES_MAX} deliveries"
            return _unfit_visibility(command.visibility) or _unfit_name(command.queue.removesuffix(DEAD))
        case Prolong():
            return _unfit_visibility(command.visibility)
        case Nack():
            return None if 0 <= command.delay <= limits.LEASE_S_MAX else f"a delay lasts 0 to {limits.LEASE_S_MAX} s"
        case Purge():
            return _unfit_name(command.queue.removesuffix(DEAD))
        case Ack():
            return None


def _unfit_visibility(visibility: float) -> str | None:
    return None if 0 < visibility <= limits.LEASE_S_MAX else f"a visibility is above 0, up to {limits.LEASE_S_MAX} s"


def _unfit_name(*names: str | None) -> str | None:
    """A queue's name without the ending of dead letters, that they may have one, too; None is no name to judge."""
    for name in names:
        if name is not None and not 0 < len(name.encode()) <= limits.NAME_BYTES_MAX:
            return f"a name has 1 to {limits.NAME_BYTES_MAX} bytes"
    return None
