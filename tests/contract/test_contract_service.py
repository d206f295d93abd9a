"""The contract of the replicated service: one leader, one copy, and what was acknowledged stays, in either world."""

import pytest
from contract_asking import Asker, Stranger
from contract_waiting import counted, make_whole, obey, settle

from testbed.base.codec import Codec, Raw, pack, unpack
from testbed.base.links import CLIENTS, LinkRule
from testbed.core import requests
from testbed.core.services.commands import Cas, Get, Put, value


def others(cluster, node):
    return [other for other in cluster.nodes if other != node]


def test_all_nodes_follow_one_leader_in_one_term(service):
    leader = service.wait_for_leader()
    service.wait_for(lambda: len({(s.leader, s.term) for s in service.status().values()}) == 1, "agreement")
    status = service.status()
    assert {node: found.role for node, found in status.items()} == {
        node: "leader" if node == leader else "follower" for node in service.nodes
    }
    assert {found.leader for found in status.values()} == {leader} == {service.leader}


def test_a_missing_key_is_none_and_a_delete_makes_it_missing_whether_it_was_there_or_not(service):
    client = service.client()
    assert client.kv.get("missing") is None
    client.kv.delete("missing")
    client.kv.put("there", {"a": [1, None, "x", 0.5, True]})
    assert client.kv.get("there") == {"a": [1, None, "x", 0.5, True]}
    client.kv.delete("there")
    assert client.kv.get("there") is None


def test_a_compare_and_set_takes_hold_only_where_the_value_is_the_expected_one(service):
    client = service.client()
    assert client.kv.cas("cas", None, 1) is True
    assert client.kv.cas("cas", None, 2) is False
    assert client.kv.cas("cas", True, 2) is False  # 1, 1.0 and true are three values
    assert client.kv.cas("cas", 1.0, 2) is False
    assert client.kv.get("cas") == 1
    assert client.kv.cas("cas", 1, 2) is True
    assert client.kv.cas("cas", 2, None) is True
    assert client.kv.get("cas") is None


def test_every_client_reads_what_any_other_client_has_written(service):
    clients = [service.client() for _ in range(4)]
    for number, client in enumerate(clients):
        client.kv.put("shared", number)
        assert [other.kv.get("shared") for other in clients] == [number] * 4


def test_of_many_compare_and_sets_at_once_that_expect_the_same_value_one_takes_hold(service):
    askers = [Asker(service) for _ in range(6)]
    for round_ in range(3):
        for number, asker in enumerate(askers):
            asker.ask(Cas("contended", value([round_ - 1, "won"] if round_ else None), value([round_, number])))
        service.wait_for(lambda r=round_: all(len(asker.outcomes) > r for asker in askers), "all outcomes")
        types = [asker.outcomes[round_].type for asker in askers]
        assert sorted(types) == ["fail"] * 5 + ["ok"]
        assert service.client().kv.get("contended") == [round_, types.index("ok")]
        service.client().kv.put("contended", [round_, "won"])


def break_by_killing(cluster, node):
    cluster.kill(node)


def break_by_pausing(cluster, node):
    cluster.pause(node)


def break_by_isolating(cluster, node):
    cluster.partition([node])


BREAKS = [break_by_killing, break_by_pausing, break_by_isolating]


@pytest.mark.parametrize("break_", BREAKS)
def test_acknowledged_writes_survive_the_loss_of_the_leader_and_its_return(service, break_):
    client = service.client()
    client.kv.put("before", break_.__name__)
    old = service.wait_for_leader()
    break_(service, old)
    client.kv.put("after", break_.__name__)
    assert [client.kv.get("before"), client.kv.get("after")] == [break_.__name__] * 2
    make_whole(service)
    new = service.wait_for_leader()
    service.wait_for(lambda: service.status()[old].leader == service.leader, "the old leader to follow")
    assert [client.kv.get("before"), client.kv.get("after")] == [break_.__name__] * 2
    assert new in service.nodes


def test_acknowledged_writes_are_there_after_all_nodes_were_killed_at_once(service):
    client = service.client()
    for number in range(10):
        client.kv.put(f"kept{number}", number)
    term = max(status.term for status in service.status().values())
    for node in service.nodes:
        service.world.kill(node)
    service.wait_for(lambda: all(s.state == "down" for s in service.status().values()), "all down")
    for node in service.nodes:
        service.start_node(node)
    assert [client.kv.get(f"kept{number}") for number in range(10)] == list(range(10))
    assert max(status.term for status in service.status().values()) > term


def test_a_leader_that_was_paused_answers_no_read_with_an_overwritten_value(service):
    client = service.client()
    codec = Codec((*requests.REQUESTS, *requests.REPLIES))
    for round_ in range(2):
        client.kv.put("read", "old")
        old = service.wait_for_leader()
        service.pause(old)
        # they wait at the paused leader's door
        readers = [Stranger(service, old, codec.encode(requests.Query(Raw(pack(Get("read")))))) for _ in range(3)]
        service.wait_for(lambda r=readers: all(reader.asked for reader in r), "the reads to be under way")
        client.kv.put("read", round_)
        service.resume(old)
        service.wait_for(lambda r=readers: all(reader.answer for reader in r), "an end of the reads")
        replies = [codec.decode(reader.answer.body) for reader in readers]
        seen = [unpack(reply.result) for reply in replies if not isinstance(reply, requests.NotLeader)]
        assert seen == [round_] * len(seen)
        make_whole(service)


def test_a_leader_without_its_majority_acknowledges_nothing_while_the_majority_goes_on(service):
    client = service.client()
    client.kv.put("cut", "before")
    old = service.wait_for_leader()
    lonely, reader = Asker(service, old), Asker(service, old)
    lonely.ask(Put("cut", value("session is open")))
    service.wait_for(lambda: bool(lonely.outcomes), "a session")
    service.partition([old])
    lonely.ask(Put("cut", value("minority")), timeout=1.2)
    reader.ask(Get("cut"), timeout=1.2)
    client.kv.put("cut", "majority")
    service.wait_for(lambda: len(lonely.outcomes) == 2 and bool(reader.outcomes), "both to give up")
    assert lonely.outcomes[0].type == "ok"
    assert lonely.outcomes[1].type != "ok"
    assert reader.outcomes[0].type != "ok"
    service.wait_for(lambda: service.status()[old].role != "leader", "the old leader to step down")
    service.heal()
    assert client.kv.get("cut") == "majority"
    assert service.client().kv.cas("cut", "majority", "healed") is True


def test_two_of_three_nodes_down_leave_a_service_that_acknowledges_nothing_and_comes_back(service):
    client = service.client()
    client.kv.put("alone", 1)
    survivor = service.wait_for_leader()
    for node in others(service, survivor):
        service.kill(node)
    outcome = client.outcome(Put("alone", value(2)), timeout=0.8)
    assert outcome.type != "ok"
    for node in others(service, survivor):
        service.start_node(node)
    assert client.kv.get("alone") in ((1, 2) if outcome.type == "info" else (1,))
    client.kv.put("alone", 3)
    assert client.kv.get("alone") == 3


def test_a_put_whose_answers_are_lost_is_unknown_never_failed_though_it_took_effect(service):
    leader = service.wait_for_leader()
    asker = Asker(service, leader)
    asker.ask(Put("unanswered", value("session is open")))
    service.wait_for(lambda: bool(asker.outcomes), "a session")
    obey(service, [LinkRule(leader, CLIENTS, "drop")])
    asker.ask(Put("unanswered", value("took effect")), timeout=1.0)
    service.wait_for(lambda: len(asker.outcomes) == 2, "the asker to give up")
    assert [(outcome.type, outcome.error) for outcome in asker.outcomes] == [("ok", None), ("info", "timeout")]
    service.heal()
    assert service.client().kv.get("unanswered") == "took effect"


def test_a_retry_after_a_lost_request_or_reply_has_one_effect(service):
    """Thesis 6.3: a compare-and-set that was carried out twice would refuse its own retry."""
    client = service.client(timeout=20)
    lost = counted(service, "lost")
    obey(
        service,
        [
            rule
            for node in service.nodes
            for rule in (LinkRule(CLIENTS, node, loss=0.25), LinkRule(node, CLIENTS, loss=0.25, duplicate=0.25))
        ],
    )
    number = 0
    while number < 8 or (counted(service, "lost") < lost + 5 and number < 100):
        assert client.kv.cas("retried", number or None, number + 1) is True
        number += 1
    assert counted(service, "lost") >= lost + 5
    service.heal()
    assert client.kv.get("retried") == number


def test_loss_duplicates_and_reordering_between_nodes_leave_the_store_correct(service):
    clients = [service.client(timeout=20) for _ in range(2)]
    before = {what: counted(service, what) for what in ("lost", "duplicated", "reordered")}
    bad = {"delay": 0.001, "jitter": 0.004, "loss": 0.05, "duplicate": 0.3, "reorder": 0.3}
    obey(service, [LinkRule(a, b, **bad) for a in service.nodes for b in others(service, a)])
    for number in range(20):
        assert clients[number % 2].kv.cas("strained", number or None, number + 1) is True
    assert all(counted(service, what) > count for what, count in before.items())
    service.heal()
    assert clients[0].kv.get("strained") == 20
    settle(service)


@pytest.mark.parametrize("outwards", [True, False])
def test_a_leader_cut_off_in_one_direction_only_is_replaced_and_comes_back(service, outwards):
    client = service.client()
    old = service.wait_for_leader()
    obey(
        service,
        [LinkRule(old, node, "drop") if outwards else LinkRule(node, old, "drop") for node in others(service, old)],
    )
    client.kv.put("one way", outwards)
    service.wait_for(lambda: service.leader not in (None, old), "another leader")
    service.wait_for(lambda: service.status()[old].role != "leader", "the old leader to step down")
    service.heal()
    assert client.kv.get("one way") is outwards
    service.wait_for(lambda: len({s.leader for s in service.status().values()}) == 1, "one leader for all")


def test_a_leader_asked_to_stop_is_replaced_long_before_an_election_timeout(new_cluster):
    cluster = new_cluster(heartbeat=1.0, election_timeout=60.0)
    client = cluster.client()
    client.kv.put("replaced", 1)
    old = cluster.wait_for_leader()
    cluster.terminate(old)
    client.kv.put("replaced", 2)
    assert cluster.wait_for_leader(timeout=10) != old
    assert client.kv.get("replaced") == 2


def test_a_reset_shows_the_followers_that_their_leader_is_gone_long_before_its_silence_does(new_cluster):
    cluster = new_cluster(heartbeat=1.0, election_timeout=60.0)
    old = cluster.wait_for_leader()
    cluster.partition([old], mode="reset")
    cluster.wait_for(lambda: cluster.leader not in (None, old), "another leader", timeout=15)


def test_a_node_that_was_away_for_long_catches_up_by_a_snapshot(new_cluster):
    cluster = new_cluster(options={"snapshot_entries": 20, "trailing_entries": 5})
    leader = cluster.wait_for_leader()
    behind, other = others(cluster, leader)
    client = cluster.client()
    had = cluster.status()[behind].extra["last"]
    cluster.kill(behind)
    puts = 0
    while cluster.status()[leader].extra["first"] <= had + 1:
        client.kv.put(f"key{puts % 5}", puts)
        puts += 1
        assert puts < 1000
    last = cluster.status()[leader].extra["applied"]
    cluster.start_node(behind)
    cluster.wait_for(lambda: cluster.status()[behind].extra["applied"] >= last, "catching up")
    cluster.kill(other)  # from here on the node that was behind is half of the majority
    assert [client.kv.get(f"key{number}") for number in range(5)] == [
        max(put for put in range(puts) if put % 5 == number) for number in range(5)
    ]
