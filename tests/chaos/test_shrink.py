from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.pinned import to_toml
from chaos.scenario import ClusterSpec, FaultSpec, Scenario, WorkloadSpec, parse_scenario
from chaos.schedule import draw
from chaos.shrink import describe, shrink, size

NODES = ("n1", "n2", "n3", "n4", "n5")


def fault(kind, target, at, lasting=1.0, **more):
    return FaultSpec(kind=kind, target=target, at=at, lasting=lasting, **more)


def kv(**more):
    return WorkloadSpec(kind="kv", **more)


KV = kv()


def scenario(*faults, workloads=(KV,), duration=24.0, nodes=5):
    cluster = ClusterSpec(nodes=nodes)
    return Scenario(name="x", duration=duration, cluster=cluster, workloads=workloads, faults=faults, source="x.toml")


def many(count=31):
    """A scenario of so many kills, a second apart."""
    faults = (fault("kill", (NODES[number % 5],), at=0.731 + number) for number in range(count))
    return scenario(*faults, duration=count + 5.0)


def without(found, place):
    return msgspec.structs.replace(found, faults=found.faults[:place] + found.faults[place + 1 :])


def operations(found):
    return sum(5000 if spec.operations is None else spec.operations for spec in found.workloads)


def paused_then_cut(found):
    """The leader is paused, n2 is cut off within two seconds of that, and five operations are asked for."""
    pauses = [spec.at for spec in found.faults if spec.kind == "pause" and spec.target == "leader"]
    cuts = [spec.at for spec in found.faults if spec.kind == "partition" and "n2" in spec.target]
    return operations(found) >= 5 and any(pause <= cut <= pause + 2.0 for pause in pauses for cut in cuts)


def test_what_a_failure_needs_is_all_that_is_left():
    noise = many(29)
    given = msgspec.structs.replace(
        noise,
        faults=(
            *noise.faults[:11],
            fault("pause", "leader", at=11.9, lasting=2.345),
            *noise.faults[11:],
            fault("partition", ("n2", "n4"), at=13.4, lasting=1.5, mode="hold"),
        ),
        workloads=(kv(clients=6, operations=300), kv(clients=2, rate=10.0)),
    )
    shrunk = shrink(given, paused_then_cut)
    expected = scenario(
        fault("pause", "leader", at=0.0, lasting=0.01),
        fault("partition", ("n2",), at=0.0, lasting=0.01),
        workloads=(kv(clients=1, rate=10.0, operations=5),),
        duration=0.1,
        nodes=2,
    )
    assert shrunk.scenario == msgspec.structs.replace(expected, text=to_toml(expected))
    assert shrunk.minimal
    assert shrunk.tries < 100
    assert shrunk.summary == (
        "31 faults -> 2, 2 workloads -> 1, 8 clients -> 1, 640 operations -> 5, 5 nodes -> 2, 34.0 s -> 0.1 s"
    )


def test_what_fails_whatever_happens_shrinks_to_nothing_but_one_workload():
    given = msgspec.structs.replace(many(), workloads=(kv(clients=9), kv(), kv()))
    shrunk = shrink(given, lambda _: True)
    left = scenario(workloads=(kv(clients=1, operations=1),), duration=0.1, nodes=1)
    assert shrunk.scenario == msgspec.structs.replace(left, text=to_toml(left))
    assert shrunk.tries < 10


def test_what_fails_only_as_it_is_stays_as_it_is():
    given = many(8)
    shrunk = shrink(given, lambda _: False)
    assert shrunk.scenario is given
    assert shrunk.minimal
    assert shrunk.summary == "nothing could be taken away"


def test_a_scenario_without_workloads_shrinks_as_well():
    given = msgspec.structs.replace(many(4), workloads=())
    assert shrink(given, lambda found: len(found.faults) >= 2).scenario.faults == (
        fault("kill", ("n3",), at=0.0, lasting=0.01),
        fault("kill", ("n4",), at=0.0, lasting=0.01),
    )


def test_faults_that_only_matter_together_are_found_among_many():
    culprits = (3.731, 9.731, 27.731)
    kept = []

    def fails(found):
        names = [spec.target for spec in found.faults]
        kept.append(len(names))
        return names == [("n4",), ("n5",), ("n3",)] or {spec.at for spec in found.faults} >= set(culprits)

    shrunk = shrink(many(), fails)
    assert [spec.target for spec in shrunk.scenario.faults] == [("n4",), ("n5",), ("n3",)]
    assert kept.index(3) < 50  # tries, where taking faults away one by one takes hundreds


def test_a_failure_that_comes_and_goes_with_the_number_of_faults_ends_where_none_can_be_missed():
    shrunk = shrink(many(13), lambda found: len(found.faults) % 3 == 1)
    assert len(shrunk.scenario.faults) == 1


@pytest.mark.parametrize("needed", [2, 7, 16, 300])
def test_operations_are_bisected_from_the_cap(needed):
    given = scenario(workloads=(kv(operations=300, clients=1),))
    shrunk = shrink(given, lambda found: operations(found) >= needed and found.cluster == given.cluster)
    assert needed <= operations(shrunk.scenario) <= needed * 9 / 8
    assert shrunk.tries <= 22  # a bisection, the rest, and both once more to see that nothing shrinks any further


def test_the_rate_of_a_workload_is_left_alone():
    given = scenario(workloads=(kv(rate=123.0, clients=4),))
    assert shrink(given, lambda _: True).scenario.workloads == (kv(rate=123.0, clients=1, operations=1),)


def test_the_workload_and_the_clients_that_matter_are_kept():
    given = scenario(workloads=(kv(rate=1.0), kv(rate=2.0, clients=16), kv(rate=3.0)))
    shrunk = shrink(given, lambda found: any(spec.rate == 2.0 and spec.clients >= 3 for spec in found.workloads))
    assert shrunk.scenario.workloads == (kv(rate=2.0, clients=3, operations=1),)


def test_nodes_that_a_fault_names_stay():
    given = scenario(fault("kill", ("n3",), at=1.0))
    assert shrink(given, lambda found: bool(found.faults)).scenario.cluster.nodes == 3


def test_an_order_loses_the_nodes_that_go_and_becomes_the_clusters_own():
    ring = fault("partition", None, at=1.0, shape="ring", order=("n4", "n2", "n5", "n1", "n3"))
    left = shrink(scenario(ring), lambda found: bool(found.faults)).scenario
    assert left.cluster.nodes == 3
    assert left.faults[0].order == ("n1", "n2", "n3")


def test_an_order_that_matters_stays():
    ring = fault("partition", None, at=1.0, shape="ring", order=("n4", "n2", "n5", "n1", "n3"))
    left = shrink(scenario(ring), lambda found: found.faults != () and found.faults[0].order[:1] == ("n4",)).scenario
    assert left.cluster.nodes == 4
    assert left.faults[0].order == ("n4", "n2", "n1", "n3")


def test_groups_lose_the_nodes_that_do_not_matter():
    given = scenario(fault("partition", None, at=1.0, groups=(("n1", "n2"), ("n3",), ("n4", "n5"))))

    def fails(found):
        apart = [{"n1", "n2"} & set(group) for spec in found.faults for group in spec.groups]
        return {"n2"} in apart

    left = shrink(given, fails).scenario
    assert left.faults[0].groups in ((("n2",), ("n3",)), (("n2",), ("n4",)), (("n2",), ("n5",)))


def test_the_values_of_a_fault_become_plainer():
    hold = fault("partition", ("n1",), at=0.0, mode="hold")
    loss = fault("loss", ("n1",), at=0.0, rate=0.3712, links="all")
    late = fault("delay", ("n1",), at=0.0, delay=0.035, jitter=0.07)
    left = shrink(scenario(hold, loss, late), lambda found: len(found.faults) == 3).scenario
    assert [(spec.mode, spec.rate, spec.links, spec.delay, spec.jitter) for spec in left.faults] == [
        ("drop", 0.0, "nodes", 0.0, 0.0),
        ("drop", 1.0, "nodes", 0.0, 0.0),
        ("drop", 0.0, "nodes", 0.035, 0.0),
    ]


def test_a_rate_that_cannot_be_everything_is_rounded():
    given = scenario(fault("loss", ("n1",), at=0.0, rate=0.3712))
    assert shrink(given, lambda found: bool(found.faults) and found.faults[0].rate < 0.5).scenario.faults[0].rate == 0.4


def test_links_of_clients_stay_where_they_matter():
    given = scenario(fault("loss", ("n1",), at=0.0, rate=1.0, links="all"))
    left = shrink(given, lambda found: any(spec.links != "nodes" for spec in found.faults)).scenario
    assert left.faults[0].links == "clients"


def test_a_delay_that_is_nothing_but_jitter_keeps_it():
    given = scenario(fault("delay", ("n1",), at=0.0, jitter=0.07))
    assert shrink(given, lambda found: bool(found.faults)).scenario.faults[0].jitter == 0.07


def test_gaps_are_closed_and_later_faults_move_along():
    """Only the distance of the two matters."""
    given = scenario(fault("kill", ("n1",), at=5.123), fault("kill", ("n2",), at=11.723))

    def fails(found):
        return len(found.faults) == 2 and found.faults[1].at - found.faults[0].at >= 3.0

    left = shrink(given, fails).scenario
    assert left.faults[0].at == 0.0
    assert 3.0 <= left.faults[1].at <= 3.5


def test_no_fault_moves_to_before_the_one_before_it():
    orders = set()

    def fails(found):
        orders.add(tuple(spec.target for spec in sorted(found.faults, key=lambda spec: spec.at)))
        return len(found.faults) == 3 and found.faults[0].at >= 2.0

    shrink(many(3), fails)
    assert {order for order in orders if len(order) == 3} == {(("n1",), ("n2",), ("n3",))}


def test_a_start_that_cannot_move_far_is_rounded():
    given = scenario(fault("kill", ("n1",), at=5.123))
    left = shrink(given, lambda found: bool(found.faults) and found.faults[0].at >= 5.0).scenario
    assert left.faults[0].at == 5.1


def test_a_fault_lasts_only_as_long_as_it_must():
    given = scenario(fault("kill", ("n1",), at=0.0, lasting=8.0))
    left = shrink(given, lambda found: bool(found.faults) and found.faults[0].lasting >= 0.7).scenario
    assert 0.7 <= left.faults[0].lasting <= 0.8


def test_the_end_is_cut_down_to_what_is_needed_but_not_below_the_last_start():
    given = scenario(fault("kill", ("n1",), at=7.0), duration=30.0)
    needed = shrink(given, lambda found: found.duration >= 12.0).scenario
    assert 12.0 <= needed.duration <= 13.5
    started = shrink(given, lambda found: bool(found.faults) and found.faults[0].at == 7.0).scenario
    assert started.duration == 7.1


def test_it_stops_when_the_tries_are_used_up_with_the_smallest_so_far():
    asked = []

    def fails(found):
        asked.append(found)
        return len(found.faults) >= 5

    shrunk = shrink(many(), fails, tries_max=10)
    assert len(asked) == shrunk.tries == 10
    assert not shrunk.minimal
    assert len(shrunk.scenario.faults) < 31
    assert fails(shrunk.scenario)


def test_each_smaller_scenario_is_reported_when_it_is_found():
    reported = []
    asked = []

    def fails(found):
        asked.append((len(asked) + 1, found))
        return paused_then_cut(found)

    given = scenario(
        fault("pause", "leader", at=2.0), fault("kill", ("n1",), at=2.5), fault("partition", ("n2",), at=3.0)
    )
    shrunk = shrink(given, fails, report=lambda tries, found: reported.append((tries, found)))
    assert reported == [(tries, found) for tries, found in asked if paused_then_cut(found)]
    assert reported[-1][1] == shrunk.scenario


def test_nobody_is_asked_the_same_twice():
    given = many(4)
    asked = []

    def fails(found):
        asked.append(found.text)
        return found == msgspec.structs.replace(given, faults=given.faults[2:], text=found.text)

    assert shrink(given, fails).scenario.faults == given.faults[2:]
    assert len(asked) == len(set(asked))


def test_a_scenario_that_is_not_pinned_is_a_mistake():
    with pytest.raises(AssertionError, match="pinned"):
        shrink(scenario(FaultSpec(kind="kill", target="one", every=5.0, lasting=1.0)), lambda _: True)


def test_what_became_less_is_said_on_one_line():
    before = msgspec.structs.replace(many(31), duration=24.0, workloads=(kv(clients=6, operations=300),))
    after = scenario(*before.faults[:2], duration=3.1, workloads=(kv(clients=1, operations=14),))
    assert describe(before, after) == "31 faults -> 2, 6 clients -> 1, 300 operations -> 14, 24.0 s -> 3.1 s"
    assert describe(scenario(before.faults[0]), scenario()) == "1 fault -> 0"
    assert describe(after, msgspec.structs.replace(after, duration=3.09)) == "the same numbers, in plainer words"
    assert describe(after, after) == "nothing could be taken away"
    loss = fault("loss", ("n1",), at=0.0, rate=0.37)
    plain = msgspec.structs.replace(loss, rate=1.0)
    assert describe(scenario(loss), scenario(plain)) == "the same numbers, in plainer words"


# --- whatever the scenario, and whatever makes it fail ---

TIMES = st.integers(0, 9_999).map(lambda ms: ms / 1000)
LASTINGS = st.integers(10, 20_000).map(lambda ms: ms / 1000)
SOME = st.lists(st.sampled_from(NODES), min_size=1, max_size=4, unique=True).map(tuple)
TARGETS = SOME | st.sampled_from(("leader", "followers"))
RATES = st.integers(1, 1000).map(lambda part: part / 1000)
LINKS = st.sampled_from(("nodes", "clients", "all"))
FAULTS = st.one_of(
    st.builds(fault, st.sampled_from(("kill", "terminate", "pause")), TARGETS, TIMES, LASTINGS),
    st.builds(
        fault,
        st.just("partition"),
        TARGETS,
        TIMES,
        LASTINGS,
        shape=st.sampled_from(("split", "isolate", "one-way")),
        mode=st.sampled_from(("drop", "hold", "reset")),
    ),
    st.builds(
        fault,
        st.just("partition"),
        st.none(),
        TIMES,
        LASTINGS,
        shape=st.sampled_from(("ring", "bridge")),
        order=st.permutations(NODES).map(tuple),
    ),
    st.builds(
        fault,
        st.just("partition"),
        st.none(),
        TIMES,
        LASTINGS,
        groups=st.sampled_from(((("n1", "n2"), ("n3", "n4", "n5")), (("n5",), ("n1",), ("n3", "n2")))),
    ),
    st.builds(fault, st.sampled_from(("loss", "duplicate", "reorder")), TARGETS, TIMES, LASTINGS, rate=RATES),
    st.builds(fault, st.just("delay"), TARGETS, TIMES, LASTINGS, jitter=TIMES, delay=LASTINGS, links=LINKS),
)
WORKLOADS = st.builds(kv, clients=st.integers(1, 9), operations=st.none() | st.integers(1, 500))
SCENARIOS = st.builds(
    lambda faults, workloads: scenario(*faults, workloads=tuple(workloads), duration=10.0),
    st.lists(FAULTS, max_size=8),
    st.lists(WORKLOADS, min_size=1, max_size=3),
)


def no_pattern(seed, share):
    """Fails for about one in `share` of all scenarios, without rhyme or reason."""
    return lambda found: crc32(to_toml(found).encode(), seed) % share == 0


def needs(kinds, clients, count):
    """Fails if these kinds come in this order, with that many clients and operations."""

    def fails(found):
        left = iter(spec.kind for spec in sorted(found.faults, key=lambda spec: spec.at))
        in_order = all(kind in left for kind in kinds)
        return in_order and sum(spec.clients for spec in found.workloads) >= clients and operations(found) >= count

    return fails


PREDICATES = st.one_of(
    st.builds(no_pattern, st.integers(0, 1000), st.integers(1, 6)),
    st.builds(
        needs,
        st.lists(st.sampled_from(("kill", "pause", "partition", "loss")), max_size=3),
        st.integers(0, 5),
        st.integers(0, 40),
    ),
)


@settings(max_examples=40, deadline=None)
@given(given=SCENARIOS, fails=PREDICATES, tries_max=st.just(400) | st.integers(0, 40))
def test_the_result_fails_is_minimal_and_every_candidate_was_possible_and_smaller(given, fails, tries_max):
    best = given
    asked = 0

    def ask(candidate):
        nonlocal best, asked
        asked += 1
        draw(candidate, 0)
        assert candidate.workloads
        read = parse_scenario(candidate.text, "x.toml")
        assert read == candidate
        assert size(candidate) < size(best)
        if fails(candidate):
            best = candidate
            return True
        return False

    shrunk = shrink(given, ask, tries_max=tries_max)
    assert shrunk.scenario == best
    assert shrunk.tries == asked <= tries_max
    assert shrunk == shrink(given, fails, tries_max=tries_max)
    if shrunk.minimal:
        assert not any(fails(without(best, place)) for place in range(len(best.faults)))
