"""The contract of faults: what a kill, a stop, a pause and a link rule do to a node and its links, in either world."""

import pytest
from contract_asking import Asker
from contract_nodes import Note, Scripted
from contract_waiting import DRIFT_MAX, changes_of, counted, obey, pass_time, settle, views_of

from testbed import Unknown, UsageError
from testbed.base.links import CLIENTS, LinkRule
from testbed.client import PlainRequest


def heard(client, node, sender):
    """What the node heard from that peer, in order."""
    return [message for who, _, message in client.request("what", to=node)["heard"] if who == sender]


def received(cluster, node, sender):
    """Messages that were delivered to the node from that peer, heartbeats among them."""
    return cluster.status()[node].received[sender]


# --- processes ---


def test_status_shows_each_node_as_it_is(scripted):
    scripted.client().request({"publish": "x"}, to="n1")
    before = scripted.world.now()
    status = scripted.status()
    assert list(status) == ["n1", "n2", "n3"] == list(scripted.nodes) == list(scripted.world.nodes)
    for node, found in status.items():
        peers = {peer for peer in scripted.nodes if peer != node}
        assert (found.id, found.state, found.note) == (node, "up", None)
        assert found.incarnation >= 1
        assert found.views == dict.fromkeys(peers, "alive")
        assert set(found.received) == peers
        assert min(found.received.values()) > 0
        assert found.extra["waiting"] == []
        assert before <= found.reported_at <= scripted.world.now()
        assert (found.role, found.term, found.leader) == (None, None, None)  # it elects nobody
    assert len({found.pid for found in status.values()}) == 3
    assert scripted.leader is None


def test_a_killed_node_is_down_as_expected_held_failed_and_comes_back_as_a_newer_incarnation(scripted):
    client = scripted.client()
    before, count, asked_at = scripted.status()["n3"], len(scripted.world.exits()), scripted.world.now()
    scripted.kill("n3")
    status = scripted.status()["n3"]
    assert (status.state, status.pid, status.note) == ("down", None, "killed by fault")
    (exit,) = scripted.world.exits()[count:]
    assert (exit.node, exit.pid, exit.expected, exit.reason) == ("n3", before.pid, True, "killed by fault")
    assert asked_at <= exit.at <= scripted.world.now()
    scripted.wait_for(lambda: views_of(scripted, "n3") == ["failed", "failed"], "n3 held failed")
    assert changes_of(client, "n1", "n3")[-2:] == ["suspect", "failed"]
    scripted.start_node("n3")
    scripted.wait_for(lambda: views_of(scripted, "n3") == ["alive", "alive"], "n3 held alive")
    settle(scripted)
    assert changes_of(client, "n1", "n3")[-1] == "alive"
    after = scripted.status()["n3"]
    assert after.incarnation > before.incarnation
    assert after.note is None


def test_a_node_asked_to_stop_says_goodbye_and_is_held_failed_long_before_a_suspicion_would_end(new_cluster):
    cluster = new_cluster(node=Scripted, heartbeat=1.0, election_timeout=60.0)
    settle(cluster)
    cluster.terminate("n3")
    status = cluster.status()["n3"]
    assert (status.state, status.note) == ("down", "stopped as asked")
    assert [(exit.node, exit.expected, exit.reason) for exit in cluster.world.exits()] == [
        ("n3", True, "stopped as asked")
    ]
    # a closed connection convicts nobody before eight heartbeats are over
    cluster.wait_for(lambda: views_of(cluster, "n3") == ["failed", "failed"], "n3 held failed", timeout=5)
    assert [changes_of(cluster.client(), node, "n3")[-1] for node in ("n1", "n2")] == ["failed", "failed"]


def test_a_paused_node_is_held_failed_and_on_waking_convicts_nobody_and_refutes(scripted):
    client = scripted.client()
    before = scripted.status()["n3"]
    scripted.pause("n3")
    assert (scripted.status()["n3"].state, scripted.status()["n3"].pid) == ("paused", before.pid)
    scripted.wait_for(lambda: views_of(scripted, "n3") == ["failed", "failed"], "n3 held failed")
    pass_time(scripted, 0.3)
    scripted.resume("n3")
    settle(scripted)
    assert "failed" not in changes_of(client, "n3", "n1") + changes_of(client, "n3", "n2")
    assert [changes_of(client, node, "n3")[-1] for node in ("n1", "n2")] == ["alive", "alive"]
    after = scripted.status()["n3"]
    assert after.incarnation > before.incarnation  # it refuted its conviction
    assert (after.state, after.pid) == ("up", before.pid)


def test_a_node_is_told_of_each_connection_when_it_stands_and_when_it_closed(scripted):
    def are_connected(*pairs):
        status = scripted.status()
        return all(status[node].extra["connected"] == peers for node, peers in pairs)

    everybody = [("n1", ["n2", "n3"]), ("n2", ["n1", "n3"]), ("n3", ["n1", "n2"])]
    scripted.wait_for(lambda: are_connected(*everybody), "all connected")
    scripted.kill("n3")
    scripted.wait_for(lambda: are_connected(("n1", ["n2"]), ("n2", ["n1"])), "n1 and n2 alone")
    scripted.start_node("n3")
    scripted.wait_for(lambda: are_connected(*everybody), "all connected again")


def test_a_paused_node_does_nothing_and_loses_nothing(scripted):
    client = scripted.client()
    client.request({"timers": [["while paused", 0.1]], "plans": {}}, to="n2")
    asker = Asker(scripted, "n2")
    scripted.pause("n2")
    asker.ask(PlainRequest("who", "n2"))
    with pytest.raises(Unknown, match="timeout"):
        client.request("who", to="n2", timeout=0.3)
    assert asker.outcomes == []
    resumed_after = scripted.world.now()
    scripted.resume("n2")
    scripted.wait_for(lambda: bool(asker.outcomes), "the answer")
    assert (asker.outcomes[0].type, asker.outcomes[0].value) == ("ok", "n2")
    scripted.wait_for(lambda: bool(client.request("what", to="n2")["fired"]), "the timer")
    fired = client.request("what", to="n2")["fired"][0][1]
    elapsed = client.request("time", to="n2")["now"] - fired
    # it fired after the node was resumed
    assert elapsed <= (scripted.world.now() - resumed_after) * (1 + DRIFT_MAX)


def test_a_restart_that_no_timeout_shows_is_noticed(scripted):
    client = scripted.client()
    before = scripted.status()["n3"].incarnation
    scripted.world.kill("n3")
    scripted.world.start("n3")  # without waiting for anything
    scripted.wait_for(lambda: scripted.status()["n3"].incarnation > before, "a new process")
    for node in ("n1", "n2"):
        scripted.wait_for(lambda node=node: changes_of(client, node, "n3")[-1:] == ["alive"], f"{node} to be told")
    settle(scripted)


def test_a_node_can_be_killed_stopped_and_started_in_whatever_state_it_is(scripted):
    count = len(scripted.world.exits())
    for end in (scripted.kill, scripted.terminate):
        scripted.pause("n2")
        end("n2")
        scripted.start_node("n2")
    for end in (scripted.world.kill, scripted.world.terminate):
        scripted.kill("n2")
        scripted.world.start("n2")
        end("n2")
        scripted.wait_for(lambda: scripted.status()["n2"].state == "down", "n2 down")
        scripted.start_node("n2")
    scripted.kill("n2")
    scripted.kill("n2")  # of a node that is down: nothing
    scripted.restart("n2")
    assert scripted.status()["n2"].state == "up"
    assert {exit.expected for exit in scripted.world.exits()[count:]} == {True}


def test_faults_on_nodes_that_are_not_there_or_down_are_the_callers_mistake(scripted):
    for fault in (scripted.kill, scripted.terminate, scripted.pause, scripted.resume, scripted.start_node):
        with pytest.raises(UsageError, match="n7"):
            fault("n7")
    with pytest.raises(UsageError, match="n7"):
        scripted.partition(["n7"])
    scripted.kill("n1")
    with pytest.raises(UsageError, match="is down"):
        scripted.pause("n1")


def test_a_node_may_put_off_its_end_for_a_while(new_cluster):
    cluster = new_cluster(2, node=Scripted, options={"linger": 0.3})
    begun = cluster.world.now()
    cluster.terminate("n1")
    assert cluster.world.now() >= begun + 0.3 * (1 - DRIFT_MAX)
    assert cluster.world.exits()[-1].reason == "stopped as asked"


# --- links ---


@pytest.mark.parametrize(("mode", "counter"), [("drop", "cut"), ("reset", "cut"), ("hold", "held")])
def test_a_cut_stops_every_message_and_after_the_heal_only_what_was_held_is_delivered(scripted, mode, counter):
    client = scripted.client()
    scripted.partition(["n1"], mode=mode)
    stopped, before, others = counted(scripted, counter), received(scripted, "n2", "n1"), received(scripted, "n2", "n3")
    for number in range(3):
        client.request({"send": ["n2", number]}, to="n1")
    client.request({"publish": "to all"}, to="n1")
    scripted.wait_for(lambda: counted(scripted, counter) >= stopped + 4, "the messages to meet the cut")
    scripted.wait_for(lambda: received(scripted, "n2", "n3") >= others + 5, "five heartbeats on a link that is whole")
    assert received(scripted, "n2", "n1") == before
    assert heard(client, "n2", "n1") == []
    scripted.heal()
    client.request({"send": ["n2", "after"]}, to="n1")
    scripted.wait_for(lambda: "after" in heard(client, "n2", "n1"), "a message after the heal")
    if mode == "hold":
        scripted.wait_for(lambda: len(heard(client, "n2", "n1")) == 5, "what was held")
        assert [message for message in heard(client, "n2", "n1") if message in (0, 1, 2)] == [0, 1, 2]
        assert "to all" in heard(client, "n2", "n1")
    else:
        assert heard(client, "n2", "n1") == ["after"]


def test_a_one_way_cut_stops_one_direction_only(scripted):
    client = scripted.client()
    obey(scripted, [LinkRule("n1", "n2", "drop")])
    before, others = received(scripted, "n2", "n1"), received(scripted, "n1", "n2")
    for _ in range(3):
        client.request({"send": ["n2", "lost"]}, to="n1")
        client.request({"send": ["n1", "arrives"]}, to="n2")
    scripted.wait_for(lambda: heard(client, "n1", "n2") == ["arrives"] * 3, "n1 to hear n2")
    scripted.wait_for(lambda: received(scripted, "n1", "n2") >= others + 10, "heartbeats the other way")
    assert received(scripted, "n2", "n1") == before
    assert heard(client, "n2", "n1") == []
    assert views_of(scripted, "n1") == views_of(scripted, "n2") == ["alive", "alive"]  # n3 hears both


def test_a_cut_between_clients_and_a_node_touches_no_other_link(scripted):
    client = scripted.client()
    before = scripted.status()["n1"].extra["count"]
    obey(scripted, [LinkRule(CLIENTS, "n1", "drop")])
    with pytest.raises(Unknown, match="timeout"):
        client.request("add", to="n1", timeout=0.3)
    obey(scripted, [LinkRule("n1", CLIENTS, "drop")])
    with pytest.raises(Unknown, match="timeout"):
        client.request("add", to="n1", timeout=0.3)
    scripted.heal()
    obey(scripted, [LinkRule(CLIENTS, "n1", "hold")])
    asker = Asker(scripted, "n1")
    held = counted(scripted, "held")
    asker.ask(PlainRequest("add", "n1"))
    scripted.wait_for(lambda: counted(scripted, "held") > held, "the request to meet the cut")
    assert client.request("who") in ("n1", "n2", "n3")
    assert client.request("who", to="n2") == "n2"
    assert asker.outcomes == []
    scripted.heal()
    scripted.wait_for(lambda: bool(asker.outcomes), "the answer")
    assert asker.outcomes[0].value == before + 2  # of the first two requests only the second arrived
    assert set(scripted.status()["n1"].views.values()) == {"alive"}


def test_partitions_add_up_and_a_heal_heals_them_all(scripted):
    scripted.partition(["n1"], ["n2"])
    scripted.partition(["n3"], mode="reset")
    assert len(scripted.links) == 6
    scripted.wait_for(
        lambda: not any("alive" in found.views.values() for found in scripted.status().values()), "all to be alone"
    )
    scripted.heal()
    assert scripted.links == []
    settle(scripted)


def test_a_delay_lets_nothing_through_earlier(scripted):
    client = scripted.client()
    obey(scripted, [LinkRule("n1", "n2", delay=0.3)])
    begun = scripted.world.now()
    client.request({"send": ["n2", "late"]}, to="n1")
    client.request({"publish": "late"}, to="n1")
    scripted.wait_for(lambda: bool(heard(client, "n2", "n1")), "a message")
    assert scripted.world.now() >= begun + 0.3
    scripted.wait_for(lambda: len(heard(client, "n2", "n1")) == 2, "both messages")
    assert heard(client, "n3", "n1") == ["late"]


def test_loss_duplication_and_reordering_strike_as_often_as_they_should(scripted):
    client = scripted.client()
    sent = list(range(60))
    for rule, what in (
        (LinkRule("n1", "n2", loss=0.5), "lost"),
        (LinkRule("n1", "n2", duplicate=0.5), "duplicated"),
        (LinkRule("n1", "n2", reorder=0.5), "reordered"),
    ):
        client.request("forget", to="n2")
        obey(scripted, [rule])
        before = counted(scripted, what)
        for number in sent:
            client.request({"send": ["n2", number]}, to="n1")
        scripted.heal()
        client.request({"send": ["n2", "end"]}, to="n1")
        scripted.wait_for(lambda: "end" in heard(client, "n2", "n1"), "the end")
        pass_time(scripted, 0.1)  # what was delayed is due by now
        got = [message for message in heard(client, "n2", "n1") if message != "end"]
        assert counted(scripted, what) > before
        match what:
            case "lost":
                assert got == sorted(set(got))
                assert 10 < len(got) < 50
            case "duplicated":
                assert set(got) == set(sent)
                assert 70 < len(got) < 110
            case "reordered":
                assert sorted(got) == sent


def test_copies_of_a_clients_request_are_carried_out_once(scripted):
    client = scripted.client()
    before = scripted.status()["n1"].extra["count"]
    obey(scripted, [LinkRule(CLIENTS, "n1", duplicate=1.0), LinkRule("n1", CLIENTS, duplicate=1.0)])
    repeated = counted(scripted, "repeated")
    assert [client.request("add", to="n1") for _ in range(5)] == list(range(before + 1, before + 6))
    assert counted(scripted, "repeated") >= repeated + 4
    assert client.request(Note("typed"), to="n1") == Note("TYPED", [0])


def test_link_rules_have_versions_and_reach_nodes_that_were_paused_or_down(scripted):
    client = scripted.client()
    first = scripted.world.set_links([LinkRule("n1", "n2", delay=0.001)])
    scripted.pause("n2")
    scripted.kill("n3")
    rules = [LinkRule("n1", "n2", "drop"), LinkRule("n1", "n3", "drop")]
    version = obey(scripted, rules)
    assert version > first
    status = scripted.status()
    assert status["n1"].links_version == version
    assert status["n2"].links_version < version
    client.request({"publish": "cut"}, to="n1")
    cut = counted(scripted, "cut")
    pass_time(scripted, 0.1)  # rules travel, too: by now they wait at n2's door
    scripted.resume("n2")
    scripted.start_node("n3")
    scripted.wait_for(lambda: {s.links_version for s in scripted.status().values()} == {version}, "all to obey")
    # publications are stopped where they arrive: one that is under way at a heal gets through
    scripted.wait_for(lambda: counted(scripted, "cut") >= cut + 10, "heartbeats to meet the cut")
    for node in ("n2", "n3"):
        client.request({"send": [node, "cut"]}, to="n1")
    scripted.heal()

    def hears_again(node):
        client.request({"send": [node, "after"]}, to="n1")  # at most once, and n3 may not be connected yet
        return bool(heard(client, node, "n1"))

    for node in ("n2", "n3"):
        scripted.wait_for(lambda node=node: hears_again(node), f"{node} to hear n1")
        assert set(heard(client, node, "n1")) == {"after"}


def test_a_paused_node_obeys_new_rules_before_it_looks_at_what_waits_for_it(scripted):
    client = scripted.client()
    scripted.pause("n2")
    client.request({"send": ["n2", "before the cut"]}, to="n1")
    client.request({"publish": "before the cut"}, to="n1")
    version = obey(scripted, [LinkRule("n1", "n2", "drop")])
    pass_time(scripted, 0.1)  # rules and messages travel: by now all of them wait at n2's door
    cut = counted(scripted, "cut")
    scripted.resume("n2")
    scripted.wait_for(lambda: scripted.status()["n2"].links_version == version, "n2 to obey")
    scripted.wait_for(lambda: counted(scripted, "cut") >= cut + 10, "what waited to meet the cut")
    assert heard(client, "n2", "n1") == []
