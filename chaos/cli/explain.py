"""`testbed explain`: one client operation, followed through every node that it touched.

Knows how it is shown; what happened is `chaos.logbook`'s business.
"""

import textwrap
from typing import Final

import click

from chaos.cli.answers import VALID, Answer, answering
from testbed.base.errors import UsageError

WIDTH: Final = 80  # of sentences; steps are never cut
_COLOURS: Final = {"fault": "red", "exit": "red", "lost": "red", "dropped": "red", "forgotten": "red"}


@click.command()
@click.argument("run")
@click.argument("operation")
@answering
def explain(answer: Answer, run: str, operation: str) -> int:
    """Follow one client operation: received, appended, replicated, committed, applied, answered.

    RUN is a run's directory, its name below runs, or latest. OPERATION is the index of the operation's first or last
    event in history.jsonl, as verdicts print it; 2:12 or queue:12 is of another workload's history. Times are
    milliseconds since the operation began.
    """
    from chaos.cli.logs import run_directory
    from chaos.logbook import Logbook
    from chaos.logbook.account import conclusion, gaps, span_of, standing, to_json
    from chaos.logbook.journey import Journey, asked, outcome
    from chaos.logbook.operations import find
    from chaos.logbook.timeline import timeline

    directory = run_directory(run)
    if directory is None:
        raise UsageError(run, "", "there is no such run directory")
    book = Logbook(directory)
    found = find(book, operation)
    if not any(book.has_trace(node) for node in book.nodes) or not (directory / "clients.jsonl").exists():
        raise UsageError(directory, "", "keeps no traces of messages, which an explanation needs")
    journey = Journey(book, found)
    answer.result(to_json(journey, book))
    if answer.as_json:
        return VALID
    one = found.operation
    end = "on" if one.answered is None else f"to {one.answered}"
    answer.say(click.style(f"{asked(one)}: {outcome(one)}", bold=True))
    began = span_of(found.began - journey.begins)
    answer.say(f"process {one.process}, events {one.invoked} {end} of {found.history}; {began} after the run began")
    for fact in standing(journey):
        answer.say(f"at the time {fact}")
    answer.say()
    lines = timeline(journey)
    width = max(len(line.who) for line in lines)
    for line in lines:
        when = " " * 13 if line.time is None else f"{(line.time - found.began) * 1000:10.3f} ms"
        text = f"{when}  {line.who:<{width}}  {line.text}"
        answer.say(click.style(text, fg=_COLOURS[line.kind]) if line.kind in _COLOURS else text)
    answer.say()
    missed = gaps(journey, book)
    for gap in missed:
        answer.say(textwrap.fill(gap, WIDTH, initial_indent="  ", subsequent_indent="    "))
    if missed:
        answer.say()
    answer.say(textwrap.fill(conclusion(journey), WIDTH))
    return VALID
