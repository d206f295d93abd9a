"""What a supervisor and its nodes say to each other, and how it becomes bytes."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from testbed.base.codec import Garbage
from testbed.base.links import LinkRule


class Ports(msgspec.Struct, frozen=True, array_like=True):
    """Where one node listens on the loopback address; the same for ever, once it is known. 0: not chosen yet."""

    peers: int = 0
    clients: int = 0
    beats: int = 0
    news: int = 0


# --- to a node ---


class Addresses(msgspec.Struct, frozen=True, tag=True):
    """Where the nodes are that are known so far."""

    table: dict[str, Ports]


class Rules(msgspec.Struct, frozen=True, tag=True):
    """All link rules that are in force now."""

    version: int
    rules: list[LinkRule]


class StatusAsked(msgspec.Struct, frozen=True, tag=True):
    """Report, repeating this number."""

    number: int


class Closing(msgspec.Struct, frozen=True, tag=True):
    """The whole cluster ends: nobody needs to hand anything over."""


# --- from a node ---


class Listening(msgspec.Struct, frozen=True, tag=True):
    """The node's process runs and listens."""

    node: str
    pid: int
    boot: int
    ports: Ports


class Report(msgspec.Struct, frozen=True, tag=True):
    """What the node says of itself; `number` is 0 when it was not asked. `host` as of `Host.status`."""

    node: str
    pid: int
    number: int
    links_version: int
    host: Mapping[str, Any]
    transport: Mapping[str, int]


ToNode = Addresses | Rules | StatusAsked | Closing
FromNode = Listening | Report

_encode = msgspec.msgpack.Encoder().encode
_to_node: Callable[[bytes], ToNode] = msgspec.msgpack.Decoder(ToNode).decode
_from_node: Callable[[bytes], FromNode] = msgspec.msgpack.Decoder(FromNode).decode


def encode(message: ToNode | FromNode) -> bytes:
    """One message as bytes."""
    return _encode(message)


def decode_to_node(data: bytes) -> ToNode:
    """What a supervisor sent; `Garbage` otherwise."""
    try:
        return _to_node(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Garbage(str(error)) from None


def decode_from_node(data: bytes) -> FromNode:
    """What a node sent; `Garbage` otherwise."""
    try:
        return _from_node(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Garbage(str(error)) from None
