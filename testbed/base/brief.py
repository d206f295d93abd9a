"""Messages in brief, for traces: what kind of message it is and the small things it says. Its contents stay out."""

from typing import Any, Final

import msgspec

LETTERS_MAX: Final = 60
KEYS_MAX: Final = 12


def brief(message: Any) -> Any:
    """A struct as its fields and `type`, a dict as its first few items; text is cut, and what holds more is its length.

    >>> brief({"name": "Ada", "tags": ["a", "b"]})
    {'name': 'Ada', 'tags': 2}
    """
    if isinstance(message, msgspec.Struct):
        fields = {name: _small(getattr(message, name)) for name in message.__struct_fields__}
        return {"type": type(message).__name__, **fields}
    if isinstance(message, dict):
        return {str(key)[:LETTERS_MAX]: _small(message[key]) for key in list(message)[:KEYS_MAX]}
    return _small(message)


def _small(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return value[:LETTERS_MAX]
    return len(value) if hasattr(value, "__len__") else str(value)[:LETTERS_MAX]
