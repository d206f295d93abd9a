"""Locks in blocking calls: leases that end by themselves, and tokens that tell whoever is late.

The lease's end as it is known here comes before the one that the cluster goes by: see `Session`.
"""

from types import TracebackType

from testbed.base.errors import OperationError
from testbed.blocking.outcomes import Caller, succeeded, word
from testbed.client import Outcome
from testbed.core.services.commands import NOT_GRANTED, Acquire, Claim, Extend, Release, Settle

LEASE_S = 10.0
WAIT_S = 10.0
SETTLE_TIMEOUT_S = 1.0  # it is tried again before the next lock is asked for


class Grants:
    """What one client holds. What it may hold without knowing is given back as soon as the cluster can be asked."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._tokens: list[int] = []
        self._unsettled = False  # something may have been granted without our knowing, or not been given back

    def acquire(self, claims: tuple[Claim, ...], lease: float, wait: float) -> Outcome:
        """What became of it; if that is unknown, whatever was granted is given back."""
        if self._unsettled:
            self._settle(None)
        outcome = self._asked(Acquire(claims, lease, wait))
        if outcome.type == "info":
            self._settle(SETTLE_TIMEOUT_S)
        elif outcome.type == "ok":
            self._tokens.append(outcome.value)
        return outcome

    def release(self, token: int) -> Outcome:
        """What became of it; if that is unknown, it will be given back once more."""
        if token in self._tokens:
            self._tokens.remove(token)
        return self._asked(Release(token))

    def _asked(self, command: Acquire | Release) -> Outcome:
        """What became of it. Until we are told, there is something to settle: an exception does not tell."""
        unsettled, self._unsettled = self._unsettled, True
        outcome = self.caller.outcome(command)
        if outcome.type != "info":
            self._unsettled = unsettled
        return outcome

    @property
    def settlement(self) -> Settle:
        """Gives back all that we do not know of."""
        return Settle(tuple(self._tokens))

    def _settle(self, timeout: float | None) -> None:
        """The same, if the cluster can be asked within the timeout."""
        self._unsettled = self.caller.outcome(self.settlement, timeout).type != "ok"


class Held:
    """A grant: hold it until it is released, or until its lease may be over (`valid` is False then).

    `token`: greater than that of every earlier grant of any lock. Whatever the lock protects must check it: between
    asking `valid` and acting on it any time may pass.
    """

    def __init__(self, grants: Grants, token: int, lease: float, until: float) -> None:
        self.token = token
        self._grants = grants
        self._lease = lease
        self._until = until

    @property
    def remaining(self) -> float:
        """Seconds for which nobody else can be granted what is held; 0 if somebody may have been."""
        return max(0.0, self._until - self._grants.caller.now())

    @property
    def valid(self) -> bool:
        """Whether nobody else can have been granted it yet."""
        return self.remaining > 0

    def extend(self, lease: float | None = None) -> None:
        """Hold it for `lease` seconds from now on (None: as long as at first). `LeaseLost` if that comes too late."""
        seconds = self._lease if lease is None else lease
        outcome = succeeded(self._grants.caller.outcome(Extend(self.token, seconds)))
        assert outcome.until is not None, "what is granted has an end"
        self._lease, self._until = seconds, outcome.until

    def release(self) -> None:
        """Give it back. `LeaseLost` if the lease was over: then somebody else may have been granted it meanwhile."""
        self._until = self._grants.caller.now()
        succeeded(self._grants.release(self.token))


class Lock:
    """Asks for a lock, or several at once. In a `with` statement it is held inside the block and released after it."""

    def __init__(self, grants: Grants, claims: tuple[Claim, ...], lease: float, wait: float) -> None:
        self._grants = grants
        self._claims = claims
        self._lease = lease
        self._wait = wait
        self._held: list[Held] = []

    def acquire(self) -> Held:
        """Wait in line for it. `Refused` if it is not granted in time, `Deadlock` if it never could be."""
        return self._granted(self._grants.acquire(self._claims, self._lease, self._wait))

    def try_acquire(self) -> Held | None:
        """Take it if it is free now; None if it is not."""
        outcome = self._grants.acquire(self._claims, self._lease, 0.0)
        if outcome.type == "fail" and word(outcome.error) == NOT_GRANTED:
            return None
        return self._granted(outcome)

    def _granted(self, outcome: Outcome) -> Held:
        succeeded(outcome)
        assert outcome.until is not None, "what is granted has an end"
        return Held(self._grants, outcome.value, self._lease, outcome.until)

    def __enter__(self) -> Held:
        self._held.append(self.acquire())
        return self._held[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`LeaseLost` if the lease did not last for the block, unless the block failed for another reason."""
        held = self._held.pop()
        try:
            held.release()
        except OperationError:
            if error is None:
                raise
