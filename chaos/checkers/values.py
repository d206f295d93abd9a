"""JSON values as hashable values, with JSON's equality.

Knows that Python's `True == 1` and the unhashable list and dict must not reach a model's state. Knows no model.
"""

import json
from collections.abc import Hashable
from typing import Any, Final

_LIST: Final = "["
_DICT: Final = "{"
_BOOL: Final = "?"


def freeze(value: Any) -> Hashable:
    """A hashable stand-in that is equal to another one exactly if the JSON values are equal (1 equals 1.0, not true).

    Null, numbers and strings stand for themselves; the rest become tagged tuples. Raises TypeError for anything that
    is not JSON.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return (_BOOL, value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple):
        return (_LIST, *map(freeze, value))
    if isinstance(value, dict):
        return (_DICT, frozenset((name, freeze(item)) for name, item in value.items()))
    raise TypeError(f"{type(value).__name__} is not a JSON value: {value!r}")


def freeze_items(value: Any) -> tuple[Hashable, ...] | None:
    """The frozen items of a JSON list; None if `value` is not a list."""
    return tuple(map(freeze, value)) if isinstance(value, list | tuple) else None


def items_of(frozen: Hashable) -> tuple[Hashable, ...] | None:
    """The items of a frozen list; None if it is not one."""
    return frozen[1:] if isinstance(frozen, tuple) and frozen[0] == "[" else None


def start_items(name: str, initial: Any) -> tuple[Hashable, ...]:
    """The frozen items of an initial value that must be a list; none by default."""
    items = freeze_items([] if initial is None else initial)
    if items is None:
        raise ValueError(f"model '{name}' starts with a list, not with {show_json(initial)}")
    return items


def thaw(value: Any) -> Any:
    """The JSON value that `freeze` was given (dicts in key order)."""
    if not isinstance(value, tuple):
        return value
    tag, *items = value
    if tag == _BOOL:
        return items[0]
    if tag == _LIST:
        return [thaw(item) for item in items]
    return {name: thaw(item) for name, item in sorted(items[0])}


def show(frozen: Hashable) -> str:
    """A frozen value as JSON text, for people."""
    return show_json(thaw(frozen))


def show_json(value: Any) -> str:
    """A JSON value as text, for people, cut off where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"


# A verdict's detail is one line that people read; a list register may hold thousands of items.
SHOWN_CHARACTERS_MAX: Final = 120


def counted(number: int, noun: str) -> str:
    """That many of it, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
