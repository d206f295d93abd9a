"""The catalogue of planted bugs: real mistakes, switched on one at a time, to show that the checks find them.

A bug replaces pieces of the code that runs - functions, methods, attributes - where they are looked up. What is not
replaced knows nothing of it and costs nothing. Importing the catalogue loads no world.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from chaos.bugs import client, detection, harness, locks, queues, raft, sessions, storage, transport
from chaos.bugs.bug import Bug, Replacement
from chaos.settings import suggest
from testbed.base.errors import UsageError

__all__ = ["BUGS", "SCENARIOS", "Bug", "find", "node_reference", "plant", "planted", "refuse_elsewhere"]

_PARTS = (transport, detection, raft, sessions, locks, queues, storage, client, harness)
_ABSENT: Final = object()

BUGS: Final[Mapping[str, Bug]] = MappingProxyType(
    {found.name: found for part in _PARTS for found in vars(part).values() if isinstance(found, Bug)}
)
SCENARIOS: Final = Path(__file__).parent / "scenarios"  # of bugs that no scenario under configs/ brings to light
NODES: Final = {  # which nodes can run with a bug in the live world, and how `chaos.bugs.nodes` calls them
    "testbed:ServiceNode": "ServiceNode",
    "chaos.bugs.hanging:Hanging": "Hanging",
    "chaos.bugs.couriers:Courier": "Courier",
}

_in_place: Bug | None = None  # one at a time: of two, neither could be told by its effects


def find(name: str) -> Bug:
    """The bug of that name. UsageError, with a suggestion, if there is none."""
    found = BUGS.get(name)
    if found is None:
        raise UsageError("bugs", name, f"no such bug{suggest(name, BUGS)}")
    return found


def plant(name: str) -> Bug:
    """Replace the bug's pieces in this process, for good. RuntimeError while another bug is planted."""
    found = find(name)
    if _in_place is not found:
        _replace(found)
    return found


@contextmanager
def planted(name: str) -> Iterator[Bug]:
    """Replace the bug's pieces in this process, and put back exactly what was there. RuntimeError in a second plant."""
    found = find(name)
    before = _replace(found)
    try:
        yield found
    finally:
        _put_back(before)


def refuse_elsewhere(name: str, world: str, node: str) -> None:
    """UsageError for a bug that exists only in the other world, or in nodes of another kind."""
    found = find(name)
    if found.part in ("raft", "sessions", "locks", "queues") and node != "testbed:ServiceNode":
        raise UsageError("bugs", name, f"is one of the replicated service, and {node} is none")
    homes = [str(getattr(holder, "__module__", None) or vars(holder)["__name__"]) for holder, _, _ in found.plant()]
    for other in ("live", "sim"):
        if other != world and all(home.startswith(f"testbed.{other}") for home in homes):
            raise UsageError("bugs", name, f"exists only in the world {other}")


def node_reference(name: str, node: str) -> str:
    """The "module:Class" that a live cluster is given instead of `node`: importing it plants the bug in that process.

    UsageError for a node that no bug can be planted around.
    """
    label = NODES.get(node)
    if label is None:
        raise UsageError("bugs", name, f"cannot be planted around {node}, only around {', '.join(NODES)}")
    return f"chaos.bugs.nodes:{find(name).name.replace('-', '_')}.{label}"


def _replace(found: Bug) -> list[Replacement]:
    """What was there before, in the order of replacing."""
    global _in_place
    if _in_place is not None:
        raise RuntimeError(f"{_in_place.name} is planted already")
    _in_place = found
    before: list[Replacement] = []
    try:
        for holder, name, wrong in found.plant():
            right = vars(holder).get(name, _ABSENT)
            setattr(holder, name, wrong)
            before.append((holder, name, right))
    except BaseException:
        _put_back(before)
        raise
    return before


def _put_back(before: list[Replacement]) -> None:
    global _in_place
    for holder, name, right in reversed(before):
        if right is _ABSENT:
            delattr(holder, name)
        else:
            setattr(holder, name, right)
    _in_place = None
