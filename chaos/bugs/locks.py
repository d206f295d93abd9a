"""Mistakes in locks: whose clock ends a lease, who may end it, who is granted, and what a snapshot remembers."""

from collections.abc import Iterable, Mapping, Sequence
from time import time as wall_clock

import msgspec

from chaos.bugs.bug import Replacement, bug
from chaos.bugs.carrying import carried, carrying
from testbed.base.codec import pack
from testbed.client import Outcome, Session
from testbed.core.raft import waiting
from testbed.core.raft.core import Raft
from testbed.core.raft.events import LEASES
from testbed.core.raft.machine import ReplicatedState
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services import locks as module
from testbed.core.services import machine
from testbed.core.services.commands import Acquire, Claim, Command, Extend, Query, Release, Settle
from testbed.core.services.locks import Locks, SavedLocks, Wait
from testbed.core.services.machine import Services

SCENARIO = "leases.toml"
INVARIANTS = ("service-invariants",)

# --- whose clock ---


@bug(
    "locks",
    source="circus#1231; Kleppmann, How to do distributed locking, 2016",
    caught_by=("fenced-mutex",),
    scenario=SCENARIO,
)
def expires_by_wall_clock() -> Sequence[Replacement]:
    """A lease is over as soon as so much time has passed by the wall clock of the node that applies."""
    from testbed.sim.clocks import LocalClock

    right, right_now = Locks.advance, LocalClock.now
    walls: list[float] = []  # of the simulated process that acts

    def now(clock: LocalClock, time: float) -> float:
        walls[:] = [clock.wall(time)]
        return right_now(clock, time)

    def advance(locks: Locks, time: float) -> None:
        wall = walls[0] if walls else wall_clock()
        behind = vars(locks).setdefault("behind", time - wall)
        right(locks, max(time, wall + behind))

    return [(LocalClock, "now", now), (Locks, "advance", advance)]


@bug("locks", source="PySyncObj, ReplLockManager", caught_by=("fenced-mutex",), scenario=SCENARIO)
def expires_by_client_clock() -> Sequence[Replacement]:
    """Who asks for a lock says what time it is, and the leases that are over by that client's clock end."""
    right_body, right = Session._service_body, Services.apply

    def service_body(session: Session, operation: Command | Query) -> bytes:
        body = right_body(session, operation)
        return carrying(body, session._begun) if isinstance(operation, Acquire) else body

    def apply(services: Services, command: bytes, session: int, time: float) -> bytes | None:
        clock = carried(command, Acquire)
        if clock is not None:
            services.locks.advance(max(time, clock))
        return right(services, command, session, time)

    return [(Session, "_service_body", service_body), (Services, "apply", apply)]


# --- who may end a lease ---


@bug(
    "locks",
    source="etcd#12528, #15247",
    caught_by=("fenced-mutex", "cas-register", "total-queue"),
    scenario=SCENARIO,
)
def deposed_leader_revokes() -> Sequence[Replacement]:
    """Whoever leads, or led, ends leases when its own timer fires, and no entry of the log says so."""
    right = Raft._timer

    def tell_time(raft: Raft) -> None:
        raft.machine.service.advance(raft.log_time())
        for session, serial, reply in raft.machine._note_answers():
            waiting.answer(raft, session, serial, reply)
        raft.alarm = float("inf")

    def timer(raft: Raft, name: str) -> None:
        if name == LEASES:
            tell_time(raft)
        else:
            right(raft, name)

    return [(waiting, "tell_time", tell_time), (Raft, "_timer", timer)]


@bug(
    "locks",
    source="Redis documentation, SET: a lock is deleted whoever holds it by now",
    caught_by=("fenced-mutex",),
    scenario=SCENARIO,
)
def stale_release_accepted() -> Sequence[Replacement]:
    """A release names its locks: whoever holds them by now loses them, although the releaser's lease is long over."""
    right_body, right_finish, right = Session._service_body, Session._finish, Services.apply

    def finish(session: Session, outcome: Outcome) -> None:
        if outcome.type == "ok" and isinstance(session._operation, Acquire):
            names = [claim.lock for claim in session._operation.claims]
            vars(session).setdefault("names", {})[outcome.value] = names
        right_finish(session, outcome)

    def service_body(session: Session, operation: Command | Query) -> bytes:
        body = right_body(session, operation)
        if not isinstance(operation, Release):
            return body
        return carrying(body, vars(session).get("names", {}).get(operation.token, []))

    def apply(services: Services, command: bytes, session: int, time: float) -> bytes | None:
        for name in carried(command, Release) or ():
            lock = services.locks._locks.get(name)
            for token in [] if lock is None else list(lock.holders):
                right(services, pack(Release(token)), session, time)
        return right(services, command, session, time)

    return [(Session, "_finish", finish), (Session, "_service_body", service_body), (Services, "apply", apply)]


@bug("locks", source="etcd, lessor: Promote", caught_by=INVARIANTS, scenario=SCENARIO)
def lease_not_extended() -> Sequence[Replacement]:
    """A new leader lets leases end as if there had been no time without one, in which nobody could extend them."""

    def promote(services: Services, time: float) -> None:  # noqa: ARG001  # nothing changes
        return

    return [(Services, "promote", promote)]


# --- what the lock protects ---


@bug(
    "locks",
    source="Kleppmann, How to do distributed locking, 2016",
    caught_by=("cas-register",),
    scenario=SCENARIO,
)
def lock_without_fencing() -> Sequence[Replacement]:
    """The store does not look at the token that a write carries."""

    def unfenced(services: Services, token: int | None) -> str | None:  # noqa: ARG001  # it does not look
        return None

    return [(Services, "_unfenced", unfenced)]


@bug(
    "locks",
    source="Burrows, Chubby, OSDI 2006, section 2.4: sequencers",
    caught_by=("fenced-mutex",),
    scenario="restarts.toml",
)
def token_reused_after_snapshot() -> Sequence[Replacement]:
    """A snapshot holds who holds locks, and not the last token: that is taken to be the greatest of a present grant."""
    right = Locks.restore

    def restore(locks: Locks, state: SavedLocks) -> None:
        last = max((grant.token for grant in state.grants), default=0)
        right(locks, msgspec.structs.replace(state, tokens=last))

    return [(Locks, "restore", restore)]


# --- who is granted ---


@bug(
    "locks",
    source="Courtois, Heymans and Parnas, CACM 14(10), 1971: readers and writers",
    caught_by=INVARIANTS,
    scenario=SCENARIO,
)
def limit_of_the_asker_only() -> Sequence[Replacement]:
    """Whoever asks is granted if it admits the holders itself: a reader beside a writer."""

    def admits(lock: module._Lock, limit: int) -> bool:
        return len(lock.holders) < limit

    return [(module._Lock, "admits", admits)]


@bug(
    "locks",
    source="Courtois, Heymans and Parnas, CACM 14(10), 1971: the second problem of readers and writers",
    caught_by=INVARIANTS,
    scenario=SCENARIO,
)
def newcomers_overtake() -> Sequence[Replacement]:
    """A newcomer is granted what it could share or have at once, past those who wait in line."""
    right = module._in_the_way

    def in_the_way(claims: Iterable[Claim], locks: Mapping[str, module._Lock], wait: Wait | None = None) -> str | None:
        if wait is not None:
            return right(claims, locks, wait)
        taken = (claim.lock for claim in claims if claim.lock in locks and not locks[claim.lock].admits(claim.limit))
        return next(taken, None)

    return [(module, "_in_the_way", in_the_way)]


@bug("locks", source="ZooKeeper recipes, locks: the herd effect", caught_by=("fenced-mutex",), scenario=SCENARIO)
def release_wakes_all() -> Sequence[Replacement]:
    """Everybody who waits for a lock is woken when it is free, and nobody looks again whether another was first."""
    right = Locks._serve

    def serve(locks: Locks, touched: Iterable[str]) -> None:
        touched = list(touched)
        for name in touched:
            lock = locks._locks.get(name)
            if lock is None or lock.holders:
                continue
            for wait in list(lock.line.values()):
                locks._withdraw(wait)
                granted = locks._grant(wait.session, wait.claims, wait.lease, wait.asked)
                locks.resolved.append((wait.session, granted))
        right(locks, touched)

    return [(Locks, "_serve", serve)]


@bug("locks", source="Saltzer, MAC-TR-30, 1966: the wakeup waiting switch", caught_by=INVARIANTS, scenario=SCENARIO)
def release_wakes_nobody() -> Sequence[Replacement]:
    """A command that frees a lock wakes nobody: those who wait are looked at when time goes on."""
    right, right_advance = Locks.apply, Locks.advance

    def apply(
        locks: Locks,
        command: Acquire | Release | Extend | Settle,
        session: int,
        time: float,
    ) -> Done | Granted | Rejected | None:
        vars(locks)["_serve"] = list
        try:
            return right(locks, command, session, time)
        finally:
            del vars(locks)["_serve"]

    def advance(locks: Locks, time: float) -> None:
        locks._now = time
        locks._serve(list(locks._locks))
        right_advance(locks, time)

    return [(Locks, "apply", apply), (Locks, "advance", advance)]


@bug("locks", source="Holt, Computing Surveys 4(3), 1972", caught_by=INVARIANTS, scenario=SCENARIO)
def no_deadlock_detection() -> Sequence[Replacement]:
    """Whoever closes a cycle of waits waits, too."""

    def cycle(locks: Locks, asker: Wait) -> str | None:  # noqa: ARG001  # it does not look
        return None

    return [(Locks, "_cycle", cycle)]


@bug("locks", source="bpo-27585: asyncio.Lock, a waiter that was cancelled", caught_by=INVARIANTS, scenario=SCENARIO)
def waiter_leaked_on_cancel() -> Sequence[Replacement]:
    """Who waited for as long as it wanted, or was given up, is told so and stays in line, to be granted some day."""

    def advance(locks: Locks, time: float) -> None:
        locks._now = time
        for kind, key in locks._deadlines.due(time):
            if kind == module._LEASE:
                locks._end([key])
            else:
                wait = locks._waits[key]
                locks.resolved.append((key, locks._not_granted(wait.claims, wait)))

    def give_up(services: Services, session: int) -> bytes:
        services.queues.give_up(session)
        return machine._GIVEN_UP

    def note_answers(state: ReplicatedState) -> list[tuple[int, int, bytes]]:
        """Nobody waits for the answer of who leaked."""
        noted = []
        for number, answer in state.service.answered():
            session = state.waiting.pop(number, None)
            if session is not None:
                session.answer = answer
                noted.append((number, session.serial, answer))
        return noted

    return [
        (Locks, "advance", advance),
        (Services, "give_up", give_up),
        (ReplicatedState, "_note_answers", note_answers),
    ]
