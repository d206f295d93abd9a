"""Stacks of distinct elements, decided without a search: hand-made cases, the search beside it, and long histories."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import searched

from chaos.checkers.model import Call, Decision, Explained, Impossible, calls_of
from chaos.checkers.models.queues import Stack
from chaos.history import Event, operations

MODEL = Stack()


def decided(events: Sequence[Event], initial: Any = None) -> Decision:
    start: Any = MODEL.start(initial)
    return MODEL.decide(calls_of(MODEL, operations(events)), start, lambda: None)


def reason(decision: Decision) -> str:
    assert isinstance(decision, Impossible)
    return decision.reason


def pushed(decision: Decision) -> list[Any]:
    """The elements whose pushes are part of the proof."""
    assert isinstance(decision, Impossible)
    return [call.argument for call in decision.calls if call.f == "push"]


def push(process: int, value: Any) -> list[Row]:
    return [(process, "invoke", "push", value), (process, "ok", "push", value)]


def pop(process: int, value: Any) -> list[Row]:
    return [(process, "invoke", "pop", None), (process, "ok", "pop", value)]


def lost_pop(process: int) -> list[Row]:
    return [(process, "invoke", "pop", None), (process, "info", "pop", None)]


def quick(*calls: tuple[str, Any, int, int]) -> list[Call]:
    """Calls (f, element, invoked, completed) as they come, for histories that would take long to write down."""
    (operation,) = operations(history(*push(0, 0)))
    return [
        Call(f, *((element, None) if f == "push" else (None, element)), 0, True, False, False, begin, end, operation)
        for f, element, begin, end in calls
    ]


def nest(order: Sequence[int]) -> list[Call]:
    """As many elements pushed one after the other, then popped in `order`."""
    fs = [("push", value) for value in range(len(order))] + [("pop", value) for value in order]
    return quick(*((f, value, 2 * number, 2 * number + 1) for number, (f, value) in enumerate(fs)))


def test_nested_elements_with_empty_pops_before_between_and_after_are_explained() -> None:
    rows = [*push(0, 1), *push(0, 2), *pop(1, 2), *push(0, 3), *pop(1, 3), *pop(1, 1)]
    rows = [*pop(1, None), *rows, *pop(1, None), *push(0, 4), *pop(1, 4), *pop(1, None)]
    assert decided(history(*rows)) == Explained()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*pop(0, 7)], "7 was taken, and never put in"),
        ([*pop(0, 7), *push(1, 7)], "7 was taken before it was put in"),
        ([*push(1, 7), *pop(0, 7), *pop(0, 7)], "7 was taken twice, and put in once at the most"),
        ([*push(1, 7), *pop(0, None)], "nothing was found, although 7 was certainly inside"),
        (
            [*push(0, 1), *push(0, 2), *pop(0, 1), *pop(0, 2)],
            "2 was pushed after 1 and before 1 was popped, and not popped before it",
        ),
        (
            [*push(0, 1), *push(0, 2), *pop(0, 1)],
            "2 was pushed after 1 and before 1 was popped, and not popped before it",
        ),
    ],
    ids=["never put", "too early", "twice", "not empty", "first in first out", "covered by what stays"],
)
def test_what_no_stack_does_is_impossible(rows: list[Row], words: str) -> None:
    assert reason(decided(history(*rows))) == words


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_concurrent_pushes_and_concurrent_pops_come_in_either_order(order: tuple[int, int]) -> None:
    pushes = [(0, "invoke", "push", 1), *push(1, 2), (0, "ok", "push", 1)]
    pops = [(0, "invoke", "pop", None), *pop(1, order[0]), (0, "ok", "pop", order[1])]
    assert decided(history(*pushes, *pop(0, order[0]), *pop(0, order[1]))) == Explained()
    assert decided(history(*push(0, 1), *push(0, 2), *pops)) == Explained()


def test_an_element_whose_push_and_pop_overlap_restricts_nothing() -> None:
    rows = [*push(0, 1), (1, "invoke", "push", 2), (2, "invoke", "pop", None), *push(0, 3), *pop(0, 3), *pop(0, 1)]
    assert decided(history(*rows, (2, "ok", "pop", 2), (1, "ok", "push", 2), *pop(0, None))) == Explained()


def test_three_elements_can_contradict_each_other_of_which_no_two_do() -> None:
    rows: list[Row] = [(2, "invoke", "push", 2), *push(1, 1), (3, "invoke", "push", 3), (2, "ok", "push", 2)]
    rows += [(1, "invoke", "pop", None), (3, "ok", "push", 3), (1, "ok", "pop", 1), *pop(2, 2), *pop(3, 3)]
    decision = decided(history(*rows))
    assert reason(decision) == "1, 2, 3 were inside without a gap, and none of them can have been below the others"
    assert pushed(decision) == [2, 1, 3]
    calls = calls_of(MODEL, operations(history(*rows)))
    for part in MODEL.parts(calls):
        assert MODEL.decide([call for call in calls if call not in part], (), lambda: None) == Explained()


@pytest.mark.parametrize("crossed", [True, False])
def test_a_crossing_deep_in_a_nest_is_found_and_named(crossed: bool) -> None:
    order = list(range(99, -1, -1))
    if crossed:
        order[39], order[40] = order[40], order[39]
    decision = MODEL.decide(nest(order), (), lambda: None)
    if crossed:
        assert pushed(decision) == [59, 60]
        assert isinstance(decision, Impossible)
        assert len(decision.calls) == 4
    else:
        assert decision == Explained()


def test_of_a_long_chain_of_crossings_only_one_is_shown() -> None:
    rows = [*push(0, 0)]
    for value in range(1, 2000):
        rows += [*push(0, value), *pop(0, value - 1)]
    assert pushed(decided(history(*rows))) == [0, 1]


def test_a_push_of_unknown_outcome_may_come_late_or_never() -> None:
    unknown: list[Row] = [(0, "invoke", "push", 1), (0, "info", "push", None)]
    for rest in ([], pop(1, 1), [*push(2, 2), *pop(1, 1), *pop(1, 2)]):
        assert decided(history(*unknown, *pop(1, None), *rest, *pop(1, None))) == Explained()


def test_a_pop_of_unknown_outcome_explains_one_missing_element_and_only_after_its_invocation() -> None:
    two = [*push(0, 1), *push(0, 2)]
    assert decided(history(*two, *lost_pop(5), *pop(1, 1))) == Explained()
    assert decided(history(*lost_pop(5), *two, *pop(1, 1))) == Explained()
    assert decided(history(*two, *push(0, 3), *lost_pop(5), *lost_pop(6), *pop(1, 1))) == Explained()
    too_few = decided(history(*two, *push(0, 3), *lost_pop(5), *pop(1, 1), *lost_pop(6)))
    assert reason(too_few) == (
        "2, 3 had to be popped before older elements were, or before nothing was found;"
        " the takes of unknown outcome (1) do not explain it"
    )
    assert pushed(too_few) == [1, 2, 3]
    too_late = decided(history(*two, *pop(1, 1), *lost_pop(5)))
    assert isinstance(too_late, Impossible)
    assert [call.known for call in too_late.calls] == [True, True, True]


def test_a_pop_of_unknown_outcome_explains_no_crossing_of_popped_elements() -> None:
    crossing = [*push(0, 1), *push(0, 2), *pop(0, 1), *pop(0, 2)]
    decision = decided(history(*lost_pop(5), *push(1, 0), *crossing))
    assert pushed(decision) == [1, 2]
    assert isinstance(decision, Impossible)
    assert len(decision.calls) == 4


def test_a_pop_of_unknown_outcome_explains_an_empty_pop() -> None:
    assert decided(history(*push(0, 1), *lost_pop(5), *pop(1, None))) == Explained()
    assert isinstance(decided(history(*push(0, 1), *push(0, 2), *lost_pop(5), *pop(1, None))), Impossible)


def test_pops_of_unknown_outcome_go_to_the_elements_that_must_be_gone_first() -> None:
    rows = [*push(0, 1), *lost_pop(5), *pop(1, None), *push(0, 2), *push(0, 3), *lost_pop(6), *pop(1, 2)]
    assert decided(history(*rows)) == Explained()


def test_one_pop_of_unknown_outcome_cannot_serve_an_empty_pop_and_an_older_element() -> None:
    rows: list[Row] = [*lost_pop(5), (7, "invoke", "push", 2), *push(0, 1), (9, "invoke", "pop", None)]
    rows += [(7, "ok", "push", 2), *pop(0, 1), (9, "ok", "pop", None)]
    rows += [*push(0, 3), *push(0, 4), *pop(1, 3), *lost_pop(6)]
    assert decided(history(*rows)) != Explained()
    assert searched(MODEL, calls_of(MODEL, operations(history(*rows)))) is not None


def test_the_initial_contents_lie_below_everything_the_last_on_top() -> None:
    assert decided(history(*push(0, 3), *pop(0, 3), *pop(0, 2), *pop(0, 1), *pop(0, None)), [1, 2]) == Explained()
    assert isinstance(decided(history(*pop(0, 1), *pop(0, 2)), [1, 2]), Impossible)
    assert isinstance(decided(history(*push(0, 3), *pop(0, 2)), [1, 2]), Impossible)


def test_an_element_pushed_twice_is_left_to_the_search() -> None:
    assert decided(history(*push(0, 1), *push(0, 1))) is None
    assert decided(history(*push(0, 1)), [1]) is None


def test_elements_of_the_initial_contents_and_pops_of_unknown_outcome_belong_to_no_part() -> None:
    rows = [*pop(1, 1), *push(0, 2), *pop(1, None), *pop(1, 2), *lost_pop(5)]
    calls = calls_of(MODEL, operations(history(*rows)))
    assert MODEL.parts(calls, (1,)) == [[calls[1], calls[3]], [calls[2]]]


def test_the_budget_is_asked_about_every_few_thousand_calls() -> None:
    calls = nest(range(9_999, -1, -1))
    asked: list[None] = []
    MODEL.decide(calls, (), lambda: asked.append(None))
    assert len(asked) >= 20


def test_a_nest_of_fifty_thousand_elements_is_explained() -> None:
    assert MODEL.decide(nest(range(49_999, -1, -1)), (), lambda: None) == Explained()


def test_a_hundred_thousand_operations_of_five_clients_are_explained_and_one_crossing_is_found() -> None:
    calls: list[tuple[str, Any, int, int]] = []
    for begin in range(0, 50_000, 5):
        for at, f in ((4 * begin, "push"), (4 * begin + 10, "pop")):
            calls += [(f, begin + client, at + client, at + client + 5) for client in range(5)]
    assert MODEL.decide(quick(*calls), (), lambda: None) == Explained()
    taller = quick(("push", -1, -4, -3), ("push", -2, -2, -1), *calls[:1000], ("pop", -1, 2001, 2002))
    assert pushed(MODEL.decide(taller, (), lambda: None)) == [-1, -2]


@st.composite
def stack_histories(draw: st.DrawFn) -> tuple[list[Event], list[int]]:
    """A stack's real history, of up to ten operations of three clients, in which pops may then be made wrong."""
    initial = [-1, -2][: draw(st.integers(0, 2))]
    items = list(initial)
    rows: list[Row] = []
    running: dict[int, tuple[str, Any]] = {}
    effects: dict[int, Any] = {}
    names = [0, 1, 2]
    invoked = 0
    for slot, choice in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=8, max_size=30)):
        process = names[slot]
        if process not in running:
            if invoked < 10:
                invoked += 1
                running[process] = ("push", invoked) if choice < 6 else ("pop", None)
                rows.append((process, "invoke", *running[process]))
            continue
        f, value = running[process]
        if process not in effects and choice < 11:
            if f == "push":
                items.append(value)
            effects[process] = value if f == "push" else items.pop() if items else None
        if choice < 4:
            continue
        del running[process]
        result = effects.pop(process, None)
        if choice > 9:
            rows.append((process, "info", f, None))
            names[slot] += 3
        else:
            rows.append((process, "ok", f, result))
    pops = [place for place, row in enumerate(rows) if row[1:3] == ("ok", "pop")]
    for one, other in draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=1)):
        if max(one, other) < len(pops):
            first, second = rows[pops[one]], rows[pops[other]]
            rows[pops[one]], rows[pops[other]] = (*first[:3], second[3]), (*second[:3], first[3])
    if pops and draw(st.booleans()):
        last = rows[pops[-1]]
        rows[pops[-1]] = (*last[:3], draw(st.none() | st.integers(-2, 10)))
    return history(*rows), initial


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_decision_its_proof_and_the_parts_agree_with_the_search(data: st.DataObject) -> None:
    events, initial = data.draw(stack_histories())
    calls = calls_of(MODEL, operations(events))
    start: Any = MODEL.start(initial)
    decision = MODEL.decide(calls, start, lambda: None)
    possible = searched(MODEL, calls, initial) is None
    left_out = [part for part in MODEL.parts(calls, start) if data.draw(st.booleans())]
    if decision is None:
        assert any(not call.known and call.f == "pop" for call in calls)
    else:
        assert isinstance(decision, Explained) == possible
    if isinstance(decision, Impossible):
        assert searched(MODEL, decision.calls, initial) is not None
        left_out = [part for part in left_out if not any(call in decision.calls for call in part)]
    if decision is not None:
        kept = [call for call in calls if not any(call in part for part in left_out)]
        assert possible == (searched(MODEL, kept, initial) is None)
