"""A node's storage as a power cut would leave it: what was not synced when the crash came is lost, or torn.

A log of records with checksums, replayed at the start, so that a record counts whole or not at all. Records that are
synced are kept as what they add up to; only those in the page cache exist one by one.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from testbed.base.rand import Random

Saves = Mapping[str, bytes | None]
Came = Literal["record lost", "record torn", "record kept"]

_HEAD = struct.Struct("<II")  # length and CRC-32 of what follows
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode


class Disk:
    """What one node has stored, over all its processes. `random` decides what becomes of unsynced records."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._kept: dict[str, bytes] = {}
        self._cached: list[Saves] = []

    def write(self, saves: Saves) -> None:
        """Append a record to the log; it is in the page cache."""
        self._cached.append(saves)

    def sync(self) -> None:
        """Everything written is durable from now on."""
        for saves in self._cached:
            self._apply(saves)
        self._cached.clear()

    def crash(self) -> Came | None:
        """The power is cut: a prefix of the cached bytes reached the platter, and the rest did not. What that came to
        for the last record; None if all was synced."""
        if not self._cached:
            return None
        data = b"".join(record(saves) for saves in self._cached)
        self._cached.clear()
        reached = self._random.choice((0, len(data), self._random.randint(0, len(data))))  # none, all, torn
        for saves in recover(data[:reached]):
            self._apply(saves)
        return "record kept" if reached == len(data) else "record torn" if reached else "record lost"

    def load(self) -> dict[str, bytes]:
        """What a process finds when it starts."""
        return dict(self._kept)

    def _apply(self, saves: Saves) -> None:
        for key, value in saves.items():
            if value is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = value


def record(saves: Saves) -> bytes:
    """A record as it is written: length, checksum, keys and values."""
    body = _encode(list(saves.items()))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def recover(data: bytes) -> list[Saves]:
    """The records that are whole, up to the first that is not."""
    found: list[Saves] = []
    position = 0
    while position + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, position)
        body = data[position + _HEAD.size : position + _HEAD.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        found.append(dict(_decode(body)))
        position += _HEAD.size + length
    return found
