"""The judges agree: fast ways with the search, the search with brute force, and all of them with how histories arose.

`make long` runs this file with 20,000 histories of each model instead of 150.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import pytest
from brute import explained
from histories import Row, history
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_histories import KINDS, Drawn, Queued, id_history, one_key, queue_history, several_keys

from chaos.checkers import MODELS, Call, Inconsistent, Model, check
from chaos.checkers.model import Decides, Decision, Explained, Impossible, Parts, calls_of
from chaos.checkers.search import Answer, Blocked, Reach, search
from chaos.checkers.values import freeze
from chaos.history import Operation, Recorder, operations

pytestmark = pytest.mark.timeout(60 + settings().max_examples // 10)

NAMES: Final = sorted(KINDS)
LATER: Final = 9999  # a process that did nothing yet


def searched(model: Model, calls: Sequence[Call], initial: Any) -> bool:
    """Whether the search alone, without any fast way, finds an order."""
    answers: list[Answer] = []

    def run() -> Iterator[None]:
        answers.append((yield from search(calls, model, initial, Reach())))

    for _ in run():
        pass
    assert isinstance(answers[0], Blocked | None)
    return answers[0] is None


def model_named(name: str) -> Model:
    model = MODELS[name]
    assert isinstance(model, Model)
    return model


def agree(model: Model, drawn: Drawn, bits: int) -> None:
    """All ways to judge one key's history come to the same. `bits` say which parts are left out (see `Parts`)."""
    calls = calls_of(model, operations(history(*drawn.rows)))
    found = searched(model, calls, drawn.initial)
    assert found or not drawn.right, "the search finds no order for a history that has one"
    assert found == explained(model, calls, model.start(drawn.initial)), "the search and brute force disagree"
    parts = model.parts(calls, model.start(drawn.initial)) if isinstance(model, Parts) else []
    listed = [call for part in parts for call in part]
    assert len({call.invoked for call in listed}) == len(listed), "two parts share a call"
    assert all(call in calls for call in listed), "a part holds calls that are not in the history"
    some = [part for number, part in enumerate(parts) if bits >> number & 1]
    if isinstance(model, Decides):
        decision = model.decide(calls, model.start(drawn.initial), lambda: None)
        assert decision is None or isinstance(decision, Explained) == found, f"{decision}, but order found: {found}"
        if isinstance(decision, Impossible):
            proves(model, calls, drawn.initial, decision.calls, some)
    if some and found:
        left = [call for call in calls if not any(call in part for part in some)]
        assert searched(model, left, drawn.initial), "what is left is not explained"


def proves(
    model: Model, calls: Sequence[Call], initial: Any, proof: Sequence[Call], parts: Sequence[Sequence[Call]]
) -> None:
    """What a fast way calls impossible is so by itself, and beside any calls of other parts."""
    places = {call.invoked for call in proof}
    others = [part for part in parts if not any(call.invoked in places for call in part)]
    beside = {call.invoked for part in others for call in part}
    assert places <= {call.invoked for call in calls}, "the proof holds calls that are not in the history"
    for chosen in places, places | beside:
        alone = [call for call in calls if call.invoked in chosen]
        assert not searched(model, alone, initial), f"{alone} are no proof"


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_all_ways_to_judge_a_history_come_to_the_same(name: str, data: st.DataObject) -> None:
    agree(model_named(name), data.draw(one_key(name)), data.draw(st.integers(0, 255)))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_several_keys_are_judged_as_each_by_itself(name: str, data: st.DataObject) -> None:
    model = model_named(name)
    rows, initial = data.draw(several_keys(name))
    recorder = Recorder()
    by_key: dict[Hashable, list[Row]] = {}
    for time, (key, row) in enumerate(rows):
        recorder.add(time, row[0], row[1], row[2], key, row[3], row[4] if len(row) > 4 else None)
        by_key.setdefault(freeze(key), []).append(row)
    verdict = check(recorder.events(), name, initial)
    found = [searched(model, calls_of(model, operations(history(*alone))), initial) for alone in by_key.values()]
    assert verdict.verdict == ("valid" if all(found) else "invalid"), verdict
    assert verdict.operations == sum(row[1] == "invoke" and row[0] >= 0 for _, row in rows)


# --- The total judges: what a right queue did is not invalid, and is so once it is spoilt. ---


class Story:
    """What a history of a queue tells of its elements."""

    def __init__(self, queued: Queued) -> None:
        self.queued = queued
        self.initial = queued.initial or []
        self.operations = operations(history(*queued.rows))
        self.blind = not queued.leased and any(o.outcome == "info" and o.f == "dequeue" for o in self.operations)

    def put_once(self) -> list[Any]:
        puts = [o.argument for o in self.operations if o.f == "enqueue" and o.outcome != "fail"]
        every = self.initial + puts
        return [element for element in every if every.count(element) == 1]

    def acknowledged(self, element: Any) -> bool:
        return element in self.initial or any(
            o.f == "enqueue" and o.outcome == "ok" and o.argument == element for o in self.operations
        )

    def taken(self, element: Any) -> bool:
        return any(o.f == "dequeue" and o.outcome == "ok" and element_of(o) == element for o in self.operations)

    def deliveries(self, element: Any) -> list[Operation]:
        """Those that are told of."""
        f = "take" if self.queued.leased else "dequeue"
        return [o for o in self.operations if o.f == f and o.outcome == "ok" and element_of(o) == element]

    def follows(self, one: Any, other: Any) -> bool:
        """Whether `other` was put in after `one`, and asked for only after that was delivered; neither was dead."""
        first, second = self.deliveries(one), self.deliveries(other)
        if not first or not second or any(len(o.result) == 3 for o in first + second):
            return False
        asked, delivered = min(o.invoked for o in second), min(o.completed or 0 for o in first)
        return self._certain(one) < self._at_the_earliest(other) and delivered < asked

    def _certain(self, element: Any) -> float:
        if element in self.initial:
            return self.initial.index(element) - len(self.initial)
        return min((o.completed or inf for o in self._put(element) if o.outcome == "ok"), default=inf)

    def _at_the_earliest(self, element: Any) -> float:
        if element in self.initial:
            return self.initial.index(element) - len(self.initial)
        return min(o.invoked for o in self._put(element))

    def _put(self, element: Any) -> list[Operation]:
        return [o for o in self.operations if o.f == "enqueue" and o.argument == element and o.outcome != "fail"]

    def without(self, element: Any) -> list[Row]:
        """The rows without whatever says that it came out."""
        gone = {o.invoked for o in self.operations if o.f != "enqueue" and element_of(o) == element}
        kept, silent = [], set()
        for place, row in enumerate(self.queued.rows):
            if row[1] == "invoke":
                (silent.add if place in gone else silent.discard)(row[0])
            if row[0] not in silent:
                kept.append(row)
        return kept

    def once_more(self, element: Any) -> list[Row]:
        """The rows and another delivery."""
        f, answer = ("take", [element, 9]) if self.queued.leased else ("dequeue", element)
        return [*self.queued.rows, (LATER, "invoke", f, None), (LATER, "ok", f, answer)]

    def exchanged(self, one: Any, other: Any) -> list[Row]:
        """The rows, with either coming out where the other did."""
        names = {str(one): other, str(other): one}

        def exchange(value: Any) -> Any:
            if isinstance(value, list) and isinstance(value[0], list):
                return [exchange(value[0]), *value[1:]]
            return names.get(str(value), value)

        return [row if row[2] == "enqueue" else (*row[:3], exchange(row[3])) for row in self.queued.rows]


def element_of(operation: Operation) -> Any:
    """The element that it delivers, acknowledges or gives back."""
    if operation.f == "take":
        return operation.result and operation.result[0]
    return operation.argument[0] if operation.process < 0 else operation.argument or operation.result


@given(queued=queue_history())
def test_what_a_right_queue_did_is_never_invalid(queued: Queued) -> None:
    events = history(*queued.rows)
    total, order = check(events, "total-queue", queued.initial), check(events, "key-order", queued.initial)
    assert total.verdict == "valid" or (Story(queued).blind and total.verdict == "unknown"), total
    assert order.verdict == "valid", order


@given(queued=queue_history())
def test_a_queue_that_loses_repeats_or_invents_an_element_is_invalid(queued: Queued) -> None:
    story = Story(queued)
    spoilt = [story.once_more(["z", 99])]
    for element in story.put_once():
        if story.acknowledged(element) and not story.blind:
            spoilt.append(story.without(element))
        if story.taken(element):
            spoilt.append(story.once_more(element))
    for rows in spoilt:
        assert check(history(*rows), "total-queue", queued.initial).verdict == "invalid", rows


@given(queued=queue_history())
def test_a_queue_that_exchanges_two_elements_of_a_key_is_out_of_order(queued: Queued) -> None:
    story = Story(queued)
    once = story.put_once()
    for one in once:
        for other in once:
            if one[0] == other[0] and story.follows(one, other):
                rows = story.exchanged(one, other)
                assert check(history(*rows), "key-order", queued.initial).verdict == "invalid", rows


@given(drawn=id_history())
def test_ids_are_unique_until_one_is_given_out_twice(drawn: Drawn) -> None:
    assert check(history(*drawn.rows), "unique-ids", drawn.initial).verdict == "valid"
    told = [*(drawn.initial or []), *(row[3] for row in drawn.rows if row[1] == "ok")]
    for given_before in told:
        rows = [*drawn.rows, (LATER, "invoke", "generate", None), (LATER, "ok", "generate", given_before)]
        assert check(history(*rows), "unique-ids", drawn.initial).verdict == "invalid"


# --- Are the tests above able to fail? Judges that are wrong in one place must be found out. ---


@dataclass(frozen=True)
class Wrong:
    """A model beside a right one: some of what it says is wrong."""

    right: Model
    decision: Callable[[Sequence[Call], Decision], Decision] | None = None
    left_out: Callable[[Call], bool] | None = None
    parted: Callable[[Call], bool] | None = None

    @property
    def name(self) -> str:
        return self.right.name

    @property
    def operations(self) -> frozenset[str]:
        return self.right.operations

    @property
    def observations(self) -> frozenset[str]:
        return self.right.observations

    def start(self, initial: Any) -> Hashable:
        return self.right.start(initial)

    def step(self, state: Any, call: Call) -> Hashable | Inconsistent:
        return self.right.step(state, call)

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        return [call for call in calls if self.left_out is None or not self.left_out(call)]

    def decide(self, calls: Sequence[Call], start: Any, ask: Callable[[], None]) -> Decision:
        found = explained(self.right, calls, start)
        truth: Decision = Explained() if found else Impossible("no order", tuple(calls))
        return truth if self.decision is None else self.decision(calls, truth)

    def parts(self, calls: Sequence[Call], start: Any) -> list[list[Call]]:
        return [[call] for call in calls if self.parted is not None and self.parted(call)]


def found_out(model: Model, name: str) -> bool:
    """Whether `agree` fails for some history."""

    @settings(max_examples=500, phases=[Phase.generate], database=None, derandomize=True)
    @given(drawn=one_key(name), bits=st.integers(0, 255))
    def agreement(drawn: Drawn, bits: int) -> None:
        agree(model, drawn, bits)

    try:
        agreement()
    except AssertionError:
        return True
    return False


def test_a_judge_that_is_right_is_not_found_out() -> None:
    assert not found_out(Wrong(model_named("register")), "register")


def _wrong_about_pending_calls(calls: Sequence[Call], truth: Decision) -> Decision:
    return truth if all(call.known for call in calls) else Explained()


def _wrong_about_refusals(calls: Sequence[Call], truth: Decision) -> Decision:
    return Explained() if any(call.refused for call in calls) else truth


def _proves_too_little(calls: Sequence[Call], truth: Decision) -> Decision:
    return truth._replace(calls=truth.calls[-1:]) if isinstance(truth, Impossible) else truth


WRONG: Final[dict[str, tuple[str, Callable[[Model], Model]]]] = {
    "always explained": ("register", lambda model: Wrong(model, decision=lambda *_: Explained())),
    "never explained": (
        "counter",
        lambda model: Wrong(model, decision=lambda calls, _: Impossible("no order", tuple(calls))),
    ),
    "explained with pending calls": ("fifo-queue", lambda model: Wrong(model, decision=_wrong_about_pending_calls)),
    "explained with refused calls": ("cas-register", lambda model: Wrong(model, decision=_wrong_about_refusals)),
    "too small a proof": ("stack", lambda model: Wrong(model, decision=_proves_too_little)),
    "writes of unknown outcome are left out": (
        "register",
        lambda model: Wrong(model, left_out=lambda call: call.f == "write" and not call.known),
    ),
    "reads are left out": ("set", lambda model: Wrong(model, left_out=lambda call: call.f == "read")),
    "an enqueue alone is a part": ("queue", lambda model: Wrong(model, parted=lambda call: call.f == "enqueue")),
    "a release alone is a part": ("mutex", lambda model: Wrong(model, parted=lambda call: call.f == "release")),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_judge_is_found_out(mistake: str) -> None:
    name, spoil = WRONG[mistake]
    assert found_out(spoil(model_named(name)), name)
