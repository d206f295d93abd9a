"""What the screen and the lines say, word by word."""

import pytest

from chaos.cli.screen.words import News, comes_next, harms, health, in_effect, step_words
from chaos.faults import Fault, link_rules
from chaos.leases import Lease
from chaos.schedule import PlannedFault
from testbed.ports import Exit, NodeStatus

NODES = ("n1", "n2", "n3", "n4", "n5")


def lease(kind, *nodes, target=None, **keys):
    held = Lease(1, Fault(kind=kind, target=target or nodes, **keys), 0.0)
    held.nodes = nodes
    return held


def done_to(node, *held):
    links = [rule for one in held for rule in link_rules(one.fault, NODES, one.nodes)]
    return [full for full, _ in harms(node, held, links)]


@pytest.mark.parametrize(
    ("held", "node", "said"),
    [
        ([], "n1", []),
        ([lease("kill", "n1")], "n1", ["killed"]),
        ([lease("kill", "n1")], "n2", []),
        ([lease("pause", "n1"), lease("pause", "n1")], "n1", ["paused"]),
        ([lease("partition", "n1", "n2")], "n1", ["cut off from n3,n4,n5"]),
        ([lease("partition", "n1")], "n1", ["cut off from 4 nodes"]),
        ([lease("partition", "n1", shape="one-way")], "n1", ["unheard by 4 nodes"]),
        ([lease("partition", "n1", shape="one-way")], "n3", ["deaf to n1"]),
        ([lease("partition", "n1"), lease("kill", "n1")], "n1", ["killed"]),
        ([lease("pause", "n1"), lease("partition", "n2")], "n1", ["paused", "cut off from n2"]),
        ([lease("delay", "n1", delay=0.01, jitter=0.02)], "n1", ["delayed 10ms to 30ms"]),
        ([lease("loss", "n1", rate=0.2)], "n1", ["loses 20%"]),
        ([lease("duplicate", "n1", rate=0.05)], "n1", ["duplicates 5%"]),
        ([lease("mine:Melting", "n1")], "n1", ["Melting"]),
    ],
)
def test_what_is_being_done_to_a_node(held, node, said):
    assert done_to(node, *held) == said


def node(name, views=None, state="up", **more):
    return NodeStatus(name, 1, state, views=views or {}, **more)


def test_only_those_who_are_up_say_how_a_node_is_and_the_worst_comes_first():
    status = {
        one.id: one
        for one in (
            node("n1", {"n2": "alive", "n3": "alive"}),
            node("n2", {"n1": "alive"}),
            node("n3", {"n1": "failed"}),
            node("n4", {"n1": "suspect"}, state="paused"),
        )
    }
    assert list(health("n1", status).items()) == [("failed", 1), ("alive", 1)]
    assert health("n4", status) == {}


def test_what_is_in_effect_and_what_comes_next():
    kill = PlannedFault(fault=Fault(kind="kill", target="leader"), at=1.0, until=3.0, entry=1)
    same = PlannedFault(fault=Fault(kind="kill", target="leader"), at=5.0, until=6.0, entry=1)
    late = PlannedFault(fault=Fault(kind="pause", target=("n2",)), at=40.0, until=41.0, entry=2)
    plan = (kill, same, late)
    held = Lease(1, kill.fault, 1.0)
    held.nodes = ("n3",)
    assert in_effect([held], plan, 1.2) == ["kill n3 (leader) 2 s more"]
    assert comes_next([], plan, 0.2, 30.0) == "kill leader in 1 s"
    assert comes_next([], plan, 1.2, 30.0) == "kill leader as soon as somebody leads"
    assert comes_next([held], plan, 1.2, 30.0) == "kill leader in 4 s"
    assert comes_next([held, Lease(2, same.fault, 5.0)], plan, 5.2, 30.0) == "no more faults"


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("kill", {"step": "asked", "nodes": ["n1"]}, None),
        ("kill", {"step": "ended", "nodes": ["n1"]}, None),
        ("kill", {"step": "in effect", "nodes": ["n1"], "target": "leader"}, "kill n1 (leader) in effect"),
        ("kill", {"step": "skipped", "nodes": [], "target": "leader", "reason": "no"}, "kill leader skipped: no"),
        ("pause", {"step": "skipped", "nodes": [], "reason": "n4 down already"}, "pause skipped: n4 down already"),
        ("partition", {"step": "healed", "nodes": ["n1", "n2"], "shape": "split"}, "partition n1,n2 healed"),
        ("partition", {"step": "healed", "nodes": list(NODES), "shape": "ring"}, "partition (ring) healed"),
        ("partition", {"step": "healed", "nodes": ["n1"], "shape": "one-way"}, "partition n1 (one-way) healed"),
        ("mine:Melting", {"step": "healed", "nodes": ["n1"]}, "Melting n1 healed"),
    ],
)
def test_a_step_of_a_fault_is_a_line(kind, value, said):
    assert step_words({"f": kind, "time": 0, "value": value}) == said


def test_news_are_who_leads_and_who_ended_unasked_each_told_once():
    news = News()
    led = {"n1": node("n1", role="leader", term=3), "n2": node("n2", role="follower", term=3)}
    exits = [Exit("n2", 7, 1.0, "killed", True), Exit("n2", 8, 2.0, "crashed: ValueError", False)]
    assert news.note({"n1": node("n1")}, []) == []
    assert news.note(led, []) == ["n1 leads in term 3"]
    assert news.note(led, exits) == ["n2 ended: crashed: ValueError"]
    assert news.note(led, exits) == []
    assert news.note({"n1": node("n1", role="candidate", term=4)}, exits) == ["nobody leads"]
