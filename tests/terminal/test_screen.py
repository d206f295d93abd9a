"""What people see while a run goes on: the real command on a terminal that is emulated."""

import os
import re
import signal
import subprocess
import sys

import pytest
from screens import DARK, LIGHT, ROOT, photograph, replayed, watch

from chaos.cli.screen.frame import frame
from chaos.cli.screen.picture import Picture, Row

SCENARIO = """
name = "breaking"
duration = "{duration}"
[cluster]
nodes = {nodes}
heartbeat = "100ms"
election_timeout = "1s"
[[workload]]
kind = "kv"
clients = 4
rate = 120
[[fault]]
kind = "pause"
target = ["n2"]
at = "300ms"
for = "1200ms"
[[fault]]
kind = "partition"
target = ["n1"]
at = "500ms"
for = "1200ms"
[[fault]]
kind = "delay"
target = ["n3"]
delay = "20ms"
at = "600ms"
for = "1s"
[[fault]]
kind = "kill"
target = "leader"
at = "2200ms"
for = "{killed}"
"""
HEAD = "id  state    role      term  inc.  seen by others       being done to it"
ESCAPE = b"\x1b"


def breaking(directory, nodes=5, duration="5s", killed="1500ms"):
    (directory / "breaking.toml").write_text(SCENARIO.format(nodes=nodes, duration=duration, killed=killed))
    return ["run", "breaking.toml", "--seed", "5"]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A live run on 80 columns and 24 rows."""
    directory = tmp_path_factory.mktemp("live")
    return watch(breaking(directory), directory)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A simulated run, in a narrow terminal that wants no colours and knows no Unicode."""
    directory = tmp_path_factory.mktemp("simulated")
    command = [*breaking(directory, duration="18s", killed="12s"), "--world", "sim"]
    return watch(command, directory, columns=60, environment={"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"})


def tables(watched):
    """The screens that show the table, without what is right of the text."""
    return [
        [line.rstrip() for line in screen] for screen in watched.screens if any("seen by" in line for line in screen)
    ]


def rows(screen):
    """Node -> its line."""
    return {line.split()[0]: line for line in screen if re.match(r" n\d+ ", line)}


def test_the_table_has_a_row_for_each_node_from_the_start_on_and_never_moves(live):
    assert live.status in (0, 2), live.screens[-1]
    shown = tables(live)
    assert shown
    places = {tuple(number for number, line in enumerate(screen) if re.match(r" n\d ", line)) for screen in shown}
    assert places == {(4, 5, 6, 7, 8)}
    assert {screen[3] for screen in shown} == {" " + HEAD}
    assert {screen[10].split()[0] for screen in shown} == {"operations"}
    assert set(rows(shown[0])) == {"n1", "n2", "n3", "n4", "n5"}
    assert all("starting" in row for row in rows(shown[0]).values())


def test_the_table_tells_who_leads_in_which_term_and_what_is_done_to_whom(live):
    shown = [row for screen in tables(live) for row in rows(screen).values()]
    for pattern in (
        r" n\d  up       leader       \d     1  4 alive",
        r" n\d  up       follower     \d     1  ",
        r" n\d  down     -            -     \d  .* killed",
        r" n2  paused   .* paused",
        r" n1  .* cut off from 4 nodes",
        r" n3  .* delayed",
    ):
        assert any(re.match(pattern, row) for row in shown), (pattern, shown)


def test_the_others_opinion_of_a_dead_node_is_shown(live):
    shown = [row for screen in tables(live) for row in rows(screen).values() if " down " in row]
    assert any("suspect" in row or "failed" in row for row in shown), shown


def test_faults_in_effect_and_the_next_one_are_told_with_their_seconds(live):
    lines = [line for screen in tables(live) for line in screen]
    assert any(re.match(r" faults now  kill n\d \(leader\) .*\d s more", line) for line in lines)
    assert any(re.match(r" next        kill leader in \d s$", line) for line in lines)
    assert any(line == " next        no more faults" for line in lines)
    assert any(re.match(r" +\d\.\d s  kill n\d \(leader\) in effect", line) for line in lines)
    assert any(re.match(r" +\d\.\d s  n\d leads in term \d+", line) for line in lines)


def test_operations_and_latency_are_counted(live):
    last = tables(live)[-1]
    (total,) = [line for line in last if line.startswith(" in all")]
    assert int(total.split()[2]) > 20
    assert any(re.search(r"p50 +[\d.]+ m?s", line) for line in last)
    assert any(re.match(r" a second +[1-9]", line) for screen in tables(live) for line in screen)


def test_time_passes_on_the_bar(live):
    titles = [screen[0] for screen in tables(live)]
    assert any(re.match(r" breaking, live, seed 5 .* 1 of 5 s, 4 s left", title) for title in titles)
    done = [screen[1].count("━") for screen in tables(live)]
    assert done == sorted(done)
    assert max(done) > min(done)


def test_no_line_is_cut_and_none_touches_the_last_column(live):
    for screen in tables(live):
        for line in screen:
            assert len(line) < 80
            assert "…" not in line


def test_it_is_redrawn_a_few_times_a_second(live):
    assert live.frames / live.seconds < 8
    assert live.frames > 8


def test_the_verdict_is_all_that_is_left_on_the_terminal(live):
    end = [line.rstrip() for line in replayed(live.output, rows=200).display]
    assert any(line.startswith(("VALID  breaking", "UNKNOWN  breaking")) for line in end)
    assert not any("seen by others" in line or "faults now" in line for line in end)
    assert not any("leads in term" in line for line in end)
    assert end[-1] == ""
    assert f"  again   testbed replay {end_of(end, 'kept in')}" in end
    assert live.output.count(b"\x1b[?25l") == live.output.count(b"\x1b[?25h") == 1  # the cursor is there again


def end_of(lines, label):
    (line,) = [line for line in lines if line.startswith(f"  {label}")]
    return line.split()[-1]


def test_a_terminal_without_unicode_gets_none(simulated):
    assert simulated.output.isascii()
    assert any(re.match(r" =+-+$", line.rstrip()) for screen in simulated.screens for line in screen)


def test_a_narrow_terminal_gets_the_columns_that_fit_and_no_colours_if_it_wants_none(simulated):
    assert simulated.status in (0, 2), simulated.screens[-1]
    shown = [
        [line.rstrip() for line in screen]
        for screen in simulated.screens
        if any("id  state" in line for line in screen)
    ]
    assert shown
    assert {screen[3] for screen in shown} == {" id  state    role      term  being done to it"}
    assert all(len(line) < 60 for screen in shown for line in screen)
    assert any(" killed" in line for screen in shown for line in screen)
    assert re.search(rb"\x1b\[[\d;]*3[0-7]m", simulated.output) is None


def picture(nodes, harmed=()):
    rows = [
        Row(f"n{n}", "down" if n in harmed else "up", "leader" if n == nodes else "follower", "3", "1", {"alive": 3})
        for n in range(1, nodes + 1)
    ]
    return Picture(
        "many", "", 1.0, 30.0, rows, {"ok": 5.0}, {"ok": 5}, (0.01, 2.5), ("kill n1 1 s more",) * 9, "pause n2"
    )


def drawn(shown, events=(), width=80, height=24):
    return [
        line.plain.rstrip() for line in frame(shown, [f"{n:6.1f} s  {event}" for n, event in events], width, height)
    ]


@pytest.mark.parametrize("nodes", range(1, 32))
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 24), (200, 60), (80, 16)])
def test_every_cluster_fits_and_a_frame_has_the_same_lines_whatever_happens(nodes, width, height):
    quiet, busy = drawn(picture(nodes), (), width, height), drawn(picture(nodes), [(1.0, "x" * 99)] * 9, width, height)
    assert len(quiet) == len(busy) < height
    assert all(len(line) < width for line in (*quiet, *busy))
    assert quiet[0].endswith("1 of 30 s, 29 s left")
    assert any(line.startswith(" next") for line in quiet)


def test_of_more_nodes_than_fit_the_last_are_told_in_one_line():
    def rest(*harmed):
        (line,) = [line for line in drawn(picture(16, harmed)) if " more: " in line]
        return line

    assert rest() == " and 5 more: n16 leads, all up"
    assert rest(3, 12, 13) == " and 5 more: n16 leads, n12 down, n13 down"
    assert not any(" more: " in line for line in drawn(picture(9)))


def test_of_more_faults_than_fit_the_rest_are_counted():
    (line,) = [line for line in drawn(picture(5)) if line.startswith(" faults now")]
    assert line == " faults now  kill n1 1 s more, kill n1 1 s more, kill n1 1 s more, and 6 more"


def test_the_latest_events_are_shown_and_the_rest_of_their_place_is_left_free():
    events = [(float(number), f"event {number}") for number in range(20)]
    assert drawn(picture(5), events)[-6:] == [f"  {number:5.1f} s  event {number}" for number in range(14, 20)]
    assert drawn(picture(5), events[:2])[-6:] == ["    0.0 s  event 0", "    1.0 s  event 1", "", "", "", ""]


def plain(directory, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "chaos.cli", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=90,
    )


def test_where_there_is_no_terminal_there_are_plain_lines_beside_the_verdict(tmp_path):
    done = plain(tmp_path, *breaking(tmp_path), "--world", "sim")
    assert ESCAPE not in done.stdout + done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "breaking: 5 nodes, 4 faults, seed 5, 5 s"
    assert any(re.match(r" +\d\.\d s  kill n\d \(leader\) in effect", line) for line in lines)
    assert lines[-1] == "  … judging"
    assert done.stdout.decode().startswith(("VALID  breaking", "UNKNOWN  breaking"))


def test_with_json_nothing_is_said_beside_it(tmp_path):
    done = plain(tmp_path, *breaking(tmp_path), "--world", "sim", "--json")
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


def test_ctrl_c_leaves_a_clean_terminal_and_says_that_nothing_else_is_left(tmp_path):
    pressed = []

    def press(lines, process):
        if not pressed and any("pause n2 in effect" in line for line in lines):
            pressed.append(True)
            os.kill(process.pid, signal.SIGINT)

    watched = watch(breaking(tmp_path, duration="60s"), tmp_path, act=press)
    assert watched.status == 130
    end = "".join(line.rstrip() for line in replayed(watched.output).display)
    assert end == "interrupted; everything is healed and stopped"
    assert watched.output.count(b"\x1b[?25l") == watched.output.count(b"\x1b[?25h") == 1


def test_pictures_for_people(live, browser, artefacts):
    seen = zip(live.marks, live.screens, strict=True)
    killed = [mark for mark, lines in seen if any(" killed" in line for line in lines)]
    screen = replayed(live.output[: killed[-1]])
    for name, palette in (("dark", DARK), ("light", LIGHT)):
        path = artefacts / f"terminal-{name}.png"
        photograph(browser, screen, palette, path)
        assert path.stat().st_size > 10_000
