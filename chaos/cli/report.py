"""`testbed report`: the report of a run, as one HTML file."""

from pathlib import Path

import click

from chaos.cli.answers import VALID, Answer, answering
from testbed.base.errors import UsageError


@click.command()
@click.argument("run")
@click.option("--out", metavar="FILE", help="Where to write it. [default: report.html in the run directory]")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@answering
def report(answer: Answer, run: str, out: str | None, show: bool) -> int:
    """Write the report of a run: one HTML file that opens offline.

    RUN is a run's directory, its name below runs, or latest. What is missing or damaged there is said in the report.
    """
    from chaos.cli.logs import run_directory
    from chaos.report import write_report

    directory = run_directory(run)
    if directory is None:
        raise UsageError(run, "", "there is no such run directory")
    path = write_report(directory, None if out is None else Path(out))
    if show:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            answer.progress("there is no browser here to open it")
    answer.result({"report": str(path)}, f"the report is in {path}")
    return VALID
