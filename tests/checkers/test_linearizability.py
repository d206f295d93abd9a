"""The search: hand-made cases of concurrency and unknown outcomes, budgets, explanations, and brute force beside it."""

from collections.abc import Hashable
from typing import Any

import pytest
from brute import explained
from histories import Row, expires_after, history
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checkers import MODELS, Call, Inconsistent, Model, check
from chaos.checkers.model import calls_of
from chaos.history import Event, Recorder, operations


def verdict(model: str, *rows: Row) -> str:
    return check(history(*rows), model).verdict


def test_a_concurrent_read_may_see_the_value_before_or_after_a_write() -> None:
    for value in (None, 1):
        rows: list[Row] = [
            (0, "invoke", "write", 1),
            (1, "invoke", "read", None),
            (0, "ok", "write", 1),
            (1, "ok", "read", value),
        ]
        assert verdict("register", *rows) == "valid"


def test_two_reads_in_a_row_may_not_see_a_concurrent_write_come_and_go() -> None:
    rows: list[Row] = [(0, "invoke", "write", 1)]
    for value in (1, None):
        rows += [(1, "invoke", "read", None), (1, "ok", "read", value)]
    assert verdict("register", *rows, (0, "ok", "write", 1)) == "invalid"


@pytest.mark.parametrize(("gap", "expected"), [(0, "valid"), (1, "invalid")])
def test_operations_that_touch_in_one_instant_are_concurrent(gap: int, expected: str) -> None:
    recorder = Recorder()
    recorder.add(0, 0, "invoke", "write", "x", 1)
    recorder.add(5, 0, "ok", "write", "x", 1)
    recorder.add(5 + gap, 1, "invoke", "read", "x")
    recorder.add(9, 1, "ok", "read", "x", None)
    assert check(recorder.events(), "register").verdict == expected


def test_a_write_of_unknown_outcome_may_take_effect_late_or_never() -> None:
    start = [(0, "invoke", "write", 1), (0, "info", "write", None)]
    for seen in ([None, None], [None, 1], [1, 1]):
        reads = [row for value in seen for row in ((1, "invoke", "read", None), (1, "ok", "read", value))]
        assert verdict("register", *start, *reads) == "valid"
    flicker = [row for value in (1, None) for row in ((1, "invoke", "read", None), (1, "ok", "read", value))]
    assert verdict("register", *start, *flicker) == "invalid"


def test_a_write_that_never_completes_is_like_one_of_unknown_outcome() -> None:
    rows: list[Row] = [(0, "invoke", "write", 1), (1, "invoke", "write", 2), (1, "ok", "write", 2)]
    assert verdict("register", *rows, (1, "invoke", "read", None), (1, "ok", "read", 1)) == "valid"


def test_a_write_of_unknown_outcome_takes_no_effect_before_its_invocation() -> None:
    rows: list[Row] = [
        (1, "invoke", "read", None),
        (1, "ok", "read", 1),
        (0, "invoke", "write", 1),
        (0, "info", "write", None),
    ]
    assert verdict("register", *rows) == "invalid"


def test_a_failed_write_did_not_happen() -> None:
    rows: list[Row] = [(0, "invoke", "write", 1), (0, "fail", "write", 1), (1, "invoke", "read", None)]
    assert verdict("register", *rows, (1, "ok", "read", None)) == "valid"
    assert verdict("register", *rows, (1, "ok", "read", 1)) == "invalid"


def test_a_value_written_twice_can_be_read_again_after_another() -> None:
    def reads(*values: Any) -> list[Row]:
        return [row for value in values for row in ((1, "invoke", "read", None), (1, "ok", "read", value))]

    unknown = [row for p in (5, 6) for row in ((p, "invoke", "write", 1), (p, "info", "write", None))]
    known = [
        (0, "invoke", "write", 2),
        (0, "ok", "write", 2),
        *reads(1),
        (0, "invoke", "write", 2),
        (0, "ok", "write", 2),
    ]
    assert verdict("register", *unknown, *known, *reads(1)) == "valid"
    again = [(0, "invoke", "write", 2), (0, "ok", "write", 2)]
    assert verdict("register", *unknown, *known, *reads(1), *again, *reads(1)) == "invalid"


def test_a_refused_cas_observes_that_another_value_was_there() -> None:
    rows: list[Row] = [(0, "invoke", "write", 1), (0, "ok", "write", 1), (0, "invoke", "cas", [1, 2])]
    assert verdict("cas-register", *rows, (0, "fail", "cas", None, "precondition-failed")) == "invalid"
    assert verdict("cas-register", *rows, (0, "fail", "cas", None, "no leader")) == "valid"
    assert verdict("cas-register", *rows, (0, "fail", "cas", None)) == "valid"


@pytest.mark.parametrize(("unknown", "expected"), [(2, "valid"), (1, "invalid")])
def test_a_refused_cas_may_be_due_to_a_write_of_unknown_outcome_that_nobody_read(unknown: int, expected: str) -> None:
    rows: list[Row] = [
        (0, "invoke", "write", unknown),
        (0, "info", "write", None),
        (1, "invoke", "write", 1),
        (1, "ok", "write", 1),
    ]
    rows += [(1, "invoke", "cas", [1, 3]), (1, "fail", "cas", None, "precondition-failed")]
    assert verdict("cas-register", *rows) == expected


def test_each_refused_cas_uses_up_an_unknown_write_if_a_known_one_comes_between() -> None:
    unknown = [row for p in range(5, 8) for row in ((p, "invoke", "write", p), (p, "info", "write", None))]
    refused: list[Row] = [
        (1, "invoke", "write", 1),
        (1, "ok", "write", 1),
        (1, "invoke", "cas", [1, 3]),
        (1, "fail", "cas", None, "precondition-failed"),
    ]
    assert verdict("cas-register", *unknown, *refused * 3) == "valid"
    assert verdict("cas-register", *unknown, *refused * 4) == "invalid"


def test_a_chain_of_unknown_cas_explains_a_read() -> None:
    chain = [
        row
        for p, pair in enumerate(([1, 2], [2, 3], [0, 1]))
        for row in ((p, "invoke", "cas", pair), (p, "info", "cas", None))
    ]
    read = [(9, "invoke", "read", None), (9, "ok", "read", 3)]
    assert check(history(*chain, *read), "cas-register", initial=0).verdict == "valid"
    assert check(history(*chain, *read), "cas-register", initial=4).verdict == "invalid"


def test_a_crashed_holder_s_release_lets_another_in() -> None:
    rows: list[Row] = [
        (0, "invoke", "acquire", None),
        (0, "ok", "acquire", None),
        (0, "invoke", "release", None),
        (0, "info", "release", None),
    ]
    second = [(1, "invoke", "acquire", None), (1, "ok", "acquire", None)]
    assert verdict("owner-mutex", *rows, *second) == "valid"
    assert (
        verdict("owner-mutex", *rows, *second, (2, "invoke", "acquire", None), (2, "ok", "acquire", None)) == "invalid"
    )


def test_a_process_number_may_be_used_again_after_an_unknown_outcome() -> None:
    rows: list[Row] = [
        (0, "invoke", "write", 1),
        (0, "info", "write", None),
        (0, "invoke", "write", 2),
        (0, "ok", "write", 2),
    ]
    assert verdict("register", *rows, (0, "invoke", "read", None), (0, "ok", "read", 1)) == "valid"


def test_a_token_given_to_an_acquire_of_unknown_outcome_counts_once_a_release_names_it() -> None:
    rows: list[Row] = [
        (0, "invoke", "acquire", None),
        (0, "info", "acquire", None),
        (1, "invoke", "release", 7),
        (1, "ok", "release", None),
    ]
    assert verdict("fenced-mutex", *rows, (2, "invoke", "acquire", None), (2, "ok", "acquire", 8)) == "valid"
    assert verdict("fenced-mutex", *rows, (2, "invoke", "acquire", None), (2, "ok", "acquire", 7)) == "invalid"


def test_a_lease_that_ran_out_is_a_release_that_never_completes() -> None:
    rows: list[Row] = [(0, "invoke", "acquire", None), (0, "ok", "acquire", 1)]
    second = [(1, "invoke", "acquire", None), (1, "ok", "acquire", 2)]
    assert verdict("fenced-mutex", *rows, *second) == "invalid"
    assert verdict("fenced-mutex", *rows, (9, "invoke", "release", 1), *second) == "valid"


@pytest.mark.parametrize("model", ["fifo-queue", "queue"])
def test_an_unknown_dequeue_explains_an_empty_answer_but_only_one_element(model: str) -> None:
    put = [row for item in (1, 2) for row in ((0, "invoke", "enqueue", item), (0, "ok", "enqueue", item))]
    lost = [(5, "invoke", "dequeue", None), (5, "info", "dequeue", None)]
    empty = [(1, "invoke", "dequeue", None), (1, "ok", "dequeue", None)]
    assert verdict(model, *put[:2], *lost, *empty) == "valid"
    assert verdict(model, *put, *lost, *empty) == "invalid"


def test_an_unknown_dequeue_of_an_unordered_queue_took_whichever_element_is_missing() -> None:
    for missing, taken in ((1, 2), (2, 1)):
        put = [row for item in (1, 2) for row in ((0, "invoke", "enqueue", item), (0, "ok", "enqueue", item))]
        lost = [(5, "invoke", "dequeue", None), (5, "info", "dequeue", None)]
        takes = [
            row for answer in (taken, None) for row in ((1, "invoke", "dequeue", None), (1, "ok", "dequeue", answer))
        ]
        assert verdict("queue", *put, *lost, *takes) == "valid", missing


def test_keys_are_judged_on_their_own_and_the_bad_one_is_named() -> None:
    recorder = Recorder()
    for time, key in enumerate(["a", 1, True, {"k": [1]}, None]):
        recorder.add(4 * time, 0, "invoke", "write", key, time)
        recorder.add(4 * time + 1, 0, "ok", "write", key, time)
        recorder.add(4 * time + 2, 0, "invoke", "read", key)
        recorder.add(4 * time + 3, 0, "ok", "read", key, time if key != {"k": [1]} else 77)
    judged = check(recorder.events(), "register")
    assert (judged.verdict, judged.operations) == ("invalid", 10)
    assert 'on key {"k": [1]} no order explains read -> 77' in judged.detail


def test_an_invalid_verdict_names_the_operation_its_company_and_the_possible_states() -> None:
    rows: list[Row] = [
        (0, "invoke", "write", 1),
        (0, "ok", "write", 1),
        (1, "invoke", "write", 2),
        (2, "invoke", "read", None),
    ]
    judged = check(history(*rows, (2, "ok", "read", 3), (1, "ok", "write", 2)), "register")
    assert judged.detail == (
        'on key "x" no order explains read -> 3 (process 2, events 3 to 4): nobody ever wrote 3; after the longest'
        " orders, of 2 completed operations, it holds 1 or it holds 2 (2 tried); open at the time: write 2 ok"
        " (process 1, events 2 to 5); the first 5 events cannot be explained, any fewer can"
    )


def test_faults_are_not_judged_and_a_history_without_operations_is_valid() -> None:
    recorder = Recorder()
    recorder.add(0, "nemesis", "info", "kill", None, ["n1"])
    judged = check(recorder.events(), "register")
    assert (judged.verdict, judged.operations) == ("valid", 0)


def concurrent_stack(size: int) -> list[Event]:
    """Many pushes at once, 0 twice, then pops in an order that no pushing order explains: hard for any search."""
    pushed = [*range(size - 1), 0]
    rows: list[Row] = [(p, "invoke", "push", item) for p, item in enumerate(pushed)]
    rows += [(p, "ok", "push", item) for p, item in enumerate(pushed)]
    pops = [*range(size - 2), 0, 0]
    return history(*rows, *(row for item in pops for row in ((0, "invoke", "pop", None), (0, "ok", "pop", item))))


def test_a_budget_that_is_used_up_makes_the_verdict_unknown_and_says_how_far_it_got() -> None:
    judged = check(concurrent_stack(12), "stack", expired=expires_after(20))
    assert (judged.verdict, judged.operations) == ("unknown", 24)
    assert 'undecided: key "x" (an order for ' in judged.detail


def test_a_budget_is_asked_about_at_least_every_few_milliseconds_of_search() -> None:
    asked = 0

    def expired() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert check(concurrent_stack(6), "stack", expired=expired).verdict == "invalid"
    assert asked > 10


def test_no_budget_at_all_decides_nothing() -> None:
    rows: list[Row] = [(0, "invoke", "write", 1), (0, "ok", "write", 1)]
    assert check(history(*rows), "register", expired=lambda: True).verdict == "unknown"
    assert check(history((0, "invoke", "generate", 1)), "unique-ids", expired=lambda: True).verdict == "unknown"


def test_a_bad_key_ends_the_check_before_a_hard_one_is_decided() -> None:
    recorder = Recorder()
    for time, event in enumerate(concurrent_stack(12)):
        recorder.add(time, event.process, event.type, event.f, "hard", event.value)
    recorder.add(1000, 0, "invoke", "pop", "bad")
    recorder.add(1001, 0, "ok", "pop", "bad", 5)
    judged = check(recorder.events(), "stack", expired=expires_after(10))
    assert judged.verdict == "invalid"
    assert 'key "bad"' in judged.detail


def test_a_search_that_remembers_too_much_gives_up() -> None:
    judged = check(concurrent_stack(12), "stack", memory=80_000)
    assert judged.verdict == "unknown"
    assert "memory limit reached" in judged.detail


def test_tens_of_unknown_writes_that_nobody_read_cost_next_to_nothing() -> None:
    rows: list[Row] = [row for p in range(60) for row in ((p, "invoke", "write", p), (p, "info", "write", None))]
    for number in range(100, 200):
        rows += [(99, "invoke", "write", number), (99, "ok", "write", number)]
        rows += [(99, "invoke", "cas", [number, 0]), (99, "fail", "cas", None, "precondition-failed")] * (
            number % 4 == 0
        )
    assert check(history(*rows), "cas-register", expired=expires_after(50)).verdict == "valid"
    rows += [(99, "invoke", "read", None), (99, "ok", "read", 5000)]
    assert check(history(*rows), "cas-register", expired=expires_after(500)).verdict == "invalid"


def test_a_thousand_operations_of_ten_clients_are_decided_within_a_thousand_turns() -> None:
    rows: list[Row] = []
    for number in range(100):
        rows += [(p, "invoke", "write", 10 * number + p) for p in range(10)]
        rows += [(p, "ok", "write", None) for p in range(10)]
        rows += [(0, "invoke", "read", None), (0, "ok", "read", 10 * number + 3)]
    assert check(history(*rows), "register", expired=expires_after(1000)).verdict == "valid"


class Greetings:
    """A user's own model: needs no more than what the protocol asks for."""

    name = "greetings"
    operations = frozenset({"greet"})
    observations: frozenset[str] = frozenset()

    def start(self, initial: Any) -> Hashable:
        return initial or 0

    def step(self, state: int, call: Call) -> Hashable | Inconsistent:
        return state + 1 if not call.known or call.result == state else Inconsistent("not next")


def test_a_user_s_own_model_is_judged_by() -> None:
    rows: list[Row] = [(p, kind, "greet", 1 - p if kind == "ok" else None) for kind in ("invoke", "ok") for p in (0, 1)]
    assert check(history(*rows), Greetings()).verdict == "valid"
    assert check(history(*rows, (0, "invoke", "greet", None), (0, "ok", "greet", 3)), Greetings()).verdict == "invalid"


# Any outcomes at all, without an object behind them: what test_agreement.py never draws.


SMALL = st.integers(0, 2)
ARGUMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "register": {"read": st.none(), "write": SMALL},
    "cas-register": {"read": st.none(), "write": SMALL, "cas": st.tuples(SMALL, SMALL).map(list)},
    "fifo-queue": {"enqueue": SMALL, "dequeue": st.none()},
    "queue": {"enqueue": SMALL, "dequeue": st.none()},
    "stack": {"push": SMALL, "pop": st.none()},
    "mutex": {"acquire": st.none(), "release": st.none()},
    "owner-mutex": {"acquire": st.none(), "release": st.none()},
    "fenced-mutex": {"acquire": st.none(), "release": st.none() | SMALL},
    "counter": {"add": SMALL, "read": st.none()},
    "list": {"append": SMALL, "read": st.none(), "write": st.lists(SMALL, max_size=2)},
    "set": {"add": SMALL, "remove": SMALL, "contains": SMALL, "read": st.none()},
}
RESULTS: dict[str, st.SearchStrategy[Any]] = {
    "read": st.none() | SMALL,
    "dequeue": st.none() | SMALL,
    "pop": st.none() | SMALL,
    "acquire": SMALL,
    "contains": st.booleans(),
}
LISTS = st.lists(SMALL, max_size=3)


@st.composite
def small_histories(draw: st.DrawFn, model: str) -> list[Event]:
    """Up to six operations of three clients, with any outcomes; some of them can be explained, some cannot."""
    rows: list[Row] = []
    running: dict[int, str] = {}
    names = [0, 1, 2]
    invoked = 0
    for slot in draw(st.lists(st.integers(0, 2), min_size=4, max_size=12)):
        process = names[slot]
        f = running.pop(process, None)
        if f is None:
            if invoked == 6:
                continue
            invoked += 1
            f = draw(st.sampled_from(sorted(ARGUMENTS[model])))
            running[process] = f
            rows.append((process, "invoke", f, draw(ARGUMENTS[model][f])))
            continue
        kind = draw(st.sampled_from(["ok", "ok", "ok", "ok", "info", "fail"]))
        if kind == "info":
            names[slot] += 3
        result = draw(LISTS if f == "read" and model in ("list", "set") else RESULTS.get(f, st.none()))
        error = "precondition-failed" if kind == "fail" and f == "cas" and draw(st.booleans()) else None
        rows.append((process, kind, f, result if kind == "ok" else None, error))
    return history(*rows)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_verdict_agrees_with_brute_force(name: str, data: st.DataObject) -> None:
    model = MODELS[name]
    assert isinstance(model, Model)
    events = data.draw(small_histories(name))
    found = explained(model, calls_of(model, operations(events)), model.start(None))
    assert check(events, name).verdict == ("valid" if found else "invalid")
