"""Seeds: clusters under random faults, checked after every step, judged and healed. Failures print their seed."""

from collections import Counter

import campaign
import pytest

from testbed.base import limits

SEEDS = range(240)
BATCHES = 12
SOMETIMES = (
    "snapshot installed",
    "snapshot taken",
    "truncation",
    "leader elected",
    "leader stepped down",
    "leadership transferred",
    "leader's connection closed",
    "session expired",
    "retry answered from the session",
    "crash before the saves",
    "crash after the saves",
    "outcome ok",
    "outcome fail",
    "outcome info",
    "reply Lost",
    "reply Expired",
    "reply NotLeader",
    "reply Granted",
    "reply Waiting",
    "refused: deadlock",
    "refused: lease-lost",
    "refused: not-granted",
    "refused: full",
)
reached: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def short_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_TTL_S", 3.0)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_seed_breaks_an_invariant_or_stops_progress(batch: int) -> None:
    for seed in SEEDS[batch::BATCHES]:
        reached.update(campaign.run(seed))
    reached["batches"] += 1


def test_the_seeds_reach_what_they_are_meant_to_reach() -> None:
    """A campaign in which nothing happened proves nothing."""
    if reached["batches"] < BATCHES:
        pytest.skip("only some of the seeds ran")
    assert [name for name in SOMETIMES if not reached[name]] == []


def test_a_seed_repeats_exactly() -> None:
    assert campaign.run(SEEDS[-1]) == campaign.run(SEEDS[-1])
