"""Ways to decide without a search whether an order exists, where theory knows one.

Each is exact as far as it answers, and answers None where its conditions do not hold. None knows models by name.
"""

from collections.abc import Callable
from typing import Final

Ask = Callable[[], None]
"""Whether to go on: raises what must not be caught when the budget is used up."""

# Iterations between two such questions: a few milliseconds.
STEPS_PER_QUESTION: Final = 4096
