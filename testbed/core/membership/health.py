"""A node's judgement of itself: was it stopped or starved, and how far may it trust its own observations?

It knows when this node's steps came, and nothing of its peers. Instants are local, in seconds.
"""

import math
from dataclasses import dataclass, field

from testbed.core.membership.messages import MembershipConfig

SCORE_MAX = 7  # memberlist's awareness maximum: the multiplier is at most 8


@dataclass(slots=True)
class LocalHealth:
    """Lifeguard's local health multiplier (arXiv 1707.00788, "LHA-Probe"), fed by absences and by refutations.

    An absence shows as a gap between two steps: CLOCK_MONOTONIC runs on while a process is stopped. After one, this
    node is blind until a full suspicion interval has passed: what it drains meanwhile is old, and its peers' silence
    was its own deafness.
    """

    config: MembershipConfig
    score: int = 0
    changed_at: float = -math.inf
    last_step: float = -math.inf
    blind_until: float = -math.inf
    _away_after: float = field(init=False)

    def __post_init__(self) -> None:
        """A step is a hot path; the configuration derives its numbers anew each time."""
        self._away_after = self.config.away_after

    @property
    def multiplier(self) -> int:
        """1 is well, 8 is worst."""
        return 1 + self.score

    @property
    def patience(self) -> float:
        """Seconds without evidence after which this node, in its present health, suspects a peer."""
        return self.config.suspect_after * (1 + self.score)

    def observe_step(self, now: float) -> float:
        """Call at each step. If this node was away: the seconds, not discounted before, in which it sees nothing."""
        before, self.last_step = self.last_step, now
        if now - before <= self._away_after or before == -math.inf:
            return 0.0
        self.worsen(now)
        seen_until = max(before, self.blind_until)
        self.blind_until = max(now + self.patience, self.blind_until)
        return self.blind_until - seen_until

    def worsen(self, now: float) -> None:
        """This node was away, or had to refute its own conviction."""
        self.score = min(self.score + 1, SCORE_MAX)
        self.changed_at = now

    def recover(self, now: float) -> bool:
        """Call at each beat: a full suspicion interval without trouble makes it one better. Whether it did."""
        if not self.score or now - self.changed_at < self.config.suspect_after:
            return False
        self.score -= 1
        self.changed_at = now
        return True
