"""Histories written to files and read back, and `testbed convert`."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.cli import call
from chaos.formats import read_history, write_events
from chaos.history import Event
from testbed.base.errors import UsageError

NAMES = ["h.jsonl", "h.edn", "h.jsonl.gz", "h.edn.gz"]

WORDS = st.text(max_size=4) | st.sampled_from([":a", "::a", "#a", "##a", "nil", "[:a 1]", "precondition-failed", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=5,
)
STEPS = st.lists(
    st.tuples(st.integers(-1, 2), st.sampled_from(["ok", "fail", "info"]), WORDS, VALUES, VALUES, st.none() | WORDS),
    min_size=1,
    max_size=8,
)


def steps_to_events(steps: list[tuple[int, Any, str, Any, Any, str | None]], keyed: bool) -> list[Event]:
    """Process 2 is the nemesis; the others invoke and complete in turn."""
    events: list[Event] = []
    opened: dict[int, tuple[str, Any]] = {}
    for index, (process, kind, f, key, value, error) in enumerate(steps):
        head: dict[str, Any] = {"index": index, "time": 5 * index - 7, "value": value, "error": error}
        if process == 2:
            events.append(Event(process="nemesis", type="info", f=f, **head))
        elif process in opened:
            of, its = opened.pop(process)
            events.append(Event(process=process, type=kind, f=of, key=its, **head))
        else:
            opened[process] = (f, key if keyed else None)
            events.append(Event(process=process, type="invoke", f=f, key=key if keyed else None, **head))
    return events


def exactly(events: list[Event]) -> list[bytes]:
    """Python's True == 1 does not count."""
    return [msgspec.json.encode(event) for event in events]


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, keyed=st.booleans(), name=st.sampled_from(NAMES))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], keyed: bool, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    events = steps_to_events(steps, keyed)
    assert write_events(events, path, keyed) == len(events)
    assert exactly(read_history(path, keyed)) == exactly(events)


def event(index: int, kind: Any, f: str, process: int | str = 0, **rest: Any) -> Event:
    return Event(index=index, time=10 * index, process=process, type=kind, f=f, **{"value": None, **rest})


KEYED = [
    event(0, "invoke", "cas", key="x", value=[0, ":a"]),
    event(1, "info", "kill", "nemesis", value=["n1"]),
    event(2, "invoke", "read", 1, key=7),
    event(3, "fail", "cas", key="x", value=[0, ":a"], error="precondition-failed"),
    event(4, "ok", "read", 1, key=7, value={"a": 1.5}),
    event(5, "invoke", "write some", key=None, value=True),
    event(6, "info", "write some", key=None, error="timed out"),
]
KEYED_EDN = """\
{:type :invoke, :f :cas, :value ["x" [0 :a]], :process 0, :time 0, :index 0}
{:type :info, :f :kill, :value ["n1"], :process :nemesis, :time 10, :index 1}
{:type :invoke, :f :read, :value [7 nil], :process 1, :time 20, :index 2}
{:type :fail, :f :cas, :value ["x" [0 :a]], :process 0, :time 30, :index 3, :error :precondition-failed}
{:type :ok, :f :read, :value [7 {"a" 1.5}], :process 1, :time 40, :index 4}
{:type :invoke, :f "write some", :value [nil true], :process 0, :time 50, :index 5}
{:type :info, :f "write some", :value [nil nil], :process 0, :time 60, :index 6, :error "timed out"}
"""
PLAIN = [event(0, "invoke", "read"), event(1, "ok", "read", value=[1, 2])]


def test_edn_looks_like_jepsen_s(tmp_path: Path) -> None:
    write_events(KEYED, tmp_path / "h.edn")
    assert (tmp_path / "h.edn").read_text() == KEYED_EDN
    assert read_history(tmp_path / "h.edn") == KEYED


def test_equal_histories_make_equal_files_in_gzip_too(tmp_path: Path) -> None:
    write_events(KEYED, tmp_path / "a.edn.gz")
    write_events(KEYED, tmp_path / "b.edn.gz")
    packed = (tmp_path / "a.edn.gz").read_bytes()
    assert packed == (tmp_path / "b.edn.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # gzip's time stamp
    assert gzip.decompress(packed).decode() == KEYED_EDN


def test_json_lines_are_numbered_without_gaps(tmp_path: Path) -> None:
    sparse = [msgspec.structs.replace(one, index=3 * one.index + 5) for one in PLAIN]
    write_events(sparse, tmp_path / "h.jsonl")
    assert read_history(tmp_path / "h.jsonl") == PLAIN
    write_events(sparse, tmp_path / "h.edn")
    assert read_history(tmp_path / "h.edn") == sparse


def test_edn_refuses_a_key_after_events_without_one_unless_it_is_told(tmp_path: Path) -> None:
    mixed = [*PLAIN, event(2, "invoke", "read", key="x")]
    with pytest.raises(UsageError, match='event 2: has the key "x", and earlier ones have none; pass --keyed'):
        write_events(mixed, tmp_path / "h.edn")
    write_events(mixed, tmp_path / "h.edn", keyed=True)
    assert read_history(tmp_path / "h.edn") == mixed


@pytest.mark.parametrize("name", ["h", "h.json", "h.gz", "h.edn.zip", "edn"])
def test_a_name_that_tells_no_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="ends in none of"):
        write_events(KEYED, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/h.edn", "file/h.edn", "directory.edn"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory.edn").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_events(KEYED, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory.edn", "file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError("h", "line 3", "is damaged")])
def test_after_an_error_everything_is_as_it_was(tmp_path: Path, error: Any) -> None:
    def broken() -> Iterator[Event]:
        yield from KEYED
        raise error

    (tmp_path / "h.edn").write_text("before")
    with pytest.raises(error if isinstance(error, type) else UsageError):
        write_events(broken(), tmp_path / "h.edn")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("h.edn", "before")]


# --- testbed convert ---


@pytest.fixture
def source(tmp_path: Path) -> str:
    write_events(KEYED, tmp_path / "source.jsonl")
    return str(tmp_path / "source.jsonl")


def test_a_history_survives_the_way_to_edn_and_back(tmp_path: Path, source: str, capsys: Any) -> None:
    there, back = str(tmp_path / "there.edn.gz"), str(tmp_path / "back.jsonl")
    assert call(["convert", source, there]) == 0
    assert capsys.readouterr().out == f"7 events in {there}\n"
    assert call(["convert", there, back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"events": 7, "out": back}
    assert Path(back).read_bytes() == Path(source).read_bytes()


def test_keys_are_split_as_the_caller_says(tmp_path: Path) -> None:
    (tmp_path / "h.edn").write_text("{:type :invoke, :f :write, :value [1 2], :process 0}\n")
    out = str(tmp_path / "h.jsonl")
    assert call(["convert", str(tmp_path / "h.edn"), out]) == 254
    assert not Path(out).exists()
    assert call(["convert", str(tmp_path / "h.edn"), out, "--keyed"]) == 0
    assert [(one.key, one.value) for one in read_history(out)] == [(1, 2)]
    assert call(["convert", str(tmp_path / "h.edn"), out, "--no-keyed", "--force"]) == 0
    assert [(one.key, one.value) for one in read_history(out)] == [(None, [1, 2])]


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path, source: str, capsys: Any) -> None:
    before = Path(source).read_bytes()
    assert call(["convert", source, source]) == 254
    assert capsys.readouterr().err == f"testbed: {source}: exists; --force replaces it\n"
    assert call(["convert", source, source, "--force"]) == 0
    assert Path(source).read_bytes() == before


def test_a_damaged_history_leaves_nothing_behind(tmp_path: Path, source: str, capsys: Any) -> None:
    with open(source, "a") as file:
        file.write("{")
    assert call(["convert", source, str(tmp_path / "out.edn")]) == 254
    assert capsys.readouterr().err.startswith(f"testbed: {source}: line 8: is no event")
    assert [path.name for path in tmp_path.iterdir()] == ["source.jsonl"]
