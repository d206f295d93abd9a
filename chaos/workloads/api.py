"""The Workload API: a generator per client that yields operations and is sent what became of them.

It knows nothing of time, sockets or sessions: the same workload runs in every world.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.base.rand import Random
from testbed.client import Operation, Outcome, PlainRequest

__all__ = ["Client", "Op", "Outcome", "Workload"]


@dataclass(frozen=True)
class Op:
    """One operation as the history shows it (`f`, `value`, `key`), and what is asked of the cluster for it.

    `request`: what a user's node is sent (anything JSON can hold, or a struct that the node declares); for the built-in
    services, one of their commands or queries. `to`: the node to ask; any that can be reached if left out. `timeout`:
    seconds until its client gives up, even if it was to wait for longer; the run's own if left out.
    `after`: seconds that its client lets pass before it asks. `idempotent`: asking twice does what asking once does, so
    that an unknown outcome is asked for again. `shows`: what the history shows of the value of an ok outcome.
    """

    f: str
    value: Any = None
    key: Any = None
    request: Any = None
    to: str | None = None
    timeout: float | None = None
    after: float = 0.0
    idempotent: bool = False
    shows: Callable[[Any], Any] | None = None

    def operation(self) -> Operation:
        """What a session carries out."""
        if isinstance(self.request, Operation):
            return self.request
        return PlainRequest(self.request, self.to)


Client = Generator[Op, Outcome, None]


class Workload:
    """Subclass this. `model` names the judge or judges of the history (see `testbed list models`), or is None.

    A judge may also be an object of your own: see `chaos.checkers.Model`. One object serves all clients of a run, which
    take turns: plain attributes may be shared between them.
    """

    model: Any = None
    leases: Mapping[str, str] = {}  # f of what is granted for a time -> f of what ends it, as time itself does

    number: int = 1  # which of the scenario's workloads this is; set before the first client starts
    clients: int = 1  # how many there are; set before the first of them starts
    options: Mapping[str, Any] = {}  # further keys of [[workload]]

    def client(self, number: int, random: Random) -> Client:
        """What client `number` (from 0) does: yields an `Op`, is sent its `Outcome`, and so on; it may end.

        An AssertionError says that the cluster broke a promise: it makes the run invalid, and ends this client only.
        Any other exception ends the run as a mistake of the workload.
        """
        raise NotImplementedError(f"{type(self).__name__}.client(number, random)")

    def drain(self, number: int, random: Random) -> Client:  # noqa: ARG002  # for those who have something to do
        """What client `number` does after the run, once everything has healed: as fast as it is answered, to its end.

        A run in which some client does not come to its end proves nothing about what was to be read there.
        """
        yield from ()

    @property
    def models(self) -> tuple[Any, ...]:
        """The judges, however `model` was written."""
        if self.model is None:
            return ()
        return tuple(self.model) if isinstance(self.model, (list, tuple)) else (self.model,)
