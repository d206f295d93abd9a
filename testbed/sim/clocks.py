"""A node's own clocks: one that drifts, and one that people set. It knows nothing of what reads them."""

from testbed.base.rand import Random

DRIFT_MAX = 1e-3  # seconds a second: ten times what a quartz of a cheap computer is allowed
OFFSET_S_MAX = 1e5  # a monotonic clock counts from some boot
STEP_EVERY_S = 4.0  # of virtual time: how often somebody sets the wall clock ...
STEPS_S = (-3600.0, -5.0, -1.0, 0.0, 1.0, 5.0, 3600.0)  # ... and by how much


class LocalClock:
    """The clocks of one process. Arguments are seconds of virtual time, results seconds on the clock."""

    def __init__(self, random: Random) -> None:
        self._rate = 1.0 + random.uniform(-DRIFT_MAX, DRIFT_MAX)
        self._offset = random.uniform(0.0, OFFSET_S_MAX)
        self._steps = [random.choice(STEPS_S) for _ in range(64)]

    def now(self, time: float) -> float:
        """The monotonic clock: it runs a little fast or slow, and never jumps."""
        return self._offset + self._rate * time

    def wall(self, time: float) -> float:
        """The clock that people, and NTP, set forward and back. Nothing may be decided by it."""
        return self._offset + self._rate * time + self._steps[int(time / STEP_EVERY_S) % len(self._steps)]

    def until(self, deadline: float, time: float) -> float:
        """Seconds of virtual time from `time` to the clock's `deadline`, or a little more; 0 if that is past."""
        return max(0.0, (deadline - self.now(time)) / self._rate)
