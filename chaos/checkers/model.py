"""What a model is: a sequential specification that the linearizability search runs, or a judge of all operations.

Knows calls, outcomes and how an operation's outcome becomes a constraint. Knows no particular model and no search.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from chaos.checkers.values import freeze
from chaos.history import Event, Operation

PRECONDITION_FAILED = "precondition-failed"

# The first words with which a service says no: an answer, and not a sign that nobody is there to answer.
REFUSALS: Final = frozenset({PRECONDITION_FAILED, "lease-lost", "not-granted", "deadlock", "full"})

VerdictType = Literal["valid", "invalid", "unknown"]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a history stops to make sense, in words and as a history.

    `prefix`: that many events from the beginning are wrong already. It is the `shortest` such prefix unless the budget
    ran out on the way to it. The last of them is the completion of `operation`, beside which `concurrent` were open.
    `reason` says why, where more is known than that every order was tried.
    `states` are those of the thing in which it cannot have happened, as far as they were tried. `minimal` are the
    events of some of the prefix's operations that cannot be explained by themselves (from the right initial state), of
    which nothing more was found that could be left out; indices and times are those of the history.
    """

    key: Any
    prefix: int
    shortest: bool
    operation: str
    reason: str
    concurrent: list[str]
    states: list[str]
    minimal: list[Event]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge says. `model` is the judge's name, `operations` how many client operations it looked at."""

    verdict: VerdictType
    model: str
    operations: int
    detail: str
    explanation: Explanation | None = None


class Progress(msgspec.Struct):
    """How far a check has come: `placed` of `required` completed operations are in an order that explains them.

    `invalid` is what is known of a verdict that is only to be explained yet; empty until then.
    """

    keys: int = 0
    keys_decided: int = 0
    placed: int = 0
    required: int = 0
    invalid: str = ""


class OutOfBudget(Exception):
    """Raised inside of a check once its budget is used up; no caller of `check` sees it."""


class Inconsistent(NamedTuple):
    """A model's answer to a call that its state does not allow."""

    reason: str


OTHER_VALUE: Final = Inconsistent("another value was there")


class Call(NamedTuple):
    """An operation as a model sees it. Argument and result are frozen (see `values.freeze`).

    `refused`: the call was answered "precondition failed", an observation that the condition did not hold.
    `known` is False for an operation of unknown outcome: its result is None and says nothing.
    `process` is None where the model said (in `reduce`) that it does not matter who called.
    `observes`: in whatever state the call is allowed, it leaves that state as it is.
    `completed` is None where the call may take effect until the end of time.
    """

    f: str
    argument: Hashable
    result: Hashable
    process: int | None
    known: bool
    refused: bool
    observes: bool
    invoked: int
    completed: int | None
    operation: Operation


@runtime_checkable
class Model(Protocol):
    """A sequential specification. States must be hashable and compare by value; `step` must not change them.

    `operations` are the f's it knows, `observations` those of them that never change the state.
    """

    @property
    def name(self) -> str: ...
    @property
    def operations(self) -> frozenset[str]: ...
    @property
    def observations(self) -> frozenset[str]: ...

    def start(self, initial: Any) -> Hashable:
        """The state before anything happened; `initial` is a JSON value, None for the model's default."""

    def step(self, state: Any, call: Call) -> Hashable | Inconsistent:
        """The state after `call`, or why the call cannot happen in `state`. Must allow any result if not `call.known`.

        Pure and deterministic.
        """


@runtime_checkable
class Judge(Protocol):
    """A specification over all operations of a key at once, that needs no search."""

    @property
    def name(self) -> str: ...
    @property
    def operations(self) -> frozenset[str]: ...

    def judge(self, operations: Sequence[Operation], initial: Any) -> tuple[VerdictType, str]:
        """The verdict about one key's operations, and its reason in words."""


@runtime_checkable
class Narrows(Judge, Protocol):
    """A judge that knows which operations can be left out, and what can be told before the end."""

    def parts(self, operations: Sequence[Operation]) -> list[set[int]]:
        """Sets of operations, as the places of their invocations. What is allowed is so without any union of them."""

    def ongoing(self) -> "Narrows":
        """The judge of a history that goes on: what is missing may be still to come."""


@runtime_checkable
class Strict(Protocol):
    """A model or judge that cannot make sense of every argument."""

    def complaint(self, operation: Operation) -> str | None:
        """Why `operation` is malformed; None if it is not."""


@runtime_checkable
class Shown(Protocol):
    """A model that can describe its states to people."""

    def describe(self, state: Any) -> str:
        """The state in a few words, to follow "at that point"."""


@runtime_checkable
class Argues(Protocol):
    """A model whose states alone do not tell why a call cannot happen in them."""

    def argue(self, state: Any, call: Call) -> str:
        """Why `call` cannot happen in `state`; empty if it can."""


@runtime_checkable
class Accounts(Protocol):
    """A model that has more to say about a key's operations than whether they can be put into an order."""

    def account(self, operations: Sequence[Operation]) -> str:
        """What became of them, in a few words; empty if there is nothing to be said."""


@runtime_checkable
class Reduces(Protocol):
    """A model that can make the search's work smaller."""

    def reduce(self, calls: Sequence[Call]) -> list[Call]:
        """The calls without those that need not be searched, and simplified so that interchangeable calls are equal.

        Must be sound and complete: a valid order of the answer exists exactly if one of `calls` does.
        """


class Explained(NamedTuple):
    """An order that explains the calls exists."""


class Impossible(NamedTuple):
    """No order explains the calls, for a `reason` in words. `calls` are some of them which prove it by themselves:
    no order explains those alone, nor with any others of the same history that belong to other parts (see `Parts`)."""

    reason: str
    calls: tuple[Call, ...]


Decision = Explained | Impossible | None
"""None: it cannot be told without a search."""


@runtime_checkable
class Decides(Protocol):
    """A model that can often tell without a search, in near-linear time, if there is an order."""

    def decide(self, calls: Sequence[Call], start: Any, ask: Callable[[], None]) -> Decision:
        """Whether an order of `calls`, which no `reduce` has seen, is possible from the state `start`.

        To be called every few thousand steps: `ask`, which raises what must not be caught when the budget is used up.
        """


@runtime_checkable
class Parts(Protocol):
    """A model that knows which calls can be left out of a history without spoiling it."""

    def parts(self, calls: Sequence[Call], start: Any) -> list[list[Call]]:
        """Disjoint sets of calls. Whatever order explains all calls from the state `start` explains them without any
        union of these sets.

        Calls that must stay are in none of them. Calls that only observe are sets of their own, unless another set
        could not be left out without them.
        """


@runtime_checkable
class Orders(Protocol):
    """A model that can tell from all calls together that one call must precede another."""

    def order(self, calls: Sequence[Call], start: Any) -> Callable[[Call, Call], bool] | None:
        """`precedes(a, b)`: in every valid order a comes before b. None if it can tell nothing.

        Asked only about calls that completed and were concurrent; must never hold both ways round.
        """


def anonymous(calls: Iterable[Call]) -> list[Call]:
    """The calls with the callers left out, for models to which it does not matter who called."""
    return [call._replace(process=None) for call in calls]


def calls_of(model: Model, operations: Sequence[Operation]) -> list[Call]:
    """What the operations' outcomes mean to a model: failed ones did not happen, unknown observations say nothing.

    A cas that failed for its precondition is kept as an observation.
    """
    calls = []
    for operation in operations:
        refused = operation.outcome == "fail" and operation.f == "cas" and operation.error == PRECONDITION_FAILED
        if operation.outcome == "fail" and not refused:
            continue
        if operation.outcome == "info" and operation.f in model.observations:
            continue
        known = operation.outcome != "info"
        calls.append(
            Call(
                f=operation.f,
                argument=freeze(operation.argument),
                result=freeze(operation.result) if known else None,
                process=operation.process,
                known=known,
                refused=refused,
                observes=refused or operation.f in model.observations,
                invoked=operation.invoked,
                completed=operation.completed,
                operation=operation,
            )
        )
    return calls
