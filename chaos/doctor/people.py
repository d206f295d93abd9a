"""What people look at runs with. Nothing here keeps a command from working."""

import os
import shutil
import sys
from typing import Final

from chaos.doctor.finding import Asked, Finding

BROWSERS: Final = (
    "firefox",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "xdg-open",
)
WIDTH: Final = 80
HEIGHT: Final = 24


def browser(_: Asked) -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        meaning = "report.html is one file that needs no network: copy it to where there is one"
        return Finding("browser", "note", "none found here", meaning, ("report",))
    return Finding("browser", "good", found)


def terminal(_: Asked) -> Finding:
    """Where progress is shown: on stderr."""
    if not sys.stderr.isatty():
        return Finding("terminal", "note", "none", "progress is not drawn, only told in lines", ("demo", "run", "up"))
    size = os.get_terminal_size(sys.stderr.fileno())
    found = f"{size.columns} columns, {size.lines} lines"
    if size.columns < WIDTH or size.lines < HEIGHT:
        meaning = f"what is shown live is meant for {WIDTH} columns and {HEIGHT} lines, and is cut off"
        return Finding("terminal", "note", found, meaning, ("demo", "run", "up"))
    return Finding("terminal", "good", found)
