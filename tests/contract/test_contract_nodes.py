"""The contract of a user's node: what its hooks are told, what it may ask for, and how it ends, in either world."""

from itertools import pairwise

import pytest
from contract_nodes import Note, Scripted
from contract_waiting import DRIFT_MAX, pass_time, settle

from testbed import Node, Refused, Unknown, UsageError


class Speechless(Node):
    """A node without a hook of its own."""


def heard(client, node):
    return client.request("what", to=node)["heard"]


def test_what_was_saved_before_a_reply_is_there_after_a_kill_and_what_was_deleted_is_not(scripted):
    client = scripted.client()
    starts = client.request({"load": "starts"}, to="n1")
    pairs = {"b": {"deep": [None, True, 0.5]}, "aa": "x", "a": 1, "gone": 9, "ab": 2}
    client.request({"save": pairs, "delete": ["ab", "never"]}, to="n1")
    client.request({"save": {"aa": "y"}, "delete": ["gone"]}, to="n1")
    scripted.restart("n1")
    assert client.request({"load": "b"}, to="n1") == {"deep": [None, True, 0.5]}
    assert client.request({"load": "gone"}, to="n1") == client.request({"load": "ab"}, to="n1") == "nothing"
    assert client.request({"items": "a"}, to="n1") == [["a", 1], ["aa", "y"]]
    assert client.request({"load": "b"}, to="n2") == "nothing"
    assert client.request({"load": "starts"}, to="n1") == starts + 1


def test_what_a_node_only_remembered_is_gone_after_a_restart(scripted):
    client = scripted.client()
    assert client.request("add", to="n1") > 0
    scripted.restart("n1")
    assert client.request("add", to="n1") == 1


def test_timers_fire_in_their_order_once_and_never_early_and_a_cancelled_one_not_at_all(scripted):
    client = scripted.client()
    timers = [["last", 0.2], ["first", 0.01], ["never", 0.03], ["replaced", 0.02], ["replaced", 0.04]]
    plans = {"first": {"timers": [["replaced", 0.1]], "cancel": ["never", "unknown"]}}
    set_at = client.request({"timers": timers, "plans": plans}, to="n1")
    scripted.wait_for(lambda: len(client.request("what", to="n1")["fired"]) >= 3, "three timers")
    pass_time(scripted, 0.1)
    fired = client.request("what", to="n1")["fired"]
    assert [name for name, _ in fired] == ["first", "replaced", "last"]
    first, replaced, last = (at for _, at in fired)
    assert first >= set_at + 0.01
    assert replaced >= first + 0.1
    assert last >= set_at + 0.2


def test_timers_do_not_survive_a_restart(scripted):
    client = scripted.client()
    client.request({"timers": [["old", 0.2]], "plans": {}}, to="n1")
    scripted.restart("n1")
    client.request({"timers": [["new", 0.3]], "plans": {}}, to="n1")
    scripted.wait_for(lambda: bool(client.request("what", to="n1")["fired"]), "the new timer")
    assert [name for name, _ in client.request("what", to="n1")["fired"]] == ["new"]


def test_a_message_reaches_its_peer_alone_and_a_publication_every_peer_but_its_sender(scripted):
    client = scripted.client()
    client.request({"send": ["n2", {"for": ["n2"]}]}, to="n1")
    client.request({"publish": "for all"}, to="n1")
    for_all = ["n1", "str", "for all"]
    for node in ("n2", "n3"):
        scripted.wait_for(lambda node=node: for_all in heard(client, node), f"{node} to hear")
    scripted.wait_for(lambda: len(heard(client, "n2")) == 2, "n2 to hear twice")
    assert sorted(heard(client, "n2")) == [["n1", "dict", {"for": ["n2"]}], for_all]
    assert heard(client, "n3") == [for_all]
    assert heard(client, "n1") == []


def test_messages_to_one_peer_arrive_in_order_where_no_rule_says_otherwise(scripted):
    client = scripted.client()
    for number in range(20):
        client.request({"send": ["n2", number]}, to="n1")
    scripted.wait_for(lambda: len(heard(client, "n2")) == 20, "all messages")
    assert [message for _, _, message in heard(client, "n2")] == list(range(20))


def test_declared_messages_arrive_as_their_types_and_equal(scripted):
    client = scripted.client()
    assert client.request(Note("hello", [5, 6]), to="n1") == Note("HELLO", [5, 6, 2])
    client.request({"note": ["n2", "typed"]}, to="n1")
    scripted.wait_for(lambda: len(heard(client, "n2")) == 2, "n2 to hear")
    assert sorted(heard(client, "n2")) == [["n1", "Note", "typed"], ["n1", "Note", "typed to all"]]
    scripted.wait_for(lambda: heard(client, "n3") == [["n1", "Note", "typed to all"]], "n3 to hear")


def test_nothing_is_shared_between_nodes_nor_with_what_they_saved(scripted):
    client = scripted.client()
    client.request({"change": "n2"}, to="n1")
    scripted.wait_for(lambda: bool(heard(client, "n2")), "n2 to hear")
    assert heard(client, "n2") == [["n1", "dict", {"list": [1, 2]}]]
    assert client.request({"load": "list"}, to="n1") == {"list": [1, 2]}
    scripted.restart("n1")
    assert client.request({"load": "list"}, to="n1") == {"list": [1, 2]}


def test_what_a_node_shows_is_in_its_status(scripted):
    client = scripted.client()
    count = client.request("add", to="n2")
    assert scripted.status()["n2"].extra["count"] == count


def test_a_refusal_carries_its_reason_and_what_comes_after_it_does_nothing(scripted):
    client = scripted.client()
    with pytest.raises(Refused, match="not today"):
        client.request({"refuse": "not today"}, to="n1")
    assert client.request("who", to="n1") == "n1"
    with pytest.raises(Refused, match="Scripted answers no requests"):
        client.request({"what": "is this"}, to="n1")


def test_a_node_without_hooks_runs_and_refuses(new_cluster):
    cluster = new_cluster(2, node=Speechless)
    settle(cluster)
    with pytest.raises(Refused, match="Speechless answers no requests"):
        cluster.client().request("anything")
    assert {found.extra for found in cluster.status().values()} == {None}


def test_an_exception_in_a_hook_is_a_crash_of_that_node_alone_and_its_step_has_no_effect(scripted):
    client = scripted.client()
    count = len(scripted.world.exits())
    with pytest.raises(Unknown, match="connection closed"):
        client.request({"crash": "on purpose"}, to="n3")
    scripted.wait_for(lambda: scripted.status()["n3"].state == "down", "n3 down")
    assert scripted.status()["n3"].note == "crashed: RuntimeError: on purpose"
    assert [(exit.node, exit.expected, exit.reason) for exit in scripted.world.exits()[count:]] == [
        ("n3", False, "crashed: RuntimeError: on purpose")
    ]
    scripted.wait_for(
        lambda: [scripted.status()[node].views["n3"] for node in ("n1", "n2")] == ["failed"] * 2, "n3 held failed"
    )
    assert heard(client, "n1") == heard(client, "n2") == []  # what it had published just before
    scripted.start_node("n3")
    assert client.request({"load": "last words"}, to="n3") == "nothing"


def test_a_node_that_raises_in_on_start_keeps_a_cluster_from_starting_unless_that_is_tolerated(new_cluster):
    with pytest.raises(UsageError, match="n2: crashed: RuntimeError: will not start"):
        new_cluster(2, node=Scripted, options={"fail_to_start": ["n2"]})
    cluster = new_cluster(2, node=Scripted, options={"fail_to_start": ["n2"]}, tolerant=True)
    assert cluster.client().request("who", to="n1") == "n1"
    status = cluster.status()["n2"]
    assert (status.state, status.note) == ("down", "crashed: RuntimeError: will not start")
    with pytest.raises(UsageError, match="n2: could not be started: crashed: RuntimeError: will not start"):
        cluster.start_node("n2")


# --- restarts ---


def crash(cluster, client, node):
    """Have a hook of the node raise; returns once the exit is recorded."""
    count = len(cluster.world.exits())
    with pytest.raises(Unknown):
        client.request({"crash": "again"}, to=node)
    cluster.wait_for(lambda: len(cluster.world.exits()) > count, "the exit to be recorded")


def test_a_crashed_node_stays_down_until_it_is_started_if_restarts_are_never_made(scripted):
    client = scripted.client()
    crash(scripted, client, "n1")
    pass_time(scripted, 0.5)  # five times the shortest pause before a restart
    assert (scripted.status()["n1"].state, scripted.status()["n1"].note) == ("down", "crashed: RuntimeError: again")
    scripted.start_node("n1")
    assert client.request("who", to="n1") == "n1"


def test_a_crashed_node_is_restarted_on_failure_and_given_up_when_that_does_not_help(new_cluster):
    cluster = new_cluster(2, node=Scripted, restart="on-failure")
    client = cluster.client()
    for restarts in range(5):
        crash(cluster, client, "n1")
        cluster.wait_for(lambda: cluster.status()["n1"].state == "up", "n1 up again")
        assert client.request({"load": "starts"}, to="n1") == restarts + 2
    crash(cluster, client, "n1")
    cluster.wait_for(lambda: "gives up" in (cluster.status()["n1"].note or ""), "the world to give up")
    status = cluster.status()["n1"]
    assert status.state == "down"
    assert status.note.startswith("crashed: RuntimeError: again; gives up: ended again after 5 restarts")
    ends = [exit.at for exit in cluster.world.exits()]
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(ends))
    cluster.start_node("n1")  # by command it starts all the same
    assert client.request({"load": "starts"}, to="n1") == 7
    assert cluster.status()["n2"].state == "up"


def test_what_was_killed_or_stopped_on_command_is_not_restarted_and_is_no_crash(new_cluster):
    cluster = new_cluster(2, node=Scripted, restart="always")
    for _ in range(6):
        cluster.kill("n1")
        cluster.start_node("n1")
    cluster.kill("n1")
    cluster.terminate("n2")
    pass_time(cluster, 0.5)
    assert {found.state for found in cluster.status().values()} == {"down"}
    assert [exit.reason for exit in cluster.world.exits()] == ["killed by fault"] * 7 + ["stopped as asked"]


# --- time and chance ---


def test_a_nodes_time_never_goes_back_and_passes_as_the_worlds_does(scripted):
    client, world = scripted.client(), scripted.world
    instants = []
    for _ in range(2):
        before = world.now()
        told = client.request("time", to="n1")
        instants.append((before, told["now"], world.now()))
        pass_time(scripted, 0.2)
    (first_before, first, first_after), (second_before, second, second_after) = instants
    assert first_before <= first_after <= second_before <= second_after
    assert (second_before - first_after) * (1 - DRIFT_MAX) <= second - first
    assert second - first <= (second_after - first_before) * (1 + DRIFT_MAX)
    assert told["went_back"] is False
    assert told["begun_at"] < first


def test_a_nodes_dice_are_its_own_and_its_lifes_and_equal_for_equal_seeds(new_cluster):
    rolls = []
    for seed in (5, 5, 6):
        cluster = new_cluster(2, node=Scripted, seed=seed)
        client = cluster.client()
        lives = [client.request("rolls", to="n1"), client.request("rolls", to="n2")]
        cluster.restart("n1")
        rolls.append([*lives, client.request("rolls", to="n1")])
        cluster.stop()
    assert rolls[0] == rolls[1]
    assert len({tuple(rolled) for rolled in rolls[0] + rolls[2]}) == 6
