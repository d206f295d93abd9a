"""The clients' side: one thread drives any number of client programs over one connection per node.

Requests of all programs that come up together travel in one frame; answers come back in any order. The thread starts
with the first node that can be asked and ends with `close`.
"""

import heapq
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from testbed.base import limits
from testbed.base.codec import VERSION, ClientFrame, ClientReply, FrameCodec, Garbage, pack
from testbed.client import (
    Answered,
    Ask,
    ClientEvent,
    ClientProgram,
    NodeClosed,
    NotSent,
    Sent,
    Started,
    Told,
    Woken,
)
from testbed.live import clock
from testbed.live.batches import take_batch
from testbed.live.frames import receive_all
from testbed.live.sockets import connect_client

IDLE_POLL_MS = 1000


class _Link:
    """The connection to one node."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", node: str, port: int) -> None:
        self.node = node
        self.socket, self.monitor = connect_client(context, port)
        self.waiting: deque[tuple[int, bytes]] = deque()


class ClientDriver:
    """Drives client programs. `failed` is called when a program raised; the exception is in `failure` then."""

    def __init__(self, cluster: str, failed: Callable[[], None]) -> None:
        self._cluster = cluster
        self._failed = failed
        self._frames = FrameCodec(ClientReply, cluster)
        self._lock = threading.Lock()
        self._orders: deque[Callable[[], None]] = deque()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._closing = False
        self.failure: BaseException | None = None  # a program that raised: our bug or a user's workload
        self._sent: dict[int, Sent] = {}
        # the thread's own, from here on
        self._links: dict[str, _Link] = {}
        self._by_socket: dict[Any, _Link] = {}
        self._asked: dict[int, tuple[ClientProgram, int, str]] = {}
        self._numbers = 0
        self._deadlines: list[tuple[float, int, ClientProgram]] = []
        self._order_of_deadlines = 0
        self._known_deadline: dict[int, float] = {}

    # --- from any thread ---

    def connect(self, node: str, port: int) -> None:
        """A node can be asked from now on."""
        self._order(lambda: self._connect(node, port))

    def run(self, program: ClientProgram, sent: Sent | None = None) -> None:
        """Drive a program from now on. `sent` is told of its requests, in the clients' thread."""
        if sent is not None:
            self._sent[id(program)] = sent
        self._order(lambda: self._step(program, Started(), clock.now()))

    def tell(self, program: ClientProgram, what: Any) -> None:
        """Give a program a `Told` event."""
        self._order(lambda: self._step(program, Told(what), clock.now()))

    def close(self) -> None:
        """End the thread; programs are dropped where they are."""
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is not None:
            self._wake_up()
            thread.join()
        if self._wake >= 0:
            os.close(self._wake)
            os.close(self._waker)
            self._wake = self._waker = -1

    def _order(self, order: Callable[[], None]) -> None:
        with self._lock:
            if self._closing:
                return
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="testbed-clients", daemon=True)
                self._thread.start()
            self._wake_up()

    def _wake_up(self) -> None:
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            pass  # it is awake already, thousands of times over

    # --- the thread ---

    def _run(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(self._wake, zmq.POLLIN)
        try:
            while not self._closing:
                self._turn()
        except BaseException as error:  # nobody sees a thread die: keep it for whoever waits
            self.failure = error
            self._failed()
        finally:
            for link in self._links.values():
                link.socket.disable_monitor()
                link.monitor.close(0)
            self._context.destroy(linger=0)

    def _turn(self) -> None:
        ready = dict(self._poller.poll(self._patience_ms()))
        if self._wake in ready:
            os.read(self._wake, 65536)
            while self._orders:
                self._orders.popleft()()
        for socket in ready:
            link = self._by_socket.get(socket)
            if link is None:
                continue
            if socket is link.monitor:
                self._connection_events(link)
            else:
                self._receive(link)
        now = clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            at, _, program = heapq.heappop(self._deadlines)
            if self._known_deadline.get(id(program)) == at:
                del self._known_deadline[id(program)]
                self._step(program, Woken(), now)
        self._flush()

    def _patience_ms(self) -> int:
        if not self._deadlines:
            return IDLE_POLL_MS
        return max(0, min(IDLE_POLL_MS, int((self._deadlines[0][0] - clock.now()) * 1000 + 0.999)))

    def _connect(self, node: str, port: int) -> None:
        if node in self._links:
            return
        link = self._links[node] = _Link(self._context, node, port)
        for socket in (link.socket, link.monitor):
            self._by_socket[socket] = link
            self._poller.register(socket, zmq.POLLIN)

    def _connection_events(self, link: _Link) -> None:
        while link.monitor.poll(0):
            event = parse_monitor_message(link.monitor.recv_multipart())["event"]
            if event != zmq.EVENT_DISCONNECTED:
                continue
            waiting, link.waiting = link.waiting, deque()
            self._not_sent(number for number, _ in waiting)
            lost = [number for number, (_, _, node) in self._asked.items() if node == link.node]
            programs = {id(program): program for program, _, _ in (self._asked.pop(number) for number in lost)}
            for program in programs.values():
                self._step(program, NodeClosed(link.node), clock.now())

    def _not_sent(self, numbers: Iterable[int]) -> None:
        asks = [self._asked.pop(number, None) for number in numbers]
        for asked in asks:
            if asked is not None:  # else given up, as the oldest of too many
                program, ask, _ = asked
                self._step(program, NotSent(ask), clock.now())

    def _receive(self, link: _Link) -> None:
        for frames in receive_all(link.socket, limits.DRAINED_FRAMES_MAX, limits.DRAINED_BYTES_MAX):
            now = clock.now()  # after it arrived: a completion is never stamped too early
            try:
                answers = self._frames.decode(frames[-1]).answers
            except Garbage:
                continue  # garbage; whoever waits for it gives up at its deadline
            for number, ok, body in answers:
                asked = self._asked.pop(number, None)
                if asked is not None:
                    program, ask, _ = asked
                    self._step(program, Answered(ask, ok, body), now)

    def _step(self, program: ClientProgram, event: ClientEvent, now: float) -> None:
        for ask in program.step(event, now):
            self._ask(program, ask)
        deadline = program.deadline
        if deadline is not None and self._known_deadline.get(id(program)) != deadline:
            self._known_deadline[id(program)] = deadline
            self._order_of_deadlines += 1
            heapq.heappush(self._deadlines, (deadline, self._order_of_deadlines, program))
        elif deadline is None:
            self._known_deadline.pop(id(program), None)

    def _ask(self, program: ClientProgram, ask: Ask) -> None:
        link = self._links.get(ask.node)
        if link is None:
            self._orders.append(lambda: self._step(program, NotSent(ask.ask), clock.now()))
            self._wake_up()
            return
        self._numbers += 1
        self._asked[self._numbers] = (program, ask.ask, ask.node)
        if len(self._asked) > limits.CLIENT_PENDING_MAX:
            del self._asked[next(iter(self._asked))]  # the oldest: long given up by its program
        link.waiting.append((self._numbers, ask.body))
        sent = self._sent.get(id(program))
        if sent is not None:
            sent(ask, self._numbers, clock.now())

    def _flush(self) -> None:
        """Send each node's requests of this round in one frame. What cannot leave is told to its program."""
        unsent: list[int] = []
        for link in self._links.values():
            while link.waiting:
                batch = take_batch(link.waiting, _size)
                try:
                    link.socket.send(pack(ClientFrame(VERSION, self._cluster, batch)), zmq.NOBLOCK)
                except zmq.Again:
                    unsent += [number for number, _ in batch]
        self._not_sent(unsent)
        if any(link.waiting for link in self._links.values()):
            self._wake_up()


def _size(request: tuple[int, bytes]) -> int:
    return len(request[1])
