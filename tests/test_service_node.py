"""The built-in node, step by step, without a world."""

from testbed.base.codec import Codec, Raw, pack
from testbed.base.limits import COMMAND_BYTES_MAX, NESTING_MAX
from testbed.base.rand import Streams
from testbed.core import requests
from testbed.core.services.commands import Put, value
from testbed.node import Request, build_node
from testbed.service import ServiceNode

CODEC = Codec(ServiceNode.messages)


def service() -> ServiceNode:
    node = build_node(ServiceNode, "n1", ("n2", "n3"), {}, Streams(1).stream(), {}, 0.0)
    assert isinstance(node, ServiceNode)
    node.on_start()
    return node


def nested(depth: int) -> object:
    held: object = 1
    for _ in range(depth):
        held = [held]
    return held


def test_a_peers_message_that_is_not_rafts_is_dropped_and_logged() -> None:
    node = service()
    for message in ({"hello": 1}, requests.OpenSession(), None):
        node.on_message("n2", message)
    assert [line.text for line in node.log.lines] == ["drops a message that is not Raft's"] * 3


def test_a_command_that_nests_too_deep_is_refused_before_it_gets_into_the_log() -> None:
    """Decoders give up at a depth that depends on the caller's stack: replicas could come to different answers."""
    node = service()
    for depth, accepted in ((NESTING_MAX - 5, True), (NESTING_MAX + 5, False), (100_000, False)):
        body = b"\x91" * depth + b"\x01"
        request = Request(b"", depth)
        command = Raw(pack(Put("x", Raw(body))))
        node.on_request(request, requests.Submit(1, 1, command))
        (_, ok, answer) = node._outbox.replies[-1]
        assert ok == accepted
        assert isinstance(CODEC.decode(answer), requests.NotLeader if accepted else str)


def test_text_that_looks_like_containers_is_no_nesting() -> None:
    node = service()
    request = Request(b"", 1)
    node.on_request(request, requests.Submit(1, 1, Raw(pack(Put("x", value("\u0080\u0090é" * 1000))))))
    assert isinstance(CODEC.decode(node._outbox.replies[-1][2]), requests.NotLeader)


def test_a_command_too_large_for_append_entries_is_refused_before_it_gets_into_the_log() -> None:
    node = service()
    for size, accepted in ((COMMAND_BYTES_MAX - 100, True), (COMMAND_BYTES_MAX, False)):
        request = Request(b"", size)
        node.on_request(request, requests.Submit(1, 1, Raw(pack(Put("x", value("v" * size))))))
        assert node._outbox.replies[-1][1] == accepted
