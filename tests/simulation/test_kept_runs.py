"""Run directories that are read back: what they give, and what is wrong with those that cannot be."""

import json
from pathlib import Path

import pytest

from chaos.kept import load_run
from chaos.scenario import parse_scenario
from chaos.simulation import simulate
from testbed.base.errors import UsageError

SCENARIO = """
name = "kept"
duration = "3s"
[cluster]
nodes = 3
heartbeat = "50ms"
election_timeout = "250ms"
[[workload]]
kind = "kv"
clients = 2
rate = 20
[[fault]]
kind = "pause"
target = "one"
every = "1s"
for = "200ms"
"""


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return simulate(parse_scenario(SCENARIO, "kept.toml"), 5, out=tmp_path_factory.mktemp("runs")).summary


@pytest.fixture
def kept(summary, tmp_path):
    """A copy of a run's directory, to be spoiled."""
    directory = tmp_path / "run"
    directory.mkdir()
    for name in ("summary.json", "scenario.toml", "schedule.json"):
        (directory / name).write_bytes((Path(summary["run_dir"]) / name).read_bytes())
    return directory


def test_a_kept_run_has_its_own_faults_each_at_its_time(kept, summary):
    run = load_run(kept)
    planned = json.loads((kept / "schedule.json").read_text())["faults"]
    assert [(list(fault.target), fault.at, fault.every) for fault in run.scenario.faults] == [
        (fault["target"], fault["at"], None) for fault in planned
    ]
    assert planned != []
    assert (run.seed, run.world, run.plant, run.verdict, run.failure) == (5, "sim", None, "valid", None)
    assert run.operations == sum(summary["operations"].values()) > 0
    assert run.scenario.source == str(kept / "scenario.toml")  # where it came from is no longer there
    assert simulate(run.scenario, run.seed).result.digest == run.digest == summary["digest"]


def test_a_scenario_without_a_name_is_called_as_before(tmp_path):
    nameless = parse_scenario(SCENARIO.replace('name = "kept"', ""), "mine.toml")
    assert load_run(simulate(nameless, 5, out=tmp_path).summary["run_dir"]).scenario.name == "mine"


def test_no_directory_is_no_run(tmp_path):
    for place in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match=f"{place}: there is no such run directory"):
            load_run(place)


@pytest.mark.parametrize("name", ["summary.json", "scenario.toml", "schedule.json"])
def test_a_run_that_lacks_a_file_names_it(kept, name):
    (kept / name).unlink()
    with pytest.raises(UsageError, match=f"run/{name}: No such file"):
        load_run(kept)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("summary.json", "\n}\n", "", "summary.json: is no summary of a run of this version: Input data was truncated"),
        ("summary.json", '"seed": 5', '"seed": "five"', r"Expected `int`, got `str` - at `\$.seed`"),
        ("summary.json", '"world": "sim"', '"world": "elsewhere"', r"Invalid enum value 'elsewhere' - at `\$.world`"),
        ("summary.json", '"checks"', '"cheques"', "missing required field `checks`"),
        ("summary.json", "valid", "\xff", "summary.json: is not UTF-8 text"),
        ("scenario.toml", "duration", "durations", "run/scenario.toml: durations: unknown key"),
        ("schedule.json", "}", "", "schedule.json: JSON is malformed"),
        ("schedule.json", '"kind":"pause"', '"kind":"paws"', r"schedule.json: faults\[1\]"),
        ("schedule.json", '"duration":3.0', '"duration":-1.0', "schedule.json: duration: "),
        ("schedule.json", '"nodes":["n1","n2","n3"]', '"nodes":["n1","n2","n3","n4"]', "schedule.json: nodes: "),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(kept, name, old, new, said):
    text = (kept / name).read_text()
    assert old in text
    (kept / name).write_bytes(text.replace(old, new).encode("latin-1"))
    with pytest.raises(UsageError, match=said):
        load_run(kept)


def test_a_schedule_that_names_nodes_of_another_cluster_is_refused(kept):
    text = (kept / "scenario.toml").read_text()
    (kept / "scenario.toml").write_text(text.replace("nodes = 3", "nodes = 1"))
    with pytest.raises(UsageError, match=r"schedule\.json: nodes: are not those of the scenario beside it"):
        load_run(kept)
