"""Sets without a search: hand-made cases both ways, the search beside them, large right histories, and accounts."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from brute import explained
from histories import Row, history
from hypothesis import given, settings
from random_histories import one_key

from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.sets import GrowShrinkSet
from chaos.history import operations
from testbed.base.rand import Streams

SET = GrowShrinkSet()

DENSE_HISTORIES: Final = 3000


def no_budget() -> None:
    """Nobody is in a hurry."""


def decided(rows: Sequence[Row], initial: Any = None) -> Decision:
    return SET.decide(calls_of(SET, operations(history(*rows))), frozenset(initial or ()), no_budget)


def done(process: int, f: str, argument: Any, result: Any = None) -> list[Row]:
    return [(process, "invoke", f, argument), (process, "ok", f, result)]


def lost(process: int, f: str, argument: Any) -> list[Row]:
    return [(process, "invoke", f, argument), (process, "info", f, None)]


def read(*items: Any) -> list[Row]:
    return done(1, "read", None, list(items))


ADD, REMOVE = done(0, "add", 1), done(0, "remove", 1)
FOUND, MISSED = done(1, "contains", 1, True), done(1, "contains", 1, False)


def test_an_element_is_there_between_its_add_and_its_remove() -> None:
    assert isinstance(decided([*MISSED, *ADD, *FOUND, *REMOVE, *MISSED]), Explained)
    for wrong in ([*FOUND, *ADD], [*ADD, *MISSED], [*ADD, *REMOVE, *FOUND], [*FOUND]):
        assert isinstance(decided(wrong), Impossible)


def test_an_initial_element_was_there_before_everything() -> None:
    assert isinstance(decided([*FOUND, *REMOVE, *MISSED, *ADD, *FOUND], [1]), Explained)
    assert isinstance(decided([*MISSED, *REMOVE], [1]), Impossible)
    assert isinstance(decided([*read(1), *REMOVE, *read()], [1]), Explained)


def test_whoever_asks_during_an_add_may_find_the_element_or_not_but_not_lose_it_again() -> None:
    for asked in ([*FOUND], [*MISSED], [*MISSED, *FOUND]):
        assert isinstance(decided([ADD[0], *asked, ADD[1]]), Explained)
    assert isinstance(decided([ADD[0], *FOUND, *MISSED, ADD[1]]), Impossible)


def test_an_add_of_unknown_outcome_counts_from_when_it_was_seen() -> None:
    rows = lost(0, "add", 1)
    assert isinstance(decided([*rows, *MISSED, *FOUND]), Explained)
    assert isinstance(decided([*rows, *FOUND, *MISSED]), Impossible)
    assert isinstance(decided([*rows, *read(), *read(1)]), Explained)
    assert isinstance(decided([*rows, *read(1), *read()]), Impossible)


def test_a_remove_of_unknown_outcome_explains_a_missing_element_once_and_for_all() -> None:
    rows = [*ADD, *lost(5, "remove", 1)]
    assert isinstance(decided([*rows, *read(1), *read()]), Explained)
    assert isinstance(decided([*rows, *read(), *read(1)]), Impossible)


def test_an_element_that_comes_and_goes_many_times_is_searched_for_alone() -> None:
    assert isinstance(decided([*ADD, *REMOVE, *ADD, *FOUND, *REMOVE, *MISSED] * 20), Explained)
    decision = decided([*ADD, *REMOVE, *ADD, *FOUND, *REMOVE, *FOUND, *done(3, "add", 2)])
    assert isinstance(decision, Impossible)
    assert all(call.argument == 1 for call in decision.calls)
    assert decided([*ADD, *REMOVE, *ADD, *read(1)]) is None


def test_of_several_adds_without_a_remove_the_first_counts_and_of_removes_too() -> None:
    assert isinstance(decided([*read(), *ADD, *FOUND, *ADD, *read(1)]), Explained)
    assert isinstance(decided([*read(1), *REMOVE, *MISSED, *REMOVE, *read()], [1]), Explained)
    assert isinstance(decided([*ADD, *read(), *ADD]), Impossible)
    assert isinstance(decided([*REMOVE, *read(1), *REMOVE], [1]), Impossible)
    assert isinstance(decided([*read(1), *ADD], [1]), Explained)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ([*ADD, *read()], "add read"),
        ([*ADD, *read(), *read(1)], "add read read"),
        (read(1), "read"),
        ([*ADD, *read(1, 1)], "read"),
        ([*read(1), *ADD], "read add"),
        ([*ADD, *REMOVE, *read(1)], "add remove read"),
    ],
)
def test_a_read_that_lies_about_one_element_is_impossible(wrong: list[Row], shown: str) -> None:
    decision = decided(wrong)
    assert isinstance(decision, Impossible)
    assert " ".join(call.f for call in decision.calls) == shown


def test_concurrent_reads_may_see_concurrent_adds_only_in_one_order() -> None:
    adds: list[Row] = [(2, "invoke", "add", 1), (3, "invoke", "add", 2)]
    end: list[Row] = [(2, "ok", "add", None), (3, "ok", "add", None)]
    begun: list[Row] = [(4, "invoke", "read", None), (5, "invoke", "read", None)]
    assert isinstance(decided([*adds, *begun, (4, "ok", "read", [1, 2]), (5, "ok", "read", [1]), *end]), Explained)
    assert isinstance(decided([*adds, *begun, (4, "ok", "read", [2]), (5, "ok", "read", [1]), *end]), Impossible)


def test_reads_that_no_order_explains_are_impossible_whatever_is_not_certain_about_other_elements() -> None:
    adds: list[Row] = [(2, "invoke", "add", 1), (3, "invoke", "add", 2)]
    end: list[Row] = [(2, "ok", "add", None), (3, "ok", "add", None)]
    begun: list[Row] = [(4, "invoke", "read", None), (5, "invoke", "read", None)]
    wrong: list[Row] = [*adds, *begun, (4, "ok", "read", [2]), (5, "ok", "read", [1]), *end]
    either: list[Row] = [
        (6, "invoke", "add", 7),
        (7, "invoke", "remove", 7),
        (6, "ok", "add", 7),
        (7, "ok", "remove", 7),
    ]
    again = [*done(0, "add", 8), *done(0, "remove", 8)] * 2
    assert isinstance(decided([*wrong, *either]), Impossible)
    assert isinstance(decided([*wrong, *again]), Impossible)
    assert isinstance(decided([*either, *read()]), Explained)
    assert decided([*again, *read()]) is None


def test_a_read_waits_for_whoever_asked_before_the_element_came() -> None:
    begun: list[Row] = [(2, "invoke", "add", 1), (4, "invoke", "read", None), (5, "invoke", "read", None)]
    asked: list[Row] = [MISSED[0], (2, "ok", "add", None), (6, "invoke", "remove", 1), MISSED[1], *done(3, "add", 2)]
    first, second = (4, "ok", "read", [1]), (5, "ok", "read", [1, 2])
    end: list[Row] = [(6, "ok", "remove", None)]
    assert isinstance(decided([*begun, *asked, first, second, *end]), Explained)
    assert not isinstance(decided([*begun, first, *asked, second, *end]), Explained)


def test_who_missed_an_element_while_reads_saw_it_before_and_after_is_not_explained() -> None:
    begun: list[Row] = [(2, "invoke", "add", 1), (4, "invoke", "read", None), (5, "invoke", "read", None)]
    asked: list[Row] = [MISSED[0], (2, "ok", "add", None), (6, "invoke", "remove", 1), MISSED[1], *done(3, "add", 2)]
    first, second = (4, "ok", "read", [1, 3]), (5, "ok", "read", [1, 2])
    end: list[Row] = [(6, "ok", "remove", None)]
    assert not isinstance(decided([*begun, *done(0, "remove", 3), *asked, first, second, *end], [3]), Explained)


def test_a_read_that_missed_an_element_after_its_remove_began_saw_what_was_added_before() -> None:
    rows: list[Row] = [*ADD, *read(1), (4, "invoke", "read", None), *done(3, "add", 2), (6, "invoke", "remove", 1)]
    rows += [(4, "ok", "read", []), (6, "ok", "remove", None)]
    assert isinstance(decided([*rows, *read(2)]), Impossible)


def test_the_same_reads_in_another_order_may_leave_time_for_an_element_to_come() -> None:
    rows: list[Row] = [(5, "invoke", "read", None), (4, "invoke", "read", None), (1, "invoke", "add", 2)]
    rows += [(6, "invoke", "read", None), (7, "invoke", "read", None), *ADD, (5, "ok", "read", [2])]
    rows += [(2, "invoke", "remove", 2), (7, "ok", "read", [1]), (1, "ok", "add", None)]
    rows += [(6, "ok", "read", []), (4, "ok", "read", [2]), (2, "ok", "remove", None)]
    assert isinstance(decided(rows), Explained)


def large(seed: int, steps: int, clients: int, reads: float, removes: float) -> list[Row]:
    random = Streams(seed).stream("set")
    rows: list[Row] = []
    held: dict[int, None] = {}
    fresh = 0
    names = list(range(clients))
    running: dict[int, list[Any]] = {}
    settled: list[int] = []
    for _ in range(steps):
        slot = random.randrange(clients)
        call = running.get(slot)
        if call is None:
            draw = random.random()
            if draw < reads:
                call = ["read", None, None, False]
            elif draw < reads + removes and settled:
                call = ["remove", settled.pop(random.randrange(len(settled))), None, False]
            elif draw < reads + removes + 0.2:
                call = ["contains", random.randint(max(0, fresh - 20), fresh), None, False]
            else:
                fresh += 1
                call = ["add", fresh, None, False]
            running[slot] = call
            rows.append((names[slot], "invoke", call[0], call[1]))
        elif not call[3]:
            call[3] = True
            if call[0] == "add":
                held[call[1]] = None
            elif call[0] == "remove":
                held.pop(call[1], None)
            else:
                call[2] = list(held) if call[0] == "read" else call[1] in held
        else:
            known = random.random() > 0.03
            rows.append((names[slot], "ok" if known else "info", call[0], call[2] if known else None))
            settled.extend([call[1]] if call[0] == "add" and known else [])
            del running[slot]
    return rows


@pytest.mark.parametrize("clients", [2, 10, 50])
@pytest.mark.parametrize(
    ("reads", "removes"), [(0.0, 0.0), (0.0, 0.3), (0.01, 0.0), (0.002, 0.2), (0.05, 0.35), (0.3, 0.25)]
)
def test_a_large_right_history_is_explained_without_a_search(clients: int, reads: float, removes: float) -> None:
    assert isinstance(decided(large(clients, 9000, clients, reads, removes)), Explained)


def test_the_budget_is_asked_about_again_and_again() -> None:
    asked: list[None] = []
    calls = calls_of(SET, operations(history(*large(1, 9000, 10, 0.01, 0.0))))
    SET.decide(calls, frozenset(), lambda: asked.append(None))
    assert len(asked) >= 10


@settings(max_examples=300, deadline=None)
@given(drawn=one_key("set"))
def test_what_is_decided_is_what_brute_force_finds(drawn: Any) -> None:
    calls = calls_of(SET, operations(history(*drawn.rows)))
    decision = SET.decide(calls, SET.start(drawn.initial), no_budget)
    if decision is not None:
        assert isinstance(decision, Explained) == explained(SET, calls, SET.start(drawn.initial))


def test_an_account_names_what_became_of_the_elements() -> None:
    rows = [row for item in range(1, 6) for row in done(0, "add", item)]
    rows += [*read(1, 2, 3, 3), *read(1, 2, 4), *done(0, "remove", 2), *read(1, 4), *done(0, "add", 9)]
    assert SET.account(operations(history(*rows))) == (
        "of 5 acknowledged: 2 lost (3, 5), 1 stale (4), 1 never read (9), 1 duplicated (3)"
    )
    assert SET.account(operations(history(*ADD))) == ""
    assert SET.account(operations(history(*ADD, *MISSED))).startswith("of 1 acknowledged: 1 lost (1), 0 stale")


def test_only_elements_that_no_read_could_miss_are_parts() -> None:
    rows = [*ADD, *FOUND, *done(0, "add", 2), *done(0, "add", 3), *done(1, "contains", 3, True), *read(3)]
    calls = calls_of(SET, operations(history(*rows)))
    assert SET.parts(calls) == [calls[:2], [calls[2]], [calls[4]], [calls[5]]]
    assert SET.parts(calls[:5]) == [calls[:2], [calls[2]], calls[3:5]]


def dense(seed: int) -> list[Row]:
    """Adds and removes of two elements, and calls that saw them or not by chance, mostly at the same time."""
    random = Streams(seed).stream("set")
    asked: list[tuple[str, Any, Any]] = [("add", 1, None), ("add", 2, None)]
    asked += [("remove", item, None) for item in (1, 2) if random.random() < 0.8]
    for _ in range(random.randint(2, 4)):
        if random.random() < 0.7:
            asked.append(("read", None, [item for item in (1, 2) if random.random() < 0.5]))
        else:
            asked.append(("contains", 1, random.random() < 0.5))
    placed: list[tuple[float, Row]] = []
    for process, (f, argument, result) in enumerate(asked):
        begun = random.random()
        placed.append((begun, (process, "invoke", f, argument)))
        if f in SET.observations or random.random() < 0.8:
            lasting = 0.6 if f in SET.observations else 1.2
            placed.append((begun + random.random() * lasting, (process, "ok", f, result)))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def test_dense_histories_are_decided_as_brute_force_does_and_nearly_all_of_them() -> None:
    undecided = 0
    for seed in range(DENSE_HISTORIES):
        calls = calls_of(SET, operations(history(*dense(seed))))
        decision = SET.decide(calls, frozenset(), no_budget)
        undecided += decision is None
        if decision is not None:
            assert isinstance(decision, Explained) == explained(SET, calls, frozenset()), seed
        if isinstance(decision, Impossible):
            assert not explained(SET, decision.calls, frozenset()), seed
    assert undecided < DENSE_HISTORIES // 50
