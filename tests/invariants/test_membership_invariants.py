"""Each invariant of the failure detector holds in a healthy cluster, and is seen broken where a view is corrupted."""

import math

import pytest
from by_hand import ELECTION_TIMEOUT, HEARTBEAT, NODES, ByHand

from chaos.invariants import Invariants
from chaos.invariants.membership import MEMBERSHIP_INVARIANTS
from testbed.core.membership import Membership
from testbed.core.membership.member import Member


def settled() -> ByHand:
    cluster = ByHand()
    cluster.run(5.0)
    assert cluster.broken == []
    return cluster


def nothing(*_: object) -> None:
    """In place of what would have been done."""


def view(cluster: ByHand, observer: str, peer: str) -> Member:
    return cluster.hosts[observer].known[peer]


def test_deaths_restarts_and_absences_break_nothing() -> None:
    cluster = settled()
    cluster.end("n3")
    cluster.run(15.0)
    assert view(cluster, "n1", "n3").state == "failed"
    cluster.start("n3")
    cluster.run(2.0)
    cluster.paused = {"n2"}
    cluster.truth.well["n2"] = math.inf
    cluster.run(8.0)
    assert view(cluster, "n1", "n2").state == "failed"
    cluster.paused = set()
    cluster.truth.well["n2"] = cluster.now
    cluster.run(15.0)
    assert all(member.state == "alive" for node in NODES for member in cluster.hosts[node].known.values())
    assert cluster.broken == []
    for name in ("suspicion", "conviction", "refutation", "restart noticed", "was away"):
        assert cluster.reached[name], name


def test_a_node_that_leaves_may_be_held_failed_at_once() -> None:
    cluster = settled()
    _, out = cluster.hosts["n3"].stop(cluster.now, True)
    cluster._carry_out("n3", out)
    cluster.end("n3")
    before = cluster.reached["suspicion"]
    cluster.run(0.05)
    assert view(cluster, "n1", "n3").state == "failed"
    assert (cluster.reached["suspicion"], cluster.reached["conviction"]) == (before, 0)
    cluster.start("n3")
    cluster.run(15.0)
    assert cluster.broken == []


def test_a_conviction_without_a_suspicion_is_seen() -> None:
    cluster = settled()
    cluster.truth.clear["n2", "n1"] = math.inf
    view(cluster, "n1", "n2").state = "failed"
    cluster.show("n1")
    assert cluster.broken == ["suspicion-first"]


@pytest.mark.parametrize("well_for", [3.9, 4.1])
@pytest.mark.parametrize("which", ["process", "to", "from"])
def test_a_conviction_of_a_node_that_was_well_for_long_is_false(which: str, well_for: float) -> None:
    cluster = settled()
    since = cluster.now - well_for
    if which == "process":
        cluster.truth.well["n2"] = since
    else:
        cluster.truth.clear[("n1", "n2") if which == "to" else ("n2", "n1")] = since
    for state in ("suspect", "failed"):
        view(cluster, "n1", "n2").state = state  # type: ignore[assignment]
        cluster.show("n1")
    assert cluster.broken == (["false-conviction"] if well_for > 4 else [])


def test_the_observers_own_absence_is_no_excuse_for_a_false_conviction() -> None:
    cluster = settled()
    for state in ("suspect", "failed"):
        cluster.truth.well["n1"] = cluster.now
        view(cluster, "n1", "n2").state = state  # type: ignore[assignment]
        cluster.show("n1")
    assert cluster.broken == ["false-conviction"]


def test_an_incarnation_that_its_owner_never_used_is_seen() -> None:
    cluster = settled()
    cluster.end("n2")
    cluster.start("n2")
    cluster.run(1.0)
    assert view(cluster, "n1", "n2").incarnation == 2
    assert cluster.broken == []
    view(cluster, "n1", "n2").incarnation = 3
    cluster.show("n1")
    assert cluster.broken == ["own-incarnation"]


def test_whoever_looks_late_takes_incarnations_as_they_are() -> None:
    cluster = settled()
    for _ in range(2):
        cluster.end("n2")
        cluster.start("n2")
        cluster.run(1.0)
    cluster.end("n2")
    late = Invariants(NODES, HEARTBEAT, ELECTION_TIMEOUT, cluster.truth)  # type: ignore[arg-type]
    for node, host in cluster.hosts.items():
        late.began(node, host, cluster.now)
    cluster.invariants = late
    cluster.run(1.0)
    view(cluster, "n1", "n2").state = "suspect"
    cluster.show("n1")
    assert cluster.broken == []


def test_a_death_that_is_not_noticed_is_seen_unless_the_observer_was_away_or_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for excuse in ("away", "cut off", None):
        cluster = settled()
        monkeypatch.setattr(Membership, "_judge", nothing)
        cluster.end("n3")
        cluster.run(7.0)
        assert cluster.broken == []
        if excuse == "away":
            cluster.truth.well |= {"n1": cluster.now, "n2": cluster.now}
        elif excuse == "cut off":
            cluster.truth.clear |= {("n1", "n2"): cluster.now, ("n1", "n3"): math.inf, ("n2", "n3"): math.inf}
        cluster.run(3.0)
        assert cluster.broken == ([] if excuse else ["unnoticed-death"])
        monkeypatch.undo()


def test_a_death_that_is_suspected_for_ever_is_not_noticed_either(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = settled()
    right = Membership._change
    monkeypatch.setattr(
        Membership, "_change", lambda self, member, state, *why: state == "failed" or right(self, member, state, *why)
    )
    cluster.end("n3")
    cluster.run(7.0)
    assert view(cluster, "n1", "n3").state == "suspect"
    assert cluster.broken == []
    cluster.run(3.0)
    assert cluster.broken == ["unnoticed-death"]


def test_a_conviction_that_outlives_its_reason_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for excuse in ("away", "cut off", None):
        cluster = settled()
        cluster.paused = {"n2"}
        cluster.truth.well["n2"] = math.inf
        cluster.run(8.0)
        cluster.paused = set()
        cluster.truth.well["n2"] = cluster.now
        monkeypatch.setattr(Membership, "_answer_claim", nothing)  # it never refutes
        cluster.run(7.0)
        assert view(cluster, "n1", "n2").state == "failed"
        assert cluster.broken == []
        if excuse == "away":
            cluster.truth.well |= {"n1": cluster.now, "n3": cluster.now}
        elif excuse == "cut off":
            cluster.truth.clear |= {("n1", "n2"): cluster.now, ("n2", "n3"): cluster.now}
        cluster.run(3.0)
        assert cluster.broken == ([] if excuse else ["convicted-though-well"])
        monkeypatch.undo()


def test_a_conviction_counts_as_lasting_from_when_it_fell() -> None:
    cluster = settled()
    cluster.run(20.0)
    cluster.truth.clear["n2", "n1"] = cluster.now - 3.9  # so that it is none of a node that was well for long
    for state in ("suspect", "failed"):
        view(cluster, "n1", "n2").state = state  # type: ignore[assignment]
        cluster.show("n1")
    cluster.truth.clear.clear()
    cluster.invariants.passed(cluster.now)
    assert cluster.broken == []


def test_views_of_a_process_that_is_gone_are_nobodys() -> None:
    cluster = settled()
    cluster.end("n1")
    cluster.end("n2")
    cluster.run(1.0)
    cluster.start("n1")
    cluster.run(1.0)
    assert cluster.broken == []
    judged = cluster.invariants.checks()[1]
    assert (judged.model, judged.verdict) == ("membership-invariants", "valid")
    assert judged.detail.startswith(f"{len(MEMBERSHIP_INVARIANTS)} invariants held in ")
