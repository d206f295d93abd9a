"""`junit.xml`: what is in it, and that those who read such files can read this one.

The structure is that of the schema junit-10: which elements may stand where, which attributes they have and must have.
"""

import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.junit import MESSAGE_CHARS_MAX, write_junit

SUITE_ATTRIBUTES = {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"}
STRUCTURE = {  # element -> (attributes that must be there, further ones, elements within)
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, set(), {"testsuite"}),
    "testsuite": (
        SUITE_ATTRIBUTES - {"timestamp"},
        {"timestamp"},
        {"properties", "testcase", "system-out"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name", "classname", "time"}, set(), {"failure", "error", "system-out"}),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}
COUNTS = ("tests", "failures", "errors", "skipped")


def check(name, verdict="valid", detail="as it should be", workload=None):
    return {"name": name, "workload": workload, "verdict": verdict, "detail": detail}


def summary(*checks, **more):
    return {
        "scenario": "crash",
        "world": "live",
        "seed": 7,
        "verdict": "valid",
        "duration_s": 30.1234,
        "run_dir": "runs/20261123T232253.203Z-crash-7",
        "replay": "testbed replay runs/20261123T232253.203Z-crash-7",
        "operations": {"ok": 10, "fail": 2, "info": 1},
        "faults": [{"kind": "kill", "asked": 6, "applied": 5, "healed": 5, "skipped": 1}],
        "checks": list(checks),
        "recovery_s": {"kill": {"p50": 0.1, "max": 0.4}},
        "source": "/there/crash.toml",
        **more,
    }


def read(path):
    """The file's root, after a look at the structure of all of it."""
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "testsuites"
    for element in root.iter():
        needed, allowed, within = STRUCTURE[element.tag]
        assert needed <= set(element.keys()) <= needed | allowed, (element.tag, element.attrib)
        assert {child.tag for child in element} <= within, element.tag
        for count in COUNTS:
            assert element.get(count, "0").isdigit()
        if element.get("time") is not None:
            assert re.fullmatch(r"\d+\.\d{3}", element.get("time"))
    for group in (root, root[0]):
        cases = list(group.iter("testcase"))
        assert int(group.get("tests")) == len(cases)
        assert int(group.get("failures")) == sum(case.find("failure") is not None for case in cases)
        assert int(group.get("errors")) == sum(case.find("error") is not None for case in cases)
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names), "reporters know a case by its name"
    return root


def properties(root):
    return {one.get("name"): one.get("value") for one in root.iter("property")}


def test_each_check_is_a_test_case_of_the_scenarios_suite(tmp_path):
    path = write_junit(summary(check("cas-register", workload="kv"), check("crashes")), tmp_path)
    assert path == tmp_path / "junit.xml"
    [suite] = read(path)
    about = {name: suite.get(name) for name in SUITE_ATTRIBUTES}
    assert about == {
        "name": "crash",
        "tests": "2",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "30.123",
        "timestamp": "2026-11-23T23:22:53",
    }
    cases = [(case.get("classname"), case.get("name"), case.find("system-out").text) for case in suite.iter("testcase")]
    assert cases == [
        ("crash", "cas-register (kv)", "as it should be"),
        ("crash", "crashes", "as it should be"),
    ]


def test_two_workloads_of_a_kind_have_cases_of_their_own(tmp_path):
    checks = [check("cas-register", workload="kv"), check("cas-register", "invalid", workload="kv"), check("crashes")]
    root = read(write_junit(summary(*checks), tmp_path))
    names = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert names == {
        "cas-register (kv)": ["system-out"],
        "cas-register (kv) 2": ["failure"],
        "crashes": ["system-out"],
    }


def test_a_broken_promise_is_a_failure_with_the_way_to_see_it_again(tmp_path):
    broken = check("cas-register", "invalid", "key 'x': read 2, and nobody wrote it", "kv")
    root = read(write_junit(summary(check("crashes"), broken, verdict="invalid"), tmp_path))
    [failure] = root.iter("failure")
    assert (failure.get("type"), failure.get("message")) == ("invalid", broken["detail"])
    for line in (broken["detail"], "again   testbed replay runs/20261123T232253.203Z-crash-7", "seed 7"):
        assert line in failure.text
    assert [error.tag for error in root.iter("error")] == []


def test_what_nobody_can_tell_is_an_error_and_does_not_pass(tmp_path):
    root = read(write_junit(summary(check("coverage", "unknown", "no pause took hold")), tmp_path))
    [error] = root.iter("error")
    assert (error.get("type"), error.get("message")) == ("unknown", "no pause took hold")
    assert "testbed replay" in error.text


ANOMALY = {
    "check": "cas-register",
    "workload": "kv",
    "history": "history.jsonl",
    "event": 31,
    "key": "x",
    "prefix": 32,
    "shortest": True,
    "operation": "read -> 2 (process 3, events 30 to 31)",
    "reason": "nobody wrote 2",
    "concurrent": ["write 1 ok (process 1, events 29 to 33)"],
    "states": [],
    "minimal": [{"index": 30, "f": "read"}],
}


def test_the_anomaly_stands_in_words_with_the_check_that_found_it(tmp_path):
    checks = [check("cas-register", "invalid", "all the details", workload) for workload in ("lock", "kv", "kv")]
    checks.insert(0, check("cas-register", workload="kv"))
    root = read(write_junit(summary(*checks, anomaly=ANOMALY), tmp_path))
    sentence = 'on key "x" no order explains read -> 2 (process 3, events 30 to 31): nobody wrote 2'
    lock, kv, later = root.iter("failure")
    assert [found.get("message") for found in (lock, kv, later)] == ["all the details", sentence, "all the details"]
    assert kv.text.splitlines()[:9] == [
        "all the details",
        "",
        sentence,
        "open beside it:",
        "  write 1 ok (process 1, events 29 to 33)",
        "events of history.jsonl that are wrong by themselves:",
        '  {"index": 30, "f": "read"}',
        "explain testbed explain runs/20261123T232253.203Z-crash-7 31",
        "",
    ]
    assert "process 3" not in lock.text + later.text


def test_an_anomaly_of_a_history_without_keys_names_none(tmp_path):
    told = {**ANOMALY, "key": None, "reason": ""}
    root = read(write_junit(summary(check("cas-register", "invalid", "", "kv"), anomaly=told), tmp_path))
    [failure] = root.iter("failure")
    assert failure.get("message") == "no order explains read -> 2 (process 3, events 30 to 31)"


def test_properties_say_what_was_run_and_where_it_is_kept(tmp_path):
    told = summary(check("crashes"), machine={"late_s": 0.25}, plant="raft.stale-read")
    found = properties(read(write_junit(told, tmp_path)))
    assert (found["seed"], found["world"], found["verdict"]) == ("7", "live", "valid")
    assert (found["run_dir"], found["replay"], found["plant"]) == (told["run_dir"], told["replay"], told["plant"])
    assert json.loads(found["operations"]) == told["operations"]
    assert json.loads(found["machine"]) == told["machine"]
    assert json.loads(found["fault.kill"]) == {"asked": 6, "applied": 5, "healed": 5, "skipped": 1}
    assert json.loads(found["recovery_s.kill"]) == {"p50": 0.1, "max": 0.4}


def test_what_the_summary_does_not_say_is_left_out(tmp_path):
    root = read(write_junit(summary(check("crashes", "unknown"), run_dir=None, replay=None), tmp_path))
    assert "machine" not in properties(root)
    assert "replay" not in properties(root)
    assert root[0].get("timestamp") is None
    assert "None" not in ElementTree.tostring(root, encoding="unicode")


def test_characters_that_xml_does_not_have_are_written_as_escapes(tmp_path):
    detail = "bell \x07, nul \0, escape \x1b[31m, half \ud83d, end \uffff, <&\"'> ]]>, tab\t, \N{GRINNING FACE}"
    case = read(write_junit(summary(check("a", "invalid", detail), check("b", detail=detail)), tmp_path))[0]
    shown = (
        "bell \\u0007, nul \\u0000, escape \\u001b[31m, half \\ud83d, end \\uffff, <&\"'> ]]>, tab\t, \N{GRINNING FACE}"
    )
    assert case.find("testcase/failure").text.startswith(shown)
    assert case.find("testcase/system-out").text == shown


def test_a_message_is_one_line_of_bounded_length_and_the_text_has_it_all(tmp_path):
    detail = "\n".join(f"process {number}: nobody wrote it" for number in range(100))
    [failure] = read(write_junit(summary(check("a", "invalid", detail)), tmp_path)).iter("failure")
    assert len(failure.get("message")) == MESSAGE_CHARS_MAX
    assert failure.get("message").startswith("process 0: nobody wrote it process 1")
    assert failure.text.startswith(detail)


@given(
    text=st.text(st.characters(), max_size=30),
    verdicts=st.lists(st.sampled_from(["valid", "invalid", "unknown"]), max_size=4),
)
def test_whatever_the_texts_are_the_file_can_be_read(tmp_path_factory, text, verdicts):
    checks = [check(f"{number} {text}", verdict, text, text) for number, verdict in enumerate(verdicts)]
    told = summary(*checks, scenario=text, run_dir=text, replay=text, machine={"name": text})
    root = read(write_junit(told, tmp_path_factory.getbasetemp()))
    kinds = [
        "invalid" if case.find("failure") is not None else "unknown" if case.find("error") is not None else "valid"
        for case in root.iter("testcase")
    ]
    assert kinds == verdicts


@pytest.mark.parametrize("verdicts", [(), ("valid",), ("valid", "invalid", "unknown", "invalid")])
def test_counts_are_those_of_the_verdicts(tmp_path, verdicts):
    checks = [check(str(number), verdict) for number, verdict in enumerate(verdicts)]
    suite = read(write_junit(summary(*checks), tmp_path))[0]
    expected = (len(verdicts), verdicts.count("invalid"), verdicts.count("unknown"))
    assert tuple(int(suite.get(name)) for name in ("tests", "failures", "errors")) == expected
