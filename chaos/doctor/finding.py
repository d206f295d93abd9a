"""What a check is asked, and what it answers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from chaos.scenario import ELECTION_TIMEOUT_S_DEFAULT, HEARTBEAT_S_DEFAULT, NODES_DEFAULT

Grade = Literal["good", "note", "doubtful", "bad"]  # note: worth knowing, and in nobody's way

LIVE: Final = ("demo", "run", "up", "replay", "shrink", "bugs")  # those that start processes as nodes
FILES: Final = ("list", "check", "convert", "report", "logs", "explain")  # those that read files, and start nothing
ALL: Final = (*LIVE, "sim", *FILES)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine is to carry: so many nodes with these timeouts (seconds), and runs kept in that directory."""

    nodes: int = NODES_DEFAULT
    heartbeat: float = HEARTBEAT_S_DEFAULT
    election_timeout: float = ELECTION_TIMEOUT_S_DEFAULT
    directory: Path = Path()


class Finding(msgspec.Struct, frozen=True):
    """What one check found, and what that means for the commands that it `affects`.

    `meaning` is empty, and nothing affected, where there is nothing to say about it.
    """

    name: str
    grade: Grade
    found: str
    meaning: str = ""
    affects: tuple[str, ...] = ()


def worst(findings: Iterable[Finding]) -> Literal["good", "doubtful", "bad"]:
    """The grade of the machine; notes do not count."""
    grades = {finding.grade for finding in findings}
    return "bad" if "bad" in grades else "doubtful" if "doubtful" in grades else "good"
