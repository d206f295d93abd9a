"""Explanations: the shortest wrong prefix and the fewest operations of it are what they are said to be.

Nothing is taken from how they are found: each claim is judged once more, by `check`, as a history of its own.
"""

from collections.abc import Hashable, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from histories import Row, expires_after, history
from hypothesis import given, settings
from hypothesis import strategies as st
from random_histories import KINDS, several_keys, spoilt_key

from chaos import models
from chaos.checkers import MODELS, Call, Explanation, Model, Verdict, check
from chaos.checkers.model import Parts, calls_of
from chaos.checkers.models.custom import wrap
from chaos.checkers.values import freeze
from chaos.history import Event, Operation, Recorder, operations

EXAMPLES: Final = settings().max_examples

pytestmark = pytest.mark.timeout(60 + EXAMPLES // 10)

NAMES: Final = sorted(KINDS)


class Plain:
    """A model of a user's own, without parts: a built-in one's states and steps."""

    def __init__(self, right: Model, observations: frozenset[str]) -> None:
        self.operations = right.operations
        self.observations = observations
        self.refusals = True
        self._right = right

    def initial(self, given: Hashable) -> Hashable:
        return self._right.start(given)

    def step(self, state: Any, call: Any) -> Hashable | models.Inconsistent:
        back = {"argument": freeze(call.argument), "result": freeze(call.result)}
        return self._right.step(state, call._replace(**back))


def model_of(model: object) -> Model:
    found = MODELS[model] if isinstance(model, str) else model
    assert isinstance(found, Model)
    return found


def invalid(events: Sequence[Event], model: str | Model, initial: Any) -> bool:
    verdict = check(events, model, initial).verdict
    assert verdict != "unknown"
    return verdict == "invalid"


def account_of(verdict: Verdict) -> Explanation:
    assert verdict.verdict == "invalid"
    assert verdict.explanation is not None
    return verdict.explanation


def holds(explanation: Explanation, events: Sequence[Event], model: str | Model, initial: Any) -> None:
    """What an explanation of one key's events says is so, however early the budget ran out."""
    prefix = events[: explanation.prefix]
    assert invalid(prefix, model, initial), "the prefix can be explained"
    if explanation.shortest:
        shorter = [length for length in range(explanation.prefix) if invalid(events[:length], model, initial)]
        assert not shorter, f"{shorter[0]} events are wrong already"
    assert all(event in prefix for event in explanation.minimal), "there is more in the minimal part than in the prefix"
    assert invalid(explanation.minimal, model, initial), "the minimal part can be explained"
    told_of = operations(events)
    broken = next((one for one in told_of if explanation.operation.endswith(place_of(one))), None)
    assert broken is not None, "no operation is named"
    assert broken.completed is not None
    assert not explanation.shortest or broken.completed == explanation.prefix - 1, "the prefix ends with another one"
    may = {call.invoked for call in calls_of(model_of(model), told_of)}
    began = [one for one in told_of if one.invoked < broken.completed and one.invoked in may and one is not broken]
    still = [one for one in began if one.completed is None or one.completed > broken.completed]
    assert len(explanation.concurrent) == len(still)
    assert all(text.endswith(place_of(one)) for text, one in zip(explanation.concurrent, still, strict=True))


def place_of(operation: Operation) -> str:
    end = "on" if operation.completed is None else f"to {operation.completed}"
    return f" (process {operation.process}, events {operation.invoked} {end})"


def is_least(explanation: Explanation, model: str | Model, initial: Any) -> None:
    """No part of the minimal operations, and none that only observes, can be left out."""
    judge = model_of(model)
    told_of = operations(explanation.minimal)
    calls = calls_of(judge, told_of)
    assert len(calls) == len(told_of), "there are operations that mean nothing"
    parts = judge.parts(calls, judge.start(initial)) if isinstance(judge, Parts) else []
    for part in [*parts, *([call] for call in calls if call.observes)]:
        assert not invalid(without(explanation.minimal, part), model, initial), f"{part} can be left out"


def without(events: Sequence[Event], calls: Sequence[Call]) -> list[Event]:
    """The events without the invocations of these calls, and whatever was heard of them."""
    gone = {call.invoked for call in calls}
    kept: list[Event] = []
    silent: set[int | str] = set()
    for place, event in enumerate(events):
        if event.type == "invoke":
            (silent.add if place in gone else silent.discard)(event.process)
        if event.process not in silent:
            kept.append(event)
    return kept


def explained_in_full(events: Sequence[Event], model: str | Model, initial: Any) -> None:
    verdict = check(events, model, initial)
    if verdict.verdict == "valid":
        assert verdict.explanation is None
        return
    explanation = account_of(verdict)
    assert explanation.shortest
    holds(explanation, events, model, initial)
    is_least(explanation, model, initial)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES // 2)
@given(data=st.data())
def test_the_prefix_is_the_shortest_and_no_part_of_the_minimal_operations_can_go(
    name: str, data: st.DataObject
) -> None:
    drawn = data.draw(spoilt_key(name))
    explained_in_full(history(*drawn.rows), name, drawn.initial)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES // 5)
@given(data=st.data())
def test_without_parts_only_what_observes_is_left_out(name: str, data: st.DataObject) -> None:
    drawn = data.draw(spoilt_key(name))
    events = history(*drawn.rows)
    plain = model_of(wrap(Plain(model_of(name), model_of(name).observations), name))
    explained_in_full(events, plain, drawn.initial)
    verdict = check(events, plain, drawn.initial)
    if verdict.explanation is not None:
        prefix = events[: verdict.explanation.prefix]
        must = [call for call in calls_of(plain, operations(prefix)) if not call.observes]
        kept = {event.index for event in verdict.explanation.minimal}
        assert {prefix[call.invoked].index for call in must} <= kept


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES // 5)
@given(data=st.data())
def test_a_key_is_explained_as_if_it_were_alone_whatever_others_do_meanwhile(name: str, data: st.DataObject) -> None:
    rows, initial = data.draw(several_keys(name))
    recorder = Recorder()
    for time, (key, row) in enumerate(rows):
        recorder.add(time, row[0], row[1], row[2], key, row[3], row[4] if len(row) > 4 else None)
    events = recorder.events()
    verdict = check(events, name, initial)
    if verdict.verdict == "valid":
        assert verdict.explanation is None
        return
    explanation = account_of(verdict)
    own = [event for event in events if event.key == explanation.key]
    numbered = [msgspec.structs.replace(event, index=place) for place, event in enumerate(own)]
    alone = account_of(check(numbered, name, initial))
    assert (alone.shortest, alone.key, alone.states) == (explanation.shortest, explanation.key, explanation.states)
    assert own[: alone.prefix] == [event for event in events[: explanation.prefix] if event.key == explanation.key]
    assert events[explanation.prefix - 1] == own[alone.prefix - 1]
    assert explanation.minimal == [own[event.index] for event in alone.minimal]
    holds(alone, numbered, name, initial)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES // 10)
@given(data=st.data())
def test_a_budget_that_ends_after_the_verdict_leaves_it_and_what_was_found(name: str, data: st.DataObject) -> None:
    drawn = data.draw(spoilt_key(name))
    events = history(*drawn.rows)
    if not invalid(events, name, drawn.initial):
        return
    whole = check(events, name, drawn.initial)
    verdicts: list[Verdict] = []
    for questions in count():
        verdicts.append(check(events, name, drawn.initial, expires_after(questions)))
        if verdicts[-1] == whole:
            break
    decided = [verdict for verdict in verdicts if verdict.verdict == "invalid"]
    assert verdicts[-len(decided) :] == decided
    assert {verdict.verdict for verdict in verdicts} <= {"unknown", "invalid"}
    for verdict in decided:
        holds(account_of(verdict), events, name, drawn.initial)


# --- Written by hand. ---


class Case(NamedTuple):
    """A history; the operation that broke it, and the minimal ones, by the places of their events."""

    model: str
    rows: list[Row]
    broken: tuple[int, int]
    minimal: list[int]
    states: list[str]
    concurrent: list[str] = []  # noqa: RUF012  # never changed


def done(process: int, f: str, argument: Any, result: Any) -> list[Row]:
    return [(process, "invoke", f, argument), (process, "ok", f, result)]


CASES: Final[dict[str, Case]] = {
    "a stale read": Case(
        "register",
        [
            *done(0, "write", 1, 1),
            *done(1, "read", None, 1),
            *done(0, "write", 2, 2),
            *done(1, "read", None, 1),
            *done(0, "write", 3, 3),
        ],
        broken=(6, 7),
        minimal=[0, 1, 4, 5, 6, 7],
        states=["it holds 2"],
    ),
    "an element that overtakes another": Case(
        "fifo-queue",
        [
            *done(0, "enqueue", 1, 1),
            *done(0, "enqueue", 2, 2),
            *done(0, "enqueue", 3, 3),
            *done(1, "dequeue", None, 1),
            *done(1, "dequeue", None, 3),
            *done(1, "dequeue", None, 2),
        ],
        broken=(8, 9),
        minimal=[2, 3, 4, 5, 8, 9],
        states=["it holds [2, 3]"],
    ),
    "a lost update": Case(
        "cas-register",
        [
            *done(0, "write", 1, 1),
            (0, "invoke", "cas", [1, 2]),
            (1, "invoke", "cas", [1, 3]),
            (0, "ok", "cas", None),
            (2, "invoke", "read", None),
            (1, "ok", "cas", None),
        ],
        broken=(3, 6),
        minimal=[0, 1, 2, 3, 4, 6],
        states=["it holds 2"],
    ),
    "a lock held twice": Case(
        "mutex",
        [
            *done(0, "acquire", None, None),
            *done(0, "release", None, None),
            *done(0, "acquire", None, None),
            (2, "invoke", "acquire", None),
            *done(1, "acquire", None, None),
        ],
        broken=(7, 8),
        minimal=[4, 5, 7, 8],
        states=["the lock is held"],
        concurrent=["acquire with unknown outcome (process 2, events 6 on)"],
    ),
    "a failed write that was read": Case(
        "register",
        [
            (0, "invoke", "write", 7),
            *done(1, "read", None, 7),
            *done(1, "write", 8, 8),
            (0, "fail", "write", None, "no leader"),
            *done(1, "read", None, 8),
        ],
        broken=(0, 5),
        minimal=[1, 2],
        states=[],
    ),
    "a process that went on under its number": Case(
        "register",
        [
            *done(0, "write", 1, 1),
            (0, "invoke", "write", 2),
            (0, "info", "write", None),
            *done(0, "read", None, 2),
            *done(0, "write", 1, 1),
            *done(0, "read", None, 2),
        ],
        broken=(8, 9),
        minimal=[*range(2, 10)],
        states=["it holds 1"],
        concurrent=["write 2 with unknown outcome (process 0, events 2 on)"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_found(name: str) -> None:
    case = CASES[name]
    events = history(*case.rows)
    explained_in_full(events, case.model, None)
    explanation = account_of(check(events, case.model))
    assert explanation.prefix == case.broken[1] + 1
    assert explanation.operation.endswith(f"events {case.broken[0]} to {case.broken[1]})")
    assert [event.index for event in explanation.minimal] == case.minimal
    assert (explanation.states, explanation.concurrent) == (case.states, case.concurrent)


def test_one_line_tells_what_cannot_be_why_and_what_shows_it() -> None:
    judged = check(history(*CASES["an element that overtakes another"].rows), "fifo-queue")
    assert judged.detail == (
        'on key "x" no order explains dequeue -> 3 (process 1, events 8 to 9): 2 was put in before 3, and not taken'
        " before it; after the longest orders, of 4 completed operations, it holds [2, 3] (4 tried); nothing else was"
        " open at the time; the first 10 events cannot be explained, any fewer can; this alone shows it: enqueue 2 ok"
        " (process 0, events 2 to 3); enqueue 3 ok (process 0, events 4 to 5); dequeue -> 3 (process 1, events 8 to 9)"
    )


def test_a_users_model_has_its_own_words_and_keeps_all_that_may_have_changed_something() -> None:
    class Cell:
        initial = 0

        def step(self, state: Any, call: Any) -> Any:
            if call.f == "write":
                return call.argument
            return state if call.result == state or not call.known else models.Inconsistent("another value")

        def describe(self, state: Any) -> str:
            return f"the cell shows {state}"

    class Looks(Cell):
        observations = frozenset({"read"})

    events = history(*CASES["a stale read"].rows)
    for cell, minimal in (Cell, [*range(8)]), (Looks, [0, 1, 4, 5, 6, 7]):
        explanation = account_of(check(events, cell()))
        assert (explanation.prefix, explanation.states) == (8, ["the cell shows 2: another value"])
        assert [event.index for event in explanation.minimal] == minimal
