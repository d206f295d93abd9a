"""All logs as one: their order, what is asked for, what is missing, and what comes."""

import json
import os
import random

import pytest
from rundirs import BEGINS, RunDirectory

from chaos.logbook import Logbook


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def texts(entries):
    return [entry["text"] for entry in entries]


def test_files_are_merged_by_time_each_in_its_own_order(run):
    rng = random.Random(1)
    for node in ("n1", "n2", "n3"):
        at = 1.0
        for number in range(200):
            run.trace(node, at, "step", number=number)
            at += rng.choice((0.0, 0.0, 0.001, 0.002))
    entries = [entry for entry in Logbook(run.path).stream(level="TRACE") if entry["text"] == "step"]
    assert [entry["time"] for entry in entries] == sorted(entry["time"] for entry in entries)
    for node in ("n1", "n2", "n3"):
        assert [entry["number"] for entry in entries if entry["node"] == node] == list(range(200))


def test_a_line_never_comes_before_its_predecessor_in_its_file_whatever_its_stamp(run):
    run.log("n1", 5.0, "first")
    run.log("n1", 4.0, "second")
    run.log("n2", 4.5, "other")
    assert texts(Logbook(run.path).entries(since=BEGINS + 1)) == ["other", "first", "second"]


def test_of_equal_stamps_the_sender_comes_first_in_whichever_file_it_is(run):
    run.trace("n1", 1.0, "heard", sender="n3", what={"type": "Ping"})
    run.trace("n3", 1.0, "sent", to="n1", what={"type": "Ping"})
    run.trace("n2", 1.0, "received", request=1, what={})
    run.asks(1.0, 1, "n2")
    assert texts(Logbook(run.path).entries(level="TRACE", since=BEGINS + 1)) == ["asks", "sent", "heard", "received"]


def test_entries_say_whose_they_are(run):
    run.log("n2", 1.0, "odd", source="disk")
    run.supervisor(2.0, "exit", node="n1", expected=False)
    run.supervisor(3.0, "failed", node="n1")
    run.fault(4.0, "kill", 1, "asked", "n1")
    run.experiment(5.0, "phase", text="judging")
    run.asks(6.0, 1, "n2")
    run.trace("n3", 7.0, "durable", boot=4, last=3)
    found = Logbook(run.path).entries(level="trace", since=BEGINS + 1)
    shown = [(entry["source"], entry.get("node"), entry.get("boot"), entry["level"], entry["text"]) for entry in found]
    assert shown == [
        ("node", "n2", 1, "INFO", "odd"),
        ("supervisor", "n1", None, "WARNING", "exit"),
        ("supervisor", "n1", None, "ERROR", "failed"),
        ("experiment", None, None, "INFO", "fault"),
        ("experiment", None, None, "INFO", "phase"),
        ("clients", "n2", None, "TRACE", "asks"),
        ("node", "n3", 4, "TRACE", "durable"),
    ]
    assert found[0]["source_"] == "disk"
    assert found[4]["text_"] == "judging"


def test_what_is_asked_for_is_all_that_comes(run):
    run.log("n1", 1.0, "calm")
    run.log("n1", 2.0, "grave", level="WARNING")
    run.log("n2", 3.0, "worse", level="ERROR")
    run.trace("n1", 4.0, "durable", last=1)
    run.fault(5.0, "kill", 1, "asked", "n2")
    run.experiment(6.0, "phase", text="judging")
    book = Logbook(run.path)
    later = {"since": BEGINS + 0.5}
    assert texts(book.entries(**later)) == ["calm", "grave", "worse", "fault", "phase"]
    assert texts(book.entries(node="n1", **later)) == ["calm", "grave", "phase"]
    assert texts(book.entries(node=["n1", "n2"], **later)) == ["calm", "grave", "worse", "fault", "phase"]
    assert texts(book.entries(level="WARNING", **later)) == ["grave", "worse"]
    assert texts(book.entries(node="n1", level="TRACE", **later)) == ["calm", "grave", "durable", "phase"]
    assert texts(book.entries(since=BEGINS + 2, until=BEGINS + 3)) == ["grave", "worse"]
    with pytest.raises(ValueError, match="'LOUD' is none of TRACE"):
        book.entries(level="LOUD")


def test_the_older_half_of_a_trace_comes_first(run):
    old = run.path / "nodes" / "n1" / "trace-0001.old.jsonl"
    old.write_text(json.dumps({"time": BEGINS + 9.0, "text": "early"}) + "\n")
    run.trace("n1", 9.0, "late")
    book = Logbook(run.path)
    assert texts(book.entries(level="TRACE", since=BEGINS + 1)) == ["early", "late"]
    assert "the trace of n1's process 1 begins at 9.000 s: older lines are not kept" in book.missing


@pytest.mark.parametrize(
    "line",
    [
        "torn{",
        "[1]",
        "{}",
        '{"time": "soon", "text": "x"}',
        '{"time": true, "text": "x"}',
        '{"time": 1e999, "text": "x"}',
        '{"time": 1' + 400 * "0" + "}",
        "[" * 100_000,
        "\x00\x1b[31m",
    ],
)
def test_a_damaged_line_keeps_its_place_and_is_told(run, line):
    run.log("n1", 1.0, "before")
    run.append("nodes/n1/log-0001.jsonl", line + "\n")
    run.log("n1", 2.0, "after")
    run.log("n2", 1.5, "between")
    found = Logbook(run.path).entries(since=BEGINS + 1)
    assert [entry["level"] for entry in found] == ["INFO", "DAMAGED", "INFO", "INFO"]
    assert [entry["text"] for entry in found if entry["level"] == "INFO"] == ["before", "between", "after"]
    assert found[1]["time"] == BEGINS + 1.0


def test_lines_that_are_no_text_or_endless_are_damaged_lines(run):
    with open(run.path / "nodes" / "n1" / "log-0001.jsonl", "ab") as file:
        file.write(b"\xff\xfe\n" + b"x" * (3 * 2**20) + b"\n")
    damaged = [entry for entry in Logbook(run.path).entries() if entry["level"] == "DAMAGED"]
    assert len(damaged) > 3  # the endless one comes in pieces
    assert all(len(entry["text"]) <= 300 for entry in damaged)


def test_nothing_at_all_is_an_empty_book(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        book = Logbook(directory)
        assert (book.entries(), list(book.stream(level="TRACE")), book.new(), book.nodes) == ([], [], [], ())
        assert (book.begins, book.ended) == (0.0, False)
        assert book.missing == ["supervisor.jsonl is missing: nothing is known of starts and exits"]


def test_what_is_missing_is_told(run):
    run.append("nodes/n2/log-0001.jsonl", '{"time": 4')
    (run.path / "nodes" / "n3" / "log-0001.jsonl").unlink()
    run.trace("n1", 1.0, "durable", last=1)
    (run.path / "supervisor.jsonl").touch()
    assert Logbook(run.path).missing == [
        "supervisor.jsonl is empty",
        "clients.jsonl is missing: nothing is known of which request is for which operation",
        "nodes/n2/log-0001.jsonl ends within a line",
        "nodes/n3 has no log",
        "no traces of messages of n2, n3",
    ]


def test_the_run_begins_where_its_experiment_says_or_with_the_first_line(run):
    run.log("n1", -3.0, "early")
    assert Logbook(run.path).begins == BEGINS
    (run.path / "experiment.jsonl").unlink()
    assert Logbook(run.path).begins == BEGINS  # each file's first line counts
    assert Logbook(run.path).nodes == ("n1", "n2", "n3")


def test_a_run_has_ended_when_its_experiment_says_so(run):
    assert not Logbook(run.path).ended
    run.experiment(9.0, "ends", verdict="valid")
    assert Logbook(run.path).ended


def test_new_lines_are_read_once_and_only_whole(run):
    book = Logbook(run.path)
    assert texts(book.new()) == ["begins", "starts", "starts", "starts"]
    assert book.new() == []
    line = json.dumps({"time": BEGINS + 1, "text": "halved", "level": "INFO"}) + "\n"
    run.append("nodes/n1/log-0001.jsonl", line[:10])
    assert book.new() + book.new() == []
    run.append("nodes/n1/log-0001.jsonl", line[10:])
    assert texts(book.new() + book.new()) == ["halved"]
    run.log("n4", 2.0, "of a new node")
    assert texts(book.new() + book.rest()) == ["of a new node"]


def test_a_line_waits_for_what_came_before_it_in_a_file_that_was_read_earlier(run):
    book = Logbook(run.path)
    book.new()
    run.log("n3", 2.0, "effect")
    assert book.new() == []
    run.log("n1", 1.0, "cause")
    run.log("n1", 3.0, "later")
    assert texts(book.new()) == ["cause", "effect"]
    assert texts(book.new()) == ["later"]


def test_a_trace_that_moves_to_its_older_half_is_neither_lost_nor_read_twice(run):
    book = Logbook(run.path)
    run.trace("n1", 1.0, "one")
    assert "one" in texts(book.new(level="TRACE"))
    run.trace("n1", 2.0, "two")
    trace = run.path / "nodes" / "n1" / "trace-0001.jsonl"
    os.replace(trace, trace.with_suffix(".old.jsonl"))
    run.trace("n1", 3.0, "three")
    assert texts(book.new(level="TRACE") + book.rest()) == ["two", "three"]


def test_following_can_begin_near_the_end_of_each_file(run):
    for number in range(50):
        run.log("n1", 1.0 + number, f"line {number}")
    book = Logbook(run.path)
    assert texts(book.new(node="n1", last=2)) == ["begins", "line 48", "line 49"]
