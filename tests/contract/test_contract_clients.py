"""The contract of clients and of time: what a call may end with, and how a world waits, in either world."""

import msgspec
import pytest
from contract_asking import Asker, Stranger
from contract_nodes import Note, Scripted
from contract_waiting import counted

from testbed import Refused, Unknown, UsageError
from testbed.base.codec import Codec
from testbed.client import PlainRequest
from testbed.core.services.commands import Put, value


class Undeclared(msgspec.Struct):
    """A message that no node knows."""

    text: str


def is_refused(client, operation):
    """Whether an operation on dead nodes is refused; while an attempt may still be on its way it is unknown."""
    outcome = client.outcome(operation, timeout=0.3)
    assert outcome.type != "ok", "a dead node answered"
    assert outcome.type == "info" or outcome.error == "no node could be reached"
    return outcome.type == "fail"


# --- requests to a user's node ---


def test_a_request_goes_to_the_node_that_was_named_or_to_any_that_can_be_reached(scripted):
    client = scripted.client()
    assert [client.request("who", to=node) for node in scripted.nodes] == list(scripted.nodes)
    scripted.kill("n1")
    scripted.kill("n2")
    for node in ("n1", "n2"):
        scripted.wait_for(lambda node=node: is_refused(client, PlainRequest("who", node)), "the client to notice")
    assert [client.request("who") for _ in range(4)] == ["n3"] * 4
    with pytest.raises(UsageError, match="n9"):
        client.request("who", to="n9")


def test_a_request_that_never_left_is_refused_and_finds_its_node_where_that_comes_in_time(scripted):
    client = scripted.client()
    scripted.kill("n3")
    scripted.wait_for(lambda: is_refused(client, PlainRequest("who", "n3")), "the client to notice that n3 is down")
    asker = Asker(scripted, "n3")
    asker.ask(PlainRequest("who", "n3"))
    scripted.wait_for(lambda: asker.asked, "the request to be under way")
    scripted.start_node("n3")
    scripted.wait_for(lambda: bool(asker.outcomes), "the answer")
    assert asker.outcomes[0].value == "n3"


def test_a_request_that_left_and_was_not_answered_is_unknown(scripted):
    client = scripted.client()
    before = scripted.status()["n1"].extra["count"]
    begun = scripted.world.now()
    with pytest.raises(Unknown, match="timeout"):
        client.request("silence", to="n1", timeout=0.3)
    assert scripted.world.now() >= begun + 0.3
    assert scripted.status()["n1"].extra["count"] == before + 1  # it had an effect, and one only


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_request_whose_node_ends_before_it_answers_is_unknown(scripted, end):
    asker = Asker(scripted, "n2")
    asker.ask(PlainRequest({"wait": end}, "n2"))
    scripted.wait_for(lambda: scripted.status()["n2"].extra["waiting"] == [end], "n2 to have the request")
    getattr(scripted, end)("n2")
    scripted.wait_for(lambda: bool(asker.outcomes), "the client to notice")
    assert (asker.outcomes[0].type, asker.outcomes[0].error) == ("info", "connection closed")


def test_a_request_may_be_answered_later_and_a_second_answer_does_nothing(scripted):
    client = scripted.client()
    askers = [Asker(scripted, "n1") for _ in range(2)]
    for asker, name in zip(askers, ("first", "second"), strict=True):
        asker.ask(PlainRequest({"wait": name}, "n1"))
    scripted.wait_for(lambda: len(scripted.status()["n1"].extra["waiting"]) == 2, "n1 to have both requests")
    for asker, name in zip(reversed(askers), ("second", "first"), strict=True):
        assert asker.outcomes == []
        client.request({"answer": name}, to="n1")
        scripted.wait_for(lambda asker=asker: bool(asker.outcomes), "the answer")
    for asker in askers:
        asker.ask(PlainRequest("who", "n1"))
    scripted.wait_for(lambda: all(len(asker.outcomes) == 2 for asker in askers), "the next answers")
    assert [[outcome.value for outcome in asker.outcomes] for asker in askers] == [
        ["answer to first", "n1"],
        ["answer to second", "n1"],
    ]


def test_an_answer_that_comes_too_late_reaches_no_later_request(scripted):
    asker, other = Asker(scripted, "n1"), scripted.client()
    asker.ask(PlainRequest({"wait": "for long"}, "n1"), timeout=0.2)
    scripted.wait_for(lambda: bool(asker.outcomes), "the asker to give up")
    asker.ask(PlainRequest({"wait": "again"}, "n1"))
    scripted.wait_for(lambda: "again" in scripted.status()["n1"].extra["waiting"], "n1 to have the next request")
    other.request({"answer": "for long"}, to="n1")
    other.request({"answer": "again"}, to="n1")
    scripted.wait_for(lambda: len(asker.outcomes) == 2, "the answer")
    assert [outcome.type for outcome in asker.outcomes] == ["info", "ok"]
    assert asker.outcomes[1].value == "answer to again"


def test_what_is_no_message_is_refused_and_counted_and_harms_nobody(scripted):
    garbage = counted(scripted, "garbage")
    unreadable = (b"", b"\xff\xffgarbage", b"\xc1" * 50, Codec((Undeclared,)).encode(Undeclared("x")))
    for data in unreadable:
        stranger = Stranger(scripted, "n1", data)
        scripted.wait_for(lambda stranger=stranger: stranger.answer is not None, "an answer")
        assert stranger.answer.ok is False
    assert counted(scripted, "garbage") == garbage + len(unreadable)
    stranger = Stranger(scripted, "n1", Codec((Note,)).encode(Note("fine")))
    scripted.wait_for(lambda: stranger.answer is not None, "an answer")
    assert stranger.answer.ok is True


def test_what_no_message_can_hold_is_an_error_of_its_caller_alone(service):
    client = service.client()
    for wrong, error in ((object(), TypeError), (Undeclared("x"), TypeError), ("x" * 5_000_000, ValueError)):
        with pytest.raises(error):
            client.kv.put("wrong", wrong)
        with pytest.raises(error):
            client.request(wrong)
    client.kv.put("wrong", "right")
    assert service.client().kv.get("wrong") == "right"
    with pytest.raises(Refused, match="not a request of the replicated service"):
        client.request("who")


def test_an_operation_is_refused_if_it_never_left_and_unknown_if_it_may_have(service):
    client = service.client()
    client.kv.put("gone", 1)
    for node in service.nodes:
        service.pause(node)
    assert client.outcome(Put("gone", value(2)), timeout=0.5).type == "info"
    for node in service.nodes:
        service.resume(node)
    assert service.client().kv.get("gone") in (1, 2)
    for node in service.nodes:
        service.kill(node)
    service.wait_for(lambda: is_refused(client, Put("gone", value(3))), "the client to notice that all are down")


# --- time, and the world ---


def test_time_passes_in_wait_until_its_condition_holds_or_its_timeout_is_over(scripted):
    world = scripted.world
    begun = world.now()
    assert world.wait(lambda: True, 10.0) is True
    assert world.wait(lambda: False, 0.2) is False
    assert world.now() >= begun + 0.2
    seen = world.status()["n2"].received["n1"]
    assert world.wait(lambda: scripted.status()["n2"].received["n1"] > seen, 10.0) is True
    later = world.now() + 0.1
    assert world.wait(lambda: world.now() >= later, 10.0) is True
    with pytest.raises(TimeoutError, match=r"the impossible: not within 0\.1 s"):
        scripted.wait_for(lambda: False, "the impossible", timeout=0.1)


def test_a_stopped_cluster_is_not_running_and_can_be_started_again(new_cluster):
    cluster = new_cluster(2)
    client = cluster.client()
    client.kv.put("x", 1)
    with pytest.raises(UsageError, match="is running already"):
        cluster.start()
    cluster.stop()
    with pytest.raises(UsageError, match="not running"):
        client.kv.get("x")
    with pytest.raises(UsageError, match="not running"):
        cluster.status()
    cluster.start()
    cluster.client().kv.put("x", 2)


def test_clusters_side_by_side_do_not_meet(scripted, new_cluster):
    one, other = new_cluster(2), new_cluster(2, node=Scripted)
    one.client().kv.put("mine", "one")
    other.client().request({"publish": "mine"}, to="n1")
    assert new_cluster(2).client().kv.get("mine") is None
    one.kill("n1")
    assert other.status()["n1"].state == scripted.status()["n1"].state == "up"
    assert other.client().request("what", to="n2")["heard"] in ([], [["n1", "str", "mine"]])
    assert scripted.client().request("what", to="n2")["heard"] == []
