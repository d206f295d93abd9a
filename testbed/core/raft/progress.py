"""What a leader knows of its followers, and of the reads that wait for them."""

from dataclasses import dataclass
from typing import Any

import msgspec

from testbed.core.raft.events import Snapshot


@dataclass(slots=True)
class Progress:
    """One follower, in the leader's eyes. Nothing here outlives the leader's term."""

    next: int
    match: int = 0
    acked: int = 0  # the highest round answered
    sent: int = 0  # the highest round sent
    sent_at: float = 0.0
    in_flight: int = 0  # the round of a message with entries or a snapshot chunk that is on its way; 0: there is none
    rejected: int = 0  # rounds up to here were sent before `next` was last moved back: rejecting them says nothing new
    contact: float = 0.0  # when it last answered in this term
    snapshot: Snapshot | None = None  # what it was sent, chunk by chunk, until it has caught up with what follows
    snapshot_offset: int = 0

    def answered(self, round_: int, now: float) -> None:
        """Note an answer. One to an earlier message than that in flight says nothing about that."""
        self.contact = now
        self.acked = max(self.acked, round_)
        if round_ >= self.in_flight:
            self.in_flight = 0

    def matches(self, index: int) -> None:
        """The follower's log agrees up to `index`. Never goes back: answers may be late or repeated."""
        self.match = max(self.match, index)
        self.next = max(self.next, self.match + 1)

    def conflicts(self, round_: int, index: int, newest: int) -> None:
        """The follower rejected `round_` and can be asked about `index` instead; `newest`: the latest round of all."""
        if round_ > self.rejected:
            self.next = max(self.match + 1, min(self.next, index))
            self.rejected = newest


class PendingRead(msgspec.Struct, frozen=True):
    """A query waits until `round` is answered by a majority and `index` is applied (read index, thesis 6.4)."""

    handle: Any
    query: bytes
    round: int
    index: int
