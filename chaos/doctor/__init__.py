"""What this machine can and cannot do, tried out rather than looked up, and what that means for which commands.

`examine` yields one `Finding` after the other; each check is a function of its own. How they are shown, and which exit
status they make, is the command's business.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Final

from chaos.doctor.finding import ALL, LIVE, Asked, Finding, Grade, worst
from chaos.doctor.people import browser, terminal
from chaos.doctor.processes import fork_server, loopback, namespaces, parent_death, pidfd, signals
from chaos.doctor.system import cores, disk, memory, open_files, platform, ports, python
from chaos.doctor.timing import monotonic_clock, quickness

Check = Callable[[Asked], Finding | tuple[Finding, ...]]

CHECKS: Final[tuple[Check, ...]] = (
    *(platform, python, cores, memory, open_files, ports, disk),
    *(monotonic_clock, quickness),
    *(pidfd, signals, parent_death, loopback, fork_server, namespaces),
    *(browser, terminal),
)


def examine(asked: Asked) -> Iterator[Finding]:
    """What each check finds. Elsewhere than on Linux there is one thing to say."""
    for check in CHECKS if sys.platform.startswith("linux") else (platform,):
        yield from _tried(check, asked)


def _tried(check: Check, asked: Asked) -> tuple[Finding, ...]:
    try:
        found = check(asked)
    except Exception as error:  # whatever a machine may come up with is a finding
        name = check.__name__.replace("_", " ")
        return (Finding(name, "doubtful", f"{type(error).__name__}: {error}", "could not be tried out", LIVE),)
    return found if isinstance(found, tuple) else (found,)


__all__ = ["ALL", "LIVE", "Asked", "Finding", "Grade", "examine", "worst"]
