"""Reports of run directories that lack something, or in which something is damaged."""

import json
import re
import shutil
from random import Random

import msgspec
import pytest
from report_runs import history, small_run, summary, write_lines

from chaos.cli import call
from chaos.history import Operation
from chaos.report import write_report
from chaos.report.data import gather
from chaos.report.page import render
from chaos.report.points import points
from testbed.base.errors import UsageError

FILES = [
    "summary.json",
    "history.jsonl",
    "history-2.jsonl",
    "history-3.jsonl",
    "scenario.toml",
    "schedule.json",
    "experiment.jsonl",
    "supervisor.jsonl",
    "nodes/n2/log-0001.jsonl",
]
GARBAGE = {
    "nothing": b"",
    "binary": b"\x00\xff\xfe{[",
    "another shape": b"[1, 2]\n",
    "half a line": b'{"time": 12.5, "what": "fa',
    "wrong types": b'{"time": "x", "what": 3, "index": [], "verdict": 7, "checks": 1, "nodes": 5, "faults": {}}\n',
    "deep": b"[" * 100_000,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def data_of(path):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_of_a_whole_run_nothing_is_missing(run):
    report = gather(run)
    assert report.missing == []
    assert report.verdict == "invalid"
    assert report.sentence.startswith("On key k1, read -> 5 (process 7) cannot be explained")
    assert [band.kind for band in report.bands] == ["kill", "partition", "pause"]
    assert [fault["why"] for fault in report.untaken] == ["no leader is known"]
    assert [lane.node for lane in report.lanes] == ["n1", "n2", "n3"]
    assert [message.kind for message in report.messages] == ["AppendEntries", "VoteRequest"]
    assert report.points.workloads == ["kv", "queue", "lock"]
    assert [depth.workload for depth in report.depths] == ["queue"]
    assert [lock.key for lock in report.locks] == ["l0"]
    assert (report.wrong.start, report.wrong.end) == (5.02, 5.2)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_and_the_rest_is_shown(run, name):
    (run / name).unlink()
    report = gather(run)
    named = name.rpartition("/")[0] if "/" in name else name
    assert any(named in note for note in report.missing), report.missing
    assert report.nodes == ["n1", "n2", "n3"]
    assert report.lanes
    assert (report.points is None) == all(not (run / file).exists() for file in FILES[1:4])
    assert "{{" not in render(report).partition("<script>")[0]


@pytest.mark.parametrize("kind", GARBAGE)
def test_damage_never_keeps_the_report_from_being_written_and_is_told(run, kind):
    for name in FILES:
        kept = (run / name).read_bytes()
        (run / name).write_bytes(GARBAGE[kind])
        data = data_of(write_report(run))
        harmless = name == "scenario.toml" and kind == "nothing"
        assert harmless or any(name in note for note in data["missing"]), (name, data["missing"])
        (run / name).write_bytes(kept)
    assert gather(run).missing == []


def test_all_files_damaged_at_once_still_make_a_report(run):
    for path in sorted(run.rglob("*.*")):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\xff\n")
    data = data_of(write_report(run))
    assert data["verdict"] == ""
    assert "no verdict" in data["meaning"]
    assert len(data["missing"]) > 5


STRANGE = [None, True, -1, 0, 1e300, 10**30, "", "x", [], [[1]], {}, {"a": [None]}]


def changed(value, random):
    """The same JSON value, in which here and there something else stands."""
    if random.random() < 0.04:
        return random.choice(STRANGE)
    if isinstance(value, dict):
        return {name: changed(item, random) for name, item in value.items()}
    return [changed(item, random) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(25))
def test_values_of_any_kind_in_any_place_still_make_a_report(run, seed):
    random = Random(seed)
    for path in sorted(run.rglob("*.json*")):
        lines = path.read_text().splitlines()
        path.write_text("".join(json.dumps(changed(json.loads(line), random)) + "\n" for line in lines))
    assert "missing" in data_of(write_report(run))


def test_keys_that_are_no_strings_are_shown(run):
    events = history((1, "acquire", ["a", 1], None, 0.1, 0.2, "ok", 1), (1, "read", {"b": 2}, None, 0.3, 0.4, "ok", 3))
    write_lines(run / "history.jsonl", events)
    assert '["a", 1]' in gather(run).points.keys


def test_a_history_is_shown_up_to_its_first_damaged_line(run):
    lines = (run / "history.jsonl").read_text().splitlines(keepends=True)
    (run / "history.jsonl").write_text("".join(lines[:20]) + "garbage\n" + "".join(lines[21:]))
    report = gather(run)
    assert any(note.startswith("history.jsonl, line 21: ") for note in report.missing)
    assert any(note.endswith("the 20 events before it are shown") for note in report.missing)
    assert 0 < len(report.points.began) < 30


def test_without_the_experiments_log_the_faults_tell_when_the_clock_began(run):
    whole = gather(run)
    (run / "experiment.jsonl").unlink()
    report = gather(run)
    assert [lane.node for lane in report.lanes] == ["n1", "n2", "n3"]
    for before, after in zip(whole.lanes[0].roles, report.lanes[0].roles, strict=True):
        assert after.end == pytest.approx(before.end, abs=0.05)


@pytest.mark.parametrize(
    ("check", "at", "sentence"),
    [
        (
            {"name": "raft-invariants", "detail": "commit-quorum at 1003.500 s: n1 committed alone"},
            3.5,
            "raft-invariants: commit-quorum at 3.500 s of the run: n1 committed alone",
        ),
        ({"name": "crashes", "detail": "n1 crashed"}, 2.0, "n1 ended: killed"),
        ({"name": "coverage", "detail": "nothing took hold"}, None, "coverage: nothing took hold"),
    ],
)
def test_the_first_error_is_found_where_no_history_shows_it(run, check, at, sentence):
    exits = (run / "supervisor.jsonl").read_text().replace('"killed"', '"killed", "expected": false')
    (run / "supervisor.jsonl").write_text(exits)
    checks = [{"workload": None, "verdict": "invalid", **check}]
    (run / "summary.json").write_text(json.dumps(summary("invalid", checks=checks)))
    report = gather(run)
    assert report.sentence == sentence
    assert (report.wrong and report.wrong.end) == at
    assert bool(report.missing) == (at is None)


def test_a_run_without_faults_and_operations_has_a_report(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"verdict": "unknown", "checks": [], "duration_s": 2.0}))
    report = gather(tmp_path)
    assert (report.verdict, report.points, report.lanes, report.end) == ("unknown", None, [], 2.0)


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such run directory"):
        write_report(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(UsageError, match="is no run directory"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_nothing_in_the_data_can_end_the_script_that_holds_it(run):
    write_report(run)
    text = (run / "report.html").read_text()
    assert "</script>" in json.loads((run / "summary.json").read_text())["checks"][0]["detail"]
    assert data_of(run / "report.html")["checks"][0]["detail"].endswith("</script>")
    assert "small <b>" not in text
    assert "small &lt;b&gt;" in text


def test_the_report_names_no_address_that_a_browser_would_fetch(run):
    text = write_report(run).read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert "default-src 'none'" in text


def test_a_run_of_600_000_operations_makes_a_file_below_5_mb(run):
    operations = [
        Operation(
            process=n % 97, f="write", key=f"w1-k{n // 300}", argument=n * 10**40, result=None, invoked=2 * n,
            completed=2 * n + 1, outcome=("ok", "ok", "fail", "info")[n % 4], began=n * 1_000_000,
            ended=n * 1_000_000 + 900_000, answered=2 * n + 1,
        )
        for n in range(600_000)
    ]  # fmt: skip
    report = msgspec.structs.replace(gather(run), points=points([("kv", operations)]))
    assert len(render(report).encode()) < 5_000_000


def test_the_command_writes_the_report_and_says_where(run, capsys):
    assert call(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"the report is in {run / 'report.html'}\n"
    assert call(["report", str(run), "--out", str(run / "other.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(run / "other.html")}
    assert (run / "other.html").read_text() == (run / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments", [["none"], ["{run}", "--out", "{run}/none/report.html"], ["{run}", "--out", "{run}"]]
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(run, tmp_path, capsys, arguments):
    before = sorted(tmp_path.rglob("*"))
    assert call(["report", *(argument.format(run=run) for argument in arguments)]) == 254
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
