"""Queues in blocking calls: at least once, each delivery under a lease and with a receipt of its own."""

from collections.abc import Iterator
from typing import Any

from testbed.blocking.outcomes import Caller, succeeded
from testbed.core.services.commands import (
    DEAD,
    Ack,
    LastPublished,
    Nack,
    Prolong,
    Publish,
    Purge,
    QueueStatus,
    Take,
    value,
)

VISIBILITY_S = 30.0  # SQS's default, and NATS's
WINDOW = 1000  # NATS's MaxAckPending
DELIVERY_LIMIT = 20  # of RabbitMQ's quorum queues
CAPACITY = 100_000
TAKE_WAIT_S = 1.0
CONSUME_WAIT_S = 60.0  # then it is asked again


class Message:
    """One delivery. `deliveries`: how many there were of the message, this one included.

    Once `remaining` is 0 it may be delivered to somebody else, and what is done with it is refused (`LeaseLost`).
    """

    def __init__(self, caller: Caller, taken: dict[str, Any], visibility: float, until: float) -> None:
        self.id: int = taken["id"]
        self.body: Any = taken["body"]
        self.key: str | None = taken["key"]
        self.receipt: int = taken["receipt"]
        self.deliveries: int = taken["deliveries"]
        self._caller = caller
        self._visibility = visibility
        self._until = until

    @property
    def remaining(self) -> float:
        """Seconds for which nobody else can be given the message; 0 if somebody may have been."""
        return max(0.0, self._until - self._caller.now())

    def ack(self) -> None:
        """It is done with, and never delivered again."""
        self._caller.call(Ack(self.receipt))

    def nack(self, delay: float = 0.0) -> None:
        """It is to be delivered again, after `delay` seconds at the earliest."""
        self._caller.call(Nack(self.receipt, delay))

    def extend(self, visibility: float | None = None) -> None:
        """It takes longer: nobody else is given it for `visibility` seconds from now on (None: as long as at first)."""
        seconds = self._visibility if visibility is None else visibility
        outcome = succeeded(self._caller.outcome(Prolong(self.receipt, seconds)))
        assert outcome.until is not None, "what is granted has an end"
        self._until = outcome.until


class Queue:
    """A replicated queue. See `Client.queue` for what it can be told."""

    def __init__(
        self,
        caller: Caller,
        name: str,
        visibility: float,
        window: int,
        limit: int,
        capacity: int,
        producer: str | None,
    ) -> None:
        self.name = name
        self._caller = caller
        self._visibility = visibility
        self._window = window
        self._limit = limit
        self._capacity = capacity
        self._producer = producer

    def publish(self, body: Any, key: str | None = None, serial: int | None = None) -> int | None:
        """Add a message; returns its id once it can no longer be lost. `Refused` if the queue is full.

        Messages of one `key` are delivered one after the other, in their order. A queue that was made with a `producer`
        wants a `serial` (1, 2, 3 …) for each message: publishing it again, by whatever client and however late, adds
        nothing; the id is None then, where later ones followed. A serial that leaves one out is `Refused`: after
        `Refused` or `Unknown`, publish under the same serial again before the next.
        """
        if (self._producer is None) != (serial is None):
            raise ValueError("a serial belongs to a queue that was made with a producer, and to each message of it")
        command = Publish(self.name, value(body), key, self._producer, serial or 0, self._capacity)
        added: int | None = self._caller.call(command)["id"]
        return added

    def last_published(self) -> int:
        """The last serial of the producer that this queue was made with, 0 if there is none: go on after it."""
        if self._producer is None:
            raise ValueError("the queue was made without a producer")
        last: int = self._caller.call(LastPublished(self.name, self._producer))
        return last

    def take(self, wait: float = TAKE_WAIT_S) -> Message | None:
        """The next message, under a lease; None if there is none within `wait` seconds."""
        command = Take(self.name, self._visibility, wait, self._window, self._limit)
        outcome = succeeded(self._caller.outcome(command))
        if outcome.value is None:
            return None
        assert outcome.until is not None, "what is granted has an end"
        return Message(self._caller, outcome.value, self._visibility, outcome.until)

    def consume(self, wait: float | None = None) -> Iterator[Message]:
        """Message after message. Ends when none comes for `wait` seconds; None: never."""
        while True:
            message = self.take(CONSUME_WAIT_S if wait is None else wait)
            if message is not None:
                yield message
            elif wait is not None:
                return

    def purge(self) -> int:
        """Remove all messages that are not in flight; how many they were."""
        removed: int = self._caller.call(Purge(self.name))
        return removed

    def status(self) -> dict[str, int]:
        """How many messages are `ready`, `delayed`, `in_flight` and `dead`, and how many consumers are `waiting`."""
        counts: dict[str, int] = self._caller.call(QueueStatus(self.name))
        return counts

    @property
    def dead(self) -> "Queue":
        """The queue of its dead letters."""
        return Queue(self._caller, self.name + DEAD, self._visibility, self._window, self._limit, self._capacity, None)
