"""The worlds that every statement of the contract is made about, and clusters in them.

A test knows a cluster, its clients and its world's port, never which world it is: time is `world.now()`, and passes in
`wait` and `wait_for` only.
"""

import pytest
from contract_nodes import Scripted
from contract_waiting import make_whole, meet, settle

from testbed import Cluster

FAST = {"heartbeat": 0.05, "election_timeout": 0.4, "seed": 7}


def started(made, world, directory, nodes=3, node="testbed:ServiceNode", tolerant=False, **settings):
    """A running cluster, noted in `made`."""
    cluster = Cluster(nodes, node, world=world, directory=directory, **{**FAST, **settings})
    made.append(cluster)
    return cluster.start(tolerant)


@pytest.fixture(scope="module", params=["live", "sim"])
def world(request):
    """The name of the world."""
    return request.param


@pytest.fixture
def new_cluster(world, tmp_path):
    """Makes running clusters for one test."""
    made = []
    yield lambda *nodes, **settings: started(made, world, tmp_path / f"cluster{len(made)}", *nodes, **settings)
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope="module")
def kept_service(world, tmp_path_factory):
    made = []
    yield started(made, world, tmp_path_factory.mktemp("service"))
    made[0].stop()


@pytest.fixture(scope="module")
def kept_scripted(world, tmp_path_factory):
    made = []
    cluster = started(made, world, tmp_path_factory.mktemp("scripted"), node=Scripted)
    settle(cluster)
    yield cluster
    cluster.stop()


@pytest.fixture
def service(kept_service):
    """Three nodes of the built-in service, one of them leading; whatever other tests did to them is undone."""
    make_whole(kept_service)
    kept_service.wait_for_leader()
    return kept_service


@pytest.fixture
def scripted(kept_scripted):
    """Three nodes of `Scripted` that see each other and remember nothing."""
    make_whole(kept_scripted)
    meet(kept_scripted)
    return kept_scripted
