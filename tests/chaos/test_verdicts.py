"""How what a run recorded adds up: coverage, recovery times of several workloads, and broken assertions."""

import msgspec
import pytest

from chaos.experiment import membership_bound
from chaos.faults import Fault
from chaos.history import Recorder
from chaos.records import FaultRecord
from chaos.verdicts import Observed, failure, judge, operation_counts, overall, recoveries
from testbed.ports import Exit

S = 1_000_000_000
NODES = ("n1", "n2", "n3")


def writes(*spans):
    recorder = Recorder()
    for process, (invoked, completed) in enumerate(spans):
        recorder.add(round(invoked * S), process, "invoke", "write", "x", process)
        recorder.add(round(completed * S), process, "ok", "write", "x", process)
    return recorder.events()


def killed(number, **times):
    return FaultRecord(number=number, fault=Fault(kind="kill", target=("n3",)), nodes=("n3",), **times)


HEALED = killed(1, asked=2.0, in_effect=2.1, ended=3.0, healed=3.5)
ITS_EXIT = Exit("n3", 1, 2.05, "killed by fault", expected=True)


def seen(*records, up=NODES, **more):
    views = {node: {peer: "alive" if peer in up else "failed" for peer in NODES if peer != node} for node in up}
    observed = Observed(
        nodes=NODES,
        election_timeout=1.0,
        planned=("kill",),
        records=records,
        histories=(("kv", (), writes(*((at, at + 0.1) for at in range(10)))),),
        exits=(ITS_EXIT,),
        views=views,
        up=frozenset(up),
        healed=3.5,
        end=10.0,
    )
    return msgspec.structs.replace(observed, **more)


def judged(observed):
    checks = judge(observed, lambda: False)
    return overall(checks), {check.name: check for check in checks}


def test_a_run_whose_faults_took_hold_and_healed_is_valid():
    assert judged(seen(HEALED))[0] == "valid"


def test_a_fault_neither_seen_in_effect_nor_healed_makes_the_verdict_unknown_although_another_of_its_kind_was():
    lost = killed(2, asked=8.0, ended=8.05, failed="not in effect: no exit of n3 was recorded; not healed: …")
    verdict, checks = judged(seen(HEALED, lost))
    assert verdict == "unknown"
    assert "fault 2 (kill) was not seen to heal: not in effect: no exit of n3" in checks["coverage"].detail


def test_a_fault_that_was_skipped_has_nothing_to_heal():
    assert judged(seen(HEALED, killed(2, asked=8.0, ended=8.0, skipped="n3 down already")))[0] == "valid"


def test_a_node_that_is_not_up_in_the_end_though_it_did_not_crash_makes_the_verdict_unknown():
    verdict, checks = judged(seen(HEALED, up=("n1", "n2")))
    assert (verdict, checks["coverage"].detail) == ("unknown", "n3 was not up in the end")


def test_a_node_that_crashed_is_for_the_crashes_check_to_name():
    exits = (ITS_EXIT, Exit("n3", 2, 9.0, "crashed: RuntimeError", expected=False))
    verdict, checks = judged(seen(HEALED, up=("n1", "n2"), exits=exits))
    assert (verdict, checks["crashes"].verdict, checks["coverage"].verdict) == ("invalid", "invalid", "valid")


def test_a_failed_assertion_of_a_workload_makes_the_run_invalid_and_is_named():
    verdict, checks = judged(seen(HEALED, broken=(("mine:Tickets", "client 0, mine.py:3: two are the same"),)))
    assert (verdict, checks["workload"].verdict) == ("invalid", "invalid")
    assert checks["workload"].workload == "mine:Tickets"
    assert checks["workload"].detail == "client 0, mine.py:3: two are the same"
    assert checks["availability"].verdict == "valid"


def test_a_kill_that_counts_though_no_process_of_its_node_ended_meanwhile_makes_the_run_invalid():
    for exits in (
        (),
        (Exit("n3", 1, 1.9, "", True),),
        (Exit("n3", 1, 10.0, "", True),),
        (Exit("n2", 1, 2.05, "", True),),
    ):
        verdict, checks = judged(seen(HEALED, exits=exits))
        assert (verdict, checks["evidence"].verdict) == ("invalid", "invalid")
    not_counted = killed(1, asked=2.0, ended=3.0, healed=3.5, failed="not in effect: no exit of n3 was recorded")
    assert judged(seen(not_counted, exits=()))[1]["evidence"].verdict == "valid"


def test_of_several_workloads_the_slowest_tells_the_recovery_time():
    fast, slow = ("a", (), writes((2.2, 2.3))), ("b", (), writes((2.2, 2.9)))
    assert recoveries(seen(HEALED, histories=(fast,))) == {"kill": {"p50": 0.2, "max": 0.2}}
    assert recoveries(seen(HEALED, histories=(fast, slow))) == {"kill": {"p50": 0.8, "max": 0.8}}


def test_views_get_the_time_that_a_conviction_takes_at_any_pace_of_heartbeats():
    assert membership_bound(heartbeat=0.1, election_timeout=1.0) == 10.0
    assert membership_bound(heartbeat=1.0, election_timeout=3.0) == 40.0


def locked(*more):
    """One grant, under which a value is changed; the other events say what comes before and after."""
    recorder = Recorder()
    rows = [("acquire", None, 1), ("read", None, None), ("cas", [None, 5], [None, 5]), ("release", 1, 1), *more]
    recorder.add(0, "nemesis", "info", "kill", None, ["n3"])
    for number, (f, argument, result) in enumerate(rows):
        recorder.add((2 * number + 1) * S // 10, 0, "invoke", f, "x", argument)
        recorder.add((2 * number + 2) * S // 10, 0, "ok", f, "x", result)
    return recorder.events()


def test_of_several_models_each_judges_what_it_knows_of_the_history():
    def verdicts(*more):
        _, checks = judged(seen(HEALED, histories=(("lock", ("fenced-mutex", "cas-register"), locked(*more)),)))
        return checks["fenced-mutex"], checks["cas-register"]

    fenced, register = verdicts()
    assert (fenced.verdict, register.verdict) == ("valid", "valid")
    assert fenced.detail == register.detail == "2 operations on 1 key can be put into an order"
    fenced, register = verdicts(("acquire", None, 1))
    assert (fenced.verdict, register.verdict) == ("invalid", "valid")
    assert "acquire -> 1 (process 0, events 9 to 10)" in fenced.detail  # as in the whole history
    fenced, register = verdicts(("read", None, 4))
    assert (fenced.verdict, register.verdict) == ("valid", "invalid")


def test_an_operation_that_none_of_the_models_knows_is_refused_and_so_is_one_that_the_only_model_does_not_know():
    for models in (("fenced-mutex", "cas-register"), ("fenced-mutex",)):
        history = locked(("add", 1, 1)) if len(models) > 1 else locked()
        with pytest.raises(ValueError, match=r"does not know f '(add|read)'"):
            judge(seen(HEALED, histories=(("lock", models, history),)), lambda: False)


def test_the_ends_of_leases_are_not_counted_among_the_operations_of_unknown_outcome():
    recorder = Recorder()
    recorder.add(0, 0, "invoke", "acquire", "x")
    recorder.add(1, 0, "ok", "acquire", "x", 1)
    recorder.lapse(2, "release", "x", 1)
    recorder.add(3, 0, "invoke", "release", "x", 1)
    assert operation_counts([recorder.events()]) == {"ok": 1, "fail": 0, "info": 1}


def check(name, verdict, detail=""):
    return {"name": name, "workload": None, "verdict": verdict, "detail": detail}


def test_how_a_run_failed_is_told_by_the_first_check_that_is_invalid_and_of_invariants_by_the_one_that_does_not_hold():
    assert failure([check("a", "valid"), check("b", "unknown")]) is None
    assert failure([check("a", "unknown"), check("b", "invalid", "x: y"), check("c", "invalid")]) == "b"
    early, late = (check("raft-invariants", "invalid", f"one-vote at {at} s: n1 voted twice") for at in (1.25, 7.5))
    assert failure([early]) == failure([late]) == "raft-invariants: one-vote"
