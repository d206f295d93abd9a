"""What is drawn of operations: which are left out, how many at a time, how deep a queue is, who held a lock."""

from itertools import accumulate, pairwise

import pytest

from chaos.history import Operation
from chaos.report.points import OK_MAX, OTHERS_MAX, depth, locks, points, thinned, throughput

MS = 1_000_000
S = 1000 * MS


def operation(n, outcome="ok", latency=MS, f="write", key="k", argument=None, result=None, process=0, at=None, **more):
    began = n * MS if at is None else at
    return Operation(
        process=process, f=f, key=key, argument=n if argument is None else argument, result=result, invoked=2 * n,
        completed=None if outcome == "info" else 2 * n + 1, outcome=outcome, began=began, ended=began + latency,
        **{"answered": 2 * n + 1, **more},
    )  # fmt: skip


def test_few_operations_are_all_drawn():
    few = [(0, operation(n)) for n in range(100)]
    assert thinned(few, 100) == few


def test_of_many_operations_the_fastest_and_the_slowest_of_every_stretch_stay():
    many = [operation(n, latency=(n * 7919 % 1009 + 1) * 1000) for n in range(10_000)]
    many[5_003] = operation(5_003, latency=S)
    many[7_001] = operation(7_001, latency=1)
    left = [one for _, one in thinned([(0, one) for one in many], 1_000)]
    assert len(left) <= 1_300
    assert many[5_003] in left
    assert many[7_001] in left
    assert left == sorted(left, key=lambda one: one.began)
    assert max(after.invoked - before.invoked for before, after in pairwise(left)) < 100


def test_failed_and_unknown_operations_stay_up_to_their_lid_and_what_is_left_out_is_counted():
    ok = [operation(n) for n in range(OK_MAX + 20_000)]
    rare = [operation(n, outcome) for n in range(2_000) for outcome in ("fail", "info")]
    shown = points([("kv", [*ok, *rare])])
    assert shown.left_out["fail"] == shown.left_out["info"] == 0
    assert shown.outcome.count(1) == shown.outcome.count(2) == 2_000
    assert shown.left_out["ok"] + shown.outcome.count(0) == len(ok)
    assert shown.left_out["ok"] > 0
    often = points([("kv", [operation(n, "fail") for n in range(4 * OTHERS_MAX)])])
    assert often.left_out["fail"] >= 2 * OTHERS_MAX


def test_the_columns_tell_time_and_event_and_words_of_each_operation():
    first, second = operation(1, at=5 * S, process=3), operation(4, "info", at=2 * S, answered=None, argument="<&>")
    shown = points([("kv", [first]), ("queue", [second])])
    assert list(accumulate(shown.began)) == [2_000_000, 5_000_000]
    assert list(accumulate(shown.index)) == [8, 2]
    assert shown.latency == [-1, 1_000]
    assert [shown.workloads[place] for place in shown.workload] == ["queue", "kv"]
    assert [shown.texts[place] for place in shown.words] == ['write "<&>" with unknown outcome', "write 1 ok"]
    assert shown.process == [0, 3]


def test_a_rate_counts_operations_when_they_ended():
    found = throughput([operation(n, at=n * S // 10, latency=S) for n in range(20)] + [operation(0, "fail")], 4.0)
    assert found.step == 0.05
    assert sum(found.ok) * found.step == pytest.approx(20)
    assert found.ok[:19] == [0] * 19
    assert found.fail[0] == 20.0
    assert len(found.ok) == 80


def test_the_depth_of_a_queue_is_what_was_published_less_what_was_done():
    made = [operation(n, f="enqueue") for n in (0, 1, 2)]
    lost = operation(3, "info", f="enqueue")
    done = [operation(n, f="dequeue", result="x") for n in (4, 5)]
    empty = operation(6, f="dequeue")
    found = depth("queue", [*made, lost, *done, empty], 1.0)
    assert found.depth == [0, 1, 2, 3, 2, 1]
    assert found.words == "queue: at most 3 at 0.00 s, 1 in the end."
    assert depth("kv", [operation(1)], 1.0) is None


def test_a_lock_is_held_until_its_release_or_until_its_lease_may_have_ended():
    def acquire(n, token, at, process):
        return operation(n, f="acquire", key="l", result=token, at=at, latency=0, process=process)

    def release(n, token, at, process, **more):
        return operation(n, f="release", key="l", argument=token, at=at, latency=0, process=process, **more)

    told = [acquire(0, 7, S, 1), release(1, 7, 2 * S, 1), release(2, 7, 3 * S, -1, outcome="info")]
    told += [acquire(3, 8, 4 * S, 2), release(4, 8, 5 * S, -2, outcome="info"), acquire(5, 9, 6 * S, 3)]
    (lock,), number = locks(told, 9.0)
    assert number == 1
    assert [(hold.start, hold.end, hold.what) for hold in lock.holds] == [
        (1, 2, "held"),
        (4, 5, "lapsed"),
        (6, 9, "held"),
    ]
    assert lock.words == "l: held 3 times from 1.00 to 9.00 s, once until the lease may have ended."


def test_two_locks_at_once_are_each_held_and_the_busiest_are_shown_with_the_one_that_matters():
    told = [operation(n, f="acquire", key=f"l{n % 20} and m", result=n) for n in range(200)]
    told.append(operation(999, f="acquire", key="rare", result=1))
    shown, number = locks(told, 9.0, "rare")
    found = {lock.key: lock.held for lock in shown}
    assert number == 22
    assert len(found) == 8
    assert found["m"] == 200
    assert found["rare"] == 1
