"""Locks without a search: holds that overlap for certain or not, crashed holders, tokens; and the search beside it."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import searched

from chaos.checkers import MODELS, Call
from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.locks import FencedMutex, Mutex, OwnerMutex
from chaos.history import operations

LOCKS: dict[str, Any] = {
    "mutex": Mutex(),
    "owner-mutex": OwnerMutex(),
    "fenced-mutex": FencedMutex(),
}
ANY_LOCK = pytest.mark.parametrize("name", sorted(LOCKS))


def calls(*rows: Row) -> list[Call]:
    return calls_of(LOCKS["mutex"], operations(history(*rows)))


def decide(name: str, *rows: Row, initial: Any = None) -> Decision:
    model = LOCKS[name]
    decision: Decision = model.decide(calls(*rows), model.start(initial), lambda: None)
    return decision


def refused(name: str, *rows: Row, initial: Any = None) -> Impossible:
    decision = decide(name, *rows, initial=initial)
    assert isinstance(decision, Impossible), decision
    return decision


def acquire(process: int, token: Any = None, kind: str = "ok") -> list[Row]:
    return [(process, "invoke", "acquire", None), (process, kind, "acquire", token)]


def release(process: int, token: Any = None, kind: str = "ok") -> list[Row]:
    return [(process, "invoke", "release", token), (process, kind, "release", None)]


def hold(process: int, token: int) -> list[Row]:
    return [*acquire(process, token), *release(process, token)]


@ANY_LOCK
def test_holds_one_after_the_other_are_explained(name: str) -> None:
    assert decide(name, *hold(0, 1), *hold(1, 2), *acquire(0, 3)) == Explained()
    assert decide(name) == Explained()


@ANY_LOCK
def test_two_known_holds_that_overlap_are_impossible_and_named(name: str) -> None:
    found = refused(name, *hold(0, 1), *acquire(0, 2), *acquire(1, 3), *release(0, 2), *release(1, 3))
    assert {call.invoked for call in found.calls} <= {4, 6, 8, 10}
    assert len(found.calls) >= 2


@ANY_LOCK
def test_a_release_under_way_lets_the_next_holder_in(name: str) -> None:
    rows = [*acquire(0, 1), (0, "invoke", "release", 1), *acquire(1, 2), (0, "ok", "release", None)]
    assert decide(name, *rows) == Explained()
    assert isinstance(decide(name, *rows, *acquire(2, 3)), Impossible)


@ANY_LOCK
def test_a_release_of_unknown_outcome_lets_in_one_holder_and_no_more(name: str) -> None:
    crashed = [*acquire(0, 1), *release(0, 1, "info")]
    assert decide(name, *crashed, *acquire(1, 2)) == Explained()
    assert isinstance(decide(name, *crashed, *acquire(1, 2), *acquire(2, 3)), Impossible)


@ANY_LOCK
def test_an_acquire_of_unknown_outcome_that_nobody_needs_never_happened(name: str) -> None:
    assert decide(name, *acquire(0, None, "info"), *hold(1, 1), *acquire(2, 2)) == Explained()


def test_a_mutex_released_by_another_process_than_its_holder_is_none_with_owners() -> None:
    rows = [*acquire(0), *release(1)]
    assert decide("mutex", *rows) == Explained()
    found = refused("owner-mutex", *rows)
    assert found.reason == "process 1 gave back the lock (event 3) that it had not taken"
    assert [call.invoked for call in found.calls] == [2]


def test_a_mutex_needs_a_release_for_each_acquire_but_one_in_any_stretch() -> None:
    found = refused("mutex", *hold(0, 1) * 3, *acquire(0), *acquire(1), *release(0), *release(1))
    assert found.reason == "2 acquires happened between events 12 and 15, and no release could come between them"
    assert [call.invoked for call in found.calls] == [12, 14]


def test_a_release_that_came_too_late_for_the_second_of_three_acquires_is_counted() -> None:
    rows: list[Row] = [
        (9, "invoke", "release", None),
        *acquire(0),
        *acquire(1),
        *acquire(2),
        (9, "ok", "release", None),
    ]
    found = refused("mutex", *rows)
    assert found.reason == ("3 acquires happened between events 1 and 6, and only 1 release could come between them")
    assert [call.invoked for call in found.calls] == [0, 1, 3, 5]


def test_a_release_of_unknown_outcome_counts_for_one_acquire_and_is_part_of_the_proof() -> None:
    found = refused("mutex", *hold(8, 1), *release(9, None, "info"), *acquire(0), *acquire(1), *acquire(2))
    assert found.reason == "3 acquires happened between events 6 and 11, and only 1 release could come between them"
    assert [call.invoked for call in found.calls] == [4, 6, 8, 10]


def test_a_mutex_starts_free_or_held() -> None:
    found = refused("mutex", *release(0))
    assert found.reason == "1 release happened up to event 1, and no acquire could come before or between them"
    assert decide("mutex", *release(0), initial=True) == Explained()
    assert isinstance(decide("mutex", *acquire(0), initial=True), Impossible)


def test_a_crashed_release_that_two_stretches_of_time_would_need_is_not_used_twice() -> None:
    overlap = [*acquire(0), *acquire(1), *release(1)]
    long: list[Row] = [(5, "invoke", "acquire", None)]  # so that the time between the two has a release to spare
    rows = [*release(9, None, "info"), *long, *overlap, *release(6)]
    assert decide("mutex", *rows) == Explained()
    found = refused("mutex", *rows, *overlap, (5, "ok", "acquire", None))
    assert found.reason == (
        "however those before it are put, no release is left that could come before the acquire of process 1"
        " (events 13 to 14)"
    )
    assert [call.invoked for call in found.calls] == [0, 2, 3, 5, 7, 9, 11, 13]


def test_the_acquire_that_must_be_done_first_goes_first_however_long_others_have_waited() -> None:
    rows: list[Row] = [(5, "invoke", "acquire", None), (6, "invoke", "acquire", None)]
    rows += hold(0, 1) * 50
    rows += [(6, "ok", "acquire", None), *release(6), (5, "ok", "acquire", None)]
    assert decide("mutex", *rows) == Explained()
    assert decide("owner-mutex", *rows) == Explained()


def test_an_owner_who_takes_the_lock_twice_must_have_given_it_back() -> None:
    found = refused("owner-mutex", *acquire(0), *acquire(0))
    assert found.reason == "process 0 took the lock (event 3) that it had not given back"
    assert decide("owner-mutex", *acquire(0), *release(0, None, "info"), *acquire(0)) == Explained()
    late = refused("owner-mutex", *acquire(0), *acquire(0), *release(0, None, "info"))
    assert late.reason == found.reason


def test_an_owner_s_release_is_explained_by_an_acquire_of_unknown_outcome_before_it() -> None:
    lost = acquire(0, None, "info")
    assert decide("owner-mutex", *lost, *release(0)) == Explained()
    assert isinstance(decide("owner-mutex", *release(0), *lost), Impossible)
    assert isinstance(decide("owner-mutex", *lost, *acquire(1), *release(0), *release(1)), Impossible)


def test_what_one_owner_did_within_another_s_hold_is_impossible() -> None:
    rows = [*acquire(0), *acquire(1, None, "info"), *release(1), *release(0)]
    assert refused("owner-mutex", *rows).reason == (
        "two held the lock at once: process 0 from event 1 to event 6,"
        " and process 1 at some moment between events 4 and 5"
    )


def test_an_owner_with_crashed_acquires_and_releases_is_left_to_the_search_unless_an_order_does_without() -> None:
    lost = [*release(0, None, "info"), *acquire(0, None, "info")]
    split = [*acquire(0), *lost, *acquire(1), *release(1), *release(0)]
    assert decide("owner-mutex", *split) is None
    assert decide("owner-mutex", *acquire(0), *lost, *release(0), *hold(1, 1)) == Explained()


def test_a_lapse_is_not_the_owner_s_release() -> None:
    lapse = (-1, "invoke", "release", None)
    assert isinstance(decide("owner-mutex", *acquire(0), lapse, *acquire(1)), Impossible)


def test_the_process_that_holds_an_owner_mutex_at_first_gives_it_back_once() -> None:
    assert decide("owner-mutex", *release(4), *hold(0, 1), initial=4) == Explained()
    assert decide("owner-mutex", *hold(4, 1), *release(4, None, "info"), *hold(0, 1), initial=4) != Explained()
    assert isinstance(decide("owner-mutex", *hold(0, 1), *release(4), initial=4), Impossible)
    assert isinstance(decide("owner-mutex", *hold(0, 1), initial=4), Impossible)
    assert decide("owner-mutex", initial=4) == Explained()
    found = refused("owner-mutex", *release(4), *acquire(0), *acquire(1), initial=4)
    assert [call.invoked for call in found.calls] == [0, 2, 4]


def test_tokens_tell_the_order_and_what_they_tell_must_be_possible() -> None:
    found = refused("fenced-mutex", *hold(0, 2), *hold(1, 1))
    assert found.reason == (
        "the release of token 1 was asked for (event 6) after the grant of token 2 (event 1), which must follow it"
    )
    assert "2 was granted" in refused("fenced-mutex", *acquire(0, 2), *release(0, 2), *acquire(1, 2)).reason
    assert "back twice under token 1" in refused("fenced-mutex", *hold(0, 1), *release(1, 1)).reason
    assert "though nobody had given back" in refused("fenced-mutex", *acquire(0, 1), *acquire(1, 2)).reason
    assert "without a token" in refused("fenced-mutex", *acquire(0, None)).reason
    assert "not greater than 7" in refused("fenced-mutex", *acquire(0, 7), initial=7).reason
    assert decide("fenced-mutex", *acquire(0, 8), initial=7) == Explained()


def test_a_release_of_unknown_outcome_is_no_proof_without_the_grant_that_needed_it() -> None:
    found = refused("fenced-mutex", *release(3, 2, "info"), *hold(1, 3), *acquire(0, 2))
    assert [call.invoked for call in found.calls] == [0, 2, 4, 6]


def test_a_grant_before_a_lease_could_have_run_out_is_impossible() -> None:
    lapse = (-1, "invoke", "release", 1)
    assert decide("fenced-mutex", *acquire(0, 1), lapse, *acquire(1, 2)) == Explained()
    found = refused("fenced-mutex", *acquire(0, 1), *acquire(1, 2), lapse)
    assert found.reason == (
        "the release of token 1 was asked for (event 4) after the grant of token 2 (event 3), which must follow it"
    )


def test_releases_without_tokens_are_left_to_the_search_unless_the_grants_alone_are_impossible() -> None:
    assert decide("fenced-mutex", *acquire(0, 1), *release(0)) is None
    assert isinstance(decide("fenced-mutex", *acquire(0, 2), *release(0), *acquire(1, 1)), Impossible)


def test_a_hold_can_be_left_out_and_what_may_have_been_held_at_first_cannot() -> None:
    rows = [*hold(0, 1), *acquire(1, 2), *release(1, 2, "info"), *acquire(2, 3)]
    parts = [[0, 2], [4, 6], [8]]
    for name in ("owner-mutex", "fenced-mutex"):
        assert [[call.invoked for call in part] for part in LOCKS[name].parts(calls(*rows))] == parts
    unnamed = [*hold(0, 1), *acquire(1, 2), *release(1), *acquire(2, None, "info")]
    assert [[call.invoked for call in part] for part in FencedMutex().parts(calls(*unnamed))] == [[0, 2]]
    first = [*release(0), *hold(0, 1)]
    assert [[call.invoked for call in part] for part in OwnerMutex().parts(calls(*first))] == [[2, 4]]
    assert OwnerMutex().parts(calls(*acquire(0, None, "info"), *release(0))) == []


@ANY_LOCK
def test_thousands_of_contended_holds_are_decided_without_a_search(name: str) -> None:
    rows: list[Row] = [(0, "invoke", "acquire", None), (1, "invoke", "acquire", None)]
    for token in range(2500):
        holder = token % 2
        rows += [(holder, "ok", "acquire", token), (holder, "invoke", "release", token)]
        rows += [(holder, "ok", "release", None), (holder, "invoke", "acquire", None)]
    asked: list[None] = []
    model = LOCKS[name]
    right = calls(*rows)
    assert model.decide(right, model.start(None), lambda: asked.append(None)) == Explained()
    wrong = [call for call in right if call.operation.invoked != 4003]
    assert len(wrong) == len(right) - 1
    assert isinstance(model.decide(wrong, model.start(None), lambda: None), Impossible)
    assert len(asked) > 1


# The search beside it, over histories of a lock that works, spoilt or not.

CHOICES = st.lists(st.integers(0, 59), min_size=4, max_size=40)


def contended(name: str, choices: Sequence[int], initial: Any) -> list[Row]:
    """What three clients of a lock see; some never hear, and go on under the same or another number; some lie."""
    rows: list[Row] = []
    names = [0, 1, 2]
    running: dict[int, tuple[str, Any, bool, Any]] = {}
    holder, token = ("first" if initial is True else initial), 1
    for choice in choices:
        slot, chance = choice % 3, choice // 3
        process = names[slot]
        f, argument, done, result = running.get(slot, ("", None, False, None))
        if not f:
            f = "release" if holder == process or chance < 3 else "acquire"
            argument = token if f == "release" and chance < 15 else None
            if name != "fenced-mutex":
                argument = None
            running[slot] = (f, argument, False, None)
            rows.append((process, "invoke", f, argument))
        elif chance < 2:
            del running[slot]
            names[slot] += 3 * chance
            rows.append((process, "info", f, None))
        elif done or chance == 19:
            del running[slot]
            rows.append((process, "ok" if done or chance == 19 else "fail", f, result))
        elif f == "acquire" and holder is None:
            token += 1
            holder = process
            running[slot] = (f, argument, True, token if chance < 18 else 2)
        elif f == "release" and holder is not None:
            holder = None
            running[slot] = (f, argument, True, None)
    return rows


INITIAL: dict[str, list[Any]] = {
    "mutex": [None, None, True],
    "owner-mutex": [None, None, 0],
    "fenced-mutex": [None, None, 1],
}


@ANY_LOCK
@settings(max_examples=300, deadline=None)
@given(choices=CHOICES, start=st.integers(0, 2), leave=st.integers(0, 255))
def test_what_is_decided_is_what_the_search_finds(name: str, choices: list[int], start: int, leave: int) -> None:
    initial = INITIAL[name][start]
    chosen = calls(*contended(name, choices, None if name == "fenced-mutex" else initial))[:9]
    model = LOCKS[name]
    answer = searched(LOCKS[name], chosen, initial)
    decision = model.decide(chosen, model.start(initial), lambda: None)
    assert decision is None or isinstance(decision, Explained) == (answer is None)
    assert decision is not None or name != "mutex"
    if isinstance(decision, Impossible):
        assert all(call in chosen for call in decision.calls)
        assert searched(LOCKS[name], decision.calls, initial) is not None
    if answer is None and not isinstance(model, Mutex):
        gone = [call for bit, part in enumerate(model.parts(chosen)) if leave >> bit & 1 for call in part]
        assert searched(LOCKS[name], [call for call in chosen if call not in gone], initial) is None


def test_the_models_under_these_names_are_those_tested_here() -> None:
    assert {name: MODELS[name] for name in LOCKS} == LOCKS
