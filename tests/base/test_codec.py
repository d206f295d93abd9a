"""Bytes and back: what was sent, or garbage - never anything else."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import VERSION, Codec, FrameCodec, Garbage, PeerFrame, pack, pack_canonical, unpack

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Vote(msgspec.Struct, frozen=True):
    term: int


class Beat(msgspec.Struct, frozen=True):
    number: int


class Undeclared(msgspec.Struct, frozen=True):
    number: int


CODEC = Codec((Vote, Beat), internal=())
FRAMES = FrameCodec(PeerFrame, "c1")


@given(json_values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value
    assert unpack(pack(value)) == value


@given(st.dictionaries(st.text(max_size=3), json_values, max_size=5))
def test_equal_objects_have_equal_canonical_bytes(value: dict[str, Any]) -> None:
    assert pack_canonical(dict(reversed(value.items()))) == pack_canonical(value)


@given(st.binary(max_size=60))
def test_any_bytes_decode_to_json_or_a_declared_struct_or_are_garbage(data: bytes) -> None:
    try:
        FRAMES.decode(data)
    except Garbage:
        pass
    try:
        CODEC.decode(data)
    except Garbage:
        return


def test_structs_are_told_apart_by_name() -> None:
    assert CODEC.decode(CODEC.encode(Vote(1))) == Vote(1)
    assert CODEC.decode(CODEC.encode(Beat(1))) == Beat(1)


def test_a_users_struct_may_be_called_as_an_internal_one() -> None:
    ours = type("Beat", (), {})  # only the name matters
    assert ours.__name__ == Beat.__name__
    other = msgspec.defstruct("Beat", [("text", str)])
    both = Codec((other,), internal=(Beat,))
    assert both.decode(both.encode(Beat(1))) == Beat(1)
    assert both.decode(both.encode(other("x"))) == other("x")


def test_an_undeclared_struct_is_garbage_or_plain() -> None:
    data = CODEC.encode(Vote(1))
    with pytest.raises(Garbage, match="unknown message type 'Vote'"):
        Codec().decode(data)
    assert Codec().decode_leniently(data) == {"term": 1}


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", pack([1]), pack(("Vote", {"term": "x"})), pack(("Vote", {})), pack((1, 2))]
)
def test_what_does_not_fit_is_garbage(data: bytes) -> None:
    with pytest.raises(Garbage):
        CODEC.decode(data)


def test_too_large_a_message_is_refused_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 20)
    assert CODEC.encode("x" * 10)
    with pytest.raises(ValueError, match="exceeds 20"):
        CODEC.encode("x" * 30)


def frame(version: int = VERSION, cluster: str = "c1") -> bytes:
    return pack(PeerFrame(version, cluster, "n1", "n2", 1, 1, [b"x"]))


def test_frames_of_another_version_or_cluster_are_garbage() -> None:
    assert FRAMES.decode(frame()).messages == [b"x"]
    for data, reason in ((frame(version=VERSION + 1), "version"), (frame(cluster="c2"), "another cluster")):
        with pytest.raises(Garbage, match=reason):
            FRAMES.decode(data)


def test_too_large_a_frame_is_dropped_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FRAME_BYTES_MAX", 10)
    with pytest.raises(Garbage, match="exceeds 10"):
        FRAMES.decode(frame())


@pytest.mark.parametrize(
    "value", [{1: 2}, {"a": {1, 2}}, object(), datetime.now(UTC), [Undeclared(1)], b"x", float("nan"), [float("inf")]]
)
def test_what_json_cannot_hold_is_not_sent(value: object) -> None:
    with pytest.raises(TypeError, match="JSON cannot hold"):
        Codec().encode(value)


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 1, tzinfo=UTC), {1: 2}, msgspec.msgpack.Ext(5, b"x"), b"x", float("nan")],
    ids=["time", "int key", "ext", "bytes", "nan"],
)
def test_what_json_cannot_hold_is_not_received(value: object) -> None:
    with pytest.raises(Garbage):
        Codec().decode(msgspec.msgpack.encode(("", value)))
