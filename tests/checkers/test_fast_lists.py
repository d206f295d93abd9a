"""Lists without a search: hand-made cases both ways, the search beside them, and a large history that is right."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from random_histories import CHOOSING, KINDS, SPOILT, WAYS, Tape, Values, small
from searching import searched

from chaos.checkers import MODELS, Call
from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.lists import ListRegister
from chaos.history import operations

LIST = ListRegister()


def calls(*rows: Row) -> list[Call]:
    return calls_of(LIST, operations(history(*rows)))


def decide(*rows: Row, initial: Any = None) -> Decision:
    return LIST.decide(calls(*rows), LIST.start(initial), lambda: None)


def refused(*rows: Row, initial: Any = None) -> tuple[str, list[int]]:
    """Why they are, and where the calls that prove it were invoked, which must do so by themselves."""
    decision = decide(*rows, initial=initial)
    assert isinstance(decision, Impossible), decision
    assert searched(LIST, decision.calls, initial) is not None
    return decision.reason, [call.invoked for call in decision.calls]


def change(f: str, value: Any, kind: str = "ok", process: int = 0) -> list[Row]:
    return [(process, "invoke", f, value), (process, kind, f, None)]


def append(item: Any, kind: str = "ok") -> list[Row]:
    return change("append", item, kind)


def write(*items: Any, kind: str = "ok") -> list[Row]:
    return change("write", list(items), kind)


def read(value: Any) -> list[Row]:
    return [(9, "invoke", "read", None), (9, "ok", "read", value)]


def around(inner: Sequence[Row], f: str, value: Any, process: int = 5) -> list[Row]:
    """`inner` while a change is under way."""
    return [(process, "invoke", f, value), *inner, (process, "ok", f, None)]


def invoked(parts: Sequence[Sequence[Call]]) -> list[list[int]]:
    return sorted(sorted(call.invoked for call in part) for part in parts)


def test_a_list_is_read_as_it_grows() -> None:
    rows = [*read([]), *append("a"), *read(["a"]), *around([*append("b"), *read(["a", "b"])], "append", "c")]
    assert decide(*rows, *read(["a", "b", "c"])) == Explained()
    assert decide(*append("a"), *read([7, "a"]), initial=[7]) == Explained()
    assert decide(*append("a"), *append("b")) == Explained()
    assert decide() == Explained()


def test_a_list_that_is_written_over_begins_anew() -> None:
    rows = [*append("a"), *write(1, 2), *read([1, 2]), *append("b"), *read([1, 2, "b"])]
    assert decide(*rows, *write(3), *read([3]), *read([3])) == Explained()
    assert isinstance(decide(*rows, *write(3), *read([1, 2, "b"])), Impossible)
    assert isinstance(decide(*rows, *write(3), *read(["b"])), Impossible)


def test_a_list_that_is_emptied_is_told_from_one_that_was_not_empty() -> None:
    rows = [*read([7]), *write(), *read([]), *append("a"), *read(["a"])]
    assert decide(*rows, initial=[7]) == Explained()
    assert refused(*rows, *read([7]), initial=[7])[1] == [2, 10]
    assert decide(*write(), *write(1), *read([1]), *write(), initial=[7]) == Explained()


def test_a_concurrent_write_may_come_before_or_after() -> None:
    for value in ([], [1], ["a"], [1, "a"]):
        assert decide(*around(around(read(value), "append", "a"), "write", [1], 6)) == Explained(), value
    assert isinstance(decide(*around(around(read(["a", 1]), "append", "a"), "write", [1], 6)), Impossible)


def test_an_append_or_write_of_unknown_outcome_counts_once_it_is_read() -> None:
    lost = append("a", "info")
    assert decide(*lost, *append("b"), *read(["b"])) == Explained()
    assert decide(*lost, *append("b"), *read(["b"]), *read(["b", "a"])) == Explained()
    assert isinstance(decide(*lost, *append("b"), *read(["b", "a"]), *read(["b"])), Impossible)
    lost = write(1, kind="info")
    assert decide(*lost, *append("b"), *read(["b"])) == Explained()
    assert decide(*lost, *append("b"), *read(["b"]), *read([1])) == Explained()
    assert isinstance(decide(*lost, *append("b"), *read([1]), *read(["b"])), Impossible)


def test_an_append_that_no_read_shows_came_at_the_end_of_an_epoch() -> None:
    rows = around([*read([1]), *write(2), *read([2])], "append", "b")
    assert decide(*write(1), *rows) == Explained()
    assert decide(*write(1), *append("b"), *around(read([2]), "write", [2])) == Explained()
    assert refused(*write(1), *read([1]), *append("b"), *read([1])) == (
        'the list that was written as [1] must come before the append of "b" (which no read shows), and '
        'the append of "b" (which no read shows) before the list that was written as [1]',
        [0, 4, 6],
    )


@pytest.mark.parametrize(
    ("rows", "reason", "proof"),
    [
        ([*append("a"), *read(["a", "b"])], 'a read shows "b", which nobody put there', [0, 2]),
        ([*write("a"), *read(["b"])], 'a read shows "b", which nobody put there', [2]),
        ([*append("a"), *read(["a", "a"])], 'a read shows "a" again, which was put there once', [0, 2]),
        ([*write("a"), *read(["a", "a"])], 'a read shows "a" again, which was put there once', [0, 2]),
        (
            [*write(1), *write(2), *read([1, 2])],
            "a read shows 2, which was put there once, into another list",
            [0, 2, 4],
        ),
        (
            around([*write(1), *read([1, "a"]), *write(2), *read([2, "a"])], "append", "a"),
            'a read shows "a", which was put there once, into another list',
            [0, 1, 3, 5, 7],
        ),
        ([*append("a"), *read(None)], "a read returned null, which is no list", [2]),
        (
            [*append("a"), *append("b"), *append("c"), *read(["b", "a"]), *read(["b", "a", "c"])],
            'the append of "b" was asked for (event 2) after the append of "a" (event 1), which must follow it',
            [0, 2, 6],
        ),
        (
            [*append("a"), *append("b"), *read(["a"])],
            'the read of length 1 was asked for (event 4) after the append of "b" (event 3), which must follow it',
            [0, 2, 4],
        ),
        (
            [*around([*read(["a"]), *read([])], "append", "a")],
            "the read of length 0 was asked for (event 3) after the read of length 1 (event 2), which must follow it",
            [0, 1, 3],
        ),
        (
            [*read(["a"]), *append("a")],
            'the append of "a" was asked for (event 2) after the read of length 1 (event 1), which must follow it',
            [0, 2],
        ),
        (
            [*read([1]), *write(1)],
            "the write of [1] was asked for (event 2) after the read of length 1 (event 1), which must follow it",
            [0, 2],
        ),
        (
            [*append("a"), *write(1), *read([1, "a"])],
            'the write of [1] was asked for (event 2) after the append of "a" (event 1), which must follow it',
            [0, 2, 4],
        ),
        (
            [*write(1), *read([])],
            "the read of length 0 was asked for (event 2) after the write of [1] (event 1), which must follow it",
            [0, 2],
        ),
        (
            around(around([*read([1]), *read([2]), *read([1])], "write", [1], 5), "write", [2], 6),
            "the list that was written as [1] must come before the list that was written as [2], and "
            "the list that was written as [2] before the list that was written as [1]",
            [0, 1, 2, 4, 6],
        ),
        (
            around(around([*read(["a"]), *read(["b"])], "append", "a", 5), "append", "b", 6),
            "a read does not begin as a longer or equal one",
            [0, 1, 2, 4],
        ),
        (
            [*write(1, 2), *read([1])],
            "a read of length 1 begins neither as the list at the start nor as one that was written",
            [0, 2],
        ),
        (
            [*write(1, 2), *read([1, 2]), *read([2])],
            "a read of length 1 begins neither as the list at the start nor as one that was written",
            [0, 4],
        ),
        (
            [*write(1, 2), *append("a"), *read([2, 1, "a"])],
            "a read of length 3 begins neither as the list at the start nor as one that was written",
            [0, 2, 4],
        ),
    ],
)
def test_reads_that_no_order_explains_are_named(rows: list[Row], reason: str, proof: list[int]) -> None:
    assert refused(*rows) == (reason, proof)


@pytest.mark.parametrize(("value", "proof"), [(["a"], [0, 2]), (["a", "b"], [0, 2]), ([], [2])])
def test_reads_begin_as_the_list_did(value: list[str], proof: list[int]) -> None:
    reason = f"a read of length {len(value)} begins neither as the list at the start nor as one that was written"
    found = refused(*append("a"), *read(value), *append("b"), initial=[7])
    assert found == (reason, [*proof, 4] if "b" in value else proof)


def test_the_order_of_two_appends_is_proved_together_with_a_read_of_their_list() -> None:
    rows = [*write(1), *append("a"), *append("b"), *read([1, "b", "a"]), *append("c"), *read([1, "b", "a", "c"])]
    assert refused(*rows)[1] == [0, 2, 4, 6]
    rows = [*write(1), (8, "invoke", "read", None), *append("a"), *append("b"), (8, "ok", "read", [1, "b"])]
    assert refused(*rows, *read([1, "b", "a"]))[1] == [0, 3, 5, 8]


def test_an_empty_write_belongs_to_the_proof_about_what_was_appended_after_it() -> None:
    assert refused(*write(), *append("a"), *read(["a"]), *read([]), initial=[7])[1] == [0, 2, 4, 6]


def test_what_was_put_in_twice_or_after_either_of_two_empty_lists_is_left_to_the_search() -> None:
    assert decide(*append("a"), *write(), *read([])) is None
    assert decide(*append("a"), *write(), *read(["a"])) is None
    assert decide(*append("a"), *append("a"), *read(["a", "a"])) is None
    assert decide(*append("a"), *read(["a", "a"]), initial=["a"]) is None
    assert decide(*write(1), *write(1), *read([1])) is None
    assert decide(*write(1), *append(1), *read([1, 1])) is None
    assert decide(*write(1, 1), *read([1, 1])) is None


def test_what_was_put_in_twice_matters_only_where_it_is_read() -> None:
    rows = [*append("a"), *append("a"), *write("a"), *write(), *write(1), *read([1])]
    assert decide(*rows) == Explained()
    assert isinstance(decide(*rows, *append("a"), *read([1])), Impossible)


def test_an_epoch_can_be_left_out_of_a_list() -> None:
    rows = [*append("a"), *append("b"), *read(["a"]), *write(1), *append("c"), *read([1, "c"]), *write(2)]
    assert invoked(LIST.parts(calls(*rows), ())) == [[0, 4], [2], [6, 8, 10], [12]]


def test_where_items_repeat_reads_and_changes_that_no_read_can_have_seen_can_be_left_out_of_a_list() -> None:
    rows = [*append("a"), *append("b"), *read(["a"]), *write(1), *append("a")]
    assert invoked(LIST.parts(calls(*rows), ())) == [[2], [4], [6], [8]]
    assert invoked(LIST.parts(calls(*rows, *read([1])), ())) == [[2], [4], [10]]


def test_what_was_put_in_once_is_in_the_order_that_a_read_shows() -> None:
    rows = [*write(3), *append("a"), *append("b"), *append("a"), *append("c"), *read([3, "a", "b", "c"]), *append("d")]
    three, one, b, other, c, shows, d, *more = chosen = calls(*rows, *write(5), *append("e"), *read([5, "e"]))
    precedes = LIST.order(chosen, ())
    found = [(x.invoked, y.invoked) for x in chosen for y in chosen if precedes(x, y)]
    five, e, _ = more
    inside = [(three.invoked, b.invoked), (three.invoked, c.invoked), (b.invoked, c.invoked)]
    assert found == [*inside, (five.invoked, e.invoked)]
    without = chosen[1:7]
    precedes = LIST.order(without, (3,))
    found = [(x.invoked, y.invoked) for x in without for y in without if precedes(x, y)]
    assert found == [(b.invoked, c.invoked), (b.invoked, d.invoked), (c.invoked, d.invoked)]
    assert not any(precedes(shows, x) or precedes(x, one) or precedes(x, other) for x in without)


def test_changes_of_unknown_outcome_are_left_out_of_the_search_if_no_read_shows_all_of_them() -> None:
    lost = [*append("a", "info"), *append("b", "info"), *write(1, 2, kind="info"), *write(kind="info")]
    rows = [*lost, *write(1, kind="info"), *write(3), *append("c"), *read(["b", 1])]
    assert [call.invoked for call in LIST.reduce(calls(*rows))] == [2, 6, 8, 10, 12, 14]


def test_thousands_of_writes_appends_and_reads_are_decided_without_a_search() -> None:
    rows: list[Row] = []
    held: list[int] = []
    for number in range(3000):
        f: str = "write" if number % 20 == 19 else "append"
        held = [*held, number] if f == "append" else [number]
        inner = [*read(held), (2, "invoke", "append", -1 - number), (2, "info", "append", None)]
        rows += around(inner, f, number if f == "append" else [number])
    asked: list[None] = []
    assert LIST.decide(calls(*rows), (), lambda: asked.append(None)) == Explained()
    assert asked
    assert isinstance(decide(*rows, *read([2979])), Impossible)


def _argument(f: str, values: Values, state: Any, tape: Tape) -> Any:
    if f == "write":
        return [values.new() for _ in range((1, 2, 1, 0)[tape.below(4)])]
    return None if f == "read" else values.new()


WRITTEN_OVER = KINDS["list"]._replace(asks=(("append", "read", "read", "write"), ("write", "read")), argument=_argument)


@settings(max_examples=300, deadline=None)
@given(choices=CHOOSING, calls_max=st.integers(4, 12), ways=st.sampled_from([WAYS, SPOILT]), leave=st.integers(0, 4095))
def test_what_is_decided_of_lists_is_what_the_search_finds(
    choices: bytes, calls_max: int, ways: tuple[str | None, ...], leave: int
) -> None:
    tape = Tape(choices)
    drawn = small(tape, WRITTEN_OVER, tape.one_of(WRITTEN_OVER.initials), calls_max, ways)
    chosen, start = calls(*drawn.rows), LIST.start(drawn.initial)
    answer = searched(LIST, chosen, drawn.initial)
    decision = LIST.decide(chosen, start, lambda: None)
    assert decision is None or isinstance(decision, Explained) == (answer is None)
    gone = [call for bit, part in enumerate(LIST.parts(chosen, start)) if leave >> bit & 1 for call in part]
    left = [call for call in chosen if call not in gone]
    if isinstance(decision, Impossible):
        assert all(call in chosen for call in decision.calls)
        assert searched(LIST, decision.calls, drawn.initial) is not None
        beside = [call for call in chosen if call in decision.calls or call in left]
        assert searched(LIST, beside, drawn.initial) is not None
    if answer is None:
        assert searched(LIST, left, drawn.initial) is None


def test_the_model_under_this_name_is_the_list_tested_here() -> None:
    assert MODELS["list"] == LIST
