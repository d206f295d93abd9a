"""EDN's notation: which JSON value stands for which form, what is refused, and that what is written comes back."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chaos.formats.edn import NESTING_MAX, Unreadable, forms, text


def read(source: str) -> list[Any]:
    return [form for _, form in forms(source.splitlines(keepends=True))]


def value(source: str) -> Any:
    """Of one form inside of a map, for that is where values are."""
    [form] = read(f"{{:v {source}}}")
    return form[":v"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        ("7N", 7),
        ("-0", 0),
        ("0x1F", 31),
        (str(2**200), 2**200),
        ("1.5", 1.5),
        ("-1e3", -1000.0),
        ("1.", 1.0),
        ("1.5M", {"#decimal": "1.5"}),
        ("1.500M", {"#decimal": "1.5"}),
        ("-1.5E-7M", {"#decimal": "-1.5E-7"}),
        ("2.0M", 2),
        ("1E3M", 1000),
        ("0E+999999M", 0),
        ("1E+999999M", {"#decimal": "1E+999999"}),
        ("1/3", {"#ratio": "1/3"}),
        ("-2/6", {"#ratio": "-1/3"}),
        ("6/3", 2),
        ("##NaN", {"#number": "NaN"}),
        ("##-Inf", {"#number": "-Inf"}),
        (":a", ":a"),
        (":a.b/c-d?", ":a.b/c-d?"),
        ('"a"', "a"),
        ('":a"', "::a"),
        ('"::a"', ":::a"),
        ('":"', ":"),
        ('": a"', ": a"),
        (r'"\t\n\r\b\f\"\\\u00e9\101"', '\t\n\r\b\f"\\\u00e9A'),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ('"[;#{,"', "[;#{,"),
        (r"\a", "a"),
        (r"\newline", "\n"),
        (r"\space", " "),
        (r"\u00e9", "\u00e9"),
        (r"\o101", "A"),
        (r"[\[ \" \; \\]", ["[", '"', ";", "\\"]),
        ("foo/bar", {"#symbol": "foo/bar"}),
        ("-", {"#symbol": "-"}),
        ("[1 [2] ()]", [1, [2], []]),
        ("(1, 2,,3)", [1, 2, 3]),
        ("#{3 1 2}", [1, 2, 3]),
        ("#{:b :a nil}", [":a", ":b", None]),
        ("{:a 1, b 2}", {":a": 1, "b": 2}),
        ('{"a" 1, ":a" 2, :a 3}', {"a": 1, "::a": 2, ":a": 3}),
        ("{1 2, [1 2] 3, nil 4}", {"1": 2, "[1 2]": 3, "nil": 4}),
        ('#inst "2020-01-01"', {"#inst": "2020-01-01"}),
        ("#a #b [1]", {"#a": {"#b": [1]}}),
        ("#my.Record{:a 1}", {"#my.Record": {":a": 1}}),
        ("#:ns{:a 1}", {"#:ns": {":a": 1}}),
        ('#object[a.B$c 0x1f "a.B@1f"]', {"#object": [{"#symbol": "a.B$c"}, 31, "a.B@1f"]}),
        (r'#"\d+\""', {"#regex": r"\d+\""}),
        ('{"#inst" 1}', {"##inst": 1}),
        ('{"#inst" 1, "b" 2}', {"#inst": 1, "b": 2}),
        ("[1 #_2 3 #_ [4] #_#_5 6]", [1, 3]),
        ("#a #_1 2", {"#a": 2}),
        ("[1 ; comment ]\n2]", [1, 2]),
        ('"a\nb"', "a\nb"),
        ('[#"a\nb\nc" 1]', [{"#regex": "a\nb\nc"}, 1]),
    ],
)
def test_a_form_reads_as_its_json_value(source: str, expected: Any) -> None:
    assert json.dumps(value(source)) == json.dumps(expected)


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("{:a [1\n}", 2, "where the \\[ of line 1 is open"),
        ("{} ]", 1, "has a ] that nothing opened"),
        ("{:a\n1\n", 2, "is cut off: the { of line 1 is not closed"),
        ("[{}\n", 1, r"is cut off: the \[ of line 1 is not closed"),
        ('{:a "b\nc', 2, "a string is not closed"),
        ("{} #a.B", 1, "is cut off after #a.B"),
        ("{} #_", 1, "is cut off: the #_ of line 1"),
        ("{:a}", 1, "a key that has no value"),
        ("{:a 1\n :a 2}", 2, "two keys read :a"),
        ('{1 2 "1" 3}', 1, "two keys read 1"),
        ("{:a 007}", 1, "'007', which is no number"),
        ("{:a 1e999}", 1, "too large"),
        ("{:a " + "1" * 5000 + "}", 1, "too large"),
        ("{:a 1/0}", 1, "no number"),
        ("{:a 1x}", 1, "no number"),
        ("{:a ::b}", 1, "'::b', which is no EDN"),
        ("{:a :}", 1, "no EDN"),
        ("{:a ##foo}", 1, "no EDN"),
        ("{:a #<Foo>}", 1, "no EDN"),
        ("{:a ^b c}", 1, "no EDN"),
        ("{:a @}", 1, "no EDN"),
        (r"{:a \foo}", 1, "the character"),
        (r'{:a "\q"}', 1, "a string with"),
        (r'{:a "\8"}', 1, "a string with"),
        (r'{:a "\ud83d"}', 1, "half of a character"),
        (r"{:a \ud83d}", 1, "half of a character"),
        ("{:a " + "[" * NESTING_MAX, 1, f"deeper than {NESTING_MAX} levels"),
        ("{:a " + "#b " * 100_000, 1, f"deeper than {NESTING_MAX} levels"),
    ],
)
def test_what_is_no_edn_is_refused_by_its_line(source: str, line: int, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as raised:
        read(source)
    assert raised.value.line == line


def test_forms_come_with_the_lines_on_which_they_begin() -> None:
    source = ";\n{:a 1}{:a\n2} #tag\n{:a 3}\n"
    assert list(forms(source.splitlines(keepends=True))) == [(2, {":a": 1}), (2, {":a": 2}), (4, {":a": 3})]


@pytest.mark.parametrize("source", ["[{} {}]", "({},\n{},)", "#history [#op {} #op {}]\n", "[{}] {}", "[{} #_{} {}]"])
def test_one_sequence_around_the_forms_is_looked_through(source: str) -> None:
    assert read(source) == [{}, {}]


def test_forms_are_handed_out_before_the_text_ends() -> None:
    def lines():
        yield "[{:a 1}\n"
        raise AssertionError("the next line was asked for too early")

    assert next(forms(lines())) == (1, {":a": 1})


LIKE_KEYWORDS_AND_TAGS = [
    ":a",
    "::a",
    ":a/b",
    ":",
    ":/",
    "#a",
    "##a",
    "#:a",
    "#",
    "#_",
    "#ratio",
    "#decimal",
    "#symbol",
    "#number",
    "#regex",
]
LIKE_ATOMS = [
    "nil",
    "true",
    "1/3",
    "2/6",
    "1.5",
    "1.50",
    "2.0",
    "0E+9",
    "NaN",
    "#'x",
    ";x",
    "-",
    "~",
    ":a b",
    "\n",
    "\u2028",
]
TRICKY = st.sampled_from([*LIKE_KEYWORDS_AND_TAGS, *LIKE_ATOMS])
WORDS = st.text(max_size=5) | TRICKY | st.text(alphabet=':#/aN1."\\', max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=3)
        | st.dictionaries(WORDS, inner, min_size=1, max_size=1)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
@example({"#ratio": "1/3"})
@example({"#ratio": "2/6"})
@example({"##ratio": "1/3"})
@example({"#symbol": "nil"})
@example({"#symbol": "1"})
@example({"#decimal": "1.50"})
@example({"#number": "NaN"})
@example({"::a": "::a", ":a": ":a"})
def test_every_json_value_that_is_written_is_read_back(written: Any) -> None:
    assert "\n" not in text(written)
    assert repr(value(text(written))) == repr(written)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet="{}[]()#_\":;\\ ,\nau01/.N+-eM'x<^@", max_size=25)))
def test_any_text_is_refused_or_reads_as_values_that_are_written_and_read_alike(lines: list[str]) -> None:
    try:
        found = [form for _, form in forms(lines)]
    except Unreadable:
        return
    assert [value(text(form)) for form in found] == found
