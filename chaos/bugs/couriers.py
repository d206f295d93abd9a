"""A node that counts what arrives, and clients who expect it at most once: for bugs of the live world's transport."""

from collections import Counter
from typing import Any

from chaos.workloads.api import Client, Op, Workload
from testbed.base.rand import Random
from testbed.node import Node, Request

CARRIED_BETWEEN_LOOKS = 10


class Courier(Node):
    """Sends each number that it is given to all its peers, and tells which ones came to it more than once."""

    def on_start(self) -> None:
        """Nothing has arrived yet."""
        self.arrived: Counter[int] = Counter()

    def on_message(self, sender: str, message: Any) -> None:  # noqa: ARG002  # every number is given to one node only
        """A number arrives."""
        self.arrived[message] += 1

    def on_request(self, request: Request, body: Any) -> None:
        """A number to be sent, or null to hear of those that came twice."""
        if body is None:
            self.reply(request, [number for number, times in self.arrived.items() if times > 1])
            return
        for peer in self.peers:
            self.send(peer, body)
        self.reply(request, body)


class Deliveries(Workload):
    """What a node sends arrives at most once."""

    def __init__(self) -> None:
        self._numbers = 0

    def client(self, number: int, random: Random) -> Client:  # noqa: ARG002  # all do the same
        """Have numbers carried, and look now and then for one that came twice."""
        while True:
            for _ in range(CARRIED_BETWEEN_LOOKS):
                self._numbers += 1
                yield Op("carry", self._numbers, request=self._numbers)
            outcome = yield Op("look", request=None)
            if outcome.type == "ok":
                assert outcome.value == [], f"{outcome.value} came more than once"
