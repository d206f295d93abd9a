import pytest

from chaos.faults import KINDS, Fault, impossible, link_rules, mistake
from chaos.targets import majority, node_names
from testbed.base.links import CLIENTS, LinkRule

THREE = node_names(3)
FIVE = node_names(5)


def cut(fault, nodes, targets=None):
    """Whom each node still hears, as a text: n1<-n2,n3."""
    cuts = {
        (rule.source, rule.target) for rule in link_rules(fault, nodes, fault.target if targets is None else targets)
    }
    assert all(source != target for source, target in cuts)
    return {node: [o for o in nodes if o != node and (o, node) not in cuts] for node in nodes}


def partition(shape="split", target=(), **more):
    return Fault(kind="partition", shape=shape, target=tuple(target), **more)


def test_faults_of_processes_do_nothing_to_links():
    for kind in ("kill", "terminate", "pause"):
        assert link_rules(Fault(kind=kind, target=("n1",)), THREE, ("n1",)) == ()


def test_split_cuts_the_targets_from_the_rest_in_both_directions():
    assert link_rules(partition(target=["n2"], mode="hold"), THREE, ("n2",)) == (
        LinkRule("n1", "n2", cut="hold"),
        LinkRule("n2", "n1", cut="hold"),
        LinkRule("n2", "n3", cut="hold"),
        LinkRule("n3", "n2", cut="hold"),
    )
    assert cut(partition(target=["n1", "n2"]), FIVE) == {
        "n1": ["n2"],
        "n2": ["n1"],
        "n3": ["n4", "n5"],
        "n4": ["n3", "n5"],
        "n5": ["n3", "n4"],
    }


def test_isolate_leaves_each_target_alone():
    assert cut(partition("isolate", ["n1", "n2"]), FIVE) == {
        "n1": [],
        "n2": [],
        "n3": ["n4", "n5"],
        "n4": ["n3", "n5"],
        "n5": ["n3", "n4"],
    }


def test_one_way_loses_what_the_targets_send_and_nothing_else():
    assert cut(partition("one-way", ["n1"]), THREE) == {"n1": ["n2", "n3"], "n2": ["n3"], "n3": ["n2"]}
    assert cut(partition("one-way", ["n1", "n2"]), THREE) == {"n1": ["n3"], "n2": ["n3"], "n3": []}


def test_a_bridge_joins_two_halves_through_the_middle_of_the_order():
    order = ("n5", "n1", "n4", "n2", "n3")
    assert cut(partition("bridge", order=order), FIVE) == {
        "n1": ["n4", "n5"],
        "n2": ["n3", "n4"],
        "n3": ["n2", "n4"],
        "n4": ["n1", "n2", "n3", "n5"],
        "n5": ["n1", "n4"],
    }


def test_a_target_of_a_bridge_is_the_bridge():
    heard = cut(partition("bridge", ["n1"]), FIVE)
    assert heard == {
        "n1": ["n2", "n3", "n4", "n5"],
        "n2": ["n1", "n3"],
        "n3": ["n1", "n2"],
        "n4": ["n1", "n5"],
        "n5": ["n1", "n4"],
    }


@pytest.mark.parametrize("count", range(3, 32))
def test_in_a_ring_every_node_sees_a_majority_both_ways_and_no_two_the_same(count):
    nodes = node_names(count)
    heard = cut(partition("ring"), nodes)
    views = [frozenset([node, *others]) for node, others in heard.items()]
    assert all(len(view) >= majority(count) for view in views)
    assert len(set(views)) == count
    assert all(node in heard[other] for node, others in heard.items() for other in others)
    assert sum(len(view) - 1 for view in views) <= count * (majority(count) - 1) + 1  # and no link too many


def test_a_ring_of_five_keeps_the_neighbours_in_the_drawn_order():
    order = ("n3", "n1", "n5", "n2", "n4")
    assert cut(partition("ring", order=order), FIVE) == {
        "n1": ["n3", "n5"],
        "n2": ["n4", "n5"],
        "n3": ["n1", "n4"],
        "n4": ["n2", "n3"],
        "n5": ["n1", "n2"],
    }


def test_groups_see_only_themselves_and_nodes_in_no_group_see_all():
    assert cut(partition(groups=(("n1",), ("n2", "n3"))), FIVE) == {
        "n1": ["n4", "n5"],
        "n2": ["n3", "n4", "n5"],
        "n3": ["n2", "n4", "n5"],
        "n4": ["n1", "n2", "n3", "n5"],
        "n5": ["n1", "n2", "n3", "n4"],
    }


@pytest.mark.parametrize("shape", ["split", "isolate", "one-way", "bridge", "ring"])
def test_a_partition_never_touches_clients(shape):
    rules = link_rules(partition(shape, ["n1"]), FIVE, ("n1",))
    assert rules
    assert all(CLIENTS not in (rule.source, rule.target) for rule in rules)


@pytest.mark.parametrize(
    ("fault", "effect"),
    [
        (Fault(kind="delay", delay=0.1, jitter=0.2), {"delay": 0.1, "jitter": 0.2}),
        (Fault(kind="loss", rate=0.3), {"loss": 0.3}),
        (Fault(kind="duplicate", rate=0.3), {"duplicate": 0.3}),
        (Fault(kind="reorder", rate=0.3), {"reorder": 0.3}),
    ],
)
def test_link_faults_touch_both_directions_of_the_targets_links(fault, effect):
    links = [("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n3", "n2")]
    assert link_rules(fault, THREE, ("n2",)) == tuple(LinkRule(*link, **effect) for link in links)


def test_links_says_whether_nodes_or_clients_or_all_are_touched():
    links = {
        links: [(r.source, r.target) for r in link_rules(Fault(kind="loss", rate=1, links=links), THREE, ("n1",))]
        for links in ("nodes", "clients", "all")
    }
    nodes = [("n1", "n2"), ("n1", "n3"), ("n2", "n1"), ("n3", "n1")]
    clients = [("clients", "n1"), ("n1", "clients")]
    assert links == {"nodes": nodes, "clients": clients, "all": sorted(nodes + clients)}


def test_every_kind_has_a_line_for_people():
    assert list(KINDS) == ["kill", "terminate", "pause", "partition", "delay", "loss", "duplicate", "reorder"]
    assert all(info.description and "\n" not in info.description for info in KINDS.values())
    assert {name: sorted(info.keys) for name, info in KINDS.items()} == {
        "kill": [],
        "terminate": [],
        "pause": [],
        "partition": ["groups", "mode", "order", "shape"],
        "delay": ["delay", "jitter", "links"],
        "loss": ["links", "rate"],
        "duplicate": ["links", "rate"],
        "reorder": ["links", "rate"],
    }


@pytest.mark.parametrize(
    ("kind", "shape", "links", "targets", "nodes", "possible"),
    [
        ("kill", "split", "nodes", 1, 1, True),
        ("kill", "split", "nodes", 0, 1, False),
        ("partition", "split", "nodes", 3, 3, False),
        ("partition", "split", "nodes", 2, 3, True),
        ("partition", "isolate", "nodes", 3, 3, True),
        ("partition", "isolate", "nodes", 1, 1, False),
        ("partition", "one-way", "nodes", 3, 3, True),
        ("partition", "ring", "nodes", 1, 2, False),
        ("partition", "ring", "nodes", 3, 3, True),
        ("partition", "bridge", "nodes", 1, 2, False),
        ("partition", "bridge", "nodes", 2, 3, False),
        ("partition", "bridge", "nodes", 1, 3, True),
        ("loss", "split", "nodes", 1, 1, False),
        ("loss", "split", "clients", 1, 1, True),
    ],
)
def test_what_would_hit_nobody_is_impossible(kind, shape, links, targets, nodes, possible):
    assert (impossible(kind, shape, links, targets, nodes) is None) == possible


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(kind="kill", target=("n9",)), "no node 'n9' in this cluster"),
        (Fault(kind="kill"), "that is nobody in a cluster of 3"),
        (partition(groups=(("n1",), ("n1", "n2"))), "groups must be two or more, apart"),
        (partition("ring", order=("n1", "n2")), "order must place every node once"),
        (partition("ring"), None),
        (Fault(kind="kill", target="leader"), None),
        (partition(target=["n1", "n2", "n3"]), "that is all nodes against nobody"),
    ],
)
def test_a_fault_made_by_hand_is_checked_against_the_cluster(fault, reason):
    assert mistake(fault, THREE) == reason
