"""Histories from files: which format they are in, what events they hold, and that a damaged one is refused."""

import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.formats import read_events, read_history, write_events
from chaos.history import Event, operations
from testbed.base.errors import UsageError

LINE = '{"index":0,"time":0,"process":0,"type":"invoke","f":"read","value":null}\n'
MAP = "{:type :invoke, :f :read, :value nil, :process 0, :time 0, :index 0}\n"
READ = Event(index=0, time=0, process=0, type="invoke", f="read", value=None)


def history(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def edn(path: Path, *maps: str) -> Path:
    return history(path.with_suffix(".edn"), "".join(f"{{{one}}}\n" for one in maps))


def refusal(path: Path, keyed: bool | None = None) -> tuple[str, str]:
    with pytest.raises(UsageError) as raised:
        read_history(path, keyed)
    assert raised.value.where == str(path)
    return raised.value.key, raised.value.reason


# --- which format it is ---


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        MAP,
        f"[{MAP}]",
        f"({MAP})",
        f"#jepsen.history.Op{MAP}",
        f"[#jepsen.history.Op {MAP}]",
        f"; a comment {{\n\n  {MAP}",
        "{ ,:f :read\n :process 0 :value nil :index 0,\n ,:time 0 :type :invoke}",
        "{:type :invoke, :f :read, :process 0}",
        "{:type :invoke, :f :read, :process 0, :index nil, :time nil, :node [n1 #{1}], :debug #foo (1/2)}",
        '{:type "invoke", :f "read", :process 0}',
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_the_format_is_known_by_the_content(tmp_path: Path, text: str, zipped: bool) -> None:
    (tmp_path / "h").write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    assert read_history(tmp_path / "h") == [READ]


@pytest.mark.parametrize("text", [LINE, MAP, f"\n; a comment\n{MAP}"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, text: str, zipped: bool) -> None:
    data = text.encode("utf-8-sig")
    assert data.startswith(b"\xef\xbb\xbf")
    (tmp_path / "h").write_bytes(gzip.compress(data) if zipped else data)
    assert read_history(tmp_path / "h") == [READ]


def test_a_byte_order_mark_is_skipped_only_at_the_start_and_is_no_event(tmp_path: Path) -> None:
    mark = "\ufeff"
    assert refusal(history(tmp_path / "h", mark)) == ("history", "is empty: it holds no event")
    assert refusal(history(tmp_path / "h", mark + mark + LINE))[0] == "line 1"
    second = LINE.replace('"index":0', '"index":1').replace('"process":0', '"process":1')
    assert refusal(history(tmp_path / "h", LINE + mark + second))[0] == "line 2"
    assert refusal(history(tmp_path / "h.edn", f"; a comment\n{mark}{MAP}"))[0] == "line 2"


@pytest.mark.parametrize("name", ["h.edn", "h.edn.gz"])
def test_a_name_that_ends_in_edn_says_so(tmp_path: Path, name: str) -> None:
    key, reason = refusal(history(tmp_path / name, LINE))
    assert (key, reason) == ("line 1", "has ':', which is no EDN")


def test_json_objects_in_an_array_are_no_json_lines(tmp_path: Path) -> None:
    assert refusal(history(tmp_path / "h", f"[{LINE.strip()}]\n")) == (
        "line 1",
        "is no event: Expected `object`, got `array`",
    )


class _Lines(io.RawIOBase):
    """A file that is never whole in memory."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        line = next(self._lines, b"")
        buffer[: len(line)] = line
        return len(line)


def piped(monkeypatch: pytest.MonkeyPatch, lines: Iterator[bytes]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(_Lines(lines))))


@pytest.mark.parametrize("data", [LINE.encode(), MAP.encode(), gzip.compress(LINE.encode(), mtime=0)])
def test_a_dash_is_the_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    piped(monkeypatch, iter([data]))
    assert read_history("-") == [READ]


def test_the_standard_input_is_named_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, iter([b"{}\n"]))
    with pytest.raises(UsageError, match="standard input: line 1: is no event"):
        read_history("-")


EVENTS = 4_000
BYTES_MAX = 1_000_000  # all the events together take more than twice as much


def numbered(pattern: str) -> Iterator[bytes]:
    for index in range(EVENTS):
        kind = "ok" if index % 2 else "invoke"
        yield (pattern % (index, index, kind, "x" * 500)).encode()


@pytest.mark.parametrize(
    "pattern",
    [
        '{"index":%d,"time":%d,"process":0,"type":"%s","f":"write","value":"%s"}\n',
        '{:index %d, :time %d, :process 0, :type :%s, :f :write, :value "%s"}\n',
    ],
)
def test_reading_takes_no_more_memory_for_more_events(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    piped(monkeypatch, numbered(pattern))
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_events("-"))
        assert tracemalloc.get_traced_memory()[1] < BYTES_MAX
    finally:
        tracemalloc.stop()
    assert count == EVENTS


# --- damage ---


def sample() -> list[Event]:
    shapes: list[tuple[int | str, Any, str, Any, str | None]] = [
        (0, "invoke", "cas", ["é", 2], None),
        ("nemesis", "info", "kill", {"n1": ":down"}, None),
        (1, "invoke", "read", None, None),
        (0, "fail", "cas", ["é", 2], "precondition-failed"),
        (1, "ok", "read", 1.5, None),
        (0, "invoke", "write", [], None),
        (0, "info", "write", [], 'timed "out"'),
        (0, "invoke", "read", None, None),
    ]
    return [
        Event(index=index, time=10 * index, process=process, type=kind, f=f, value=value, error=error)
        for index, (process, kind, f, value, error) in enumerate(shapes)
    ]


@pytest.fixture(params=["h.jsonl", "h.edn", "vector.edn", "h.jsonl.gz", "h.edn.gz"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / request.param
    write_events(sample(), path)
    if request.param == "vector.edn":
        path.write_bytes(b"[" + path.read_bytes() + b"]\n")
    assert read_history(path) == sample()
    return path


def test_a_file_cut_off_anywhere_is_refused_unless_it_ends_with_an_event(whole: Path) -> None:
    data = whole.read_bytes()
    cut = whole.with_name(f"cut-{whole.name}")
    for end in range(len(data.rstrip())):
        cut.write_bytes(data[:end])
        try:
            found = read_history(cut)
        except UsageError:
            continue
        assert whole.name in ("h.jsonl", "h.edn")
        assert data[:end].rstrip().endswith(b"}")
        assert found == sample()[: len(found)]


@pytest.mark.parametrize("name", ["h.jsonl", "h.edn"])
def test_lines_that_are_swapped_are_refused(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    write_events(sample(), whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    for place in range(len(lines) - 1):
        swapped = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        whole.write_bytes(b"".join(swapped))
        refusal(whole)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_refused_or_leaves_a_history(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / data.draw(st.sampled_from(["f.jsonl", "f.edn", "f.jsonl.gz", "f.edn.gz"]))
    write_events(sample(), path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = read_history(path)
    except UsageError:
        return
    if path.suffix == ".gz":
        assert found == sample()  # only what gzip notes beside the content can differ
    operations(found)


@pytest.mark.parametrize("content", [b"", b"\n\n", b";\n", b"[]", b"[ ]\n;", gzip.compress(b"", mtime=0)])
def test_a_file_without_an_event_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "h").write_bytes(content)
    assert refusal(tmp_path / "h") == ("history", "is empty: it holds no event")


def test_bytes_after_gzip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "h").write_bytes(gzip.compress(LINE.encode()) + b"more")
    key, reason = refusal(tmp_path / "h")
    assert (key, reason[:39]) == ("after line 1", "is damaged or cut off within gzip: Not ")


@pytest.mark.parametrize("ending", ["", ".edn"])
def test_a_line_that_is_no_utf8_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"h{ending}"
    first, second = (MAP, MAP.replace("0}", "1}")) if ending else (LINE, LINE.replace(":0", ":1"))
    path.write_bytes(first.encode() + second.replace("read", "r\xe9").encode("latin-1"))
    key, reason = refusal(path)
    assert (key, "utf-8" in reason) == ("line 2", True)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" * 5000, r'"\ud800"'])
def test_what_json_cannot_hold_is_refused(tmp_path: Path, value: str) -> None:
    key, reason = refusal(history(tmp_path / "h", LINE.replace("null", value)))
    assert (key, reason[:11]) == ("line 1", "is no event")


@pytest.mark.parametrize("depth", [101, 300, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_value_that_is_nested_absurdly_is_refused(tmp_path: Path, depth: int, opening: str, closing: str) -> None:
    key, _ = refusal(history(tmp_path / "h", LINE.replace("null", opening * depth + "1" + closing * depth)))
    assert key == "line 1"


def test_a_value_that_is_nested_a_hundred_times_is_read_and_written(tmp_path: Path) -> None:
    path = history(tmp_path / "h", LINE.replace("null", "[" * 100 + "]" * 100).replace('"f"', '"key":"k","f"'))
    events = read_history(path)
    write_events(events, tmp_path / "h.edn")
    assert read_history(tmp_path / "h.edn", keyed=True) == events


# --- what Jepsen's fields mean ---

CLIENT = ":type :invoke, :f :read, :process 0"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (":f :a/b", {"f": "a/b"}),
        (':f ":a"', {"f": ":a"}),
        (":f [:a 1]", {"f": "[:a 1]"}),
        (":f foo", {"f": "foo"}),
        (":error :precondition-failed", {"error": "precondition-failed"}),
        (':error "timed out"', {"error": "timed out"}),
        (':error ":a"', {"error": ":a"}),
        (':error "::a"', {"error": "::a"}),
        (':error [:duplicate-key "k"]', {"error": '[:duplicate-key "k"]'}),
        (":error nil", {"error": None}),
        (":value :empty", {"value": ":empty"}),
        (":index 7, :time -5", {"index": 7, "time": -5}),
        (":process :nemesis", {"process": "nemesis"}),
        (":process :nemesis/clock", {"process": "nemesis"}),
        (':process "observer"', {"process": "nemesis"}),
        (":process observer", {"process": "nemesis"}),
        (":process -1", {"process": -1}),
        (":process 7N", {"process": 7}),
    ],
)
def test_a_field_is_read(tmp_path: Path, fields: str, expected: dict[str, Any]) -> None:
    missing = " ".join(f"{name} {value}" for name, value in FIELDS.items() if name not in fields)
    [event] = read_history(edn(tmp_path / "h", f"{missing} {fields}"), keyed=False)
    assert {name: getattr(event, name) for name in expected} == expected


FIELDS = {":type": ":invoke", ":f": ":read", ":process": "0"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (":f :read :process 0", "is no operation: it is no map with a :type"),
        (":type :done :f :read :process 0", ":type is :done, which is none of fail, info, invoke, ok"),
        (":type nil :f :read :process 0", ":type is nil"),
        (":type :ok :process 0", "has no :f"),
        (":type :ok :f nil :process 0", "has no :f"),
        (":type :ok :f :read", ":process is nil, which is neither an integer nor a name"),
        (":type :ok :f :read :process true", ":process is true"),
        (":type :ok :f :read :process 1.0", ":process is 1.0"),
        (f"{CLIENT} :index 1.0", ":index is 1.0, which is no integer"),
        (f"{CLIENT} :index true", ":index is true"),
        (f"{CLIENT} :time :now", ":time is :now, which is no integer"),
        (f"{CLIENT} :index 4", ":index is 4 after 4: lines are missing or out of order"),
        (f"{CLIENT} :index 3", ":index is 3 after 4"),
        (f"{CLIENT} :time 6", "time goes backwards, from 7 to 6"),
        (":type :ok :f :read :process 9", "process 9 completes 'read', which it never invoked"),
        (":type :ok :f :write :process 1", "process 1 invoked 'read' but completes 'write'"),
        (":type :invoke :f :read :process 1", "process 1 invokes 'read' while its 'read' is still open"),
    ],
)
def test_a_map_that_is_no_event_is_refused_by_its_line(tmp_path: Path, fields: str, reason: str) -> None:
    first = ":type :invoke :f :read :process 1 :index 4 :time 7"
    key, told = refusal(edn(tmp_path / "h", first, f"\n{fields}"))
    assert (key, told[: len(reason)]) == ("line 2", reason)


@pytest.mark.parametrize("item", ["1", "[]", ":a", '"a"', "{}", "#{}"])
def test_a_form_that_is_no_map_is_refused(tmp_path: Path, item: str) -> None:
    assert refusal(history(tmp_path / "h", f"[{MAP}{item}]"))[0] == "line 2"


def test_a_filtered_history_keeps_its_numbers_and_one_without_is_counted(tmp_path: Path) -> None:
    path = edn(tmp_path / "h", ":index 3 :time 9 " + CLIENT, ":type :ok :f :read :process 0", ":index 9 " + CLIENT)
    assert [(event.index, event.time) for event in read_history(path)] == [(3, 9), (4, 9), (9, 9)]


def test_a_process_goes_on_after_info(tmp_path: Path) -> None:
    path = edn(tmp_path / "h", CLIENT, ":type :info :f :read :process 0", CLIENT, ":type :ok :f :read :process 0")
    assert [one.outcome for one in operations(read_history(path))] == ["info", "ok"]


# --- keys ---


def op(f: str, value: str, kind: str = "invoke", process: int = 0) -> str:
    return f":type :{kind} :f :{f} :value {value} :process {process}"


NEMESIS = ":type :info :f :kill :value [1 nil] :process :nemesis"
TOLD_BY_A_READ = [op("cas", "[2 [3 4]]"), op("cas", "[2 [3 4]]", "info"), op("read", "[1 nil]", process=1)]


def keys_and_values(path: Path, keyed: bool | None = None) -> list[tuple[Any, Any]]:
    return [(event.key, event.value) for event in read_history(path, keyed) if event.process != "nemesis"]


def test_a_read_of_a_key_and_nothing_tells_that_a_history_is_keyed(tmp_path: Path) -> None:
    path = edn(tmp_path / "h", NEMESIS, *TOLD_BY_A_READ, op("read", "[1 5]", "ok", process=1), NEMESIS)
    assert keys_and_values(path) == [(2, [3, 4]), (2, [3, 4]), (1, None), (1, 5)]
    assert [event.value for event in read_history(path) if event.process == "nemesis"] == [[1, None]] * 2


@pytest.mark.parametrize("f", ["read", "dequeue", "pop", "drain", "acquire", "release", "generate"])
def test_any_operation_without_an_argument_tells_it(tmp_path: Path, f: str) -> None:
    assert keys_and_values(edn(tmp_path / "h", op(f, "[[:a 1] nil]"))) == [([":a", 1], None)]


@pytest.mark.parametrize(
    "telling",
    [
        op("read", "nil"),
        op("write", "1"),
        op("txn", "[[:r 1 nil]]"),
        op("add", "[1 2 3]"),
        op("cas", "[1 2]"),
        op("cas", "[nil nil]"),
        op("write", "{1 2}"),
    ],
)
def test_an_invocation_that_is_no_tuple_tells_that_it_is_not_keyed(tmp_path: Path, telling: str) -> None:
    path = edn(tmp_path / "h", NEMESIS, op("write", "[1 2]", process=1), telling, op("write", "[3 nil]", process=2))
    values = keys_and_values(path)
    assert [key for key, _ in values] == [None] * 3
    assert (values[0][1], values[2][1]) == ([1, 2], [3, None])


UNTOLD = [
    [op("write", "[1 nil]")],
    [op("write", "[1 2]")],
    [op("add", "[1 2]"), op("add", "[1 2]", "ok")],
    [op("cas", "[1 [2 3]]"), op("cas", "[1 [2 3]]", "ok")],
    [op("cas", "[nil [2 3]]"), op("write", "[2 3]", process=1)],
    [op("cas", "[[1 2] [3 4]]")],
    [op("cas", "[1 {:old 2 :new 3}]")],
    [op("txn", "[[:r 1 nil] [:w 1 2]]")],
    [op("enqueue", "[1 2]"), op("enqueue", "5", "ok")],
]


@pytest.mark.parametrize("maps", UNTOLD)
def test_where_nothing_tells_it_the_caller_has_to(tmp_path: Path, maps: list[str]) -> None:
    key, reason = refusal(edn(tmp_path / "h", NEMESIS, *maps))
    assert (key, reason[-28:]) == ("history", ": pass --keyed or --no-keyed")


def test_the_caller_says_it(tmp_path: Path) -> None:
    path = edn(tmp_path / "h", op("cas", "[1 [2 3]]"), op("read", "[2 nil]", process=1))
    assert keys_and_values(path, keyed=True) == [(1, [2, 3]), (2, None)]
    assert keys_and_values(path, keyed=False) == [(None, [1, [2, 3]]), (None, [2, None])]


def test_faults_alone_need_no_telling(tmp_path: Path) -> None:
    assert [event.value for event in read_history(edn(tmp_path / "h", NEMESIS))] == [[1, None]]


def test_what_tells_it_both_ways_is_refused(tmp_path: Path) -> None:
    path = edn(tmp_path / "h", op("write", "1"), op("read", "[1 nil]", process=1))
    key, reason = refusal(path)
    assert (key, reason[:38]) == ("line 2", "has a value with a key, [1 nil], and e")


@pytest.mark.parametrize("value", ["nil", "5", "[1]", "[1 2 3]", "{:a 2}"])
def test_an_invocation_without_a_key_is_refused_in_a_keyed_history(tmp_path: Path, value: str) -> None:
    path = edn(tmp_path / "h", op("read", "[1 nil]"), op("write", value, process=1))
    assert refusal(path) == ("line 2", f"has the value {value}, and not a pair of key and value as the others")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("ok", "[1 5]", (1, 5)),
        ("ok", "[1 nil]", (1, None)),
        ("ok", "nil", (1, None)),
        ("info", ":timed-out", (1, ":timed-out")),
        ("fail", "5", (1, 5)),
    ],
)
def test_a_completion_has_its_invocation_s_key(
    tmp_path: Path, kind: str, value: str, expected: tuple[Any, Any]
) -> None:
    assert keys_and_values(edn(tmp_path / "h", op("read", "[1 nil]"), op("read", value, kind)))[1] == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("5", "completes with 5, and not with a pair"),
        ("[2 5]", "process 0 invoked 'read' on key 1 but completes it on 2"),
    ],
)
def test_a_completion_with_another_key_or_none_is_refused(tmp_path: Path, value: str, reason: str) -> None:
    key, told = refusal(edn(tmp_path / "h", op("read", "[1 nil]"), op("read", value, "ok")))
    assert (key, told[: len(reason)]) == ("line 2", reason)


def test_json_lines_bring_their_keys_along(tmp_path: Path) -> None:
    line = json.dumps({**json.loads(LINE), "value": [1, None]}) + "\n"
    for keyed in (None, True, False):
        assert keys_and_values(history(tmp_path / "h", line), keyed) == [(None, [1, None])]
