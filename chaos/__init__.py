"""The experiment: faults, clients and judges for a cluster. Names are loaded when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos.checkers import check, models
    from chaos.custom_faults import CustomFault
    from chaos.workloads.api import Op, Workload

__all__ = ["CustomFault", "Op", "Workload", "check", "models"]

_HOMES = {
    "CustomFault": "chaos.custom_faults",
    "Op": "chaos.workloads.api",
    "Workload": "chaos.workloads.api",
    "check": "chaos.checkers",
}


def __getattr__(name: str) -> Any:
    if name == "models":
        return import_module("chaos.checkers.models")
    if name not in _HOMES:
        raise AttributeError(f"module 'chaos' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
