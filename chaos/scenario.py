"""Scenarios: what a scenario file says, read and checked.

Knows the format and what is impossible in it; its keys are told once, in tables that are read by the reader here and
by whoever explains them to people (`chaos.scenario_reference`). Does not know when faults happen (`chaos.schedule`),
nor the options of users' own workloads and faults, nor how to load a module. Reads one file; touches nothing else.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from chaos.faults import KINDS, LINKS, MODES, SHAPES, WHOLE_CLUSTER_SHAPES, Links, Shape, impossible, is_custom
from chaos.settings import Key, Table, keyed, suggest
from chaos.targets import WORDS, node_names, size
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
WORKLOAD_LEASE_S_DEFAULT: Final = 1.0
WORKLOAD_LEASE_S_MIN: Final = 0.01  # a shorter one ends before its holder is told of it
WORKLOAD_LEASE_S_MAX: Final = 30.0  # a run waits for the end of all of them: three times this, within DRAIN_S_MAX
FAULT_S_MIN: Final = 0.01  # for `every` and `for`: anything shorter ends before it can be seen in effect
SEED_MAX: Final = 2**63 - 1


def _lease(name: str, meaning: str) -> Key:
    return Key(name, "duration", meaning, WORKLOAD_LEASE_S_DEFAULT, WORKLOAD_LEASE_S_MIN, WORKLOAD_LEASE_S_MAX)


TOP_KEYS: Final = keyed(
    Key("name", "string", "what its runs are called: letters, digits and . _ -", default="the file's name"),
    Key("duration", "duration", "how long clients and faults go on"),
    Key("seed", "whole number", "of all dice; a fresh one each time if left out", None, low=0, high=SEED_MAX),
    Key("cluster", "table", "the nodes", {}),
    Key("workload", "tables", "who uses the cluster, and how; may be repeated", ()),
    Key("fault", "tables", "what goes wrong, and when; may be repeated", ()),
)
CLUSTER_KEYS: Final = keyed(
    Key("nodes", "whole number", "how many there are: n1, n2 and so on", NODES_DEFAULT, low=1, high=NODES_MAX),
    Key("node", "string", 'what each of them is: "module:Class", looked up beside this file first', NODE_DEFAULT),
    Key("heartbeat", "duration", "how often each node is heard of by all others", HEARTBEAT_S_DEFAULT),
    Key(
        "election_timeout",
        "duration",
        "without a word from its leader for so long, a node stands for election; "
        f"at least {HEARTBEATS_PER_ELECTION_TIMEOUT_MIN} heartbeats",
        ELECTION_TIMEOUT_S_DEFAULT,
    ),
    Key("restart", "word", "whether a node that ends by itself is started again", "never", words=get_args(Restart)),
    Key(
        "trace",
        "flag",
        "keep what every node received, sent and appended, for `testbed explain` and the report",
        True,
    ),
    Key("options", "table", "handed to every node as it is: `self.options`", {}),
)
WORKLOAD_KEYS: Final = keyed(
    Key("kind", "string", 'a built-in one, or your own: "module:Class", looked up beside this file first'),
    Key("clients", "whole number", "how many take part", CLIENTS_DEFAULT, low=1, high=CLIENT_PENDING_MAX),
    Key("rate", "number", "operations a second, all clients together", RATE_DEFAULT, low=RATE_MIN),
    Key("operations", "whole number", "at the most, all clients together", None, low=1, high=OPERATIONS_MAX),
)
BUILTIN_WORKLOADS: Final[Mapping[str, Mapping[str, Key]]] = {  # the further keys of each
    "kv": {},
    "queue": keyed(_lease("visibility", "how long a consumer may keep a message")),
    "lock": keyed(
        _lease("lease", "how long a lock is granted for"),
        Key("fenced", "flag", "whether writes carry their lock's token; without, the run is meant to fail", True),
    ),
}
FAULT_KEYS: Final = keyed(
    Key("kind", "string", 'a built-in one, or your own: "module:Class", looked up beside this file first'),
    Key("target", "word or list of names", "on which nodes; may be left out for the shapes ring and bridge"),
    Key("every", "duration", "again and again, 0.5 to 1.5 times this apart, drawn from the seed", low=FAULT_S_MIN),
    Key("at", "duration", "instead of `every`: once, that long after the start", None, low=0),
    Key("for", "duration", "how long it lasts", low=FAULT_S_MIN),
    Key("shape", "word", "which links a partition cuts", "split", words=SHAPES),
    Key("mode", "word", "what becomes of messages over a cut link", "drop", words=MODES),
    Key(
        "groups",
        "lists of names",
        'instead of a target and a shape: nodes that see only their own group, as in `[["n1"], ["n2", "n3"]]`',
        None,
    ),
    Key(
        "order",
        "list of names",
        "for ring and bridge: all nodes, in the order of their places; drawn if left out",
        None,
    ),
    Key("delay", "duration", "how late messages are", 0.0, low=0),
    Key("jitter", "duration", "added to `delay` at random, from 0 up to it; one of the two must be given", 0.0, low=0),
    Key("rate", "number", "how probable it is for each message", low=0, high=1),
    Key("links", "word", "whether links to nodes, to clients or to all of them are touched", "nodes", words=LINKS),
)
CUSTOM_FAULT_KEYS: Final = ("kind", "target", "every", "at", "for")  # all others are options of the user's own class

_IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`[cluster]`. `heartbeat` and `election_timeout` in seconds; `options` go to the node as they are.

    `trace`: whether the run keeps what every node received, sent and appended.
    """

    nodes: int = NODES_DEFAULT
    node: str = NODE_DEFAULT
    heartbeat: float = HEARTBEAT_S_DEFAULT
    election_timeout: float = ELECTION_TIMEOUT_S_DEFAULT
    restart: Restart = "never"
    trace: bool = True
    options: Mapping[str, Any] = {}

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
    `order` places all nodes for the shapes ring and bridge; if empty, it is drawn. `options` are the further keys of a
    user's own kind.
    """

    kind: str
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
    options: Mapping[str, Any] = {}


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
    top.only(TOP_KEYS)
    name = top.text("name", Path(source).stem)
    if not _FILE_NAME.match(name) or len(name) > NAME_LENGTH_MAX:
        top.fail("name", f"{name!r} names a directory: at most {NAME_LENGTH_MAX} of letters, digits and . _ -")
    cluster = _cluster(top.table("cluster"))
    return Scenario(
        name=name,
        duration=top.read(TOP_KEYS["duration"]),
        cluster=cluster,
        workloads=tuple(_workload(entry) for entry in top.tables("workload")),
        faults=tuple(_fault(entry, cluster.names) for entry in top.tables("fault")),
        seed=top.read(TOP_KEYS["seed"]),
        source=source,
        text=text,
    )


def _cluster(table: Table) -> ClusterSpec:
    table.only(CLUSTER_KEYS)
    read = {name: table.read(key) for name, key in CLUSTER_KEYS.items() if key.form != "table"}
    if not _IMPORTABLE.match(read["node"]):
        table.fail("node", f'{read["node"]!r} is not of the form "module:Class"')
    cluster = ClusterSpec(**read, options=_options(table.table("options")))
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
    if kind in BUILTIN_WORKLOADS:
        own = BUILTIN_WORKLOADS[kind]
        table.only((*WORKLOAD_KEYS, *own))
        for key in own.values():
            table.read(key)
    elif not _IMPORTABLE.match(kind):
        table.fail("kind", f'no workload {kind!r}, and not "module:Class" either{suggest(kind, BUILTIN_WORKLOADS)}')
    return WorkloadSpec(
        **{name: table.read(key) for name, key in WORKLOAD_KEYS.items()},
        options={key: value for key, value in table.values.items() if key not in WORKLOAD_KEYS},
    )


def _fault(table: Table, nodes: tuple[str, ...]) -> FaultSpec:
    kind = table.text("kind")
    if is_custom(kind):
        return _custom_fault(table, kind, nodes)
    table.choice("kind", tuple(KINDS))
    own = KINDS[kind].keys
    for key in table.values:
        if key in FAULT_KEYS and key not in CUSTOM_FAULT_KEYS and key not in own:
            table.fail(key, f"does not go with {kind}")
    table.only((*CUSTOM_FAULT_KEYS, *own))
    shape, links = table.read(FAULT_KEYS["shape"]), table.read(FAULT_KEYS["links"])
    groups = _groups(table, nodes)
    fault = FaultSpec(
        kind=kind,
        target=None if groups else _target(table, kind, shape, links, nodes),
        **_times(table),
        shape=shape,
        mode=table.read(FAULT_KEYS["mode"]),
        groups=groups,
        order=_order(table, shape, nodes),
        delay=table.read(FAULT_KEYS["delay"]),
        jitter=table.read(FAULT_KEYS["jitter"]),
        rate=table.read(FAULT_KEYS["rate"]) if "rate" in own else 0.0,
        links=links,
    )
    if kind == "delay" and not (fault.delay or fault.jitter):
        table.fail("delay", "is missing: neither delay nor jitter says how late messages are")
    return fault


def _custom_fault(table: Table, kind: str, nodes: tuple[str, ...]) -> FaultSpec:
    """Its options are kept as they are; only its class knows them."""
    if not _IMPORTABLE.match(kind):
        table.fail("kind", f'{kind!r} is not of the form "module:Class"')
    options = {key: value for key, value in table.values.items() if key not in CUSTOM_FAULT_KEYS}
    for key, value in options.items():
        try:
            kept = msgspec.json.decode(msgspec.json.encode(value))
        except (OverflowError, TypeError, ValueError):
            kept = None
        if kept != value:
            table.fail(key, f"cannot be kept in a schedule: JSON has no way to write {value!r}")
    target = _target(table, kind, "split", "nodes", nodes)
    return FaultSpec(kind=kind, target=target, **_times(table), options=options)


def _times(table: Table) -> dict[str, Any]:
    """When, and for how long."""
    if table.has("at") and table.has("every"):
        table.fail("at", "does not go with every: a fault happens once, or again and again")
    every = None if table.has("at") else table.read(FAULT_KEYS["every"])
    return {"every": every, "at": table.read(FAULT_KEYS["at"]), "lasting": table.read(FAULT_KEYS["for"])}


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


def _order(table: Table, shape: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
    if not table.has("order"):
        return ()
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
