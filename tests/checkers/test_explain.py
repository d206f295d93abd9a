"""Explanations: the shortest wrong prefix and the fewest operations of it are what they are said to be.

Nothing is taken from how they are found: each claim is judged once more, by `check`, as a history of its own.
"""

from collections.abc import Hashable, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import pytest
from histories import Row, expires_after, history
from hypothesis import given, settings
from hypothesis import strategies as st
from random_histories import KINDS, Drawn, several_keys, spoilt_key

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


def model_of(model: str | Model) -> Model:
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
    broken = next((one for one in told_of if one.completed == explanation.prefix - 1), None)
    assert broken is not None, "the prefix does not end with a completion"
    assert explanation.operation.startswith(f"{broken.f} ")
    assert explanation.operation.endswith(f"(process {broken.process}, events {broken.invoked} to {broken.completed})")
    unheard = [one for one in told_of if one.completed is None or one.completed >= explanation.prefix]
    open_then = [one for one in unheard if one.invoked < explanation.prefix and says_something(one, model)]
    assert [named(one) for one in open_then] == [text.partition("events ")[2].split()[0] for text in explanation.concurrent]


def says_something(operation: Operation, model: str | Model) -> bool:
    """Whether it matters to the model that it was invoked."""
    return operation.f not in model_of(model).observations


def named(operation: Operation) -> str:
    return str(operation.invoked)


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
    gone = {place for call in calls for place in (call.invoked, call.completed)}
    return [event for place, event in enumerate(events) if place not in gone]


def explained_in_full(events: Sequence[Event], model: str | Model, initial: Any) -> None:
    verdict = check(events, model, initial)
    if verdict.verdict == "valid":
        assert verdict.explanation is None
        return
    explanation = account_of(verdict)
    assert explanation.shortest
    assert explanation.states
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
    alone = account_of(check(own, name, initial))
    assert (alone.shortest, alone.key, alone.states) == (explanation.shortest, explanation.key, explanation.states)
    assert own[: alone.prefix] == [event for event in events[: explanation.prefix] if event.key == explanation.key]
    assert events[explanation.prefix - 1] == own[alone.prefix - 1]
    assert explanation.minimal == [own[event.index] for event in alone.minimal]
    holds(alone, own, name, initial)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES // 10)
@given(data=st.data())
def test_a_budget_that_ends_after_the_verdict_leaves_it_and_what_was_found(name: str, data: st.DataObject) -> None:
    drawn = data.draw(spoilt_key(name))
    events = history(*drawn.rows)
    if not invalid(events, name, drawn.initial):
        return
    kinds = []
    for questions in count():
        verdict = check(events, name, drawn.initial, expires_after(questions))
        kinds.append(verdict.verdict)
        if verdict.verdict == "invalid":
            explanation = account_of(verdict)
            holds(explanation, events, name, drawn.initial)
            if explanation == check(events, name, drawn.initial).explanation:
                break
    decided = kinds.index("invalid")
    assert kinds == ["unknown"] * decided + ["invalid"] * (len(kinds) - decided)
