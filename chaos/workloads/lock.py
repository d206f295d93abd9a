"""The workload `lock`: holders of leased locks read, change and write shared values, and some of them come too late."""

from collections.abc import Mapping
from dataclasses import replace

from chaos.workloads.api import Client, Op, Outcome, Workload
from chaos.workloads.names import Numbers
from testbed.base.durations import parse_duration
from testbed.base.rand import Random
from testbed.core.services.commands import READERS, Acquire, Claim, Get, Put, Release, value

LOCKS = 3
LEASE = "1s"
WAIT_S = 0.3
SLOW = 0.1  # of the holders: they stop for longer than their lease before they write
VANISHING = 0.02  # of those who ask: they are gone while they wait, some until nobody waits for them
LONG_WAIT_S = 10.0
VANISHES_AFTER_S = 0.1
ABSENCE_S_MAX = 4.0
PERMITS = 2


class Holders(Workload):
    """Changes values under locks; judged by the tokens, and by no change being lost.

    A change is a read and a write under the lock, of the same key; the write shows as a cas from the value that was
    read, because that is what the lock is to make of it. Options: `lease`, and `fenced`: whether writes carry the token
    (true), or trust in the lock alone.
    """

    model = ("fenced-mutex", "cas-register")
    leases: Mapping[str, str] = {"acquire": "release"}

    def __init__(self) -> None:
        self._locks = Numbers(LOCKS)
        self._values = 0

    def client(self, number: int, random: Random) -> Client:
        """One lock, or two in any order, or two at once; and locks that several may hold."""
        while True:
            draw = random.random()
            first, second = random.sample([self._lock(place) for place in range(LOCKS)], 2)
            if draw < 0.55:
                yield from self._hold((first,), (), random)
            elif draw < 0.75:
                yield from self._hold((first,), (second,), random)  # crosses those who begin with the other
            elif draw < 0.85:
                yield from self._hold((first, second), (), random)
            else:
                limit = READERS if draw < 0.95 else PERMITS
                kind = first if limit == READERS else f"{first} permits"
                yield from self._share(Claim(kind, limit), f"{kind} of {number}", first)

    def drain(self, number: int, random: Random) -> Client:  # noqa: ARG002  # it reads, and that is all
        """Reads what is left."""
        if number == 0:
            for place in range(LOCKS):
                yield _read(self._lock(place))

    def _hold(self, locks: tuple[str, ...], then: tuple[str, ...], random: Random) -> Client:
        """Takes the locks at once and changes what they protect, holding them takes others then, and lets go."""
        lease = parse_duration(self.options.get("lease", LEASE))
        name = " and ".join(sorted(locks))
        claims = tuple(Claim(lock) for lock in locks)
        if random.random() < VANISHING:
            yield Op("acquire", key=name, request=Acquire(claims, lease, LONG_WAIT_S), timeout=VANISHES_AFTER_S)
            yield replace(_read(locks[0]), after=random.uniform(0.0, ABSENCE_S_MAX))
            return
        request = Acquire(claims, lease, random.choice((WAIT_S, WAIT_S, 0.0)))
        granted = yield Op("acquire", key=name, request=request)
        if granted.type != "ok":
            return
        token: int = granted.value
        for lock in locks:
            read = yield _read(lock)
            if read.type == "ok":
                late = lease * random.uniform(1.0, 2.0) if random.random() < SLOW else 0.0
                yield self._write(lock, read, token, late)
        if then:
            yield from self._hold(then, (), random)
        yield Op("release", token, name, Release(token))

    def _write(self, lock: str, read: Outcome, token: int, late: float) -> Op:
        self._values += 1
        fence = token if self.options.get("fenced", True) else None
        request = Put(lock, value(self._values), fence)
        return Op("cas", [read.value, self._values], lock, request, after=late)

    def _share(self, claim: Claim, key: str, lock: str) -> Client:
        """Holds with others; what shows is one client's own part of the lock."""
        lease = parse_duration(self.options.get("lease", LEASE))
        granted = yield Op("acquire", key=key, request=Acquire((claim,), lease, WAIT_S))
        if granted.type == "ok":
            yield _read(lock)
            yield Op("release", granted.value, key, Release(granted.value))

    def _lock(self, place: int) -> str:
        return f"w{self.number}-l{self._locks.use(place)}"


def _read(lock: str) -> Op:
    return Op("read", key=lock, request=Get(lock))
