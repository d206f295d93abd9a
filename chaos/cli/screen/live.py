"""The watcher on a terminal: a table that is redrawn a few times a second, in place.

The run's thread takes the pictures, and another one draws them: a terminal that is slow, or stopped with Ctrl-S, must
hold up neither faults nor clients.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final, Self, cast

import msgspec
from rich.console import Console, Group
from rich.live import Live

from chaos.cli.screen.frame import EVENTS_MAX, frame
from chaos.cli.screen.picture import Picture, awaited, look
from chaos.cli.screen.words import News, step_words

if TYPE_CHECKING:
    from chaos.experiment import Run

LOOK_S: Final = 0.2
REDRAW_HZ: Final = 4
BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"  # synchronized output: shown at once, where a terminal knows it
ASCII: Final = str.maketrans({"━": "=", "─": "-", "…": "~"})


class Screen:
    """Use it in a `with` statement. Then tell it of the run that is to begin, and let the run tell it the rest."""

    def __init__(self, stream: IO[str]) -> None:
        self._run: Run | None = None
        self._picture = Picture("", "starting", 0.0, 0.0, ())
        self._events: tuple[str, ...] = ()
        self._news = News()
        self._looked_at = -LOOK_S
        self._console = Console(file=cast(IO[str], _Frames(stream)), highlight=False)
        self._live = Live(
            get_renderable=self._frame,
            console=self._console,
            refresh_per_second=REDRAW_HZ,
            transient=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal was closed
            self._live.stop()

    def awaits(self, run: "Run", world: str) -> None:
        """That run is about to begin."""
        self._picture = awaited(run, world)
        self._live.start(refresh=True)

    def started(self, run: "Run") -> None:
        self._run = run
        self.tick()

    def tick(self) -> None:
        run = self._run
        if run is None or run.cluster is None or not run.cluster.running:
            return
        elapsed = run.elapsed()  # of the run's own time: a simulated one is looked at in the same instants every time
        if elapsed - self._looked_at < LOOK_S:
            return
        self._looked_at = elapsed
        status = run.cluster.status(fresh=False)
        for line in self._news.note(status, run.cluster.world.exits()):
            self._event(elapsed, line)
        self._picture = look(run, status, self._picture)

    def fault(self, event: Mapping[str, Any]) -> None:
        line = step_words(event)
        if line is not None:
            self._event(event["time"] / 1e9, line)

    def phase(self, text: str) -> None:
        self._picture = msgspec.structs.replace(self._picture, phase=text)

    def _event(self, seconds: float, line: str) -> None:
        self._events = (*self._events, f"{seconds:6.1f} s  {line}")[-EVENTS_MAX:]

    def _frame(self) -> Group:
        lines = frame(self._picture, self._events, *self._console.size)
        if self._console.options.ascii_only:
            for line in lines:
                line.plain = line.plain.translate(ASCII)
        return Group(*lines)


class _Frames:
    """A terminal to which each write is one frame."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(f"{BEGIN_FRAME}{text}{END_FRAME}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
