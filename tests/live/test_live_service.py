"""The replicated service on real processes: what was acknowledged stays, whatever happens to nodes and links."""

import threading
from pathlib import Path

import pytest
from watching import counter, log_lines, processes_of

from testbed import Refused, Unknown, UsageError
from testbed.base.links import CLIENTS, LinkRule
from testbed.core.services.commands import Put, value
from testbed.live import clock


def via(cluster, node):
    """A client that asks this node first."""
    client = cluster.client()
    client._program._session._next_node = cluster.nodes.index(node)
    return client


def test_every_node_serves_puts_gets_deletes_and_compare_and_sets(service):
    for node in service.nodes:
        client = via(service, node)
        client.kv.put(node, {"a": [1, None, "x"]})
        assert client.kv.get(node) == {"a": [1, None, "x"]}
        assert client.kv.cas(node, {"a": [1, None, "x"]}, 2) is True
        assert client.kv.cas(node, 1, 3) is False
        client.kv.delete(node)
        assert client.kv.get(node) is None
        assert client.kv.cas(node, None, "new") is True


def test_no_acknowledged_put_is_lost_or_done_twice_when_leaders_are_killed(service):
    """R13: Each client counts by compare-and-set: a retry done twice would make the register skip or refuse."""
    acknowledged = {}
    done = threading.Event()

    def count(number):
        client = service.client()
        value = None
        while not done.is_set():
            new = (value or 0) + 1
            assert client.kv.cas(f"counter{number}", value, new), f"{value} -> {new} was done twice or lost"
            acknowledged[number] = value = new

    threads = [threading.Thread(target=count, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        seen = dict(acknowledged)
        service.wait_for(lambda seen=seen: all(acknowledged.get(n, 0) > seen.get(n, 0) + 5 for n in range(4)), "puts")
        leader = service.wait_for_leader()
        service.kill(leader)
        service.wait_for_leader()
        service.start_node(leader)
    done.set()
    for thread in threads:
        thread.join()
    assert {n: service.client().kv.get(f"counter{n}") for n in range(4)} == acknowledged
    assert [exit for exit in service.world.exits() if not exit.expected] == []


def test_what_was_acknowledged_is_there_after_all_nodes_were_killed_at_once(service):
    """R1."""
    client = service.client()
    for round_ in range(3):
        for number in range(10):
            client.kv.put(f"key{number}", [round_, number])
        terms = max(status.term for status in service.status().values())
        for node in service.nodes:
            service.world.kill(node)
        service.wait_for(lambda: all(s.state == "down" for s in service.status().values()), "all down")
        for node in service.nodes:
            service.start_node(node)
        assert [client.kv.get(f"key{number}") for number in range(10)] == [[round_, number] for number in range(10)]
        assert max(status.term for status in service.status().values()) > terms


def test_a_cluster_started_again_in_its_directory_has_its_data(new_cluster, tmp_path):
    first = new_cluster(directory=tmp_path / "kept")
    first.client().kv.put("x", "kept")
    first.stop()
    again = new_cluster(directory=tmp_path / "kept")
    assert again.client().kv.get("x") == "kept"


def test_a_leader_that_was_stopped_serves_no_stale_read_when_it_wakes(service):
    """R11."""
    client = service.client()
    client.kv.put("x", "old")
    for round_ in range(3):
        leader = service.wait_for_leader()
        reader = via(service, leader)
        reader._program._session._leader = leader
        service.pause(leader)
        outcome = []
        reading = threading.Thread(target=lambda reader=reader, o=outcome: o.append(reader.kv.get("x")))
        client.kv.put("x", round_)
        reading.start()  # may reach the stopped leader, and then waits in its socket
        service.resume(leader)
        reading.join()
        assert outcome == [round_]


def test_a_leader_cut_off_acknowledges_nothing_while_the_majority_goes_on_and_a_heal_converges(service):
    """R9."""
    client = service.client(timeout=15)
    client.kv.put("x", "before")
    old = service.wait_for_leader()
    service.partition([old])
    others = [node for node in service.nodes if node != old]
    rules = [*service.links, *(LinkRule(CLIENTS, node, "drop") for node in others)]  # clients reach the old leader only
    service.wait_for(lambda: service.leader != old and service.leader is not None, "another leader")
    client.kv.put("x", "majority")
    service._obeyed(service.world.set_links(rules))
    with pytest.raises((Refused, Unknown)):
        service.client(timeout=1.0).kv.put("x", "minority")
    service.heal()
    assert client.kv.get("x") == "majority"
    service.wait_for(lambda: len({s.leader for s in service.status().values()}) == 1, "one leader for all")
    service.wait_for(
        lambda: len({s.extra["applied"] for s in service.status().values()}) == 1, "all to have applied the same"
    )


@pytest.mark.parametrize("outwards", [True, False])
def test_a_leader_cut_off_in_one_direction_only_is_replaced_and_comes_back(service, outwards):
    client = service.client(timeout=15)
    old = service.wait_for_leader()
    others = [node for node in service.nodes if node != old]
    rules = [LinkRule(old, node, "drop") if outwards else LinkRule(node, old, "drop") for node in others]
    service._obeyed(service.world.set_links(rules))
    client.kv.put("x", "while cut")
    service.wait_for(lambda: service.status()[old].role != "leader", "the old leader to step down")
    service.heal()
    assert client.kv.get("x") == "while cut"
    service.wait_for(lambda: len({s.leader for s in service.status().values()}) == 1, "one leader for all")


COUNTED = {"drop": "cut", "reset": "cut", "hold": "held"}


def test_what_a_hold_cut_kept_back_is_delivered_after_the_heal_and_what_a_drop_cut_took_is_not(obedient):
    client = obedient.client()

    def heard():
        return [text for sender, _, text in client.request("what", to="n2")["heard"] if sender == "n1"]

    for mode in ("drop", "reset", "hold"):
        obedient.partition(["n1"], mode=mode)
        for number in range(3):
            client.request({"tell": "n2", "message": f"{mode} {number}"}, to="n1")
        what = COUNTED[mode]
        obedient.wait_for(lambda what=what: counter(obedient, "n1", what) >= 3, "n1 to have met the cut")
        assert heard() == []
        obedient.heal()
    obedient.wait_for(lambda: heard() == ["hold 0", "hold 1", "hold 2"], "what was held, in order")


def test_a_reset_shows_to_both_sides_as_a_closed_connection_long_before_silence_does(new_cluster):
    cluster = new_cluster(heartbeat=1.0, election_timeout=20.0)
    old = cluster.wait_for_leader()
    cluster.partition([old], mode="reset")
    cluster.wait_for(lambda: cluster.leader not in (None, old), "a leader without waiting for a timeout", timeout=15)
    via(cluster, cluster.leader).kv.put("x", 1)  # the old one may go on believing for an election timeout


def test_a_node_that_was_away_for_long_catches_up_by_a_snapshot_and_again_after_restarts(new_cluster):
    cluster = new_cluster(options={"snapshot_entries": 50, "trailing_entries": 5})
    leader = cluster.wait_for_leader()
    client = cluster.client()
    behind = next(node for node in cluster.nodes if node != leader)
    puts = 0
    for round_ in range(2):
        had = cluster.status()[behind].extra["last"]
        cluster.kill(behind)

        def is_far_ahead(had=had):
            nonlocal puts
            for _ in range(50):
                client.kv.put(f"key{puts % 10}", puts)
                puts += 1
            return cluster.status()[cluster.wait_for_leader()].extra["first"] > had + 1

        cluster.wait_for(is_far_ahead, "the log's beginning to be gone")
        last = cluster.status()[cluster.wait_for_leader()].extra["applied"]
        cluster.start_node(behind)
        cluster.wait_for(lambda last=last: cluster.status()[behind].extra["applied"] >= last, "catching up")
        installed = [line for line in log_lines(cluster, behind) if line["text"] == "snapshot installed"]
        assert len(installed) > round_
    for node in cluster.nodes:
        cluster.restart(node)
    others = [node for node in cluster.nodes if node != behind]
    cluster.wait_for_leader()
    cluster.kill(others[0])  # from here on the node that was behind is half of the majority
    assert [client.kv.get(f"key{number}") for number in range(10)] == list(range(puts - 10, puts))


def corrupt(cluster, node):
    path = Path(cluster.directory, "nodes", node, "data.db")
    for beside in path.parent.glob("data.db-*"):
        beside.unlink()
    path.write_bytes(b"this is no database" * 500)
    return path


def test_a_corrupt_database_keeps_a_cluster_from_starting_names_its_file_and_leaves_nothing_running(new_cluster):
    cluster = new_cluster()
    cluster.client().kv.put("x", 1)
    cluster.stop()
    path = corrupt(cluster, "n2")
    with pytest.raises(UsageError, match="not a database") as raised:
        cluster.start()
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert processes_of(cluster.directory) == []


def test_a_node_whose_database_is_corrupt_stays_down_and_the_others_serve(service):
    service.client().kv.put("x", 1)
    service.kill("n2")
    path = corrupt(service, "n2")
    with pytest.raises(UsageError, match="corrupt storage") as raised:
        service.start_node("n2")
    assert str(path) in str(raised.value)
    assert service.status()["n2"].state == "down"
    assert "not a database" in service.status()["n2"].note
    service.client().kv.put("x", 2)


def test_a_leader_that_cannot_save_ends_and_what_was_acknowledged_stays(new_cluster):
    """R16: a full disk."""
    cluster = new_cluster(node="live_nodes:Cramped")
    leader = cluster.wait_for_leader()
    client = cluster.client()
    for number in range(10):
        client.kv.put(f"before{number}", number)
    client.request("disk full", to=leader)
    for number in range(10):
        client.kv.put(f"after{number}", number)
    cluster.wait_for(lambda: cluster.status()[leader].state == "down", f"{leader} down")
    (exit,) = cluster.world.exits()
    assert (exit.node, exit.expected) == (leader, False)
    assert exit.reason.startswith("crashed: ")
    assert "disk" in exit.reason
    assert cluster.wait_for_leader() != leader
    cluster.start_node(leader)
    for key in ("before", "after"):
        assert [via(cluster, leader).kv.get(f"{key}{number}") for number in range(10)] == list(range(10))


def test_an_operation_is_refused_if_no_node_can_be_reached_and_unknown_if_it_may_have_left(service):
    client = service.client()
    client.kv.put("x", 1)
    for node in service.nodes:
        service.pause(node)
    with pytest.raises(Unknown):
        client.call(Put("x", value(2)), timeout=0.5)
    for node in service.nodes:
        service.resume(node)
    assert service.client().kv.get("x") in (1, 2)
    for node in service.nodes:
        service.kill(node)
    with pytest.raises(Refused, match="no node could be reached"):
        client.call(Put("x", value(3)), timeout=0.5)


def test_a_put_right_after_the_leader_was_asked_to_stop_needs_no_election_timeout(new_cluster):
    cluster = new_cluster(heartbeat=1.0, election_timeout=20.0)
    client = cluster.client(timeout=30)
    client.kv.put("x", 1)
    leader = cluster.wait_for_leader()
    begun = clock.now()
    cluster.world.terminate(leader)
    client.kv.put("x", 2)
    took = clock.now() - begun
    cluster.wait_for(lambda: cluster.status()[leader].state == "down", "the old leader to end")
    assert took < 10.0
    assert cluster.world.exits()[-1].reason == "stopped as asked"
    assert cluster.wait_for_leader() != leader


def test_operations_that_no_message_can_hold_are_errors_of_their_caller_alone(service):
    client, other = service.client(), service.client()
    for wrong, error in ((object(), TypeError), ("x" * 5_000_000, ValueError)):
        with pytest.raises(error):
            client.kv.put("x", wrong)
        with pytest.raises(error):
            client.request(wrong)
    client.kv.put("x", 1)
    assert other.kv.get("x") == 1


def test_calls_of_one_client_from_many_threads_take_turns(service):
    client = service.client()
    threads = [threading.Thread(target=client.kv.put, args=(f"key{number}", number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [client.kv.get(f"key{number}") for number in range(8)] == list(range(8))


def test_values_at_the_limit_are_replicated_and_read_by_many_at_once(service):
    large = "x" * (4 * 2**20 - 2000)
    service.client(timeout=30).kv.put("large", large)
    clients = [service.client(timeout=30) for _ in range(3)]
    got = []
    threads = [threading.Thread(target=lambda c=client: got.append(c.kv.get("large"))) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [value == large for value in got] == [True] * 3
    assert {status.state for status in service.status().values()} == {"up"}
