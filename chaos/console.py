"""The console: what `testbed up` and the commands beside it say to each other, and where they meet.

They meet in `.testbed/` of the directory they are called in: a lock file held by the supervisor, `cluster.json` with
its pid, and a Unix socket that only the user's own processes may use. One request and its answer a connection, as JSON
lines. It knows both ends of the socket and nothing of what a request does to a cluster.
"""

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from testbed.base.errors import UsageError
from testbed.base.links import Cut
from testbed.live import clock
from testbed.live.procfs import observe, process_start_time

DIRECTORY: Final = ".testbed"
LINE_BYTES_MAX: Final = 2**20  # a status of 31 nodes with all their views is far smaller
CONNECTIONS_MAX: Final = 16  # people's terminals; one more is turned away
REQUEST_S_MAX: Final = 5.0  # for a request to arrive whole, and for an answer to be taken
BUSY_S: Final = 1.0  # how often the supervisor says that it is still at it
SILENCE_S_MAX: Final = 5.0  # a supervisor that says nothing for so long hangs
ANSWER_S_MAX: Final = 90.0  # several times what any request may take
FAREWELL_S_MAX: Final = 2.0  # for the last answers of a supervisor that stops
GONE_S_MAX: Final = 15.0  # from the answer to `down` until the supervisor's process has ended

Verb = Literal["kill", "pause", "resume", "restart"]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="status"):
    """How is everybody?"""


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="act"):
    """Do that to those nodes: ids separated by commas, or a word such as `leader`."""

    verb: Verb
    target: str


class Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="partition"):
    """Cut the links between these groups, or between the only one and all the others."""

    groups: list[str]
    mode: Cut = "drop"


class Heal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="heal"):
    """Heal all partitions."""


class Down(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="down"):
    """Stop everything."""


Request = Status | Act | Partition | Heal | Down


class Busy(msgspec.Struct, frozen=True, tag_field="reply", tag="busy"):
    """Not done yet."""


class Done(msgspec.Struct, frozen=True, tag_field="reply", tag="done"):
    """Done, and seen to be done."""

    result: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, tag_field="reply", tag="failed"):
    """Not done. `status`: the exit status that it means, 254 or 255."""

    status: int
    message: str


Reply = Busy | Done | Failed

_encode = msgspec.json.Encoder().encode
_request = msgspec.json.Decoder(Request)
_reply = msgspec.json.Decoder(Reply)


class Card(msgspec.Struct, frozen=True):
    """What `cluster.json` says: the supervisor's pid and start time (clock ticks since boot), and its nodes."""

    pid: int
    started: int
    nodes: list[str]


class SupervisorFault(RuntimeError):
    """The supervisor could not do what was asked, by a fault of its own."""


class Place:
    """The directory in which a cluster lives. It is made only by `hold`."""

    def __init__(self, base: Path) -> None:
        self.directory = base.resolve() / DIRECTORY
        self.card = self.directory / "cluster.json"
        self.socket = self.directory / "control.sock"
        self.nodes = self.directory / "nodes"
        self._lock_file = self.directory / "lock"
        self._lock = -1

    def hold(self) -> None:
        """Take the lock; UsageError naming the holder's pid if another process has it. It ends with this process."""
        try:
            self.directory.mkdir(exist_ok=True)
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(self.directory, "", f"cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "not known yet"
            os.close(lock)
            raise UsageError(
                self._lock_file, "", f"a cluster runs in this directory already (supervisor's pid {holder})"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def announce(self, nodes: tuple[str, ...]) -> None:
        """Write `cluster.json`, whole or not at all."""
        card = Card(os.getpid(), process_start_time(os.getpid()) or 0, list(nodes))
        draft = self.card.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(_encode(card) + b"\n")
        draft.rename(self.card)

    def read_card(self) -> Card:
        """Who supervises here; UsageError if nobody does."""
        try:
            return msgspec.json.decode(self.card.read_bytes(), type=Card)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                self.directory.parent, "", "no cluster runs in this directory; testbed up starts one"
            ) from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(self.card, "", f"cannot be read: {error}") from error

    def forget(self) -> list[Path]:
        """Remove what leads companions here; what was removed. Only for the holder of the lock."""
        assert self._lock >= 0, "the files may be somebody else's"
        removed = []
        for path in (self.card, self.card.with_suffix(".tmp"), self.socket):
            with suppress(FileNotFoundError):
                path.unlink()
                removed.append(path)
        return removed

    def release(self) -> None:
        """Give the lock back. The file stays: removing it could let two processes lock two files of that name."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


# --- the companions' end ---


def ask(place: Place, request: Request) -> dict[str, Any]:
    """What the supervisor answers. UsageError if there is none, if it is silent, or if it refuses."""
    card = place.read_card()
    link = _connect(place, card)
    give_up = clock.now() + ANSWER_S_MAX
    with link:
        link.settimeout(SILENCE_S_MAX)
        lines = _Lines(link)
        try:
            link.sendall(_encode(request) + b"\n")
            reply: Reply = Busy()
            while isinstance(reply := _reply.decode(lines.next()), Busy):
                if clock.now() > give_up:
                    raise UsageError(place.directory, "", f"no answer within {ANSWER_S_MAX:g} s (pid {card.pid})")
        except TimeoutError:
            raise UsageError(place.directory, "", f"the supervisor (pid {card.pid}) does not answer") from None
        except (OSError, EOFError):
            if isinstance(request, Down) and _has_ended(card, GONE_S_MAX):
                return {"pid": card.pid}
            raise UsageError(place.directory, "", f"the supervisor (pid {card.pid}) ended without an answer") from None
        except ValueError as error:  # msgspec's errors are ValueErrors, and so is a line that is too long
            raise SupervisorFault(f"{place.socket}: an answer that makes no sense: {error}") from error
    if isinstance(reply, Failed):
        raise UsageError("", "", reply.message) if reply.status == 254 else SupervisorFault(reply.message)
    if isinstance(request, Down) and not _has_ended(card, GONE_S_MAX):
        raise SupervisorFault(f"the supervisor (pid {card.pid}) has stopped its nodes but does not end")
    assert isinstance(reply, Done)
    return reply.result


def _connect(place: Place, card: Card) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(SILENCE_S_MAX)  # a full queue of a supervisor that hangs
    try:
        _at(place, link.connect)
    except TimeoutError:
        link.close()
        raise UsageError(place.directory, "", f"the supervisor (pid {card.pid}) does not answer") from None
    except OSError:
        link.close()
        reason = f"no cluster runs in this directory: its supervisor (pid {card.pid}) is gone"
        if not _has_ended(card, 0):
            reason = f"the supervisor (pid {card.pid}) listens no more"
        raise UsageError(place.card, "", reason) from None
    return link


def _has_ended(card: Card, patience: float) -> bool:
    deadline = clock.now() + patience
    while process_start_time(card.pid) == card.started and observe(card.pid) != "zombie":
        if clock.now() >= deadline:
            return False
        clock.sleep(0.01)
    return True


def _at(place: Place, use: Callable[[str], None]) -> None:
    """Use the socket's path, however long: the kernel takes 107 bytes."""
    directory = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{place.socket.name}")
    finally:
        os.close(directory)


class _Lines:
    """Reads lines of bounded length; EOFError at the end, ValueError for a longer one."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._buffer = b""

    def next(self) -> bytes:
        deadline = clock.now() + (self._link.gettimeout() or 0)
        while b"\n" not in self._buffer:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise ValueError(f"a line of more than {LINE_BYTES_MAX} bytes")
            if clock.now() > deadline:  # a sender that trickles
                raise TimeoutError
            data = self._link.recv(2**16)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


# --- the supervisor's end ---


class Job:
    """A request that waits for the supervisor's main thread. `finish` it exactly once."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._reply: Reply | None = None
        self._finished = threading.Event()

    def finish(self, reply: Reply) -> None:
        """From the main thread."""
        assert self._reply is None
        self._reply = reply
        self._finished.set()

    def wait(self, seconds: float) -> Reply | None:
        """From the connection's thread."""
        return self._reply if self._finished.wait(seconds) else None


class Server:
    """Listens in threads of its own and hands requests over to `submit`; garbage goes no further."""

    def __init__(self, place: Place, submit: Callable[[Job], None]) -> None:
        self._place = place
        self._submit = submit
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._room = threading.Semaphore(CONNECTIONS_MAX)
        self._connections: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._listen, name="testbed-console", daemon=True)

    def start(self) -> None:
        """Listen from now on. The place must be held, and free of an earlier socket."""
        _at(self._place, self._listener.bind)
        self._place.socket.chmod(0o600)
        self._listener.listen(CONNECTIONS_MAX)
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and let the last answers out. Every job must be finished."""
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._thread.join()
        self._listener.close()
        deadline = clock.now() + FAREWELL_S_MAX
        for connection in self._connections:
            connection.join(max(0.0, deadline - clock.now()))

    def _listen(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:  # shut down; or out of descriptors, and then nobody can be served
                return
            self._connections = [one for one in self._connections if one.is_alive()]
            if not self._room.acquire(blocking=False):
                link.close()
                continue
            thread = threading.Thread(target=self._serve, args=(link,), name="testbed-console-link", daemon=True)
            self._connections.append(thread)
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        try:
            with link, suppress(OSError, EOFError):  # a companion that left needs no answer
                link.settimeout(REQUEST_S_MAX)
                if _user_of(link) in (os.getuid(), 0):
                    self._answer(link)
        finally:
            self._room.release()

    def _answer(self, link: socket.socket) -> None:
        try:
            request = _request.decode(_Lines(link).next())
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            link.sendall(_encode(Failed(254, f"not a request: {error}")) + b"\n")
            return
        if _has_left(link):  # it gave up while this process hung, and was told that nothing was done
            return
        job = Job(request)
        self._submit(job)
        while (reply := job.wait(BUSY_S)) is None:
            with suppress(OSError):  # the companion may leave; the job is carried out all the same
                link.sendall(_encode(Busy()) + b"\n")
        link.sendall(_encode(reply) + b"\n")


def _has_left(link: socket.socket) -> bool:
    """Whether the other end is closed, seen without waiting: on a socket with a timeout, `recv` itself would wait."""
    patience = link.gettimeout()
    link.setblocking(False)
    try:
        return link.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        link.settimeout(patience)


def _user_of(link: socket.socket) -> int:
    """The user of the process at the other end, as the kernel knows it (SO_PEERCRED, unix(7))."""
    _, user, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)
