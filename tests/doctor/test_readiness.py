"""Timeouts and slow machines: the rule, the scenario in slow motion, and what is measured."""

import os
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from chaos.readiness import (
    FACTOR_MAX,
    Lateness,
    Measured,
    assess,
    decide,
    measure,
    scaled,
)
from chaos.scenario import load_scenario, parse_scenario
from chaos.schedule import draw

SCENARIO = """
name = "slow"
duration = "20s"
[cluster]
nodes = 3
heartbeat = "100ms"
election_timeout = "1s"
[[workload]]
kind = "lock"
lease = "800ms"
rate = 50
[[fault]]
kind = "pause"
target = "leader"
every = "5s"
for = "1500ms"
[[fault]]
kind = "delay"
target = "one"
at = "2s"
for = "1s"
delay = "50ms"
jitter = "10ms"
"""


# --- the rule ---


def test_a_quick_machine_keeps_the_timeouts_as_they_are():
    ready = decide(Measured(late_s=0.002, fsync_s=0.001), 0.1, 1.0)
    assert (ready.factor, ready.warnings) == (1.0, ())
    assert (ready.late_s, ready.fsync_s) == (0.002, 0.001)


@pytest.mark.parametrize(
    ("late", "sync", "factor", "keys"),
    [
        (0.100, 0.0, 1.0, []),  # exactly ten broadcasts, and exactly a heartbeat
        (0.060, 0.030, 1.5, ["election_timeout"]),  # a sync is waited for twice
        (0.0, 0.051, 1.5, ["election_timeout"]),
        (0.101, 0.0, 1.5, ["election_timeout", "heartbeat"]),
        (0.150, 0.0, 1.5, ["election_timeout", "heartbeat"]),
        (0.151, 0.0, 2.0, ["election_timeout", "heartbeat"]),
        (0.0, 0.5, 10.0, ["election_timeout"]),
    ],
)
def test_the_factor_is_the_next_half_with_which_both_timeouts_are_kept(late, sync, factor, keys):
    measured = Measured(late_s=late, fsync_s=sync)
    ready = decide(measured, 0.1, 1.0)
    assert ready.factor == factor
    assert [warning.partition(":")[0] for warning in ready.warnings] == keys
    assert decide(measured, 0.1 * factor, 1.0 * factor).warnings == ()


def test_a_heartbeat_may_be_too_short_where_the_election_timeout_is_not():
    ready = decide(Measured(late_s=0.05, fsync_s=0.0), 0.02, 1.0)
    assert ready.factor == 2.5
    assert [warning.partition(":")[0] for warning in ready.warnings] == ["heartbeat"]


def test_there_is_a_machine_on_which_no_factor_helps():
    ready = decide(Measured(late_s=5.0, fsync_s=1.0), 0.1, 1.0)
    assert ready.factor == FACTOR_MAX
    assert "not even" in ready.warnings[-1]


def test_warnings_name_both_what_is_needed_and_what_is_asked_for():
    [warning] = decide(Measured(late_s=0.06, fsync_s=0.03), 0.1, 1.0).warnings
    for number in ("1 s", "1.2 s", "60 ms", "30 ms"):
        assert number in warning


# --- slow motion ---


def test_all_times_that_depend_on_each_other_grow_by_the_factor():
    slow = scaled(parse_scenario(SCENARIO, "slow.toml"), 1.5)
    assert (slow.cluster.heartbeat, slow.cluster.election_timeout, slow.duration) == (0.15, 1.5, 30.0)
    pause, delay = slow.faults
    assert (pause.every, pause.at, pause.lasting) == (7.5, None, 2.25)
    assert (delay.every, delay.at, delay.lasting, delay.delay, delay.jitter) == (None, 3.0, 1.5, 0.075, 0.015)
    assert slow.workloads == parse_scenario(SCENARIO, "").workloads


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.7, 7 / 3, 20.0])
def test_the_text_of_a_slower_scenario_is_read_back_as_that_scenario(factor):
    slow = scaled(parse_scenario(SCENARIO, "slow.toml"), factor)
    again = parse_scenario(slow.text, "slow.toml")
    assert msgspec.structs.replace(again, text="") == msgspec.structs.replace(slow, text="")
    assert draw(again, 7) == draw(slow, 7)
    assert slow.text.startswith(f"# slow.toml, with all its times multiplied by {factor:g}\n")


def test_a_factor_of_one_leaves_the_scenario_as_it_was_written():
    scenario = parse_scenario(SCENARIO, "slow.toml")
    assert scaled(scenario, 1.0) is scenario


@pytest.mark.parametrize("name", ["ci", "crash", "contention", "message_loss", "demo", "single_point_of_failure"])
def test_scenarios_that_ship_can_be_run_in_slow_motion(name, pytestconfig):
    slow = scaled(load_scenario(pytestconfig.rootpath / "configs" / f"{name}.toml"), 2.5)
    again = parse_scenario(slow.text, slow.source)
    assert draw(again, 1).kinds == draw(slow, 1).kinds != ()


# --- measuring ---


def test_this_machine_can_be_measured_and_nothing_is_left_behind(tmp_path):
    threads = threading.active_count()
    found = measure(tmp_path)
    assert found.late_s >= 0
    assert found.fsync_s > 0
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads
    ready = assess(60.0, 600.0, tmp_path)
    assert (ready.factor, ready.warnings) == (1.0, ())


def test_a_directory_in_which_nobody_can_sync_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "missing")


# --- lateness ---


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


def test_the_worst_of_all_wake_ups_is_kept_and_that_of_the_last_seconds_beside_it():
    lateness = Lateness()
    now = time.monotonic()
    lateness.woken(now - 1000.7, now - 1000.0)
    lateness.woken(now - 5.2, now - 5.0)
    lateness.woken(now + 1, now)  # woken too early is not late
    assert lateness.worst == pytest.approx(0.7)
    assert lateness.worst_of_last(500) == pytest.approx(0.2)
    assert lateness.worst_of_last(1) == 0.0


def test_a_sampler_notes_its_own_wake_ups_until_it_is_stopped():
    threads = threading.active_count()
    with Lateness() as lateness:
        until(lambda: lateness._woken)
        assert lateness.worst >= 0
    assert threading.active_count() == threads
    noted = len(lateness._woken)
    assert lateness.worst_of_last(60) <= lateness.worst
    assert len(lateness._woken) == noted


def test_a_sampler_that_was_never_started_can_be_stopped():
    Lateness().stop()


STALLED = """
import sys
from chaos.readiness import Lateness
with Lateness() as lateness:
    print("up", flush=True)
    sys.stdin.readline()
    print(lateness.worst, lateness.worst_of_last(50), flush=True)
"""


def test_a_process_that_was_stopped_knows_how_late_it_is():
    from testbed.live.procfs import observe

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", STALLED], env=environment, **pipes) as child:
        try:
            assert child.stdout.readline() == "up\n"
            child.send_signal(signal.SIGSTOP)
            until(lambda: observe(child.pid) == "stopped")
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 0.3)
            stopped = time.monotonic() - began
            child.send_signal(signal.SIGCONT)
            child.stdin.write("\n")
            child.stdin.flush()
            worst, recent = map(float, child.stdout.readline().split())
        finally:
            child.kill()
    assert worst >= stopped - 0.02  # it was to wake up within 20 ms
    assert recent >= stopped - 0.02
