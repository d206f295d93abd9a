"""Mistakes in a client's session: what it takes for an answer, and what it makes of silence."""

from collections.abc import Sequence

from chaos.bugs.bug import Replacement, bug
from testbed.client import Outcome, Session
from testbed.core.services.commands import Command, Query


@bug(
    "client",
    source="Maelstrom, errors 0 and 13 against 11 and 14",
    caught_by=("cas-register",),
    scenario="blackouts.toml",
)
def timeout_as_failure() -> Sequence[Replacement]:
    """An operation that nobody answered in time is reported as failed."""
    right = Session._finish

    def finish(session: Session, outcome: Outcome) -> None:
        silent = outcome.error == "timeout"
        right(session, Outcome("fail", error="timeout") if silent else outcome)

    return [(Session, "_finish", finish)]


@bug(
    "client",
    source="Maelstrom, definite and indefinite errors",
    caught_by=("cas-register",),
    scenario="blackouts.toml",
)
def closing_as_refusal() -> Sequence[Replacement]:
    """A connection that closes counts as a refusal of all that was asked on it."""
    right = Session._unanswered

    def unanswered(session: Session, node: str) -> bool:
        doubt = session._in_doubt
        any_gone = right(session, node)
        session._in_doubt = doubt
        return any_gone

    return [(Session, "_unanswered", unanswered)]


@bug("client", source="Raft thesis 6.3", caught_by=("cas-register",), scenario="duplicates.toml")
def retry_as_new_command() -> Sequence[Replacement]:
    """Each attempt of a command gets a serial number of its own."""
    right = Session._service_body

    def service_body(session: Session, operation: Command | Query) -> bytes:
        if isinstance(operation, Command) and session._session:
            session._serial += 1
        return right(session, operation)

    return [(Session, "_service_body", service_body)]
