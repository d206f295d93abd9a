"""The parts of the simulated world, each alone: time, disk, clocks, channels, traces."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.base.rand import Streams
from testbed.sim import clocks
from testbed.sim.agenda import Agenda
from testbed.sim.clocks import LocalClock
from testbed.sim.conditions import draw
from testbed.sim.disk import Disk, record, recover
from testbed.sim.network import Network
from testbed.sim.trace import Trace

# --- time ---


def test_actions_happen_in_order_of_time_and_those_of_equal_times_in_the_order_planned():
    agenda, seen = Agenda(), []
    for name, at in (("c", 2.0), ("a", 1.0), ("b", 1.0), ("d", 2.0)):
        agenda.at(at, seen.append, name)
    agenda.run(until=1.5)
    assert (seen, agenda.now, agenda.next) == (["a", "b"], 1.5, 2.0)
    agenda.run(until=2.0)
    assert (seen, agenda.now, agenda.next) == (["a", "b", "c", "d"], 2.0, math.inf)


def test_what_is_planned_for_the_past_happens_now():
    agenda, seen = Agenda(), []
    agenda.run(until=5.0)
    agenda.at(1.0, lambda: seen.append(agenda.now))
    agenda.run(until=6.0)
    assert seen == [5.0]


def test_an_action_may_end_the_run_that_it_is_part_of():
    agenda, seen = Agenda(), []
    agenda.at(1.0, agenda.interrupt)
    agenda.at(1.0, seen.append, "later")
    agenda.run(until=3.0)
    assert (seen, agenda.now) == ([], 1.0)
    agenda.run(until=3.0)
    assert (seen, agenda.now) == (["later"], 3.0)


# --- disk ---

SAVES = st.dictionaries(st.text(max_size=3), st.none() | st.binary(max_size=20), max_size=4)


def test_what_was_synced_survives_a_crash_and_deletions_with_it():
    disk = Disk(Streams(1).stream("disk"))
    disk.write({"a": b"1", "b": b"2"})
    disk.write({"a": None})
    disk.sync()
    disk.crash()
    assert disk.load() == {"b": b"2"}


def test_what_was_not_synced_is_lost_or_kept_in_the_order_written_and_every_outcome_occurs():
    outcomes = set()
    for seed in range(200):
        disk = Disk(Streams(seed).stream("disk"))
        disk.write({"a": b"old"})
        disk.sync()
        disk.write({"a": b"new", "b": b"new"})
        disk.write({"b": b"newer"})
        disk.crash()
        outcomes.add(tuple(sorted(disk.load().items())))
    assert outcomes == {
        (("a", b"old"),),
        (("a", b"new"), ("b", b"new")),
        (("a", b"new"), ("b", b"newer")),
    }


@given(st.lists(SAVES, max_size=4), st.data())
def test_a_torn_log_gives_back_exactly_the_records_before_the_tear(written, data):
    log = b"".join(map(record, written))
    cut = data.draw(st.integers(0, len(log)))
    ends = [len(b"".join(map(record, written[:count]))) for count in range(len(written) + 1)]
    whole = max(count for count, end in enumerate(ends) if end <= cut)
    assert recover(log[:cut]) == written[:whole]


@given(st.lists(SAVES, min_size=1, max_size=3), st.data())
def test_a_flipped_bit_ends_the_log_before_its_record(written, data):
    log = bytearray(b"".join(map(record, written)))
    place = data.draw(st.integers(0, len(log) - 1))
    log[place] ^= 1 << data.draw(st.integers(0, 7))
    found = recover(bytes(log))
    assert found == written[: len(found)]
    assert len(found) < len(written)


# --- clocks ---


@pytest.mark.parametrize("seed", range(20))
def test_a_monotonic_clock_drifts_within_its_bounds_and_never_jumps(seed):
    clock = LocalClock(Streams(seed).stream("clock"))
    for time in (0.0, 3.9, 4.1, 100.0):
        passed = clock.now(time + 1.0) - clock.now(time)
        assert abs(passed - 1.0) <= clocks.DRIFT_MAX + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_a_deadline_on_the_own_clock_is_found_in_virtual_time(seed):
    clock = LocalClock(Streams(seed).stream("clock"))
    deadline = clock.now(10.0) + 2.5
    assert clock.now(10.0 + clock.until(deadline, 10.0)) == pytest.approx(deadline, abs=1e-9)
    assert clock.until(deadline, 20.0) == 0.0


def test_the_wall_clock_is_set_forward_and_back():
    clock = LocalClock(Streams(3).stream("clock"))
    steps = [clock.wall(time + 1.0) - clock.wall(time) for time in range(200)]
    assert min(steps) < 0
    assert max(steps) > 2


# --- network ---


def test_a_channel_keeps_the_order_of_its_messages_and_loses_none():
    agenda, trace = Agenda(), Trace()
    random = Streams(5).stream("network")
    network = Network(agenda, trace, random, draw(random, 0.1, 1.0))
    arrived = {"n2": [], "n3": []}
    for number in range(500):
        for target in ("n2", "n3"):
            network.carry("n1", target, "message", b"", arrived[target].append, number)
    agenda.run(until=100.0)
    assert arrived == {"n2": list(range(500)), "n3": list(range(500))}


# --- traces ---


def test_equal_events_give_equal_digests_and_any_other_event_another():
    def digest(*events):
        trace = Trace()
        for event in events:
            trace.note(*event)
        return trace.digest

    one = digest((1.0, b"n1>n2 message", b"x"), (2.0, b"n1 ends"))
    assert one == digest((1.0, b"n1>n2 message", b"x"), (2.0, b"n1 ends"))
    others = [
        digest((1.0, b"n1>n2 message", b"y"), (2.0, b"n1 ends")),
        digest((1.0, b"n1>n3 message", b"x"), (2.0, b"n1 ends")),
        digest((1.5, b"n1>n2 message", b"x"), (2.0, b"n1 ends")),
        digest((1.0, b"n1>n2 message", b"x")),
    ]
    assert one not in others
    assert len(set(others)) == 4
