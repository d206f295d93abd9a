"""The small network finds bugs: each classic mistake, planted, breaks an invariant within a few seeds."""

from collections.abc import Callable
from typing import Any

import campaign
import harness
import pytest

from testbed.base import limits
from testbed.core.raft import election, machine, replication
from testbed.core.raft.events import SaveVote
from testbed.core.raft.messages import AppendEntries, Entry

Plant = Callable[[pytest.MonkeyPatch], None]


def votes_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    """R1 (PySyncObj#84)."""
    real = harness.Disk.carry_out
    patch.setattr(
        harness.Disk, "carry_out", lambda self, found: real(self, [e for e in found if not isinstance(e, SaveVote)])
    )


def reads_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """R9, R11."""
    real = replication.flush

    def flush(raft: Any) -> None:
        for pending in raft.reads:
            raft.answer(pending.handle, raft.machine.service.query(pending.query))
        raft.reads.clear()
        real(raft)

    patch.setattr(replication, "flush", flush)


def commands_are_not_deduplicated(patch: pytest.MonkeyPatch) -> None:
    """R13."""
    real = machine.ReplicatedState.apply

    def apply(self: Any, entry: Entry, index: int) -> Any:
        if entry.session in self.sessions:
            self.sessions[entry.session].serial = 0
        return real(self, entry, index)

    patch.setattr(machine.ReplicatedState, "apply", apply)


def sessions_are_left_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    """Thesis checklist 19."""
    real = machine.ReplicatedState.restore

    def restore(self: Any, data: bytes) -> None:
        real(self, data)
        self.sessions = {}

    patch.setattr(machine.ReplicatedState, "restore", restore)


def the_log_decides_no_vote(patch: pytest.MonkeyPatch) -> None:
    """Thesis 3.6.1: any candidate is up to date."""
    real = election.vote_request

    def vote_request(raft: Any, sender: str, request: Any) -> None:
        real(raft, sender, type(request)(request.term, request.pre, 10**9, 10**9, request.transfer))

    patch.setattr(election, "vote_request", vote_request)


def a_follower_commits_what_it_has(patch: pytest.MonkeyPatch) -> None:
    """Thesis 3.5: beyond what the message showed."""
    real = replication.append_entries

    def append_entries(raft: Any, sender: str, message: AppendEntries) -> None:
        real(raft, sender, message)
        if raft.leader == sender and message.term == raft.term and min(message.commit, raft.log.last) > raft.commit:
            raft.commit = min(message.commit, raft.log.last)
            replication.apply(raft)

    patch.setattr(replication, "append_entries", append_entries)


PLANTS: list[tuple[Plant, int]] = [  # with the number of seeds within which it must be found
    (votes_are_not_kept, 40),
    (reads_without_a_round, 40),
    (commands_are_not_deduplicated, 20),
    (sessions_are_left_out_of_snapshots, 20),
    (the_log_decides_no_vote, 40),
    (a_follower_commits_what_it_has, 80),
]


@pytest.mark.parametrize(("plant", "seeds"), PLANTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_found(plant: Plant, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_TTL_S", 3.0)
    plant(monkeypatch)
    for seed in range(seeds):
        try:
            campaign.run(seed)
        except (AssertionError, IndexError, KeyError):
            return
    pytest.fail(f"{plant.__name__} went unnoticed in {seeds} seeds")
