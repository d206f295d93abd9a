"""The restart policy: SV2 (crash loops end), SV6 (faults are not counted), circus #965 (a stop is not undone)."""

import pytest

from testbed.base.rand import Streams
from testbed.core.restart import GiveUp, NodeRestarts, Restart, RestartPolicy, StayDown, backoff

RANDOM = Streams(7).stream("restart")
ALWAYS = RestartPolicy("always")


class Lowest:
    """Dice that always show the least."""

    def uniform(self, low, high):
        return low


class Highest:
    """Dice that always show the most."""

    def uniform(self, low, high):
        return high


@pytest.mark.parametrize(
    ("policy", "exit_kind", "restarted"),
    [
        ("never", "clean", False),
        ("never", "failed", False),
        ("never", "fault", False),
        ("never", "stopped", False),
        ("on-failure", "clean", False),
        ("on-failure", "failed", True),
        ("on-failure", "fault", False),
        ("on-failure", "stopped", False),
        ("always", "clean", True),
        ("always", "failed", True),
        ("always", "fault", False),
        ("always", "stopped", False),
    ],
)
def test_each_policy_restarts_exactly_the_exits_it_covers(policy, exit_kind, restarted):
    decision = NodeRestarts(RestartPolicy(policy)).decide(exit_kind, 0.0, RANDOM)
    assert isinstance(decision, Restart if restarted else StayDown)


def test_the_longest_backoff_doubles_up_to_its_ceiling():
    longest = [backoff(ALWAYS, failures, Highest()) for failures in range(8)]
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_no_backoff_is_shorter_than_the_least_one():
    assert [backoff(ALWAYS, failures, Lowest()) for failures in (0, 3, 7, 10**6)] == [0.1] * 4


def test_jitter_differs_between_draws_and_stays_within_bounds():
    drawn = [backoff(ALWAYS, 4, RANDOM) for _ in range(200)]
    assert len(set(drawn)) > 100
    assert all(0.1 <= after <= 1.6 for after in drawn)


def test_a_crash_loop_ends_with_the_sixth_crash_in_ten_seconds():
    restarts = NodeRestarts(ALWAYS)
    now, decisions = 100.0, []
    for _ in range(6):
        decision = restarts.decide("failed", now, Highest())
        decisions.append(decision)
        if isinstance(decision, Restart):
            now += decision.after
            restarts.started(now)
            now += 0.001
    assert decisions[:5] == [Restart(0.1), Restart(0.2), Restart(0.4), Restart(0.8), Restart(1.6)]
    assert decisions[5] == GiveUp("ended again after 5 restarts in 3.1 s")


def test_crashes_spread_over_more_than_the_window_go_on_being_restarted():
    restarts = NodeRestarts(ALWAYS)
    for count in range(50):
        restarts.started(count * 2.5)
        assert isinstance(restarts.decide("failed", count * 2.5 + 2.0, RANDOM), Restart)


def test_a_node_that_was_healthy_starts_a_new_series():
    restarts = NodeRestarts(ALWAYS)
    assert [restarts.decide("failed", at, Highest()) for at in (0.0, 1.0, 2.0)][-1] == Restart(0.4)
    restarts.started(3.0)
    assert restarts.decide("failed", 13.0, Highest()) == Restart(0.1)


def test_kills_by_faults_and_commanded_stops_are_never_counted():
    restarts = NodeRestarts(ALWAYS)
    for _ in range(100):
        assert restarts.decide("fault", 0.0, RANDOM) == StayDown()
        assert restarts.decide("stopped", 0.0, RANDOM) == StayDown()
    assert restarts.decide("failed", 0.0, Highest()) == Restart(0.1)


def test_a_commanded_start_wipes_the_slate():
    restarts = NodeRestarts(ALWAYS)
    for _ in range(5):
        restarts.decide("failed", 0.0, RANDOM)
    assert isinstance(restarts.decide("failed", 0.0, RANDOM), GiveUp)
    restarts.forgive()
    assert restarts.decide("failed", 0.1, Highest()) == Restart(0.1)
