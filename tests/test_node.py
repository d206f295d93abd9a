"""The Node API by itself: what a node may ask for, and what becomes of it in the outbox."""

from typing import Any

import msgspec
import pytest

from testbed.base.codec import Codec
from testbed.base.rand import Streams
from testbed.node import Log, LogLine, Node, Request, build_node


class Vote(msgspec.Struct, frozen=True):
    term: int


class Plain(Node):
    messages = (Vote,)


def node(kind: type[Node] = Plain, stored: dict[str, bytes] | None = None) -> Node:
    return build_node(
        kind, "n1", ("n2", "n3"), {"x": 1}, Streams(1).stream(), {} if stored is None else stored, now=7.0
    )


CODEC = Codec((Vote,))


def test_a_node_can_act_from_its_init_on_without_super() -> None:
    class Early(Node):
        def __init__(self) -> None:
            self.save("k", self.id)
            self.set_timer("t", 1.0)
            self.log.info("born", peers=self.peers)

    found = node(Early)
    assert (found.load("k"), found._outbox.timers, found.options) == ("n1", {"t": 8.0}, {"x": 1})
    assert found.log.lines == [LogLine("INFO", "born", {"peers": ("n2", "n3")})]


def test_sends_are_encoded_when_they_are_asked_for() -> None:
    found = node()
    body = {"a": [1]}
    found.send("n2", body)
    body["a"].append(2)
    found.send("n3", Vote(3))
    found.send("n3", "soon", early=True)
    found.publish(None)
    out = found._outbox
    assert [(to, CODEC.decode(data)) for to, data in out.sends] == [("n2", {"a": [1]}), ("n3", Vote(3))]
    assert [(to, CODEC.decode(data)) for to, data in out.early] == [("n3", "soon")]
    assert out.published == [CODEC.encode(None)]


@pytest.mark.parametrize("to", ["n1", "n9", ""])
def test_sending_to_nobodys_peer_is_an_error(to: str) -> None:
    with pytest.raises(ValueError, match="no peer of n1"):
        node().send(to, 1)


def test_what_json_cannot_hold_is_an_error_where_it_is_sent() -> None:
    found = node()
    with pytest.raises(TypeError):
        found.send("n2", object())
    with pytest.raises(TypeError):
        found.publish(object())
    with pytest.raises(TypeError):
        found.save("k", object())
    assert (found._outbox.sends, found._outbox.published, found._outbox.saves) == ([], [], {})


def test_too_large_a_message_is_an_error_where_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.base.limits.MESSAGE_BYTES_MAX", 10)
    with pytest.raises(ValueError, match="exceeds 10"):
        node().send("n2", "x" * 20)


def test_answering_twice_does_nothing() -> None:
    found, request = node(), Request("client", 4)
    found.reply(request, {"a": 1})
    found.reply(request, 2)
    found.refuse(request, "why")
    assert found._outbox.replies == [(request, True, CODEC.encode({"a": 1}))]


def test_a_refusal_carries_its_reason() -> None:
    found, request = node(), Request("client", 4)
    found.refuse(request, "why")
    found.reply(request, 1)
    assert found._outbox.replies == [(request, False, CODEC.encode("why"))]


def test_an_answer_that_cannot_be_encoded_leaves_the_request_open() -> None:
    found, request = node(), Request("client", 4)
    with pytest.raises(TypeError):
        found.reply(request, object())
    found.refuse(request, "sorry")
    assert [(ok, CODEC.decode(data)) for _, ok, data in found._outbox.replies] == [(False, "sorry")]


def test_a_node_without_on_request_refuses() -> None:
    found, request = node(), Request("client", 4)
    found.on_request(request, {})
    assert found._outbox.replies == [(request, False, CODEC.encode("Plain answers no requests"))]


def test_the_last_word_on_a_timer_counts() -> None:
    found = node()
    found.set_timer("a", 1.0)
    found.set_timer("a", 2.0)
    found.set_timer("b", 1.0)
    found.cancel_timer("b")
    found.set_timer("c", -5.0)
    assert found._outbox.timers == {"a": 9.0, "b": None, "c": 7.0}


def test_saved_values_are_copies() -> None:
    found = node()
    kept: dict[str, Any] = {"a": [1]}
    found.save("k", kept)
    kept["a"].append(2)
    loaded = found.load("k")
    loaded["a"].append(3)
    assert found.load("k") == {"a": [1]}


def test_loading_falls_back_to_the_default_only_for_what_is_missing() -> None:
    found = node()
    found.save("k", None)
    assert (found.load("k", 5), found.load("other", 5), found.load("other")) == (None, 5, None)


def test_deleting_forgets_what_was_saved() -> None:
    stored: dict[str, bytes] = {}
    found = node(stored=stored)
    found.save("a", 1)
    found.delete("a")
    found.delete("never")
    assert (found.load("a"), found._outbox.saves) == (None, {"a": None})


def test_items_come_in_key_order_and_by_prefix() -> None:
    found = node()
    for key in ("b/2", "a", "b/10", "b/1", "c", "b"):
        found.save(key, key)
    found.delete("b/2")
    assert list(found.items("b/")) == [("b/1", "b/1"), ("b/10", "b/10")]
    assert [key for key, _ in found.items()] == ["a", "b", "b/1", "b/10", "c"]


def test_items_may_be_deleted_on_the_way() -> None:
    found = node()
    for number in range(5):
        found.save(f"k{number}", number)
    for key, number in found.items("k"):
        if number % 2:
            found.delete(key)
    assert [number for _, number in found.items()] == [0, 2, 4]


def test_values_fill_the_braces_of_a_log_line_and_text_alone_keeps_them() -> None:
    log = Log()
    log.info("took {} ms", 7, what="put")
    log.warning("odd: {}")
    assert log.lines == [LogLine("INFO", "took 7 ms", {"what": "put"}), LogLine("WARNING", "odd: {}", {})]
