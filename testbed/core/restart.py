"""When a node that ended by itself is started again, how long to wait before, and when to give up.

Pure: it reads no clock and rolls no dice, and knows nothing of processes. Time comes in seconds of a monotonic clock
(circus #1231: timers on the wall clock break when it is set).
"""

from collections import deque
from typing import Final, Literal

import msgspec

from testbed.base.rand import Random

ExitKind = Literal["clean", "failed", "fault", "stopped"]
"""clean: code 0, unasked; failed: any other unasked end; fault: a fault killed it; stopped: it was told to stop."""

RestartKind = Literal["never", "on-failure", "always"]

BACKOFF_S_MIN: Final = 0.1  # systemd's RestartSec
BACKOFF_S_MAX: Final = 5.0
HEALTHY_S: Final = 10.0  # up for this long: the next failure starts a new series
RESTARTS_MAX: Final = 5  # systemd's StartLimitBurst ...
RESTARTS_WINDOW_S: Final = 10.0  # ... and StartLimitIntervalSec


class RestartPolicy(msgspec.Struct, frozen=True):
    """What is wanted; times in seconds. At most `restarts_max` restarts are granted in any `window` seconds."""

    kind: RestartKind = "never"
    backoff_min: float = BACKOFF_S_MIN
    backoff_max: float = BACKOFF_S_MAX
    healthy_after: float = HEALTHY_S
    restarts_max: int = RESTARTS_MAX
    window: float = RESTARTS_WINDOW_S


class Restart(msgspec.Struct, frozen=True):
    """Start the node again in `after` seconds."""

    after: float


class StayDown(msgspec.Struct, frozen=True):
    """Leave the node down: somebody asked for it, or the policy does not cover this exit."""


class GiveUp(msgspec.Struct, frozen=True):
    """Leave the node down for good: it crashes faster than restarting can help. `reason` is for people."""

    reason: str


Decision = Restart | StayDown | GiveUp


class NodeRestarts:
    """One node's restarts under a policy."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self._series = 0  # failures since the node was last healthy
        self._granted: deque[float] = deque()  # when restarts were granted, within the window
        self._started_at: float | None = None

    def started(self, now: float) -> None:
        """The node's process was started, by whomever."""
        self._started_at = now

    def forgive(self) -> None:
        """Someone started the node by command: what it did before no longer counts."""
        self._series = 0
        self._granted.clear()

    def decide(self, kind: ExitKind, now: float, random: Random) -> Decision:
        """What to do about an exit. Ends that were asked for are neither counted nor undone (circus #965, #529)."""
        up_for = now - self._started_at if self._started_at is not None else 0.0
        self._started_at = None
        if up_for >= self.policy.healthy_after:
            self._series = 0
        if not _covers(self.policy.kind, kind):
            return StayDown()
        while self._granted and now - self._granted[0] >= self.policy.window:
            self._granted.popleft()
        if len(self._granted) >= self.policy.restarts_max:
            count = len(self._granted)
            return GiveUp(f"ended again after {count} restarts in {now - self._granted[0]:.1f} s")
        after = backoff(self.policy, self._series, random)
        self._series += 1
        self._granted.append(now)
        return Restart(after)


def backoff(policy: RestartPolicy, failures: int, random: Random) -> float:
    """Seconds to wait after `failures` earlier failures in a row: uniform between the least and the doubled backoff.

    Full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS 2015), bounded below by `backoff_min`.
    """
    ceiling = min(policy.backoff_max, policy.backoff_min * 2.0 ** min(failures, 64))
    return random.uniform(policy.backoff_min, max(ceiling, policy.backoff_min))


def _covers(policy: RestartKind, kind: ExitKind) -> bool:
    if kind in ("fault", "stopped") or policy == "never":
        return False
    return kind == "failed" or policy == "always"
