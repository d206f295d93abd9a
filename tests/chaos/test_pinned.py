import datetime
import tomllib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults import KINDS, LINKS, MODES, SHAPES, WHOLE_CLUSTER_SHAPES
from chaos.pinned import pin, to_toml
from chaos.scenario import ClusterSpec, FaultSpec, Scenario, WorkloadSpec, parse_scenario
from chaos.schedule import draw, schedule_from_json
from chaos.targets import WORDS, node_names

SEEDS = st.integers(0, 2**63 - 1)
NODES = node_names(5)


def milliseconds(low, high):
    return st.integers(low, high).map(lambda number: number / 1000)


def names(most=5):
    chosen = st.lists(st.sampled_from(NODES), min_size=1, max_size=most, unique=True)
    return chosen.map(lambda found: tuple(sorted(found)))


GROUPS = st.permutations(NODES).flatmap(
    lambda order: st.integers(1, 4).map(lambda cut: (tuple(order[:cut]), tuple(order[cut:])))
)


@st.composite
def fault_specs(draw_value, when):
    """Any entry that a scenario file of five nodes could hold; `when` it happens."""
    kind = draw_value(st.sampled_from(list(KINDS)))
    values = {"target": draw_value(st.sampled_from(WORDS) | names())}
    if kind == "partition":
        values |= draw_value(partitions())
    if kind == "delay":
        values |= {"delay": draw_value(milliseconds(1, 5000)), "jitter": draw_value(milliseconds(0, 500))}
    if "rate" in KINDS[kind].keys:
        values["rate"] = draw_value(st.floats(0, 1))
    if "links" in KINDS[kind].keys:
        values["links"] = draw_value(st.sampled_from(LINKS))
    return FaultSpec(kind=kind, lasting=draw_value(milliseconds(10, 9000)), **values, **draw_value(when))


@st.composite
def partitions(draw_value):
    values = {"mode": draw_value(st.sampled_from(MODES))}
    shape = draw_value(st.sampled_from([*SHAPES, "groups"]))
    if shape == "groups":
        return values | {"target": None, "groups": draw_value(GROUPS)}
    values |= {"shape": shape, "target": draw_value(st.sampled_from(["one", "minority", "leader"]) | names(3))}
    if shape in WHOLE_CLUSTER_SHAPES:
        values["target"] = draw_value(st.just(values["target"]) | st.none())
        values["order"] = draw_value(st.just(()) | st.permutations(NODES).map(tuple))
    return values


AGAIN = st.fixed_dictionaries({"every": milliseconds(200, 30_000)})
ONCE = st.fixed_dictionaries({"at": milliseconds(0, 29_498)})


def scenario(*faults, **more):
    return Scenario(name="x", duration=30.0, faults=faults, source="x.toml", **more)


def without_entries(schedule):
    return [(planned.fault, planned.at, planned.until) for planned in schedule.faults]


@settings(deadline=None)
@given(faults=st.lists(fault_specs(AGAIN | ONCE), max_size=4), seed=SEEDS, other=SEEDS)
def test_a_pinned_scenario_has_the_schedules_faults_whatever_seed_it_is_drawn_with(faults, seed, other):
    schedule = draw(scenario(*faults), seed, duration=29.499)
    pinned = pin(scenario(*faults), schedule)
    assert without_entries(draw(pinned, other)) == without_entries(schedule)
    assert (pinned.seed, pinned.duration) == (seed, 29.499)
    assert all(
        spec.at is not None and spec.target not in ("one", "minority", "majority", "all") for spec in pinned.faults
    )


@settings(deadline=None)
@given(faults=st.lists(fault_specs(AGAIN | ONCE), max_size=4), seed=SEEDS)
def test_the_text_of_a_pinned_scenario_is_a_file_that_says_the_same(faults, seed):
    pinned = pin(scenario(*faults), draw(scenario(*faults), seed))
    assert parse_scenario(pinned.text, "x.toml") == pinned


def test_pinning_keeps_cluster_and_workloads():
    cluster, workloads = ClusterSpec(nodes=3, heartbeat=0.05), (WorkloadSpec(kind="kv", operations=9),)
    pinned = pin(scenario(cluster=cluster, workloads=workloads), draw(scenario(cluster=cluster), 5))
    assert (pinned.name, pinned.source, pinned.cluster, pinned.workloads) == ("x", "x.toml", cluster, workloads)


def test_a_ring_without_an_order_is_pinned_to_the_clusters():
    document = {
        "seed": "a name",
        "duration": 10,
        "nodes": NODES,
        "faults": [{"kind": "partition", "shape": "ring", "at": 1, "until": 2, "entry": 1}],
    }
    pinned = pin(scenario(), schedule_from_json(msgspec.json.encode(document)))
    assert pinned.faults[0].order == NODES
    assert pinned.seed is None


TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"', "\\", "'''", "\x7f", "\x00", "\r\n", "\u2028", "😀", "#", "a.b", ""]
)
SCALARS = (
    TEXTS
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.just(datetime.timezone(datetime.timedelta(hours=-3))))
    | st.dates()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
OPTIONS = st.dictionaries(TEXTS, VALUES, max_size=4)

CLUSTERS = st.builds(
    ClusterSpec,
    nodes=st.just(5),
    node=st.sampled_from(["testbed:ServiceNode", "a.b:C"]),
    heartbeat=milliseconds(1, 333),
    election_timeout=milliseconds(1000, 90_000),
    restart=st.sampled_from(["never", "on-failure", "always"]),
    trace=st.booleans(),
    options=OPTIONS,
)
KV = {
    "clients": st.integers(1, 50_000),
    "rate": st.floats(0.001, 1e300),
    "operations": st.none() | st.integers(1, 10**9),
}
WORKLOADS = st.builds(WorkloadSpec, kind=st.just("kv"), **KV) | st.builds(
    WorkloadSpec, kind=st.just("a.b:C"), options=OPTIONS, **KV
)


@settings(deadline=None)
@given(
    scenario=st.builds(
        Scenario,
        name=st.sampled_from(["x", "a-b_c.9"]),
        duration=milliseconds(1, 10**9),
        cluster=CLUSTERS,
        workloads=st.lists(WORKLOADS, max_size=2).map(tuple),
        faults=st.lists(fault_specs(AGAIN | ONCE), max_size=3).map(tuple),
        seed=st.none() | SEEDS,
    ),
    comment=st.text(max_size=50),
)
def test_a_scenario_written_to_a_file_is_read_back_as_the_same(scenario, comment):
    text = to_toml(scenario, comment)
    assert parse_scenario(text, "y.toml") == msgspec.structs.replace(scenario, source="y.toml", text=text)


def test_every_duration_is_read_back_exactly():
    finer = [0.00005, 0.1234567, 1e-7]
    for seconds in [*(number / 1000 for number in range(1, 1100)), 59.999, 60.0, 60.001, 86_399.999, *finer]:
        text = to_toml(msgspec.structs.replace(scenario(), duration=seconds))
        assert parse_scenario(text, "x.toml").duration == seconds


def test_a_written_scenario_reads_like_one_that_people_wrote():
    written = to_toml(
        scenario(
            FaultSpec(kind="kill", target=("n1", "n2"), at=3.2, lasting=1.0),
            FaultSpec(kind="partition", target=None, groups=(("n1",), ("n2", "n3")), mode="hold", at=4.0, lasting=1.5),
            FaultSpec(kind="loss", target="leader", rate=0.5, every=60.0, lasting=1.0),
            cluster=ClusterSpec(options={"snapshot_entries": 5, "a b": {"c": [1, "d"]}}),
            workloads=(WorkloadSpec(kind="kv", operations=20),),
            seed=7,
        ),
        "found by\n\nseed 7",
    )
    assert (
        written
        == """\
# found by
#
# seed 7

name = "x"
duration = "30s"
seed = 7

[cluster]
nodes = 5
node = "testbed:ServiceNode"
heartbeat = "100ms"
election_timeout = "1s"
restart = "never"

[cluster.options]
snapshot_entries = 5
"a b" = { c = [1, "d"] }

[[workload]]
kind = "kv"
clients = 5
rate = 100.0
operations = 20

[[fault]]
kind = "kill"
target = ["n1", "n2"]
at = "3200ms"
for = "1s"

[[fault]]
kind = "partition"
mode = "hold"
groups = [["n1"], ["n2", "n3"]]
at = "4s"
for = "1500ms"

[[fault]]
kind = "loss"
target = "leader"
rate = 0.5
every = "1m"
for = "1s"
"""
    )


def test_what_toml_cannot_say_is_refused():
    with pytest.raises(TypeError, match="no way to write None"):
        to_toml(scenario(cluster=ClusterSpec(options={"x": None})))


def test_infinity_and_nothing_at_all_are_written_as_toml_has_them():
    text = to_toml(scenario(cluster=ClusterSpec(options={"most": float("inf"), "none": {}, "empty": []})))
    assert tomllib.loads(text)["cluster"]["options"] == {"most": float("inf"), "none": {}, "empty": []}
