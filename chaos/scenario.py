"""Scenarios: what a scenario file says, read and checked.

Knows the format and what is impossible in it. Does not know when faults happen (`chaos.schedule`), nor the workloads'
own options, nor how to load a user's module. Reads one file; touches nothing else.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from chaos.faults import KINDS, LINKS, MODES, SHAPES, WHOLE_CLUSTER_SHAPES, Kind, Links, Shape, impossible
from chaos.settings import Table, suggest
from chaos.targets import WORDS, node_names, size
from testbed.base.durations import format_duration
from testbed.base.errors import UsageError
from testbed.base.limits import CLIENT_PENDING_MAX, NAME_LENGTH_MAX, NODES_MAX
from testbed.base.links import Cut

Restart = Literal["never", "on-failure", "always"]

NODES_DEFAULT: Final = 5
NODE_DEFAULT: Final = "testbed:ServiceNode"
HEARTBEAT_S_DEFAULT: Final = 0.1
ELECTION_TIMEOUT_S_DEFAULT: Final = 1.0
HEARTBEATS_PER_ELECTION_TIMEOUT_MIN: Final = 3  # thesis 3.9's "order of magnitude", at the least; PySyncObj asserts x3
CLIENTS_DEFAULT: Final = 5
RATE_DEFAULT: Final = 100.0
RATE_MIN: Final = 0.001  # operations a second: one every quarter of an hour
OPERATIONS_MAX: Final = 10**9  # of one workload: days of what a cluster can do
WORKLOAD_LEASE_S_MIN: Final = 0.01  # a shorter one ends before its holder is told of it
WORKLOAD_LEASE_S_MAX: Final = 30.0  # a run waits for the end of all of them: three times this, within DRAIN_S_MAX
FAULT_S_MIN: Final = 0.01  # for `every` and `for`: anything shorter ends before it can be seen in effect
SEED_MAX: Final = 2**63 - 1

Options = Mapping[str, Literal["duration", "flag"]]  # the further keys of a workload, and what each of them is
BUILTIN_WORKLOADS: Final[Mapping[str, Options]] = {
    "kv": {},
    "queue": {"visibility": "duration"},
    "lock": {"lease": "duration", "fenced": "flag"},
}

_IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`[cluster]`. `heartbeat` and `election_timeout` in seconds; `options` go to the node as they are."""

    nodes: int = NODES_DEFAULT
    node: str = NODE_DEFAULT
    heartbeat: float = HEARTBEAT_S_DEFAULT
    election_timeout: float = ELECTION_TIMEOUT_S_DEFAULT
    restart: Restart = "never"
    options: Mapping[str, Any] = {}
    trace: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' ids, `n1` to `nN`."""
        return node_names(self.nodes)


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[workload]]`: `rate` in operations a second, all clients together; `options` are its further keys.

    `operations`: how many at the most, all clients together; None if only the run's end ends them.
    """

    kind: str
    clients: int = CLIENTS_DEFAULT
    rate: float = RATE_DEFAULT
    operations: int | None = None
    options: Mapping[str, Any] = {}


class FaultSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[fault]]`: `at`, `every` and `lasting` (the key `for`) in seconds; `target` a word, names, or None.

    Either it happens once, `at` that time after the start, or again and again, `every` so often; the other is None.
    `order` places all nodes for the shapes ring and bridge; if empty, it is drawn.
    """

    kind: Kind
    target: str | tuple[str, ...] | None
    every: float | None = None
    at: float | None = None
    lasting: float
    shape: Shape = "split"
    mode: Cut = "drop"
    groups: tuple[tuple[str, ...], ...] = ()
    order: tuple[str, ...] = ()
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    links: Links = "nodes"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario file, read. `duration` in seconds; `source` is where it was read from, for messages and modules."""

    name: str
    duration: float
    cluster: ClusterSpec = ClusterSpec()
    workloads: tuple[WorkloadSpec, ...] = ()
    faults: tuple[FaultSpec, ...] = ()
    seed: int | None = None
    source: str = ""
    text: str = ""  # as it was read


def load_scenario(path: str | Path) -> Scenario:
    """The scenario in that file. Raises UsageError naming file, key and reason for whatever is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(path, "", error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(path, "", f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, source: str) -> Scenario:
    """The scenario in that text; see `load_scenario`. A scenario without a name is called after its file."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(source, "", f"not valid TOML: {error}") from error
    top = Table(source, "", values)
    top.only(("name", "duration", "seed", "cluster", "workload", "fault"))
    name = top.text("name", Path(source).stem)
    if not _FILE_NAME.match(name) or len(name) > NAME_LENGTH_MAX:
        top.fail("name", f"{name!r} names a directory: at most {NAME_LENGTH_MAX} of letters, digits and . _ -")
    cluster = _cluster(top.table("cluster"))
    return Scenario(
        name=name,
        duration=top.duration("duration"),
        cluster=cluster,
        workloads=tuple(_workload(entry) for entry in top.tables("workload")),
        faults=tuple(_fault(entry, cluster.names) for entry in top.tables("fault")),
        seed=top.integer("seed", low=0, high=SEED_MAX) if top.has("seed") else None,
        source=source,
        text=text,
    )


def _cluster(table: Table) -> ClusterSpec:
    table.only(("nodes", "node", "heartbeat", "election_timeout", "restart", "options", "trace"))
    node = table.text("node", NODE_DEFAULT)
    if not _IMPORTABLE.match(node):
        table.fail("node", f'{node!r} is not of the form "module:Class"')
    cluster = ClusterSpec(
        nodes=table.integer("nodes", NODES_DEFAULT, low=1, high=NODES_MAX),
        node=node,
        heartbeat=table.duration("heartbeat", HEARTBEAT_S_DEFAULT),
        election_timeout=table.duration("election_timeout", ELECTION_TIMEOUT_S_DEFAULT),
        restart=table.choice("restart", ("never", "on-failure", "always"), "never"),
        options=_options(table.table("options")),
        trace=table.flag("trace") if table.has("trace") else True,
    )
    factor = HEARTBEATS_PER_ELECTION_TIMEOUT_MIN
    if cluster.election_timeout < factor * cluster.heartbeat - 1e-9:
        table.fail("election_timeout", f"must be at least {factor} times the heartbeat, or followers rise for nothing")
    return cluster


def _options(table: Table) -> Mapping[str, Any]:
    """Options travel to the nodes as messages do."""
    for key, value in table.values.items():
        try:
            msgspec.msgpack.encode(value)
        except (OverflowError, TypeError, ValueError) as error:
            table.fail(key, f"cannot be sent to a node: {error}")
    return table.values


def _workload(table: Table) -> WorkloadSpec:
    kind = table.text("kind")
    own = ("kind", "clients", "rate", "operations")
    if kind in BUILTIN_WORKLOADS:
        table.only((*own, *sorted(BUILTIN_WORKLOADS[kind])))
        for key, form in BUILTIN_WORKLOADS[kind].items():
            if table.has(key):
                _lease(table, key) if form == "duration" else table.flag(key)
    elif not _IMPORTABLE.match(kind):
        table.fail("kind", f'no workload {kind!r}, and not "module:Class" either{suggest(kind, BUILTIN_WORKLOADS)}')
    return WorkloadSpec(
        kind=kind,
        clients=table.integer("clients", CLIENTS_DEFAULT, low=1, high=CLIENT_PENDING_MAX),
        rate=table.number("rate", RATE_DEFAULT, low=RATE_MIN),
        operations=table.integer("operations", low=1, high=OPERATIONS_MAX) if table.has("operations") else None,
        options={key: value for key, value in table.values.items() if key not in own},
    )


def _lease(table: Table, key: str) -> None:
    if not WORKLOAD_LEASE_S_MIN <= table.duration(key) <= WORKLOAD_LEASE_S_MAX:
        span = f"from {format_duration(WORKLOAD_LEASE_S_MIN)} to {format_duration(WORKLOAD_LEASE_S_MAX)}"
        table.fail(key, f"must be {span}")


def _fault(table: Table, nodes: tuple[str, ...]) -> FaultSpec:
    kind = table.choice("kind", tuple(info.name for info in KINDS.values()))
    own = KINDS[kind].keys
    every_key = {key for info in KINDS.values() for key in info.keys}
    for key in table.values:
        if key in every_key and key not in own:
            table.fail(key, f"does not go with {kind}")
    table.only(("kind", "target", "every", "at", "for", "order", *own))
    if table.has("at") and table.has("every"):
        table.fail("at", "does not go with every: a fault happens once, or again and again")
    shape = table.choice("shape", SHAPES, "split")
    groups = _groups(table, nodes)
    links = table.choice("links", LINKS, "nodes")
    fault = FaultSpec(
        kind=kind,
        target=None if groups else _target(table, kind, shape, links, nodes),
        every=None if table.has("at") else table.duration("every"),
        at=table.duration("at", zero=True) if table.has("at") else None,
        lasting=table.duration("for"),
        shape=shape,
        mode=table.choice("mode", MODES, "drop"),
        groups=groups,
        order=_order(table, kind, shape, nodes),
        delay=table.duration("delay", 0.0, zero=True),
        jitter=table.duration("jitter", 0.0, zero=True),
        rate=table.number("rate", low=0, high=1) if "rate" in own else 0.0,
        links=links,
    )
    for key, seconds in (("every", fault.every), ("for", fault.lasting)):
        if seconds is not None and seconds < FAULT_S_MIN:
            table.fail(key, f"must be at least {format_duration(FAULT_S_MIN)}")
    if kind == "delay" and not (fault.delay or fault.jitter):
        table.fail("delay", "is missing: neither delay nor jitter says how late messages are")
    return fault


def _groups(table: Table, nodes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    if not table.has("groups"):
        return ()
    for key in ("target", "shape", "order"):
        if table.has(key):
            table.fail(key, "does not go with groups, which say it all")
    value = table.values["groups"]
    if not isinstance(value, list) or len(value) < 2:
        table.fail("groups", 'must be two or more lists of nodes, such as [["n1"], ["n2", "n3"]]')
    groups = tuple(table.names("groups", group) for group in value)
    placed: set[str] = set()
    for group in groups:
        for node in group:
            _known(table, "groups", node, nodes)
            if node in placed:
                table.fail("groups", f"{node} is in two groups")
            placed.add(node)
    return groups


def _order(table: Table, kind: str, shape: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
    if not table.has("order"):
        return ()
    if kind != "partition":
        table.fail("order", f"does not go with {kind}")
    if shape not in WHOLE_CLUSTER_SHAPES:
        table.fail("order", f"does not go with {shape}, only with {' and '.join(WHOLE_CLUSTER_SHAPES)}")
    order = table.names("order", table.values["order"])
    for node in order:
        _known(table, "order", node, nodes)
    for node in nodes:
        if node not in order:
            table.fail("order", f"must place every node once, and leaves out {node}")
    return order


def _target(table: Table, kind: str, shape: str, links: str, nodes: tuple[str, ...]) -> str | tuple[str, ...] | None:
    count = len(nodes)
    value = table.values.get("target")
    target: str | tuple[str, ...] | None = None
    if value is None and shape in WHOLE_CLUSTER_SHAPES:
        targets = 1
    elif value is None or isinstance(value, str):
        word = table.text("target")
        if word in nodes:
            table.fail("target", f'names are given as a list: ["{word}"]')
        target = table.choice("target", WORDS)
        targets = size(target, count)
        if targets == 0:
            table.fail("target", f"{target} is nobody in a cluster of {count}")
    else:
        target = table.names("target", value)
        for node in target:
            _known(table, "target", node, nodes)
        targets = len(target)
    reason = impossible(kind, shape, links, targets, count)
    if reason:
        table.fail("target" if target is not None else "shape", reason)
    return target


def _known(table: Table, key: str, node: str, nodes: tuple[str, ...]) -> None:
    if node not in nodes:
        span = nodes[0] if len(nodes) == 1 else f"{nodes[0]} to {nodes[-1]}"
        table.fail(key, f"no node {node!r} in this cluster of {span}")
