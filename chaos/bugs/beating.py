"""Heartbeats from a thread of their own: the piece with which `helper-thread-heartbeat` goes wrong."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from testbed.core.membership import Beat
from testbed.host import Host
from testbed.live import clock

Publish = Callable[[Any, list[bytes]], None]


class Beater(threading.Thread):
    """Publishes the latest beat of the loop every `interval` seconds, as if it were new, until the socket is closed."""

    def __init__(self, host: Host, socket: Any, publish: Publish, interval: float) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._socket = socket
        self._publish = publish
        self._interval = interval
        self.latest: bytes | None = None

    def run(self) -> None:
        """Beat."""
        sequence = 0
        while True:
            threading.Event().wait(self._interval)
            beat = self._host.codec.decode(self.latest) if self.latest is not None else None
            if not isinstance(beat, Beat):
                continue
            sequence += 1
            beat = msgspec.structs.replace(beat, sequence=sequence, sent=clock.now())
            try:
                self._publish(self._socket, [self._host.codec.encode(beat)])
            except zmq.ZMQError:  # the node has stopped
                return
