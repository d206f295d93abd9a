"""The commands and queries of the replicated services, as clients send them and the log keeps them.

Values are opaque here: bytes in canonical MessagePack, so that equal values are equal bytes, and 1, 1.0 and true are
three different values.
"""

from typing import Any

import msgspec

from testbed.base.codec import Raw, pack_canonical


class Command(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Changes the state; goes through the log, once."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Reads the state; changes nothing."""


class Put(Command, frozen=True):
    """Sets `key`. Result: null."""

    key: str
    value: Raw


class Delete(Command, frozen=True):
    """Removes `key`, whether it was there or not. Result: null."""

    key: str


class Cas(Command, frozen=True):
    """Sets `key` to `new` if it holds `old` (null: missing). Result: null, or rejected with `precondition-failed`."""

    key: str
    old: Raw
    new: Raw


class Get(Query, frozen=True):
    """Result: the value of `key`, null if missing."""

    key: str


PRECONDITION_FAILED = "precondition-failed"

AnyCommand = Put | Delete | Cas
AnyQuery = Get

decode_command = msgspec.msgpack.Decoder(AnyCommand).decode
decode_query = msgspec.msgpack.Decoder(AnyQuery).decode


def value(plain: Any) -> Raw:
    """A JSON-like value as the services keep it. TypeError for what JSON cannot hold."""
    return Raw(pack_canonical(plain))
