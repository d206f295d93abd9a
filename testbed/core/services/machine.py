"""All replicated services as one state machine, in the form that Raft applies: bytes in, the client's reply out."""

import msgspec

from testbed.base.codec import Codec, Raw
from testbed.core import requests
from testbed.core.raft.machine import UNREADABLE
from testbed.core.services.commands import decode_command, decode_query
from testbed.core.services.keyvalue import NULL, KeyValue

_CODEC = Codec(requests.REPLIES)
_DONE = _CODEC.encode(requests.Done(Raw(NULL)))
_INVALID = _CODEC.encode(requests.Rejected("not a command"))


class _State(msgspec.Struct, array_like=True):
    keyvalue: dict[str, bytes]


_decode_state = msgspec.msgpack.Decoder(_State).decode
_encode_state = msgspec.msgpack.Encoder().encode


class Services:
    """Dispatches commands to the service they belong to. A command that cannot be read is rejected by all alike."""

    def __init__(self) -> None:
        self.keyvalue = KeyValue()

    def apply(self, command: bytes, index: int, time: float) -> bytes:  # noqa: ARG002  # log time is for leases
        """Carry out one command; the encoded reply."""
        try:
            decoded = decode_command(command)
        except UNREADABLE:
            return _INVALID
        error = self.keyvalue.apply(decoded)
        return _DONE if error is None else _CODEC.encode(requests.Rejected(error))

    def query(self, query: bytes) -> bytes:
        """Answer one query; the encoded reply."""
        try:
            decoded = decode_query(query)
        except UNREADABLE:
            return _CODEC.encode(requests.Rejected("not a query"))
        return _CODEC.encode(requests.Done(self.keyvalue.query(decoded)))

    def snapshot(self) -> bytes:
        """The state of all services."""
        return _encode_state(_State(self.keyvalue.snapshot()))

    def restore(self, data: bytes) -> None:
        """Replace the state of all services."""
        self.keyvalue.restore(_decode_state(data).keyvalue)
