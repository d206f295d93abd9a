"""Elections: pre-vote, leader stickiness, hints of a closed connection, leadership transfer.

Decides who votes for whom and when to campaign. Knows of the log only its last index and term.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.core.raft.events import ELECTION, SaveVote, SetTimer
from testbed.core.raft.messages import TimeoutNow, VoteReply, VoteRequest

if TYPE_CHECKING:
    from testbed.core.raft.core import Raft

HURRIED_CAMPAIGNS = 10  # after a hint; then the election timeout rules again
FIRST_ELECTION_SPREAD_S = 0.02  # over which nodes draw their first campaign after a start


@dataclass(slots=True)
class Campaign:
    """Votes asked for in `term`, counted by voter: a repeated reply counts once."""

    term: int
    pre: bool
    transfer: bool = False
    granted: set[str] = field(default_factory=set)


def started(raft: Raft) -> None:
    """Begin as a follower; alone in the cluster, campaign at once."""
    draw_timeout(raft)
    if not raft.peers:
        raft.election_deadline = raft.now
    set_timer(raft)


def draw_timeout(raft: Raft) -> None:
    """Draw a new election timeout, and wait it out from now: on start, for each campaign, on stepping down."""
    timeout = raft.config.election_timeout
    raft.election_timeout = raft.random.uniform(timeout, 2 * timeout)
    reset_deadline(raft)


def reset_deadline(raft: Raft) -> None:
    """Wait the whole election timeout again: on a valid leader's message, on granting a vote - and on nothing else.

    It is the one drawn before, so that the timer that is armed for it never fires too late.
    """
    raft.election_deadline = raft.now + raft.election_timeout


def set_timer(raft: Raft) -> None:
    """Have the election timer fire at the deadline."""
    raft.effects.append(SetTimer(ELECTION, max(0.0, raft.election_deadline - raft.now)))


def election_timer(raft: Raft) -> None:
    """The timer is set once and looks at the deadline when it fires: a heartbeat then costs no timer."""
    if raft.role == "leader":
        return
    if raft.now >= raft.election_deadline:
        _campaign(raft, pre=True)
    else:
        set_timer(raft)


def peer_connected(raft: Raft, peer: str) -> None:
    """A node that has heard no leader since its start asks for pre-votes as soon as a majority is connected.

    Where terms exist already there may be a leader: it gets the time of a heartbeat to show itself. A pre-vote that
    comes all the same disturbs nobody, and after a crash of all nodes nobody waits out the election timeout.
    """
    raft.closed.discard(peer)
    raft.connected.add(peer)
    unled = raft.role == "follower" and raft.leader_contact == float("-inf") and raft.hurried == 0
    if unled and len(raft.connected) + 1 >= raft.quorum:
        grace = raft.config.heartbeat if raft.term else 0.0
        _hurry(raft, grace + raft.random.uniform(0.0, FIRST_ELECTION_SPREAD_S))


def peer_closed(raft: Raft, peer: str) -> None:
    """A leader's connection that closes lifts the own stickiness and starts a pre-vote early; it decides nothing."""
    raft.connected.discard(peer)
    raft.closed.add(peer)
    if peer == raft.leader and raft.role == "follower":
        raft.log_line("INFO", "the leader's connection closed", leader=peer)
        _hurry(raft, raft.random.uniform(0.0, raft.config.heartbeat * 0.3))


def _hurry(raft: Raft, delay: float) -> None:
    raft.hurried = HURRIED_CAMPAIGNS
    raft.election_deadline = min(raft.election_deadline, raft.now + delay)
    set_timer(raft)


def _campaign(raft: Raft, pre: bool, transfer: bool = False) -> None:
    """Ask for votes. A pre-vote changes nothing durable: a node that was cut off cannot raise terms (thesis 9.6)."""
    raft.leader = None
    raft.role = "candidate"
    if pre and raft.hurried:
        raft.hurried -= 1
    if raft.hurried:
        raft.election_deadline = raft.now + raft.random.uniform(0.5, 1.5) * raft.config.heartbeat
    else:
        draw_timeout(raft)
    if not pre:
        raft.term, raft.vote = raft.term + 1, raft.id
        raft.effects.append(SaveVote(raft.term, raft.vote))
    term = raft.term + 1 if pre else raft.term
    raft.campaign = Campaign(term, pre, transfer, {raft.id})
    raft.log_line("DEBUG" if pre else "INFO", "pre-vote" if pre else "campaigns", term=term)
    for peer in raft.peers:
        raft.send(peer, VoteRequest(term, pre, raft.log.last, raft.log.last_term, transfer))
    if pre and raft.quorum == 1:
        _campaign(raft, pre=False)
    else:
        set_timer(raft)


def own_vote_is_durable(raft: Raft) -> None:
    """Alone, a candidate has won once its own vote is durable (elsewhere the replies come later than that)."""
    if raft.quorum == 1 and raft.campaign is not None and not raft.campaign.pre:
        raft.become_leader()


def vote_request(raft: Raft, sender: str, request: VoteRequest) -> None:
    """Answer a (pre-)vote. Within an election timeout of a leader's word nobody is disturbed (thesis 4.2.3)."""
    granted = False
    if request.transfer or not leader_is_fresh(raft):
        if request.term > raft.term and not request.pre:
            raft.become_follower(request.term, None)
        up_to_date = (request.last_term, request.last_index) >= (raft.log.last_term, raft.log.last)
        if request.pre:
            granted = request.term > raft.term and up_to_date
        else:
            granted = request.term == raft.term and raft.vote in (None, sender) and up_to_date
    if granted and not request.pre:
        if raft.vote is None:
            raft.vote = sender
            raft.effects.append(SaveVote(raft.term, sender))
        reset_deadline(raft)
    raft.send(sender, VoteReply(raft.term, request.term, request.pre, granted))


def leader_is_fresh(raft: Raft) -> bool:
    """Stickiness: a leader is in office as far as this node can tell. Lifted only by its own closed connection."""
    if raft.role == "leader":
        return True  # check-quorum makes it step down when a majority is out of reach
    if raft.now - raft.leader_contact >= raft.config.election_timeout:
        return False
    return raft.leader is not None and raft.leader not in raft.closed


def vote_reply(raft: Raft, sender: str, reply: VoteReply) -> None:
    """Count a vote; with a majority of pre-votes campaign, with a majority of votes lead."""
    if reply.term > raft.term:
        raft.become_follower(reply.term, None)
        return
    campaign = raft.campaign
    if campaign is None or (reply.asked, reply.pre) != (campaign.term, campaign.pre) or not reply.granted:
        return
    campaign.granted.add(sender)
    if len(campaign.granted) < raft.quorum:
        return
    if campaign.pre:
        _campaign(raft, pre=False)
    else:
        raft.become_leader()


def transfer(raft: Raft) -> None:
    """Hand leadership to the follower that has most of the log (thesis 3.10); takes no commands from now on."""
    if raft.role != "leader" or not raft.peers or raft.transfer_to is not None:
        return
    raft.transfer_until = raft.now + raft.config.election_timeout
    raft.transfer_to = max(raft.peers, key=lambda peer: (raft.progress[peer].match, raft.progress[peer].contact))
    raft.log_line("INFO", "hands leadership over", to=raft.transfer_to)
    transfer_if_ready(raft)


def transfer_if_ready(raft: Raft) -> None:
    """Tell the chosen follower to campaign once it has the whole log."""
    target = raft.transfer_to
    if target is not None and raft.progress[target].match == raft.log.last:
        raft.send(target, TimeoutNow(raft.term))


def give_up_transfer(raft: Raft) -> None:
    """A leader whose successor does not take over within an election timeout goes on leading (thesis 3.10)."""
    if raft.transfer_to is not None and raft.now >= raft.transfer_until:
        raft.log_line("WARNING", "was not relieved", by=raft.transfer_to)
        raft.transfer_to = None


def timeout_now(raft: Raft, message: TimeoutNow) -> None:
    """The leader asks this node to take over: no pre-vote, no stickiness."""
    if message.term == raft.term and raft.role == "follower":
        _campaign(raft, pre=False, transfer=True)


def heard_leader(raft: Raft, sender: str, term: int) -> None:
    """A valid leader's word: follow it, and leave it in peace for an election timeout."""
    assert not (raft.role == "leader" and term == raft.term), "two leaders in one term"
    if term > raft.term or raft.role != "follower":
        raft.become_follower(term, sender)
    if raft.leader != sender:
        raft.leader = sender
        raft.log_line("INFO", "follows", leader=sender, term=term)
    raft.leader_contact = raft.now
    raft.hurried = 0
    reset_deadline(raft)
