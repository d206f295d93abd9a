"""Locks with leases, fencing tokens and lines of waiters, as a state machine.

It knows sessions by their numbers and no time but the log's: whoever applies a command has called `advance` with its
time before. What is kept is grants and waits; everything else is an index over them, built anew from a snapshot.

A grant is of all locks of one acquire. Strictly first come, first served: a claim is granted only when nobody waits for
the lock ahead of it, even if it could share the lock with those who hold it. So a writer is not starved by readers.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, assert_never

import msgspec

from testbed.base import limits
from testbed.base.codec import Raw, pack
from testbed.core.requests import Done, Granted, Rejected
from testbed.core.services.commands import (
    DEADLOCK,
    FULL,
    LEASE_LOST,
    NOT_GRANTED,
    READERS,
    UNFIT,
    Acquire,
    Claim,
    Extend,
    LockStatus,
    Release,
    Settle,
)
from testbed.core.services.deadlines import Deadlines

_LEASE, _WAIT = 0, 1  # what ends; at the same instant leases first, so that whoever waited until then is granted
_STEPS_SHOWN_MAX = 8  # of a cycle: replies are kept for every session, and names may be long
_HOLDERS_SHOWN_MAX = 10_000  # in a status, which must fit into one message


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What is held under one token, until that log time."""

    token: int
    session: int
    claims: tuple[Claim, ...]
    lease: float
    until: float


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """An acquire in line: the `number`-th that ever waited; `asked` and `until` are log times."""

    number: int
    session: int
    claims: tuple[Claim, ...]
    lease: float
    asked: float
    until: float


class SavedLocks(msgspec.Struct, frozen=True, array_like=True):
    """All there is to know; everything else follows from it. Grants are in the order of tokens, waits in the log's."""

    now: float
    tokens: int  # given out, ever
    arrivals: int  # acquires that waited, ever
    grants: list[Grant]
    waits: list[Wait]


class _Lock:
    """Who holds one lock and who waits for it, each in order."""

    def __init__(self) -> None:
        self.holders: dict[int, int] = {}  # token -> limit
        self.line: OrderedDict[int, Wait] = OrderedDict()  # by session; a plain dict is slow to lose its first
        self._limits: dict[int, int] = {}  # limit -> how many of the holders have it: seldom more than one

    def hold(self, token: int, limit: int) -> None:
        self.holders[token] = limit
        self._limits[limit] = self._limits.get(limit, 0) + 1

    def leave(self, token: int) -> None:
        limit = self.holders.pop(token)
        self._limits[limit] -= 1
        if not self._limits[limit]:
            del self._limits[limit]

    def admits(self, limit: int) -> bool:
        return len(self.holders) < min(limit, *self._limits) if self._limits else True

    @property
    def head(self) -> Wait | None:
        return next(iter(self.line.values()), None)


class Locks:
    """Applies the commands of locks. `resolved`: answers to sessions that waited; whoever applies takes them out."""

    def __init__(self) -> None:
        self.resolved: list[tuple[int, Granted | Rejected]] = []
        self._set_up(SavedLocks(0.0, 0, 0, [], []))

    # --- what the log tells ---

    def apply(
        self, command: Acquire | Release | Extend | Settle, session: int, time: float
    ) -> Done | Granted | Rejected | None:
        """Carry out a command; None: the session waits. One that waited and comes with another waits no more."""
        self._now = time
        self.give_up(session)
        match command:
            case Acquire():
                return self._acquire(command, session)
            case Release():
                if not self.holds(command.token):
                    return _lost(command.token)
                self._end([command.token])
                return Done(Raw(pack(None)))
            case Extend():
                return self._extend(command)
            case Settle():
                kept = set(command.tokens)
                ended = [token for token in self._tokens_of.get(session, ()) if token not in kept]
                self._end(ended)
                return Done(Raw(pack(len(ended))))
            case _:
                assert_never(command)

    def advance(self, time: float) -> None:
        """Leases and waits that are due end, the earliest first; whoever can be granted then is."""
        self._now = time
        for kind, key in self._deadlines.due(time):
            if kind == _LEASE:
                self._end([key])
            else:
                wait = self._waits[key]
                self.resolved.append((wait.session, self._not_granted(wait.claims, wait)))
                self._withdraw(wait)
                self._serve(claim.lock for claim in wait.claims)

    def promote(self, time: float) -> None:
        """A new leader: every lease gets a full term more, for its holder could not extend it meanwhile.

        Ends that lay apart still do. It comes before `advance` to the same time.
        """
        self._now = time
        for grant in list(self._grants.values()):
            self._prolong(grant, grant.lease, min(grant.until, time + grant.lease) + grant.lease)

    def give_up(self, session: int) -> None:
        """The session waits no more, if it did. It gets no answer."""
        wait = self._waits.get(session)
        if wait is not None:
            self._withdraw(wait)
            self._serve(claim.lock for claim in wait.claims)

    # --- what can be asked ---

    def holds(self, token: int) -> bool:
        """Whether that is the token of a present grant."""
        return token in self._grants

    def holds_for(self, session: int) -> bool:
        """Whether some present grant was given to the session."""
        return session in self._tokens_of

    def query(self, query: LockStatus) -> dict[str, Any]:
        """Who holds the lock (the first ten thousand), and who waits for it."""
        lock = self._locks.get(query.lock, _Lock())
        grants = [self._grants[token] for token in list(lock.holders)[:_HOLDERS_SHOWN_MAX]]
        return {
            "holders": [
                {"token": held.token, "session": held.session, "limit": lock.holders[held.token], "until": held.until}
                for held in grants
            ],
            "waiting": list(lock.line),
        }

    @property
    def next_deadline(self) -> float:
        """When something ends next; infinity if nothing will."""
        return self._deadlines.next

    def snapshot(self) -> SavedLocks:
        """The whole state, without `resolved`: that was taken out by then."""
        grants, waits = list(self._grants.values()), list(self._waits.values())
        return SavedLocks(self._now, self._tokens, self._arrivals, grants, waits)

    def restore(self, state: SavedLocks) -> None:
        """Replace the whole state."""
        self.resolved.clear()
        self._set_up(state)

    def _set_up(self, state: SavedLocks) -> None:
        self._now = state.now
        self._tokens = state.tokens
        self._arrivals = state.arrivals
        self._grants: dict[int, Grant] = {}
        self._waits: dict[int, Wait] = {}  # by session
        self._locks: dict[str, _Lock] = {}  # those that are held or waited for
        self._tokens_of: dict[int, dict[int, None]] = {}  # session -> what it holds
        self._places = 0  # locks held, and claims on locks in line: each of these becomes the former without asking
        self._deadlines: Deadlines[tuple[int, int]] = Deadlines()
        for grant in state.grants:
            self._hold(grant)
        for wait in state.waits:
            self._line_up(wait)

    # --- acquire and extend ---

    def _acquire(self, command: Acquire, session: int) -> Granted | Rejected | None:
        reason = _unfit_claims(command.claims) or _unfit_lease(command.lease)
        if not reason and not 0 <= command.wait <= limits.WAIT_S_MAX:
            reason = f"a wait is from 0 to {limits.WAIT_S_MAX:g} s"
        if reason:
            return Rejected(f"{UNFIT}: {reason}")
        if self._places + len(command.claims) > limits.GRANTS_MAX:
            return Rejected(f"{FULL}: {limits.GRANTS_MAX} locks are held or waited for")
        if _in_the_way(command.claims, self._locks) is None:
            return self._grant(session, command.claims, command.lease, self._now)
        if not command.wait:
            return self._not_granted(command.claims)
        if len(self._waits) >= limits.WAITERS_MAX:
            return Rejected(f"{FULL}: {limits.WAITERS_MAX} sessions wait for locks")
        number, until = self._arrivals + 1, self._now + command.wait
        wait = Wait(number, session, command.claims, command.lease, self._now, until)
        self._line_up(wait)
        cycle = self._cycle(wait)
        if cycle:
            self._withdraw(wait)
            return Rejected(f"{DEADLOCK}: {cycle}")
        self._arrivals = number
        return None

    def _grant(self, session: int, claims: tuple[Claim, ...], lease: float, asked: float) -> Granted:
        self._tokens += 1
        grant = Grant(self._tokens, session, claims, lease, self._now + lease)
        self._hold(grant)
        return Granted(Raw(pack(grant.token)), asked, grant.until)

    def _not_granted(self, claims: tuple[Claim, ...], wait: Wait | None = None) -> Rejected:
        name = _in_the_way(claims, self._locks, wait)
        assert name is not None, "who could have been granted was not"
        lock = self._locks[name]
        for token in lock.holders:
            return Rejected(f"{NOT_GRANTED}: {name!r} is held by session {self._grants[token].session}")
        return Rejected(f"{NOT_GRANTED}: session {next(iter(lock.line))} waits for {name!r} and more")

    def _extend(self, command: Extend) -> Granted | Rejected:
        reason = _unfit_lease(command.lease)
        if reason:
            return Rejected(f"{UNFIT}: {reason}")
        grant = self._grants.get(command.token)
        if grant is None:
            return _lost(command.token)
        until = self._now + command.lease
        self._prolong(grant, command.lease, until)
        return Granted(Raw(pack(grant.token)), self._now, until)

    # --- what holds, what waits ---

    def _hold(self, grant: Grant) -> None:
        self._grants[grant.token] = grant
        self._tokens_of.setdefault(grant.session, {})[grant.token] = None
        self._deadlines[_LEASE, grant.token] = grant.until
        self._places += len(grant.claims)
        for claim in grant.claims:
            self._lock(claim.lock).hold(grant.token, claim.limit)

    def _prolong(self, grant: Grant, lease: float, until: float) -> None:
        self._grants[grant.token] = msgspec.structs.replace(grant, lease=lease, until=until)
        self._deadlines[_LEASE, grant.token] = until

    def _end(self, tokens: list[int]) -> None:
        """These grants are over, all at once."""
        touched: dict[str, None] = {}
        for token in tokens:
            grant = self._grants.pop(token)
            if (_LEASE, token) in self._deadlines:
                del self._deadlines[_LEASE, token]
            del self._tokens_of[grant.session][token]
            if not self._tokens_of[grant.session]:
                del self._tokens_of[grant.session]
            self._places -= len(grant.claims)
            for claim in grant.claims:
                self._locks[claim.lock].leave(token)
                self._forget_if_free(claim.lock)
                touched[claim.lock] = None
        self._serve(touched)

    def _line_up(self, wait: Wait) -> None:
        self._waits[wait.session] = wait
        self._deadlines[_WAIT, wait.session] = wait.until
        self._places += len(wait.claims)
        for claim in wait.claims:
            self._lock(claim.lock).line[wait.session] = wait

    def _withdraw(self, wait: Wait) -> None:
        del self._waits[wait.session]
        if (_WAIT, wait.session) in self._deadlines:
            del self._deadlines[_WAIT, wait.session]
        self._places -= len(wait.claims)
        for claim in wait.claims:
            del self._locks[claim.lock].line[wait.session]
            self._forget_if_free(claim.lock)

    def _lock(self, name: str) -> _Lock:
        return self._locks.setdefault(name, _Lock())

    def _forget_if_free(self, name: str) -> None:
        if not self._locks[name].holders and not self._locks[name].line:
            del self._locks[name]

    def _serve(self, touched: Iterable[str]) -> None:
        """Grant all that can be granted, in the order of the log, after something changed at these locks only.

        Whoever is not at the head of a line there could be granted before or cannot be granted now. Two that can be
        granted have no lock in common, each being the head of all its lines; so one never takes from the other.
        """
        heads = [(wait.number, wait.session) for wait in _heads(touched, self._locks)]
        heapq.heapify(heads)
        while heads:
            wait = self._waits.get(heapq.heappop(heads)[1])
            if wait is None or _in_the_way(wait.claims, self._locks, wait) is not None:
                continue
            self._withdraw(wait)
            self.resolved.append((wait.session, self._grant(wait.session, wait.claims, wait.lease, wait.asked)))
            for head in _heads((claim.lock for claim in wait.claims), self._locks):
                heapq.heappush(heads, (head.number, head.session))

    # --- deadlocks ---

    def _cycle(self, asker: Wait) -> str | None:
        """The cycle that the last in all its lines closes, in words; None if it may yet be granted.

        It may, if it is granted after all sessions that do not wait have given back what they hold, and so has everyone
        who is granted thereupon. That a lease may run out, or a wait, is no way out. (Graph reduction, Holt 1972: a
        path back to the asker alone proves nothing where a semaphore needs only some of its holders to leave.)

        There is exactly one victim, the asker. Before it came, all who wait could be granted in this sense, for each of
        them was looked at when it came, and all that happened to them since is that others left, or did not wait any
        more. The asker holds nobody up by being last in line, only by what it holds; if it does not wait, it gives
        that back. So to refuse it leaves nobody stuck; and if it is not stuck itself, nobody is.
        """
        held = (self._grants[token] for token in self._tokens_of.get(asker.session, ()))
        if not any(self._locks[claim.lock].line for grant in held for claim in grant.claims):
            return None  # nobody waits for what it holds
        locks = self._around(asker)
        candidates = list(_heads(locks, locks))
        left = set()
        while candidates:
            wait = candidates.pop()
            if wait.session in left or _in_the_way(wait.claims, locks, wait) is not None:
                continue
            if wait is asker:
                return None
            left.add(wait.session)
            candidates.extend(_heads(self._leave(wait, locks), locks))
        return self._words(asker, locks)

    def _around(self, asker: Wait) -> dict[str, _Lock]:
        """All locks that whoever the asker needs could wait for, as they are once all who do not wait have left."""
        locks: dict[str, _Lock] = {}
        todo = {asker.session: asker}
        while todo:
            _, wait = todo.popitem()
            for claim in wait.claims:
                if claim.lock in locks:
                    continue
                real, copy = self._locks[claim.lock], _Lock()
                locks[claim.lock] = copy
                for token, limit in real.holders.items():
                    holder = self._waits.get(self._grants[token].session)
                    if holder is not None:
                        copy.hold(token, limit)
                        todo[holder.session] = holder
                copy.line.update(real.line)
                todo.update(real.line)
        return locks

    def _leave(self, wait: Wait, locks: dict[str, _Lock]) -> list[str]:
        """It is granted there and gives everything back; the locks that are freer now."""
        touched = [claim.lock for claim in wait.claims]
        for name in touched:
            del locks[name].line[wait.session]
        for token in self._tokens_of.get(wait.session, ()):
            for claim in self._grants[token].claims:
                if claim.lock in locks:
                    locks[claim.lock].leave(token)
                    touched.append(claim.lock)
        return touched

    def _words(self, asker: Wait, locks: dict[str, _Lock]) -> str:
        """The shortest way from the asker to itself, among those who are stuck.

        There is one: those from whom no way led back to it would be stuck without it.
        """
        came_from: dict[int, tuple[int, str]] = {}
        todo = [asker.session]
        for session in todo:
            for other, words in self._needs(self._waits[session], locks):
                if other not in came_from:
                    came_from[other] = session, words
                    todo.append(other)
            if asker.session in came_from:
                break
        session, words = came_from[asker.session]
        steps = [words]
        while session != asker.session:
            session, words = came_from[session]
            steps.append(words)
        steps.reverse()
        if len(steps) > _STEPS_SHOWN_MAX:
            steps[_STEPS_SHOWN_MAX - 2 : -1] = [f"for {len(steps) - _STEPS_SHOWN_MAX + 1} more in turn"]
        return f"session {asker.session} waits {', which waits '.join(steps)}"

    def _needs(self, wait: Wait, locks: dict[str, _Lock]) -> Iterator[tuple[int, str]]:
        for claim in wait.claims:
            lock = locks[claim.lock]
            if not lock.admits(claim.limit):
                for token in lock.holders:
                    session = self._grants[token].session
                    yield session, f"for {claim.lock!r} of session {session}"
            head = lock.head
            if head is not None and head is not wait:
                yield head.session, f"for {claim.lock!r} behind session {head.session}"


def _in_the_way(claims: Iterable[Claim], locks: Mapping[str, _Lock], wait: Wait | None = None) -> str | None:
    """The first lock that cannot be granted now, to whoever waits or to a newcomer; None if all can be."""
    for claim in claims:
        lock = locks.get(claim.lock)
        if lock is not None and (lock.head is not wait or not lock.admits(claim.limit)):
            return claim.lock
    return None


def _heads(names: Iterable[str], locks: Mapping[str, _Lock]) -> Iterator[Wait]:
    for name in names:
        lock = locks.get(name)
        head = lock.head if lock is not None else None
        if head is not None:
            yield head


def _lost(token: int) -> Rejected:
    return Rejected(f"{LEASE_LOST}: {token} is not, or no longer, the token of a grant")


def _unfit_lease(lease: float) -> str | None:
    return None if 0 < lease <= limits.LEASE_S_MAX else f"a lease is more than 0 and up to {limits.LEASE_S_MAX:g} s"


def _unfit_claims(claims: tuple[Claim, ...]) -> str | None:
    if not 1 <= len(claims) <= limits.CLAIMS_MAX:
        return f"from 1 to {limits.CLAIMS_MAX} locks at once, not {len(claims)}"
    if len({claim.lock for claim in claims}) < len(claims):
        return "a lock is claimed twice"
    if not all(1 <= len(claim.lock.encode()) <= limits.NAME_BYTES_MAX for claim in claims):
        return f"a name has from 1 to {limits.NAME_BYTES_MAX} bytes"
    if not all(1 <= claim.limit <= READERS for claim in claims):
        return f"a limit is from 1 to {READERS}"
    return None
