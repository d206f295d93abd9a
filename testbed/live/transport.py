"""A node's sockets: REQ/REP with acknowledgement to each peer, PUB/SUB for heartbeats, a ROUTER for clients.

It turns frames into a host's inputs and an `Outbox` into frames, under the link rules. One request is in flight to each
peer; what comes up meanwhile goes as one batch with the next. No reply in time means unknown: what was in flight is
dropped and counted, never sent again. It decides nothing else.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from testbed.base import limits
from testbed.base.codec import (
    VERSION,
    ClientFrame,
    ClientReply,
    FrameCodec,
    Garbage,
    PeerFrame,
    PeerReply,
    pack,
)
from testbed.base.links import CLIENTS, LinkRule
from testbed.core.links import Links
from testbed.host import ClientRequest, Closed, Connected, Input, PeerMessage, Publication
from testbed.live.batches import take_batch
from testbed.live.control import Ports
from testbed.live.frames import receive, receive_all, send
from testbed.live.sockets import LOOPBACK, bind, connect_request
from testbed.node import Outbox, Request

TROUBLES_LOGGED = 20  # of each kind; then one in TROUBLES_PER_LINE, so that a flood of garbage floods no log (FD13)
TROUBLES_PER_LINE = 1000
REPLY_TIMEOUT_HEARTBEATS = 5  # in flight to one peer; a peer that is stopped longer is suspected by then anyway

_Origin = tuple[bytes, ...]


class Peer:
    """The asking side towards one peer."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", name: str, port: int) -> None:
        self.name = name
        self.socket, self.monitor = connect_request(context, port)
        self.connected = False
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.in_flight_until: float | None = None
        self.sequence = 0


class Transport:
    """All sockets of one node. `boot` tells this process from its predecessors."""

    def __init__(self, node: str, cluster: str, boot: int, ports: Ports, links: Links, heartbeat: float) -> None:
        self.node = node
        self.links = links
        self.counters: Counter[str] = Counter()
        self.troubles: list[tuple[str, str]] = []  # (what, detail) since last asked: for the log
        self._cluster = cluster
        self._boot = boot
        self._boots: dict[str, int] = {}
        self._reply_timeout = REPLY_TIMEOUT_HEARTBEATS * heartbeat
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router, peers_port = bind(self.context, zmq.ROUTER, ports.peers)
        self._clients, clients_port = bind(self.context, zmq.ROUTER, ports.clients)
        self._beats, beats_port = bind(self.context, zmq.PUB, ports.beats)
        self._news, news_port = bind(self.context, zmq.PUB, ports.news, frames_max=limits.PUBLISHED_FRAMES_MAX)
        self.ports = Ports(peers_port, clients_port, beats_port, news_port)
        self._heard = self._subscriber()
        self._news_heard = self._subscriber()
        self._peers: dict[str, Peer] = {}
        self._by_socket: dict[Any, Peer] = {}
        self._acknowledgements: dict[str, list[tuple[_Origin, int]]] = {}
        self._peer_frames = FrameCodec(PeerFrame, cluster)
        self._peer_replies = FrameCodec(PeerReply, cluster)
        self._client_frames = FrameCodec(ClientFrame, cluster)
        self.poller = zmq.Poller()
        for socket in (self._router, self._clients):
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what cannot be sent would vanish uncounted
        for socket in (self._router, self._clients, self._heard, self._news_heard):
            self.poller.register(socket, zmq.POLLIN)

    def _subscriber(self) -> "zmq.Socket[bytes]":
        socket = self.context.socket(zmq.SUB)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        socket.subscribe(b"")
        return socket

    def connect(self, table: Mapping[str, Ports]) -> None:
        """Connect to the peers in the table that are new."""
        for name, ports in table.items():
            if name == self.node or name in self._peers:
                continue
            peer = Peer(self.context, name, ports.peers)
            self._peers[name] = peer
            for socket in (peer.socket, peer.monitor):
                self._by_socket[socket] = peer
                self.poller.register(socket, zmq.POLLIN)
            self._heard.connect(f"tcp://{LOOPBACK}:{ports.beats}")
            self._news_heard.connect(f"tcp://{LOOPBACK}:{ports.news}")

    def configure(self, rules: Iterable[LinkRule], version: int, now: float) -> list[Input]:
        """Obey these link rules; what that shows of connections."""
        connected = {peer.name for peer in self._peers.values() if peer.connected}
        shown = self.links.obey(self.node, rules, version, now, connected)
        return [
            Connected(peer) if is_connected else Closed(peer) for peer, is_connected in shown if peer in self._peers
        ]

    # --- in ---

    def receive(self, ready: Mapping[Any, int], now: float) -> list[Input]:
        """Everything that arrived: what is old news of the transport first, then heartbeats, then the rest."""
        inputs: list[Input] = []
        replied: list[Peer] = []
        for socket in ready:
            peer = self._by_socket.get(socket)
            if peer is None:
                continue
            if socket is peer.monitor:
                self._connection_events(peer, inputs)
            else:
                replied.append(peer)
        if self._heard in ready:
            self._publications(self._heard, inputs, now)
        for peer in replied:
            self._replies(peer, inputs)
        if self._router in ready:
            self._requests(inputs)
        if self._news_heard in ready:
            self._publications(self._news_heard, inputs, now)
        if self._clients in ready:
            self._client_requests(inputs, now)
        if self.links.deadline is not None:
            self._due(inputs, now)
        return inputs

    def _connection_events(self, peer: Peer, inputs: list[Input]) -> None:
        while peer.monitor.poll(0):
            event = parse_monitor_message(peer.monitor.recv_multipart())["event"]
            peer.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if not peer.connected and peer.in_flight_until is not None:
                peer.in_flight_until = None
                self.counters["unknown"] += 1
            if peer.name in self.links.cut_peers(self.node):  # a cut hides what happens behind it
                continue
            inputs.append(Connected(peer.name) if peer.connected else Closed(peer.name))

    def _publications(self, socket: "zmq.Socket[bytes]", inputs: list[Input], now: float) -> None:
        for frames in receive_all(socket, limits.DRAINED_FRAMES_MAX, limits.DRAINED_BYTES_MAX):
            frame = self._decoded(self._peer_frames, frames)
            if frame is None or not self._known(frame.sender, frame.boot):
                continue
            for message in frame.messages:
                item = Publication(frame.sender, message)
                if not self.links.active or self.links.send(frame.sender, self.node, item, now):
                    inputs.append(item)

    def _requests(self, inputs: list[Input]) -> None:
        for frames in receive_all(self._router, limits.DRAINED_FRAMES_MAX, limits.DRAINED_BYTES_MAX):
            frame = self._decoded(self._peer_frames, frames)
            if frame is None:
                continue
            if frame.target != self.node:
                self._trouble("misdirected", f"a frame for {frame.target} from {frame.sender}")
                continue
            if not self._known(frame.sender, frame.boot):
                continue
            self._acknowledgements.setdefault(frame.sender, []).append((tuple(frames[:-1]), frame.sequence))
            self._peer_messages(frame.sender, frame.messages, inputs)

    def _replies(self, peer: Peer, inputs: list[Input]) -> None:
        try:
            frame = self._decoded(self._peer_replies, receive(peer.socket))
        except zmq.ZMQError:  # Again; or EFSM: CORRELATE has dropped what was no answer to the last question
            return
        if frame is None:
            return
        if frame.sender != peer.name:
            self._trouble("misdirected", f"a reply of {frame.sender} where {peer.name} was asked")
            return
        if frame.acknowledges == peer.sequence:
            peer.in_flight_until = None
            self.counters["acknowledged"] += 1
        if self._known(frame.sender, frame.boot):
            self._peer_messages(frame.sender, frame.messages, inputs)

    def _peer_messages(self, sender: str, messages: list[bytes], inputs: list[Input]) -> None:
        for message in messages:
            item = PeerMessage(sender, message)
            if not self.links.active or self.links.receive(sender, self.node, item):
                inputs.append(item)

    def _client_requests(self, inputs: list[Input], now: float) -> None:
        for frames in receive_all(self._clients, limits.DRAINED_FRAMES_MAX, limits.DRAINED_BYTES_MAX):
            frame = self._decoded(self._client_frames, frames)
            if frame is None:
                continue
            origin = tuple(frames[:-1])
            for number, body in frame.requests:
                item = ClientRequest(Request(origin, number), body)
                if not self.links.active or self.links.send(CLIENTS, self.node, item, now):
                    inputs.append(item)

    def _due(self, inputs: list[Input], now: float) -> None:
        """What link rules had kept back and is due now, in either direction."""
        for source, target, item in self.links.due(now):
            if target == self.node:
                inputs.append(item)
            elif target == CLIENTS:
                self._answer_clients({item[0]: [item[1]]})
            else:
                self._enqueue(target, item)
            assert self.node in (source, target)

    def _decoded(self, codec: Any, frames: list[bytes]) -> Any:
        try:
            return codec.decode(frames[-1])
        except Garbage as error:
            self._trouble("garbage", str(error))
            return None

    def _known(self, sender: str, boot: int) -> bool:
        """From a member, and not from a process that a newer one of the same node has replaced."""
        if sender not in self._peers:
            self._trouble("strangers", sender)
            return False
        if boot < self._boots.get(sender, 0):
            self.counters["stale"] += 1
            return False
        self._boots[sender] = boot
        return True

    def _trouble(self, what: str, detail: str) -> None:
        self.counters[what] += 1
        count = self.counters[what]
        if count <= TROUBLES_LOGGED or count % TROUBLES_PER_LINE == 0:
            self.troubles.append((what, detail[:200]))

    # --- out ---

    def send_early(self, out: Outbox, now: float) -> None:
        """What may leave before the step's saves."""
        for to, data in out.early:
            if not self.links.active or self.links.send(self.node, to, data, now):
                self._enqueue(to, data)
        self.pump(now)

    def send(self, out: Outbox, now: float) -> None:
        """What must not leave before the step's saves are durable."""
        replies: dict[str, deque[bytes]] = {}
        for to, data in out.sends:
            if self.links.active and not self.links.send(self.node, to, data, now):
                continue
            if to in self._acknowledgements:
                replies.setdefault(to, deque()).append(data)
            else:
                self._enqueue(to, data)
        self._acknowledge(replies)
        self.pump(now)
        for data in out.beats:
            self._publish(self._beats, [data])
        published = deque(out.published)
        while published:
            self._publish(self._news, take_batch(published, len))
        if out.replies:
            answers: dict[_Origin, list[tuple[int, bool, bytes]]] = {}
            for request, ok, body in out.replies:
                answer = (request.number, ok, body)
                if not self.links.active or self.links.send(self.node, CLIENTS, (request.origin, answer), now):
                    answers.setdefault(request.origin, []).append(answer)
            self._answer_clients(answers)

    def pump(self, now: float) -> None:
        """Give each peer its next batch, if it is not busy with one; give up on those that do not answer."""
        for peer in self._peers.values():
            if peer.in_flight_until is not None and now >= peer.in_flight_until:
                peer.in_flight_until = None
                self.counters["unknown"] += 1
            if peer.waiting and peer.in_flight_until is None:
                self._send_batch(peer, now)

    def _send_batch(self, peer: Peer, now: float) -> None:
        batch = take_batch(peer.waiting, len)
        peer.waiting_bytes -= sum(map(len, batch))
        peer.sequence += 1
        frame = PeerFrame(VERSION, self._cluster, self.node, peer.name, self._boot, peer.sequence, batch)
        try:
            peer.socket.send(pack(frame), zmq.NOBLOCK)
        except zmq.Again:  # no connection: it is lost, as on any network
            self.counters["unsent"] += len(batch)
            return
        self.counters["frames"] += 1
        peer.in_flight_until = now + self._reply_timeout

    def _enqueue(self, to: str, data: bytes) -> None:
        peer = self._peers.get(to)
        if peer is None:
            self.counters["unsent"] += 1
            return
        peer.waiting.append(data)
        peer.waiting_bytes += len(data)
        while len(peer.waiting) > limits.OUTBOX_MESSAGES_MAX or peer.waiting_bytes > limits.OUTBOX_BYTES_MAX:
            peer.waiting_bytes -= len(peer.waiting.popleft())
            self.counters["overflowed"] += 1

    def _acknowledge(self, replies: dict[str, deque[bytes]]) -> None:
        for sender, asked in self._acknowledgements.items():
            if self.links.cut(self.node, sender) is not None:
                continue  # an acknowledgement is lost with the link
            waiting = replies.get(sender, deque())
            for origin, sequence in asked:
                batch = take_batch(waiting, len)
                frame = PeerReply(VERSION, self._cluster, self.node, self._boot, sequence, batch)
                self._route(self._router, origin, pack(frame), len(batch))
            for data in waiting:  # more than the acknowledgements could carry
                self._enqueue(sender, data)
        self._acknowledgements = {}

    def _publish(self, socket: "zmq.Socket[bytes]", messages: list[bytes]) -> None:
        frame = PeerFrame(VERSION, self._cluster, self.node, "", self._boot, 0, messages)
        socket.send(pack(frame), zmq.NOBLOCK)

    def _route(self, socket: "zmq.Socket[bytes]", origin: _Origin, data: bytes, messages: int) -> None:
        try:
            send(socket, (*origin, data))
        except zmq.ZMQError:  # EAGAIN: whoever asked does not read; EHOSTUNREACH: it is gone
            self.counters["unsent"] += messages

    def _answer_clients(self, answers: Mapping[_Origin, list[tuple[int, bool, bytes]]]) -> None:
        for origin, some in answers.items():
            waiting = deque(some)
            while waiting:
                batch = take_batch(waiting, lambda answer: len(answer[2]))
                reply = ClientReply(VERSION, self._cluster, self.node, batch)
                self._route(self._clients, origin, pack(reply), len(batch))

    @property
    def deadline(self) -> float | None:
        """When there is something to do even if nothing arrives."""
        earliest = self.links.deadline
        for peer in self._peers.values():
            until = peer.in_flight_until
            if until is not None and (earliest is None or until < earliest):
                earliest = until
        return earliest

    def close(self, linger_ms: int) -> None:
        """Close everything; what was sent last gets `linger_ms` to leave."""
        for peer in self._peers.values():
            peer.socket.disable_monitor()
            peer.monitor.close(0)
        self.context.destroy(linger=linger_ms)
