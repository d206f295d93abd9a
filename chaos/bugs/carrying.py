"""What a client sends along with a command although nobody asked for it: for bugs in which the other side uses it.

A command is an array: what stands behind its last field is passed over by whoever knows nothing of it.
"""

from typing import Any

import msgspec

from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.core import requests
from testbed.core.services.commands import Command

_CODEC = Codec(requests.REQUESTS)


def carrying(body: bytes, more: Any) -> bytes:
    """The request to a service, with `more` behind the command's last field; what is no command stays as it is."""
    request = _CODEC.decode(body)
    if not isinstance(request, requests.Submit):
        return body
    command = Raw(pack([*unpack(request.command), more]))
    return _CODEC.encode(msgspec.structs.replace(request, command=command))


def carried(command: bytes, kind: type[Command]) -> Any:
    """What is behind the last field of a command of that kind; None if nothing is, or it is of another kind."""
    name, *fields = unpack(command)
    known = len(kind.__struct_fields__)
    return fields[known] if name == kind.__name__ and len(fields) > known else None
