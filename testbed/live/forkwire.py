"""What a supervisor and its fork server say to each other, and how it becomes bytes. It opens no socket itself."""

from typing import Any

import msgspec

from testbed.live.nodeclass import NodeClassRef


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message: what to load. `entry` is "module:function", called as `function(node_class, config)`."""

    entry: str
    node_class: NodeClassRef
    path: list[str]


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """Fork a node."""

    node: str
    config: dict[str, Any]


class Signal(msgspec.Struct, frozen=True, tag=True):
    """Send a signal to a node's process; SIGKILL goes to its whole process group. No such node: nothing happens."""

    node: str
    signum: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Everything is loaded; nodes can be spawned."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """`node` could not be forked; with None the fork server itself ended. `usage`: it was the caller's mistake."""

    reason: str
    traceback: str = ""
    usage: bool = False
    node: str | None = None


class Spawned(msgspec.Struct, frozen=True, tag=True):
    """A node's process exists."""

    node: str
    pid: int


class Exited(msgspec.Struct, frozen=True, tag=True):
    """A node's process was reaped. `status` as of `os.waitpid`; `oom`: see `OomWatch`; `elapsed` in seconds."""

    node: str
    pid: int
    status: int
    oom: bool
    elapsed: float
    last_words: str


Command = Start | Spawn | Signal
Event = Ready | Failed | Spawned | Exited


class Frames:
    """Cuts a byte stream into messages: four bytes of length, most significant first, then msgpack."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """All frames that are complete by now."""
        self._buffer += data
        frames = []
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[4:end]))
            del self._buffer[:end]
        return frames


def frame(message: Command | Event) -> bytes:
    """One message as it goes over the socket."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(4, "big") + data
