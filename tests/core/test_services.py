"""The key-value store and the dispatch of commands: same calls, same state, same bytes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.core import requests
from testbed.core.services.commands import PRECONDITION_FAILED, Cas, Command, Delete, Get, Put, value
from testbed.core.services.machine import Services

CODEC = Codec(requests.REPLIES)
REJECTED = requests.Rejected(PRECONDITION_FAILED)
STORE_FULL = requests.Rejected("full: the store holds as much as it may")
DONE = requests.Done(Raw(pack(None)))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def do(services: Services, command: Command) -> Any:
    return CODEC.decode(services.apply(pack(command), 1, 0.0) or b"")


def get(services: Services, key: str) -> Any:
    return unpack(CODEC.decode(services.query(pack(Get(key)))).result)


def test_a_put_is_read_back_and_a_delete_forgets_it() -> None:
    services = Services()
    assert get(services, "x") is None
    assert do(services, Put("x", value({"b": [1, 2.5, None], "a": "ü"}))) == DONE
    assert get(services, "x") == {"a": "ü", "b": [1, 2.5, None]}
    assert do(services, Delete("x")) == DONE
    assert get(services, "x") is None
    assert do(services, Delete("x")) == DONE


def test_a_null_and_a_missing_key_are_the_same() -> None:
    services = Services()
    assert do(services, Cas("x", value(None), value(1))) == DONE
    assert do(services, Put("x", value(None))) == DONE
    assert services.keyvalue.values == {}
    assert do(services, Cas("x", value(1), value(2))) == REJECTED


def test_a_cas_takes_hold_only_of_the_expected_value() -> None:
    services = Services()
    do(services, Put("x", value(1)))
    assert do(services, Cas("x", value(2), value(3))) == REJECTED
    assert get(services, "x") == 1
    assert do(services, Cas("x", value(1), value(2))) == DONE
    assert get(services, "x") == 2


@pytest.mark.parametrize("other", [1.0, True, "1", [1], None])
def test_values_of_other_types_are_not_equal(other: Any) -> None:
    services = Services()
    do(services, Put("x", value(1)))
    assert do(services, Cas("x", value(other), value(2))) == REJECTED


def test_the_order_in_which_an_object_was_filled_does_not_matter() -> None:
    services = Services()
    do(services, Put("x", value({"a": 1, "b": {"d": 1, "c": 2}})))
    assert do(services, Cas("x", value({"b": {"c": 2, "d": 1}, "a": 1}), value(2))) == DONE


def test_a_full_store_rejects_what_would_make_it_grow_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATE_BYTES_MAX", 10)
    services = Services()
    assert do(services, Put("a", value("1234567"))) == DONE  # 1 + 8 bytes
    assert do(services, Put("b", value(1))) == STORE_FULL
    assert do(services, Cas("a", value("1234567"), value("123456789"))) == STORE_FULL
    assert do(services, Put("a", value("7654321"))) == DONE
    assert do(services, Put("a", value(1))) == DONE
    assert do(services, Put("b", value(1))) == DONE
    assert do(services, Delete("a")) == DONE
    assert services.keyvalue.bytes == 2


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x93\xa3Put\xa1\xff\xc0", b"\x92\xa5Steal\xa1x", b"\x91" * 50_000]
)
def test_what_cannot_be_read_is_rejected(data: bytes) -> None:
    """Thesis checklist 20, 21: the commands of a log are applied at every start; none may raise."""
    services = Services()
    assert CODEC.decode(services.apply(data, 1, 0.0)) == requests.Rejected("unfit: not a command")
    assert CODEC.decode(services.query(data)) == requests.Rejected("unfit: not a query")


def test_a_query_is_no_command_nor_the_reverse() -> None:
    services = Services()
    assert CODEC.decode(services.apply(pack(Get("x")), 1, 0.0)) == requests.Rejected("unfit: not a command")
    assert CODEC.decode(services.query(pack(Put("x", value(1))))) == requests.Rejected("unfit: not a query")


def test_a_value_that_json_cannot_hold_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError):
        value(object())


keys = st.sampled_from(["a", "b", "c"])
commands = st.one_of(
    st.builds(Put, keys, json_values.map(value)),
    st.builds(Delete, keys),
    st.builds(Cas, keys, st.sampled_from([None, 1, "x"]).map(value), json_values.map(value)),
)


@settings(max_examples=100, deadline=None)
@given(before=st.lists(commands, max_size=15), after=st.lists(commands, max_size=15))
def test_a_restored_copy_goes_on_as_the_original_does(before: list[Command], after: list[Command]) -> None:
    original, copy = Services(), Services()
    for command in before:
        do(original, command)
    copy.restore(original.snapshot())
    assert (
        copy.keyvalue.bytes
        == original.keyvalue.bytes
        == sum(len(key) + len(held) for key, held in original.keyvalue.values.items())
    )
    assert [do(copy, command) for command in after] == [do(original, command) for command in after]
    assert copy.snapshot() == original.snapshot()
