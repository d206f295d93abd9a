"""Clusters for tests: short timeouts, few nodes, and a look afterwards whether a process was left behind."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `live_nodes`, also for the nodes' processes

from watching import processes_of, settled

from testbed import Cluster

FAST = {"heartbeat": 0.05, "election_timeout": 0.4}


@pytest.fixture
def new_cluster(tmp_path):
    """Makes running clusters in directories of their own; none leaves a process behind."""
    made = []

    def start(nodes=3, node="testbed:ServiceNode", directory=None, **settings):
        where = directory or tmp_path / f"cluster{len(made)}"
        cluster = Cluster(nodes, node, directory=where, **{**FAST, **settings})
        made.append(cluster)
        return cluster.start()

    yield start
    for cluster in made:
        cluster.stop()
    for cluster in made:
        assert processes_of(cluster.directory) == []


@pytest.fixture
def service(new_cluster):
    """Three nodes of the built-in service, one of them leading."""
    cluster = new_cluster()
    cluster.wait_for_leader()
    return cluster


@pytest.fixture
def obedient(new_cluster):
    """Three of `live_nodes.Obedient`, each of which sees the others."""
    cluster = new_cluster(node="live_nodes:Obedient")
    settled(cluster)
    return cluster


@pytest.fixture
def run_script(tmp_path):
    """Runs Python text as a script of its own, with these tests' modules at hand; `print` and stdin are pipes."""
    running = []

    def run(text, *arguments):
        path = tmp_path / f"script{len(running)}.py"
        path.write_text(textwrap.dedent(text))
        here = Path(__file__).parent
        process = subprocess.Popen(
            [sys.executable, path, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}"},
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()
