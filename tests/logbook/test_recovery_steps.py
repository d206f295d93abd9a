"""How fast a cluster got over each kind of fault, measured from what its nodes logged."""

import pytest
from rundirs import BEGINS, RunDirectory

from chaos.faults import Fault
from chaos.logbook import Logbook
from chaos.logbook.recovery import recovery_steps
from chaos.records import FaultRecord


@pytest.fixture
def run(tmp_path):
    """n1 leads in term 2."""
    made = RunDirectory(tmp_path)
    made.role("n1", 0.1, "leader", 2, "n1")
    for node in ("n2", "n3"):
        made.role(node, 0.2, "follower", 2, "n1")
    return made


def fault(number, asked, in_effect, *nodes, kind="kill", ended=None):
    return FaultRecord(
        number=number,
        fault=Fault(kind=kind, target=tuple(nodes)),
        asked=asked,
        nodes=nodes,
        in_effect=in_effect,
        ended=asked + 1 if ended is None else ended,
    )


def measured(run, *records, writes=None):
    return recovery_steps(Logbook(run.path).entries(), records, writes or {}, BEGINS)


def doubts(run, node, at, peer, new="suspect"):
    run.log(node, at, "membership", level="WARNING", peer=peer, old="alive", new=new, reason="silent")


def approx(step):
    return {name: pytest.approx(value, abs=1e-6) for name, value in step.items()}


def test_a_killed_leader_is_noticed_and_succeeded(run):
    doubts(run, "n2", 1.25, "n1")
    doubts(run, "n3", 1.5, "n1", "failed")
    run.role("n2", 1.3, "leader", 1, "n2")  # of a term that is over
    run.role("n3", 1.75, "leader", 3, "n3")
    steps = measured(run, fault(1, 1.0, 1.1, "n1"), writes={"kill": {"p50": 0.9, "max": 0.9}})
    assert {name: approx(step) for name, step in steps["kill"].items()} == {
        "detect": {"p50": 0.15, "max": 0.15},
        "elect": {"p50": 0.65, "max": 0.65},
        "write": {"p50": 0.9, "max": 0.9},
    }


def test_what_was_noticed_before_the_fault_was_seen_in_effect_took_no_time(run):
    run.log("n2", 1.05, "the leader's connection closed", leader="n1")
    assert measured(run, fault(1, 1.0, 1.1, "n1")) == {"kill": {"detect": {"p50": 0.0, "max": 0.0}}}


def test_nobody_is_elected_for_a_follower(run):
    doubts(run, "n1", 1.25, "n3")
    run.role("n2", 1.75, "leader", 3, "n2")
    assert measured(run, fault(1, 1.0, 1.0, "n3")).keys() == {"kill"}
    assert measured(run, fault(1, 1.0, 1.0, "n3"))["kill"].keys() == {"detect"}


def test_what_a_hit_node_believes_and_what_is_said_of_others_does_not_count(run):
    doubts(run, "n1", 1.25, "n2")
    doubts(run, "n3", 1.25, "n2")
    run.role("n1", 1.5, "leader", 3, "n1")
    assert measured(run, fault(1, 1.0, 1.0, "n1")) == {}
    assert measured(run, fault(1, 1.0, 1.0, "n2", "n1", "n3")) == {}


def test_of_several_the_median_and_the_longest_count(run):
    for asked, took in ((1.0, 0.1), (3.0, 0.2), (5.0, 0.6)):
        doubts(run, "n2", asked + took, "n3")
    records = [fault(number, asked, asked, "n3") for number, asked in enumerate((1.0, 3.0, 5.0), 1)]
    assert approx(measured(run, *records)["kill"]["detect"]) == {"p50": 0.2, "max": 0.6}


def test_a_fault_that_was_over_or_never_took_hold_explains_nothing(run):
    doubts(run, "n2", 3.0, "n1")
    assert measured(run, fault(1, 1.0, 1.0, "n1")) == {}
    assert measured(run, fault(1, 2.5, None, "n1")) == {}


def test_an_election_after_the_next_fault_on_the_leader_or_after_the_end_is_not_this_ones(run):
    first, second = fault(1, 1.0, 1.0, "n1", kind="pause"), fault(2, 2.0, 2.0, "n1")
    run.role("n2", 2.5, "leader", 3, "n2")
    assert measured(run, first, second).keys() == {"kill"}
    run.experiment(2.2, "phase", text="letting the clients finish")
    assert measured(run, first, second) == {}


def test_a_kind_is_there_for_its_writes_alone_only_if_it_took_hold(run):
    writes = {"kill": {"p50": 0.5, "max": 0.5}, "pause": {"p50": 1.0, "max": 1.0}}
    assert measured(run, fault(1, 1.0, 1.0, "n3"), writes=writes) == {"kill": {"write": {"p50": 0.5, "max": 0.5}}}
