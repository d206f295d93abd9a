from chaos.faults import Fault, link_rules
from chaos.records import FaultRecord, applied, majority_windows, summary
from chaos.targets import node_names

THREE = node_names(3)
FIVE = node_names(5)


def record(kind, nodes, asked, healed, cluster=FIVE, **more):
    fault = Fault(kind=kind, target=nodes, **more)
    rules = link_rules(fault, cluster, nodes)
    return FaultRecord(
        number=1, fault=fault, asked=asked, nodes=nodes, rules=rules, in_effect=asked, ended=healed, healed=healed
    )


def windows(*records, nodes=FIVE):
    return majority_windows(records, nodes, 0.0, 10.0)


def test_without_faults_the_whole_run_is_one_window():
    assert windows() == [(0.0, 10.0)]


def test_a_minority_away_leaves_the_window_whole():
    assert windows(record("kill", ("n1", "n2"), 2.0, 4.0)) == [(0.0, 10.0)]


def test_a_majority_away_splits_it():
    for kind in ("kill", "terminate", "pause"):
        assert windows(record(kind, ("n1", "n2", "n3"), 2.0, 4.0)) == [(0.0, 2.0), (4.0, 10.0)]


def test_overlapping_faults_add_up():
    away = record("kill", ("n1", "n2"), 2.0, 5.0), record("pause", ("n3",), 4.0, 6.0)
    assert windows(*away) == [(0.0, 4.0), (5.0, 10.0)]


def test_the_majority_must_be_the_same_throughout_a_window():
    rolling = [record("pause", (f"n{n}",), n, n + 1.0) for n in range(1, 6)]
    assert windows(*rolling) == [(0.0, 3.0), (2.0, 4.0), (3.0, 5.0), (4.0, 10.0)]


def test_what_never_healed_counts_for_ever():
    assert windows(record("kill", ("n1", "n2", "n3"), 2.0, None)) == [(0.0, 2.0)]


def test_what_was_skipped_does_not_count_and_what_did_not_verifiably_take_hold_does():
    three_down = record("kill", ("n1", "n2", "n3"), 2.0, 4.0)
    skipped = FaultRecord(number=1, fault=three_down.fault, asked=2.0, skipped="no leader")
    unsure = FaultRecord(
        number=1, fault=three_down.fault, asked=2.0, nodes=three_down.nodes, healed=4.0, failed="not in effect: …"
    )
    assert windows(skipped) == [(0.0, 10.0)]
    assert windows(unsure) == [(0.0, 2.0), (4.0, 10.0)]


def test_a_split_leaves_its_larger_side_and_an_even_one_nobody():
    assert windows(record("partition", ("n1", "n2"), 2.0, 4.0)) == [(0.0, 10.0)]
    four = node_names(4)
    assert windows(record("partition", ("n1", "n2"), 2.0, 4.0, cluster=four), nodes=four) == [(0.0, 2.0), (4.0, 10.0)]


def test_a_one_way_cut_is_a_cut():
    assert windows(record("partition", ("n1", "n2", "n3"), 2.0, 4.0, shape="one-way")) == [(0.0, 2.0), (4.0, 10.0)]


def test_a_ring_of_five_has_no_majority_that_is_pairwise_connected():
    assert windows(record("partition", (), 2.0, 4.0, shape="ring")) == [(0.0, 2.0), (4.0, 10.0)]


def test_a_ring_of_three_and_a_bridge_of_five_have_one():
    assert windows(record("partition", (), 2.0, 4.0, cluster=THREE, shape="ring"), nodes=THREE) == [(0.0, 10.0)]
    assert windows(record("partition", (), 2.0, 4.0, shape="bridge")) == [(0.0, 10.0)]


def test_loss_and_long_delays_disconnect_and_light_ones_do_not():
    assert windows(record("loss", FIVE, 2.0, 4.0, rate=0.02)) == [(0.0, 10.0)]
    assert windows(record("loss", FIVE, 2.0, 4.0, rate=0.1)) == [(0.0, 2.0), (4.0, 10.0)]
    assert windows(record("delay", FIVE, 2.0, 4.0, delay=0.1)) == [(0.0, 10.0)]
    assert windows(record("delay", FIVE, 2.0, 4.0, delay=0.1, jitter=0.2)) == [(0.0, 2.0), (4.0, 10.0)]
    assert windows(record("duplicate", FIVE, 2.0, 4.0, rate=1.0)) == [(0.0, 10.0)]
    assert windows(record("reorder", FIVE, 2.0, 4.0, rate=1.0)) == [(0.0, 10.0)]


def test_losses_that_overlap_compound():
    both = windows(record("loss", FIVE, 2.0, 5.0, rate=0.015), record("loss", FIVE, 4.0, 6.0, rate=0.015))
    assert both == [(0.0, 4.0), (5.0, 10.0)]


def test_links_that_are_bad_but_not_cut_promise_nothing_to_anybody_for_a_leader_may_be_behind_them():
    assert windows(record("loss", ("n1",), 2.0, 4.0, rate=0.3)) == [(0.0, 2.0), (4.0, 10.0)]
    assert windows(record("delay", ("n1",), 2.0, 4.0, delay=0.3)) == [(0.0, 2.0), (4.0, 10.0)]
    assert windows(record("loss", ("n1",), 2.0, 4.0, rate=1.0)) == [(0.0, 10.0)]
    assert windows(record("partition", ("n1",), 2.0, 4.0, shape="isolate")) == [(0.0, 10.0)]


def test_a_majority_that_clients_cannot_reach_does_not_count():
    assert windows(record("loss", FIVE, 2.0, 4.0, rate=1.0, links="clients")) == [(0.0, 2.0), (4.0, 10.0)]
    assert windows(record("loss", ("n1", "n2"), 2.0, 4.0, rate=1.0, links="clients")) == [(0.0, 10.0)]


def test_the_largest_cluster_is_judged_too():
    nodes = node_names(31)
    ring = record("partition", (), 2.0, 4.0, cluster=nodes, shape="ring")
    split = record("partition", nodes[:15], 5.0, 6.0, cluster=nodes)
    assert windows(ring, split, nodes=nodes) == [(0.0, 2.0), (4.0, 10.0)]


def test_counts_and_times_of_effect():
    kill = record("kill", ("n1",), 2.0, 4.0)
    stuck = record("kill", ("n1",), 1.0, None)
    skipped = FaultRecord(number=1, fault=Fault(kind="pause", target="leader"), asked=2.0, skipped="no leader")
    assert summary([kill, stuck, skipped]) == [
        {"kind": "kill", "asked": 2, "applied": 2, "healed": 1, "skipped": 0},
        {"kind": "pause", "asked": 1, "applied": 0, "healed": 0, "skipped": 1},
    ]
    assert applied([kill, stuck, skipped]) == [("kill", 1.0), ("kill", 2.0)]
