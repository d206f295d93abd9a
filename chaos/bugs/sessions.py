"""Mistakes in client sessions: on the side of the replicated service."""

from collections.abc import Sequence

from chaos.bugs.bug import Replacement, bug
from testbed.core.raft import replication
from testbed.core.raft.core import Raft
from testbed.core.raft.machine import Applied, ClientSession, ReplicatedState
from testbed.core.raft.messages import Entry
from testbed.host import ClientRequest, Host, Input

INVARIANTS = ("raft-invariants", "cas-register")


@bug(
    "sessions",
    source="Pyraft-Lab report 6.3; Raft thesis 6.3, figure 6.2",
    caught_by=INVARIANTS,
    scenario="duplicates.toml",
)
def no_session_table() -> Sequence[Replacement]:
    """Every command is carried out as if it were new: a retry takes effect again."""
    right = ReplicatedState.apply

    def apply(state: ReplicatedState, entry: Entry, index: int) -> Applied:
        if entry.session in state.sessions:
            state.sessions[entry.session].serial = 0
        return right(state, entry, index)

    return [(ReplicatedState, "apply", apply)]


@bug("sessions", source="Pyraft-Lab report 6.3", caught_by=INVARIANTS, scenario="duplicates.toml")
def late_copy_counts_as_new() -> Sequence[Replacement]:
    """Only a copy of a session's last command is known again: one that comes later brings an old value back to life."""
    right = ReplicatedState.apply

    def apply(state: ReplicatedState, entry: Entry, index: int) -> Applied:
        session = state.sessions.get(entry.session)
        if session is not None and entry.serial != session.serial:
            session.serial = 0
        return right(state, entry, index)

    return [(ReplicatedState, "apply", apply)]


@bug("sessions", source="Raft thesis 6.3", caught_by=INVARIANTS)
def snapshot_without_sessions() -> Sequence[Replacement]:
    """A snapshot brings back the service's state, and no sessions."""
    right = ReplicatedState.restore

    def restore(state: ReplicatedState, data: bytes) -> None:
        right(state, data)
        state.sessions = {}

    return [(ReplicatedState, "restore", restore)]


@bug("sessions", source="Raft thesis 6.3", caught_by=INVARIANTS)
def loses_session_serials() -> Sequence[Replacement]:
    """A snapshot brings back who has a session, and not which command was its last."""
    right = ReplicatedState.restore

    def restore(state: ReplicatedState, data: bytes) -> None:
        right(state, data)
        state.sessions = {number: ClientSession(0, b"", old.active) for number, old in state.sessions.items()}

    return [(ReplicatedState, "restore", restore)]


@bug("sessions", source="Raft thesis 6.3", caught_by=INVARIANTS)
def expires_by_local_clock() -> Sequence[Replacement]:
    """Sessions are stamped with the clock of the node that applies, and not with the leader's in the log."""
    right = replication.apply

    def apply(raft: Raft) -> None:
        machine = raft.machine
        log_time = machine.apply

        def stamped(entry: Entry, index: int) -> Applied:
            return log_time(Entry(entry.term, raft.now, entry.session, entry.serial, entry.command), index)

        vars(machine)["apply"] = stamped
        try:
            right(raft)
        finally:
            del vars(machine)["apply"]

    return [(replication, "apply", apply)]


@bug("sessions", source="Maelstrom, definite and indefinite errors", caught_by=INVARIANTS, scenario="outages.toml")
def lost_as_refused() -> Sequence[Replacement]:
    """A leader that is deposed tells clients whose commands are in its log that those had no effect."""
    right = replication.abandon

    def abandon(raft: Raft) -> None:
        for handle in raft.pending.values():
            raft.answer(handle, raft.not_leader())
        raft.pending.clear()
        right(raft)

    return [(replication, "abandon", abandon)]


@bug("sessions", source="Maelstrom, definite and indefinite errors", caught_by=INVARIANTS, scenario="outages.toml")
def delivers_twice() -> Sequence[Replacement]:
    """Both copies of a request that a link duplicated are delivered: one is refused, and the other takes effect."""
    right = Host._take

    def take(host: Host, given: Input) -> None:
        if isinstance(given, ClientRequest):
            given.request.delivered = False
        right(host, given)

    return [(Host, "_take", take)]
