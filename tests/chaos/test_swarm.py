import os
import subprocess
import sys
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path

import msgspec
import pytest

from chaos.faults import KINDS, MODES, SHAPES, link_rules
from chaos.records import FaultRecord, majority_windows
from chaos.scenario import ClusterSpec, FaultSpec, Scenario, WorkloadSpec, load_scenario, parse_scenario
from chaos.schedule import draw
from chaos.swarm import FAULTS_MAX, HEARTBEATS_MS, NODES, SERVICE_OPTIONS, quiet_phase, vary
from chaos.targets import majority, resolve
from chaos.verdicts import bound

ROOT = Path(__file__).parents[2]
SEEDS = range(300)
BASE = load_scenario(ROOT / "configs/demo.toml")


@cache
def variants():
    return [vary(BASE, seed) for seed in SEEDS]


def chaos_faults(variant):
    return [spec for spec in variant.faults if spec.at < quiet_phase(variant)[0]]


def quiet_faults(variant):
    return [spec for spec in variant.faults if spec.at >= quiet_phase(variant)[0]]


def shape(spec):
    return "groups" if spec.groups else spec.shape


def scenario(*faults, workloads=("kv",), **cluster):
    specs = tuple(WorkloadSpec(kind=kind) for kind in workloads)
    return Scenario(name="x", duration=30.0, cluster=ClusterSpec(**cluster), workloads=specs, faults=faults)


def test_the_same_seed_gives_the_same_variant_in_every_process_and_for_every_hash_seed():
    code = (
        "from chaos.scenario import load_scenario; from chaos.swarm import vary; "
        "base = load_scenario('configs/demo.toml'); "
        "import sys; sys.stdout.write(''.join(vary(base, seed).text for seed in range(40)))"
    )
    texts = set()
    for hash_seed in ("0", "1", "random"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True)
        texts.add(run.stdout.decode())
    here = msgspec.structs.replace(BASE, source="configs/demo.toml")
    assert texts == {"".join(vary(here, seed).text for seed in range(40))}


def test_different_seeds_give_different_variants():
    assert len({variant.text for variant in variants()}) == len(SEEDS)


def test_the_text_of_a_variant_is_a_file_that_says_the_same():
    for seed, variant in zip(SEEDS, variants(), strict=True):
        assert variant.seed == seed
        assert parse_scenario(variant.text, variant.source) == variant


def test_a_variants_faults_are_those_it_names_whatever_seed_it_is_drawn_with():
    for variant in variants():
        one, other = draw(variant, 1), draw(variant, 2)
        assert one.faults == other.faults
        assert [fault.at for fault in one.faults] == [spec.at for spec in variant.faults]
        assert len(one.faults) <= FAULTS_MAX


def test_a_campaign_meets_every_feature_and_every_combination_of_quiet():
    chaos = [spec for variant in variants() for spec in chaos_faults(variant)]
    quiet = [spec for variant in variants() for spec in quiet_faults(variant)]
    assert {spec.kind for spec in chaos} == set(KINDS)
    assert {(shape(s), s.mode) for s in chaos if s.kind == "partition"} == {
        (shape, mode) for shape in (*SHAPES, "groups") for mode in MODES
    }
    assert {(s.kind, s.links) for s in chaos if s.rate} == {
        (kind, links) for kind in ("loss", "duplicate", "reorder") for links in ("nodes", "clients", "all")
    }
    assert {bool(spec.jitter) for spec in chaos if spec.kind == "delay"} == {True, False}
    assert {(s.kind, s.shape, s.mode) for s in quiet if s.kind == "partition"} == {
        ("partition", shape, mode) for shape in ("split", "isolate", "one-way") for mode in MODES
    }
    assert {(s.kind, s.rate) for s in quiet} == {("kill", 0), ("pause", 0), ("partition", 0), ("loss", 1)}


def test_a_campaign_meets_every_cluster_and_load():
    clusters = [variant.cluster for variant in variants()]
    assert {cluster.nodes for cluster in clusters} == set(NODES)
    assert {round(cluster.heartbeat * 1000) for cluster in clusters} == set(HEARTBEATS_MS)
    assert {round(c.election_timeout / c.heartbeat) for c in clusters} == {5, 10, 20}
    for key, values in SERVICE_OPTIONS.items():
        assert {cluster.options.get(key) for cluster in clusters} == set(values)
    loads = [workload for variant in variants() for workload in variant.workloads]
    assert {load.clients for load in loads} == set(range(1, 7))
    assert {load.rate for load in loads} == set(range(2, 41))


def test_a_campaign_leaves_out_faults_and_kinds_and_hits_anybody_and_everybody():
    mixes = [{spec.kind for spec in chaos_faults(variant)} for variant in variants()]
    assert 0.07 < sum(not mix for mix in mixes) / len(mixes) < 0.2
    assert all(any(one in mix and other not in mix for mix in mixes) for one, other in permutations(KINDS, 2))
    fives = [v for v in variants() if v.cluster.nodes == 5]
    targets = [spec.target for v in fives for spec in chaos_faults(v) if spec.kind in ("kill", "pause", "terminate")]
    assert {len(t) if isinstance(t, tuple) else t for t in targets} == {1, 2, 3, 5, "leader", "followers"}


def perfectly_applied(variant):
    """Records as if every fault had taken hold and healed at once, with n1 leading."""
    nodes = variant.cluster.names
    records = []
    for number, planned in enumerate(draw(variant, variant.seed).faults, 1):
        hit = resolve(planned.fault.target, nodes, "n1")
        times = {"asked": planned.at, "in_effect": planned.at, "ended": planned.until, "healed": planned.until}
        rules = link_rules(planned.fault, nodes, hit)
        records.append(FaultRecord(number=number, fault=planned.fault, nodes=hit, rules=rules, **times))
    return records


def test_the_quiet_phase_is_a_majority_window_longer_than_the_bound_and_so_is_the_tail():
    for variant in variants():
        nodes, timeout = variant.cluster.names, variant.cluster.election_timeout
        begin, end = quiet_phase(variant)
        records = perfectly_applied(variant)
        whole = majority_windows(records, nodes, begin, variant.duration, election_timeout=timeout)
        assert (begin, variant.duration) in whole
        assert end - begin >= max(2.0, 1.5 * bound(timeout)) - 1e-9
        assert variant.duration - end >= max(2.0, bound(timeout)) - 1e-9


def test_chaos_ends_with_its_phase_and_a_minority_is_held_through_the_whole_quiet_one():
    held = 0
    for variant in variants():
        begin, end = quiet_phase(variant)
        assert all(spec.at + spec.lasting <= begin + 1e-9 for spec in chaos_faults(variant))
        quiet = quiet_faults(variant)
        held += len(quiet)
        assert len(quiet) <= (variant.cluster.nodes >= 3)
        for spec in quiet:
            assert (spec.at, round(spec.at + spec.lasting, 3)) == (begin, end)
            assert set(spec.target) < set(variant.cluster.names)
            assert variant.cluster.nodes - len(spec.target) >= majority(variant.cluster.nodes)
    enough = sum(variant.cluster.nodes >= 3 for variant in variants())
    assert 0.58 < held / enough < 0.75


def test_the_chaos_phase_is_long_enough_for_elections():
    begins = [quiet_phase(variant)[0] for variant in variants()]
    assert all(begin >= max(3.0, 6 * v.cluster.election_timeout) for begin, v in zip(begins, variants(), strict=True))
    assert max(begin for begin, v in zip(begins, variants(), strict=True) if v.cluster.election_timeout <= 2) <= 20
    assert len({round(begin * 1000) for begin in begins}) > 150


def first_start(variant, rate):
    return min((spec.at for spec in variant.faults if spec.rate == rate), default=None)


def test_the_scenarios_own_faults_are_kept_half_of_the_time_however_rare_they_are():
    rare = FaultSpec(kind="reorder", target="one", rate=0.777, every=3600.0, lasting=600.0)
    often = msgspec.structs.replace(rare, every=1.0, lasting=1.0)
    starts = [first_start(vary(scenario(often), seed), 0.777) for seed in range(200)]
    kept = [start is not None for start in starts]
    assert 0.3 < sum(kept) / len(kept) < 0.6  # a tenth of all seeds has no faults, and a single node no links
    assert kept == [first_start(vary(scenario(rare), seed), 0.777) is not None for seed in range(200)]
    assert len(set(starts)) > 60


def test_a_fault_at_a_time_is_kept_at_its_time_if_that_is_in_the_chaos_phase():
    early = FaultSpec(kind="reorder", target="all", rate=0.777, at=2.0, lasting=60.0, links="clients")
    late = msgspec.structs.replace(early, at=200.0)
    found = [
        (spec.at, spec.at + spec.lasting == pytest.approx(quiet_phase(variant)[0]))
        for variant in (vary(scenario(early, late), seed) for seed in range(60))
        for spec in variant.faults
        if spec.rate == 0.777
    ]
    assert set(found) == {(2.0, True)}


@pytest.mark.parametrize(
    "named",
    [
        FaultSpec(kind="kill", target=("n4",), every=5.0, lasting=1.0),
        FaultSpec(kind="partition", target=None, groups=(("n1",), ("n4",)), every=5.0, lasting=1.0),
        FaultSpec(kind="partition", target=None, shape="ring", order=("n4", "n2", "n1", "n3"), every=5.0, lasting=1.0),
    ],
)
def test_a_scenario_that_names_nodes_keeps_their_number(named):
    base = scenario(named, nodes=4)
    assert {vary(base, seed).cluster.nodes for seed in range(30)} == {4}


def test_a_node_of_the_users_own_keeps_its_options_and_the_service_its_others():
    options = {"depth": 3, "snapshot_entries": 7}
    own = vary(scenario(node="a.b:C", options=options, restart="always"), 1).cluster
    assert (own.node, own.options, own.restart) == ("a.b:C", options, "always")
    varied = [vary(scenario(options=options), seed).cluster.options for seed in range(60)]
    assert {found["depth"] for found in varied} == {3}
    assert {found.get("snapshot_entries") for found in varied} == {5, 20, 100, None}


def test_workloads_are_left_out_at_random_but_never_all_and_keep_their_order():
    base = scenario(workloads=("kv", "a.b:C", "a.b:D"))
    found = {tuple(workload.kind for workload in vary(base, seed).workloads) for seed in range(100)}
    assert len(found) == 7
    assert all(
        list(kinds).index(one) < list(kinds).index(other)
        for kinds in found
        for one, other in pairwise(kind for kind in ("kv", "a.b:C", "a.b:D") if kind in kinds)
    )
    assert vary(scenario(workloads=()), 1).workloads == ()
    kept = msgspec.structs.replace(BASE, workloads=(WorkloadSpec(kind="a.b:C", operations=9, options={"keys": 3}),))
    (workload,) = vary(kept, 5).workloads
    assert (workload.kind, workload.operations, workload.options) == ("a.b:C", 9, {"keys": 3})


def test_the_own_keys_of_built_in_workloads_are_kept_also_in_the_text_of_the_variant():
    options = {"kv": {}, "queue": {"visibility": "700ms"}, "lock": {"lease": "300ms", "fenced": False}}
    specs = tuple(WorkloadSpec(kind=kind, options=own) for kind, own in options.items())
    found = [
        workload
        for seed in range(20)
        for workload in parse_scenario(vary(msgspec.structs.replace(BASE, workloads=specs), seed).text, "").workloads
    ]
    assert {workload.kind for workload in found} == set(options)
    assert all(workload.options == options[workload.kind] for workload in found)


def test_another_feature_of_the_scenario_changes_nothing_in_what_is_unrelated():
    more = msgspec.structs.replace(BASE, faults=(), workloads=(*BASE.workloads, *BASE.workloads))
    for seed in range(20):
        one, other = vary(BASE, seed), vary(more, seed)
        assert (one.cluster, one.duration) == (other.cluster, other.duration)
        assert quiet_faults(one) == quiet_faults(other)
