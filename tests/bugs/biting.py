"""What shows that a planted bug changes something, and nothing any more once it is gone."""

from collections.abc import Callable
from typing import TypeVar

from chaos.bugs import planted

Shown = TypeVar("Shown")


def both(name: str, show: Callable[[], Shown]) -> tuple[Shown, Shown]:
    """What `show` gives as it should be, and with the bug; afterwards it gives the former again."""
    right = show()
    with planted(name):
        wrong = show()
    assert show() == right, f"{name} is still there"
    return right, wrong
