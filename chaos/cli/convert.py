"""`testbed convert`: a history in another format."""

from pathlib import Path

import click

from chaos.cli.answers import VALID, Answer, answering
from testbed.base.errors import UsageError


@click.command()
@click.argument("history")
@click.argument("out")
@click.option("--keyed/--no-keyed", default=None, help="In EDN, whether values are [key value]; told from the history.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@answering
def convert(answer: Answer, history: str, out: str, keyed: bool | None, force: bool) -> int:
    """Write HISTORY to OUT: JSON lines (.jsonl) or Jepsen's EDN (.edn), with .gz compressed. HISTORY may be "-".

    A damaged history leaves no OUT behind.
    """
    from chaos.formats import read_events, write_events

    if Path(out).exists() and not force:
        raise UsageError(out, "", "exists; --force replaces it")
    count = write_events(read_events(history, keyed), out, keyed)
    answer.result({"events": count, "out": out}, f"{count} events in {out}")
    return VALID
