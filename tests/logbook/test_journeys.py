"""One operation's way through the cluster, told from traces."""

import pytest
from rundirs import BEGINS, RunDirectory, a_put

from chaos.logbook import Logbook
from chaos.logbook.account import conclusion, gaps, standing, to_json
from chaos.logbook.journey import Journey
from chaos.logbook.operations import find
from chaos.logbook.timeline import timeline
from testbed.base.errors import UsageError


def journey_of(run, name="0"):
    book = Logbook(run.path)
    return Journey(book, find(book, name))


def told(journey):
    return [(round((step.time - BEGINS) * 1000), step.who, step.text) for step in journey.steps]


def ending(run, name="0"):
    book = Logbook(run.path)
    journey = Journey(book, find(book, name))
    return gaps(journey, book), conclusion(journey)


def test_a_put_is_followed_from_the_client_to_every_node_and_back(tmp_path):
    run = a_put(tmp_path)
    assert told(journey_of(run)) == [
        (1000, "client 0", 'begins: write 5 on key "k"'),
        (1001, "client 0", "asks n1 (request 17)"),
        (1002, "n1", "receives the command"),
        (1002, "n1", "appends it at index 7, term 2"),
        (1003, "n1", "sends it to n2, n3"),
        (1004, "n2", "gets it from n1"),
        (1005, "n1", "has it on disk"),
        (1006, "n2", "has it on disk"),
        (1007, "n1", "hears that n2 has it"),
        (1007, "n1", "commits it, which is on the disks of n1 and n2, and applies it"),
        (1007, "n1", "answers"),
        (1010, "client 0", "ends: ok"),
        (1020, "n2", "learns that it is committed, and applies it"),
        (2101, "n3", "gets it from n1, which has sent it 2 times"),
        (2101, "n3", "learns that it is committed, and applies it"),
    ]
    assert ending(run) == (
        ["n3 had the entry only 1.099 s after n1: it was down from 0.800 s to 2.000 s"],
        "It was carried out at index 7, term 2: n1 appended it after 2 ms, and committed it after 7 ms. "
        "The client was told after 10 ms: ok.",
    )
    assert standing(journey_of(run)) == ["n3 was down from 0.800 s to 2.000 s"]


def test_an_operation_is_found_by_either_of_its_events(tmp_path):
    run = a_put(tmp_path)
    assert told(journey_of(run, "0")) == told(journey_of(run, "1"))


def test_what_never_came_is_told_with_its_reason(tmp_path):
    run = a_put(tmp_path, outcome="none")
    run.event(6.0, 0, "info", "write", 5, "k", error="timeout")
    assert ending(run) == (
        ["n1 never answered request 17", "n3 never had the entry: it was down from 0.800 s on", "n3 has no trace"],
        "It stopped on its way: n1 appended it (index 7, term 2), it was on the disk of n1 and n2, and no trace shows "
        "that it was committed. The client gave up after 5.000 s: timeout.",
    )


def test_an_entry_whose_place_another_took_is_lost(tmp_path):
    run = RunDirectory(tmp_path)
    run.role("n1", 0.5, "leader", 2, "n1")
    run.event(1.0, 0, "invoke", "write", 5, "k")
    run.asks(1.0, 17, "n1")
    run.submitted("n1", 1.1, 17)
    run.trace("n1", 1.1, "appended", request=17, index=7, term=2)
    run.trace("n1", 1.2, "durable", last=7)
    run.log("n2", 1.5, "elected", term=3, last=6)
    run.moved("n2", 1.5, 7, 6, term=3)
    run.moved("n2", 1.6, 7, 7, term=3)
    run.log("n1", 1.7, "truncates its log", first=7, last=7)
    run.trace("n1", 1.7, "log", term=3, last=7, commit=7, applied=7)
    run.event(6.0, 0, "info", "write", 5, "k", error="timeout")
    assert [step[1:] for step in told(journey_of(run))[5:-1]] == [
        ("n2", "is elected in term 3 without it: its log ends at 6"),
        ("n2", "commits another entry at index 7: the one of term 2 is lost"),
    ]
    assert ending(run)[1] == (
        "It did not take effect: the entry (index 7, term 2) was on the disk of n1, and was lost: n2 was elected in "
        "term 3 without it, with a log that ended at 6. The client gave up after 5.000 s: timeout."
    )


def test_an_entry_that_the_next_leader_has_is_not_lost(tmp_path):
    run = a_put(tmp_path, outcome="none")
    run.log("n2", 1.5, "elected", term=3, last=7)
    run.moved("n2", 1.5, 8, 6, term=3)
    run.moved("n2", 1.6, 8, 8, term=3)
    run.event(6.0, 0, "info", "write", 5, "k", error="timeout")
    assert "It was carried out at index 7, term 2: n1 appended it after 2 ms, and n2 committed it" in ending(run)[1]


def test_a_copy_that_was_not_on_disk_is_gone_after_a_restart(tmp_path):
    run = RunDirectory(tmp_path)
    run.role("n1", 0.5, "leader", 2, "n1")
    run.event(1.0, 0, "invoke", "write", 5, "k")
    run.asks(1.0, 17, "n1")
    run.submitted("n1", 1.1, 17)
    run.trace("n1", 1.1, "appended", request=17, index=7, term=2)
    run.supervisor(1.2, "exit", node="n1", reason="killed by fault", expected=True)
    run.log("n1", 1.4, "starts", boot=2, incarnation=2)
    run.event(6.0, 0, "info", "write", 5, "k", error="timeout")
    assert (1400, "n1", "has lost it, which was not on its disk") in told(journey_of(run))
    assert "it was on nobody's disk" in ending(run)[1]


def test_a_retry_that_got_into_the_log_again_changes_nothing(tmp_path):
    run = a_put(tmp_path, outcome="none")
    run.asks(1.5, 18, "n1")
    run.submitted("n1", 1.6, 18)
    run.trace("n1", 1.6, "appended", request=18, index=8, term=2)
    run.moved("n1", 1.65, 8, 7)
    run.moved("n1", 1.7, 8, 8)
    run.trace("n1", 1.7, "answered", request=18, ok=True)
    run.event(1.8, 0, "ok", "write", 5, "k")
    journey = journey_of(run)
    assert (1600, "n1", "appends it at index 8, term 2 (again: the first to be applied counts)") in told(journey)
    assert "what it has at index 8 changed nothing" in conclusion(journey)
    assert not any("index 8" in line.text for line in timeline(journey) if line.kind != "appended")


def test_who_does_not_lead_turns_it_away_and_many_such_attempts_are_one_line(tmp_path):
    run = RunDirectory(tmp_path)
    run.role("n2", 0.5, "follower", 2, "n1")
    run.event(1.0, 0, "invoke", "write", 5, "k")
    for number in range(6):
        run.asks(1.1 + number / 10, number, "n2")
        run.submitted("n2", 1.11 + number / 10, number)
        run.trace("n2", 1.12 + number / 10, "answered", request=number, ok=True)
    run.event(2.0, 0, "fail", "write", 5, "k", error="no leader")
    assert [line.text for line in timeline(journey_of(run))] == [
        'begins: write 5 on key "k"',
        "asks n2 (request 0)",
        "receives the command, and turns it away: n1 leads",
        "asks n2 again (request 1)",
        "receives the command, and turns it away: n1 leads",
        "… 4 more attempts at n2, until 610 ms: turned away",
        "ends: failed: no leader",
    ]
    assert ending(run)[1].startswith("It never got into the log: no node that was asked led, or took it.")


def test_a_command_that_waits_for_its_result_is_told_as_waiting(tmp_path):
    run = a_put(tmp_path, outcome="none")
    run.moved("n1", 1.007, 7, 7)
    run.trace("n1", 1.2, "answered", request=17, ok=True)
    run.asks(1.201, 18, "n1")
    run.submitted("n1", 1.202, 18)
    run.trace("n1", 1.3, "answered", request=18, ok=True)
    run.event(1.301, 0, "ok", "write", 5, "k")
    journey = journey_of(run)
    assert (1200, "n1", "has no result yet: the client may ask again") in told(journey)
    assert (1300, "n1", "answers") in told(journey)
    assert "and had to wait for its result" in conclusion(journey)


def test_a_read_says_what_its_node_had_applied(tmp_path):
    run = RunDirectory(tmp_path)
    run.role("n1", 0.5, "leader", 2, "n1")
    run.moved("n1", 0.7, 7, 7)
    run.event(1.0, 0, "invoke", "read", None, "k")
    run.asks(1.001, 17, "n1")
    run.trace("n1", 1.002, "received", request=17, what={"type": "Query", "query": 8})
    run.trace("n1", 1.004, "answered", request=17, ok=True)
    run.event(1.005, 0, "ok", "read", 5, "k")
    assert told(journey_of(run))[2:4] == [
        (1002, "n1", "receives the query"),
        (1004, "n1", "answers, having applied up to index 7"),
    ]
    assert ending(run)[1] == (
        "n1, which led in term 2, answered it after 4 ms, having applied up to index 7. "
        "The client was told after 5 ms: -> 5."
    )


def test_of_a_users_node_its_step_and_its_answer_are_told(tmp_path):
    run = RunDirectory(tmp_path)
    run.event(1.0, 0, "invoke", "generate")
    run.asks(1.001, 17, "n1")
    run.trace("n1", 1.002, "received", request=17, what={"name": "Ada"})
    run.trace("n2", 1.002, "heard", sender="n3", what={"count": 1})
    run.trace("n1", 1.003, "sent", to="n2", what={"count": 2})
    run.trace("n1", 1.003, "published", what={"type": "News"})
    run.trace("n1", 1.003, "answered", request=17, ok=True)
    run.trace("n1", 1.003, "heard", sender="n3", what={"count": 1})
    run.trace("n1", 1.003, "sent", to="n3", what={"count": 3})
    run.event(1.004, 0, "ok", "generate", "id-1")
    assert [step[2] for step in told(journey_of(run))] == [
        "begins: generate",
        "asks n1 (request 17)",
        'receives {"name": "Ada"}',
        'sends {"count": 2} to n2',
        "publishes News",
        "answers",
        'ends: -> "id-1"',
    ]
    assert ending(run)[1] == 'n1 answered it after 3 ms. The client was told after 4 ms: -> "id-1".'


def test_faults_and_exits_meanwhile_are_told_and_those_afterwards_are_not(tmp_path):
    run = a_put(tmp_path)
    run.fault(1.005, "pause", 3, "in effect", "n2")
    run.fault(1.5, "pause", 3, "healed", "n2")
    assert [step for step in told(journey_of(run)) if step[1] == "faults"] == [
        (1005, "faults", "pause 3 is in effect on n2")
    ]


def test_an_operation_without_a_request_had_no_effect(tmp_path):
    run = a_put(tmp_path)
    run.event(3.0, 1, "invoke", "write", 6, "k")
    run.event(4.0, 1, "fail", "write", 6, "k", error="no node could be reached")
    assert ending(run, "2")[1] == "No request was sent, and so it had no effect: failed: no node could be reached."


def test_an_operation_that_never_ended_is_told_to_the_end_of_the_traces(tmp_path):
    run = a_put(tmp_path)
    history = run.path / "history.jsonl"
    history.write_text(history.read_text().splitlines(keepends=True)[0])
    assert ending(run)[1].endswith("The client was never told what became of it.")


def test_damaged_traces_are_survived(tmp_path):
    run = a_put(tmp_path)
    for name, what in (("sent", None), ("heard", "x"), ("log", 3), ("appended", {}), ("elected", []), ("durable", {})):
        run.trace(
            "n1", 1.0045, name, request=17, what=what, index="x", term=None, last="y", commit=True, to=3, sender=[]
        )
    run.append("nodes/n2/trace-0001.jsonl", "torn{\n")
    assert told(journey_of(run))[-1][2] == "learns that it is committed, and applies it"


def test_all_of_it_is_there_for_scripts(tmp_path):
    book = Logbook(a_put(tmp_path).path)
    found = to_json(Journey(book, find(book, "0")), book)
    assert (found["operation"]["outcome"], found["began_s"], found["ended_s"]) == ("ok", 1.0, 0.01)
    assert found["appended"][0]["applied_s"] == {"n1": 0.007, "n2": 0.02, "n3": 1.101}
    assert found["requests"] == [
        {"request": 17, "node": "n1", "kind": "Submit", "sent_s": 0.001, "received_s": 0.002, "answered_s": 0.007}
    ]


def test_other_workloads_are_named_by_number_or_kind(tmp_path):
    run = a_put(tmp_path)
    (run.path / "scenario.toml").write_text('[[workload]]\nkind = "kv"\n[[workload]]\nkind = "mod:Work"\n')
    run._events = 0
    run.event(1.0, 3, "invoke", "take", name="history-2.jsonl")
    run.asks(1.1, 99, "n2", process=3, workload=2)
    run.asks(1.1, 98, "n2", process=0, workload=2)
    for name in ("2:0", "mod:Work:0"):
        assert journey_of(run, name).requests.keys() == {99}
    assert journey_of(run, "0").requests.keys() == {17}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x", "is not the index of an event"),
        ("-1", "is not the index of an event"),
        ("99", "is no event of this history, which has those from 0 to 3"),
        ("2", r"is a step of a fault \(kill\)"),
        ("3", "is the end of a lease"),
        ("4:0", "history-4.jsonl: is missing"),
        ("queue:0", "queue is no workload of this run; there are none that are known"),
    ],
)
def test_what_is_no_operation_is_refused(tmp_path, name, reason):
    run = a_put(tmp_path)
    run.event(3.0, "nemesis", "invoke", "kill")
    run.event(3.0, -1, "invoke", "release")
    with pytest.raises(UsageError, match=reason):
        journey_of(run, name)
