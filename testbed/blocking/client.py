"""A client whose calls return when their outcome is known, or when nobody can tell it.

It knows the world's port and a session; which world it is, it does not.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any

import msgspec

from testbed.base.codec import Codec, pack
from testbed.base.errors import UsageError
from testbed.base.limits import COMMAND_BYTES_MAX
from testbed.blocking.keyvalue import KeyValueClient
from testbed.blocking.locks import LEASE_S, WAIT_S, Grants, Lock
from testbed.blocking.outcomes import succeeded
from testbed.blocking.queues import CAPACITY, DELIVERY_LIMIT, VISIBILITY_S, WINDOW, Queue
from testbed.client import Ask, ClientEvent, Operation, Outcome, PlainRequest, Sent, Session, Told, Woken, patience
from testbed.core.services.commands import READERS, Acquire, Claim, Command, Query, Take, decode_command, decode_query
from testbed.ports import World

CALL_TIMEOUT_S = 10.0  # several elections
ANSWER_MARGIN_S = 5.0  # a client gives up by itself; this long after that its silence is our bug


class _Calls:
    """A client program that makes the calls it is told to, one after the other."""

    def __init__(self, session: Session, notify: Callable[[], None]) -> None:
        self._session = session
        self._notify = notify
        self._waiting: deque[tuple[int, Operation, float]] = deque()
        self._call: int | None = None
        self.awaited: set[int] = set()  # calls whose callers still wait
        self.outcomes: dict[int, Outcome] = {}

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        if isinstance(event, Told):
            self._waiting.append(event.what)
            asks = []
            if self._call not in self.awaited:  # its caller was interrupted
                self._session.step(Woken(), inf)
        else:
            asks = self._session.step(event, now)
        while not self._session.busy:
            self._note_outcome()
            if not self._waiting:
                break
            self._call, operation, timeout = self._waiting.popleft()
            asks += self._session.begin(operation, now, timeout)
        return asks

    def _note_outcome(self) -> None:
        if self._call is None or self._session.outcome is None:
            return
        if self._call in self.awaited:
            self.outcomes[self._call] = self._session.outcome
            self._notify()
        self._call = None

    @property
    def deadline(self) -> float | None:
        return self._session.deadline

    @property
    def finished(self) -> bool:
        return False


class Client:
    """One client with a session of its own. `Refused`: definitely did not happen. `Unknown`: nobody can tell.

    `timeout`: seconds until a call gives up with `Unknown`, beyond what it is asked to wait. `first`: which node is
    asked first; `codec`: of a user's node. `sent` is told of each request that leaves. One call at a time: threads need
    a client each.
    """

    def __init__(
        self,
        world: World,
        codec: Codec,
        election_timeout: float,
        timeout: float,
        first: int,
        sent: Sent | None = None,
    ) -> None:
        self._world = world
        self._timeout = timeout
        self._codec = codec
        self._numbers = count(1)
        self._session = Session(world.nodes, election_timeout / 2, codec, first)
        self._program = _Calls(self._session, world.notify)
        world.run_client(self._program, sent)
        self.kv = KeyValueClient(self)
        self._grants = Grants(self)

    def lock(self, *names: str, lease: float = LEASE_S, wait: float = WAIT_S, shared: bool = False) -> Lock:
        """A lock, or several that are taken all or none, to be held for `lease` seconds at a time.

        `wait`: seconds to wait in line for it. `shared`: with others that hold it shared, as readers do.
        """
        return Lock(self._grants, tuple(Claim(name, READERS if shared else 1) for name in names), lease, wait)

    def semaphore(self, name: str, permits: int, lease: float = LEASE_S, wait: float = WAIT_S) -> Lock:
        """One of `permits` places, to be held as a lock is."""
        return Lock(self._grants, (Claim(name, permits),), lease, wait)

    def queue(
        self,
        name: str,
        *,
        visibility: float = VISIBILITY_S,
        window: int = WINDOW,
        limit: int = DELIVERY_LIMIT,
        capacity: int = CAPACITY,
        producer: str | None = None,
    ) -> Queue:
        """A queue. `visibility`: seconds after which a message that was taken and not acknowledged is delivered again.

        `window`: how many messages this client may have in flight. `limit`: after so many deliveries in vain a message
        goes to the dead letters. `capacity`: with so many messages the queue is full. `producer`: names who publishes,
        for publications that are repeated by another client, or after hours.
        """
        return Queue(self, name, visibility, window, limit, capacity, producer)

    @property
    def session(self) -> int:
        """The number under which messages about locks speak of this client; 0 before its first command."""
        return self._session.number

    def now(self) -> float:
        """Seconds on the clock that leases are told by."""
        return self._world.now()

    def request(self, body: Any, to: str | None = None, timeout: float | None = None) -> Any:
        """Ask a user's node, or any node that can be reached. Returns what it replied."""
        if to is not None and to not in self._world.nodes:
            raise UsageError("client", to, f"is not one of {', '.join(self._world.nodes)}")
        return self.call(PlainRequest(body, to), timeout)

    def call(self, operation: Operation, timeout: float | None = None) -> Any:
        """Carry out one operation; its value, or `Refused` (`Deadlock`, `LeaseLost`), or `Unknown`."""
        return succeeded(self.outcome(operation, timeout)).value

    def outcome(self, operation: Operation, timeout: float | None = None) -> Outcome:
        """Carry out one operation; what became of it. TypeError or ValueError for what no message can hold."""
        if isinstance(operation, PlainRequest):
            self._codec.encode(operation.body)
        else:
            data = pack(operation)
            if len(data) > COMMAND_BYTES_MAX:
                raise ValueError(f"operation of {len(data)} bytes exceeds {COMMAND_BYTES_MAX}")
            _check(operation, data)
        seconds = self._timeout if timeout is None else timeout
        program = self._program
        call = next(self._numbers)
        program.awaited.add(call)
        try:
            self._world.tell_client(program, (call, operation, seconds))
            self._world.wait(lambda: call in program.outcomes, seconds + patience(operation) + ANSWER_MARGIN_S)
        except BaseException:
            program.awaited.discard(call)
            if isinstance(operation, Acquire | Take):  # nobody waits for it any more: its next command ends all that
                self._world.tell_client(program, (next(self._numbers), self._grants.settlement, seconds))
            raise
        finally:
            program.awaited.discard(call)
            outcome = program.outcomes.pop(call, None)
        return outcome if outcome is not None else Outcome("info", error="timeout")


def _check(operation: Command | Query, data: bytes) -> None:
    """TypeError for an argument of the wrong type: a node would only say that this is no command."""
    try:
        (decode_command if isinstance(operation, Command) else decode_query)(data)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$[")
        name = operation.__struct_fields__[int(place.partition("]")[0]) - 1]  # behind the tag
        raise TypeError(f"{name}: {reason}") from None
