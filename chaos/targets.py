"""Whom a fault hits: the words of a scenario turned into node names.

Knows the names of the nodes and, where it is told, who leads. Knows no fault, no clock and no cluster.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from testbed.base.rand import Random

LateTarget = Literal["leader", "followers"]

WORD_MEANINGS: Final[Mapping[str, str]] = {
    "one": "any node",
    "minority": "as many nodes as leave a majority: one of three or four, two of five or six",
    "majority": "just more than half of the nodes",
    "all": "every node",
    "leader": "whoever leads at that moment; without a leader, the fault waits for one as long as it would last",
    "followers": "all nodes but the one that leads at that moment, likewise",
}
WORDS: Final = tuple(WORD_MEANINGS)


def node_names(count: int) -> tuple[str, ...]:
    """`n1` … `nN`: the names of a cluster's nodes."""
    return tuple(f"n{number}" for number in range(1, count + 1))


def majority(count: int) -> int:
    """The smallest number of nodes that is more than half of `count`."""
    return count // 2 + 1


def size(target: str | Sequence[str], count: int) -> int:
    """How many nodes of a cluster of `count` that target means; 0 is an impossible target.

    A minority is the largest number of nodes that leaves a majority: nobody, in a cluster of one or two.
    """
    if not isinstance(target, str):
        return len(target)
    sizes = {"one": 1, "leader": 1, "followers": count - 1, "all": count}
    sizes |= {"minority": (count - 1) // 2, "majority": majority(count)}
    return sizes[target]


def draw_target(target: str | Sequence[str], nodes: Sequence[str], random: Random) -> tuple[str, ...] | LateTarget:
    """The names meant by `target`, in the cluster's order; `leader` and `followers` stay words (see `resolve`)."""
    if target == "leader" or target == "followers":
        return target  # type: ignore[return-value]  # mypy does not narrow `str | Sequence[str]` to a literal
    if not isinstance(target, str):
        return tuple(node for node in nodes if node in target)
    chosen = random.sample(range(len(nodes)), size(target, len(nodes)))
    return tuple(nodes[place] for place in sorted(chosen))


def resolve(target: tuple[str, ...] | LateTarget, nodes: Sequence[str], leader: str | None) -> tuple[str, ...] | None:
    """The names meant at this moment, given who leads; None where that takes a leader and there is none."""
    if not isinstance(target, str):
        return target
    if leader is None:
        return None
    if target == "leader":
        return (leader,)
    return tuple(node for node in nodes if node != leader)
