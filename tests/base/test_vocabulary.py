"""Durations, seeded streams, errors: small things on which everything else relies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.base.durations import format_duration, parse_duration
from testbed.base.errors import CorruptStorage, Deadlock, LeaseLost, OperationError, Refused, Unknown, UsageError
from testbed.base.rand import Streams


@pytest.mark.parametrize(("text", "seconds"), [("1500ms", 1.5), ("5s", 5.0), ("2m", 120.0), ("0.5s", 0.5), ("0s", 0.0)])
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 s", "-1s", "1h", "s", "1.s", "1e3s", "5s\n", 5, 5.0, None, True, ["5s"]])
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**9))
def test_a_formatted_duration_reads_back_to_the_millisecond(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


def test_a_stream_is_the_same_for_ever_and_none_of_the_others() -> None:
    assert Streams(7).stream("net").random() == Streams(7).stream("net").random()
    drawn = {
        Streams(seed).stream(*names).random() for seed in (7, 8) for names in (("net",), ("net", 1), ("net", 2), ())
    }
    assert len(drawn) == 8


def test_a_stream_does_not_depend_on_the_process() -> None:
    """The value is written down: a replay on another machine must draw it again."""
    assert Streams(7).stream("net").getrandbits(32) == NET_OF_7


NET_OF_7 = 1764164732


def test_errors_are_told_apart() -> None:
    assert issubclass(Deadlock, Refused)
    assert issubclass(LeaseLost, Refused)
    assert issubclass(Refused, OperationError)
    assert issubclass(Unknown, OperationError)
    assert not issubclass(Unknown, Refused)
    assert issubclass(CorruptStorage, UsageError)


def test_a_usage_error_is_one_line_that_names_the_place() -> None:
    assert str(UsageError("a.toml", "cluster.nodes", "must be\npositive")) == "a.toml: cluster.nodes: must be positive"
    assert str(UsageError("a.toml", "", "is empty")) == "a.toml: is empty"
