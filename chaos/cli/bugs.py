"""`bugs`: the catalogue of planted bugs, each of which the checks must catch."""

import os
from typing import Any

import click
import msgspec

from chaos.cli.answers import INVALID, VALID, Answer, answering
from chaos.cli.failing import confess_worker


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--jobs", type=click.IntRange(1, 256), help="At a time. Default: one for each processor.")
@answering
def bugs(answer: Answer, names: tuple[str, ...], jobs: int | None) -> int:
    """Plant known bugs, one at a time, and see that each is caught, and that nothing is found without them.

    Exit status 1 if one escaped or there was a false alarm.
    """
    from chaos.bugs import BUGS, find
    from chaos.campaign import WorkerEnded
    from chaos.cli.run import shipped
    from chaos.hunt import hunt

    wanted = [find(name) for name in names] or list(BUGS.values())
    done: dict[str, dict[str, Any]] = {}
    try:
        for found in hunt(wanted, jobs or os.cpu_count() or 1, shipped):
            done[found.name] = msgspec.to_builtins(found)
            answer.progress(_line(done[found.name]))
    except WorkerEnded as error:
        return confess_worker(answer, error)
    ordered = [done[bug.name] for bug in wanted]
    escaped = [found["name"] for found in ordered if not found["caught"]]
    alarms = [alarm for found in ordered for alarm in found["false_alarms"]]
    lines = [_line(found) for found in ordered]
    lines.append(f"{len(ordered) - len(escaped)} of {len(ordered)} caught, {len(alarms)} false alarms")
    answer.result({"bugs": ordered, "escaped": escaped, "false_alarms": alarms}, "\n".join(lines))
    return INVALID if escaped or alarms else VALID


def _line(found: dict[str, Any]) -> str:
    alarm = f"  FALSE ALARM without it: {found['false_alarms'][0]}" if found["false_alarms"] else ""
    if found["caught"]:
        return f"caught   {found['name']:<35} seed {found['seeds']:>3}, {found['world']}  {found['by']}{alarm}"
    return f"ESCAPED  {found['name']:<35} {found['seeds']} seeds, {found['world']}{alarm}"
