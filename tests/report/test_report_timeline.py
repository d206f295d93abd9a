"""Spans of time from logs and faults: what the lanes of a report show, and what they say."""

import pytest
from report_runs import fault_steps

from chaos.report.timeline import Band, Span, bands, lanes, untaken, views


def steps(*told):
    return [{"time": time, "f": kind, "value": value} for time, kind, value in told]


def step(time, number, name, kind="kill", nodes=("n1",), **more):
    return time, kind, {"fault": number, "step": name, "nodes": list(nodes), **more}


def entry(time, text, node="n1", source="node", **more):
    return {"time": time, "text": text, "node": node, "source": source, **more}


def spans(found):
    return [(span.start, span.end, span.what) for span in found]


def test_a_fault_lasts_from_when_it_was_seen_in_effect_until_it_was_seen_healed():
    told = steps(step(1.0, 1, "asked"), step(1.2, 1, "in effect", since=1.1), step(3.0, 1, "healed", since=2.9))
    assert [(band.start, band.end, band.kind, band.nodes) for band in bands(told, 9.0)] == [(1.1, 2.9, "kill", ["n1"])]


@pytest.mark.parametrize("last", [[], [step(3.0, 1, "not healed", reason="it still drops")]])
def test_a_fault_that_was_not_seen_to_heal_lasts_until_the_end(last):
    (band,) = bands(steps(step(1.0, 1, "in effect"), step(2.0, 1, "ended"), *last), 9.0)
    assert (band.start, band.end) == (1.0, 9.0)
    assert "not seen to heal" in band.words


def test_faults_of_the_same_time_are_in_rows_of_their_own_and_later_ones_in_the_first():
    told = steps(
        *(step(at, number, "in effect") for number, at in ((1, 1.0), (2, 1.5), (3, 4.0))),
        *(step(at, number, "healed") for number, at in ((1, 3.0), (2, 3.5), (3, 5.0))),
    )
    assert [band.row for band in bands(told, 9.0)] == [0, 1, 0]


def test_a_fault_that_never_took_hold_is_no_band_and_is_listed_with_its_reason():
    told = steps(step(5.0, 4, "asked"), step(5.1, 4, "skipped", reason="no leader is known"))
    assert bands(told, 9.0) == []
    assert untaken(told) == [{"fault": "fault 4: kill of n1", "at": "5.10 s", "why": "no leader is known"}]


def test_a_step_that_is_told_by_several_histories_counts_once():
    told = steps(*((time, kind, value) for time, kind, value in fault_steps()))
    assert len(bands(told + told, 9.0)) == len(bands(told, 9.0)) == 3


def test_a_role_lasts_until_the_next_one_and_what_was_before_the_start_is_cut_off():
    log = [entry(-1.0, "role", role="follower", term=1), entry(2.0, "role", role="leader", term=2)]
    (lane,) = lanes(["n1"], log, [], 5.0)
    assert lane.roles == [Span(0.0, 2.0, "follower", 1), Span(2.0, 5.0, "leader", 2)]
    assert lane.words == "n1 led term 2 from 2.00 s to 5.00 s, and followed otherwise."


def test_roles_are_read_from_what_older_logs_say_of_elections():
    log = [
        entry(0.0, "follows", leader="n2", term=1),
        entry(1.0, "campaigns", term=2),
        entry(2.0, "elected", term=2),
        entry(3.0, "leader steps down", term=3, leader=None),
    ]
    (lane,) = lanes(["n1"], log, [], 4.0)
    assert [span.what for span in lane.roles] == ["follower", "candidate", "leader", "follower"]
    assert lane.roles[0].words == "follows n2"


def test_a_node_is_down_from_its_exit_to_its_start_and_has_no_role_then():
    log = [
        entry(0.0, "role", role="leader", term=1),
        entry(1.0, "exit", source="supervisor", reason="killed by fault"),
        entry(1.1, "role", role="follower", term=1),
        entry(2.0, "start", source="supervisor"),
        entry(2.5, "listens", source="supervisor", incarnation=2),
        entry(2.5, "starts", incarnation=2),
    ]
    (lane,) = lanes(["n1"], log, [], 4.0)
    assert spans(lane.roles) == [(0.0, 1.0, "leader")]
    assert spans(lane.states) == [(1.0, 2.0, "down"), (2.0, 2.5, "starting")]
    assert lane.boots == [(2.5, 2)]


def test_without_a_supervisors_log_a_kill_tells_who_was_down():
    band = Band(1.0, 2.0, 1, "kill", ["n1"], "fault 1: kill of n1")
    (lane,) = lanes(["n1"], [entry(0.0, "role", role="leader", term=1)], [band], 4.0)
    assert spans(lane.states) == [(1.0, 2.0, "down")]
    assert spans(lane.roles) == [(0.0, 1.0, "leader")]


@pytest.mark.parametrize(("kind", "state"), [("pause", "paused"), ("partition", "cut off")])
def test_pauses_and_partitions_show_on_the_nodes_they_hit_and_on_no_other(kind, state):
    band = Band(1.0, 2.0, 1, kind, ["n1"], "words")
    hit, spared = lanes(["n1", "n2"], [], [band], 4.0)
    assert spans(hit.states) == [(1.0, 2.0, state)]
    assert spared.states == []
    assert hit.words == f"n1 was {state} 1.00 s to 2.00 s."


def test_of_a_node_that_wrote_nothing_nothing_is_claimed():
    (lane,) = lanes(["n1"], [], [], 4.0)
    assert (lane.roles, lane.states, lane.words) == ([], [], "n1: nothing is known of its roles.")


def test_a_long_life_is_told_in_a_sentence_that_ends():
    log = [entry(float(n), "role", role=("leader", "follower")[n % 2], term=n) for n in range(60)]
    (lane,) = lanes(["n1"], log, [], 60.0)
    assert lane.words.count("led term") == 12
    assert "and 18 times more" in lane.words


def test_a_view_changes_with_what_a_node_says_and_ends_with_the_node():
    log = [
        entry(-1.0, "membership", peer="n2", new="alive"),
        entry(1.0, "membership", peer="n2", new="suspect"),
        entry(1.5, "membership", peer="n2", new="suspect"),
        entry(2.0, "membership", peer="n2", new="failed"),
        entry(3.0, "exit", source="supervisor"),
    ]
    first, second = views(["n1", "n2"], log, 9.0)
    assert spans(first.spans) == [(0.0, 1.0, "alive"), (1.0, 2.0, "suspect"), (2.0, 3.0, "failed")]
    assert first.words == "n1 held n2 suspect 1.00 s to 2.00 s, failed 2.00 s to 3.00 s."
    assert (second.spans, second.words) == ([], "n2 said nothing of n1.")


def test_what_the_supervisor_heard_of_views_counts_only_where_the_node_said_nothing():
    heard = [
        entry(1.2, "membership", node=node, peer="n3", state="failed", source="supervisor") for node in ("n1", "n2")
    ]
    log = [entry(1.0, "membership", peer="n3", new="alive"), *heard]
    found = {(view.node, view.peer): spans(view.spans) for view in views(["n1", "n2", "n3"], log, 2.0)}
    assert found["n1", "n3"] == [(1.0, 2.0, "alive")]
    assert found["n2", "n3"] == [(1.2, 2.0, "failed")]
