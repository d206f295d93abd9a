"""The logs of a run in simulation: their order is causal, and its operations can be followed."""

import json
from collections import Counter

import pytest

from chaos.experiment import Run
from chaos.logbook import Logbook
from chaos.logbook.account import conclusion
from chaos.logbook.journey import Journey
from chaos.logbook.operations import find
from chaos.scenario import parse_scenario

SCENARIO = """
name = "traced"
duration = "4s"
[cluster]
nodes = 3
heartbeat = "50ms"
election_timeout = "300ms"
[[workload]]
kind = "kv"
clients = 3
rate = 60
[[fault]]
kind = "kill"
target = "leader"
at = "1s"
for = "600ms"
[[fault]]
kind = "loss"
target = "one"
rate = 0.2
at = "2s"
for = "800ms"
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    run = Run(parse_scenario(SCENARIO, "traced.toml"), seed=3, world="sim", out=tmp_path_factory.mktemp("runs"))
    run.execute()
    assert run.directory is not None
    return Logbook(run.directory)


def test_every_message_is_heard_after_it_was_sent(book):
    on_the_way = Counter()
    heard = 0
    for entry in book.stream(level="TRACE"):
        message = json.dumps(entry.get("what"), sort_keys=True)
        if entry["text"] == "sent":
            on_the_way[entry["node"], entry["to"], message] += 1
        elif entry["text"] == "heard":
            heard += 1
            assert on_the_way[entry["sender"], entry["node"], message] > 0, entry
    assert heard > 100


def test_every_request_is_received_after_it_was_sent_and_answered_after_that(book):
    known = {}
    for entry in book.stream(level="TRACE"):
        if entry["text"] == "asks":
            known[entry["request"]] = "asks"
        elif entry["text"] in ("received", "answered"):
            before = ("asks",) if entry["text"] == "received" else ("received", "answered")
            assert known[entry["request"]] in before, entry
            known[entry["request"]] = entry["text"]
    assert "answered" in known.values()


def test_every_write_that_was_ok_is_seen_committed_before_its_client_knew(book):
    events = [json.loads(line) for line in (book.directory / "history.jsonl").read_text().splitlines()]
    writes = [event["index"] for event in events if event["type"] == "ok" and event["f"] == "write"]
    assert len(writes) > 10
    for index in writes[::5]:
        journey = Journey(book, find(book, str(index)))
        assert conclusion(journey).startswith("It was carried out at index"), index
        committed = min(min(one.committed.values()) for one in journey.appended if one.committed)
        assert committed < journey.found.ended


def test_no_step_comes_before_the_invocation_and_their_times_never_fall(book):
    journey = Journey(book, find(book, "10"))
    times = [step.time for step in journey.steps]
    assert times == sorted(times)
    assert times[0] == journey.found.began
