"""What can go wrong: the kinds of faults, their keys, and the link rules that each kind of link fault means.

A fault here is a value. Choosing one, applying it and healing it happen elsewhere; nothing here touches a cluster. Of
a user's own kind only the name is known here, "module:Class" (see `chaos.custom_faults`).

The shapes of partitions are those of Jepsen's nemesis (jepsen/src/jepsen/nemesis.clj: complete-grudge, bridge,
majorities-ring). A partition never cuts the links of clients, nor those by which the laboratory controls its nodes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from chaos.targets import LateTarget, majority, size
from testbed.base.links import CLIENTS, Cut, LinkRule

Kind = Literal["kill", "terminate", "pause", "partition", "delay", "loss", "duplicate", "reorder"]
Shape = Literal["split", "isolate", "ring", "bridge", "one-way"]
Links = Literal["nodes", "clients", "all"]

SHAPE_MEANINGS: Final[Mapping[Shape, str]] = {
    "split": "the targets against the rest",
    "isolate": "each target alone",
    "ring": "every node sees a majority, no two the same",
    "bridge": "two halves joined by the target",
    "one-way": "what the targets send is lost",
}
MODE_MEANINGS: Final[Mapping[Cut, str]] = {
    "drop": "lost",
    "hold": "delivered after the heal",
    "reset": "connection refused",
}
SHAPES: Final[tuple[Shape, ...]] = tuple(SHAPE_MEANINGS)
MODES: Final[tuple[Cut, ...]] = tuple(MODE_MEANINGS)
LINKS: Final[tuple[Links, ...]] = ("nodes", "clients", "all")
WHOLE_CLUSTER_SHAPES: Final = ("ring", "bridge")  # every node has its place in them: a target may be left out


@dataclass(frozen=True)
class KindInfo:
    """One kind of fault, for people and for the reader of scenarios.

    `keys` are those beside target, at, every and for.
    """

    name: Kind
    description: str
    keys: Mapping[str, str]  # key -> its type, in words


def _choices(meanings: Mapping[Any, str]) -> str:
    """Those words and what they mean; the first is the default."""
    (word, meaning), *others = meanings.items()
    return ", ".join([f"{word} (default: {meaning})", *(f"{word} ({meaning})" for word, meaning in others)])


_LINKS_KEY = {"links": "nodes (default), clients, all"}
_RATE_KEYS = {"rate": "0 to 1"} | _LINKS_KEY

KINDS: Final[Mapping[str, KindInfo]] = {
    info.name: info
    for info in (
        KindInfo("kill", "end the process at once (SIGKILL); it starts again when the fault ends", {}),
        KindInfo("terminate", "ask the process to stop in good order; it starts again when the fault ends", {}),
        KindInfo("pause", "stop the process in its tracks (SIGSTOP); it goes on when the fault ends (SIGCONT)", {}),
        KindInfo(
            "partition",
            "cut links between nodes; clients keep theirs",
            {
                "shape": _choices(SHAPE_MEANINGS),
                "mode": _choices(MODE_MEANINGS),
                "groups": 'instead of a target: lists of nodes that see only their own, as in [["n1"], ["n2", "n3"]]',
                "order": "for ring and bridge: all nodes in the order of their places",
            },
        ),
        KindInfo(
            "delay",
            "messages to and from the targets arrive late",
            {"delay": "duration", "jitter": "duration, added at random from 0 up to it"} | _LINKS_KEY,
        ),
        KindInfo("loss", "messages to and from the targets are lost at that rate", _RATE_KEYS),
        KindInfo("duplicate", "messages to and from the targets arrive twice at that rate", _RATE_KEYS),
        KindInfo("reorder", "messages to and from the targets overtake each other at that rate", _RATE_KEYS),
    )
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One fault: what, to whom, how. `delay` and `jitter` in seconds, `rate` a probability.

    `target` is the nodes, or `leader` / `followers`, which are resolved when it is applied. `order` places all nodes
    for the shapes ring and bridge (the cluster's order if empty). `options` are those of a user's own kind.
    """

    kind: str  # one of KINDS, or a user's own
    target: tuple[str, ...] | LateTarget = ()
    shape: Shape = "split"
    mode: Cut = "drop"
    groups: tuple[tuple[str, ...], ...] = ()
    order: tuple[str, ...] = ()
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    links: Links = "nodes"
    options: Mapping[str, Any] = {}


def is_custom(kind: str) -> bool:
    """Whether that is a kind of a user's own, "module:Class"."""
    return ":" in kind


def impossible(kind: str, shape: str, links: str, targets: int, nodes: int) -> str | None:
    """Why a fault on `targets` of `nodes` nodes cannot be, in words; None if it can."""
    if kind == "partition":
        if shape in WHOLE_CLUSTER_SHAPES and nodes < 3:
            return f"a {shape} needs at least three nodes, and there are {nodes}"
        if shape == "bridge":
            return None if nodes - targets >= 2 else "with that many nodes in the bridge, no two sides are left to join"
        if shape == "ring":
            return None
    if targets == 0:
        return f"that is nobody in a cluster of {nodes}"
    if kind == "partition":
        if shape == "split" and targets >= nodes:
            return "that is all nodes against nobody"
        if nodes < 2:
            return "one node alone has no links to cut"
    if kind in ("delay", "loss", "duplicate", "reorder") and links == "nodes" and nodes < 2:
        return "one node alone has no links to other nodes"
    return None


def mistake(fault: Fault, nodes: Sequence[str]) -> str | None:
    """Why that fault cannot be in a cluster of these nodes, in words; None if it can."""
    if fault.kind not in KINDS and not is_custom(fault.kind):
        return f"no kind of fault {fault.kind!r}"
    if fault.options and not is_custom(fault.kind):
        return f"options do not go with {fault.kind}"
    named = [node for group in (*fault.groups, fault.order) for node in group]
    named += [] if isinstance(fault.target, str) else fault.target
    strangers = [node for node in named if node not in nodes]
    if strangers:
        return f"no node {strangers[0]!r} in this cluster"
    if fault.order and sorted(fault.order) != sorted(nodes):
        return "order must place every node once"
    if fault.groups:
        grouped = [node for group in fault.groups for node in group]
        return (
            None if len(set(grouped)) == len(grouped) and len(fault.groups) > 1 else "groups must be two or more, apart"
        )
    whole = fault.kind == "partition" and fault.shape in WHOLE_CLUSTER_SHAPES and not fault.target
    targets = 1 if whole else size(fault.target, len(nodes))
    return impossible(fault.kind, fault.shape, fault.links, targets, len(nodes))


def link_rules(fault: Fault, nodes: Sequence[str], targets: Sequence[str]) -> tuple[LinkRule, ...]:
    """What the fault does to links while it is held; nothing for faults of processes.

    `targets` are the names that `fault.target` means at the moment. One rule for each directed link, in order.
    """
    if fault.kind == "partition":
        cut = _cut_links(fault, nodes, targets)
        return tuple(LinkRule(source, target, cut=fault.mode) for source, target in sorted(cut))
    touched = _touched_links(fault.links, nodes, targets)
    match fault.kind:
        case "delay":
            return tuple(LinkRule(*link, delay=fault.delay, jitter=fault.jitter) for link in touched)
        case "loss":
            return tuple(LinkRule(*link, loss=fault.rate) for link in touched)
        case "duplicate":
            return tuple(LinkRule(*link, duplicate=fault.rate) for link in touched)
        case "reorder":
            return tuple(LinkRule(*link, reorder=fault.rate) for link in touched)
        case _:
            return ()


def _touched_links(links: Links, nodes: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    """Both directions of every link that has one of `targets` at an end."""
    touched: set[tuple[str, str]] = set()
    if links != "clients":
        touched |= {(a, b) for a in nodes for b in nodes if a != b and (a in targets or b in targets)}
    if links != "nodes":
        touched |= {(CLIENTS, node) for node in targets} | {(node, CLIENTS) for node in targets}
    return sorted(touched)


def _cut_links(fault: Fault, nodes: Sequence[str], targets: Sequence[str]) -> set[tuple[str, str]]:
    if fault.groups:
        return _between_components(fault.groups)
    rest = [node for node in nodes if node not in targets]
    match fault.shape:
        case "split":
            return _between_components([targets, rest])
        case "isolate":
            return _between_components([*([node] for node in targets), rest])
        case "one-way":
            return {(node, other) for node in targets for other in nodes if other != node}
        case "bridge":
            return _bridge(fault.order or nodes, targets)
        case "ring":
            return _majorities_ring(fault.order or nodes, targets)


def _between_components(components: Iterable[Sequence[str]]) -> set[tuple[str, str]]:
    """Jepsen's complete-grudge: no node talks to a node of another component; nodes in none keep all their links."""
    parts = list(components)
    return {
        (a, b)
        for mine, part in enumerate(parts)
        for theirs, other in enumerate(parts)
        if mine != theirs
        for a in part
        for b in other
    }


def _bridge(order: Sequence[str], targets: Sequence[str]) -> set[tuple[str, str]]:
    """Jepsen's bridge: two halves, the smaller first, that can reach each other only through the node between them.

    The targets are that node, if there are any; else it is the one in the middle of `order`.
    """
    between = targets or [order[len(order) // 2]]
    rest = [node for node in order if node not in between]
    return _between_components([rest[: len(rest) // 2], rest[len(rest) // 2 :]])


def _majorities_ring(order: Sequence[str], targets: Sequence[str]) -> set[tuple[str, str]]:
    """Jepsen's majorities-ring: every node sees a majority, and no two nodes see the same one. Targets stand together.

    Jepsen cuts directions; here links are cut both ways, so that a majority is one of nodes that can also answer.
    The links that remain are then those of a Harary graph (Harary 1962, the sparsest in which every node has at least
    so many neighbours), with as many neighbours as a majority needs beside the node itself.
    """
    places = [node for node in order if node in targets] + [node for node in order if node not in targets]
    count = len(places)
    neighbours = majority(count) - 1
    kept = {(i, (i + step) % count) for i in range(count) for step in range(1, neighbours // 2 + 1)}
    if neighbours % 2 and count % 2 == 0:
        kept |= {(i, i + count // 2) for i in range(count // 2)}
    elif neighbours % 2:  # an odd number of nodes cannot all have an odd number of neighbours: the first has one more
        kept |= {(i, i + (count + 1) // 2) for i in range((count - 1) // 2)} | {(0, (count - 1) // 2)}
    return {
        (places[i], places[j])
        for i in range(count)
        for j in range(count)
        if i != j and (i, j) not in kept and (j, i) not in kept
    }
