"""Total judges name the operations: what was lost and who put it in, what came out and who took it; drains; ids."""

from typing import Any

import pytest
from histories import Row, expires_after, history

from chaos.checkers import Verdict, check


def total(*rows: Row, initial: Any = None) -> Verdict:
    return check(history(*rows), "total-queue", initial=initial)


def done(process: int, f: str, argument: Any, result: Any, kind: str = "ok") -> list[Row]:
    return [(process, "invoke", f, argument), (process, kind, f, result)]


def put(item: Any, process: int = 0, kind: str = "ok") -> list[Row]:
    return done(process, "enqueue", item, item, kind)


def take(item: Any, process: int = 1) -> list[Row]:
    return done(process, "dequeue", None, item)


def drain(*items: Any, process: int = 2) -> list[Row]:
    return done(process, "drain", None, list(items))


def ids(*results: Any, initial: Any = None) -> Verdict:
    rows = [row for process, result in enumerate(results) for row in done(process, "generate", None, result)]
    return check(history(*rows), "unique-ids", initial=initial)


def test_a_lost_element_is_named_with_who_put_it_in_and_where() -> None:
    judged = total(*put("a"), *put("b", process=3), *take("a"))
    assert judged.verdict == "invalid"
    assert judged.detail.endswith(
        'acknowledged elements were lost: "b" (enqueue of process 3, events 2 to 3)'
        " (1 lost, 0 duplicated, 0 unexpected of 2 acknowledged and 1 taken)"
    )


def test_an_element_lost_twice_is_counted_and_of_many_a_few_are_named() -> None:
    judged = total(*put("a"), *put("a", process=3))
    assert 'lost: "a" (2 times; enqueue of process 0, events 0 to 1; enqueue of process 3, events 2 to 3)' in (
        judged.detail
    )
    many = total(*[row for number in range(7) for row in put(number)])
    assert "4 (enqueue of process 0, events 8 to 9) and 2 more (7 lost" in many.detail
    assert "; … " not in many.detail
    often = total(*[row for _ in range(4) for row in put("a")])
    assert "events 4 to 5; …)" in often.detail


def test_an_element_that_was_there_at_first_can_be_lost_too() -> None:
    judged = total(*put("a"), *take("a"), initial=["z"])
    assert 'acknowledged elements were lost: "z" (1 lost' in judged.detail


def test_a_duplicate_is_named_with_all_who_took_it() -> None:
    judged = total(*put("a"), *take("a", process=4), *drain("a"))
    assert judged.verdict == "invalid"
    assert 'put in: "a" (dequeue of process 4, events 2 to 3; drain of process 2, events 4 to 5)' in judged.detail


def test_an_element_that_came_out_again_before_it_was_put_in_again_is_a_duplicate() -> None:
    judged = total(*put("a"), *take("a"), *take("a", process=4), *put("a"))
    assert judged.verdict == "invalid"
    assert judged.detail.endswith(
        'elements came out again before they were put in again: "a" (dequeue of process 1, events 2 to 3;'
        " dequeue of process 4, events 4 to 5) (0 lost, 1 duplicated, 0 unexpected of 2 acknowledged and 2 taken)"
    )
    assert judged.explanation is not None
    assert (judged.explanation.prefix, judged.explanation.shortest) == (6, True)
    assert total(*put("a"), *drain("a", "a"), *put("a")).verdict == "invalid"
    assert total(*take("a"), *take("a"), *put("a"), initial=["a"]).verdict == "invalid"


def test_an_element_may_come_out_again_once_it_is_being_put_in_again() -> None:
    begun, ended = put("a", process=9)
    assert total(*put("a"), *take("a"), *put("a"), *take("a")).verdict == "valid"
    assert total(*put("a"), *take("a"), begun, *take("a"), ended).verdict == "valid"
    asked, answered = take("a", process=7)
    assert total(*put("a"), *take("a"), asked, begun, answered, ended).verdict == "valid"
    assert total(*put("a"), asked, *take("a"), begun, answered, ended).verdict == "valid"
    assert total(*take("a"), *take("a"), *put("a"), *take("a"), initial=["a", "a"]).verdict == "valid"


def test_an_enqueue_of_unknown_outcome_may_have_put_an_element_in_again_and_a_failed_one_not() -> None:
    for kind, expected in (("info", "valid"), ("fail", "invalid")):
        assert total(*put("a"), *put("a", kind=kind), *take("a"), *take("a")).verdict == expected
        rows = [*put("a"), *take("a"), *put("a", kind=kind), *take("a"), *put("a"), *drain("a")]
        assert total(*rows).verdict == expected


def test_what_was_never_put_in_is_named_with_who_took_it() -> None:
    judged = total(*put("a"), *take("a"), *drain("q"))
    assert judged.verdict == "invalid"
    assert 'elements came out that were not in: "q" (drain of process 2, events 4 to 5)' in judged.detail


def test_a_drain_takes_all_that_it_lists() -> None:
    judged = total(*put("a"), *put("b"), *put("b"), *take("a"), *drain("b", "b"))
    assert judged.verdict == "valid"
    assert "0 lost, 0 duplicated, 0 unexpected of 3 acknowledged and 3 taken" in judged.detail
    assert total(*put("a"), *drain()).verdict == "invalid"


def test_a_drain_that_ended_before_an_element_was_put_in_cannot_have_it() -> None:
    assert total(*drain("a"), *put("a")).verdict == "invalid"


@pytest.mark.parametrize(("kind", "expected"), [("info", "unknown"), ("fail", "invalid")])
def test_a_drain_of_unknown_outcome_may_have_taken_any_number_of_elements(kind: str, expected: str) -> None:
    lost = [row for number in range(9) for row in put(number)]
    judged = total(*lost, *done(2, "drain", None, None, kind))
    assert judged.verdict == expected
    assert ("taken by drains of unknown outcome" in judged.detail) == (kind == "info")


def test_a_drain_of_unknown_outcome_excuses_no_duplicate_and_nothing_unexpected() -> None:
    blind = done(2, "drain", None, None, "info")
    assert total(*put("a"), *blind, *take("a"), *take("a")).verdict == "invalid"
    assert total(*blind, *take("a")).verdict == "invalid"
    assert total(*put("a"), *blind, *take("a")).verdict == "valid"


@pytest.mark.parametrize("answer", [None, "a", {"a": 1}])
def test_a_drain_that_answers_no_list_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="a drain answers a list of elements, not "):
        total(*done(2, "drain", None, answer))


def test_ids_given_twice_are_named_with_those_who_got_them() -> None:
    judged = ids(7, 8, {"n": [1]}, 7.0)
    assert judged.verdict == "invalid"
    assert judged.detail.endswith(
        "ids were given out more than once: 7 (2 times; generate of process 0, events 0 to 1;"
        " generate of process 3, events 6 to 7)"
    )


def test_an_id_that_was_given_out_before_the_history_is_given_out_twice() -> None:
    judged = ids(8, 7, initial=[7])
    assert judged.detail.endswith("7 (2 times; generate of process 1, events 2 to 3)")
    assert ids(8, initial=[7]).verdict == "valid"
    assert ids(8, initial=[7, 7]).verdict == "valid"


def test_null_is_an_id_like_any_other() -> None:
    assert ids(None, 1).verdict == "valid"
    assert "null (2 times; generate of process 0" in ids(None, 1, None).detail


def test_an_id_that_was_not_acknowledged_was_given_to_nobody() -> None:
    rows = [*done(0, "generate", None, 1), *done(1, "generate", None, 1, "info"), *done(2, "generate", None, 1, "fail")]
    assert check(history(*rows), "unique-ids").verdict == "valid"


# --- explanations ---


def many(*, lost: int | None = None) -> list[Row]:
    """Fifty elements put in and taken, but for the lost one."""
    rows: list[Row] = []
    for item in range(50):
        rows += [(0, "invoke", "enqueue", item), (0, "ok", "enqueue", item)]
        if item != lost:
            rows += [(1, "invoke", "dequeue", None), (1, "ok", "dequeue", item)]
    return rows


def test_a_lost_element_is_shown_alone_and_only_the_end_tells() -> None:
    judged = check(history(*many(lost=20)), "total-queue")
    assert judged.explanation is not None
    assert (judged.explanation.prefix, judged.explanation.shortest) == (198, True)
    assert judged.explanation.operation == "enqueue 20 ok (process 0, events 80 to 81)"
    assert [(one.index, one.value) for one in judged.explanation.minimal] == [(80, 20), (81, 20)]


def test_a_duplicate_is_told_when_it_comes_and_shown_with_its_enqueue() -> None:
    again: list[Row] = [(2, "invoke", "dequeue", None), (3, "invoke", "enqueue", "later"), (2, "ok", "dequeue", 7)]
    judged = check(history(*many(), *again, (3, "ok", "enqueue", "later"), *many()[4:8]), "total-queue")
    assert judged.explanation is not None
    assert (judged.explanation.prefix, judged.explanation.shortest) == (203, True)
    assert judged.explanation.operation == "dequeue -> 7 (process 2, events 200 to 202)"
    assert judged.explanation.concurrent == ['enqueue "later" ok (process 3, events 201 to 203)']
    assert [one.index for one in judged.explanation.minimal] == [28, 29, 30, 31, 200, 202]


def test_the_id_that_was_given_again_is_shown_with_the_first_one() -> None:
    ids = [
        row for item in [*range(30), 11, 12] for row in ((0, "invoke", "generate", None), (0, "ok", "generate", item))
    ]
    judged = check(history(*ids), "unique-ids")
    assert judged.explanation is not None
    assert judged.explanation.prefix == 62
    assert [one.value for one in judged.explanation.minimal if one.type == "ok"] == [11, 11]


def test_without_time_to_explain_the_verdict_is_the_same() -> None:
    judged = check(history(*many(lost=20)), "total-queue", expired=expires_after(2))
    assert judged.verdict == "invalid"
    assert judged.explanation is not None
    assert not judged.explanation.shortest
    assert len(judged.explanation.minimal) == 198
