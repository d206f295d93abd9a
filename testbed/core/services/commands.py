"""The commands and queries of the replicated services, as clients send them and the log keeps them.

Values are opaque here: bytes in canonical MessagePack, so that equal values are equal bytes, and 1, 1.0 and true are
three different values. All lengths of time are in seconds of log time. What a service refuses it refuses with one of
the words below, alone or followed by ": " and the reason.
"""

from typing import Any

import msgspec

from testbed.base.codec import Raw, pack_canonical

PRECONDITION_FAILED = "precondition-failed"  # of a cas
LEASE_LOST = "lease-lost"  # the token or receipt is not, or no longer, that of a present lease
NOT_GRANTED = "not-granted"  # the lock was not free in time
DEADLOCK = "deadlock"  # granting it could never come to pass: the reason names the cycle
FULL = "full"  # as much as may be kept
UNFIT = "unfit"  # the command makes no sense


class Command(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Changes the state; goes through the log, once."""


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Reads the state; changes nothing."""


# --- the key-value store. `fence`: a token; the command is refused unless it is that of a present grant of a lock ---


class Put(Command, frozen=True):
    """Sets `key`. Result: null."""

    key: str
    value: Raw
    fence: int | None = None


class Delete(Command, frozen=True):
    """Removes `key`, whether it was there or not. Result: null."""

    key: str
    fence: int | None = None


class Cas(Command, frozen=True):
    """Sets `key` to `new` if it holds `old` (null: missing). Result: null, or rejected with `precondition-failed`."""

    key: str
    old: Raw
    new: Raw
    fence: int | None = None


class Get(Query, frozen=True):
    """Result: the value of `key`, null if missing."""

    key: str


# --- locks ---


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """On one lock: no more than `limit` may hold it at a time, this claim included.

    1 is a plain lock or a writer's, `READERS` a reader's, anything between a semaphore's. Every holder's limit counts,
    and so does that of whoever asks: a writer keeps readers out, and they it.
    """

    lock: str
    limit: int = 1


READERS = 2**31 - 1


class Acquire(Command, frozen=True):
    """Takes all of the claimed locks, or none, for `lease`; waits for them up to `wait`, first come, first served.

    Result: the fencing token of the grant, which is one for all its locks, and greater than every earlier one.
    """

    claims: tuple[Claim, ...]
    lease: float
    wait: float = 0.0


class Release(Command, frozen=True):
    """Gives back what was granted under the token. Result: null."""

    token: int


class Extend(Command, frozen=True):
    """The grant lasts for `lease` from now on. Result: the token."""

    token: int
    lease: float


class Settle(Command, frozen=True):
    """Gives back all that this session was granted, but for these tokens: for who does not know what it was granted.

    Result: how many grants ended.
    """

    tokens: tuple[int, ...]


class LockStatus(Query, frozen=True):
    """Result: {"holders": [{"token", "session", "limit", "until"}], "waiting": [session]} of the lock, in order."""

    lock: str


# --- queues ---


class Publish(Command, frozen=True):
    """Adds a message, unless the queue holds `capacity` of them. Messages of one `key` are delivered in their order.

    `producer` and `serial` (1, 2, 3 …) tell a repeated publication, however late; without a producer, only the retries
    of this command are told. A serial that leaves one out is refused: after a publication that was refused or whose
    outcome is unknown, publish under the same serial again before the next. Result: {"id", "duplicate"}; a repeated
    one's id is null where it was not the latest.
    """

    queue: str
    body: Raw
    key: str | None = None
    producer: str | None = None
    serial: int = 0
    capacity: int = 100_000


class Take(Command, frozen=True):
    """Leases the first message that can be delivered for `visibility`; waits for one up to `wait`.

    Refused where this session has `window` messages in flight already. Result: {"id", "body", "key", "receipt",
    "deliveries"}, or null. A message that comes back after `limit` deliveries goes to the queue's dead letters.
    """

    queue: str
    visibility: float
    wait: float = 0.0
    window: int = 1000
    limit: int = 20


class Ack(Command, frozen=True):
    """The message of that delivery is done with. Result: null."""

    receipt: int


class Nack(Command, frozen=True):
    """The message of that delivery goes back to its place, to be delivered again after `delay`. Result: null."""

    receipt: int
    delay: float = 0.0


class Prolong(Command, frozen=True):
    """The delivery's lease lasts for `visibility` from now on. Result: null."""

    receipt: int
    visibility: float


class Purge(Command, frozen=True):
    """Removes all messages that are not in flight. Result: how many."""

    queue: str


class QueueStatus(Query, frozen=True):
    """Result: {"ready", "delayed", "in_flight", "dead", "waiting"}.

    `ready` counts what is neither delayed nor in flight, `dead` the dead letters, `waiting` consumers.
    """

    queue: str


class LastPublished(Query, frozen=True):
    """Result: the last serial that the producer published to the queue, 0 if none."""

    queue: str
    producer: str


DEAD = ".dead"  # ends the name of the queue that keeps another's dead letters

AnyCommand = Put | Delete | Cas | Acquire | Release | Extend | Settle | Publish | Take | Ack | Nack | Prolong | Purge
AnyQuery = Get | LockStatus | QueueStatus | LastPublished

decode_command = msgspec.msgpack.Decoder(AnyCommand).decode
decode_query = msgspec.msgpack.Decoder(AnyQuery).decode


def value(plain: Any) -> Raw:
    """A JSON-like value as the services keep it. TypeError for what JSON cannot hold."""
    return Raw(pack_canonical(plain))
