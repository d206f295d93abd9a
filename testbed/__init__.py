"""A fault-tolerance lab that fits on one machine: the cluster.

Names are loaded when first used, so that importing a core or a judge loads no ZeroMQ.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.base.errors import Deadlock, LeaseLost, OperationError, Refused, Unknown, UsageError
    from testbed.cluster import Cluster
    from testbed.node import Node, Request
    from testbed.service import ServiceNode

__all__ = [
    "Cluster",
    "Deadlock",
    "LeaseLost",
    "Node",
    "OperationError",
    "Refused",
    "Request",
    "ServiceNode",
    "Unknown",
    "UsageError",
]

_HOMES = {
    "Cluster": "testbed.cluster",
    "Node": "testbed.node",
    "Request": "testbed.node",
    "ServiceNode": "testbed.service",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'testbed' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "testbed.base.errors")), name)
