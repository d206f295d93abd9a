"""What tests of the live world look at: processes, logs, views."""

import json
from pathlib import Path

from testbed.live.procfs import marked_processes, observe


def processes_of(directory):
    """Pids of everything that descends from the fork servers of the cluster in that directory, if it still lives."""
    return [
        pid
        for pid, marker in marked_processes()
        if marker.directory == str(directory) and observe(pid) not in ("zombie", "gone")
    ]


def settled(cluster):
    """Wait until every node that is up has heard the others and holds exactly those that are up alive, the rest failed.

    A node that has just started presumes its peers alive for a while, before it has heard any of them.
    """

    def is_settled():
        status = cluster.status()
        up = {node for node, found in status.items() if found.state == "up"}
        return all(
            len(status[node].views) == len(status) - 1
            and all(state == ("alive" if peer in up else "failed") for peer, state in status[node].views.items())
            and all(status[node].received[peer] for peer in up - {node})
            for node in up
        )

    cluster.wait_for(is_settled, "all views to agree with what is up")


def alive(pid):
    """Whether the process exists and is not merely unburied."""
    return observe(pid) not in ("zombie", "gone")


def log_files(cluster, node):
    """The node's logs, one an incarnation, oldest first."""
    return sorted(Path(cluster.directory, "nodes", node).glob("log-*.jsonl"))


def log_lines(cluster, node):
    """Every line of the node's logs; fails if one of them is not a JSON object."""
    return [json.loads(line) for path in log_files(cluster, node) for line in path.read_bytes().splitlines()]


def counter(cluster, node, name):
    """One of the node's counters, asked now."""
    return cluster.status()[node].counters.get(name, 0)
