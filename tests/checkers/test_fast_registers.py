"""Registers without a search: hand-made cases both ways, the search beside them, and large histories that are right."""

from typing import Any

import pytest
from brute import explained
from histories import Row, history
from hypothesis import given, settings
from hypothesis import strategies as st
from random_histories import one_key
from searching import searched

from chaos.checkers.fast.blocks import conflict
from chaos.checkers.model import Decision, Explained, Impossible, calls_of
from chaos.checkers.models.registers import CasRegister, Register
from chaos.history import Operation, operations
from testbed.base.rand import Streams

REFUSED = "precondition-failed"
REGISTER, CAS = Register(), CasRegister()


def no_budget() -> None:
    """Nobody is in a hurry."""


def decided(*rows: Row, model: Register | CasRegister = CAS, initial: Any = None) -> Decision:
    return model.decide(calls_of(model, operations(history(*rows))), model.start(initial), no_budget)


def done(process: int, f: str, argument: Any, result: Any = None) -> list[Row]:
    return [(process, "invoke", f, argument), (process, "ok", f, result)]


def refused(process: int, old: Any, new: Any) -> list[Row]:
    return [(process, "invoke", "cas", [old, new]), (process, "fail", "cas", None, REFUSED)]


def lost(process: int, f: str, argument: Any) -> list[Row]:
    return [(process, "invoke", f, argument), (process, "info", f, None)]


def fs(decision: Decision) -> list[tuple[str, Any]]:
    assert isinstance(decision, Impossible), decision
    return [(call.f, call.operation.result if call.f == "read" else call.operation.argument) for call in decision.calls]


def test_two_blocks_conflict_if_each_must_precede_the_other() -> None:
    assert conflict([(1, 4), (3, 6)], no_budget) == (0, 1)
    assert conflict([(1, 8), (5, 3)], no_budget) == (0, 1)
    assert conflict([(1, 4), (5, 8), (9, 0), (7, 2)], no_budget) is None


def test_a_value_may_not_come_back() -> None:
    rows = done(0, "write", 1) + done(0, "write", 2) + done(1, "read", None, 2) + done(1, "read", None, 1)
    assert fs(decided(*rows, model=REGISTER)) == [("write", 1), ("write", 2), ("read", 2), ("read", 1)]
    assert isinstance(decided(*rows[:6], model=REGISTER), Explained)


def test_the_value_at_the_start_was_written_before_everything() -> None:
    rows = done(0, "read", None, 7) + done(0, "write", 1)
    assert isinstance(decided(*rows, initial=7), Explained)
    assert isinstance(decided(*rows, *done(0, "read", None, 7), initial=7), Impossible)
    assert isinstance(decided(*rows, initial=8), Impossible)


def test_a_read_may_see_a_concurrent_write_but_none_that_comes_later() -> None:
    write, read = done(0, "write", 1), done(1, "read", None, 1)
    assert isinstance(decided(write[0], *read, write[1]), Explained)
    assert fs(decided(*read, *write)) == [("read", 1), ("write", 1)]


def test_a_write_of_unknown_outcome_counts_from_when_it_was_read() -> None:
    rows = lost(0, "write", 1) + done(1, "write", 2)
    assert isinstance(decided(*rows, *done(1, "read", None, 2)), Explained)
    assert isinstance(decided(*rows, *done(1, "read", None, 1)), Explained)
    again = done(1, "read", None, 1) + done(1, "read", None, 2)
    assert isinstance(decided(*rows, *again), Impossible)


def test_a_value_that_was_written_twice_is_left_to_the_search_once_somebody_read_it() -> None:
    rows = done(0, "write", 1) + done(0, "write", 1)
    assert isinstance(decided(*rows), Explained)
    assert decided(*rows, *done(0, "read", None, 1)) is None
    assert decided(*lost(0, "write", 1), *lost(1, "write", 1), *done(0, "read", None, 1)) is None
    assert decided(*done(0, "write", None), *done(0, "read", None, None)) is None


def test_cas_joins_values_that_must_follow_one_another() -> None:
    chain = done(0, "write", 1) + done(0, "cas", [1, 2])
    assert isinstance(decided(*chain, *done(1, "read", None, 2)), Explained)
    assert isinstance(decided(*chain, *done(1, "read", None, 1)), Impossible)
    between = done(0, "write", 1) + done(1, "write", 5) + done(1, "read", None, 5) + done(0, "cas", [1, 2])
    assert isinstance(decided(*between), Impossible)


def test_a_value_is_replaced_by_cas_once_and_must_have_been_there() -> None:
    first, second = done(0, "cas", [None, 1]), done(1, "cas", [None, 2])
    assert isinstance(decided(first[0], second[0], first[1], second[1]), Impossible)
    assert isinstance(decided(*done(0, "cas", [3, 4])), Impossible)
    assert isinstance(decided(*done(0, "cas", [3, 4]), *done(0, "cas", [4, 3])), Impossible)


def test_a_cas_to_the_same_value_is_like_a_read() -> None:
    rows = done(0, "write", 1) + done(0, "cas", [1, 1]) + done(0, "cas", [1, 1])
    assert isinstance(decided(*rows), Explained)
    assert isinstance(decided(*rows, *done(0, "write", 2), *done(0, "cas", [1, 1])), Impossible)


def test_a_cas_is_not_refused_while_its_value_is_there() -> None:
    rows = done(0, "write", 1) + refused(1, 1, 2)
    assert fs(decided(*rows)) == [("write", 1), ("cas", [1, 2])]
    assert fs(decided(*rows, *done(0, "read", None, 1))) == [("write", 1), ("cas", [1, 2]), ("read", 1)]
    assert isinstance(decided(*rows[:2], *refused(1, 5, 2)), Explained)


def test_a_cas_that_began_before_its_value_was_there_may_be_refused_even_if_the_value_stays() -> None:
    one, late = done(0, "write", 1), refused(1, 1, 2)
    assert isinstance(decided(one[0], late[0], one[1], late[1], *done(2, "read", None, 1)), Explained)


@pytest.mark.parametrize("way", ["concurrent write", "earlier value", "its own cas", "unknown write", "unknown cas"])
def test_a_refused_cas_needs_another_value_for_a_moment(way: str) -> None:
    one, three = done(0, "write", 1), done(3, "write", 3)
    rows = {
        "concurrent write": [*one, three[0], *refused(1, 1, 2), three[1]],
        "earlier value": [one[0], *refused(1, 1, 2), one[1]],
        "its own cas": [*one, *done(0, "cas", [1, 9]), *refused(1, 1, 2)],
        "unknown write": [*lost(5, "write", 8), *one, *refused(1, 1, 2)],
        "unknown cas": [*one, *lost(5, "cas", [1, 8]), *refused(1, 1, 2)],
    }[way]
    assert isinstance(decided(*rows), Explained)


def test_cas_of_unknown_outcome_that_need_each_other_are_no_proof_without_what_was_read() -> None:
    pending = [(2, "invoke", "cas", [2, 1]), *done(0, "read", None, 1), (1, "invoke", "cas", [1, 2])]
    assert fs(decided(*pending, initial=5)) == [("cas", [2, 1]), ("read", 1), ("cas", [1, 2])]


def test_a_value_that_cannot_stay_changes_places_with_the_one_before_it() -> None:
    two, three, late = done(2, "write", 2), done(3, "write", 3), refused(1, 3, 9)
    both = [two[0], three[0], two[1], three[1]]
    assert isinstance(decided(*both, *late), Explained)
    assert isinstance(decided(*both, *done(0, "read", None, 3), *late), Impossible)


def test_a_value_that_cannot_stay_is_replaced_by_one_that_could_begin_later() -> None:
    one, four = done(0, "write", 1), done(4, "write", 4)
    rows = [four[0], *one, *refused(1, 1, 9), *done(2, "write", 2), four[1]]
    assert isinstance(decided(*rows), Explained)
    assert isinstance(decided(*rows[1:-1]), Impossible)


def test_each_value_between_two_cas_is_there_long_enough_for_those_refused_and_not_for_too_long() -> None:
    chain = [*done(0, "write", 1), *done(0, "cas", [1, 2]), *done(0, "cas", [2, 3])]
    assert isinstance(decided(*chain[:3], *refused(1, 1, 9), *chain[3:]), Explained)
    wrong = [*chain[:2], *refused(1, 1, 9), *chain[2:]]
    assert fs(decided(*wrong)) == [("write", 1), ("cas", [1, 9]), ("cas", [1, 2])]


def test_hundreds_of_clients_that_all_write_at_once_may_have_done_so_in_any_order() -> None:
    rows = [(p, "invoke", "write", p) for p in range(500)] + [(p, "ok", "write", None) for p in range(500)]
    last = done(0, "read", None, 250)
    assert isinstance(decided(*rows, *last, *last), Explained)
    assert isinstance(decided(*rows, *last, *done(1, "read", None, 251)), Impossible)


def large(seed: int, operations_max: int, clients: int, cas: bool) -> list[Operation]:
    """What a right register answers: half of the cas come too late, and of a few operations nobody knows."""
    random = Streams(seed).stream("register")
    found: list[Operation] = []
    value, fresh, position = None, 0, 0
    running: dict[int, list[Any]] = {}  # process: f, argument, position, whether it took effect, result, outcome
    last_seen: list[Any] = [None] * clients
    while len(found) < operations_max:
        process = random.randrange(clients)
        if process not in running:
            f = random.choice(["read", "write", "cas"] if cas else ["read", "write"])
            fresh += f != "read"
            argument = {"read": None, "write": fresh, "cas": [last_seen[process], fresh]}[f]
            running[process] = [f, argument, position, False, None, "ok"]
            position += 1
        elif not running[process][3]:
            call = running[process]
            call[3] = True
            if call[0] == "read":
                call[4] = value
            elif call[0] == "write":
                value = call[1]
            elif value == call[1][0]:
                value = call[1][1]
            else:
                call[5] = "fail"
            if random.random() < 0.03:
                call[5] = "info"
        else:
            f, argument, invoked, _, result, outcome = running.pop(process)
            if outcome == "ok":
                last_seen[process] = result if f == "read" else argument if f == "write" else argument[1]
            completed = None if outcome == "info" else position
            error = REFUSED if outcome == "fail" else None
            found.append(
                Operation(
                    process=process,
                    f=f,
                    key=None,
                    argument=argument,
                    result=result if outcome == "ok" else None,
                    invoked=invoked,
                    completed=completed,
                    outcome=outcome,
                    error=error,
                )
            )
            position += 1
    for process, (f, argument, invoked, *_) in running.items():
        found.append(
            Operation(
                process=process,
                f=f,
                key=None,
                argument=argument,
                result=None,
                invoked=invoked,
                completed=None,
                outcome="info",
            )
        )
    return sorted(found, key=lambda operation: operation.invoked)


@pytest.mark.parametrize("clients", [2, 10, 50])
@pytest.mark.parametrize("model", [REGISTER, CAS])
def test_a_large_right_history_is_explained_without_a_search(model: Register | CasRegister, clients: int) -> None:
    calls = calls_of(model, large(clients, 5000, clients, cas=model is CAS))
    assert isinstance(model.decide(calls, None, no_budget), Explained)


def test_a_large_history_with_one_stale_read_is_impossible_for_few_calls() -> None:
    found = large(1, 5000, 10, cas=False)
    stale = next(one for one in found[2000:] if one.f == "read" and one.outcome == "ok")
    old = next(one.result for one in found[500:] if one.f == "read" and one.outcome == "ok")
    values = {field: getattr(stale, field) for field in stale.__struct_fields__}
    found[found.index(stale)] = Operation(**{**values, "result": old})
    decision = REGISTER.decide(calls_of(REGISTER, found), None, no_budget)
    assert isinstance(decision, Impossible)
    assert len(decision.calls) <= 6


def test_the_budget_is_asked_about_again_and_again() -> None:
    asked: list[None] = []
    calls = calls_of(CAS, large(3, 10_000, 10, cas=True))
    CAS.decide(calls, None, lambda: asked.append(None))
    assert len(asked) >= 6


def test_a_part_is_a_value_with_all_that_mention_it() -> None:
    rows = done(0, "write", 1) + done(0, "cas", [1, 2]) + done(0, "read", None, 2) + done(0, "write", 3)
    calls = calls_of(CAS, operations(history(*rows, *done(0, "read", None, 9))))
    assert CAS.parts(calls) == [calls[:3], calls[3:4], calls[4:]]


def test_beside_a_refused_cas_only_observing_calls_are_parts() -> None:
    calls = calls_of(CAS, operations(history(*done(0, "write", 1), *done(0, "read", None, 1), *refused(0, 5, 6))))
    assert CAS.parts(calls) == [[calls[1]], [calls[2]]]


@pytest.mark.parametrize("model", [REGISTER, CAS])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_decided_is_what_the_search_finds(model: Register | CasRegister, data: st.DataObject) -> None:
    drawn = data.draw(one_key(model.name))
    calls = calls_of(model, operations(history(*drawn.rows)))
    decision = model.decide(calls, model.start(drawn.initial), no_budget)
    if decision is not None:
        assert isinstance(decision, Explained) == (searched(model, calls, drawn.initial) is None)
        assert isinstance(decision, Explained) == explained(model, calls, model.start(drawn.initial))
