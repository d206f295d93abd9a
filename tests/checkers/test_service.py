"""The judges of availability, recovery, membership and crashes, and the measurement of recovery times."""

from dataclasses import dataclass

import pytest

from chaos.checkers.service import availability, crashes, membership, recovery, recovery_times
from chaos.history import Event, Recorder

S = 1_000_000_000


def writes_at(*spans: tuple[float, float], f: str = "write", kind: str = "ok") -> list[Event]:
    """One write for each (invoked, completed) in seconds, each by its own process."""
    recorder = Recorder()
    for process, (invoked, completed) in enumerate(spans):
        recorder.add(round(invoked * S), process, "invoke", f, "x", 1)
        recorder.add(round(completed * S), process, kind, f, "x", 1)  # type: ignore[arg-type]
    return recorder.events()


def steady(*completed: float) -> list[Event]:
    return writes_at(*((instant - 0.1, instant) for instant in completed))


def wanted(*completed: float, until: float = 20.0, since: float = 0.0) -> list[Event]:
    """Writes as in `steady`, and one more that is asked for from `since` to `until` and never acknowledged."""
    spans = sorted([*((instant - 0.1, instant) for instant in completed), (since, until)])
    recorder = Recorder()
    events = []
    for process, (invoked, ended) in enumerate(spans):
        kind = "info" if (invoked, ended) == (since, until) else "ok"
        events += [(invoked, process, "invoke"), (ended, process, kind)]
    for instant, process, kind in sorted(events):
        recorder.add(round(instant * S), process, kind, "write", "x", 1)  # type: ignore[arg-type]
    return recorder.events()


def test_writes_within_the_bound_keep_a_service_available() -> None:
    judged = availability(steady(1, 2, 3, 4, 5), [(0, 5 * S)], bound_s=1.0)
    assert (judged.verdict, judged.model, judged.operations) == ("valid", "availability", 5)


@pytest.mark.parametrize(
    ("completed", "gap"),
    [
        ((3, 4, 5), "from 0.000 s to 3.000 s"),
        ((1, 2, 4.5, 5), "from 2.000 s to 4.500 s"),
        ((1, 2, 3), "from 3.000 s to 5.000 s"),
        ((), "from 0.000 s to 5.000 s"),
    ],
)
def test_a_gap_at_the_start_in_the_middle_or_at_the_end_is_named(completed: tuple[float, ...], gap: str) -> None:
    judged = availability(wanted(*completed), [(0, 5 * S)], bound_s=1.5)
    assert judged.verdict == "invalid"
    assert gap in judged.detail


def test_no_write_is_owed_outside_the_windows() -> None:
    assert availability(steady(1, 2, 8, 9), [(0, 2 * S), (7 * S, 9 * S)], bound_s=1.0).verdict == "valid"


def test_a_write_outside_a_window_does_not_count_within_it() -> None:
    judged = availability(wanted(1, 2, 3.5, 8), [(0, 2 * S), (4 * S, 7 * S)], bound_s=1.0)
    assert "from 4.000 s to 7.000 s" in judged.detail


@pytest.mark.parametrize("windows", [[], [(8 * S, 9 * S)]])
def test_with_nothing_written_in_windows_too_short_to_judge_availability_is_unknown(
    windows: list[tuple[int, int]],
) -> None:
    assert availability(steady(1), windows, bound_s=1.0).verdict == "unknown"


def test_a_write_inside_a_window_too_short_to_judge_is_evidence_enough() -> None:
    verdict = availability(steady(1), [(0, S)], bound_s=1.0)
    assert verdict.verdict == "valid"
    assert "none longer than the bound" in verdict.detail


@pytest.mark.parametrize(("f", "kind"), [("read", "ok"), ("contains", "ok"), ("write", "info"), ("write", "fail")])
def test_only_acknowledged_writes_count(f: str, kind: str) -> None:
    recorder = Recorder()
    recorder.add(0, 99, "invoke", "write", "x", 1)
    for event in writes_at((0.5, 1), (1.5, 2), f=f, kind=kind):
        recorder.add(event.time, event.process, event.type, event.f, "x", 1)
    judged = availability(recorder.events(), [(0, 2 * S)], bound_s=1.0)
    assert judged.verdict == "invalid"


@pytest.mark.parametrize("kind", ["fail", "info"])
def test_clients_that_are_turned_away_or_give_up_ask_for_all_of_the_time_between_their_attempts(kind: str) -> None:
    attempts = writes_at(*((start, start + 0.01) for start in (1.0, 1.8, 2.6)), kind=kind)
    judged = availability(attempts, [(0, 5 * S)], bound_s=1.5)
    assert judged.verdict == "invalid"
    assert "no write was acknowledged for 1.610 s" in judged.detail
    assert "from 1.000 s to 2.610 s" in judged.detail


def test_a_slow_workload_whose_every_write_is_acknowledged_at_once_is_valid_and_the_silence_is_named() -> None:
    judged = availability(writes_at((0, 0.01), (6, 6.01), (12, 12.01)), [(0, 20 * S)], bound_s=5.0)
    assert judged.verdict == "valid"
    assert "few or none were asked for from 12.010 s to 20.000 s" in judged.detail


def test_a_write_that_was_invoked_late_in_a_gap_waits_only_from_then_on() -> None:
    events = writes_at((0, 0.01), (6, 10.9), (12, 17.1))
    assert availability(events, [(0, 12 * S)], bound_s=5.0).verdict == "valid"
    judged = availability(events, [(0, 20 * S)], bound_s=5.0)
    assert (judged.verdict, "from 12.000 s to 17.100 s" in judged.detail) == ("invalid", True)


def test_clients_that_are_through_ask_for_no_more() -> None:
    events = steady(1, 2, 3)
    assert availability(events, [(0, 30 * S)], bound_s=5.0).verdict == "valid"
    judged = recovery(events, healed_ns=10 * S, bound_s=5.0, end_ns=30 * S)
    assert (judged.verdict, judged.detail) == ("valid", "no write was asked for after the last heal at 10.000 s")


def test_a_workload_that_only_reads_is_judged_by_its_reads() -> None:
    answered = writes_at((0, 0.1), (2, 2.1), f="read")
    assert availability(answered, [(0, 10 * S)], bound_s=1.0).verdict == "valid"
    assert "first read after" in recovery(answered, healed_ns=S, bound_s=1.5, end_ns=10 * S).detail
    stuck = writes_at((0, 0.1), (2, 4), f="read")
    assert "no read was acknowledged for 2.000 s" in availability(stuck, [(0, 10 * S)], bound_s=1.0).detail
    assert recovery(stuck, healed_ns=S, bound_s=1.0, end_ns=10 * S).verdict == "invalid"


def test_with_no_write_asked_for_in_any_window_of_a_workload_that_writes_availability_is_unknown() -> None:
    judged = availability(steady(1), [(5 * S, 9 * S)], bound_s=1.0)
    assert judged.verdict == "unknown"
    assert "no write was asked for" in judged.detail


def test_a_refused_precondition_is_an_answer_that_neither_asks_for_more_nor_acknowledges() -> None:
    recorder = Recorder()
    recorder.add(0, 0, "invoke", "cas", "x", [1, 2])
    recorder.add(1, 0, "fail", "cas", "x", [1, 2], "precondition-failed")
    refused = recorder.events()
    judged = availability(refused, [(0, 10 * S)], bound_s=1.0)
    assert (judged.verdict, judged.operations) == ("valid", 0)
    assert recovery(refused, 0, bound_s=1.0, end_ns=10 * S).detail.endswith(", but some that were refused")
    for time in (2, 3, 4):
        recorder.add(time * S, time, "invoke", "write", "x", 1)
        recorder.add(time * S + 1, 0, "invoke", "cas", "x", [1, 2])
        recorder.add(time * S + 2, 0, "fail", "cas", "x", [1, 2], "precondition-failed")
    judged = availability(recorder.events(), [(0, 10 * S)], bound_s=1.0)
    assert "from 2.000 s to 10.000 s" in judged.detail


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        ("lease-lost: token 3 is over", True),
        ("not-granted", True),
        ("deadlock: 1 waits for 2, 2 for 1", True),
        ("full", True),
        ("no leader", False),
        ("unfit: full", False),
        (None, False),
    ],
)
def test_the_services_own_refusals_are_answers_whatever_reason_follows_and_other_failures_are_not(error, answered):
    attempts = Recorder()
    for tenths in (10, 18, 26):
        attempts.add(tenths * S // 10, 0, "invoke", "release", "x", 1)
        attempts.add(tenths * S // 10 + 1, 0, "fail", "release", "x", 1, error)
    assert availability(attempts.events(), [(0, 10 * S)], bound_s=1.5).verdict == ("valid" if answered else "invalid")


@pytest.mark.parametrize("f", ["take", "acquire"])
def test_what_may_wait_rightfully_owes_no_answer_and_its_answers_prove_nothing(f):
    waiting = writes_at((0.1, 19), f=f)
    assert availability(waiting, [(0, 20 * S)], bound_s=1.0).verdict == "unknown"
    assert recovery(waiting, 0, bound_s=1.0, end_ns=20 * S).detail.startswith("no read was asked for")
    recorder = Recorder()
    for event in writes_at((0.2, 0.3), (0.4, 19), f=f):
        recorder.add(event.time, event.process, event.type, event.f, "x", 1)
    for event in writes_at((10, 10.5), f="release"):
        recorder.add(event.time, 9, event.type, event.f, "x", 1)
    judged = availability(recorder.events(), [(0, 20 * S)], bound_s=1.0)
    assert (judged.verdict, judged.operations) == ("valid", 1)


def test_the_end_of_a_lease_was_asked_for_by_nobody():
    def judged(process: int) -> str:
        recorder = Recorder()
        recorder.add(0, 0, "invoke", "release", "x", 1)
        recorder.add(1, 0, "ok", "release", "x", 1)
        recorder.add(2, process, "invoke", "release", "x", 1)
        return availability(recorder.events(), [(0, 20 * S)], bound_s=1.0).verdict

    assert [judged(-1), judged(9)] == ["valid", "invalid"]


@pytest.mark.parametrize(
    ("f", "kind", "error", "verdict"),
    [
        ("cas", "fail", "precondition-failed", "valid"),
        ("take", "ok", None, "valid"),  # as seed 1320 of leases.toml
        ("read", "ok", None, "valid"),
        ("take", "info", "timeout", "invalid"),
        ("read", "fail", "no leader", "invalid"),
    ],
)
def test_between_two_attempts_that_are_turned_away_any_answer_shows_that_the_service_was_there(f, kind, error, verdict):
    recorder = Recorder()
    for tenths in (10, 16, 22):
        recorder.add(tenths * S // 10, 0, "invoke", "write", "x", 1)
        recorder.add(tenths * S // 10 + 1, 0, "fail", "write", "x", 1, "no leader")
        recorder.add(tenths * S // 10 + 2, tenths, "invoke", f, "x", None)
        recorder.add(tenths * S // 10 + 3, tenths, kind, f, "x", None, error)
    assert availability(recorder.events(), [(0, 10 * S)], bound_s=1.0).verdict == verdict


def test_the_caller_may_say_what_counts_as_a_write() -> None:
    events = writes_at((0.5, 1), (1.5, 2), f="read")
    assert availability(events, [(0, 2 * S)], bound_s=1.0, writes=frozenset({"read"})).verdict == "valid"


def test_a_write_soon_after_the_heal_is_a_recovery() -> None:
    judged = recovery(steady(1, 10.7), healed_ns=10 * S, bound_s=1.0, end_ns=20 * S)
    assert (judged.verdict, judged.model) == ("valid", "recovery")
    assert "after 0.700 s" in judged.detail


def test_a_write_that_was_invoked_before_the_heal_proves_no_recovery() -> None:
    judged = recovery(writes_at((9.9, 10.2)), healed_ns=10 * S, bound_s=1.0, end_ns=20 * S)
    assert judged.detail.startswith("no write was asked for after the last heal")
    assert recovery(wanted(1, 10.05, since=10.0), healed_ns=10 * S, bound_s=1.0, end_ns=20 * S).verdict == "invalid"


def test_a_write_that_is_open_at_the_heal_and_never_answered_is_no_recovery() -> None:
    assert recovery(wanted(1, since=9.0), healed_ns=10 * S, bound_s=1.0, end_ns=20 * S).verdict == "invalid"


def test_a_write_too_long_after_the_heal_is_no_recovery() -> None:
    judged = recovery(writes_at((10.0, 13.0)), healed_ns=10 * S, bound_s=1.0, end_ns=20 * S)
    assert judged.verdict == "invalid"
    assert "only after 3.000 s" in judged.detail


@pytest.mark.parametrize(("end", "expected"), [(10.5, "unknown"), (11.0, "unknown"), (11.1, "invalid")])
def test_a_run_that_ended_within_the_bound_leaves_recovery_unknown(end: float, expected: str) -> None:
    assert recovery(wanted(1), healed_ns=10 * S, bound_s=1.0, end_ns=round(end * S)).verdict == expected


def view(**states: str) -> dict[str, str]:
    return states


def test_views_that_agree_with_the_facts_are_valid() -> None:
    views = {"n1": view(n2="alive", n3="failed"), "n2": view(n1="alive", n3="failed")}
    judged = membership(views, up={"n1", "n2"})
    assert (judged.verdict, judged.model) == ("valid", "membership")


@pytest.mark.parametrize(
    ("seen_by_n1", "complaint"),
    [
        (view(n2="failed", n3="failed"), "n1 holds n2 to be failed, which is up"),
        (view(n2="suspect", n3="failed"), "n1 holds n2 to be suspect, which is up"),
        (view(n2="alive", n3="alive"), "n1 holds n3 to be alive, which is down"),
        (view(n2="alive", n3="suspect"), "n1 holds n3 to be suspect, which is down"),
        (view(n3="failed"), "n1 does not know n2, which is up"),
    ],
)
def test_a_view_that_is_wrong_is_named_with_who_holds_it(seen_by_n1: dict[str, str], complaint: str) -> None:
    judged = membership({"n1": seen_by_n1, "n2": view(n1="alive", n3="failed")}, up={"n1", "n2"})
    assert (judged.verdict, judged.detail) == ("invalid", complaint)


def test_a_node_that_is_up_but_gives_no_view_is_invalid() -> None:
    judged = membership({"n1": view(n2="alive")}, up={"n1", "n2"})
    assert (judged.verdict, judged.detail) == ("invalid", "n2 gives no view")


def test_what_a_node_that_is_down_believes_does_not_count() -> None:
    assert membership({"n1": view(n2="failed"), "n2": view(n1="failed")}, up={"n1"}).verdict == "valid"


def test_with_nobody_up_membership_is_unknown() -> None:
    assert membership({}, up=set()).verdict == "unknown"


@dataclass(frozen=True)
class Exited:
    node: str
    reason: str
    expected: bool


def test_an_exit_that_no_fault_caused_is_named() -> None:
    judged = crashes([Exited("n1", "SIGKILL", True), Exited("n2", "AssertionError in on_message", False)])
    assert (judged.verdict, judged.model) == ("invalid", "crashes")
    assert "n2 exited: AssertionError in on_message" in judged.detail
    assert "n1" not in judged.detail


def test_exits_that_faults_caused_are_valid() -> None:
    assert crashes([Exited("n1", "SIGKILL", True)]).verdict == "valid"


def test_a_recovery_time_runs_from_the_fault_to_the_first_write_invoked_after_it() -> None:
    events = writes_at((0.9, 1.9), (1.5, 3.0), (1.6, 2.5), (10.1, 10.5))
    times = recovery_times(events, [("kill", 1 * S), ("kill", 10 * S), ("pause", 2 * S)])
    assert times == {"kill": {"p50": 1.0, "max": 1.5}, "pause": {"p50": 8.5, "max": 8.5}}


def test_a_fault_that_no_write_followed_has_no_recovery_time() -> None:
    assert recovery_times(steady(1), [("kill", 5 * S)]) == {}
