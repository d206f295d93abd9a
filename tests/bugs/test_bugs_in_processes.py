"""A bug is planted in a live cluster's node processes, and nowhere else."""

from pathlib import Path

import pytest

from chaos.bugs import node_reference
from testbed import Cluster
from testbed.base.errors import UsageError
from testbed.core.raft import replication
from testbed.live.nodeclass import describe, load


def test_a_bug_is_in_the_nodes_and_not_here(tmp_path: Path) -> None:
    """A leader whose followers are stopped acknowledges a write: nobody else would."""
    right = replication.saves_are_durable
    node = node_reference("answers-before-commit", "testbed:ServiceNode")
    with Cluster(3, node, directory=tmp_path, heartbeat=0.1, election_timeout=10.0) as cluster:
        leader = cluster.wait_for_leader()
        client = cluster.client()
        client.kv.put("x", 1)
        for follower in sorted({"n1", "n2", "n3"} - {leader}):
            cluster.pause(follower)
        client.kv.put("x", 2)
    assert replication.saves_are_durable is right


def test_a_node_of_an_unknown_bug_does_not_load() -> None:
    with pytest.raises(UsageError, match="has no class forgets_voet"):
        load(describe("chaos.bugs.nodes:forgets_voet.ServiceNode"))
