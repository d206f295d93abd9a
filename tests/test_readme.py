"""What the README shows, run as it shows it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """A directory with the README's files."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def python(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=100
    )


def test_the_readme_shows_these_files():
    assert sorted(FILES) == [
        *("counter.py", "gauge.py", "greet.toml", "greeter.py", "greetings.py", "hello.py", "jobs.py", "stale.edn"),
        *("store.py", "twice.py"),
    ]


def test_the_history_of_the_readme_is_judged_as_it_shows(shown: Path):
    done = python(shown, "-m", "chaos.cli", "check", "stale.edn", "--model", "register")
    text = re.sub(r"[\d.]+ s\n", "… s\n", (ROOT / "README.md").read_text())
    assert done.returncode == 1, done.stderr
    assert re.sub(r"[\d.]+ s\n", "… s\n", done.stdout) in text


def test_the_model_of_the_readme_judges_its_history(shown: Path):
    done = python(shown, "gauge.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "invalid - read -> 0 (process 2, events 3 to 4)\n"


def test_the_node_of_the_readme_remembers_its_count_across_a_kill(shown: Path):
    done = python(shown, "hello.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'hello': 'Ada', 'id': 'n2-1'}", "{'hello': 'Ada', 'id': 'n2-2'}"]


def test_the_simulated_node_of_the_readme_does_the_same_for_the_same_seed(shown: Path):
    done = python(shown, "twice.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["{'hello': 'Ada', 'id': 'n2-2'}", "True False"]


def test_the_store_of_the_readme_survives_its_leader(shown: Path):
    done = python(shown, "store.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True 2", "3"]


def test_the_queue_of_the_readme_delivers_again_and_refuses_the_late(shown: Path):
    done = python(shown, "jobs.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'n': 1} 2",
        "too late: it was given to somebody else",
        "{'n': 2}",
        "{'ready': 0, 'delayed': 0, 'in_flight': 0, 'dead': 0, 'waiting': 0}",
    ]


def test_the_locks_of_the_readme_keep_a_slow_holder_from_writing(shown: Path):
    done = python(shown, "counter.py")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert lines == ["None", "True False", "refused: ada was too slow"]
    assert last.startswith("not-granted: 'b' is held by session")


def test_the_scenario_of_the_readme_is_valid(shown: Path):
    done = python(shown, str(ROOT / "run.py"), "run", "greet.toml", "--seed", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["faults"][0]["applied"] >= 1
    assert summary["operations"]["ok"] > 100
    assert Path(shown, "runs", "latest", "summary.json").is_file()


def test_the_scenario_of_the_readme_is_valid_in_simulation(shown: Path):
    done = python(shown, str(ROOT / "run.py"), "run", "greet.toml", "--world", "sim", "--seed", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["world"] == "sim"


def test_simulated_without_its_save_line_the_node_of_the_readme_fails_with_a_minimal_schedule_that_fails(shown: Path):
    source = (shown / "greeter.py").read_text()
    (shown / "greeter.py").write_text(re.sub(r"\n *self\.save\(.*", "", source))
    run = str(ROOT / "run.py")
    done = python(shown, run, "sim", "greet.toml", "--seeds", "5", "--jobs", "1", "--check-every", "0", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)["first_failure"]
    assert len(found["schedule"]) == 1, found["schedule"]
    assert python(shown, run, "run", found["minimal"], "--world", "sim", "--json").returncode == 1
    again = json.loads(python(shown, run, "replay", found["run_dir"], "--json").stdout)
    assert again["failed_the_same_way"] == 1
    assert again["same_digest"]


def test_without_its_save_line_the_node_of_the_readme_is_found_out(shown: Path):
    source = (shown / "greeter.py").read_text()
    forgetful = re.sub(r"\n *self\.save\(.*", "", source)
    assert forgetful != source
    (shown / "greeter.py").write_text(forgetful)
    done = python(shown, str(ROOT / "run.py"), "run", "greet.toml", "--seed", "1", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = {check["name"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}
    assert verdicts["unique-ids"] == "invalid"
    assert verdicts["crashes"] == "valid"
