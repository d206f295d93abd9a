"""A terminal of so many columns and rows to run commands in, and pictures of it, on dark and on light.

The terminal is emulated (pyte); the command talks to a real pseudo-terminal.
"""

import fcntl
import html
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0
BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"  # of a frame

# The 16 colours as GNOME Terminal (dark) and macOS Terminal (light) show them, roughly.
NAMES = ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")
DARK = {"ground": "#1e1e1e", "text": "#d0cfcc", "dim": "#8b8a88"} | dict(
    zip(NAMES, ["#171421", "#e5484d", "#33b35a", "#c8a13a", "#4f8fe6", "#c061cb", "#2aa1b3", "#d0cfcc"], strict=True)
)
LIGHT = {"ground": "#ffffff", "text": "#1e1e1e", "dim": "#767676"} | dict(
    zip(NAMES, ["#000000", "#c01c28", "#1b7f3b", "#8f6a00", "#1a55b0", "#a01a9c", "#12747f", "#5e5c64"], strict=True)
)


class Screen(pyte.Screen):
    """pyte's, which knows no dim: such cells are marked as blinking, which nothing here is."""

    def select_graphic_rendition(self, *attributes, **more):
        known = [one for one in attributes if one != 2]
        if known or not attributes:
            super().select_graphic_rendition(*known, **more)
        if 2 in attributes:
            self.cursor.attrs = self.cursor.attrs._replace(blink=True)
        elif 22 in attributes or 0 in attributes or not attributes:
            self.cursor.attrs = self.cursor.attrs._replace(blink=False)


@dataclass
class Watched:
    """A command that ran on a terminal: its exit status, what it wrote, and every screen that was seen."""

    status: int
    output: bytes
    seconds: float
    screens: list[list[str]] = field(default_factory=list)  # the text after each read, different from the one before
    marks: list[int] = field(default_factory=list)  # how much of the output made each of them

    @property
    def frames(self) -> int:
        return self.output.count(BEGIN)


def watch(arguments, directory, columns=80, rows=24, environment=None, act=None) -> Watched:
    """Run the command line to its end. `act(lines, process)` is called with each new screen."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    variables |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8", **(environment or {})}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos.cli", *arguments],
        cwd=directory,
        env=variables,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    done = Watched(-1, b"", 0.0)
    screen = Screen(columns, rows)
    stream, fed = pyte.ByteStream(screen), 0
    try:
        while time.monotonic() - began < PATIENCE_S:
            if not select.select([master], [], [], 0.5)[0]:
                continue
            try:
                read = os.read(master, 2**16)
            except OSError:  # everybody has closed the other end
                break
            done.output += read
            if done.output.rfind(BEGIN) > done.output.rfind(END):  # in the middle of a frame
                continue
            stream.feed(done.output[fed:])
            fed = len(done.output)
            lines = list(screen.display)
            if not done.screens or lines != done.screens[-1]:
                done.screens.append(lines)
                done.marks.append(fed)
                if act is not None:
                    act(lines, process)
        done.status = process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    done.seconds = time.monotonic() - began
    return done


def replayed(output: bytes, columns=80, rows=24) -> Screen:
    """The screen as those bytes leave it."""
    screen = Screen(columns, rows)
    pyte.ByteStream(screen).feed(output)
    return screen


def page(screen: Screen, palette) -> str:
    """The screen as a page of HTML, in its colours."""
    lines = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        lines.append("".join(_cell(cell, palette) for cell in cells))
    style = (
        f"margin:0;padding:12px;width:max-content;background:{palette['ground']};color:{palette['text']};"
        "font:14px/1.25 'DejaVu Sans Mono','Liberation Mono',monospace"
    )
    return (
        f"<!doctype html><meta charset=utf-8><body style='margin:0'><pre style=\"{style}\">"
        + "\n".join(lines)
        + "</pre>"
    )


def _cell(cell, palette) -> str:
    colour = palette["dim"] if cell.blink else palette.get(cell.fg)
    style = (f"color:{colour};" if colour else "") + ("font-weight:bold;" if cell.bold else "")
    text = html.escape(cell.data)
    return f'<span style="{style}">{text}</span>' if style else text


def photograph(browser, screen: Screen, palette, path: Path) -> None:
    """A PNG of the screen."""
    opened = browser.new_page()
    opened.set_content(page(screen, palette))
    opened.locator("pre").screenshot(path=str(path))
    opened.close()
