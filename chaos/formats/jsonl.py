"""The project's own history format: JSON lines, one event a line, numbered from 0 without a gap.

Knows that format and nothing else: whether the events make a history is not its business.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from chaos.history import Event
from testbed.base.errors import UsageError

NESTING_MAX: Final = 100  # of lists and objects: whatever walks through a value may do so recursively


def read(where: str, lines: Iterable[bytes]) -> Iterator[tuple[int, Event]]:
    """The events, each with the number of its line. Blank lines are allowed at the end.

    Raises UsageError for a line that is no event, and where the index shows that lines are missing. Integers may have
    any size that msgspec decodes (thousands of digits); NaN, infinities and floats too large for 64 bits are no JSON.
    """
    decode = msgspec.json.Decoder(Event).decode
    number = blank = 0
    for number, line in enumerate(lines, start=1):
        try:
            event = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if not line.strip():
                blank += 1
                continue
            if blank:
                break
            raise UsageError(where, f"line {number}", f"is no event: {error}") from error
        if blank:
            break
        if event.index != number - 1:
            reason = f"index is {event.index} where {number - 1} is due: lines are missing or out of order"
            raise UsageError(where, f"line {number}", reason)
        if len(line) > NESTING_MAX and line.count(b"[") + line.count(b"{") > NESTING_MAX:
            _refuse_deep(where, number, event)
        yield number, event
    else:
        return
    raise UsageError(where, f"line {number - blank}", "is blank, and more lines follow")


def _refuse_deep(where: str, number: int, event: Event) -> None:
    level: list[Any] = [event.key, event.value]
    for _ in range(NESTING_MAX):
        level = [item for value in level for item in _items(value)]
    if any(isinstance(value, list | dict) for value in level):
        raise UsageError(where, f"line {number}", f"is nested deeper than {NESTING_MAX} levels")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def lines_of(events: Iterable[Event]) -> Iterator[bytes]:
    """The lines that hold the events, which are numbered anew if a number is missing."""
    encode = msgspec.json.Encoder().encode
    for index, event in enumerate(events):
        yield encode(event if event.index == index else msgspec.structs.replace(event, index=index)) + b"\n"
