"""Workloads: what clients do to a cluster, and which model judges it."""

from collections.abc import Mapping
from typing import Final

BUILT_IN: Final[Mapping[str, str]] = {"kv": "chaos.workloads.kv:KeyValue"}  # kind -> "module:Class"
