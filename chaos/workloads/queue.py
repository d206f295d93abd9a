"""The workload `queue`: messages through the replicated queue, some with an order, some that nobody can digest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chaos.workloads.api import Client, Op, Workload
from testbed.base.durations import parse_duration
from testbed.base.rand import Random
from testbed.core.services.commands import DEAD, Ack, Nack, Publish, Take, value

KEYS = 6
KEYED = 0.5  # of the messages
POISON_EVERY = 20  # of the others: nobody acknowledges such a one, until it is among the dead letters
DELIVERY_LIMIT = 4
VISIBILITY = "1s"
TAKE_WAIT_S = 0.3
VANISHING = 0.02  # of the consumers: they are gone while they wait, some until nobody waits for them
LONG_WAIT_S = 10.0
VANISHES_AFTER_S = 0.1
ABSENCE_S_MAX = 4.0
NACK_DELAYS_S = (0.0, 0.0, 0.2)
DEAD_LETTERS = 0.1  # of the deliveries asked for
DRAIN_VISIBILITIES = 3  # so long nothing came: a lease that nobody returns ends after two at the latest, extended once


class Messages(Workload):
    """Publishes and consumes; judged by what came out, and in which order. Reads the queues to their end at last.

    An enqueue is a publication. A take is a delivery: it shows the element, which delivery of it that is, and whether
    it is a dead letter. A dequeue acknowledges a delivery: by it the element is gone. A nack gives it back, and so does
    the end of its lease. Option: `visibility`, how long a consumer may keep a message.
    """

    model = ("total-queue", "key-order")
    leases: Mapping[str, str] = {"take": "nack"}

    def __init__(self) -> None:
        self._published = 0

    def client(self, number: int, random: Random) -> Client:
        """As many publications as deliveries, so that consumers wait for messages as often as messages for them."""
        producer, serial = f"client {number}", 1
        while True:
            if random.random() < 0.5:
                op = self._enqueue(producer, serial, random)
                published = yield op
                if op.idempotent and published.type == "ok":
                    serial += 1
                elif op.idempotent and published.type == "info":  # nobody knows which serial is the next one
                    producer, serial = f"client {number} since {self._published}", 1
                continue
            dead = random.random() < DEAD_LETTERS
            if random.random() < VANISHING:
                yield replace(self._take(LONG_WAIT_S, dead), timeout=VANISHES_AFTER_S)
                yield replace(self._take(0.0, dead), after=random.uniform(0.0, ABSENCE_S_MAX))
                continue
            taken = yield self._take(TAKE_WAIT_S, dead)
            if taken.type == "ok" and taken.value is not None:
                yield from self._consume(taken.value, dead, random)

    def drain(self, number: int, random: Random) -> Client:  # noqa: ARG002  # all clients do the same
        """Acknowledges all there is; first of the queue, and when nothing more can come to be dead, of the others."""
        for dead, wait in ((False, DRAIN_VISIBILITIES * self._visibility + max(NACK_DELAYS_S)), (True, 0.0)):
            while True:
                taken = yield self._take(wait, dead)
                if taken.type == "ok" and taken.value is None:
                    break
                if taken.type == "ok":
                    yield Op("dequeue", taken.value["body"], request=Ack(taken.value["receipt"]))

    @property
    def _queue(self) -> str:
        return f"w{self.number}-jobs"

    @property
    def _visibility(self) -> float:
        return parse_duration(self.options.get("visibility", VISIBILITY))

    def _enqueue(self, producer: str, serial: int, random: Random) -> Op:
        """Half of them under the producer's own serial, so that they can be repeated even where a session is lost."""
        self._published += 1
        key = f"k{random.randrange(KEYS)}" if random.random() < KEYED else None
        element = [key, self._published] if key is not None else self._published
        numbered = random.random() < 0.5
        request = Publish(self._queue, value(element), key, *((producer, serial) if numbered else ()))
        return Op("enqueue", element, request=request, idempotent=numbered, shows=lambda _: element)

    def _take(self, wait: float, dead: bool) -> Op:
        request = Take(self._queue + DEAD * dead, self._visibility, wait, limit=DELIVERY_LIMIT)
        return Op("take", request=request, shows=lambda taken: _delivery(taken, dead))

    def _consume(self, taken: dict[str, Any], dead: bool, random: Random) -> Client:
        """Mostly it is acknowledged. Else the consumer gives it back, or dies over it, or comes too late."""
        element, receipt = taken["body"], taken["receipt"]
        poison = isinstance(element, int) and element % POISON_EVERY == 0 and not dead
        draw = random.random()
        if poison or draw < 0.08:
            yield Op("nack", element, request=Nack(receipt, random.choice(NACK_DELAYS_S)))
        elif draw >= 0.12:
            late = 1.5 * self._visibility if draw < 0.16 else 0.0
            yield Op("dequeue", element, request=Ack(receipt), after=late)


def _delivery(taken: dict[str, Any], dead: bool) -> list[Any]:
    return [taken["body"], taken["deliveries"], *(["dead"] if dead else [])]
