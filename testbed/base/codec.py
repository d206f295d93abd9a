"""The one module that turns messages into bytes and back: MessagePack, typed by name, checked on receipt.

It knows nothing of sockets. Everything that does not decode to what was declared is `Garbage`, whatever was sent:
decoding never executes anything and never returns an undeclared type.
"""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Generic, TypeVar

import msgspec

from testbed.base import limits

VERSION = 1  # of the frames below; a node drops frames of any other version

Raw = msgspec.Raw
_encoder = msgspec.msgpack.Encoder()
_sorted_encoder = msgspec.msgpack.Encoder(order="deterministic")
_split = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw]).decode
_plain = msgspec.msgpack.Decoder().decode
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])  # what opens a map or an array, MessagePack specification


class Garbage(ValueError):
    """Bytes that are no valid message: malformed, of an unknown type or another version, or too large."""


def pack(value: Any) -> bytes:
    """Any JSON-like value or struct as bytes."""
    return _encoder.encode(value)


def pack_canonical(value: Any) -> bytes:
    """The same bytes for equal values, whatever the order in which a dict was filled; -0.0 and 0.0 stay apart.

    TypeError for what JSON cannot hold.
    """
    if not is_plain(value):
        raise TypeError(f"a {type(value).__name__} that JSON cannot hold, or that nests too deep")
    return _sorted_encoder.encode(value)


def nests_too_deep(data: bytes) -> bool:
    """Whether MessagePack bytes nest deeper than NESTING_MAX, or cannot be read at all.

    Decoders stop at Python's recursion limit, which depends on the caller: what one node could still read, another
    could not. The number of bytes that can open a container bounds the depth from above, and is counted at C's speed.
    """
    if len(data) - len(data.translate(None, _CONTAINERS)) <= limits.NESTING_MAX:
        return False
    try:
        return not is_plain(_plain(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def is_plain(value: Any, depth: int = limits.NESTING_MAX) -> bool:
    """Only what JSON can hold (RFC 8259: no bytes, no NaN, no infinity), nested no deeper than `depth`."""
    if isinstance(value, dict):
        return depth > 0 and all(type(key) is str and is_plain(held, depth - 1) for key, held in value.items())
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(is_plain(held, depth - 1) for held in value)
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and isfinite(value))


def unpack(data: bytes | Raw) -> Any:
    """The JSON-like value in trusted bytes (our own storage, or a payload that was checked before)."""
    return _plain(data)


class Codec:
    """Encodes and decodes messages: what JSON can hold, or the structs declared here, each under its class name."""

    def __init__(self, structs: Iterable[type] = (), internal: Iterable[type] = ()) -> None:
        self._decoders: dict[str, Any] = {"": _plain}
        self._names: dict[type, str] = {}
        for prefix, kinds in (("", structs), (":", internal)):  # a user's struct may be called as one of ours
            for struct in kinds:
                name = prefix + struct.__name__
                self._decoders[name] = msgspec.msgpack.Decoder(struct).decode
                self._names[struct] = name

    def encode(self, message: Any) -> bytes:
        """Bytes of one message. TypeError for what JSON cannot hold, ValueError for what is too large."""
        name = self._names.get(type(message), "")
        if not name and not is_plain(message):
            raise TypeError(f"a {type(message).__name__} that JSON cannot hold, and that is not declared in `messages`")
        data = _encoder.encode((name, message))
        if len(data) > limits.MESSAGE_BYTES_MAX:
            raise ValueError(f"message of {len(data)} bytes exceeds {limits.MESSAGE_BYTES_MAX}")
        return data

    def decode(self, data: bytes | Raw) -> Any:
        """The message in untrusted bytes; `Garbage` for anything that was not declared here."""
        try:
            name, body = _split(data)
            message = self._decoders[name](body)
        except KeyError:
            raise Garbage(f"unknown message type {name!r}") from None
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
            raise Garbage(str(error)) from None
        if not name and not is_plain(message):
            raise Garbage("holds what JSON cannot, or nests too deep")
        return message

    def decode_leniently(self, data: bytes | Raw) -> Any:
        """As `decode`, but a struct that is not declared here comes back as plain lists and dicts."""
        try:
            name, body = _split(data)
            return self._decoders.get(name, _plain)(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Garbage(str(error)) from None


class PeerFrame(msgspec.Struct, frozen=True, array_like=True):
    """One request from node to node, or one publication: a batch of messages under one header."""

    version: int
    cluster: str
    sender: str
    target: str  # "" for publications
    boot: int  # the sender's incarnation at its start: tells a restarted process from its predecessor
    sequence: int
    messages: list[bytes]


class PeerReply(msgspec.Struct, frozen=True, array_like=True):
    """The acknowledgement of a `PeerFrame`: sent once the receiving step is durable, with what that step sends back."""

    version: int
    cluster: str
    sender: str
    boot: int
    acknowledges: int
    messages: list[bytes]


class ClientFrame(msgspec.Struct, frozen=True, array_like=True):
    """Requests of one client process, batched: (number, body) each; numbers are unique in the process."""

    version: int
    cluster: str
    requests: list[tuple[int, bytes]]


class ClientReply(msgspec.Struct, frozen=True, array_like=True):
    """Answers to some requests, in any order: (number, ok, body); body holds the reply or the reason of a refusal."""

    version: int
    cluster: str
    sender: str
    answers: list[tuple[int, bool, bytes]]


F = TypeVar("F", PeerFrame, PeerReply, ClientFrame, ClientReply)


class FrameCodec(Generic[F]):
    """Checks and decodes one kind of frame of one cluster."""

    def __init__(self, kind: type[F], cluster: str) -> None:
        self._decode: Callable[[bytes], F] = msgspec.msgpack.Decoder(kind).decode
        self._cluster = cluster

    def decode(self, data: bytes) -> F:
        """The frame; `Garbage` if malformed, oversized, of another version or of another cluster."""
        if len(data) > limits.FRAME_BYTES_MAX:
            raise Garbage(f"frame of {len(data)} bytes exceeds {limits.FRAME_BYTES_MAX}")
        try:
            frame = self._decode(data)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
            raise Garbage(f"not a frame: {error}") from None
        if frame.version != VERSION:
            raise Garbage(f"version {frame.version}, not {VERSION}")
        if frame.cluster != self._cluster:
            raise Garbage("a frame of another cluster")
        return frame
