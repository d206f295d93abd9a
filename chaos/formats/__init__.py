"""Histories in files: JSON lines and Jepsen's EDN, plain or gzipped, read and written as streams.

Knows which file is in which format, and that nothing is judged that is damaged. Does not know what operations mean.
"""

import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader
from itertools import chain
from pathlib import Path
from typing import Final, cast

from chaos.formats import jepsen, jsonl
from chaos.history import Event, Order
from testbed.base.errors import UsageError

__all__ = ["STANDARD_INPUT", "read_events", "read_history", "write_events"]

STANDARD_INPUT: Final = "-"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LIKE_EDN: Final = re.compile(rb"[\s,]*(?:[;#(]|\{[\s,]*[:#;]|\[(?![\s\[]*\{\s*[\"}]))")


def read_events(path: str | Path, keyed: bool | None = None) -> Iterator[Event]:
    """The events of a history file, one by one; "-" is the standard input. What is no history is refused.

    It is EDN if its name ends in .edn (or .edn.gz), or if it begins like EDN; otherwise JSON lines. gzip is known by
    its first bytes, and a byte order mark before all else is skipped. `keyed` is for EDN: whether each
    value is a pair of key and value; see `jepsen.read` for how it is told if left out. Only open invocations are
    remembered - and, in EDN, what comes before that is told.

    Raises UsageError, naming the file and the line (of the uncompressed text), if the file is missing, empty, cut off
    within a line or a form, not what its format demands, goes back in time, or has events that do not pair up: a
    verdict about a damaged history would be worth nothing. That a file was cut off at the end of a line cannot be seen,
    but for one in gzip, or in one vector of EDN. After info a process may go on under its number.
    """
    where = "standard input" if path == STANDARD_INPUT else str(path)
    order = Order()
    number = 0
    try:
        with _opened(path) as file:
            for number, event in _read(where, file, keyed):
                complaint = order.complaint(event)
                if complaint is not None:
                    raise UsageError(where, f"line {number}", complaint)
                yield event
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(where, f"after line {number}", f"is damaged or cut off within gzip: {error}") from error
    except OSError as error:
        raise UsageError(where, "history", f"cannot be read: {error.strerror or error}") from error
    if not number:
        raise UsageError(where, "history", "is empty: it holds no event")


def read_history(path: str | Path, keyed: bool | None = None) -> list[Event]:
    """All events of a history file at once: see `read_events`."""
    return list(read_events(path, keyed))


@contextmanager
def _opened(path: str | Path) -> Iterator[BufferedIOBase]:
    """The lines of the file, uncompressed."""
    if path == STANDARD_INPUT:
        yield _plain(cast(BufferedReader, sys.stdin.buffer))
        return
    with open(path, "rb") as file:
        yield _plain(file)


def _plain(file: BufferedReader) -> BufferedIOBase:
    return gzip.open(file) if file.peek(2).startswith(_GZIP_MAGIC) else file


def _read(where: str, file: BufferedIOBase, keyed: bool | None) -> Iterator[tuple[int, Event]]:
    head: list[bytes] = []
    for number, line in enumerate(file):
        if number == 0:
            line = line.removeprefix(_BYTE_ORDER_MARK)  # some editors put it there
        head.append(line)
        if line.strip() and not line.lstrip().startswith(b";"):
            break
    lines = chain(head, file)
    return jepsen.read(where, lines, keyed) if _is_edn(where, head) else jsonl.read(where, lines)


def _is_edn(where: str, head: list[bytes]) -> bool:
    if where.removesuffix(".gz").endswith(".edn"):
        return True
    return bool(head and _LIKE_EDN.match(head[-1]))


def write_events(events: Iterable[Event], path: str | Path, keyed: bool | None = None) -> int:
    """Write a history as JSON lines or EDN, as the name ends (.jsonl or .edn; with .gz, compressed). How many events.

    An existing file is replaced, but only once all is written: after an error everything is as it was. JSON lines are
    numbered anew where a number is missing. In EDN values become pairs, [key value], as `jepsen.lines_of` says. All
    comes back when it is read (if need be, with `keyed`), but for keys of the nemesis' events.

    Raises UsageError if the name ends otherwise, if the file cannot be written, or if EDN cannot tell keys apart.
    """
    target = Path(path)
    name = target.name.removesuffix(".gz")
    if name.endswith(".edn"):
        lines = jepsen.lines_of(str(path), events, keyed)
    elif name.endswith(".jsonl"):
        lines = jsonl.lines_of(events)
    else:
        raise UsageError(path, "", "ends in none of .jsonl, .edn, .jsonl.gz, .edn.gz")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            count = _write(lines, file, target.suffix == ".gz")
        part.replace(target)
    except OSError as error:
        raise UsageError(path, "", f"cannot be written: {error.strerror or error}") from error
    finally:
        _forget(part)
    return count


def _write(lines: Iterable[bytes], file: BufferedIOBase, compressed: bool) -> int:
    if compressed:  # with no name and no time: equal histories make equal files
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            return _write(lines, packed, False)
    count = 0
    for line in lines:
        file.write(line)
        count += 1
    return count


def _forget(part: Path) -> None:
    try:
        part.unlink()
    except OSError:  # it is where it belongs by now, or never was
        pass
