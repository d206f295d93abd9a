"""Logs: one file per node and incarnation, every line a JSON object, nothing lost by a SIGKILL or a crash."""

import json

import pytest
from watching import log_files, log_lines

from testbed import Unknown


def counted(cluster, node):
    return [line["number"] for line in log_lines(cluster, node) if line["text"] == "counted"]


def test_each_process_of_a_node_has_a_log_of_its_own(obedient):
    obedient.restart("n1")
    obedient.restart("n1")
    assert [path.name for path in log_files(obedient, "n1")] == [f"log-000{n}.jsonl" for n in (1, 2, 3)]
    assert {line["boot"] for line in log_lines(obedient, "n1")} <= {1, 2, 3}


def test_a_killed_node_loses_no_line_that_it_logged_before_it_answered(obedient):
    obedient.client().request({"log": 200, "then": "reply"}, to="n1")
    obedient.kill("n1")
    assert counted(obedient, "n1") == list(range(200))


def test_lines_of_the_step_that_crashed_are_in_the_log_before_the_reason(obedient):
    with pytest.raises(Unknown):
        obedient.client().request({"log": 3, "then": "crash"}, to="n1")
    obedient.wait_for(lambda: obedient.status()["n1"].state == "down", "n1 down")
    assert [line["text"] for line in log_lines(obedient, "n1")][-4:] == [
        "counted",
        "counted",
        "counted",
        "crashed: RuntimeError: after logging",
    ]


def test_strange_fields_neither_crash_a_node_nor_pass_for_its_own(obedient):
    obedient.client().request({"log_strange": True}, to="n1")
    line = next(line for line in log_lines(obedient, "n1") if line["text"] == "strange")
    assert line["node"] == "n1"
    assert isinstance(line["time"], float)
    assert (line["time_"], "object object" in line["value"]) == ("mine", True)


def test_every_line_names_time_node_boot_level_and_text_and_times_never_go_back(service):
    service.restart(service.wait_for_leader())
    service.wait_for_leader()
    for node in service.nodes:
        lines = log_lines(service, node)
        assert lines
        for line in lines:
            assert {"time", "utc", "node", "boot", "level", "text"} <= line.keys()
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_the_supervisor_logs_starts_exits_links_and_membership(service):
    service.partition(["n1"])
    service.heal()
    service.kill("n1")
    service.wait_for(
        lambda: all(s.views.get("n1") == "failed" for n, s in service.status().items() if n != "n1"), "n1 failed"
    )
    lines = [json.loads(line) for line in (service.directory / "supervisor.jsonl").read_text().splitlines()]
    assert {"start", "listens", "links", "exit", "membership"} <= {line["what"] for line in lines}
    killed = [line for line in lines if line["what"] == "exit"]
    assert [(line["node"], line["reason"], line["expected"]) for line in killed] == [("n1", "killed by fault", True)]
