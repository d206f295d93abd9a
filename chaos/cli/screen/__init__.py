"""What a person sees of a run while it goes on: a table on a terminal, plain lines elsewhere, nothing beside JSON.

`words` says it, `picture` takes it from a run, `frame` lays it out; `live` and `lines` are the two watchers.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from chaos.cli.answers import Answer
from chaos.experiment import Nobody, Watcher

if TYPE_CHECKING:
    from chaos.experiment import Run


class Onlooker(Watcher, Protocol):
    """A watcher that is also told what it will watch."""

    def awaits(self, run: "Run", world: str) -> None:
        """That run is about to begin."""


class Quiet(Nobody):
    """Shows nothing."""

    def awaits(self, run: "Run", world: str) -> None:
        """Nothing."""


@contextmanager
def onlooker(answer: Answer) -> Iterator[Onlooker]:
    """Whoever fits where this command writes to. At the end the terminal is as it was, but for plain lines."""
    if answer.as_json:
        yield Quiet()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from chaos.cli.screen.live import Screen

        with Screen(sys.stderr) as screen:
            yield screen
    else:
        from chaos.cli.screen.lines import Lines

        yield Lines(answer.progress)
