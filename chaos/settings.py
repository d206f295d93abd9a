"""Reading settings that people wrote: typed access to one TOML table, with errors that name file, key and reason.

Knows types, bounds and near misses of names. What a key means it only carries, for people (`Key.meaning`).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, NoReturn, TypeVar

from testbed.base.durations import format_duration, parse_duration
from testbed.base.errors import UsageError

Choice = TypeVar("Choice", bound=str)

REQUIRED: Final[Any] = object()  # as a default: the key must be there

Form = Literal[
    "string",
    "whole number",
    "number",
    "duration",
    "flag",
    "word",
    "table",
    "tables",
    "list of names",
    "lists of names",
    "word or list of names",
]


@dataclass(frozen=True)
class Key:
    """One key of a table: its form, what it means, and its bounds, each as the reader of the file holds them.

    `default`: what it is if left out, durations in seconds; None for nothing. `low`, `high`: in seconds for durations,
    which are above zero unless `low` is 0. `words`: what it may be, if it is one of some words.
    """

    name: str
    form: Form
    meaning: str
    default: Any = REQUIRED
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()


def keyed(*keys: Key) -> Mapping[str, Key]:
    """Those keys by their names, in that order."""
    return {key.name: key for key in keys}


class Table:
    """One table of a settings file. Every getter raises UsageError with the key's path, such as `fault[2].target`.

    Entries of an array of tables are counted from 1, as a reader of the file counts them.
    """

    def __init__(self, where: str, path: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self.path = path
        self.values = values

    def fail(self, key: str, reason: str) -> NoReturn:
        """Raise UsageError for that key of this table (for the table itself, if `key` is empty)."""
        raise UsageError(self.where, ".".join(part for part in (self.path, key) if part), reason)

    def only(self, known: Collection[str]) -> None:
        """Every key must be one of `known`."""
        for key in self.values:
            if key not in known:
                self.fail(key, f"unknown key{suggest(key, known)}")

    def has(self, key: str) -> bool:
        return key in self.values

    def read(self, key: Key) -> Any:
        """The value of a key of a simple form, within its bounds; its default, if it is left out."""
        if key.name not in self.values and key.default is not REQUIRED:
            return key.default
        low, high = key.low, key.high
        match key.form:
            case "string":
                return self.text(key.name)
            case "whole number":
                assert low is not None, "whole numbers have bounds"
                assert high is not None, "whole numbers have bounds"
                return self.integer(key.name, low=int(low), high=int(high))
            case "number":
                assert low is not None, "numbers have a lower bound"
                return self.number(key.name, low=low, high=math.inf if high is None else high)
            case "duration":
                return self.duration(key.name, low=low, high=high)
            case "flag":
                return self.flag(key.name)
            case "word":
                return self.choice(key.name, key.words)
            case _:
                raise AssertionError(f"{key.form} is no simple form")

    def text(self, key: str, default: str = REQUIRED) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            self._mistyped(key, value, "a string")
        return value

    def integer(self, key: str, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(key)
        if type(value) is not int:
            self._mistyped(key, value, "a whole number")
        if not low <= value <= high:
            self.fail(key, f"must be from {low} to {high}, not {value}")
        return value

    def number(self, key: str, *, low: float, high: float = math.inf) -> float:
        """A finite number from `low` to `high`."""
        value = self._get(key)
        if type(value) not in (int, float):
            self._mistyped(key, value, "a number")
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"a finite number of at least {low:g}"
            self.fail(key, f"must be {bounds}, not {value}")
        return float(value)

    def duration(self, key: str, *, low: float | None = None, high: float | None = None) -> float:
        """Seconds, from a text such as "1500ms": from `low` to `high`; above zero unless `low` is 0."""
        try:
            seconds = parse_duration(self._get(key))
        except ValueError as error:
            self.fail(key, str(error))
        if seconds == 0 and low != 0:
            self.fail(key, "must be longer than zero")
        if high is not None and not (low or 0) <= seconds <= high:
            self.fail(key, f"must be from {format_duration(low or 0)} to {format_duration(high)}")
        if low is not None and seconds < low:
            self.fail(key, f"must be at least {format_duration(low)}")
        return seconds

    def choice(self, key: str, options: Sequence[Choice]) -> Choice:
        value = self._get(key)
        if not isinstance(value, str):
            self._mistyped(key, value, f"one of {', '.join(options)}")
        found = next((option for option in options if option == value), None)
        if found is None:
            self.fail(key, f"{value!r} is none of {', '.join(options)}{suggest(value, options)}")
        return found

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            self._mistyped(key, value, "true or false")
        return value

    def names(self, key: str, value: object) -> tuple[str, ...]:
        """`value`, found at `key`, as a list of strings that is not empty and names nothing twice."""
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._mistyped(key, value, "a list of names")
        if not value:
            self.fail(key, "names nobody")
        for name in value:
            if value.count(name) > 1:
                self.fail(key, f"names {name} twice")
        return tuple(value)

    def table(self, key: str) -> "Table":
        """The table at `key`; an empty one where there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self._mistyped(key, value, "a table")
        return Table(self.where, f"{self.path}.{key}" if self.path else key, value)

    def tables(self, key: str) -> list["Table"]:
        """The entries of the array of tables `[[key]]`."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.fail(key, f"must be written as [[{key}]], once for each")
        return [Table(self.where, f"{key}[{number}]", entry) for number, entry in enumerate(value, 1)]

    def _get(self, key: str, default: Any = REQUIRED) -> Any:
        value = self.values.get(key, default)
        if value is REQUIRED:
            self.fail(key, "is missing")
        return value

    def _mistyped(self, key: str, value: object, wanted: str) -> NoReturn:
        self.fail(key, f"must be {wanted}, not {value!r}")


def suggest(word: str, known: Collection[str]) -> str:
    """What to add to a complaint about an unknown word: the known one it is close to, or all of them."""
    close = get_close_matches(word, sorted(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""
