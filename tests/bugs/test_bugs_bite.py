"""What the planted pieces do wrong, shown as directly as can be: on single cores, sessions, records and grips."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import campaign
import pytest
from biting import both
from cores import acknowledge, answers, append, core, end, leader, log_terms, put, receive, sent

from chaos.bugs import planted
from chaos.grips import Down, Pause
from testbed.base import limits
from testbed.base.codec import Codec, pack
from testbed.client import Answered, NodeClosed, Session, Woken
from testbed.core import requests
from testbed.core.membership import BeatReceived, Membership, MembershipConfig, Started, Tick
from testbed.core.raft import events
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import AppendEntries, AppendReply, InstallSnapshot, VoteReply, VoteRequest
from testbed.core.services.commands import Get, Put, value
from testbed.core.services.machine import Services
from testbed.host import ClientRequest, Host, HostConfig
from testbed.node import Request
from testbed.service import ServiceNode
from testbed.sim import disk
from testbed.sim.clocks import LocalClock

CODEC = Codec((*requests.REQUESTS, *requests.REPLIES))
GET = pack(Get("x"))


# --- Raft ---


def test_acks_before_sync() -> None:
    def early() -> list[bool]:
        effects = receive(core(1), "n2", append(1, (0, 0), [1]))
        return [effect.early for effect in effects if isinstance(effect, events.Send)]

    assert both("acks-before-sync", early) == ([False], [True])


@pytest.mark.parametrize(("name", "wrong"), [("forgets-vote", (4, None)), ("forgets-term", (0, None))])
def test_what_a_restart_forgets(name: str, wrong: tuple[int, str | None]) -> None:
    def known() -> tuple[int, str | None]:
        raft = core(4, vote="n3")
        return raft.term, raft.vote

    assert both(name, known) == ((4, "n3"), wrong)


def candidate(size: int) -> Any:
    """Has asked for votes in term 1."""
    raft = core(size=size)
    raft.step(events.TimerFired(events.ELECTION), 2.5)
    for number in range(2, size // 2 + 2):
        receive(raft, f"n{number}", VoteReply(0, 1, True, True), 2.5)
    assert raft.campaign.term == 1
    assert not raft.campaign.pre
    end(raft, 2.5)
    return raft


def test_counts_votes_twice() -> None:
    def role() -> str:
        raft = candidate(size=5)
        for _ in range(2):
            receive(raft, "n2", VoteReply(1, 1, False, True), 2.6)
        return raft.role

    assert both("counts-votes-twice", role) == ("candidate", "leader")


def test_counts_votes_of_any_term() -> None:
    def role() -> str:
        raft = candidate(size=3)
        receive(raft, "n3", VoteReply(0, 1, True, True), 2.6)
        return raft.role

    assert both("counts-votes-of-any-term", role) == ("candidate", "leader")


def test_stale_vote_log_check() -> None:
    def granted() -> list[Any]:
        effects = receive(core(1, [1, 1]), "n2", VoteRequest(2, False, 1, 1, False), 5.0)
        return [message.granted for _, message in sent(effects, VoteReply)]

    assert both("stale-vote-log-check", granted) == ([False], [True])


def test_counts_itself_as_peer() -> None:
    assert both("counts-itself-as-peer", lambda: core(size=3).quorum) == (2, 3)


def test_no_check_quorum() -> None:
    def role() -> str:
        raft = leader()
        raft.step(events.TimerFired(events.HEARTBEAT), 9.0)
        return raft.role

    assert both("no-check-quorum", role) == ("follower", "leader")


def test_leads_on_after_stepping_down() -> None:
    def heard() -> int:
        raft = leader(term=2)
        receive(raft, "n2", AppendReply(3, 0, False, 0), 2.7)
        return len(sent(raft.step(events.TimerFired(events.HEARTBEAT), 2.8), AppendEntries))

    assert both("leads-on-after-stepping-down", heard) == (0, 2)


def test_timer_reset_by_stale_leader() -> None:
    def put_off() -> bool:
        raft = core(4)
        before = raft.election_deadline
        receive(raft, "n2", append(3, (0, 0)), 0.5)
        return raft.election_deadline > before

    assert both("timer-reset-by-stale-leader", put_off) == (False, True)


def test_commits_old_terms() -> None:
    def commit() -> int:
        raft = leader(3, [1, 2])
        receive(raft, "n2", AppendReply(3, raft.progress["n2"].sent, True, 2), 2.6)
        return raft.commit

    assert both("commits-old-terms", commit) == (0, 2)


def test_commit_stops_at_old_terms() -> None:
    def commit() -> int:
        raft = leader(3, [1, 2])
        acknowledge(raft, "n2")
        return raft.commit

    assert both("commit-stops-at-old-terms", commit) == (3, 0)


def test_answers_before_commit() -> None:
    def commit() -> int:
        return leader().commit

    assert both("answers-before-commit", commit) == (0, 1)


def test_counts_itself_before_durable() -> None:
    def durable() -> int:
        raft = leader()
        raft.step(events.Proposed("x", 1, 1, put("x", 1)), 2.6)
        return raft.durable

    assert both("counts-itself-before-durable", durable) == (1, 2)


def test_truncates_always() -> None:
    def terms() -> list[int]:
        raft = core(1, [1, 1, 1])
        receive(raft, "n2", append(1, (1, 1), [1]))
        return log_terms(raft)

    assert both("truncates-always", terms) == ([1, 1, 1], [1, 1])


def test_match_beyond_message() -> None:
    def match() -> list[int]:
        return [message.match for _, message in sent(receive(core(1, [1, 1]), "n2", append(2, (1, 1))), AppendReply)]

    assert both("match-beyond-message", match) == ([1], [2])


def test_commits_beyond_message() -> None:
    def commit() -> int:
        raft = core(1, [1, 1])
        receive(raft, "n2", append(2, (1, 1), commit=2))
        return raft.commit

    assert both("commits-beyond-message", commit) == (1, 2)


def test_commit_goes_back() -> None:
    def commit() -> int:
        raft = core(1, [1, 1])
        for term, known in ((1, 2), (2, 1)):
            receive(raft, "n2", append(term, (2, 1), commit=known))
        return raft.commit

    assert both("commit-goes-back", commit) == (2, 1)


def test_match_goes_back() -> None:
    def match() -> int:
        raft = leader(2, [1])
        for index in (2, 1):
            receive(raft, "n2", AppendReply(2, 1, True, index), 2.6)
        return raft.progress["n2"].match

    assert both("match-goes-back", match) == (2, 1)


def asked(raft: Any, now: float) -> int:
    """How many answers a read gets without any message."""
    return len(answers(raft.step(events.QueryAsked("r", GET), now)))


def test_reads_locally() -> None:
    def at_once() -> int:
        return asked(leader(), 2.6)

    assert both("reads-locally", at_once) == (0, 1)


@pytest.mark.parametrize("name", ["reads-on-lease", "reuses-read-round"])
def test_a_leader_that_was_paused_answers(name: str) -> None:
    def after_a_pause() -> int:
        raft = leader()
        raft.step(events.TimerFired(events.HEARTBEAT), 2.6)
        acknowledge(raft, "n2")
        raft.step(events.TimerFired(events.HEARTBEAT), 2.7)
        return asked(raft, 60.0)

    assert both(name, after_a_pause) == (0, 1)


def test_reads_before_noop() -> None:
    def without_its_noop() -> int:
        raft = leader(3, [1, 2])
        raft.step(events.QueryAsked("r", GET), 2.6)
        raft.step(events.TimerFired(events.HEARTBEAT), 2.7)
        refused = AppendReply(3, raft.progress["n2"].sent, False, 0, 1, 0)
        return len(answers(receive(raft, "n2", refused, 2.8)))

    assert both("reads-before-noop", without_its_noop) == (0, 1)


# --- found by the small network: with the seed that shows it ---


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("snapshot-gap", 1),
        ("no-session-table", 2),
        ("late-copy-counts-as-new", 41),
        ("snapshot-without-sessions", 1),
        ("loses-session-serials", 3),
        ("expires-by-local-clock", 0),
        ("lost-as-refused", 43),
        ("timeout-as-failure", 9),
        ("closing-as-refusal", 17),
        ("retry-as-new-command", 1),
        ("takes-any-answer", 5),
    ],
)
def test_a_seed_of_the_small_network_shows(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_TTL_S", 3.0)
    campaign.run(seed)
    with planted(name), pytest.raises(AssertionError):
        campaign.run(seed)


# --- snapshots and sessions ---


def test_snapshot_goes_back() -> None:
    def commit() -> int:
        state = ReplicatedState(Services()).snapshot()
        raft = core(1, [1, 1, 1])
        receive(raft, "n2", append(1, (3, 1), commit=3))
        receive(raft, "n2", InstallSnapshot(1, 5, 2, 1, 0.0, 0, state, True))
        return raft.commit

    assert both("snapshot-goes-back", commit) == (3, 2)


def test_delivers_twice() -> None:
    def delivered() -> int:
        host = Host(HostConfig("n1", ("n1", "n2", "n3")), ServiceNode, {}, 0.0)
        host.start(0.0)
        copy = ClientRequest(Request(None, 1), CODEC.encode(requests.OpenSession()))
        taken: list[Any] = []
        host.node.on_request = lambda *request: taken.append(request)
        host.step([copy, copy], 0.1)
        return len(taken)

    assert both("delivers-twice", delivered) == (1, 2)


# --- clients ---


def session_at_work() -> tuple[Session, list[Any]]:
    """Has a session, and has asked n1 for a command."""
    session = Session(("n1", "n2"), 1.0, CODEC)
    (opening,) = session.begin(Put("x", value(1)), 0.0, 5.0)
    return session, session.step(Answered(opening.ask, True, CODEC.encode(requests.Opened(7))), 0.1)


def test_timeout_as_failure() -> None:
    def outcome() -> str:
        session, _ = session_at_work()
        session.step(Woken(), 5.0)
        return session.outcome.type

    assert both("timeout-as-failure", outcome) == ("info", "fail")


def test_closing_as_refusal() -> None:
    def in_doubt() -> bool:
        session, _ = session_at_work()
        session.step(NodeClosed("n1"), 0.2)
        return session._in_doubt

    assert both("closing-as-refusal", in_doubt) == (True, False)


# --- detection ---


def detector() -> Membership:
    """n1 of three; n2 has beaten once, at 0.5 s, and falls silent."""
    own, other = (Membership(node, peers, MembershipConfig(), 1) for node, peers in (("n1", ["n2", "n3"]), ("n2", [])))
    own.step(Started(), 0.0)
    (beat,) = [effect.beat for effect in other.step(Started(), 0.5) if hasattr(effect, "beat")]
    own.step(BeatReceived("n2", beat), 0.5)
    return own


def verdicts(steps: Sequence[float]) -> list[str]:
    """On n2, as time passes."""
    own = detector()
    changes = [effect for at in steps for effect in own.step(Tick(), at)]
    return [change.state for change in changes if getattr(change, "peer", None) == "n2" and hasattr(change, "reason")]


def test_convicts_at_once() -> None:
    steps = [at / 10 for at in range(6, 50)]
    assert both("convicts-at-once", lambda: verdicts(steps)) == (["suspect", "failed"], ["failed"])


def test_resumed_convicts() -> None:
    steps = [0.6, 2.5, 60.0]
    assert both("resumed-convicts", lambda: verdicts(steps)) == ([], ["suspect", "failed"])


def test_wall_clock() -> None:
    class Steps:
        """Dice for a clock that is set back in the end."""

        def uniform(self, low: float, high: float) -> float:
            return (low + high) / 2

        def choice(self, options: Sequence[float]) -> float:
            return options[0]

    def reading() -> float:
        return LocalClock(Steps()).now(1.0)

    right, wrong = both("wall-clock", reading)
    assert wrong == right - 3600.0


# --- storage and harness ---


def test_accepts_torn_records() -> None:
    whole = disk.record({"a": b"12345678"})

    def found() -> list[Any]:
        return disk.recover(whole + whole[:-4])

    one = {"a": b"12345678"}
    assert both("accepts-torn-records", found) == ([one], [one, {"a": b"1234\0\0\0\0"}])


def test_counts_unapplied_faults() -> None:
    killed: list[str] = []
    world = SimpleNamespace(nodes=("n1",), exits=list, now=lambda: 1.0, kill=killed.append)
    holds = SimpleNamespace(world=world, down={"n1": []})
    with planted("counts-unapplied-faults"):
        grip = Down(holds, ["n1"], terminate=False)
        grip.take()
        assert grip.seen_in_effect({}, 2.0) == 2.0
    assert killed == []


def test_heals_without_looking() -> None:
    status = {"n1": SimpleNamespace(pid=7, state="paused")}
    with planted("heals-without-looking"):
        grip = Pause(SimpleNamespace(), ["n1"], status)
        grip.let_go()
        assert grip.seen_healed(status, 2.0) == 2.0
