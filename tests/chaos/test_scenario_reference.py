"""The reference of scenario files says what the reader does, and its examples are scenarios."""

import re
from pathlib import Path

import pytest

from chaos.faults import KINDS
from chaos.scenario import (
    BUILTIN_WORKLOADS,
    CLUSTER_KEYS,
    CUSTOM_FAULT_KEYS,
    FAULT_KEYS,
    TOP_KEYS,
    WORKLOAD_KEYS,
    load_scenario,
    parse_scenario,
)
from chaos.scenario_reference import reference
from chaos.settings import REQUIRED
from chaos.simulation import simulate
from chaos.workloads import lock, queue
from testbed.base.durations import format_duration, parse_duration
from testbed.base.errors import UsageError

SCENARIOS = Path(__file__).parents[2] / "docs" / "SCENARIOS.md"
WRITTEN = SCENARIOS.read_text()
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", WRITTEN, re.DOTALL))


def test_the_reference_in_docs_is_the_one_that_the_code_makes():
    assert reference() == WRITTEN, "write it anew: python -m chaos.scenario_reference > docs/SCENARIOS.md"


def test_every_example_is_a_scenario():
    examples = re.findall(r"```toml\n(.*?)```", WRITTEN, re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        assert parse_scenario(text, "x.toml").faults


def test_the_example_of_a_fault_of_ones_own_takes_hold(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    summary = simulate(load_scenario(tmp_path / "crash_loop.toml"), 1).summary
    assert summary["verdict"] == "valid", summary["checks"]
    assert [(count["kind"], count["applied"] > 0) for count in summary["faults"]] == [("crash_loop:CrashLoop", True)]


def test_every_key_of_every_kind_of_fault_is_explained():
    assert {key for kind in KINDS.values() for key in kind.keys} == {*FAULT_KEYS} - {*CUSTOM_FAULT_KEYS}


def test_the_defaults_of_workloads_are_those_that_they_have():
    assert BUILTIN_WORKLOADS["queue"]["visibility"].default == parse_duration(queue.VISIBILITY)
    assert BUILTIN_WORKLOADS["lock"]["lease"].default == parse_duration(lock.LEASE)


KEYS = [("", "", key) for key in TOP_KEYS.values()]
KEYS += [("cluster", "", key) for key in CLUSTER_KEYS.values()]
KEYS += [("workload", "kv", key) for key in WORKLOAD_KEYS.values()]
KEYS += [("workload", kind, key) for kind, own in BUILTIN_WORKLOADS.items() for key in own.values()]
KEYS += [("fault", kind, FAULT_KEYS[key]) for kind, info in KINDS.items() for key in info.keys]
KEYS += [("fault", "kill", FAULT_KEYS[key]) for key in ("target", "every", "at", "for")]


def text(section, kind, /, **values):
    """A scenario with these values in that section; those that are None are left out."""
    needed = {"target": '"one"', "every": '"1s"', "for": '"1s"'} if section == "fault" else {}
    needed |= {"rate": 1} if "rate" in KINDS.get(kind, KINDS["kill"]).keys else {}
    needed |= {"kind": f'"{kind}"'} if kind else {}
    values = {"duration": '"9s"'} | values if section == "" else needed | values
    lines = [f"{key} = {value}" for key, value in values.items() if value is not None]
    head = {"": [], "cluster": ['duration = "9s"', "[cluster]"]}
    return "\n".join([*head.get(section, ['duration = "9s"', f"[[{section}]]"]), *lines])


def beyond(key):
    """Values that are just out of its bounds."""
    if key.form == "duration":
        yield from [] if key.low == 0 else ['"0s"']
        yield from [] if not key.low else [f'"{format_duration(key.low - 0.001)}"']
        yield from [] if key.high is None else [f'"{format_duration(key.high + 0.001)}"']
    elif key.form in ("number", "whole number"):
        yield from [] if key.low is None else [key.low - 1]
        yield from [] if key.high is None else [key.high + 1]
    elif key.words:
        yield '"no such word"'


@pytest.mark.parametrize(
    ("section", "kind", "name", "value"),
    [(section, kind, key.name, value) for section, kind, key in KEYS for value in beyond(key)],
)
def test_what_is_beyond_the_bounds_that_are_told_is_refused(section, kind, name, value):
    with pytest.raises(UsageError) as caught:
        parse_scenario(text(section, kind, **{name: value}), "x.toml")
    assert caught.value.key.rpartition(".")[2] == name


@pytest.mark.parametrize(("section", "kind", "key"), [entry for entry in KEYS if entry[2].default is REQUIRED])
def test_what_must_be_given_is_missed(section, kind, key):
    with pytest.raises(UsageError, match=f"{key.name}: is missing"):
        parse_scenario(text(section, kind, **{key.name: None}), "x.toml")
