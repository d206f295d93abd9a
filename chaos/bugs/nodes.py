"""Node classes by which a live cluster's processes are given a bug: asking for one plants it there for good.

`chaos.bugs.nodes:forgets_vote.ServiceNode` is the built-in node, in a process in which the bug `forgets-vote` is
planted. Only the fork server, which loads a node class by its name, has a use for this (`chaos.bugs.node_reference`).
"""

from chaos.bugs import BUGS, plant
from chaos.bugs.couriers import Courier
from chaos.bugs.hanging import Hanging
from testbed.service import ServiceNode


class Nodes:
    """The nodes that a bug can be planted around."""

    ServiceNode = ServiceNode
    Hanging = Hanging
    Courier = Courier


def __getattr__(attribute: str) -> type[Nodes]:
    name = attribute.replace("_", "-")
    if name not in BUGS:
        raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
    plant(name)
    return Nodes
