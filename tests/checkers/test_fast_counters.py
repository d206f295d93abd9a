"""Counters without a search: bounds of reads; and the search beside it."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import searched

from chaos.checkers import MODELS, Call, check
from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.counters import Counter
from chaos.history import operations

COUNTER = Counter()


def calls(*rows: Row) -> list[Call]:
    return calls_of(COUNTER, operations(history(*rows)))


def decide(*rows: Row, initial: Any = None) -> Decision:
    return COUNTER.decide(calls(*rows), COUNTER.start(initial), lambda: None)


def refused(*rows: Row, initial: Any = None) -> Impossible:
    decision = decide(*rows, initial=initial)
    assert isinstance(decision, Impossible), decision
    return decision


def add(amount: float, kind: str = "ok") -> list[Row]:
    return [(0, "invoke", "add", amount), (0, kind, "add", None)]


def read(value: Any) -> list[Row]:
    return [(9, "invoke", "read", None), (9, "ok", "read", value)]


def around(inner: Sequence[Row], f: str, value: Any, process: int = 5) -> list[Row]:
    """`inner` while a change is under way."""
    return [(process, "invoke", f, value), *inner, (process, "ok", f, None)]


def test_a_read_returns_the_sum_of_what_was_added_before_it() -> None:
    assert decide(*add(3), *add(-5), *read(-2), *read(-2.0), *add(1), *read(-1)) == Explained()
    assert decide(*read(7), *add(1), *read(8), initial=7) == Explained()
    assert decide() == Explained()


@pytest.mark.parametrize(
    ("value", "bound", "proof"), [(2, "at least 3", [0, 2, 4, 7]), (6, "at most 5", [0, 2, 4, 6, 7])]
)
def test_a_read_beyond_what_may_have_been_added_is_impossible(value: int, bound: str, proof: list[int]) -> None:
    found = refused(*add(-1), *add(-1), *add(5), *around(read(value), "add", 2))
    assert found.reason == f"a read returned {value}, and the sum was {bound} at any time during it"
    assert [call.invoked for call in found.calls] == proof


def test_adds_under_way_or_of_unknown_outcome_count_by_their_sign() -> None:
    for value in (3, 5, 1, -1):
        found = decide(*add(-4, "info"), *around([*add(3), *read(value)], "add", 2))
        assert not isinstance(found, Impossible), value
    assert isinstance(decide(*add(-4, "info"), *around([*add(3), *read(6)], "add", 2)), Impossible)
    assert isinstance(decide(*add(-4, "info"), *around([*add(3), *read(-2)], "add", 2)), Impossible)


def test_a_read_of_what_no_whole_amounts_come_to_is_impossible() -> None:
    for value in (None, True, 0.5, "1"):
        assert "all amounts are whole numbers" in refused(*add(1), *read(value)).reason


def test_reads_of_equal_adds_must_not_go_back() -> None:
    rows = [*read(1), *read(2)]
    spoilt = [*read(2), *read(1)]
    assert decide(*around(around(rows, "add", 1, 5), "add", 1, 6)) == Explained()
    found = refused(*around(around(spoilt, "add", 1, 5), "add", 1, 6))
    assert found.reason == "however the adds are put between them, the reads up to event 5 do not return the sums"
    assert [call.invoked for call in found.calls] == [0, 1, 2, 4]


def test_which_of_different_adds_came_first_is_left_to_the_search() -> None:
    assert decide(*around(around(read(2), "add", 2, 5), "add", 1, 6)) == Explained()
    assert decide(*around(around(read(1), "add", 2, 5), "add", 1, 6)) is None


def test_sums_of_fractions_are_decided_only_if_an_order_gives_them_exactly() -> None:
    assert decide(*add(0.1), *add(0.2), *read(0.1 + 0.2)) == Explained()
    assert decide(*add(0.1), *add(0.2), *read(0.3)) is None
    assert isinstance(decide(*add(0.5), *add(0.5), *read(0.5)), Impossible)


@pytest.mark.parametrize("amount", [10**400 - 1, 1 - 10**400, 10**300 + 1], ids=["great", "least", "next"])
def test_what_cannot_be_added_to_a_fraction_is_refused(amount: int) -> None:
    told = "a number from -1e300 to 1e300, not a greater or lesser one"
    with pytest.raises(ValueError, match=f"cannot judge event 0: an add takes {told}"):
        check(history(*add(amount), *add(0.5)), "counter")
    with pytest.raises(ValueError, match=f"model 'counter' starts with {told}"):
        check([], "counter", amount)


def test_great_amounts_add_up_to_what_a_fraction_can_be_added_to() -> None:
    great = [row for _ in range(1000) for row in add(10**300)]
    assert check(history(*great, *add(0.5), *read(float(1001 * 10**300))), "counter", 10**300).verdict == "valid"


def test_reads_and_adds_that_no_read_can_have_seen_can_be_left_out() -> None:
    rows = [*add(1), *add(0), *read(1), *around(read(1), "add", 3), *add(4)]
    assert [[call.invoked for call in part] for part in COUNTER.parts(calls(*rows))] == [
        [2],
        [4],
        [7],
        [10],
    ]


def test_thousands_of_concurrent_adds_and_reads_are_decided_without_a_search() -> None:
    rows: list[Row] = [(0, "invoke", "add", 1)]
    for number in range(3000):
        rows += [(1 - number % 2, "invoke", "add", 1), (2, "invoke", "read", None)]
        rows += [(number % 2, "ok", "add", None), (2, "ok", "read", number + number % 2)]
    asked: list[None] = []
    assert COUNTER.decide(calls(*rows), 0, lambda: asked.append(None)) == Explained()
    assert asked
    assert isinstance(decide(*rows, *read(5)), Impossible)


# The search beside it, over histories of an object that works, spoilt or not.

CHOICES = st.lists(st.integers(0, 59), min_size=4, max_size=40)
AMOUNTS: list[list[float]] = [[1], [1, 2], [1, -1, 3], [0.1], [0.5, 2]]


def served(choices: Sequence[int], initial: float) -> list[Row]:
    """What three clients of a counter see; some never hear, some are told something else."""
    rows: list[Row] = []
    names = [0, 1, 2]
    running: dict[int, tuple[str, Any, bool, Any]] = {}
    state = initial
    amounts = AMOUNTS[choices[0] % len(AMOUNTS)]
    for choice in choices:
        slot, chance = choice % 3, choice // 3
        process = names[slot]
        f, argument, done, result = running.get(slot, ("", None, False, None))
        if not f:
            f = "read" if chance < 9 else "add"
            argument = amounts[chance % len(amounts)] if f == "add" else None
            running[slot] = (f, argument, False, None)
            rows.append((process, "invoke", f, argument))
        elif chance < 2:
            del running[slot]
            names[slot] += 3 * chance
            rows.append((process, "info", f, None))
        elif done:
            del running[slot]
            rows.append((process, "ok", f, 2 if chance == 19 and f == "read" else result))
        else:
            state += argument or 0
            running[slot] = (f, argument, True, state if f == "read" else None)
    return rows


@settings(max_examples=300, deadline=None)
@given(choices=CHOICES, initial=st.sampled_from([0, -2, 0.5]), leave=st.integers(0, 255))
def test_what_is_decided_of_counters_is_what_the_search_finds(choices: list[int], initial: float, leave: int) -> None:
    chosen = calls(*served(choices, initial))[:9]
    answer = searched(COUNTER, chosen, initial)
    decision = COUNTER.decide(chosen, COUNTER.start(initial), lambda: None)
    assert decision is None or isinstance(decision, Explained) == (answer is None)
    if isinstance(decision, Impossible):
        assert all(call in chosen for call in decision.calls)
        assert searched(COUNTER, decision.calls, initial) is not None
    if answer is None:
        gone = [call for bit, part in enumerate(COUNTER.parts(chosen)) if leave >> bit & 1 for call in part]
        assert searched(COUNTER, [call for call in chosen if call not in gone], initial) is None


def test_the_model_under_this_name_is_the_counter_tested_here() -> None:
    assert MODELS["counter"] == COUNTER
