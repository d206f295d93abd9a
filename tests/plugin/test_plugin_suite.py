"""The plugin as people use it: a suite of their own in a directory of their own, two workers beside each other."""

import pytest
from suites import directories, left_running, run, write

NODES = """
    from testbed import Node


    class Greeter(Node):
        def on_start(self):
            self.count = self.load("count", 0)

        def on_request(self, request, body):
            self.count += 1
            if self.options.get("careful"):
                self.save("count", self.count)
            self.reply(request, f"{self.id}-{self.count}")
"""

EXAMPLES = """
    import threading

    import pytest

    from testbed import Cluster


    def test_mine(cluster, chaos):
        leader = cluster.wait_for_leader()
        client = cluster.client()
        client.kv.put("x", 1)
        with chaos.kill(leader):
            assert cluster.status()[leader].state == "down"
            assert client.kv.get("x") == 1
        with chaos.partition([leader]):
            assert client.kv.cas("x", 1, 2)
        assert {node.state for node in cluster.status().values()} == {"up"}
        assert [(record.fault.kind, record.nodes) for record in chaos.records] == [
            ("kill", (leader,)),
            ("partition", (leader,)),
        ]
        chaos.check()


    @pytest.mark.cluster(heartbeat="50ms", election_timeout="400ms")
    def test_load(cluster, chaos):
        with chaos.load("kv", clients=3, rate=200) as load:
            load.wait_for(operations=20)
            with chaos.pause("leader") as lease:
                assert len(lease.nodes) == 1
                load.wait_for(operations=20)
        assert load.counts["ok"] >= 40
        names = [judged.verdict.model for judged in chaos.check()]
        assert names == ["cas-register", "crashes"]


    def test_two_clusters(cluster, tmp_path):
        assert "lateness" in {thread.name for thread in threading.enumerate()}
        with Cluster(nodes=1, directory=tmp_path / "other") as other:
            other.client().kv.put("x", "other")
            assert cluster.client().kv.get("x") is None


    def test_stops_it(cluster):
        cluster.stop()
"""

MARKS = """
    import pytest

    from nodes import Greeter

    from chaos import Op

    pytestmark = pytest.mark.cluster(nodes=1, world="sim", seed=3)


    def test_of_the_module(cluster, chaos):
        assert cluster.nodes == ("n1",)
        assert chaos.seed == 3


    @pytest.mark.cluster(nodes=2)
    class TestOfTheClass:
        def test_of_the_class(self, cluster, chaos):
            assert cluster.nodes == ("n1", "n2")
            assert chaos.seed == 3

        @pytest.mark.cluster(nodes=3, seed=4)
        def test_innermost(self, cluster, chaos):
            assert cluster.nodes == ("n1", "n2", "n3")
            assert chaos.seed == 4


    def keeps_its_promise(cluster, chaos):
        client = cluster.client()
        for _ in range(3):
            assert chaos.ask(client, Op("generate", request="id")).type == "ok"
        with chaos.kill("one"):
            pass
        chaos.ask(client, Op("generate", request="id"))
        assert [event.value for event in chaos.history if event.type == "ok"][-1] == "n1-4"
        chaos.check("unique-ids")


    @pytest.mark.cluster(node=Greeter, options={"careful": True})
    def test_a_class(simulated_cluster, chaos):
        keeps_its_promise(simulated_cluster, chaos)


    @pytest.mark.cluster(node="nodes:Greeter", options={"careful": True}, world="live")
    def test_a_name(cluster, chaos):
        keeps_its_promise(cluster, chaos)


    class Local(Greeter):
        pass


    @pytest.mark.cluster(node=Local, options={"careful": True}, world="live")
    def test_a_class_of_the_test_file(cluster, chaos):
        keeps_its_promise(cluster, chaos)
"""

DIGEST = """
    def test_digest(simulated_cluster, chaos, record_property):
        client = simulated_cluster.client()
        with chaos.load("kv", clients=2, rate=100) as load, chaos.kill("one"):
            load.wait_for(10)
            client.kv.put("x", chaos.random.random())
        chaos.check()
        record_property("digest", simulated_cluster.world.digest)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("suite")
    return write(directory, nodes=NODES, test_examples=EXAMPLES, test_marks=MARKS, test_digest=DIGEST)


@pytest.fixture(scope="module")
def ran(home):
    return run(home, "-n", 2, "--cluster-seed", 7, "--cluster-artifacts", "kept", "-v")


def test_a_suite_passes_on_two_workers(ran):
    assert ran.status == 0, ran.out
    assert len(ran.cases) == 11


def test_nothing_is_left_of_tests_that_passed(ran, home):
    assert left_running(home) == []
    assert directories(home / "kept") == []
    assert list((home / "tmp").rglob("cluster-*")) == []


def test_the_seed_is_shown_and_the_same_for_all_workers(ran):
    assert "cluster seed: 7" in ran.out
    assert {ran.properties(name)["cluster_seed"] for name in ran.cases} == {"7"}


def test_junit_properties_tell_of_faults_and_verdicts(ran):
    told = ran.properties("test_mine")
    assert told["cluster_verdict"] == "valid"
    kill, partition = told["cluster_faults"].split("; ")
    assert kill.split() == ["kill", partition.split()[1]]
    assert "cluster_artifacts" not in told
    assert "cluster_verdict" not in ran.properties("test_two_clusters")


def test_a_simulated_cluster_follows_the_seed_and_the_tests_name(ran, home, tmp_path):
    elsewhere = write(tmp_path / "elsewhere")
    path = home / "test_digest.py"
    again = run(elsewhere, path, "--cluster-seed", 7, "--cluster-keep", "always", "--cluster-artifacts", "kept")
    other = run(elsewhere, path, "--cluster-seed", 8)
    digests = [each.properties("test_digest")["digest"] for each in (ran, again, other)]
    assert digests[0] == digests[1] != digests[2]
    (kept,) = directories(elsewhere / "kept")
    assert kept == "cluster-test_digest.py-test_digest"
    names = {found.name for found in (elsewhere / "kept" / kept).iterdir()}
    assert {"history.jsonl", "experiment.jsonl", "supervisor.jsonl", "nodes"} <= names
