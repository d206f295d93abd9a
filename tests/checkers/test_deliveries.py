"""total-queue and key-order where elements are delivered under leases: takes, acknowledgements, dead letters."""

from math import inf
from typing import Any

import pytest
from histories import Row, history

from chaos.checkers import Verdict, check
from chaos.checkers.totals import TotalQueue
from chaos.checkers.totals.keyorder import KeyOrder
from chaos.history import Event, operations
from testbed.base.rand import Random, Streams

SEEDS = 200

A, B, C = ["a", 1], ["a", 2], ["a", 3]


def put(element: Any, outcome: str = "ok") -> list[Row]:
    return [(0, "invoke", "enqueue", element), (0, outcome, "enqueue", element)]


def take(process: int, element: Any, number: int, *dead: str) -> list[Row]:
    return [(process, "invoke", "take", None), (process, "ok", "take", [element, number, *dead])]


def ack(process: int, element: Any, outcome: str = "ok") -> list[Row]:
    error = "lease-lost: it ran out" if outcome == "fail" else None
    return [(process, "invoke", "dequeue", element), (process, outcome, "dequeue", element, error)]


def nack(process: int, element: Any, outcome: str = "ok") -> list[Row]:
    return [(process, "invoke", "nack", element), (process, outcome, "nack", element)]


def lapse(process: int, element: Any, number: int, *dead: str) -> list[Row]:
    return [(process, "invoke", "nack", [element, number, *dead])]


def total(*parts: list[Row]) -> Verdict:
    return check(history(*(row for part in parts for row in part)), "total-queue")


def ordered(*parts: list[Row], initial: Any = None) -> Verdict:
    return check(history(*(row for part in parts for row in part)), "key-order", initial)


# --- total-queue ---


def test_redeliveries_are_no_duplicates_and_are_counted() -> None:
    judged = total(put(A), take(1, A, 1), take(2, A, 2), take(3, A, 3), ack(1, A, "fail"), ack(3, A))
    assert judged.verdict == "valid"
    assert (
        judged.detail
        == 'key "x": 0 lost, 0 duplicated, 0 unexpected of 1 acknowledged and 1 taken for good, 2 redelivered'
    )


def test_without_takes_nothing_is_said_of_redeliveries() -> None:
    judged = total(put(A), [(1, "invoke", "dequeue", None), (1, "ok", "dequeue", A)])
    assert judged.detail == 'key "x": 0 lost, 0 duplicated, 0 unexpected of 1 acknowledged and 1 taken'


def test_a_take_that_found_nothing_or_never_came_back_takes_nothing() -> None:
    nothing = [(1, "invoke", "take", None), (1, "ok", "take", None)]
    silent = [(2, "invoke", "take", None), (2, "info", "take", None)]
    assert total(nothing, put(A), silent, take(3, A, 2), ack(3, A)).verdict == "valid"


def test_a_delivered_element_that_nobody_acknowledged_is_lost_if_it_is_not_delivered_again() -> None:
    judged = total(put(A), take(1, A, 1), [(2, "invoke", "take", None), (2, "info", "take", None)])
    assert judged.verdict == "invalid"
    assert 'acknowledged elements were lost: ["a", 1]' in judged.detail


def test_an_acknowledgement_of_unknown_outcome_may_have_taken_the_element_it_names_and_no_other() -> None:
    unknown = [(1, "invoke", "dequeue", A), (1, "info", "dequeue", None)]
    assert total(put(A), take(1, A, 1), unknown).verdict == "valid"
    assert total(put(A), take(1, A, 1), unknown, take(2, A, 2), ack(2, A)).verdict == "valid"
    assert total(put(A), put(B), take(1, A, 1), take(1, B, 1), ack(1, A), unknown).verdict == "invalid"


def test_what_was_never_put_in_or_only_later_must_not_be_delivered() -> None:
    for judged in (
        total(take(1, A, 1)),
        total(take(1, A, 1), put(A), take(1, A, 2), ack(1, A)),
        total(put(A, "fail"), take(1, A, 1)),
        total(take(1, A, 1, "dead")),
    ):
        assert judged.verdict == "invalid"
        assert judged.detail.startswith('key "x": elements came out that were not in: ["a", 1]')
    assert total(put(A, "info"), take(1, A, 1), ack(1, A)).verdict == "valid"


def test_an_element_delivered_again_after_it_was_acknowledged_is_invalid_and_one_meanwhile_is_not() -> None:
    judged = total(put(A), take(1, A, 1), ack(1, A), take(2, A, 2))
    assert judged.verdict == "invalid"
    assert judged.detail.startswith(
        'key "x": ["a", 1] was delivered again (process 2, events 6 to 7) after it was acknowledged'
        " (process 1, events 4 to 5) ("
    )
    again, done = take(2, A, 2), ack(1, A)
    assert total(put(A), take(1, A, 1), [again[0]], done, [again[1]]).verdict == "valid"
    assert total(put(A), take(1, A, 1), done, take(2, A, 1, "dead")).verdict == "invalid"


def test_two_deliveries_of_one_number_are_duplicates_beyond_redelivery() -> None:
    judged = total(put(A), take(1, A, 1), take(2, A, 1), ack(2, A))
    assert judged.verdict == "invalid"
    assert '["a", 1] was delivered twice as delivery 1: (process 1, events 2 to 3)' in judged.detail
    thrice = total(put(A), take(1, A, 1), take(2, A, 1), take(3, A, 1), ack(3, A))
    assert "and 1 more such" in thrice.detail


def test_a_dead_letter_s_deliveries_are_counted_on_their_own() -> None:
    assert total(put(A), take(1, A, 1), take(2, A, 1, "dead"), ack(2, A)).verdict == "valid"
    judged = total(put(A), take(1, A, 1), take(2, A, 1, "dead"), take(3, A, 1, "dead"), ack(3, A))
    assert judged.verdict == "invalid"
    assert "was delivered twice as delivery 1 of the dead letters" in judged.detail


@pytest.mark.parametrize("newer", [(2,), (1, "dead")])
def test_an_acknowledgement_under_an_old_receipt_is_invalid(newer: tuple[Any, ...]) -> None:
    judged = total(put(A), take(1, A, 1), take(2, A, *newer), ack(1, A))
    assert judged.verdict == "invalid"
    assert "was acknowledged (process 1, events 6 to 7) under an old receipt, of delivery 1" in judged.detail


def test_an_acknowledgement_may_pass_a_redelivery_on_its_way() -> None:
    again, done = take(2, A, 2), ack(1, A)
    assert total(put(A), take(1, A, 1), [again[0], done[0], again[1], done[1]]).verdict == "valid"


def test_whose_own_latest_delivery_is_the_newest_acknowledges_under_that() -> None:
    assert total(put(A), take(1, A, 1), take(2, A, 2), take(1, A, 3), ack(1, A)).verdict == "valid"


def test_an_element_that_was_given_back_may_be_delivered_again_and_is_lost_if_it_is_not() -> None:
    assert total(put(A), take(1, A, 1), nack(1, A), take(2, A, 2), ack(2, A)).verdict == "valid"
    assert total(put(A), take(1, A, 1), nack(1, A)).verdict == "invalid"


def test_an_acknowledgement_by_a_process_that_took_nothing_is_not_judged_by_its_receipt() -> None:
    assert total(put(A), take(1, A, 1), take(2, A, 2), ack(7, A)).verdict == "valid"


def test_of_an_element_that_was_put_in_twice_no_delivery_can_be_told_from_another() -> None:
    assert total(put(A), put(A), take(1, A, 1), ack(1, A), take(2, A, 1), ack(2, A)).verdict == "valid"


@pytest.mark.parametrize("answer", [5, [A], [A, 0], [A, "1"], [A, True], [A, 1, "lost"], [A, 1, "dead", 2], {"a": 1}])
@pytest.mark.parametrize("model", ["total-queue", "key-order"])
def test_a_take_s_answer_that_is_no_delivery_is_refused(model: str, answer: Any) -> None:
    rows: list[Row] = [(1, "invoke", "take", None), (1, "ok", "take", answer)]
    with pytest.raises(ValueError, match="a take answers null"):
        check(history(*rows), model)


def test_an_acknowledgement_after_the_consumer_gave_the_element_back_is_invalid() -> None:
    judged = total(put(A), take(1, A, 1), nack(1, A), ack(1, A))
    assert judged.verdict == "invalid"
    assert '["a", 1] was acknowledged (process 1, events 6 to 7) after it was given back' in judged.detail
    for outcome in ("fail", "info"):
        assert total(put(A), take(1, A, 1), nack(1, A, outcome), ack(1, A)).verdict == "valid"
    assert total(put(A), take(1, A, 1), nack(1, A), take(1, A, 2), ack(1, A)).verdict == "valid"
    assert total(put(A), take(1, A, 1), nack(1, A), ack(7, A)).verdict == "valid"


# --- total-queue where the ends of leases are known ---


@pytest.mark.parametrize("again", [(2,), (3,), (1, "dead")])
def test_an_element_that_is_delivered_again_before_its_lease_could_end_is_invalid(again: tuple[Any, ...]) -> None:
    judged = total(put(A), take(1, A, 1), take(2, A, *again), lapse(-1, A, 1), ack(2, A))
    assert judged.verdict == "invalid"
    assert judged.detail.startswith(
        'key "x": ["a", 1] was delivered again (process 2, events 4 to 5) while it was leased:'
        " delivery 1 (process 1, events 2 to 3) could not end before event 6 ("
    )
    assert total(put(A), take(1, A, 1), lapse(-1, A, 1), take(2, A, *again), ack(2, A)).verdict == "valid"


def test_a_dead_letter_s_lease_is_judged_as_any_other() -> None:
    first, second = take(1, A, 1, "dead"), take(2, A, 2, "dead")
    judged = total(put(A), first, second, lapse(-1, A, 1, "dead"), ack(2, A))
    assert judged.verdict == "invalid"
    assert "delivery 1 of the dead letters (process 1, events 2 to 3) could not end before event 6" in judged.detail
    assert total(put(A), first, lapse(-1, A, 1, "dead"), second, ack(2, A)).verdict == "valid"
    early = total(put(A), first, lapse(-1, A, 1), second, lapse(-2, A, 1, "dead"), ack(2, A))
    assert early.verdict == "invalid"  # the lapse was of another delivery


def test_a_redelivery_whose_lease_is_not_told_of_is_judged_as_ever() -> None:
    assert total(put(A), take(1, A, 1), take(2, A, 2), lapse(-1, A, 2), ack(2, A)).verdict == "valid"


def test_a_take_that_is_on_its_way_when_the_lease_ends_may_be_given_the_element() -> None:
    again = take(2, A, 2)
    assert total(put(A), take(1, A, 1), again[:1], lapse(-1, A, 1), again[1:], ack(2, A)).verdict == "valid"


@pytest.mark.parametrize("outcome", ["ok", "info"])
def test_what_its_consumer_gives_back_may_be_delivered_at_once(outcome: str) -> None:
    back, end = nack(1, A, outcome), lapse(-1, A, 1)
    assert total(put(A), take(1, A, 1), back, take(2, A, 2), end, ack(2, A)).verdict == "valid"
    assert total(put(A), take(1, A, 1), back[:1], take(2, A, 2), back[1:], end, ack(2, A)).verdict == "valid"


def test_of_all_later_deliveries_the_first_to_come_counts() -> None:
    slow = take(2, A, 2)
    parts = [put(A), take(1, A, 1), slow[:1], take(3, A, 3), lapse(-1, A, 1), slow[1:], ack(3, A)]
    assert total(*parts).verdict == "invalid"


def test_what_was_not_given_back_or_by_another_consumer_or_earlier_is_still_leased() -> None:
    end = lapse(-1, A, 1)
    refused, late = nack(1, A, "fail"), nack(1, A)
    assert total(put(A), take(1, A, 1), refused, take(2, A, 2), end, ack(2, A)).verdict == "invalid"
    assert total(put(A), take(1, A, 1), take(2, A, 2), late, end, ack(2, A)).verdict == "invalid"
    assert total(put(A), nack(1, A), take(1, A, 1), take(2, A, 2), end, ack(2, A)).verdict == "invalid"
    assert total(put(A), put(B), take(1, A, 1), nack(1, B), take(2, A, 2), end, ack(2, A)).verdict == "invalid"
    theirs = [put(A), take(1, A, 1), nack(1, A), take(2, A, 2), nack(1, A, "info"), take(3, A, 3)]
    assert total(*theirs, lapse(-1, A, 2), lapse(-2, A, 1), ack(3, A)).verdict == "invalid"


def test_a_consumer_that_goes_on_under_another_number_may_give_back_what_it_took() -> None:
    assert total(put(A), take(1, A, 1), nack(11, A), take(2, A, 2), lapse(-1, A, 1), ack(2, A)).verdict == "valid"


def test_an_acknowledgement_lets_nothing_be_delivered_again() -> None:
    done, again = ack(1, A), take(2, A, 2)
    parts = [put(A), take(1, A, 1), done[:1], again, done[1:]]
    assert total(*parts).verdict == "valid"
    assert total(*parts, lapse(-1, A, 1)).verdict == "invalid"


def test_the_end_of_a_lease_is_no_operation_of_a_client() -> None:
    assert total(put(A), take(1, A, 1), lapse(-1, A, 1), ack(1, A)).operations == 3
    assert ordered(put(A), take(1, A, 1), nack(1, A), lapse(-1, A, 1), take(2, A, 2), ack(2, A)).operations == 5


# --- key-order ---


def test_an_element_that_is_delivered_after_those_before_it_are_gone_is_in_order() -> None:
    judged = ordered(put(A), put(B), take(1, A, 1), take(2, A, 2), ack(2, A), take(1, B, 1), ack(1, B))
    assert judged.verdict == "valid"
    assert judged.detail == 'key "x": 2 elements of 1 keys delivered, each after those before it were gone'


def test_an_element_that_is_delivered_before_the_one_before_it_could_be_gone_is_out_of_order() -> None:
    judged = ordered(put(A), put(B), take(1, A, 1), take(2, B, 1), ack(1, A), ack(2, B))
    assert judged.verdict == "invalid"
    assert judged.detail == (
        'key "x": ["a", 2] was delivered (process 2, events 6 to 7) before ["a", 1] could be gone, which was put in'
        " before it (process 0, events 0 to 1): its first dequeue was invoked at event 8"
        " (1 too early of 2 elements of 1 keys delivered)"
    )


def test_what_was_never_gone_lets_nothing_pass() -> None:
    judged = ordered(put(A), put(B), take(1, A, 1), ack(1, A, "fail"), take(2, B, 1))
    assert judged.verdict == "invalid"
    assert "it was never dequeued" in judged.detail
    unknown = [(1, "invoke", "dequeue", A), (1, "info", "dequeue", None)]
    assert ordered(put(A), put(B), take(1, A, 1), unknown, take(2, B, 1)).verdict == "valid"


def test_an_acknowledgement_may_take_effect_as_soon_as_it_is_invoked() -> None:
    done = ack(1, A)
    assert ordered(put(A), put(B), take(1, A, 1), done[:1], take(2, B, 1), done[1:]).verdict == "valid"


def test_a_dead_letter_is_gone_at_the_earliest_when_its_last_delivery_was_asked_for() -> None:
    dead = take(3, A, 1, "dead")
    assert ordered(put(A), put(B), take(1, A, 1), take(2, B, 1), dead, ack(3, A)).verdict == "valid"
    judged = ordered(put(A), put(B), take(1, A, 1), take(2, B, 1), take(1, A, 2), dead, ack(3, A))
    assert judged.verdict == "invalid"
    assert "it was delivered again, asked for at event 8" in judged.detail


def test_an_acknowledgement_of_unknown_outcome_had_no_effect_on_what_is_delivered_again() -> None:
    unknown = [(1, "invoke", "dequeue", A), (1, "info", "dequeue", None)]
    start = [put(A), put(B), take(1, A, 1), unknown, take(2, B, 1)]
    assert ordered(*start).verdict == "valid"
    judged = ordered(*start, take(3, A, 2), ack(3, A))
    assert judged.verdict == "invalid"
    assert "it was delivered again, asked for at event 10" in judged.detail
    assert ordered(*start, take(3, A, 2), take(4, A, 1, "dead")).verdict == "invalid"


def test_of_all_that_were_put_in_before_the_one_that_was_there_the_longest_counts() -> None:
    judged = ordered(put(A), put(B), put(C), take(1, B, 1, "dead"), take(2, C, 1))
    assert judged.verdict == "invalid"
    assert 'before ["a", 1] could be gone' in judged.detail


def test_the_order_of_dead_letters_is_not_judged() -> None:
    rows = [put(A), put(B), take(1, A, 1), ack(2, A, "fail")]
    assert ordered(*rows, take(2, B, 1, "dead")).verdict == "valid"
    assert ordered(*rows, take(2, B, 1)).verdict == "invalid"


def test_enqueues_at_the_same_time_of_unknown_outcome_or_of_other_keys_order_nothing() -> None:
    first, second = put(A), [(5, kind, "enqueue", B) for kind in ("invoke", "ok")]
    assert ordered([first[0], *second, first[1]], take(1, B, 1)).verdict == "valid"
    assert ordered(put(A, "info"), put(B), take(1, B, 1)).verdict == "valid"
    assert ordered(put(A, "fail"), put(B), take(1, B, 1)).verdict == "valid"
    assert ordered(put(A), put(["b", 2]), take(1, ["b", 2], 1)).verdict == "valid"
    assert ordered(put(A), put(B, "info"), take(1, B, 1)).verdict == "invalid"


def test_elements_without_a_key_and_ones_put_in_twice_are_not_judged() -> None:
    for first, second in ((1, 2), ("ab", "ac"), (["a"], ["b"]), (["a", 1, 1], ["a", 2, 1]), ({"a": 1}, {"a": 2})):
        assert ordered(put(first), put(second), take(1, second, 1)).verdict == "valid"
    assert ordered(put(A), put(A), put(B), take(1, B, 1)).verdict == "valid"
    assert ordered(take(1, B, 1), put(A)).verdict == "valid"


def test_the_numbers_do_not_order_elements_but_only_tell_them_apart() -> None:
    assert ordered(put(B), put(A), take(1, B, 1), ack(1, B), take(1, A, 1)).verdict == "valid"
    assert ordered(put(B), put(A), take(1, A, 1)).verdict == "invalid"


def test_without_takes_a_dequeue_delivers_and_takes_at_once() -> None:
    def out(process: int, element: Any, outcome: str = "ok") -> list[Row]:
        return [(process, "invoke", "dequeue", None), (process, outcome, "dequeue", element)]

    assert ordered(put(A), put(B), out(1, A), out(2, B)).verdict == "valid"
    assert ordered(put(A), put(B), out(1, B), out(2, A)).verdict == "invalid"
    one, other = out(1, A), out(2, B)
    assert ordered(put(A), put(B), [one[0], *other, one[1]]).verdict == "valid"
    assert ordered(put(A), put(B), out(3, None, "info"), out(2, B)).verdict == "valid"
    assert ordered(put(A), put(B), out(3, None, "info"), out(2, B), out(1, A)).verdict == "invalid"
    assert ordered(put(A), put(B), out(3, None), out(2, B)).verdict == "invalid"


def test_what_is_there_at_the_start_is_in_the_order_it_is_listed_in_and_before_all_others() -> None:
    assert ordered(put(C), take(1, A, 1), ack(1, A), take(1, B, 1), initial=[A, B]).verdict == "valid"
    assert ordered(put(C), take(1, B, 1), initial=[A, B]).verdict == "invalid"
    judged = ordered(put(C), take(1, C, 1), initial=[A])
    assert "which was put in before it from the start: it was never dequeued" in judged.detail


# --- a queue with leases, drawn at random, and the rule of key-order spelt out beside its sweep ---


class LeasedQueue:
    """Producers, consumers whose leases run out, dead letters, and answers that get lost.

    Where it is `sloppy`, it does not care that a message of the same key is still there; where it is `hasty`, some
    leases end before they should. A lease that its consumer was told of may end by itself from a moment on that the
    history tells; the consumer may have gone on under another number by then.
    """

    def __init__(self, random: Random, sloppy: bool, hasty: bool = False) -> None:
        self.random = random
        self.sloppy = sloppy
        self.hasty = hasty
        self.answers: dict[int, Row] = {}  # on their way to consumers
        self.lapsed: set[int] = set()  # consumers whose leases may end by themselves
        self.put_off: list[Row] = []  # lapses that should have been before their leases ended
        self.rows: list[Row] = []
        self.ready: list[tuple[Any, int]] = []  # with how often it was delivered
        self.dead: list[tuple[Any, int]] = []
        self.leased: dict[int, tuple[Any, int, bool]] = {}
        self.number = 0
        self.processes = 9

    def step(self) -> None:
        ends = [self.acknowledge, self.give_back, self.lapse, self.run_out]
        self.random.choice([self.publish, self.consume, self.consume, self.answer, *ends])()

    def publish(self) -> None:
        self.number += 1
        element = [self.random.choice("ab"), self.number]
        self.ready.append((element, 0))
        self.rows.append((0, "invoke", "enqueue", element))
        self.rows.append((0, self.random.choice(["ok", "ok", "ok", "info"]), "enqueue", element))

    def consume(self) -> None:
        self.processes += 1
        self.rows.append((self.processes, "invoke", "take", None))
        dead = bool(self.dead) and self.random.random() < 0.3
        source = self.dead if dead else self.ready
        held = [element[0] for element, _, dead_letter in self.leased.values() if not dead_letter]
        free = [place for place, (element, _) in enumerate(source) if dead or self.sloppy or self.is_next(place, held)]
        if not free:
            self.rows.append((self.processes, "ok", "take", None))
            return
        element, number = source.pop(self.random.choice(free))
        self.leased[self.processes] = (element, number + 1, dead)
        unknown = (self.processes, "info", "take", None)
        known = (self.processes, "ok", "take", [element, number + 1, *["dead"][:dead]])
        self.answers[self.processes] = unknown if self.random.random() < 0.1 else known
        if self.random.random() < 0.7:
            self.answer()

    def answer(self) -> None:
        if self.answers:
            self.rows.append(self.answers.pop(self.random.choice(list(self.answers))))

    def is_next(self, place: int, held: list[str]) -> bool:
        key = self.ready[place][0][0]
        return key not in held and key not in [element[0] for element, _ in self.ready[:place]]

    def acknowledge(self) -> None:
        told = [process for process in self.leased if self.rows_say_so(process)]
        if told:
            process = self.random.choice(told)
            element, _, _ = self.leased.pop(process)
            self.rows.append((process, "invoke", "dequeue", element))
            unknown = self.random.random() < 0.2
            self.rows.append((process, *(("info", "dequeue", None) if unknown else ("ok", "dequeue", element))))

    def give_back(self) -> None:
        told = [process for process in self.leased if self.rows_say_so(process)]
        if told:
            process = self.random.choice(told)
            now = process + 1000 if not self.hasty and self.random.random() < 0.3 else process
            self.rows.append((now, "invoke", "nack", self.leased[process][0]))
            self.end(process)
            self.random.choice([self.consume, self.answer, self.publish])()
            self.rows.append((now, self.random.choice(["ok", "info"]), "nack", None))

    def lapse(self) -> None:
        pending = [process for process in self.leased if process not in self.lapsed]
        if pending:
            self.lapse_of(self.random.choice(pending), self.rows)

    def lapse_of(self, process: int, rows: list[Row]) -> None:
        element, number, dead = self.leased[process]
        self.lapsed.add(process)
        rows += lapse(-process, element, number, *["dead"][:dead])

    def rows_say_so(self, process: int) -> bool:
        return any(row[:3] == (process, "ok", "take") for row in self.rows)

    def run_out(self) -> None:
        if not self.leased:
            return
        process = self.random.choice(list(self.leased))
        if process not in self.lapsed:
            self.lapse_of(process, self.put_off if self.hasty and self.random.random() < 0.3 else self.rows)
        element = self.end(process)
        if self.rows_say_so(process) and self.random.random() < 0.5:
            self.rows += ack(process, element, "fail")

    def end(self, process: int) -> Any:
        element, number, dead = self.leased.pop(process)
        if dead or number >= 3:
            self.dead.append((element, number if dead else 0))
        else:
            self.ready.insert(0, (element, number))
        return element

    def drain(self) -> None:
        while self.ready or self.dead or self.leased:
            self.random.choice([self.consume, self.answer, self.acknowledge, self.run_out])()
        while self.answers:
            self.answer()
        self.rows += self.put_off
        taken = [process for process, kind, f, _ in (row[:4] for row in self.rows) if (kind, f) == ("ok", "take")]
        self.rows = [row for row in self.rows if row[0] >= 0 or -row[0] in taken]  # of others nobody knows the lease

    def is_broken(self) -> bool:
        """Whether one whose lease ended too early was delivered again, of the leases that are known."""
        told = [
            (process, value)
            for process, kind, f, value in (row[:4] for row in self.rows)
            if (kind, f) == ("ok", "take") and value
        ]
        early = [(-process, value) for process, _, _, value in self.put_off if -process in dict(told)]
        return any(
            first[0] == again[0] and (len(first), first[1]) < (len(again), again[1])
            for _, first in early
            for _, again in told
        )


def drained(seed: int, sloppy: bool, hasty: bool = False) -> LeasedQueue:
    random = Streams(seed).stream("queue")
    queue = LeasedQueue(random, sloppy, hasty)
    for _ in range(random.choice([10, 30])):
        queue.step()
    queue.drain()
    return queue


def drawn(seed: int, sloppy: bool) -> list[Event]:
    return history(*drained(seed, sloppy).rows)


def test_a_queue_that_does_as_it_should_is_valid_whatever_its_clients_do_and_lose() -> None:
    for seed in range(SEEDS):
        events = drawn(seed, sloppy=False)
        for model in ("total-queue", "key-order"):
            judged = check(events, model)
            assert judged.verdict == "valid", (seed, judged.detail)


def test_a_queue_that_ends_leases_too_early_is_invalid_as_soon_as_that_shows() -> None:
    found = []
    for seed in range(SEEDS):
        queue = drained(seed, sloppy=False, hasty=True)
        judged = check(history(*queue.rows), "total-queue")
        found.append(judged.verdict)
        assert found[-1] == ("invalid" if queue.is_broken() else "valid"), (seed, judged.detail)
        assert found[-1] == "valid" or "while it was leased" in judged.detail
    assert set(found) == {"valid", "invalid"}


def spelt_out(events: list[Event]) -> bool:
    """key-order's rule for leased elements that were put in once, pair by pair."""
    listed = operations(events)
    puts = {tuple(one.argument): one for one in listed if one.f == "enqueue"}
    takes = [one for one in listed if one.f == "take" and one.outcome == "ok" and one.result is not None]

    def gone(element: tuple[Any, ...]) -> float:
        mine = [one for one in takes if tuple(one.result[0]) == element]
        if any(len(one.result) == 3 for one in mine):
            return max((one.invoked for one in mine if len(one.result) == 2), default=-inf)
        dequeues = [one for one in listed if one.f == "dequeue" and one.outcome != "fail"]
        first = min((one.invoked for one in dequeues if tuple(one.argument) == element), default=inf)
        return max([first, *(one.invoked for one in mine)])

    for later in takes:
        put_later = puts[tuple(later.result[0])]
        for element, first in puts.items():
            before = first.completed is not None and first.completed < put_later.invoked
            same_key = first.argument[0] == put_later.argument[0]
            if len(later.result) == 2 and before and same_key and (later.completed or 0) < gone(element):
                return False
    return True


def test_the_sweep_agrees_with_the_rule_spelt_out_pair_by_pair() -> None:
    found = []
    for seed in range(SEEDS):
        events = drawn(seed, sloppy=True)
        found.append(check(events, "key-order").verdict)
        assert found[-1] == ("valid" if spelt_out(events) else "invalid"), seed
    assert set(found) == {"valid", "invalid"}


def test_where_the_queue_was_not_read_to_its_end_what_is_missing_may_still_be_in_it() -> None:
    rows = [row for part in (put(A), put(B), take(1, A, 1), take(2, B, 1)) for row in part]
    assert [check(history(*rows), model).verdict for model in ("total-queue", "key-order")] == ["invalid", "invalid"]
    assert check(history(*rows), TotalQueue(drained=False)).verdict == "unknown"
    assert check(history(*rows), KeyOrder(drained=False)).verdict == "valid"
    doubled = history(*rows, *take(3, A, 1))
    assert check(doubled, TotalQueue(drained=False)).verdict == "invalid"
