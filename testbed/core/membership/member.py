"""What the failure detector remembers of one peer, and the small calculations on it. It decides nothing.

All instants are seconds of this node's monotonic clock; a peer's clock enters only through `ClockOffset`.
"""

import math
from dataclasses import dataclass, field

from testbed.core.membership.messages import ALIVE, FAILED, SUSPECT, MembershipConfig, State

CONFIRMATIONS_EXPECTED = 2  # memberlist's default (suspicion multiplier 4, less 2); Lifeguard's paper uses 3


@dataclass(slots=True)
class ClockOffset:
    """Tells when a beat was sent, in local time, from the smallest offset between the two clocks seen of late.

    `received - sent` is the clocks' offset plus the time in transit, so the smallest one is that of the fastest beat,
    and any excess over it is the age of a beat on arrival. The minimum is kept over one to two `window`s of receiving
    time, in two buckets: clocks may drift, and a link that has become slower for good is accepted as such. A burst of
    old beats arrives at one instant and so opens at most one bucket: the one before it still knows the true offset.
    """

    window: float
    opened_at: float = -math.inf
    earlier: float = math.inf
    current: float = math.inf

    def sending_time(self, received: float, sent: float) -> float:
        """Local time at which a beat stamped `sent` by its sender left, at most `received`."""
        offset = received - sent
        if received - self.opened_at >= self.window:
            self.earlier, self.current, self.opened_at = self.current, offset, received
        elif offset < self.current:
            self.current = offset
        return received - (offset - min(self.earlier, self.current))

    def forget(self) -> None:
        """A new process may run on another clock."""
        self.opened_at, self.earlier, self.current = -math.inf, math.inf, math.inf


@dataclass(slots=True)
class Quota:
    """At most `lines` in each window of `seconds`; what was suppressed is counted and told with the next line."""

    lines: int = 6
    seconds: float = 10.0
    opened_at: float = -math.inf
    used: int = 0
    suppressed: int = 0

    def take(self, now: float) -> int | None:
        """How many lines were suppressed before this one, or None if this one is to be suppressed too."""
        if now - self.opened_at >= self.seconds:
            self.opened_at, self.used = now, 0
        if self.used >= self.lines:
            self.suppressed += 1
            return None
        self.used += 1
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed


@dataclass(slots=True)
class Member:
    """One peer. `incarnation` and `sequence` are the highest known from anywhere, `boot` and `heard` from itself."""

    id: str
    clock: ClockOffset
    state: State = ALIVE
    incarnation: int = 0
    sequence: int = 0
    boot: int = 0
    boot_incarnation: int = 0  # the highest incarnation received directly
    heard: int = 0  # the highest sequence received directly, of the process `boot`
    health: int = 1
    alive_at: float = -math.inf  # the latest instant at which it is known to have lived
    grace_until: float = -math.inf  # before this, silence is no ground for suspicion
    closed_at: float | None = None  # its connection closed, and nothing newer than that was heard since
    suspect_at: float = 0.0  # start of the suspicion timer; absences of this node do not count
    doubted_at: float = 0.0  # only evidence later than this ends the suspicion
    accusers: dict[str, None] = field(default_factory=dict)  # peers whose latest beat holds it suspect or failed
    left: bool = False
    told_at: float = -math.inf  # when it was last told that it is held failed
    quota: Quota = field(default_factory=Quota)

    def validate(self) -> None:
        """Assert what must hold between any two steps."""
        assert self.state in (ALIVE, SUSPECT, FAILED)
        assert 0 <= self.boot <= self.boot_incarnation <= self.incarnation, self
        assert self.heard <= self.sequence or self.boot_incarnation < self.incarnation, self
        assert not (self.left and self.state != FAILED), self
        assert self.id not in self.accusers, self
        assert self.incarnation > 0 or self.sequence == 0, self


def suspicion_timeout(config: MembershipConfig, members: int, confirmations: int) -> float:
    """Seconds from suspicion to conviction, given how many other live members confirm it.

    Lifeguard (Dadgar, Phillips, Currey 2018, arXiv 1707.00788, "LHA-Suspicion"):
    max(Min, Max - (Max - Min) * log(C + 1) / log(K + 1)). `members` counts the whole cluster; where it has fewer than
    K possible confirmers K is their number, and where it has none the timeout is Min, as in memberlist's suspicion.go.
    """
    expected = min(CONFIRMATIONS_EXPECTED, members - 2)
    if expected < 1 or confirmations >= expected:
        return config.failed_after_min
    span = config.failed_after_max - config.failed_after_min
    return config.failed_after_max - span * math.log(confirmations + 1) / math.log(expected + 1)
