"""`testbed doctor`: what this machine can and cannot do, and what that means for which commands.

Shows what `chaos.doctor` finds, in 80 columns, and turns it into an exit status.
"""

import textwrap
from pathlib import Path
from typing import Final

import click
import msgspec

from chaos.cli.answers import UNKNOWN, USAGE, VALID, Answer, answering
from chaos.doctor import ALL, Asked, Finding, Grade, examine, worst
from chaos.scenario import load_scenario

WIDTH: Final = 80
INDENT: Final = 25
MARKS: Final[dict[Grade, str]] = {"good": "ok", "note": "--", "doubtful": "??", "bad": "NO"}


@click.command()
@click.argument("scenario", metavar="[SCENARIO.toml]", required=False)
@click.option("--out", default="runs", metavar="DIR", help="Where runs would be kept.", show_default=True)
@answering
def doctor(answer: Answer, scenario: str | None, out: str) -> int:
    """What this machine can and cannot do, and what that means for which commands.

    With a scenario, whether it can do what that asks for: so many nodes, with such timeouts.

    Exit status: 0 if live clusters run well here, 2 if that is doubtful, 254 if they cannot run at all.
    """
    findings: list[Finding] = []
    for finding in examine(_asked(scenario, Path(out))):
        findings.append(finding)
        if not answer.as_json:
            answer.say("\n".join(_shown(finding)))
    grade = worst(findings)
    conclusion = {
        "good": "live clusters run here",
        "doubtful": "live clusters may run here, with the reservations above",
        "bad": "live clusters cannot run here",
    }[grade]
    serious = [finding for finding in findings if finding.grade in ("doubtful", "bad")]
    affected = list(dict.fromkeys(command for finding in serious for command in finding.affects))
    untouched = [command for command in ALL if command not in affected]
    told = {
        "grade": grade,
        "conclusion": conclusion,
        "affected": affected,
        "not_affected": untouched,
        "checks": [msgspec.to_builtins(finding) for finding in findings],
    }
    words = ["", conclusion]
    if affected:
        words += _wrapped("  affected      testbed ", ", ".join(affected))
        words += _wrapped("  not affected  testbed ", ", ".join(untouched) or "doctor")
    answer.result(told, "\n".join(words))
    if grade == "bad":
        first = next(finding for finding in findings if finding.grade == "bad")
        answer.progress(f"testbed doctor: {first.name}: {first.found}: {first.meaning}")
    return {"good": VALID, "doubtful": UNKNOWN, "bad": USAGE}[grade]


def _asked(path: str | None, out: Path) -> Asked:
    directory = out if out.is_dir() else Path.cwd()
    if path is None:
        return Asked(directory=directory)
    cluster = load_scenario(path).cluster
    return Asked(
        nodes=cluster.nodes,
        heartbeat=cluster.heartbeat,
        election_timeout=cluster.election_timeout,
        directory=directory,
    )


def _shown(finding: Finding) -> list[str]:
    lines = _wrapped(f"{MARKS[finding.grade] + '  ' + finding.name:<{INDENT}}", finding.found)
    if finding.meaning:
        whom = f"{', '.join(finding.affects)}: " if finding.affects else ""
        lines += _wrapped(" " * INDENT, whom + finding.meaning)
    return lines


def _wrapped(head: str, body: str) -> list[str]:
    return textwrap.wrap(body, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
