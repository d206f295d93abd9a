"""A node whose loop can hang, and clients who expect the others to notice: for bugs of the live world's heartbeats."""

import time
from collections import Counter
from typing import Any

from chaos.workloads.api import Client, Op, Workload
from testbed.base.rand import Random
from testbed.node import MembershipState, Node, Request

HANG_S = 2.0  # far above what raises suspicion with the heartbeats of 100 ms in the scenario: 0.5 s


class Hanging(Node):
    """Hangs when it is asked to; counts how often it came to doubt each of its peers."""

    def on_start(self) -> None:
        """Nobody is doubted yet."""
        self.doubts: Counter[str] = Counter()

    def on_membership(self, peer: str, state: MembershipState) -> None:
        """The failure detector's verdict."""
        self.doubts[peer] += state != "alive"

    def on_request(self, request: Request, body: Any) -> None:
        """A number of seconds to hang for, or a peer of which the doubts are to be told."""
        if isinstance(body, float):
            time.sleep(body)
            self.reply(request, self.id)
        else:
            self.reply(request, self.doubts[body])


class Hangs(Workload):
    """While a node hangs the others doubt it: it is its work that keeps a node alive in their eyes."""

    def client(self, number: int, random: Random) -> Client:  # noqa: ARG002  # one client, one way
        """Make n1 hang, and ask n2 before and after."""
        while True:
            before = yield Op("doubts", request="n1", to="n2")
            hung = yield Op("hang", request=HANG_S, to="n1")
            after = yield Op("doubts", request="n1", to="n2")
            if before.type == hung.type == after.type == "ok":
                assert after.value > before.value, f"n1 hung for {HANG_S:g} s, and n2 never doubted it"
