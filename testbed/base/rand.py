"""The one module that rolls dice: named, seeded streams.

Each user of chance has a stream of its own, so that a new user does not change what the others draw.
"""

import hashlib
from random import Random, SystemRandom

__all__ = ["Random", "Streams", "entropy"]


def entropy() -> Random:
    """Dice that nobody can repeat: for ports, ids of clusters, and seeds that were not given."""
    return SystemRandom()


class Streams:
    """Independent random streams derived from one seed: `Streams(7).stream("net")` is the same for ever."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed

    def stream(self, *names: object) -> Random:
        """The stream of that name; asking twice gives two generators at the same starting point."""
        text = "/".join(str(part) for part in (self.seed, *names))
        return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
