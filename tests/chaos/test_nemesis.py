import pytest
from fake_world import FakeWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos import nemesis as nemesis_module
from chaos.faults import Fault
from chaos.nemesis import FaultNotApplied, Nemesis
from chaos.scenario import ClusterSpec, FaultSpec, Scenario
from chaos.schedule import PlannedFault, Schedule, draw
from testbed.base.errors import UsageError
from testbed.base.links import LinkRule


def kill(*nodes, kind="kill"):
    return Fault(kind=kind, target=nodes)


def pause(*nodes):
    return Fault(kind="pause", target=nodes)


def split(*nodes, **more):
    return Fault(kind="partition", target=nodes, **more)


def loss(*nodes, rate=0.1):
    return Fault(kind="loss", target=nodes, rate=rate)


def plan(world, *faults, duration=10.0):
    """A schedule of (fault, at, until)."""
    planned = [PlannedFault(fault=fault, at=at, until=until, entry=1) for fault, at, until in faults]
    planned.sort(key=lambda fault: fault.at)
    return Schedule(seed=1, duration=duration, nodes=world.nodes, faults=tuple(planned))


def run(world, *faults, until=10.0):
    with Nemesis(world) as nemesis:
        nemesis.run(plan(world, *faults), until=until)
    return nemesis


def healthy(world):
    return set(world.states().values()) == {"up"} and not world.rules


def counts(nemesis):
    return {
        entry["kind"]: (entry["asked"], entry["applied"], entry["healed"], entry["skipped"])
        for entry in nemesis.summary()
    }


# --- each kind takes hold, is seen to, and heals ---


def test_a_kill_is_seen_by_its_exit_and_healed_when_the_node_is_up_again():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n2"), 1.0, 3.0))
    (record,) = nemesis.records
    assert world.done("kill", "start") == [("kill", "n2"), ("start", "n2")]
    assert (record.asked, record.in_effect, record.ended) == (1.0, 1.01, 3.0)
    assert 3.3 <= record.healed <= 3.35
    assert (record.nodes, record.skipped, record.failed) == (("n2",), None, None)
    assert nemesis.summary() == [{"kind": "kill", "asked": 1, "applied": 1, "healed": 1, "skipped": 0}]
    assert nemesis.applied == [("kill", 1.01)]
    assert healthy(world)


def test_a_killed_node_stays_down_until_the_fault_ends():
    world = FakeWorld(3)
    seen = []
    world.script = [(time, lambda: seen.append(world.states()["n2"])) for time in (1.5, 2.9, 3.1, 3.5)]
    run(world, (kill("n2"), 1.0, 3.0))
    assert seen == ["down", "down", "starting", "up"]


def test_a_terminated_node_is_in_effect_only_once_it_has_gone():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n2", kind="terminate"), 1.0, 3.0))
    assert nemesis.records[0].in_effect == 1.2
    assert world.done("terminate", "start") == [("terminate", "n2"), ("start", "n2")]
    assert counts(nemesis) == {"terminate": (1, 1, 1, 0)}


def test_a_node_that_is_slow_to_go_is_started_only_once_it_has_gone():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n2", kind="terminate"), 1.0, 1.1))
    (record,) = nemesis.records
    assert record.in_effect is None
    assert record.failed == "not in effect: no exit of n2 was recorded"
    assert record.healed is not None
    assert counts(nemesis) == {"terminate": (1, 0, 0, 0)}
    assert healthy(world)


def test_a_pause_is_seen_by_the_state():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1", "n2"), 1.0, 2.0))
    (record,) = nemesis.records
    assert (record.in_effect, record.ended, record.healed) == (1.0, 2.0, 2.0)
    assert world.done("pause", "resume") == [("pause", "n1"), ("pause", "n2"), ("resume", "n1"), ("resume", "n2")]
    assert healthy(world)


@pytest.mark.parametrize("mode", ["drop", "hold", "reset"])
def test_a_cut_is_seen_by_rules_obeyed_and_counters_that_stand_still(mode):
    world = FakeWorld(3)
    nemesis = run(world, (split("n1", mode=mode), 1.0, 3.0))
    (record,) = nemesis.records
    rules = tuple(LinkRule(a, b, cut=mode) for a, b in (("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")))
    assert record.rules == rules
    assert world.done("set_links") == [("set_links", rules), ("set_links", ())]
    assert 1.02 <= record.in_effect <= 1.2
    assert 3.02 <= record.healed <= 3.3
    assert counts(nemesis) == {"partition": (1, 1, 1, 0)}


def test_what_was_lost_before_a_fault_is_no_evidence_of_it():
    world = FakeWorld(3, refuses=["harm"])
    for fake in world.fakes.values():
        fake.counters["lost"] = 50
    assert run(world, (loss("n1"), 1.0, 4.0)).records[0].in_effect is None


def test_of_harm_to_clients_of_whom_there_may_be_none_the_rules_obeyed_are_the_evidence():
    world = FakeWorld(3, refuses=["harm"])
    fault = Fault(kind="loss", target=("n1",), rate=0.1, links="clients")
    assert counts(run(world, (fault, 1.0, 4.0))) == {"loss": (1, 1, 1, 0)}


def test_loss_is_seen_by_rules_obeyed_at_both_ends_and_messages_lost():
    world = FakeWorld(3)
    nemesis = run(world, (loss("n1"), 1.0, 2.0))
    (record,) = nemesis.records
    assert 1.02 <= record.in_effect <= 1.2
    assert 2.02 <= record.healed <= 2.2
    assert world.rules == {}


# --- what does not take hold is not counted ---


@pytest.mark.parametrize(
    ("refuses", "fault", "reason"),
    [
        ("kill", kill("n1"), "no exit of n1 was recorded"),
        ("pause", pause("n1"), "n1 is up, not paused"),
        ("links", split("n1"), "n2 does not obey the rules yet"),
        ("links", loss("n1"), "n1 does not obey the rules yet"),
        ("cuts", split("n1"), "messages from n1 may still reach n2"),
        ("reports", split("n1"), "messages from n1 may still reach n2"),
        ("harm", loss("n1"), "no message was lost yet"),
        ("harm", Fault(kind="delay", target=("n1",), delay=0.01), "no message was delayed yet"),
        ("harm", Fault(kind="duplicate", target=("n1",), rate=0.1), "no message was duplicated yet"),
        ("harm", Fault(kind="reorder", target=("n1",), rate=0.1), "no message was reordered yet"),
    ],
)
def test_a_fault_that_the_world_does_not_honour_is_not_counted_as_applied(refuses, fault, reason):
    world = FakeWorld(3, refuses=[refuses])
    if refuses == "pause":
        world.refuses.add("resume of what runs")
    nemesis = run(world, (fault, 1.0, 4.0))
    (record,) = nemesis.records
    assert record.in_effect is None
    assert record.failed.startswith(f"not in effect: {reason}")
    assert counts(nemesis)[fault.kind][:2] == (1, 0)
    assert counts(nemesis)[fault.kind][2:] == (0, 0)
    assert nemesis.applied == []


def test_a_fault_that_does_not_heal_is_counted_as_applied_but_not_as_healed():
    world = FakeWorld(3, refuses=["start"])
    nemesis = run(world, (kill("n1"), 1.0, 2.0))
    (record,) = nemesis.records
    assert record.in_effect is not None
    assert record.healed is None
    assert record.failed == "not healed: n1 is starting, not up again"
    assert counts(nemesis) == {"kill": (1, 1, 0, 0)}
    assert world.now() < 10.0 + nemesis_module.HEALED_S_MAX + 1


def test_a_cut_is_not_healed_before_something_arrives_over_its_links_again():
    world = FakeWorld(3, refuses=["heals"])
    nemesis = run(world, (split("n1"), 1.0, 3.0))
    assert nemesis.records[0].failed == "not healed: nothing from n1 reaches n2 yet"
    assert counts(nemesis) == {"partition": (1, 1, 0, 0)}


def test_a_refuted_conviction_is_no_evidence_that_a_cut_healed():
    world = FakeWorld(3, refuses=["heals"])
    world.script = [(3.1, lambda: [world.refute(node) for node in world.nodes])]
    nemesis = run(world, (split("n1"), 1.0, 3.0))
    assert nemesis.records[0].failed == "not healed: nothing from n1 reaches n2 yet"


def test_a_cut_link_to_a_node_that_was_restarted_heals_with_the_first_message_to_the_new_process():
    world = FakeWorld(3)
    nemesis = run(world, (split("n1"), 1.0, 3.0), (kill("n1"), 3.005, 4.0))
    assert counts(nemesis) == {"partition": (1, 1, 1, 0), "kill": (1, 1, 1, 0)}


def test_a_cut_among_nodes_that_are_all_stopped_is_not_in_effect():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1", "n2", "n3"), 1.0, 4.0), (split("n1"), 2.0, 3.0))
    assert nemesis.records[1].failed == "not in effect: none of the nodes concerned is running"


def test_a_paused_node_counts_as_obeying():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1"), 1.0, 6.0), (split("n1"), 2.0, 4.0))
    assert counts(nemesis) == {"pause": (1, 1, 1, 0), "partition": (1, 1, 1, 0)}


# --- targets that are resolved, or not, when the fault is applied ---


def test_the_leader_is_whoever_leads_when_the_fault_is_applied():
    world = FakeWorld(3, leader="n2")
    world.script = [(2.0, lambda: setattr(world, "leader", "n3"))]
    fault = Fault(kind="pause", target="leader")
    nemesis = run(world, (fault, 1.0, 1.5), (fault, 3.0, 3.5))
    assert [record.nodes for record in nemesis.records] == [("n2",), ("n3",)]


def test_followers_are_all_but_the_leader():
    world = FakeWorld(3, leader="n2")
    nemesis = run(world, (Fault(kind="partition", target="followers"), 1.0, 3.0))
    assert nemesis.records[0].nodes == ("n1", "n3")
    assert ("n1", "n3") not in [(rule.source, rule.target) for rule in nemesis.records[0].rules]


@pytest.mark.parametrize("kind", ["kill", "pause", "partition"])
@pytest.mark.parametrize("target", ["leader", "followers"])
def test_without_a_leader_the_fault_is_skipped(kind, target):
    world = FakeWorld(3)
    nemesis = run(world, (Fault(kind=kind, target=target), 1.0, 3.0))
    assert nemesis.records[0].skipped == "no node leads"
    assert counts(nemesis) == {kind: (1, 0, 0, 1)}
    assert world.calls == []


def test_a_fault_on_the_leader_waits_for_one_as_long_as_it_would_last():
    world = FakeWorld(3)
    world.script = [(2.0, lambda: setattr(world, "leader", "n3"))]
    nemesis = run(world, (Fault(kind="pause", target="leader"), 1.0, 3.0))
    (record,) = nemesis.records
    assert record.nodes == ("n3",)
    assert 2.0 <= record.asked <= 2.2
    assert record.ended == pytest.approx(3.0, abs=0.05)
    assert counts(nemesis) == {"pause": (1, 1, 1, 0)}


def test_a_paused_leader_does_not_lead():
    world = FakeWorld(3, leader="n2")
    nemesis = run(world, (pause("n2"), 1.0, 4.0), (Fault(kind="kill", target="leader"), 2.0, 3.0))
    assert nemesis.records[1].skipped == "no node leads"


# --- leases add up ---


def test_a_node_stays_paused_while_any_pause_is_held():
    world = FakeWorld(3)
    seen = []
    world.script = [(time, lambda: seen.append(world.states()["n1"])) for time in (1.5, 2.5, 3.5, 4.5)]
    nemesis = run(world, (pause("n1"), 1.0, 3.0), (pause("n1"), 2.0, 4.0))
    assert seen == ["paused", "paused", "paused", "up"]
    assert world.done("pause", "resume") == [("pause", "n1"), ("resume", "n1")]
    assert counts(nemesis) == {"pause": (2, 2, 2, 0)}


def test_link_rules_of_overlapping_faults_are_united():
    world = FakeWorld(3)
    seen = []
    world.script = [(time, lambda: seen.append(dict(world.rules))) for time in (1.5, 2.5, 3.5)]
    nemesis = run(world, (split("n1"), 1.0, 3.0), (split("n2"), 2.0, 4.0))
    one = {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}
    two = {("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n3", "n2")}
    assert [set(rules) for rules in seen] == [one, one | two, two]
    assert counts(nemesis) == {"partition": (2, 2, 2, 0)}
    assert nemesis.records[0].healed < 4.0  # for its own links, although some are still cut by the other


def test_a_second_fault_with_the_same_rules_changes_none():
    world = FakeWorld(3)
    nemesis = run(world, (split("n1"), 1.0, 3.0), (split("n1"), 2.0, 4.0))
    assert [time for time, name, _ in world.calls if name == "set_links"] == [1.0, 4.0]
    assert counts(nemesis) == {"partition": (2, 2, 2, 0)}


def test_a_kill_of_a_node_that_is_down_is_skipped():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n1"), 1.0, 4.0), (kill("n1"), 2.0, 3.0))
    assert nemesis.records[1].skipped == "n1 down already"
    assert world.done("kill", "start") == [("kill", "n1"), ("start", "n1")]


def test_a_kill_of_several_hits_those_that_are_not_down_already():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n1"), 1.0, 5.0), (kill("n1", "n2"), 2.0, 3.0))
    assert (nemesis.records[1].nodes, nemesis.records[1].missed) == (("n2",), ("n1",))
    assert world.done("kill", "start") == [("kill", "n1"), ("kill", "n2"), ("start", "n2"), ("start", "n1")]


def test_a_node_that_two_faults_end_at_once_stays_down_until_both_are_over():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n1", kind="terminate"), 1.0, 3.0), (kill("n1"), 1.1, 5.0))
    starts = [time for time, name, _ in world.calls if name == "start"]
    assert starts == [5.0]
    assert counts(nemesis) == {"terminate": (1, 1, 1, 0), "kill": (1, 1, 1, 0)}
    assert nemesis.records[0].healed < 5.0


def test_two_faults_that_end_together_start_the_node_once():
    world = FakeWorld(3)
    nemesis = run(world, (kill("n1", kind="terminate"), 1.0, 3.0), (kill("n1"), 1.1, 3.0))
    assert world.done("start") == [("start", "n1")]
    assert counts(nemesis) == {"terminate": (1, 1, 1, 0), "kill": (1, 1, 1, 0)}


def test_the_end_of_a_pause_leaves_alone_a_node_that_was_killed_meanwhile():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1"), 1.0, 3.0), (kill("n1"), 2.0, 4.0))
    assert world.done("kill", "start", "resume") == [("kill", "n1"), ("start", "n1")]
    assert counts(nemesis) == {"pause": (1, 1, 1, 0), "kill": (1, 1, 1, 0)}


def test_the_end_of_a_pause_leaves_alone_the_process_that_was_started_meanwhile():
    world = FakeWorld(3)
    run(world, (pause("n1"), 1.0, 6.0), (kill("n1"), 2.0, 3.0), (pause("n1"), 5.0, 8.0))
    resumes = [(time, node) for time, name, node in world.calls if name == "resume"]
    assert resumes == [(8.0, "n1")]  # the pause of the new process is untouched by the end of the old one's, at 6.0


def test_a_restarted_process_that_ends_by_itself_is_not_started_again():
    world = FakeWorld(3)
    world.script = [(3.1, lambda: setattr(world.fakes["n1"], "dies_at", 3.15))]
    nemesis = run(world, (kill("n1"), 1.0, 3.0))
    assert world.done("start") == [("start", "n1")]
    assert counts(nemesis) == {"kill": (1, 1, 0, 0)}


def test_a_process_that_ends_by_itself_after_two_faults_is_not_started_again_by_either():
    world = FakeWorld(3)
    world.script = [(3.1, lambda: setattr(world.fakes["n1"], "dies_at", 3.15))]
    run(world, (kill("n1", kind="terminate"), 1.0, 3.0), (kill("n1"), 1.1, 3.0))
    assert world.done("start") == [("start", "n1")]


def test_a_second_fault_begins_on_time_while_the_first_is_still_being_verified():
    world = FakeWorld(3, refuses=["links"])
    nemesis = run(world, (split("n1"), 1.0, 8.0), (pause("n2"), 1.05, 2.0))
    assert [record.asked for record in nemesis.records] == [1.0, 1.05]
    assert nemesis.records[1].in_effect == 1.05


def test_at_the_same_moment_ends_come_before_beginnings():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1"), 1.0, 2.0), (pause("n1"), 2.0, 3.0))
    assert world.done("pause", "resume") == [("pause", "n1"), ("resume", "n1")] * 2
    assert counts(nemesis) == {"pause": (2, 2, 2, 0)}


# --- the end ---


def test_what_is_held_when_the_run_ends_is_healed_and_what_lies_beyond_is_not_asked():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1"), 1.0, 9.0), (pause("n2"), 8.0, 9.0), until=5.0)
    assert [(record.asked, record.ended) for record in nemesis.records] == [(1.0, 5.0)]
    assert healthy(world)


def test_a_run_ends_on_time():
    world = FakeWorld(3)
    run(world, (pause("n1"), 1.0, 2.0), until=7.0)
    assert world.now() == 7.0


HELD_BY_ALL_KINDS = (
    (kill("n1"), 1.0, 9.0),
    (pause("n2"), 1.1, 9.0),
    (split("n3"), 1.2, 9.0),
    (loss("n4"), 1.3, 9.0),
    (kill("n5", kind="terminate"), 1.4, 9.0),
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("at", [1.05, 1.15, 1.25, 1.45, 5.0, 9.05])
def test_an_error_in_the_middle_heals_everything(error, at):
    def fail():
        raise error("now")

    world = FakeWorld(5)
    world.script = [(at, fail)]
    with pytest.raises(error, match="now"), Nemesis(world) as nemesis:
        nemesis.run(plan(world, *HELD_BY_ALL_KINDS), until=20.0)
    assert healthy(world)
    assert all(record.healed is not None for record in nemesis.records)


def test_an_error_while_a_fault_is_applied_heals_what_was_applied_of_it():
    world = FakeWorld(3)
    real_pause = world.pause

    def broken_pause(node):
        if node == "n2":
            raise OSError("no such process")
        real_pause(node)

    world.pause = broken_pause
    world.refuses.add("resume of what runs")  # nobody can tell whether n2 was stopped: it is resumed to be sure
    with pytest.raises(OSError, match="no such process"):
        run(world, (pause("n1", "n2"), 1.0, 2.0))
    assert healthy(world)
    assert world.done("resume") == [("resume", "n1"), ("resume", "n2")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_one_fault_that_cannot_be_undone_does_not_keep_the_others(error):
    world = FakeWorld(3)
    real_resume = world.resume

    def broken_resume(node):
        if node == "n2":
            raise error("not permitted")
        real_resume(node)

    world.resume = broken_resume
    with pytest.raises(error, match="not permitted"):
        run(world, (split("n1"), 1.0, 9.0), (pause("n1"), 1.1, 9.0), (pause("n2"), 1.2, 9.0), until=5.0)
    assert world.states() == {"n1": "up", "n2": "paused", "n3": "up"}
    assert world.rules == {}


def test_an_interrupted_heal_is_taken_up_by_the_next():
    world = FakeWorld(3)
    nemesis = Nemesis(world)
    nemesis.hold(split("n1"))
    real_set_links = world.set_links

    def interrupted(rules):
        world.set_links = real_set_links
        raise KeyboardInterrupt

    world.set_links = interrupted
    with pytest.raises(KeyboardInterrupt):
        nemesis.heal_all()
    assert world.rules
    nemesis.heal_all()
    assert world.rules == {}


def test_healing_twice_does_nothing_more():
    world = FakeWorld(3)
    nemesis = Nemesis(world)
    nemesis.hold(kill("n1"))
    nemesis.hold(pause("n2"))
    nemesis.hold(split("n3"))
    nemesis.heal_all()
    calls = list(world.calls)
    nemesis.heal_all()
    assert world.calls == calls
    assert healthy(world)


def test_leaving_the_block_heals_what_is_held():
    world = FakeWorld(3)
    with Nemesis(world) as nemesis:
        nemesis.hold(pause("n1"))
        nemesis.hold(split("n2"))
    assert healthy(world)


def test_a_run_that_fails_heals_even_outside_a_block():
    world = FakeWorld(3)

    def fail():
        raise OSError("now")

    world.script = [(2.0, fail)]
    with pytest.raises(OSError, match="now"):
        Nemesis(world).run(plan(world, (pause("n1"), 1.0, 3.0)))
    assert healthy(world)


# --- on request ---


def test_inside_a_holding_block_the_fault_is_in_effect_and_after_it_healed():
    world = FakeWorld(3)
    with Nemesis(world) as nemesis:
        with nemesis.holding(split("n1")) as lease:
            assert lease.record.in_effect is not None
            assert nemesis.held("partition", "n1") == [lease]
            assert [rule.cut for rule in nemesis.links] == ["drop"] * 4
        assert lease.record.healed is not None
        assert nemesis.held() == []
        assert nemesis.links == []


def test_a_holding_block_is_not_entered_if_the_fault_does_not_take_hold():
    world = FakeWorld(3, refuses=["links"])
    reason = "partition: not in effect: n2 does not obey"
    with Nemesis(world) as nemesis, pytest.raises(FaultNotApplied, match=reason), nemesis.holding(split("n1")):
        raise AssertionError("entered")
    assert world.rules == {}


def test_a_holding_block_is_not_entered_if_the_fault_is_skipped():
    fault = Fault(kind="kill", target="leader")
    with (
        Nemesis(FakeWorld(3)) as nemesis,
        pytest.raises(FaultNotApplied, match="no node leads"),
        nemesis.holding(fault),
    ):
        raise AssertionError("entered")


def test_an_error_inside_a_holding_block_heals_and_goes_on():
    world = FakeWorld(3)
    with Nemesis(world) as nemesis, pytest.raises(ZeroDivisionError), nemesis.holding(kill("n1")):
        raise ZeroDivisionError
    assert healthy(world)


def test_a_fault_that_cannot_be_in_this_cluster_is_the_callers_mistake():
    with Nemesis(FakeWorld(3)) as nemesis:
        with pytest.raises(UsageError, match="no node 'n9' in this cluster"):
            nemesis.hold(kill("n9"))
        with pytest.raises(UsageError, match="all nodes against nobody"):
            nemesis.run(plan(nemesis.world, (split("n1", "n2", "n3"), 1.0, 2.0)))
    assert nemesis.records == []


# --- what is told ---


def test_every_step_of_a_fault_is_told_in_the_shape_of_a_history():
    world = FakeWorld(3, leader="n1")
    told = []
    with Nemesis(world, observer=told.append) as nemesis:
        nemesis.run(plan(world, (Fault(kind="pause", target="leader"), 1.0, 2.0), (kill("n1"), 3.0, 4.0)), until=6.0)
    assert {event["process"] for event in told} == {"nemesis"}
    assert [(event["type"], event["f"], event["value"]["step"]) for event in told] == [
        ("invoke", "pause", "asked"),
        ("info", "pause", "in effect"),
        ("info", "pause", "ended"),
        ("info", "pause", "healed"),
        ("invoke", "kill", "asked"),
        ("info", "kill", "in effect"),
        ("info", "kill", "ended"),
        ("info", "kill", "healed"),
    ]
    assert told[0] == {
        "time": 1_000_000_000,
        "process": "nemesis",
        "type": "invoke",
        "f": "pause",
        "value": {"fault": 1, "step": "asked", "nodes": ["n1"], "target": "leader"},
    }
    times = [event["time"] for event in told]
    assert times == sorted(times)


def test_a_skipped_fault_is_told_with_its_reason():
    told = []
    with Nemesis(FakeWorld(3), observer=told.append) as nemesis:
        nemesis.hold(Fault(kind="kill", target="leader"))
    assert [(event["value"]["step"], event["value"].get("reason")) for event in told] == [
        ("asked", None),
        ("skipped", "no node leads"),
    ]


def test_kinds_that_were_planned_but_never_asked_for_are_in_the_summary():
    world = FakeWorld(3)
    nemesis = run(world, (pause("n1"), 1.0, 2.0))
    assert nemesis.summary(planned=("kill", "pause")) == [
        {"kind": "kill", "asked": 0, "applied": 0, "healed": 0, "skipped": 0},
        {"kind": "pause", "asked": 1, "applied": 1, "healed": 1, "skipped": 0},
    ]


# --- whatever the seed ---


TARGETS = st.sampled_from(["one", "minority", "majority", "leader", "followers"])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    entries=st.lists(
        st.tuples(
            st.sampled_from(["kill", "terminate", "pause", "partition", "loss"]),
            TARGETS,
            st.sampled_from([1.0, 2.0, 3.0]),
            st.sampled_from([0.05, 0.5, 2.0, 4.0]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_any_schedule_leaves_a_healthy_cluster_and_accounts_for_every_fault(seed, entries):
    specs = tuple(FaultSpec(kind=k, target=t, every=e, lasting=f, rate=0.1) for k, t, e, f in entries)
    scenario = Scenario(name="any", duration=15.0, cluster=ClusterSpec(nodes=5), faults=specs)
    world = FakeWorld(5, leader="n2")
    schedule = draw(scenario, seed)
    with Nemesis(world) as nemesis:
        nemesis.run(schedule, until=15.0)
    assert healthy(world)
    assert len(nemesis.records) == len(schedule.faults)
    for record in nemesis.records:
        assert record.skipped is not None or record.healed is not None
        assert (record.skipped, record.failed, record.in_effect).count(None) == 2
        if record.in_effect is not None:
            assert record.asked <= record.in_effect <= record.ended <= record.healed
