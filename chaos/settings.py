"""Reading settings that people wrote: typed access to one TOML table, with errors that name file, key and reason.

Knows types, bounds and near misses of names. Does not know what any key means.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn, TypeVar

from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError

Choice = TypeVar("Choice", bound=str)

REQUIRED: Final[Any] = object()  # as a default: the key must be there


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

    def text(self, key: str, default: str = REQUIRED) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            self._mistyped(key, value, "a string")
        return value

    def integer(self, key: str, default: int = REQUIRED, *, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(key, default)
        if type(value) is not int:
            self._mistyped(key, value, "a whole number")
        if not low <= value <= high:
            self.fail(key, f"must be from {low} to {high}, not {value}")
        return value

    def number(self, key: str, default: float = REQUIRED, *, low: float, high: float = math.inf) -> float:
        """A finite number from `low` to `high`."""
        value = self._get(key, default)
        if type(value) not in (int, float):
            self._mistyped(key, value, "a number")
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"a finite number of at least {low:g}"
            self.fail(key, f"must be {bounds}, not {value}")
        return float(value)

    def duration(self, key: str, default: float = REQUIRED, *, zero: bool = False) -> float:
        """Seconds, from a text such as "1500ms"; above zero unless `zero` is allowed too."""
        value = self._get(key, default)
        if key not in self.values:
            return float(value)
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(key, str(error))
        if not (zero or seconds > 0):
            self.fail(key, "must be longer than zero")
        return seconds

    def choice(self, key: str, options: Sequence[Choice], default: Choice = REQUIRED) -> Choice:
        value = self._get(key, default)
        if not isinstance(value, str):
            self._mistyped(key, value, f"one of {', '.join(options)}")
        found = next((option for option in options if option == value), None)
        if found is None:
            self.fail(key, f"{value!r} is none of {', '.join(options)}{suggest(value, options)}")
        return found

    def flag(self, key: str) -> bool:
        value = self._get(key, REQUIRED)
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

    def _get(self, key: str, default: Any) -> Any:
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
