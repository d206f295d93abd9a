"""What locks and queues may never come to, recomputed from what a snapshot of them would hold.

It knows grants, waits, messages and deliveries, the log, and who waits for an answer; of the services' own code it uses
none that decides anything. Each index is looked at once, in the node that is the first to apply it: that all come to
the same state is Raft's to show. Where a node applies several entries in one step, only the last state is seen.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from math import inf
from typing import NamedTuple, cast

from testbed.base.codec import Codec
from testbed.core import requests
from testbed.core.raft.core import Raft
from testbed.core.raft.machine import UNREADABLE
from testbed.core.raft.messages import Entry
from testbed.core.services.commands import (
    DEAD,
    DEADLOCK,
    Ack,
    Extend,
    Nack,
    Prolong,
    QueueStatus,
    Release,
    Settle,
    decode_command,
)
from testbed.core.services.locks import Grant, SavedLocks
from testbed.core.services.locks import Wait as Waiter
from testbed.core.services.machine import Services
from testbed.core.services.queues import Message, Queues, SavedQueues
from testbed.host import Host
from testbed.node import LogLine, Outbox

SERVICE_INVARIANTS = (
    "mutual-exclusion",  # no lock has more holders than any of them admits
    "growing-tokens",  # a new grant's token is greater than all before it, over snapshots and restarts
    "no-late-holder",  # no grant, delivery, delay or wait outlasts its end
    "no-early-end",  # before its time a lease ends by a command that names it, or not at all
    "leases-extended",  # with the first entry of a term, each lease gets a full term more
    "no-lost-wake-up",  # nobody waits for what could be granted or delivered
    "first-come",  # nobody is granted or delivered what others waited for before
    "no-deadlock",  # whoever waits could be granted, if all who do not wait gave back what they hold
    "only-who-waits",  # whoever is in a line waits for an answer, and the reverse
    "one-place",  # a message is in one queue, in one delivery at most, and does not come back once it is gone
    "key-order",  # of one key, only the oldest message is in flight
    "fresh-receipts",  # a new delivery's receipt is greater than all before it
)
LOCK_SOMETIMES = (
    "lock granted",
    "lock waited for",
    "lock's lease ended",
    "lock's lease extended by a new leader",
    "deadlock refused",
    "gave up on a waiter",
)
QUEUE_SOMETIMES = (
    "message delivered",
    "message redelivered",
    "message dead-lettered",
    "consumer waited",
    "delivery's lease ended",
    "delivery's lease extended by a new leader",
    "gave up on a consumer",
)

MESSAGES_PER_ENTRY = 4  # looked at, on average: long queues are looked at less often, or they would slow all down

_CODEC = Codec(requests.REPLIES)

Fault = tuple[str, str]  # an invariant's name, and what was seen


class _Lease(NamedTuple):
    """A grant or a delivery."""

    session: int
    length: float
    until: float


class _State(NamedTuple):
    """What locks and queues came to. Of an earlier state, messages and deliveries in `queues` have changed since."""

    locks: SavedLocks
    queues: SavedQueues
    grants: dict[int, _Lease]  # by token
    deliveries: dict[int, _Lease]  # by receipt


class _Since(NamedTuple):
    """What was applied since the last look, up to log time `time`; no entries where a snapshot covers some of them.

    `promoted`: the time of the first entry of a new term, infinity if there is none. `last`: that of the one before it.
    """

    entries: list[Entry]
    time: float
    last: float = -inf
    promoted: float = inf

    def extends(self, lease: "_Lease") -> bool:
        """Whether another leader came before its end."""
        return self.last < lease.until and self.promoted < inf


class _Messages(NamedTuple):
    """Those that there were at a look: id -> queue; the last id and the last receipt by then."""

    queues: dict[int, str]
    last_id: int
    last_receipt: int


class ServiceInvariants:
    """Watches the nodes that have Raft with locks and queues. `violate` takes a name, a sentence, and seconds."""

    def __init__(self, violate: Callable[[str, str, float], None], sometimes: Counter[str]) -> None:
        self._violate = violate
        self._sometimes = sometimes
        self._rafts: dict[str, Raft | None] = {}  # of the present processes
        self._applied = 0  # anywhere: what follows is of that index
        self._term = 0
        self._state = _state(SavedLocks(0.0, 0, 0, [], []), SavedQueues(0, 0, [], [], [], []))
        self._messages = _Messages({}, 0, 0)
        self._messages_due = 0  # the index from which on to look at them again
        self.watched_any = False  # some lock or queue was used

    def summary(self) -> str:
        """What there was to watch."""
        locks, queues = self._state.locks, self._state.queues
        return f"{locks.tokens} grants of locks, {queues.last_id} messages, {queues.last_receipt} deliveries"

    # --- what happens ---

    def began(self, node: str) -> None:
        """Of the new process nothing is known before its first step."""
        self._rafts.pop(node, None)

    def stepped(self, node: str, host: Host, out: Outbox, now: float) -> None:
        """Costs next to nothing where the node applied nothing, or nothing that is new."""
        if node not in self._rafts:
            found = getattr(host.node, "raft", None)
            watched = isinstance(found, Raft) and isinstance(found.machine.service, Services)
            self._rafts[node] = found if watched else None
        raft = self._rafts[node]
        if raft is None:
            return
        if out.log:
            self._read(out.log)
        if raft.applied > self._applied:
            self._look(node, raft, now)

    def _look(self, node: str, raft: Raft, now: float) -> None:
        service = cast(Services, raft.machine.service)
        since = self._note_applied(raft)
        locks, queues = service.locks.snapshot(), service.queues.snapshot()
        if not self.watched_any and not (locks.tokens or queues.last_id or queues.waits):
            return
        self.watched_any = True
        before, after = self._state, _state(locks, queues)
        self._state = after
        faults = [
            *_late(after, since.time),
            *_strangers(after, raft.machine.waiting),
            *_numbers(before, after),
            *self._leases(before, after, since),
        ]
        if locks.grants != before.locks.grants or locks.waits != before.locks.waits:
            faults += chain(_crowded(locks), _overtaken(before.locks, locks), _stuck(locks))
        if queues.waits:
            faults += _overtaken_consumers(before.queues, queues)
        if self._applied >= self._messages_due and (queues.queues or self._messages.queues):
            faults += self._look_at_messages(queues, service.queues, since.time)
        for name, detail in faults:
            self._violate(name, f"{node}, at index {self._applied}: {detail}", now)
        self._note(before, after, raft, since.entries)

    def _note_applied(self, raft: Raft) -> _Since:
        log, before, term = raft.log, self._applied, self._term
        self._applied, self._term = raft.applied, log.term_at(raft.applied) or term
        if not log.first <= raft.applied <= log.last:
            return _Since([], raft.base_time())
        last = log.entry(raft.applied)
        if before + 1 < log.first:
            return _Since([], last.time)
        entries = [log.entry(index) for index in range(before + 1, raft.applied + 1)]
        place = next((place for place, entry in enumerate(entries) if entry.term > term), None)
        if place is None:
            return _Since(entries, last.time)
        return _Since(entries, last.time, entries[place - 1].time if place else -inf, entries[place].time)

    # --- leases ---

    def _leases(self, before: _State, after: _State, since: _Since) -> Iterator[Fault]:
        """Each that there was, unless a command named it meanwhile: that may have ended it, or given it another end."""
        if not since.entries:
            return
        named: _Named | None = None
        for kind, old, new, names in (
            ("lock's lease", before.grants, after.grants, _Named.grant),
            ("delivery's lease", before.deliveries, after.deliveries, _Named.delivery),
        ):
            for number, lease in old.items():
                present = new.get(number)
                if present == lease and since.promoted == inf:
                    continue
                named = named or _named(since.entries)
                if names(named, number, lease):
                    continue
                if present is None:
                    self._sometimes[f"{kind} ended"] += 1
                elif since.extends(lease):
                    self._sometimes[f"{kind} extended by a new leader"] += 1
                yield from _cut_short(f"the {kind} under {number}", lease, present, since)

    # --- messages ---

    def _look_at_messages(self, queues: SavedQueues, service: Queues, time: float) -> Iterator[Fault]:
        known, found = self._messages, _Messages({}, queues.last_id, queues.last_receipt)
        in_flight = {one.receipt: (one.queue, one.message) for one in queues.deliveries}
        for name, messages in queues.queues:
            for message in messages:
                number, receipt = message.id, message.receipt
                if number in found.queues:
                    yield "one-place", f"message {number} is in {found.queues[number]!r} and in {name!r}"
                found.queues[number] = name
                if receipt is not None:
                    if in_flight.pop(receipt, None) != (name, number):
                        yield "one-place", f"message {number} of {name!r} has receipt {receipt} of no delivery of it"
                    if message.deliveries > 1 and receipt > known.last_receipt:
                        self._sometimes["message redelivered"] += 1
            yield from _in_line(name, messages, queues, service, time)
        for receipt, (name, number) in in_flight.items():
            yield "one-place", f"receipt {receipt} is of message {number}, which is not in flight under it in {name!r}"
        if found.queues != known.queues:
            yield from self._moved(known, found)
        self._messages = found
        self._messages_due = self._applied + len(found.queues) // MESSAGES_PER_ENTRY

    def _moved(self, known: _Messages, found: _Messages) -> Iterator[Fault]:
        for number, name in found.queues.items():
            place = known.queues.get(number)
            if place == name:
                continue
            if place is None:
                if not known.last_id < number <= found.last_id:
                    yield "one-place", f"message {number} is new in {name!r}, after {known.last_id} others"
            elif name == place + DEAD:
                self._sometimes["message dead-lettered"] += 1
            else:
                yield "one-place", f"message {number} went from {place!r} to {name!r}"

    # --- sometimes ---

    def _note(self, before: _State, after: _State, raft: Raft, entries: list[Entry]) -> None:
        self._sometimes["lock granted"] += after.locks.tokens - before.locks.tokens
        self._sometimes["lock waited for"] += after.locks.arrivals - before.locks.arrivals
        self._sometimes["message delivered"] += after.queues.last_receipt - before.queues.last_receipt
        self._sometimes["consumer waited"] += sum(wait not in before.queues.waits for wait in after.queues.waits)
        if not after.locks.tokens:
            return
        for entry in entries:
            session = raft.machine.sessions.get(entry.session)
            if session is not None and session.serial == entry.serial and _is_deadlock(session.answer):
                self._sometimes["deadlock refused"] += 1

    def _read(self, lines: list[LogLine]) -> None:
        for line in lines:
            if line.text == "gives up on a client that waited":
                for_lock = any(wait.session == line.fields["session"] for wait in self._state.locks.waits)
                self._sometimes["gave up on a waiter" if for_lock else "gave up on a consumer"] += 1


def _state(locks: SavedLocks, queues: SavedQueues) -> _State:
    return _State(
        locks,
        queues,
        {grant.token: _Lease(grant.session, grant.lease, grant.until) for grant in locks.grants},
        {one.receipt: _Lease(one.session, one.visibility, one.until) for one in queues.deliveries},
    )


def _is_deadlock(answer: bytes | None) -> bool:
    if answer is None or DEADLOCK.encode() not in answer:
        return False
    reply = _CODEC.decode(answer)
    return isinstance(reply, requests.Rejected) and reply.error.startswith(DEADLOCK)


# --- leases and numbers ---


class _Named(NamedTuple):
    """Of which leases commands speak. `settled`: of these sessions all but these tokens."""

    tokens: set[int]
    receipts: set[int]
    settled: list[tuple[int, tuple[int, ...]]]

    def grant(self, token: int, lease: _Lease) -> bool:
        return token in self.tokens or any(
            session == lease.session and token not in kept for session, kept in self.settled
        )

    def delivery(self, receipt: int, lease: _Lease) -> bool:  # noqa: ARG002  # as of a grant
        return receipt in self.receipts


def _named(entries: list[Entry]) -> _Named:
    named = _Named(set(), set(), [])
    for entry in entries:
        try:
            command = decode_command(entry.command)
        except UNREADABLE:
            continue
        match command:
            case Release() | Extend():
                named.tokens.add(command.token)
            case Settle():
                named.settled.append((entry.session, command.tokens))
            case Ack() | Nack() | Prolong():
                named.receipts.add(command.receipt)
    return named


def _cut_short(what: str, lease: _Lease, present: _Lease | None, since: _Since) -> Iterator[Fault]:
    """A lease that no command named since."""
    extended = since.extends(lease)
    due = min(lease.until, since.promoted) + lease.length if extended else lease.until
    if present is not None and present.until < due:
        name, end = "leases-extended" if extended else "no-early-end", f"ends at {present.until}"
    elif present is None and due > since.time:
        name, end = "no-early-end" if lease.until > since.time else "leases-extended", f"had ended by {since.time}"
    else:
        return
    yield name, f"{what}, which was to last until {due}, {end}, although no command named it"


def _late(after: _State, time: float) -> Iterator[Fault]:
    for what, leases in (("grant", after.grants), ("delivery", after.deliveries)):
        for lease in leases.values():
            if lease.until <= time:
                yield "no-late-holder", f"a {what} of session {lease.session} until {lease.until} is there at {time}"
    ends = [(wait.session, wait.until) for wait in after.locks.waits]
    ends += [(wait.session, wait.until) for wait in after.queues.waits]
    for session, until in ends:
        if until <= time:
            yield "no-late-holder", f"session {session} waits until {until}, at {time}"


def _strangers(after: _State, waiting: Collection[int]) -> Iterator[Fault]:
    lines = [wait.session for wait in after.locks.waits]
    lines += [wait.session for wait in after.queues.waits]
    lines.sort()
    if lines != sorted(waiting):
        yield "only-who-waits", f"sessions {lines} are in lines, and {sorted(waiting)} wait for answers"


def _numbers(before: _State, after: _State) -> Iterator[Fault]:
    for name, what, old, new, last, now in (
        ("growing-tokens", "token", before.grants, after.grants, before.locks.tokens, after.locks.tokens),
        (
            "fresh-receipts",
            "receipt",
            before.deliveries,
            after.deliveries,
            before.queues.last_receipt,
            after.queues.last_receipt,
        ),
    ):
        if now < last:
            yield name, f"the last {what} was {last} and is {now}"
        for number in new:
            if number > now or (number <= last and number not in old):
                yield name, f"{what} {number} is new, where {last} was the last before, and {now} is the last now"
    if after.queues.last_id < before.queues.last_id:
        yield "one-place", f"the last message was {before.queues.last_id} and is {after.queues.last_id}"


# --- locks ---


class _Locks:
    """Who holds which locks, and who is at the head of their lines."""

    def __init__(self, grants: Iterable[Grant], waits: Iterable[Waiter]) -> None:
        self.limits: dict[str, list[int]] = {}  # of all holders
        self._heads: dict[str, Waiter] = {}
        for grant in grants:
            for claim in grant.claims:
                self.limits.setdefault(claim.lock, []).append(claim.limit)
        for wait in waits:
            for claim in wait.claims:
                self._heads.setdefault(claim.lock, wait)

    def free_for(self, wait: Waiter) -> bool:
        """Whether it is at the head of all its lines, and nobody who holds a lock keeps it out."""
        for claim in wait.claims:
            limits = self.limits.get(claim.lock, [])
            if self._heads[claim.lock] is not wait or (limits and len(limits) >= min(claim.limit, *limits)):
                return False
        return True


def _crowded(locks: SavedLocks) -> Iterator[Fault]:
    """Too many hold a lock, or too few."""
    places = _Locks(locks.grants, locks.waits)
    for lock, limits in places.limits.items():
        if len(limits) > min(limits):
            yield "mutual-exclusion", f"{len(limits)} hold {lock!r}, one of whom admits {min(limits)}"
    for wait in locks.waits:
        if places.free_for(wait):
            yield "no-lost-wake-up", f"session {wait.session} waits for locks that it could be granted"


def _stuck(locks: SavedLocks) -> Iterator[Fault]:
    """Graph reduction (Holt 1972): whoever does not wait gives back all, and so does everyone who is granted then."""
    holders = {grant.session for grant in locks.grants}
    left = locks.waits
    if not any(wait.session in holders for wait in left):
        return
    while left:
        sessions = {wait.session for wait in left}
        places = _Locks((grant for grant in locks.grants if grant.session in sessions), left)
        remaining = [wait for wait in left if not places.free_for(wait)]
        if len(remaining) == len(left):
            yield "no-deadlock", f"sessions {[wait.session for wait in left]} wait for each other"
            return
        left = remaining


def _overtaken(before: SavedLocks, after: SavedLocks) -> Iterator[Fault]:
    """Who was in line before and still is, was there at each grant since."""
    numbers = [wait.number for wait in after.waits]
    if numbers != sorted(numbers):
        yield "first-come", f"those who wait have the numbers {numbers}"
    earlier = {wait.number for wait in before.waits}
    number_of = {(wait.session, wait.claims): wait.number for wait in before.waits}
    granted = [grant for grant in after.grants if grant.token > before.tokens]
    for wait in after.waits:
        if wait.number > before.arrivals:
            continue
        if wait.number not in earlier:
            yield "first-come", f"the wait {wait.number} of session {wait.session} was over, and is there again"
        lines = {claim.lock for claim in wait.claims}
        for grant in granted:
            ahead = number_of.get((grant.session, grant.claims), before.arrivals + 1) < wait.number
            if not ahead and not lines.isdisjoint(claim.lock for claim in grant.claims):
                detail = f"session {grant.session} was granted what session {wait.session} had waited for before it"
                yield "first-come", detail


# --- queues ---


def _overtaken_consumers(before: SavedQueues, after: SavedQueues) -> Iterator[Fault]:
    """The same for messages."""
    place_of = {(wait.session, wait.queue): place for place, wait in enumerate(before.waits)}
    delivered = [one for one in after.deliveries if one.receipt > before.last_receipt]
    for place, wait in enumerate(before.waits):
        if wait not in after.waits:
            continue
        for one in delivered:
            if one.queue == wait.queue and place_of.get((one.session, one.queue), len(place_of)) >= place:
                yield "first-come", f"session {one.session} was delivered what session {wait.session} waited for before"


def _in_line(name: str, messages: list[Message], queues: SavedQueues, service: Queues, time: float) -> Iterator[Fault]:
    """Of one queue. An older message may join the dead letters, where a younger one of its key is in flight."""
    waiting = sum(wait.queue == name for wait in queues.waits)
    ordered = not name.endswith(DEAD)
    in_flight = delayed = 0
    oldest: dict[str, int] = {}
    for message in messages:
        if message.key is not None:
            oldest[message.key] = min(message.id, oldest.get(message.key, message.id))
    for message in messages:
        number = message.id
        first = number if message.key is None else oldest[message.key]
        if message.receipt is not None:
            in_flight += 1
            if first != number and ordered:
                yield "key-order", f"of {message.key!r} in {name!r}, {number} is in flight before {first}"
        elif message.delayed_until is not None:
            delayed += 1
            if message.delayed_until <= time:
                yield "no-late-holder", f"message {number} is delayed until {message.delayed_until}, at {time}"
        elif waiting and first == number:
            yield "no-lost-wake-up", f"{waiting} wait at {name!r}, where message {number} could be delivered"
    told = service.query(QueueStatus(name))
    counted = {"ready": len(messages) - in_flight - delayed, "delayed": delayed, "in_flight": in_flight}
    counted["waiting"] = waiting
    if not isinstance(told, dict) or any(told[what] != count for what, count in counted.items()):
        yield "one-place", f"{name!r} says of itself {told}, and has {counted}"
