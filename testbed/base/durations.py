"""Durations as people write them: `"1500ms"`, `"5s"`, `"2m"` - in seconds once read."""

import re

_FORM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def parse_duration(text: object) -> float:
    """Seconds for `"1500ms"`, `"5s"` or `"2m"`; ValueError, with a reason for people, for anything else."""
    found = _FORM.match(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'{text!r} is not a duration such as "1500ms", "5s" or "2m"')
    return float(found[1]) * _SECONDS[found[2]]


def format_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back to the same number of milliseconds."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 60_000 == 0 and milliseconds:
        return f"{milliseconds // 60_000}m"
    if milliseconds % 1000 == 0:
        return f"{milliseconds // 1000}s"
    return f"{milliseconds}ms"
