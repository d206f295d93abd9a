"""What has changed between two looks at a cluster, a line for people each.

Knows statuses only; not the cluster, the time or the terminal.
"""

from collections.abc import Mapping, Sequence

from testbed.base.links import LinkRule, combine
from testbed.cluster import leader_of
from testbed.ports import Exit, NodeStatus


class Changes:
    """Remembers the last look."""

    def __init__(self) -> None:
        self._exits = 0  # how many were told
        self._processes: dict[str, tuple[str, int | None, str | None]] = {}
        self._leader: tuple[str | None, int | None] = (None, None)
        self._failed: dict[str, bool] = {}  # node -> whether all others that are up agreed that it is failed
        self._cuts: tuple[tuple[str, str, str | None], ...] = ()

    def note(self, status: Mapping[str, NodeStatus], links: Sequence[LinkRule], exits: Sequence[Exit]) -> list[str]:
        """A line for each change since the last call; `exits` are all so far."""
        return [
            *self._states(status, exits),
            *self._leadership(status),
            *self._verdicts(status),
            *self._links(links),
        ]

    def _states(self, status: Mapping[str, NodeStatus], exits: Sequence[Exit]) -> list[str]:
        """How processes ended, and how each node is now. A node that is down for what was just told needs no line."""
        lines = [f"{exit.node} ended (pid {exit.pid}): {exit.reason}" for exit in exits[self._exits :]]
        self._exits = len(exits)
        reasons = {(exit.node, exit.reason) for exit in exits}
        for node in status.values():
            seen = (node.state, node.pid, node.note if node.state == "down" else None)
            before = self._processes.get(node.id)
            if before != seen and (node.id, seen[2]) not in reasons:
                pid = f" (pid {node.pid})" if node.pid is not None and (before is None or before[1] != node.pid) else ""
                why = f": {seen[2]}" if seen[2] else ""
                lines.append(f"{node.id} {node.state}{pid}{why}")
            self._processes[node.id] = seen
        return lines

    def _leadership(self, status: Mapping[str, NodeStatus]) -> list[str]:
        leader = leader_of(status)
        seen = (leader, status[leader].term if leader is not None else None)
        before, self._leader = self._leader, seen
        if seen == before:
            return []
        return [f"{leader} leads in term {seen[1]}" if leader is not None else "nobody leads"]

    def _verdicts(self, status: Mapping[str, NodeStatus]) -> list[str]:
        """What the nodes themselves have found out about each other, once all that are up agree."""
        lines = []
        for node in status:
            views = [
                peer.views[node]
                for peer in status.values()
                if peer.id != node and peer.state == "up" and node in peer.views
            ]
            before = self._failed.get(node, False)
            if views and not before and all(view == "failed" for view in views):
                self._failed[node] = True
                lines.append(f"{node} is held failed by all others that are up")
            elif views and before and all(view == "alive" for view in views):
                self._failed[node] = False
                lines.append(f"{node} is held alive again by all others that are up")
        return lines

    def _links(self, links: Sequence[LinkRule]) -> list[str]:
        seen = tuple((rule.source, rule.target, rule.cut) for rule in combine(links).values())
        before, self._cuts = self._cuts, seen
        if seen == before:
            return []
        return [f"{len(seen)} links cut" if seen else "all links healed"]
