"""The bare pipeline: what this machine gives to replicated, durable puts before there is any protocol.

Three processes - a leader and two followers - over ZeroMQ, SQLite with full sync on each, MessagePack, and a client
process. It has no elections, no failure detector, no sessions, no retries and no checks: it only moves, stores and
counts. Whatever the cluster does beyond this is the price of fault tolerance.
"""

import multiprocessing
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import zmq

from benchmarks.measures import Sample, sample

HOST = "tcp://127.0.0.1"
ENTRIES_MAX = 512  # in one message to a follower
KEYS = 100
QUORUM = 2
START_S_MAX = 30.0  # for processes that start in a tenth of a second on a machine that is not starved

_spawn = multiprocessing.get_context("spawn")  # no fork: the benchmark's own process has threads
_encode = msgspec.msgpack.Encoder().encode


class Entry(msgspec.Struct, array_like=True):
    """One put in the log, with who waits for it."""

    index: int
    term: int
    client: bytes
    request: int
    command: bytes


class Append(msgspec.Struct, array_like=True):
    """Entries for a follower; a negative term ends it."""

    term: int
    previous: int
    commit: int
    entries: list[Entry]


class Put(msgspec.Struct, array_like=True):
    """A client's request."""

    request: int
    key: str
    value: str


_decode_append = msgspec.msgpack.Decoder(Append).decode
_decode_put = msgspec.msgpack.Decoder(Put).decode


class Log:
    """A durable log: one transaction a batch."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.execute("create table log (i integer primary key, term int, d blob)")

    def store(self, entries: list[Entry]) -> None:
        """Durable on return."""
        self._db.execute("begin")
        rows = [(entry.index, entry.term, _encode(entry)) for entry in entries]
        self._db.executemany("insert or replace into log values (?, ?, ?)", rows)
        self._db.execute("commit")


def follower(path: Path, ready: Connection) -> None:
    """Store what comes, acknowledge it, apply it."""
    log = Log(path)
    socket = zmq.Context().socket(zmq.REP)
    ready.send(socket.bind_to_random_port(HOST))
    state: dict[str, str] = {}
    while True:
        message = _decode_append(socket.recv())
        if message.term < 0:
            socket.send(b"")
            return
        if message.entries:
            log.store(message.entries)
        socket.send(_encode(message.entries[-1].index if message.entries else 0))
        for entry in message.entries:
            put = _decode_put(entry.command)
            state[put.key] = put.value


class Leader:
    """Drain the clients, send to the followers, store, answer what a majority has."""

    def __init__(self, path: Path, ready: Connection, followers: list[int]) -> None:
        self._store = Log(path).store
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._clients = context.socket(zmq.ROUTER)
        ready.send(self._clients.bind_to_random_port(HOST))
        self._poller = zmq.Poller()
        self._poller.register(self._clients, zmq.POLLIN)
        self._followers = [context.socket(zmq.REQ) for _ in followers]
        for socket, port in zip(self._followers, followers, strict=True):
            socket.connect(f"{HOST}:{port}")
            self._poller.register(socket, zmq.POLLIN)
        self._match = [0] * len(followers)
        self._busy = [False] * len(followers)
        self._log: list[Entry] = []
        self._committed = 0
        self._state: dict[str, str] = {}

    def run(self, stop: Any) -> None:
        """Until told to stop; then end the followers too."""
        while not stop.is_set():
            self._turn()
        for socket in self._followers:
            socket.send(_encode(Append(-1, 0, 0, [])))
            socket.recv()

    def _turn(self) -> None:
        ready = dict(self._poller.poll(100))
        new = self._drain() if self._clients in ready else []
        for number, socket in enumerate(self._followers):
            if socket in ready:
                self._match[number] = msgspec.msgpack.decode(socket.recv())
                self._busy[number] = False
        for number, socket in enumerate(self._followers):
            match = self._match[number]
            if not self._busy[number] and match < len(self._log):
                socket.send(_encode(Append(1, match, self._committed, self._log[match : match + ENTRIES_MAX])))
                self._busy[number] = True
        if new:
            self._store(new)
        self._answer(sorted([*self._match, len(self._log)])[-QUORUM])

    def _drain(self) -> list[Entry]:
        new: list[Entry] = []
        while True:
            try:
                identity, _, body = self._clients.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return new
            entry = Entry(len(self._log) + 1, 1, identity, _decode_put(body).request, body)
            self._log.append(entry)
            new.append(entry)

    def _answer(self, committed: int) -> None:
        for entry in self._log[self._committed : committed]:
            put = _decode_put(entry.command)
            self._state[put.key] = put.value
            self._clients.send_multipart([entry.client, b"", _encode(entry.request)])
        self._committed = committed


def leader(path: Path, ready: Connection, followers: list[int], stop: Any) -> None:
    """The leader's process."""
    Leader(path, ready, followers).run(stop)


def client(port: int, clients: int, puts: int, value_bytes: int, result: Connection) -> None:
    """Closed-loop clients, one socket each, in one process: everyone's next put follows on the answer to the last."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    sockets = [context.socket(zmq.REQ) for _ in range(clients)]
    for socket in sockets:
        socket.connect(f"{HOST}:{port}")
        poller.register(socket, zmq.POLLIN)
    value = "v" * value_bytes
    asked: dict[Any, float] = {}
    latencies: list[float] = []
    sent = 0

    def put(socket: Any) -> None:
        nonlocal sent
        socket.send(_encode(Put(sent, f"k{sent % KEYS}", value)))
        asked[socket] = time.monotonic()
        sent += 1

    begun = time.monotonic()
    for socket in sockets:
        put(socket)
    while len(latencies) < puts:
        for socket, _ in poller.poll(1000):
            socket.recv()
            latencies.append(time.monotonic() - asked[socket])
            if sent < puts:
                put(socket)
    result.send(sample(latencies, time.monotonic() - begun))
    context.destroy(linger=0)


class Pipeline:
    """A running bare pipeline."""

    def __init__(self, port: int) -> None:
        self._port = port

    def measure(self, clients: int, puts: int, value_bytes: int) -> Sample:
        """That many puts by that many closed-loop clients."""
        result, end = _spawn.Pipe(duplex=False)
        process = _spawn.Process(target=client, args=(self._port, clients, puts, value_bytes, end))
        process.start()
        found: Sample = _expect(result)
        process.join()
        return found


@contextmanager
def pipeline() -> Iterator[Pipeline]:
    """Start the three processes; end them."""
    with tempfile.TemporaryDirectory(prefix="floor-") as directory:
        stop = _spawn.Event()
        processes = []
        ports: list[int] = []
        try:
            for number in (1, 2):
                ready, end = _spawn.Pipe(duplex=False)
                path = Path(directory) / f"follower{number}.db"
                processes.append(_spawn.Process(target=follower, args=(path, end), daemon=True))
                processes[-1].start()
                ports.append(_expect(ready))
            ready, end = _spawn.Pipe(duplex=False)
            path = Path(directory) / "leader.db"
            processes.append(_spawn.Process(target=leader, args=(path, end, ports, stop), daemon=True))
            processes[-1].start()
            yield Pipeline(_expect(ready))
        finally:
            stop.set()
            for process in reversed(processes):
                process.join(2.0)
                process.kill()


def _expect(pipe: Connection) -> Any:
    if not pipe.poll(START_S_MAX):
        raise TimeoutError("a process of the bare pipeline says nothing")
    return pipe.recv()
