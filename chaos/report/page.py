"""The report as a file: a template, its style and script, and the data, all in one.

Knows how data are embedded in HTML. Does not know what they say.
"""

import html
import os
from pathlib import Path
from typing import Final

import msgspec

from chaos.report.data import Report, gather
from testbed.base.errors import UsageError

NAME: Final = "report.html"
_HERE: Final = Path(__file__).parent


def write_report(directory: Path, out: Path | None = None) -> Path:
    """Write the report of a run into its directory, or to `out`; where it is.

    Shows what is there and says what is missing. UsageError if there is no such directory, if it has nothing that a run
    leaves, or if the file cannot be written.
    """
    path = directory / NAME if out is None else out
    text = render(gather(directory))
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(path, "", f"cannot be written: {error.strerror or error}") from error
    return path


def render(report: Report) -> str:
    """The page."""
    verdict = report.verdict or "no verdict"
    parts = {
        "TITLE": html.escape(f"{verdict}: {report.scenario}, seed {report.seed}"),
        "VERDICT": html.escape(f"{verdict.upper()}. {report.meaning}"),
        "STYLE": _text("vendor/uPlot.min.css") + _text("report.css"),
        "PLOTS": _text("vendor/uPlot.iife.min.js"),
        "LICENCE": html.escape(_text("vendor/uPlot.LICENSE")),
        "SCRIPT": _text("report.js"),
        "DATA": _embedded(report),
    }
    first, *rest = _text("report.html").split("{{")
    pieces = [first]
    for piece in rest:  # not one `replace` after the other: what is put in may look like a place itself
        name, _, after = piece.partition("}}")
        pieces += [parts[name], after]
    return "".join(pieces)


def _embedded(report: Report) -> str:
    """JSON that no HTML parser mistakes for its end: without a single <."""
    return msgspec.json.encode(report).decode().replace("<", "\\u003c")


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
