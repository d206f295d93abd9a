"""The supervisor's handle on its nodes' processes: one fork server, commands to it, and what it reports.

It knows process ids, but signals no node itself: only the fork server can do so without meeting a stranger under a
reused id. It knows nothing of why a node is started, stopped or killed.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.base.rand import entropy
from testbed.live import clock
from testbed.live.exits import signal_name
from testbed.live.forkserver import MARKER
from testbed.live.forkwire import (
    Command,
    Event,
    Exited,
    Failed,
    Frames,
    Ready,
    Signal,
    Spawn,
    Spawned,
    Start,
    frame,
)
from testbed.live.nodeclass import NodeClassRef
from testbed.live.procfs import MARKER_ENV, Marker, kill_exactly, marked_processes, observe, process_start_time

__all__ = ["Event", "Exited", "Failed", "ForkServer", "Ready", "Spawned"]

CLOSE_S_MAX: Final = 8.0  # a little more than the fork server allows itself
MOURN_S_MAX: Final = 2.0
SEND_S_MAX: Final = 5.0  # a fork server that takes no command for so long will take none any more

_events = msgspec.msgpack.Decoder(Event)


class ForkServer:
    """One fork server and the nodes below it.

    To be created in a thread that lives as long as the cluster: the kernel takes that thread for the parent, and its
    end for the supervisor's. Methods are for one thread at a time.
    """

    def __init__(self, entry: str, node_class: NodeClassRef, directory: str | Path, path: Sequence[str] = ()) -> None:
        """Starts loading and returns at once; `events` brings `Ready` or `Failed`.

        `entry` is "module:function", to be called in each node as `function(node_class, config)`; `path` are
        directories to import from before this process's own `sys.path`. `directory` is the cluster's, for people.
        """
        self._owner = os.getpid()
        self._frames = Frames()
        self._pending: list[Event] = []
        self._nodes: dict[str, tuple[int, float]] = {}  # pid and when it was reported, of nodes not reported as exited
        self._closed = self._gone = self._failed = False
        self._link, link_of_child = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        fds = (link_of_child.fileno(), lifeline)
        serial = f"{entropy().getrandbits(32):08x}"
        self._marker = Marker(self._owner, process_start_time(self._owner) or 0, serial, str(directory))
        try:
            self._process = subprocess.Popen(
                [*_command(), MARKER, *self._marker.arguments(), *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=2,  # stdout may be the supervisor's one JSON object
                pass_fds=fds,
                start_new_session=True,  # Ctrl-C and Ctrl-Z are the supervisor's to handle
                env={**os.environ, MARKER_ENV: ":".join(self._marker.arguments())},
            )
        except OSError:
            self._link.close()
            os.close(self._lifeline)
            raise
        finally:
            link_of_child.close()
            os.close(lifeline)
        self._link.setblocking(False)
        _live.add(self)
        own_path = [os.path.abspath(part) for part in sys.path if isinstance(part, str)]
        self._send(Start(entry, node_class, [*map(os.path.abspath, path), *own_path]))

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the fork server can still be expected to obey."""
        return not self._closed and not self._gone and self._process.poll() is None

    def fileno(self) -> int:
        """Readable when `events` has something to say; for a poller. Not valid after `close`."""
        return self._link.fileno()

    def spawn(self, node: str, config: dict[str, Any]) -> None:
        """Have a node forked; `Spawned` (or `Failed` with this node) follows. The node must not be running."""
        self._send(Spawn(node, config))

    def signal(self, node: str, signum: int) -> None:
        """Signal a node's process; SIGKILL goes to all of its process group. A node that is gone gets nothing."""
        self._send(Signal(node, int(signum)))

    def events(self) -> list[Event]:
        """What was reported since the last call; never blocks. After `close`: how the last nodes ended."""
        if not self._closed:
            self._read()
        events, self._pending = self._pending, []
        return events

    def wait_events(self, timeout: float) -> list[Event]:
        """The same, but waits up to `timeout` seconds for the first one."""
        if not self._pending and not self._closed and not self._gone:
            _wait_for(self._link, select.POLLIN, timeout)
        return self.events()

    def wake(self) -> None:
        """Let the fork server go on, should somebody have stopped it: it obeys nobody meanwhile."""
        if not self._closed:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill every node that is left and all that they started, and end the fork server. Idempotent.

        In a forked copy of the supervisor it does nothing: the cluster is not the copy's.
        """
        if self._closed or self._owner != os.getpid():
            return
        self.wake()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)
        deadline = clock.now() + CLOSE_S_MAX
        while not self._gone and (left := deadline - clock.now()) > 0:
            _wait_for(self._link, select.POLLIN, left)
            self._read()
        if not self._gone:
            self._mourn()
        self._closed = True
        self._drop()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, command: Command) -> None:
        """A fork server that is gone takes no commands; `events` tells of its end."""
        if self._closed or self._gone:
            return
        data = memoryview(frame(command))
        while data:
            try:
                data = data[self._link.send(data) :]
            except BlockingIOError:
                if not _wait_for(self._link, select.POLLOUT, SEND_S_MAX):
                    self._process.kill()  # half a command is sent: it could never be resumed
                    return
            except OSError:
                return

    def _read(self) -> None:
        while not self._gone:
            try:
                data = self._link.recv(2**16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            for message in self._frames.feed(data):
                self._note(_events.decode(message))
            if not data:
                self._mourn()

    def _note(self, event: Event) -> None:
        if isinstance(event, Spawned):
            self._nodes[event.node] = (event.pid, clock.now())
        elif isinstance(event, Exited):
            del self._nodes[event.node]
        elif isinstance(event, Failed) and event.node is None:
            self._failed = True
        self._pending.append(event)

    def _mourn(self) -> None:
        """The fork server has ended or is to be ended; what it could not bury and report itself is done here."""
        self._gone = True
        try:
            code = self._process.wait(MOURN_S_MAX)
        except subprocess.TimeoutExpired:  # it closed the socket, or hangs: it is not to live on
            self._process.kill()
            code = self._process.wait()
        if code == 0 and not self._nodes:
            return
        _kill_marked(self._marker)
        for node, (pid, since) in list(self._nodes.items()):
            elapsed = clock.now() - since
            self._note(Exited(node, pid, int(signal.SIGKILL), False, elapsed, "its fork server ended"))
        if not self._failed:
            how = f"killed by signal {signal_name(-code)}" if code < 0 else f"exited with code {code}"
            self._note(Failed(f"the fork server ended: {how}"))

    def _drop(self) -> None:
        """Close what ties the fork server to this process."""
        _live.discard(self)
        os.close(self._lifeline)
        self._link.close()


_live: "weakref.WeakSet[ForkServer]" = weakref.WeakSet()


def _let_go() -> None:
    """In a forked copy of the supervisor: its copies of the descriptors would keep the cluster alive after its end."""
    for server in list(_live):
        server._closed = True
        server._drop()


os.register_at_fork(after_in_child=_let_go)


def _command() -> list[str]:
    """An interpreter that finds this very package, wherever the supervisor has it from."""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from testbed.live.forkserver import main; main(sys.argv[1:])"
    return [sys.executable, "-P", "-c", code]


def _wait_for(link: socket.socket, mask: int, timeout: float) -> bool:
    poller = select.poll()
    poller.register(link, mask)
    return bool(poller.poll(timeout * 1000))


def _kill_marked(marker: Marker) -> None:
    """Nodes die of the fork server's end by themselves, but not what they have started; and that may still grow."""
    deadline = clock.now() + MOURN_S_MAX
    while clock.now() < deadline:
        left = [pid for pid, found in marked_processes() if found == marker and observe(pid) not in ("zombie", "gone")]
        if not left:
            return
        for pid in left:
            kill_exactly(pid, process_start_time(pid))
