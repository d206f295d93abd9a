"""A user's node as real processes: every hook and everything a node can ask for."""

import pytest
from live_nodes import Note, Obedient
from watching import log_lines, settled

from testbed import Cluster, Node, Refused, Unknown, UsageError
from testbed.live import clock


class Greeter(Node):
    """The node of the documentation."""

    def on_start(self):
        self.set_timer("tick", after=0.05)
        self.met = []

    def on_message(self, sender, message):
        if message["from"] not in self.met:
            self.met.append(message["from"])

    def on_request(self, request, body):
        self.reply(request, {"hello": self.id, "met": sorted(self.met)})

    def on_timer(self, name):
        self.publish({"from": self.id})
        self.set_timer(name, after=0.05)


def test_a_node_of_twenty_lines_meets_its_peers(new_cluster):
    cluster = new_cluster(node=Greeter)
    client = cluster.client()
    cluster.wait_for(lambda: client.request("who", to="n2")["met"] == ["n1", "n3"], "n2 to meet n1 and n3")
    assert client.request("who", to="n1", timeout=5.0)["hello"] == "n1"
    assert client.request("who")["hello"] in cluster.nodes


def test_what_was_saved_before_a_reply_is_there_after_a_kill_and_what_was_deleted_is_not(obedient):
    client = obedient.client()
    for key, value in (("a", 1), ("b", {"deep": [None, True]}), ("aa", "x"), ("gone", 9)):
        client.request({"save": [key, value]}, to="n1")
    client.request({"delete": "gone"}, to="n1")
    obedient.restart("n1")
    assert client.request({"load": "b"}, to="n1") == {"deep": [None, True]}
    assert client.request({"load": "gone"}, to="n1") is None
    assert client.request({"items": "a"}, to="n1") == [["a", 1], ["aa", "x"]]
    assert client.request({"load": "a"}, to="n2") is None
    assert obedient.status()["n1"].extra["starts"] == 2


def test_timers_fire_in_their_order_and_a_cancelled_one_does_not(obedient):
    client = obedient.client()
    client.request({"timers": ["second", "first", "never"]}, to="n1")
    obedient.wait_for(lambda: len(client.request("what", to="n1")["fired"]) == 2, "two timers")
    assert client.request("what", to="n1")["fired"] == ["first", "second"]


def test_a_publication_reaches_every_peer_and_not_its_sender(obedient):
    client = obedient.client()
    client.request({"publish": {"news": 1}}, to="n1")
    for node in ("n2", "n3"):
        obedient.wait_for(
            lambda node=node: ["n1", "dict", {"news": 1}] in client.request("what", to=node)["heard"], f"{node} to hear"
        )
    assert client.request("what", to="n1")["heard"] == []


def test_declared_messages_arrive_as_their_types(new_cluster):
    cluster = new_cluster(node=Obedient)
    client = cluster.client()
    assert client.request(Note("hello", 3), to="n1") == Note("HELLO", 0)
    settled(cluster)
    client.request({"note": "n2", "text": "typed"}, to="n1")
    cluster.wait_for(lambda: ["n1", "Note", "typed"] in client.request("what", to="n2")["heard"], "n2 to hear")


def test_what_on_status_answers_shows_in_status(obedient):
    assert obedient.status()["n1"].extra["starts"] == 1
    assert obedient.status()["n1"].role is None
    assert obedient.leader is None


def test_a_hook_that_raises_ends_its_node_as_crashed_and_the_others_hold_it_failed(obedient):
    with pytest.raises(Unknown):
        obedient.client().request({"crash": "on purpose"}, to="n3")
    obedient.wait_for(lambda: obedient.status()["n3"].state == "down", "n3 down")
    assert obedient.status()["n3"].note == "crashed: RuntimeError: on purpose"
    exit = obedient.world.exits()[-1]
    assert (exit.node, exit.expected, exit.reason) == ("n3", False, "crashed: RuntimeError: on purpose")
    settled(obedient)
    assert obedient.status()["n1"].views["n3"] == "failed"
    assert "on purpose" in (obedient.directory / "nodes" / "n3" / "output.log").read_text()
    obedient.start_node("n3")


def test_a_node_that_raises_in_on_start_keeps_a_cluster_from_starting(tmp_path):
    cluster = Cluster(3, "live_nodes:Obedient", directory=tmp_path, options={"fail_to_start": ["n2"]})
    with pytest.raises(UsageError, match="n2: crashed: RuntimeError: will not start"):
        cluster.start()


def test_a_node_may_put_off_its_end_for_a_while(new_cluster):
    cluster = new_cluster(2, "live_nodes:Obedient", options={"linger": 0.4})
    begun = clock.now()
    cluster.terminate("n1")
    assert clock.now() - begun >= 0.4
    assert cluster.world.exits()[-1].reason == "stopped as asked"


def test_a_refusal_carries_its_reason_and_what_comes_after_it_does_nothing(obedient):
    client = obedient.client()
    with pytest.raises(Refused, match="not today"):
        client.request({"refuse": "not today"}, to="n1")
    assert client.request("who", to="n1")["me"] == "n1"


def test_a_reply_that_comes_too_late_or_twice_reaches_no_later_request(obedient):
    client = obedient.client()
    with pytest.raises(Unknown, match="timeout"):
        client.request({"answer_after": 0.4}, to="n1", timeout=0.1)
    obedient.wait_for(lambda: "answer" in client.request("what", to="n1")["fired"], "the late answer to have left")
    assert client.request("who", to="n1")["me"] == "n1"
    assert client.request({"load": "nothing"}, to="n1") is None


def refused(client, node):
    """Whether a request to a dead node is refused; until the closed connection is noticed it is unknown, never more."""
    try:
        client.request("who", to=node, timeout=0.5)
    except Refused:
        return True
    except Unknown:
        return False
    pytest.fail(f"{node} is dead and answered")


def test_a_request_to_a_node_that_is_down_is_refused_and_to_one_that_dies_unknown(obedient):
    client = obedient.client()
    obedient.kill("n3")
    obedient.wait_for(lambda: refused(client, "n3"), "the client to notice that n3 is down")
    with pytest.raises(Refused, match="no node could be reached"):
        client.request("who", to="n3", timeout=0.5)
    assert client.request("who")["me"] in ("n1", "n2")
    with pytest.raises(Unknown, match="connection closed"):
        client.request({"crash": "now"}, to="n2")
    with pytest.raises(UsageError, match="n9"):
        client.request("who", to="n9")


def test_ctrl_c_on_the_terminal_is_not_for_nodes(obedient):
    assert obedient.client().request("who", to="n1")["sigint"] is True


def test_a_membership_change_is_logged_by_its_node(obedient):
    obedient.kill("n3")
    settled(obedient)
    assert any(line["text"] == "membership" and line["new"] == "failed" for line in log_lines(obedient, "n1"))
