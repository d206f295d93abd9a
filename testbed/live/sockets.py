"""How sockets are made here: addresses and options in one place, each with its reason."""

import errno

import zmq

from testbed.base import limits
from testbed.base.rand import entropy
from testbed.live import clock

LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range (32768 and up), so that while a node is down no outgoing connection of anybody
# is given its port, and a reconnecting socket cannot connect to itself.
PORT_MIN, PORT_MAX = 15_000, 32_000
BIND_ATTEMPTS = 100
BIND_PATIENCE_S = 5.0  # a port that belonged to this node: its last process may just be ending
RECONNECT_MS, RECONNECT_MS_MAX = 20, 200
REFUSED_FRAME_BYTES = 8 * limits.FRAME_BYTES_MAX  # libzmq itself drops the connection beyond this; below, we count


def bind(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, port: int, frames_max: int = 1000
) -> "tuple[zmq.Socket[bytes], int]":
    """A listening socket: at `port`, or at a random one if 0. OSError EADDRINUSE if `port` stays taken.

    `frames_max`: how many frames are kept for one connection that does not read (1000 is libzmq's own default).
    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, frames_max)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, REFUSED_FRAME_BYTES)
    if port:
        _bind_to(socket, port)
        return socket, port
    dice = entropy()
    for _ in range(BIND_ATTEMPTS):
        port = dice.randrange(PORT_MIN, PORT_MAX)
        try:
            socket.bind(f"tcp://{LOOPBACK}:{port}")
            return socket, port
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no free port between {PORT_MIN} and {PORT_MAX}")


def _bind_to(socket: "zmq.Socket[bytes]", port: int) -> None:
    give_up = clock.now() + BIND_PATIENCE_S
    while True:
        try:
            socket.bind(f"tcp://{LOOPBACK}:{port}")
            return
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE or clock.now() > give_up:
                raise OSError(error.errno, f"{LOOPBACK}:{port}: {error.strerror}") from None
        clock.sleep(0.02)


Monitored = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]  # a socket, and the one that tells of its connection


def connect_request(context: "zmq.Context[zmq.Socket[bytes]]", port: int) -> Monitored:
    """The asking side of REQ/REP, and its monitor.

    A plain REQ is stuck for ever when its server dies; RELAXED lets it ask again, and without CORRELATE it would then
    take the reply to the first question for the answer to the second. IMMEDIATE: nothing waits in the socket for a
    peer that is not there, to be delivered, stale, when it comes.
    """
    socket = context.socket(zmq.REQ)
    socket.setsockopt(zmq.REQ_RELAXED, 1)
    socket.setsockopt(zmq.REQ_CORRELATE, 1)
    return _connect(socket, port)


def connect_client(context: "zmq.Context[zmq.Socket[bytes]]", port: int) -> Monitored:
    """A client's side, and its monitor: as REQ, but with several requests open, answered in any order."""
    return _connect(context.socket(zmq.DEALER), port)


def _connect(socket: "zmq.Socket[bytes]", port: int) -> Monitored:
    """The monitor tells of connections made and closed, from the first on: it listens before there is one.

    Made means that ZMTP's handshake succeeded: a kernel accepts connections for a stopped process too.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    socket.connect(f"tcp://{LOOPBACK}:{port}")
    return socket, monitor
