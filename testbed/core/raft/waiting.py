"""Commands that wait for their answer, and leases that end: what a leader does about time.

It stamps entries so that log time goes on, holds the requests of those who wait, and gives up on those it hears no more
of. What waits and what is due is the state machine's business. A deposed leader does nothing here: whatever it appends
is never committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from testbed.core import requests
from testbed.core.raft.events import LEASES, SetTimer
from testbed.core.raft.messages import Entry

if TYPE_CHECKING:
    from testbed.core.raft.core import Raft

HOLD_ELECTION_TIMEOUTS = 1 / 3  # clients take a node that does not answer for half an election timeout to be away
GIVE_UP_ELECTION_TIMEOUTS = 3.0  # without a word of who waits: a client may have to find this leader first
ALARM_AFTER_S_MIN = 0.001  # a timer may be early by rounding, and what is left must not round to no time at all


@dataclass(slots=True)
class Held:
    """Who waits for the answer to `serial`. `handle`: the request held open, None between two; seconds of `now`."""

    serial: int
    handle: Any
    heard: float


def hold(raft: Raft, session: int, serial: int, handle: Any) -> None:
    """Answer the request when the wait is over, or when its client should ask again; one held before is given up."""
    raft.held[session] = Held(serial, handle, raft.now)


def answer(raft: Raft, session: int, serial: int, reply: bytes) -> None:
    """The wait is over."""
    known = raft.held.pop(session, None)
    if known is not None and known.handle is not None:
        raft.answer(known.handle, reply if known.serial == serial else requests.Lost())


def look_after(raft: Raft) -> None:
    """Every heartbeat interval: let clients ask again before they think this node is away, and note who does not.

    A leader says what log time it is only once the log has taken note of its term: before that, another might yet lead
    with entries of a later time.
    """
    patience = HOLD_ELECTION_TIMEOUTS * raft.config.election_timeout - raft.config.heartbeat
    give_up_after = GIVE_UP_ELECTION_TIMEOUTS * raft.config.election_timeout
    for session in [session for session in raft.held if session not in raft.machine.waiting]:
        answer(raft, session, 0, b"")
    for session, state in raft.machine.waiting.items():
        held = raft.held.setdefault(session, Held(state.serial, None, raft.now))
        if held.handle is not None and raft.now - held.heard >= patience and raft.commit >= raft.term_start:
            raft.answer(held.handle, requests.Waiting(raft.log_time()))
            held.handle = None
        elif held.handle is None and raft.now - held.heard >= give_up_after and raft.transfer_to is None:
            raft.log_line("INFO", "gives up on a client that waited", session=session)
            raft.append(Entry(raft.term, raft.log_time(), session, state.serial, b""))
            held.heard = raft.now
    tell_time(raft)


def tell_time(raft: Raft) -> None:
    """Where something is due, say so in the log: an entry's time is the only clock there."""
    due = raft.machine.service.next_deadline
    if raft.told_time <= raft.applied and raft.transfer_to is None and due <= raft.log_time():
        raft.told_time = raft.append(Entry(raft.term, raft.log_time(), 0, 0, b""))
    raft.alarm = inf


def set_alarm(raft: Raft) -> None:
    """Wake when the next thing is due."""
    due = raft.machine.service.next_deadline
    if due != raft.alarm and raft.told_time <= raft.applied and raft.transfer_to is None:
        raft.alarm = due
        if due < inf:
            raft.effects.append(SetTimer(LEASES, max(ALARM_AFTER_S_MIN, due - raft.log_time())))


def abandon(raft: Raft) -> None:
    """No longer leader: what waits goes on waiting, and another leader will know the answer."""
    for held in raft.held.values():
        if held.handle is not None:
            raft.answer(held.handle, requests.Lost())
    raft.held.clear()
