"""`testbed cleanup`: ends what dead supervisors left behind, and forgets a cluster that was here."""

from pathlib import Path

import click
import msgspec

from chaos.cli.answers import UNKNOWN, VALID, Answer, answering
from chaos.console import Place
from testbed.base.errors import UsageError
from testbed.live.cleanup import find_leftovers, reap


@click.command()
@click.option("--here", is_flag=True, help="Only what belonged to a cluster of this directory.")
@answering
def cleanup(answer: Answer, here: bool) -> int:
    """End what dead supervisors of yours left behind, and remove this directory's stale cluster.json.

    It never touches a cluster whose supervisor lives. Exit status 2 if something would not end.
    """
    place = Place(Path.cwd())
    found = [one for one in find_leftovers() if not here or Path(one.directory) == place.directory]
    left = reap(found)
    removed = _forget(place)
    ended = [one for one in found if one not in left]
    for one in ended:
        answer.progress(f"ended {one.name} (pid {one.pid}) of {one.directory}")
    for path in removed:
        answer.progress(f"removed {path}")
    for one in left:
        answer.progress(f"could not end {one.name} (pid {one.pid}) of {one.directory}")
    told = {
        "ended": [msgspec.to_builtins(one) for one in ended],
        "left": [msgspec.to_builtins(one) for one in left],
        "removed": [str(path) for path in removed],
    }
    answer.result(told, f"{len(ended)} processes ended, {len(left)} left, {len(removed)} files removed")
    return UNKNOWN if left else VALID


def _forget(place: Place) -> list[Path]:
    if not place.directory.is_dir():
        return []
    try:
        place.hold()
    except UsageError:  # a cluster lives here
        return []
    try:
        return place.forget()
    finally:
        place.release()
