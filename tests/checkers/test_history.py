"""Reading, writing and pairing of histories; and that a damaged one is refused rather than judged."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.formats import read_history
from chaos.history import Event, IllFormed, Recorder, operations
from testbed.base.errors import UsageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def line(index: int, time: int, process: Any, type: str, f: str = "read", **rest: Any) -> dict[str, Any]:
    return {"index": index, "time": time, "process": process, "type": type, "f": f, "value": None, **rest}


def written(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


@given(value=JSON, key=JSON, error=st.none() | st.text())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any, key: Any, error: str | None
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    recorder = Recorder()
    recorder.add(5, 0, "invoke", "write", key, value)
    recorder.add(7, 0, "fail", "write", key, value, error)
    recorder.add(6, "nemesis", "info", "kill", None, ["n1"])
    recorder.write(path)
    assert read_history(path) == recorder.events()
    assert [event.type for event in read_history(path)] == ["invoke", "info", "fail"]


def test_a_line_has_the_contract_s_shape(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.add(1200, 3, "invoke", "cas", "x", [1, 2])
    recorder.add(1300, 3, "fail", "cas", "x", None, "precondition-failed")
    recorder.add(1400, 3, "invoke", "generate")
    recorder.write(tmp_path / "h")
    head = {"f": "cas", "key": "x"}
    assert [json.loads(text) for text in (tmp_path / "h").read_text().splitlines()] == [
        {"index": 0, "time": 1200, "process": 3, "type": "invoke", **head, "value": [1, 2]},
        {"index": 1, "time": 1300, "process": 3, "type": "fail", **head, "value": None, "error": "precondition-failed"},
        {"index": 2, "time": 1400, "process": 3, "type": "invoke", "f": "generate", "value": None},
    ]


def test_blank_lines_at_the_end_are_allowed(tmp_path: Path) -> None:
    path = written(tmp_path / "h", line(0, 0, 0, "invoke"), "", "  ")
    assert len(read_history(path)) == 1


def test_integers_of_any_size_survive(tmp_path: Path) -> None:
    big = 2**200 + 1
    path = written(tmp_path / "h", line(0, 0, 0, "invoke", "write", value=big))
    assert read_history(path)[0].value == big


WHOLE = [line(0, 5, 0, "invoke", key="x"), line(1, 6, 1, "invoke"), line(2, 7, 0, "ok", key="x"), line(3, 8, 1, "info")]


@pytest.mark.parametrize(
    ("position", "change", "reason"),
    [
        (2, {"type": "done"}, "Invalid enum value"),
        (2, {"process": True}, "Expected"),
        (2, {"process": "somebody"}, "neither an integer nor"),
        (2, {"time": "7"}, "Expected `int`"),
        (2, {"time": 4}, "time goes backwards, from 6 to 4"),
        (2, {"f": "write"}, "invoked 'read' but completes 'write'"),
        (2, {"key": "y"}, "invoked 'read' on key 'x' but completes it on 'y'"),
        (2, {"key": None}, "invoked 'read' on key 'x' but completes it on None"),
        (2, {"process": 7}, "process 7 completes 'read', which it never invoked"),
        (2, {"type": "invoke"}, "process 0 invokes 'read' while its 'read' is still open"),
        (2, {"index": 3}, "index is 3 where 2 is due"),
        (0, {"index": 1}, "index is 1 where 0 is due"),
    ],
)
def test_an_ill_formed_event_is_refused_by_its_line(
    tmp_path: Path, position: int, change: dict[str, Any], reason: str
) -> None:
    lines = [dict(one) for one in WHOLE]
    lines[position].update(change)
    with pytest.raises(UsageError, match=reason) as raised:
        read_history(written(tmp_path / "h", *lines))
    assert (raised.value.where, raised.value.key) == (str(tmp_path / "h"), f"line {position + 1}")


@pytest.mark.parametrize("field", ["index", "time", "process", "type", "f", "value"])
def test_a_missing_field_is_refused(tmp_path: Path, field: str) -> None:
    lines = [dict(one) for one in WHOLE]
    del lines[1][field]
    with pytest.raises(UsageError, match=f"line 2: is no event: .*`{field}`"):
        read_history(written(tmp_path / "h", *lines))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_line_is_noticed(tmp_path: Path, missing: int) -> None:
    with pytest.raises(UsageError, match="lines are missing or out of order"):
        read_history(written(tmp_path / "h", *(one for one in WHOLE if one["index"] != missing)))


@pytest.mark.parametrize("text", ["{", "[{}]", "nonsense", "NaN", '{"a":' * 100_000, '{"index": 0, "time": 0, "proc'])
def test_a_line_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="line 1: is no event"):
        read_history(written(tmp_path / "h", text))


def test_a_file_cut_off_anywhere_within_a_line_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "h", *WHOLE).read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start + 1, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(UsageError, match="line 4"):
            read_history(tmp_path / "cut")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "h").write_bytes(content)
    with pytest.raises(UsageError, match="is empty"):
        read_history(tmp_path / "h")


def test_a_blank_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2: is blank, and more lines follow"):
        read_history(written(tmp_path / "h", WHOLE[0], "", WHOLE[1]))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h").write_bytes(b'{"index":0,"time":0,"process":0,"type":"invoke","f":"\xff","value":null}\n')
    with pytest.raises(UsageError, match="line 1"):
        read_history(tmp_path / "h")


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_history(tmp_path / name)


def test_an_invocation_after_a_completion_of_the_same_stamp_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "h", line(0, 5, 0, "invoke"), line(1, 5, 0, "ok"), line(2, 5, 0, "invoke"))
    assert [event.type for event in read_history(path)] == ["invoke", "ok", "invoke"]


def recorded(*added: tuple[int, int, str]) -> list[tuple[int, int, str]]:
    recorder = Recorder()
    for time, process, kind in added:
        recorder.add(time, process, kind, "read")  # type: ignore[arg-type]
    events = recorder.events()
    assert [event.index for event in events] == list(range(len(added)))
    operations(events)  # they pair up
    return [(event.time, event.process, event.type) for event in events]  # type: ignore[misc]


def test_events_are_ordered_by_time_across_clients() -> None:
    assert recorded((1, 0, "invoke"), (9, 0, "ok"), (2, 1, "invoke"), (3, 1, "ok")) == [
        (1, 0, "invoke"),
        (2, 1, "invoke"),
        (3, 1, "ok"),
        (9, 0, "ok"),
    ]


def test_of_equal_stamps_invocations_come_first() -> None:
    assert recorded((1, 0, "invoke"), (5, 0, "ok"), (5, 1, "invoke"), (6, 1, "ok")) == [
        (1, 0, "invoke"),
        (5, 1, "invoke"),
        (5, 0, "ok"),
        (6, 1, "ok"),
    ]


def test_a_process_that_goes_on_within_one_instant_keeps_its_own_order() -> None:
    assert recorded((5, 0, "invoke"), (5, 0, "ok"), (5, 0, "invoke"), (5, 0, "ok"), (4, 1, "invoke"), (5, 1, "ok")) == [
        (4, 1, "invoke"),
        (5, 0, "invoke"),
        (5, 0, "ok"),
        (5, 1, "ok"),
        (5, 0, "invoke"),
        (5, 0, "ok"),
    ]


def event(position: int, process: int | str, type: str, f: str = "read", **rest: Any) -> Event:
    return Event(index=position, time=position, process=process, type=type, f=f, **{"value": None, **rest})  # type: ignore[arg-type]


def test_operations_pair_invocations_with_completions() -> None:
    events = [
        event(0, 0, "invoke", "cas", key="x", value=[1, 2]),
        event(1, "nemesis", "info", "kill"),
        event(2, 1, "invoke", "read", key="y"),
        event(3, 0, "fail", "cas", key="x", error="precondition-failed"),
        event(4, 2, "invoke", "write", value=5),
        event(5, 1, "ok", "read", key="y", value=7),
        event(6, 2, "info", "write", error="timeout"),
        event(7, 2, "invoke", "read"),
    ]
    assert [
        (one.process, one.f, one.key, one.argument, one.result, one.invoked, one.completed, one.outcome, one.error)
        for one in operations(events)
    ] == [
        (0, "cas", "x", [1, 2], None, 0, 3, "fail", "precondition-failed"),
        (1, "read", "y", None, 7, 2, 5, "ok", None),
        (2, "write", None, 5, None, 4, None, "info", "timeout"),
        (2, "read", None, None, None, 7, None, "info", None),
    ]


def test_events_that_do_not_pair_up_are_refused_in_memory_too() -> None:
    with pytest.raises(IllFormed, match="event 1: process 1 completes 'read', which it never invoked"):
        operations([event(0, 0, "invoke"), event(1, 1, "ok")])


def test_a_key_that_is_true_is_not_the_key_1() -> None:
    with pytest.raises(IllFormed, match="on key 1 but completes it on True"):
        operations([event(0, 0, "invoke", key=1), event(1, 0, "ok", key=True)])
