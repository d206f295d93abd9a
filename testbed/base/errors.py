"""The kinds of bad news, each in its own form.

What a client of the cluster can be told (`Refused`, `Unknown` and their kin), and the caller's own mistakes
(`UsageError`, exit status 254). Our own bugs are assertions and never caught.
"""


class OperationError(Exception):
    """An operation did not come back with ok. Never raised itself: see the subclasses."""


class Refused(OperationError):
    """The operation definitely had no effect: every attempt of it was refused."""


class Unknown(OperationError):
    """Nobody can tell whether the operation took effect: some attempt of it was never answered."""


class Deadlock(Refused):
    """Granting the lock would have closed a cycle of waiters; the message names the cycle."""


class LeaseLost(Refused):
    """The lease ended before the operation was made, so another may hold the lock by now."""


class UsageError(Exception):
    """The caller's mistake: arguments, configuration, unreadable input. The commands exit with 254 on it.

    `where` names the file or the command, `key` the place in it, `reason` what is wrong; `str()` is one line.
    """

    def __init__(self, where: object, key: str, reason: str) -> None:
        self.where = str(where)
        self.key = key
        self.reason = reason
        super().__init__(": ".join(part for part in (self.where, key, reason) if part).replace("\n", " "))


class CorruptStorage(UsageError):
    """A node's database cannot be read. It concerns that node alone."""
