"""A node's ports against everything that is not its peers' traffic, and its peers against silence."""

import socket

import pytest
import zmq
from watching import counter, log_lines, settled

from testbed.base import limits
from testbed.base.codec import VERSION, ClientFrame, Codec, PeerFrame, pack
from testbed.core.membership import Beat
from testbed.live.sockets import LOOPBACK

CODEC = Codec((), internal=(Beat,))


@pytest.fixture
def dial():
    """Raw sockets to anything on the loopback address."""
    with zmq.Context() as context:
        sockets = []

        def connect(port, kind=zmq.DEALER):
            sockets.append(context.socket(kind))
            sockets[-1].linger = 2000
            sockets[-1].connect(f"tcp://{LOOPBACK}:{port}")
            return sockets[-1]

        yield connect
        for made in sockets:
            made.close()


def ports(cluster, node):
    return cluster.world._members[node].ports


def peer_frame(cluster, *, version=VERSION, name=None, sender="n2", target="n1", boot=1, messages=()):
    name = cluster.world.cluster if name is None else name
    return pack(PeerFrame(version, name, sender, target, boot, 1, list(messages)))


def sends_and_is_counted(cluster, send, what, times=1):
    before = counter(cluster, "n1", what)
    for _ in range(times):
        send()
    cluster.wait_for(lambda: counter(cluster, "n1", what) >= before + times, f"{what} to be counted")


GARBAGE = {
    "nothing": [b""],
    "noise": [b"\xc1\xff\x00" * 50],
    "no_frame": [pack({"a": 1})],
    "truncated": [pack(["half"])[:-1]],
    "many_parts": [b""] * 20,
    "deeply_nested": [b"\x91" * 100_000],
}


@pytest.mark.parametrize("port", ["peers", "clients"])
def test_whatever_is_sent_to_a_port_is_counted_logged_and_dropped_while_the_node_serves(service, dial, port):
    client = service.client()
    raw = dial(getattr(ports(service, "n1"), port))
    other_version = pack(ClientFrame(VERSION + 1, service.world.cluster, []))
    other_cluster = pack(ClientFrame(VERSION, "another", []))
    if port == "peers":
        other_version = peer_frame(service, version=VERSION + 1)
        other_cluster = peer_frame(service, name="another")
    oversized = b"\x00" * (limits.FRAME_BYTES_MAX + 1)
    frames = {**GARBAGE, "version": [other_version], "cluster": [other_cluster], "oversized": [oversized]}
    for parts in frames.values():
        sends_and_is_counted(service, lambda parts=parts: raw.send_multipart([b"", *parts]), "garbage")
        client.kv.put("still", "serving")
    details = " ".join(
        line["detail"] for line in log_lines(service, "n1") if line["text"].startswith("drops what it cannot use")
    )
    for reason in ("not a frame", f"version {VERSION + 1}", "another cluster", "exceeds"):
        assert reason in details
    assert service.status()["n1"].state == "up"


def test_frames_for_another_node_or_from_a_stranger_are_counted_and_not_answered(service, dial):
    raw = dial(ports(service, "n1").peers)
    sends_and_is_counted(
        service, lambda: raw.send_multipart([b"", peer_frame(service, target="n3", boot=2**40)]), "misdirected"
    )
    sends_and_is_counted(service, lambda: raw.send_multipart([b"", peer_frame(service, sender="n9")]), "strangers")
    assert raw.poll(50) == 0
    service.client().kv.put("still", "serving")


def test_a_flood_of_garbage_floods_no_log(service, dial):
    raw = dial(ports(service, "n1").peers)
    sends_and_is_counted(service, lambda: raw.send_multipart([b"", b"\xc1"]), "garbage", times=3000)
    assert len([line for line in log_lines(service, "n1") if "cannot use" in line["text"]]) < 40


def test_bytes_that_are_not_zeromq_harm_no_port(service):
    client = service.client()
    connections = []
    for port in ports(service, "n1"), ports(service, "n2"):
        for number in (port.peers, port.clients, port.beats, port.news, service.world._control_port):
            for bytes_ in (b"GET / HTTP/1.1\r\n\r\n" * 50, b"\x00" * 4096, b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"):
                connections.append(socket.create_connection((LOOPBACK, number)))
                connections[-1].sendall(bytes_)
    client.kv.put("still", "serving")
    settled(service)
    for connection in connections:
        connection.close()


def test_garbage_to_the_supervisor_is_dropped_and_logged(service, dial):
    raw = dial(service.world._control_port)
    for parts in ([b"\xc1\xff"], [b""], [b"", b"", b""], [pack({"node": "n1"})]):
        raw.send_multipart(parts)
    log = service.directory / "supervisor.jsonl"
    service.wait_for(lambda: log.read_text().count("drops a control message") >= 3, "the supervisor to drop it")
    service.kill("n1")
    service.start_node("n1")


def test_a_message_that_does_not_decode_is_counted_though_its_frame_was_fine(service, dial):
    leader = service.wait_for_leader()
    victim, sender = ("n1", "n2") if leader != "n1" else ("n2", "n1")
    raw = dial(ports(service, victim).peers)
    before = counter(service, victim, "garbage")
    boot = service.status()[sender].incarnation
    raw.send_multipart([b"", peer_frame(service, sender=sender, target=victim, boot=boot, messages=[b"\xc1", b"x"])])
    service.wait_for(lambda: counter(service, victim, "garbage") >= before + 2, "both messages to be counted")
    service.client().kv.put("still", "serving")


def test_a_stopped_peer_holds_up_nobody_and_its_silence_is_counted_as_unknown(obedient):
    client = obedient.client()
    before = counter(obedient, "n1", "unknown")
    obedient.pause("n3")

    def told_all():
        client.request({"tell": "n3", "message": "are you there"}, to="n1")
        client.request({"tell": "n2", "message": "hello"}, to="n1")
        return counter(obedient, "n1", "unknown") >= before + 3

    obedient.wait_for(told_all, "three questions to go unanswered")
    said = client.request("what", to="n2")["heard"]
    assert ["n1", "dict", "hello"] in said or ["n1", "str", "hello"] in said
    obedient.resume("n3")
    acknowledged = counter(obedient, "n1", "acknowledged")
    client.request({"tell": "n3", "message": "again"}, to="n1")
    obedient.wait_for(lambda: ["n1", "str", "again"] in client.request("what", to="n3")["heard"], "n3 to hear n1 again")
    obedient.wait_for(lambda: counter(obedient, "n1", "acknowledged") > acknowledged, "n3 to acknowledge")


def test_what_a_replaced_process_still_says_is_dropped_as_stale(service, dial):
    sender = next(node for node in ("n2", "n3") if node != service.leader)
    old = service.status()[sender].incarnation
    service.restart(sender)
    settled(service)
    raw = dial(ports(service, "n1").peers)
    sends_and_is_counted(
        service, lambda: raw.send_multipart([b"", peer_frame(service, sender=sender, boot=old)]), "stale"
    )


def test_answers_that_together_exceed_a_frame_arrive_in_several(obedient):
    large = limits.MESSAGE_BYTES_MAX - 100
    clients = [obedient.client(timeout=20) for _ in range(4)]
    obedient.pause("n1")  # so that all four requests are answered in one step
    programs = [client._program for client in clients]
    from testbed.client import PlainRequest

    for program in programs:
        program.awaited.add(1000)
        obedient.world.tell_client(program, (1000, PlainRequest({"large": large}, "n1"), 20.0))
    obedient.resume("n1")
    obedient.wait_for(lambda: all(1000 in program.outcomes for program in programs), "four large answers")
    assert [len(program.outcomes[1000].value) for program in programs] == [large] * 4


def test_messages_sent_back_in_one_step_arrive_although_they_exceed_a_frame(obedient):
    client = obedient.client()
    client.request({"tell": "n2", "message": {"flood": 12, "size": 2**20}}, to="n1")

    def all_arrived():
        return sum(heard[1] == "Note" for heard in client.request("what", to="n1")["heard"]) == 12

    obedient.wait_for(all_arrived, "twelve messages of one mebibyte")
    assert counter(obedient, "n1", "garbage") == 0


def test_more_than_fits_the_outbox_of_a_stopped_peer_is_dropped_and_counted(obedient):
    client = obedient.client(timeout=20)
    obedient.pause("n3")
    for _ in range(3):
        client.request({"bulk": "n3", "count": 40, "size": 2**20}, to="n1")
    assert counter(obedient, "n1", "overflowed") > 0
    obedient.resume("n3")
    settled(obedient)


def test_a_restart_keeps_the_ports(service):
    before = {node: ports(service, node) for node in service.nodes}
    service.kill("n2")
    service.start_node("n2")
    assert {node: ports(service, node) for node in service.nodes} == before
    service.client().kv.put("still", "serving")
