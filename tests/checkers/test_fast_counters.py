"""Counters and lists without a search: bounds of reads, orders told by the longest read; and the search beside it."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checkers import MODELS, Call
from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.counters import Counter
from chaos.checkers.models.lists import ListRegister
from chaos.checkers.search import Answer, Reach, search
from chaos.history import operations

MODELS_HERE: dict[str, Any] = {"counter": Counter(), "list": ListRegister()}


def calls(name: str, *rows: Row) -> list[Call]:
    return calls_of(MODELS_HERE[name], operations(history(*rows)))


def decide(name: str, *rows: Row, initial: Any = None) -> Decision:
    model = MODELS_HERE[name]
    decision: Decision = model.decide(calls(name, *rows), model.start(initial), lambda: None)
    return decision


def refused(name: str, *rows: Row, initial: Any = None) -> Impossible:
    decision = decide(name, *rows, initial=initial)
    assert isinstance(decision, Impossible), decision
    return decision


def change(f: str, value: Any, kind: str = "ok", process: int = 0) -> list[Row]:
    return [(process, "invoke", f, value), (process, kind, f, None)]


def add(amount: float, kind: str = "ok") -> list[Row]:
    return change("add", amount, kind)


def append(item: Any, kind: str = "ok") -> list[Row]:
    return change("append", item, kind)


def read(value: Any) -> list[Row]:
    return [(9, "invoke", "read", None), (9, "ok", "read", value)]


def around(inner: Sequence[Row], f: str, value: Any, process: int = 5) -> list[Row]:
    """`inner` while a change is under way."""
    return [(process, "invoke", f, value), *inner, (process, "ok", f, None)]


def test_a_read_returns_the_sum_of_what_was_added_before_it() -> None:
    assert decide("counter", *add(3), *add(-5), *read(-2), *read(-2.0), *add(1), *read(-1)) == Explained()
    assert decide("counter", *read(7), *add(1), *read(8), initial=7) == Explained()
    assert decide("counter") == Explained()


@pytest.mark.parametrize(
    ("value", "bound", "proof"), [(2, "at least 3", [0, 2, 4, 7]), (6, "at most 5", [0, 2, 4, 6, 7])]
)
def test_a_read_beyond_what_may_have_been_added_is_impossible(value: int, bound: str, proof: list[int]) -> None:
    found = refused("counter", *add(-1), *add(-1), *add(5), *around(read(value), "add", 2))
    assert found.reason == f"a read returned {value}, and the sum was {bound} at any time during it"
    assert [call.invoked for call in found.calls] == proof


def test_adds_under_way_or_of_unknown_outcome_count_by_their_sign() -> None:
    for value in (3, 5, 1, -1):
        found = decide("counter", *add(-4, "info"), *around([*add(3), *read(value)], "add", 2))
        assert not isinstance(found, Impossible), value
    assert isinstance(decide("counter", *add(-4, "info"), *around([*add(3), *read(6)], "add", 2)), Impossible)
    assert isinstance(decide("counter", *add(-4, "info"), *around([*add(3), *read(-2)], "add", 2)), Impossible)


def test_a_read_of_what_no_whole_amounts_come_to_is_impossible() -> None:
    for value in (None, True, 0.5, "1"):
        assert "all amounts are whole numbers" in refused("counter", *add(1), *read(value)).reason


def test_reads_of_equal_adds_must_not_go_back() -> None:
    rows = [*read(1), *read(2)]
    spoilt = [*read(2), *read(1)]
    assert decide("counter", *around(around(rows, "add", 1, 5), "add", 1, 6)) == Explained()
    found = refused("counter", *around(around(spoilt, "add", 1, 5), "add", 1, 6))
    assert found.reason == "however the adds are put between them, the reads up to event 5 do not return the sums"
    assert [call.invoked for call in found.calls] == [0, 1, 2, 4]


def test_which_of_different_adds_came_first_is_left_to_the_search() -> None:
    assert decide("counter", *around(around(read(2), "add", 2, 5), "add", 1, 6)) == Explained()
    assert decide("counter", *around(around(read(1), "add", 2, 5), "add", 1, 6)) is None


def test_sums_of_fractions_are_decided_only_if_an_order_gives_them_exactly() -> None:
    assert decide("counter", *add(0.1), *add(0.2), *read(0.1 + 0.2)) == Explained()
    assert decide("counter", *add(0.1), *add(0.2), *read(0.3)) is None
    assert isinstance(decide("counter", *add(0.5), *add(0.5), *read(0.5)), Impossible)


def test_reads_and_adds_that_no_read_can_have_seen_can_be_left_out() -> None:
    rows = [*add(1), *add(0), *read(1), *around(read(1), "add", 3), *add(4)]
    assert [[call.invoked for call in part] for part in Counter().parts(calls("counter", *rows))] == [
        [2],
        [4],
        [7],
        [10],
    ]


def test_a_list_is_read_as_it_grows() -> None:
    rows = [*read([]), *append("a"), *read(["a"]), *around([*append("b"), *read(["a", "b"])], "append", "c")]
    assert decide("list", *rows, *read(["a", "b", "c"])) == Explained()
    assert decide("list", *append("a"), *read([7, "a"]), initial=[7]) == Explained()
    assert decide("list", *append("a"), *append("b")) == Explained()


def test_an_append_of_unknown_outcome_counts_once_it_is_read() -> None:
    lost = append("a", "info")
    assert decide("list", *lost, *append("b"), *read(["b"])) == Explained()
    assert decide("list", *lost, *append("b"), *read(["b"]), *read(["b", "a"])) == Explained()
    assert isinstance(decide("list", *lost, *append("b"), *read(["b", "a"]), *read(["b"])), Impossible)


@pytest.mark.parametrize(
    ("rows", "reason", "proof"),
    [
        ([*append("a"), *read(["a", "b"])], 'a read shows "b", which nobody appended', [0, 2]),
        ([*append("a"), *read(["a", "a"])], 'a read shows "a" again, which was appended once', [0, 2]),
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
            around(around([*read(["a"]), *read(["b"])], "append", "a", 5), "append", "b", 6),
            "a read does not begin as a longer or equal one",
            [0, 1, 2, 4],
        ),
        ([*append("a"), *read(["a"])], "a read does not begin as the list did", [0, 2]),
        ([*append("a"), *append("b"), *read(["a", "b"])], "a read does not begin as the list did", [0, 2, 4]),
    ],
)
def test_reads_that_no_order_of_appends_explains_are_named(rows: list[Row], reason: str, proof: list[int]) -> None:
    found = refused("list", *rows, initial=[7] if reason.endswith("the list did") else None)
    assert (found.reason, [call.invoked for call in found.calls]) == (reason, proof)


def test_lists_that_are_written_over_or_hold_an_item_twice_are_left_to_the_search() -> None:
    assert decide("list", *append("a"), *change("write", []), *read([])) is None
    assert decide("list", *append("a"), *append("a"), *read(["a", "a"])) is None
    assert decide("list", *append("a"), *read(["a", "a"]), initial=["a"]) is None


def test_reads_and_changes_that_no_read_can_have_seen_can_be_left_out_of_a_list() -> None:
    rows = [*append("a"), *append("b"), *read(["a"]), *change("write", [1]), *append("a")]
    assert [[call.invoked for call in part] for part in ListRegister().parts(calls("list", *rows))] == [
        [2],
        [4],
        [6],
        [8],
    ]
    assert [call.invoked for part in ListRegister().parts(calls("list", *rows, *read([1]))) for call in part] == [
        2,
        4,
        10,
    ]


def test_thousands_of_concurrent_adds_and_reads_are_decided_without_a_search() -> None:
    rows: list[Row] = [(0, "invoke", "add", 1)]
    for number in range(3000):
        rows += [(1 - number % 2, "invoke", "add", 1), (2, "invoke", "read", None)]
        rows += [(number % 2, "ok", "add", None), (2, "ok", "read", number + number % 2)]
    asked: list[None] = []
    model = Counter()
    assert model.decide(calls("counter", *rows), 0, lambda: asked.append(None)) == Explained()
    assert asked
    assert isinstance(decide("counter", *rows, *read(5)), Impossible)


# The search beside it, over histories of an object that works, spoilt or not.

CHOICES = st.lists(st.integers(0, 59), min_size=4, max_size=40)
AMOUNTS: list[list[float]] = [[1], [1, 2], [1, -1, 3], [0.1], [0.5, 2]]


def served(name: str, choices: Sequence[int], initial: Any) -> list[Row]:
    """What three clients of a counter or list see; some never hear, some are told something else."""
    rows: list[Row] = []
    names = [0, 1, 2]
    running: dict[int, tuple[str, Any, bool, Any]] = {}
    state = initial
    amounts = AMOUNTS[choices[0] % len(AMOUNTS)]
    for number, choice in enumerate(choices):
        slot, chance = choice % 3, choice // 3
        process = names[slot]
        f, argument, done, result = running.get(slot, ("", None, False, None))
        if not f:
            f = "read" if chance < 9 else "add" if name == "counter" else "write" if chance == 19 else "append"
            argument = {
                "add": amounts[chance % len(amounts)],
                "append": number if chance < 18 else 1,
                "write": [1],
            }.get(f)
            running[slot] = (f, argument, False, None)
            rows.append((process, "invoke", f, argument))
        elif chance < 2:
            del running[slot]
            names[slot] += 3 * chance
            rows.append((process, "info", f, None))
        elif done:
            del running[slot]
            lied = {"counter": 2, "list": (result or [])[:-1] if name == "list" else None}[name]
            rows.append((process, "ok", f, lied if chance == 19 and f == "read" else result))
        else:
            state = (
                argument
                if f == "write"
                else state
                if f == "read"
                else state + (argument if name == "counter" else [argument])
            )
            running[slot] = (f, argument, True, state if f == "read" else None)
    return rows


def searched(name: str, chosen: Sequence[Call], initial: Any) -> Answer:
    turns = search(chosen, MODELS_HERE[name], initial, Reach())
    while True:
        try:
            next(turns)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer


INITIAL: dict[str, list[Any]] = {"counter": [0, 0, -2, 0.5], "list": [[], [], ["x"], ["x", 1]]}


@pytest.mark.parametrize("name", sorted(MODELS_HERE))
@settings(max_examples=300, deadline=None)
@given(choices=CHOICES, start=st.integers(0, 3), leave=st.integers(0, 255))
def test_what_is_decided_of_counters_and_lists_is_what_the_search_finds(
    name: str, choices: list[int], start: int, leave: int
) -> None:
    initial = INITIAL[name][start]
    chosen = calls(name, *served(name, choices, initial))[:9]
    model = MODELS_HERE[name]
    answer = searched(name, chosen, initial)
    decision = model.decide(chosen, model.start(initial), lambda: None)
    assert decision is None or isinstance(decision, Explained) == (answer is None)
    if isinstance(decision, Impossible):
        assert all(call in chosen for call in decision.calls)
        assert searched(name, decision.calls, initial) is not None
    if answer is None:
        gone = [call for bit, part in enumerate(model.parts(chosen)) if leave >> bit & 1 for call in part]
        assert searched(name, [call for call in chosen if call not in gone], initial) is None


def test_the_models_under_these_names_are_the_counter_and_the_list_tested_here() -> None:
    assert {name: MODELS[name] for name in MODELS_HERE} == MODELS_HERE
