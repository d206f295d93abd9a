"""Workloads: what clients do to a cluster, and which model judges it."""

from collections.abc import Mapping
from typing import Final

BUILT_IN: Final[Mapping[str, str]] = {  # kind -> "module:Class"
    "kv": "chaos.workloads.kv:KeyValue",
    "queue": "chaos.workloads.queue:Messages",
    "lock": "chaos.workloads.lock:Holders",
}
