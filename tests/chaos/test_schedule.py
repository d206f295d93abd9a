import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import Fault
from chaos.scenario import ClusterSpec, FaultSpec, Scenario, load_scenario
from chaos.schedule import GAP_FACTOR_MAX, GAP_FACTOR_MIN, PlannedFault, Schedule, draw, schedule_from_json, tail
from testbed.base.errors import UsageError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").glob("*.toml"))


def entry(kind="kill", target="one", every=5.0, lasting=1.0, **more):
    return FaultSpec(kind=kind, target=target, every=every, lasting=lasting, **more)


def scenario(*faults, duration=60.0, nodes=5):
    return Scenario(name="x", duration=duration, cluster=ClusterSpec(nodes=nodes), faults=faults, source="x.toml")


def once(at, kind="kill", target=("n2",), lasting=1.0, **more):
    return FaultSpec(kind=kind, target=target, at=at, lasting=lasting, **more)


def planned(entry, at, until, kind, target):
    return PlannedFault(entry=entry, at=at, until=until, fault=Fault(kind=kind, target=target))


def test_a_schedule_is_this_for_ever():
    drawn = draw(scenario(entry(), entry("pause", "leader", every=20.0), duration=27.0), seed=7)
    assert drawn == Schedule(
        seed=7,
        duration=27.0,
        nodes=("n1", "n2", "n3", "n4", "n5"),
        faults=(
            planned(1, 3.188, 4.188, "kill", ("n5",)),
            planned(1, 10.321, 11.321, "kill", ("n5",)),
            planned(1, 16.842, 17.842, "kill", ("n4",)),
            planned(2, 16.882, 17.882, "pause", "leader"),
        ),
    )


def test_the_same_seed_gives_the_same_schedule_in_every_process_and_for_every_hash_seed():
    code = (
        "from chaos.scenario import load_scenario; from chaos.schedule import draw; "
        "import sys; sys.stdout.buffer.write(draw(load_scenario('configs/demo.toml'), 11).to_json())"
    )
    texts = set()
    for hash_seed in ("0", "1", "random"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        texts.add(
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True).stdout
        )
    assert texts == {draw(load_scenario(ROOT / "configs/demo.toml"), 11).to_json()}


def test_different_seeds_give_different_schedules():
    assert len({draw(scenario(entry()), seed).to_json() for seed in range(20)}) == 20


def test_another_entry_changes_nothing_for_those_before_it():
    one = draw(scenario(entry()), 3)
    two = draw(scenario(entry(), entry("partition", None, shape="ring")), 3)
    assert one.faults == tuple(fault for fault in two.faults if fault.entry == 1)


def test_a_longer_run_begins_like_the_shorter_one():
    short, long = draw(scenario(entry(), duration=40.0), 3), draw(scenario(entry(), duration=80.0), 3)
    assert long.faults[: len(short.faults)] == short.faults
    assert len(long.faults) > len(short.faults)


@pytest.mark.parametrize("at", [0.0, 3.217, 29.999])
def test_a_fault_at_a_time_happens_then_and_once_in_the_tail_too_and_on_whom_it_names(at):
    for seed in range(20):
        (drawn,) = draw(scenario(once(at, target=("n4", "n2")), duration=30.0), seed).faults
        assert drawn == planned(1, at, round(at + 1.0, 3), "kill", ("n2", "n4"))


def test_a_fault_at_a_time_still_draws_whom_a_word_means():
    drawn = {draw(scenario(once(1.0, target="one")), seed).faults[0].fault.target for seed in range(40)}
    assert drawn == {("n1",), ("n2",), ("n3",), ("n4",), ("n5",)}


@pytest.mark.parametrize("shape", ["ring", "bridge"])
def test_an_order_is_drawn_for_each_fault_unless_it_is_given(shape):
    given_order = ("n3", "n1", "n5", "n2", "n4")
    one, other = (
        [planned.fault.order for planned in draw(scenario(entry("partition", None, shape=shape, **more)), 3).faults]
        for more in ({}, {"order": given_order})
    )
    assert len(set(one)) > 1
    assert set(other) == {given_order}


def test_the_duration_given_overrides_the_scenarios():
    drawn = draw(scenario(entry()), 3, duration=20.0)
    assert drawn.duration == 20.0
    assert drawn == msgspec.structs.replace(draw(scenario(entry(), duration=20.0), 3))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**63),
    every=st.integers(10, 20_000),
    lasting=st.integers(10, 20_000),
    duration=st.integers(1000, 120_000),
    target=st.sampled_from(["one", "minority", "majority", "all", "leader", "followers", ("n2", "n3")]),
)
def test_faults_fire_within_the_gaps_and_end_before_the_tail(seed, every, lasting, duration, target):
    drawn_from = scenario(entry("pause", target, every / 1000, lasting / 1000), duration=duration / 1000)
    horizon = duration / 1000 - tail(duration / 1000, 1.0)
    if lasting > horizon * 1000 - 2:  # too tight by two milliseconds at most
        with pytest.raises(UsageError, match=r"fault\[1\]\.for"):
            draw(msgspec.structs.replace(drawn_from, duration=(duration - 4) / 1000), seed)
        return
    faults = draw(drawn_from, seed).faults
    assert faults
    starts = [0, *(round(fault.at * 1000) for fault in faults)]
    gaps = [after - before for before, after in pairwise(starts)]
    roomy = GAP_FACTOR_MIN * every + lasting <= horizon * 1000 - 2
    assert all(GAP_FACTOR_MIN * every <= gap <= GAP_FACTOR_MAX * every for gap in (gaps if roomy else gaps[1:]))
    assert gaps[0] <= GAP_FACTOR_MAX * every
    assert all(round((fault.until - fault.at) * 1000) == lasting for fault in faults)
    assert all(fault.until <= horizon + 1e-9 for fault in faults)
    assert (
        starts[-1] + GAP_FACTOR_MAX * every + lasting > horizon * 1000 - 1
    )  # and no room for one more was left unused


@pytest.mark.parametrize(
    ("fault", "key", "reason"),
    [
        (entry(lasting=30.0), "fault[2].for", "30s do not fit into a run whose faults end within its first 24s"),
        (entry(every=0.0001), "fault[2].every", "makes more than 100000 faults"),
        (once(30.0), "fault[2].at", "30s is not within a run of 30s"),
        (once(45.5), "fault[2].at", "45500ms is not within a run of 30s"),
    ],
)
def test_a_fault_that_would_never_fire_is_said_so(fault, key, reason):
    with pytest.raises(UsageError) as caught:
        draw(scenario(entry(), fault, duration=30.0), 1)
    assert (caught.value.where, caught.value.key, caught.value.reason) == ("x.toml", key, reason)


def test_an_entry_that_can_fire_fires_whatever_the_seed():
    tight = scenario(entry(every=20.0, lasting=13.0), duration=30.0)  # room for a start between 10 s and 11 s only
    for seed in range(50):
        assert [10.0 <= fault.at <= 11.0 for fault in draw(tight, seed).faults] == [True]


def test_a_run_too_short_for_the_first_gap_has_its_fault_sooner():
    short = scenario(entry(every=20.0, lasting=2.0), duration=10.0)
    for seed in range(50):
        assert [2.0 <= fault.at <= 4.0 for fault in draw(short, seed).faults] == [True]


def test_the_tail_leaves_time_to_recover_but_never_most_of_a_short_run():
    assert tail(30.0, 1.0) == 6.0
    assert tail(30.0, 0.3) == 2.0
    assert tail(5.0, 1.0) == 2.0


EACH_KIND = scenario(
    entry("kill", "leader"),
    entry("terminate", "followers"),
    entry("pause", "minority"),
    entry("partition", "one", mode="hold"),
    entry("partition", "leader", shape="isolate"),
    entry("partition", None, shape="ring"),
    entry("partition", "leader", shape="bridge"),
    entry("partition", None, groups=(("n1",), ("n2", "n3"))),
    entry("delay", "all", delay=0.1, jitter=0.2, links="all"),
    entry("loss", "one", rate=0.5, links="clients"),
)


def test_a_schedule_survives_json():
    drawn = draw(EACH_KIND, 5)
    assert schedule_from_json(drawn.to_json()) == drawn
    assert schedule_from_json(draw(EACH_KIND, "a name").to_json()).seed == "a name"


def test_a_dry_run_shows_the_faults_and_not_the_seed():
    shown = draw(EACH_KIND, 5).dry_run()
    assert list(shown) == ["faults"]
    assert all({"kind", "at", "until"} <= set(fault) for fault in shown["faults"])
    assert msgspec.json.encode(shown) == msgspec.json.encode(draw(EACH_KIND, 5).dry_run())


def test_a_partition_whose_targets_are_known_shows_the_links_it_cuts():
    drawn = draw(scenario(entry("partition", ("n1",)), entry("partition", "leader"), nodes=3), 5)
    cuts = [fault.get("cuts") for fault in drawn.dry_run()["faults"]]
    assert [["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]] in cuts
    assert None in cuts


FAULT = {"kind": "kill", "target": ["n1"], "at": 1, "until": 2, "entry": 1}


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"kind": "kil"}, "faults[1]", "no kind of fault 'kil'"),
        ({"options": {"size": 1}}, "faults[1]", "options do not go with kill"),
        ({"target": ["n9"]}, "faults[1]", "no node 'n9' in this cluster"),
        ({"target": 3}, "faults[1]", "Expected `str | array`, got `int`"),
        ({"until": 1}, "faults[1].until", "must be later than at"),
        ({"at": -1}, "faults[1].until", "must be later than at"),
        ({"colour": "red"}, "faults[1]", "Object contains unknown field `colour`"),
        ({"kind": "partition", "cuts": [["n2", "n1"]]}, "faults[1].cuts", "are not what the other keys say"),
    ],
)
def test_a_mistake_in_an_edited_schedule_is_named(change, key, reason):
    document = {"seed": 1, "duration": 10, "nodes": ["n1", "n2"], "faults": [FAULT | change]}
    with pytest.raises(UsageError) as caught:
        schedule_from_json(msgspec.json.encode(document), "my/schedule.json")
    assert (caught.value.where, caught.value.key) == ("my/schedule.json", key)
    assert caught.value.reason.startswith(reason)


def test_the_json_of_a_fault_says_what_matters_to_its_kind_and_nothing_else():
    drawn = draw(scenario(entry("loss", ("n1",), rate=0.5), entry("partition", ("n1",)), nodes=2, duration=10.0), 5)
    assert sorted(drawn.dry_run()["faults"], key=lambda fault: fault["entry"]) == [
        {"kind": "loss", "target": ["n1"], "at": 2.653, "until": 3.653, "rate": 0.5, "entry": 1},
        {
            "kind": "partition",
            "target": ["n1"],
            "at": 3.142,
            "until": 4.142,
            "shape": "split",
            "mode": "drop",
            "cuts": [["n1", "n2"], ["n2", "n1"]],
            "entry": 2,
        },
    ]


def test_a_schedule_that_is_no_json_is_named():
    with pytest.raises(UsageError, match=r"schedule.json: Input data was truncated"):
        schedule_from_json(b'{"seed":')


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_scenario_that_ships_fires_each_of_its_entries_within_20_seconds(path):
    shipped = load_scenario(path)
    for seed in range(100):
        faults = draw(shipped, seed).faults
        first = {fault.entry: fault.at for fault in reversed(faults)}
        assert sorted(first) == list(range(1, len(shipped.faults) + 1))
        assert max(first.values(), default=0.0) <= 20.0
