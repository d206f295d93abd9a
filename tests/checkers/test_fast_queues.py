"""Queues of distinct elements, decided without a search: hand-made cases, the search beside it, and long histories."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import searched

from chaos.checkers.model import Call, Decision, Explained, Impossible, calls_of
from chaos.checkers.models.queues import FifoQueue, Queue
from chaos.history import Event, operations

MODELS: list[FifoQueue | Queue] = [FifoQueue(), Queue()]
BOTH = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def decided(model: FifoQueue | Queue, events: Sequence[Event], initial: Any = None) -> Decision:
    start: Any = model.start(initial)
    return model.decide(calls_of(model, operations(events)), start, lambda: None)


def reason(decision: Decision) -> str:
    assert isinstance(decision, Impossible)
    return decision.reason


def proof(decision: Decision) -> list[tuple[str, Any]]:
    """The proof's calls, each with the element that it put in or took."""
    assert isinstance(decision, Impossible)
    return [(call.f, call.argument if call.f == "enqueue" else call.result) for call in decision.calls]


def put(process: int, value: Any) -> list[Row]:
    return [(process, "invoke", "enqueue", value), (process, "ok", "enqueue", value)]


def take(process: int, value: Any) -> list[Row]:
    return [(process, "invoke", "dequeue", None), (process, "ok", "dequeue", value)]


def lost_take(process: int) -> list[Row]:
    return [(process, "invoke", "dequeue", None), (process, "info", "dequeue", None)]


def quick(*calls: tuple[str, Any, int, int]) -> list[Call]:
    """Calls (f, element, invoked, completed) as they come, for histories that would take long to write down."""
    (operation,) = operations(history(*put(0, 0)))
    return [
        Call(f, *((element, None) if f == "enqueue" else (None, element)), 0, True, False, False, begin, end, operation)
        for f, element, begin, end in calls
    ]


@BOTH
def test_elements_in_turn_with_empty_takes_between_are_explained(model: FifoQueue | Queue) -> None:
    rows = [*take(0, None), *put(1, 1), *take(0, 1), *take(0, None), *put(1, 2), *take(0, 2), *take(0, None)]
    assert decided(model, history(*rows)) == Explained()


@BOTH
@pytest.mark.parametrize(
    ("rows", "words", "calls"),
    [
        ([*take(0, 7)], "7 was taken, and never put in", [("dequeue", 7)]),
        (
            [*take(0, 7), *put(1, 7)],
            "7 was taken before it was put in",
            [("dequeue", 7), ("enqueue", 7)],
        ),
        (
            [*put(1, 7), *take(0, 7), *take(0, 7)],
            "7 was taken twice, and put in once at the most",
            [("enqueue", 7), ("dequeue", 7), ("dequeue", 7)],
        ),
        (
            [*put(1, 6), *put(1, 7), *take(0, 6), *take(0, None), *take(0, 7)],
            "nothing was found, although 7 was certainly inside",
            [("enqueue", 7), ("dequeue", None), ("dequeue", 7)],
        ),
    ],
    ids=["never put", "too early", "twice", "not empty"],
)
def test_what_no_queue_does_is_impossible(
    model: FifoQueue | Queue, rows: list[Row], words: str, calls: list[tuple[str, Any]]
) -> None:
    decision = decided(model, history(*rows))
    assert reason(decision) == words
    assert sorted(proof(decision), key=repr) == sorted(calls, key=repr)


@BOTH
@pytest.mark.parametrize("overlap", [True, False])
def test_a_chain_of_elements_covers_an_empty_take_if_each_comes_before_the_one_before_has_left(
    model: FifoQueue | Queue, overlap: bool
) -> None:
    rows: list[Row] = [*put(0, 1), (9, "invoke", "dequeue", None)]
    for value in range(2, 5):
        rows += [*put(0, value), *take(1, value - 1)] if overlap else [*take(1, value - 1), *put(0, value)]
    rows += [(9, "ok", "dequeue", None), *put(0, 5), *take(1, 4)]
    decision = decided(model, history(*rows))
    if overlap:
        assert reason(decision) == (
            "nothing was found, although 1, 2, 3, 4 were certainly inside, one or another all the time"
        )
        assert len(proof(decision)) == 9
    else:
        assert decision == Explained()


@BOTH
def test_the_chain_that_covers_an_empty_take_is_as_short_as_possible(model: FifoQueue | Queue) -> None:
    rows = [*put(0, 1), *put(0, 2), (9, "invoke", "dequeue", None), *take(1, 1), *put(0, 3), *take(1, 2)]
    rows += [*put(0, 4), (9, "ok", "dequeue", None), *take(1, 3), *take(1, 4)]
    decision = decided(model, history(*rows))
    assert reason(decision).startswith("nothing was found, although 2, 3 were certainly inside")


@BOTH
def test_the_element_that_stays_longest_covers_an_empty_take_whichever_was_put_in_last(
    model: FifoQueue | Queue,
) -> None:
    rows: list[Row] = [(0, "invoke", "enqueue", 1), (1, "invoke", "enqueue", 2)]
    rows += [(0, "ok", "enqueue", 1), (1, "ok", "enqueue", 2), (9, "invoke", "dequeue", None)]
    rows += [*take(1, 2), *put(0, 3), (9, "ok", "dequeue", None), *take(1, 1), *take(1, 3)]
    decision = decided(model, history(*rows))
    assert reason(decision) == "nothing was found, although 1 was certainly inside"
    assert len(proof(decision)) == 3


@BOTH
def test_an_instant_between_two_events_suffices_to_find_nothing(model: FifoQueue | Queue) -> None:
    rows: list[Row] = [*put(0, 1), (2, "invoke", "enqueue", 2), (9, "invoke", "dequeue", None)]
    rows += [(1, "invoke", "dequeue", None), (2, "ok", "enqueue", 2), (9, "ok", "dequeue", None)]
    assert decided(model, history(*rows, (1, "ok", "dequeue", 1), *take(1, 2))) == Explained()


@BOTH
def test_an_element_may_be_put_in_and_taken_at_one_instant(model: FifoQueue | Queue) -> None:
    rows = [(0, "invoke", "enqueue", 1), (1, "invoke", "dequeue", None), *take(2, None), *put(3, 2), *take(2, 2)]
    rows += [*take(2, None), (0, "ok", "enqueue", 1), (1, "ok", "dequeue", 1)]
    assert decided(model, history(*rows)) == Explained()


@pytest.mark.parametrize("concurrent", [True, False])
def test_elements_leave_a_fifo_queue_in_another_order_only_if_they_were_put_in_concurrently(concurrent: bool) -> None:
    rows = [(0, "invoke", "enqueue", 1), *put(1, 2), (0, "ok", "enqueue", 1)]
    rows = [*(rows if concurrent else [*put(0, 1), *put(1, 2)]), *take(0, 2), *take(1, 1)]
    decision = decided(FifoQueue(), history(*rows))
    assert decided(Queue(), history(*rows)) == Explained()
    if concurrent:
        assert decision == Explained()
    else:
        assert reason(decision) == "1 was put in before 2, and taken after it"
        assert len(proof(decision)) == 4


def test_in_a_fifo_queue_an_element_that_is_never_taken_lets_no_later_one_leave() -> None:
    decision = decided(FifoQueue(), history(*put(0, 1), *put(0, 2), *take(1, 2)))
    assert reason(decision) == "1 was put in before 2, and not taken before it"
    assert proof(decision) == [("enqueue", 1), ("enqueue", 2), ("dequeue", 2)]


@BOTH
def test_a_put_of_unknown_outcome_may_come_late_or_never(model: FifoQueue | Queue) -> None:
    unknown: list[Row] = [(0, "invoke", "enqueue", 1), (0, "info", "enqueue", None)]
    for rest in ([], take(1, 1), [*put(2, 2), *take(1, 2), *take(1, 1)]):
        assert decided(model, history(*unknown, *take(1, None), *rest, *take(1, None))) == Explained()
    assert reason(decided(model, history(*take(1, 1), *unknown))) == "1 was taken before it was put in"


@BOTH
def test_a_take_of_unknown_outcome_explains_one_missing_element_and_only_after_its_invocation(
    model: FifoQueue | Queue,
) -> None:
    missing = [*put(0, 1), *put(0, 2)]
    assert decided(model, history(*missing[:2], *lost_take(5), *take(1, None))) == Explained()
    assert decided(model, history(*lost_take(5), *missing[:2], *take(1, None))) == Explained()
    assert decided(model, history(*missing, *lost_take(5), *lost_take(6), *take(1, None))) == Explained()
    too_few = decided(model, history(*missing, *lost_take(5), *take(1, None), *lost_take(6)))
    assert reason(too_few).endswith("the takes of unknown outcome (1) do not explain it")
    assert proof(too_few) == [("enqueue", 1), ("enqueue", 2), ("dequeue", None), ("dequeue", None)]
    too_late = decided(model, history(*missing[:2], *take(1, None), *lost_take(5)))
    assert reason(too_late) == "nothing was found, although 1 was certainly inside"


def test_takes_of_unknown_outcome_let_as_many_elements_of_a_fifo_queue_be_overtaken() -> None:
    rows = [*put(0, 1), *lost_take(5), *put(0, 2), *put(0, 3)]
    assert decided(FifoQueue(), history(*rows, *lost_take(6), *take(1, 3))) == Explained()
    decision = decided(FifoQueue(), history(*rows, *take(1, 3), *lost_take(6)))
    assert isinstance(decision, Impossible)
    assert [call.argument for call in decision.calls if call.f == "enqueue"] == [1, 2, 3]
    assert [call.known for call in decision.calls if call.f == "dequeue"] == [False, True]


def test_initial_contents_were_put_in_before_everything_and_in_their_order() -> None:
    right = history(*put(0, 3), *take(1, 1), *take(1, 2), *take(1, 3), *take(1, None))
    wrong = history(*take(1, 2), *take(1, 1))
    assert decided(FifoQueue(), right, [1, 2]) == decided(Queue(), right, [1, 2]) == Explained()
    assert decided(Queue(), wrong, [1, 2]) == Explained()
    assert reason(decided(FifoQueue(), wrong, [1, 2])) == "1 was put in before 2, and taken after it"
    assert isinstance(decided(Queue(), history(*take(1, None)), [1]), Impossible)


@BOTH
def test_an_element_put_in_twice_is_left_to_the_search_unless_nobody_took_it_and_one_put_is_unknown(
    model: FifoQueue | Queue,
) -> None:
    assert decided(model, history(*put(0, 1), *put(0, 1))) is None
    assert decided(model, history(*put(0, 1)), [1]) is None
    assert decided(model, history(), [1, 1]) is None
    unknown: list[Row] = [(5, "invoke", "enqueue", 1), (5, "info", "enqueue", None)]
    assert decided(model, history(*unknown, *put(0, 1), *take(1, 1))) is None
    assert decided(model, history(*unknown, *put(0, 1))) == Explained()


@BOTH
def test_the_calls_of_a_value_are_one_part_and_takes_of_unknown_outcome_are_in_none(model: FifoQueue | Queue) -> None:
    rows = [*put(0, 1), *take(1, None), *put(0, 2), *take(1, 1), *put(0, 1), *lost_take(5), *take(1, 9)]
    calls = calls_of(model, operations(history(*rows)))
    assert model.parts(calls) == [[calls[0], calls[3], calls[4]], [calls[1]], [calls[2]]]
    start: Any = model.start([1])
    assert model.parts(calls, start) == [[calls[1]], [calls[2]]]


@BOTH
def test_the_budget_is_asked_about_every_few_thousand_calls(model: FifoQueue | Queue) -> None:
    calls = quick(*(("enqueue", number, 2 * number, 2 * number + 1) for number in range(20_000)))
    asked: list[None] = []
    start: Any = model.start(None)
    model.decide(calls, start, lambda: asked.append(None))
    assert len(asked) >= 10


@BOTH
def test_a_hundred_thousand_operations_are_explained_and_one_empty_take_too_many_is_found(
    model: FifoQueue | Queue,
) -> None:
    calls: list[tuple[str, Any, int, int]] = []
    for begin in range(0, 50_000, 5):
        for at, f in ((4 * begin, "enqueue"), (4 * begin + 10, "dequeue")):
            calls += [(f, begin + client, at + client, at + client + 5) for client in range(5)]
    start: Any = model.start(None)
    assert model.decide(quick(*calls), start, lambda: None) == Explained()
    last = [("dequeue", None, 200_001, 200_002), ("enqueue", -1, 200_003, 200_004), ("dequeue", None, 200_005, 200_006)]
    decision = model.decide(quick(*calls, *last), start, lambda: None)
    assert reason(decision) == "nothing was found, although -1 was certainly inside"


@st.composite
def queue_histories(draw: st.DrawFn) -> tuple[list[Event], list[int]]:
    """A queue's real history, of up to eight operations of three clients, in which takes may then be made wrong."""
    initial = [-1, -2][: draw(st.integers(0, 2))]
    items = list(initial)
    first_out = draw(st.booleans())
    rows: list[Row] = []
    running: dict[int, tuple[str, Any]] = {}
    effects: dict[int, Any] = {}
    names = [0, 1, 2]
    invoked = 0
    for slot, choice in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=6, max_size=24)):
        process = names[slot]
        if process not in running:
            if invoked < 8:
                invoked += 1
                running[process] = ("enqueue", invoked) if choice < 5 else ("dequeue", None)
                rows.append((process, "invoke", *running[process]))
            continue
        f, value = running[process]
        if process not in effects and choice < 9:
            if f == "enqueue":
                items.append(value)
            effects[process] = value if f == "enqueue" else items.pop(0 if first_out else -1) if items else None
        if choice < 4:
            continue
        del running[process]
        result = effects.pop(process, None)
        if choice > 7:
            rows.append((process, "info", f, None))
            names[slot] += 3
        else:
            rows.append((process, "ok", f, result))
    wrong = draw(st.lists(st.tuples(st.integers(0, 23), st.none() | st.integers(-2, 8)), max_size=2))
    for place, result in wrong:
        if place < len(rows) and rows[place][1:3] == ("ok", "dequeue"):
            rows[place] = (rows[place][0], "ok", "dequeue", result)
    return history(*rows), initial


@BOTH
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_decision_its_proof_and_the_parts_agree_with_the_search(
    model: FifoQueue | Queue, data: st.DataObject
) -> None:
    events, initial = data.draw(queue_histories())
    calls = calls_of(model, operations(events))
    start: Any = model.start(initial)
    decision = model.decide(calls, start, lambda: None)
    parts = model.parts(calls, start)
    left_out = [part for part in parts if data.draw(st.booleans())]
    assert decision is not None
    assert isinstance(decision, Explained) == (searched(model, calls, initial) is None)
    if isinstance(decision, Impossible):
        assert searched(model, decision.calls, initial) is not None
        left_out = [part for part in left_out if not any(call in decision.calls for call in part)]
    kept = [call for call in calls if not any(call in part for part in left_out)]
    assert isinstance(decision, Explained) == (searched(model, kept, initial) is None)
