"""The parent of a cluster's nodes: a small process that has their code loaded and forks them in milliseconds.

It is single-threaded, holds no ZeroMQ context and never imports the user's `__main__`. While it lives it alone signals
nodes (what a dead one left behind is killed by exact identity, see `procfs`), and it alone reaps them: until it has,
neither a node's process id nor its process group id can belong to anybody else. It knows nothing of what a node does,
of faults, or of restarts.

It ends, and everything below it with it, when its supervisor does: its end of the socket reads EOF. The parent-death
signal is SIGCONT, so that it comes to see that even if somebody has stopped it; a deadly signal would leave no time to
kill the processes that nodes have started. Nodes themselves carry SIGKILL as theirs, for the case that the fork server
is killed.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec

from testbed.base.errors import UsageError
from testbed.live import clock
from testbed.live.exits import OomWatch, code_for, describe_error, one_line
from testbed.live.forkwire import Event, Exited, Failed, Frames, Ready, Signal, Spawn, Spawned, Start, frame
from testbed.live.nodeclass import load
from testbed.live.procfs import children_of

MARKER: Final = "testbed-forkserver"  # in the command line, for people who look at `ps`

ORPHAN_CHECK_MS: Final = 20  # while shutting down: how often to look for processes that have only now become ours
SHUTDOWN_S_MAX: Final = 5.0  # a process in uninterruptible sleep must not hold up the end for ever
FAREWELL_S_MAX: Final = 1.0  # for the last reports, if the supervisor still reads them

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class _Child:
    """A node's process that has not been reaped."""

    def __init__(self, node: str, pid: int, words: int) -> None:
        self.node = node
        self.pid = pid
        self.words = words  # read end of the pipe for its last words
        self.born = clock.now()
        self.killed = False

    def signal(self, signum: int) -> None:
        """Safe as long as the child is not reaped: nobody else can have its ids."""
        if signum == signal.SIGKILL:
            self.killed = True
            self.kill_group()
        os.kill(self.pid, signum)

    def kill_group(self) -> None:
        """A child that has not come as far as `setsid` yet leads no group, and has started nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class _Server:
    """Serves commands until the supervisor is gone; then leaves nothing behind."""

    def __init__(self, link: socket.socket, lifeline: int, entry: Callable[[type, dict[str, Any]], None], node: type):
        self.entry = entry
        self.node_class = node
        self.lifeline = lifeline
        self.children: dict[int, _Child] = {}  # by pid
        self._link = link
        self._frames = Frames()
        self._commands = msgspec.msgpack.Decoder(Spawn | Signal)
        self._unsent = bytearray()
        self._over = False
        self._oom = OomWatch()
        self._supervisor = os.getppid()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller = select.poll()

    def run(self) -> None:
        self._link.setblocking(False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGCONT):
            signal.signal(signum, _leave_it_to_the_wakeup_fd)
        self._poller.register(self._wake, select.POLLIN)
        self._poller.register(self._link, select.POLLIN)
        try:
            self.report(Ready())
            while not self._over:
                for fd, _ in self._poller.poll(OomWatch.TICK_S * 1000):
                    if fd == self._wake:
                        self._wake_up()
                    else:
                        self._talk()
                self._oom.tick()
        finally:
            self._shut_down()

    def report(self, event: Event) -> None:
        """Never blocks: a supervisor that is busy reads it later."""
        self._unsent += frame(event)
        self._flush()

    def _flush(self) -> None:
        try:
            del self._unsent[: self._link.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # the supervisor is gone; reading says so too
            self._unsent.clear()
            self._over = True
        if not self._over:
            self._poller.modify(self._link, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def _talk(self) -> None:
        if self._unsent:
            self._flush()
        try:
            data = self._link.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._over = True
        for message in self._frames.feed(data):
            match self._commands.decode(message):
                case Spawn(node, config):
                    self._spawn(node, config)
                case Signal(node, signum):
                    for child in self.children.values():
                        if child.node == node:
                            child.signal(signum)

    def _spawn(self, node: str, config: dict[str, Any]) -> None:
        sys.stdout.flush()  # or the child would write it once more
        try:
            words, words_of_child = os.pipe()
        except OSError as error:
            self.report(Failed(describe_error(error), node=node))
            return
        os.set_blocking(words, False)
        server = os.getpid()
        # Until the child has let go of the wakeup fd, a signal to it would look like one to us.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(node, config, server, words, words_of_child)
        except OSError as error:
            os.close(words)
            self.report(Failed(describe_error(error), node=node))
        else:
            self.children[pid] = _Child(node, pid, words)
            self.report(Spawned(node, pid))
        finally:
            os.close(words_of_child)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _become(self, node: str, config: dict[str, Any], server: int, words: int, words_of_child: int) -> NoReturn:
        """The child's life. It never returns into the server's loop, whatever happens."""
        code = 255
        try:
            os.setsid()
            die_with_parent(signal.SIGKILL, server)
            set_process_name(f"testbed:{node}")
            signal.set_wakeup_fd(-1)
            self._link.close()
            for fd in (self._wake, self._waker, words, *(child.words for child in self.children.values())):
                os.close(fd)
            restore_signals()
            code = _live(self.entry, self.node_class, {**config, "lifeline": self.lifeline}, words_of_child)
        finally:
            os._exit(code)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._over = signal.SIGTERM in os.read(self._wake, 4096) or self._over
        self._over = self._over or os.getppid() != self._supervisor
        self._reap()

    def _reap(self) -> bool:
        """Bury all that are dead by now; False if there are no children at all."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            except ChildProcessError:
                return False
            if dead is None:
                return True
            child = self.children.pop(dead.si_pid, None)
            if child is None:
                os.waitpid(dead.si_pid, 0)  # a process whose parent, below us, died before it
            else:
                self._bury(child)

    def _bury(self, child: _Child) -> None:
        child.kill_group()  # before reaping, while the group's id is certainly still its own
        _, status = os.waitpid(child.pid, 0)
        try:
            words = os.read(child.words, 2**16).decode(errors="replace")
        except BlockingIOError:  # it said nothing, and something that it started holds the pipe open
            words = ""
        os.close(child.words)
        unasked = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not child.killed
        oom = unasked and self._oom.claim()
        self.report(Exited(child.node, child.pid, status, oom, clock.now() - child.born, words))

    def _shut_down(self) -> None:
        deadline = clock.now() + SHUTDOWN_S_MAX
        for child in self.children.values():
            child.signal(signal.SIGKILL)
        while self._reap() and clock.now() < deadline:
            for pid in children_of(os.getpid()):  # also those that left their node's group and fell to us
                if pid not in self.children:
                    os.kill(pid, signal.SIGKILL)
            select.select([self._wake], [], [], ORPHAN_CHECK_MS / 1000)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if self._unsent:
            with contextlib.suppress(OSError):
                self._link.settimeout(FAREWELL_S_MAX)
                self._link.sendall(self._unsent)


def _live(entry: Callable[[type, dict[str, Any]], None], node: type, config: dict[str, Any], words: int) -> int:
    """Run the entry function; the exit code. A reason goes to `words`, the traceback to stderr."""
    try:
        if config.get("output") is not None:
            _redirect(config["output"])
        entry(node, config)
        code, reason = 0, ""
    except BaseException as error:
        code, reason = code_for(error)
        if reason:
            os.write(words, reason.encode())
        if not isinstance(error, SystemExit):
            with contextlib.suppress(Exception):  # no memory, no disk: the reason is out already
                traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _redirect(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # SIGKILL must not cost the last lines


def die_with_parent(signum: int, parent: int) -> None:
    """Have the kernel send `signum` when the parent - the thread that created this process - ends.

    The parent may have ended before the request was made, and then no signal comes: hence the second look.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(255)


def set_process_name(name: str) -> None:
    """What `ps -o comm` and `top` show; the kernel cuts it to 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def restore_signals() -> None:
    """Give every signal the disposition it has in a fresh Python, and unblock all of them."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):  # the C library keeps a few for itself
            signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_IGN)  # so that they become OSError
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _leave_it_to_the_wakeup_fd(signum: int, _: object) -> None:
    """Without a handler in Python a signal would not reach the wakeup fd."""


def _receive_start(link: socket.socket) -> Start | None:
    """Takes exactly one message off the socket: commands may wait behind it already."""
    head = link.recv(4, socket.MSG_WAITALL)
    size = int.from_bytes(head, "big")
    data = b""
    while len(data) < size and (part := link.recv(size - len(data), socket.MSG_WAITALL)):
        data += part
    return msgspec.msgpack.decode(data, type=Start) if len(head) == 4 and len(data) == size else None


def _preload(start: Start) -> tuple[Callable[[type, dict[str, Any]], None], type]:
    sys.path[:] = start.path
    module, _, function = start.entry.partition(":")
    return getattr(importlib.import_module(module), function), load(start.node_class)


def main(arguments: list[str]) -> None:
    """The process's life. Arguments: MARKER, the supervisor's pid and start time, serial, directory, two descriptors
    (of the socket and of the lifeline)."""
    supervisor, link_fd, lifeline = int(arguments[1]), int(arguments[5]), int(arguments[6])
    restore_signals()  # whatever the supervisor ignores or blocks
    die_with_parent(signal.SIGCONT, supervisor)
    os.set_inheritable(link_fd, False)
    os.set_inheritable(lifeline, False)
    set_process_name(MARKER)
    sys.argv = [MARKER]
    link = socket.socket(fileno=link_fd)
    start = _receive_start(link)
    if start is None:
        return
    gc.disable()  # pages that a collection would leave half empty would be shared with no node
    try:
        entry, node = _preload(start)
    except BaseException as error:
        reason = str(error) if isinstance(error, UsageError) else describe_error(error)
        text = "".join(traceback.format_exception(error))
        link.sendall(frame(Failed(one_line(reason), text, isinstance(error, UsageError))))
        return
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.freeze()  # so that nodes' collections do not touch, and thereby copy, what they share
    gc.enable()
    _Server(link, lifeline, entry, node).run()
