"""What a test that fails says, what a test that nobody can judge is, and how mistakes in using the plugin are told."""

import json

import pytest
from suites import directories, left_running, run, write

NODES = """
    from testbed import Node


    class Forgetful(Node):
        def on_start(self):
            self.count = 0

        def on_request(self, request, body):
            self.count += 1
            self.reply(request, self.count)


    class Broken(Node):
        def on_start(self):
            raise RuntimeError("not today")
"""

FAILING = """
    import pytest

    from chaos import Op


    def test_asserts(cluster, chaos):
        client = cluster.client()
        client.kv.put("x", 1)
        with chaos.kill("n2"):
            assert client.kv.get("x") == 2


    @pytest.mark.cluster(nodes=1, node="nodes:Forgetful")
    def test_invalid(simulated_cluster, chaos):
        client = simulated_cluster.client()
        chaos.ask(client, Op("generate", request="id"))
        with chaos.kill("n1"):
            pass
        chaos.ask(client, Op("generate", request="id"))
        chaos.check("unique-ids")


    def test_waits_in_vain(simulated_cluster):
        simulated_cluster.wait_for(lambda: False, "the impossible", timeout=0.1)


    @pytest.mark.timeout(1, method="signal", func_only=True)
    def test_hangs(cluster):
        cluster.wait_for(lambda: False, "the impossible")


    def test_skips_a_fault(simulated_cluster, chaos):
        with chaos.kill("n1"), chaos.kill("n1"):
            pass


    @pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
    def test_expected_to_fail(simulated_cluster):
        1 / 0
"""

INCONCLUSIVE = """
    import pytest

    from chaos.readiness import Lateness
    from testbed import Refused, Unknown


    @pytest.fixture(autouse=True)
    def starved(monkeypatch):
        monkeypatch.setattr(Lateness, "worst_of_last", lambda self, seconds: 0.6)


    def test_waits(cluster, chaos):
        with chaos.pause("n1"):
            cluster.wait_for(lambda: False, "the impossible", timeout=0.1)


    def test_unknown(cluster):
        raise Unknown("timeout")


    def test_wrong_value(cluster):
        assert cluster.client().kv.get("x") == 1


    def test_refused(cluster):
        raise Refused("no leader")


    @pytest.mark.cluster(election_timeout="2s")
    def test_late_but_not_too_late(cluster):
        raise Unknown("timeout")


    def test_in_simulation(simulated_cluster):
        raise Unknown("timeout")


    def test_verdict_unknown(simulated_cluster, chaos):
        simulated_cluster.client().kv.put("x", 1)
        chaos.check("cas-register", budget=0.0)
"""

MISTAKES = """
    import pytest


    @pytest.mark.cluster(node_s=5)
    def test_unknown_argument(cluster): ...


    @pytest.mark.cluster(5)
    def test_positional(cluster): ...


    @pytest.mark.cluster(nodes="five")
    def test_no_number(cluster): ...


    @pytest.mark.cluster(nodes=500)
    def test_too_many(cluster): ...


    @pytest.mark.cluster(heartbeat="soon")
    def test_no_duration(cluster): ...


    @pytest.mark.cluster(heartbeat=1, election_timeout=1)
    def test_too_short(cluster): ...


    @pytest.mark.cluster(world="moon")
    def test_no_world(cluster): ...


    @pytest.mark.cluster(node="nodes:Missing")
    def test_no_class(cluster): ...


    @pytest.mark.cluster(node=int)
    def test_no_node(cluster): ...


    @pytest.mark.cluster(node="nodes:Broken", nodes=1)
    def test_broken_node(cluster): ...


    def test_both(cluster, simulated_cluster): ...


    def test_without_with(simulated_cluster, chaos):
        chaos.kill("n1")


    def test_nobody_leads(simulated_cluster, chaos):
        with chaos.kill(None): ...


    def test_no_such_node(simulated_cluster, chaos):
        with chaos.pause("n9"): ...


    def test_no_such_shape(simulated_cluster, chaos):
        with chaos.partition("n1", shape="star"): ...


    def test_no_such_kind(simulated_cluster, chaos):
        with chaos.fault("kil", "n1"): ...


    def test_no_such_workload(simulated_cluster, chaos):
        with chaos.load("kw"): ...


    def test_no_such_model(simulated_cluster, chaos):
        chaos.check("cas-registre")


    def test_nothing_to_judge(simulated_cluster, chaos):
        chaos.check()
"""

TOLD = {
    "test_unknown_argument": "@pytest.mark.cluster: node_s: unknown argument; did you mean 'nodes'?",
    "test_positional": "@pytest.mark.cluster: takes named arguments only, as in @pytest.mark.cluster(nodes=5)",
    "test_no_number": "@pytest.mark.cluster: nodes: must be a whole number, not 'five'",
    "test_too_many": "cluster: nodes: 500 is not between 1 and",
    "test_no_duration": "heartbeat: must be seconds, or a duration such as \"200ms\", not 'soon'",
    "test_too_short": "cluster: election_timeout: must be at least 3 heartbeats",
    "test_no_world": "@pytest.mark.cluster: world: must be one of live, sim, not 'moon'",
    "test_no_class": "nodes.py has no class Missing",
    "test_no_node": '@pytest.mark.cluster: node: must be a class of testbed.Node or "module:Class"',
    "test_broken_node": "not today",
    "test_both": "a test has one cluster of the fixtures; for another one use testbed.Cluster",
    "test_without_with": "chaos.kill('n1') does nothing by itself: write `with chaos.kill('n1'): …`",
}

SAID = {
    "test_nobody_leads": "chaos.kill: target: is None: no node leads at the moment (see wait_for_leader)",
    "test_no_such_node": "chaos.pause: n9: is not one of n1, n2, n3, one, minority, majority, all, leader, followers",
    "test_no_such_shape": "chaos.partition: shape: must be one of split, isolate, ring, bridge, one-way, not 'star'",
    "test_no_such_kind": "chaos.fault: kil: no such kind; did you mean 'kill'?",
    "test_no_such_workload": "chaos.load: kw: no such workload; known here: kv, lock, queue",
    "test_no_such_model": "chaos.check: cas-registre: no such model; did you mean 'cas-register'?",
    "test_nothing_to_judge": "chaos.check: there is nothing to judge: no client of the cluster did anything yet",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("failures")
    return write(directory, nodes=NODES, test_failing=FAILING, test_inconclusive=INCONCLUSIVE, test_mistakes=MISTAKES)


@pytest.fixture(scope="module")
def failed(home):
    return run(home, "test_failing.py", "--cluster-seed", 7, "--cluster-artifacts", "kept", "-ra")


@pytest.fixture(scope="module")
def inconclusive(home):
    (home / "pytest.ini").write_text("[pytest]\ncluster_artifacts = starved\n")
    return run(home, "test_inconclusive.py", "-n", 2)


@pytest.fixture(scope="module")
def mistaken(home):
    return run(home, "test_mistakes.py", "--cluster-keep", "never", "--cluster-artifacts", "mistakes")


# --- tests that fail ---


def test_a_test_that_fails_tells_its_seed_the_faults_the_log_and_where_all_is_kept(failed, home):
    assert failed.status == 1
    told = failed.failure("test_asserts")
    assert "3 nodes of testbed:ServiceNode, world live, seed " in told
    assert "pytest test_failing.py::test_asserts --cluster-seed 7" in told
    steps = [line.split(" s  ")[1] for line in told.splitlines() if " s  1 kill n2" in line]
    assert steps == ["1 kill n2 asked", "1 kill n2 in effect", "1 kill n2 ended", "1 kill n2 healed"]
    log = told.partition("\nlog ")[2]
    assert "  experiment: fault kind=kill fault=1 step=healed nodes=['n2']" in log
    assert "  n2: " in log
    assert f"kept in  {home / 'kept' / 'cluster-test_failing.py-test_asserts'}" in told


def test_how_to_run_a_test_again_is_told_from_where_pytest_was_started(home):
    (home / "pytest.ini").write_text("[pytest]\n")  # the root directory of all tests, wherever they are run from
    below = write(home / "below", test_below="def test_below(simulated_cluster): assert 0")
    ran = run(below)
    assert "again    pytest test_below.py::test_below --cluster-seed " in ran.failure("test_below")


def test_what_is_kept_is_the_history_and_the_logs(failed, home):
    kept = home / "kept" / "cluster-test_failing.py-test_asserts"
    events = [json.loads(line) for line in (kept / "history.jsonl").read_text().splitlines()]
    clients = [(event["type"], event["f"], event["key"], event["value"]) for event in events if event["process"] == 0]
    assert clients == [
        ("invoke", "write", "x", 1),
        ("ok", "write", "x", 1),
        ("invoke", "read", "x", None),
        ("ok", "read", "x", 1),
    ]
    assert [event["value"]["step"] for event in events if event["process"] == "nemesis"] == [
        "asked",
        "in effect",
        "ended",
        "healed",
    ]
    asked = [json.loads(line) for line in (kept / "clients.jsonl").read_text().splitlines()]
    invoked = [event["time"] for event in events if event["type"] == "invoke" and event["process"] == 0]
    assert list(dict.fromkeys(line["invoked"] for line in asked)) == invoked
    assert {(line["process"], line["workload"]) for line in asked} == {(0, 1)}
    whats = [json.loads(line)["what"] for line in (kept / "experiment.jsonl").read_text().splitlines()]
    assert whats == ["begins", "fault", "fault", "fault", "fault", "ends"]
    assert (kept / "nodes" / "n2" / "log-0002.jsonl").exists()


def test_an_invalid_verdict_fails_the_test_and_says_what_broke(failed, home):
    told = failed.failure("test_invalid")
    assert "BrokenPromise: invalid: unique-ids, 2 operations" in told
    assert "no order explains generate -> 1 (process 0" in told
    assert "the fewest that nothing explains" in told
    assert "conclude" not in told
    kept = home / "kept" / "cluster-test_failing.py-test_invalid"
    summary = json.loads((kept / "summary.json").read_text())
    assert (summary["verdict"], summary["operations"]) == ("invalid", {"ok": 2, "fail": 0, "info": 0})
    assert summary["replay"] == "pytest test_failing.py::test_invalid --cluster-seed 7"
    assert (summary["anomaly"]["check"], summary["anomaly"]["history"]) == ("unique-ids", "history.jsonl")
    properties = failed.properties("test_invalid")
    assert properties["cluster_verdict"] == "invalid"
    assert properties["cluster_seed"] == "7"
    assert properties["cluster_faults"] == "kill n1"
    assert properties["cluster_artifacts"].endswith("cluster-test_failing.py-test_invalid")


def test_silence_and_skipped_faults_fail_on_a_machine_that_is_not_starved(failed):
    assert "TimeoutError: the impossible: not within 0.1 s" in failed.failure("test_waits_in_vain")
    assert "FaultNotApplied: kill: n1 down already" in failed.failure("test_skips_a_fault")


def test_a_test_that_is_stopped_by_a_timeout_fails_as_any_other(failed, home):
    told = failed.failure("test_hangs")
    assert "Timeout (>1.0s) from pytest-timeout" in told
    assert "kept in" in told
    assert left_running(home) == []


def test_only_what_failed_is_kept(failed, home):
    assert directories(home / "kept") == [
        f"cluster-test_failing.py-test_{name}"
        for name in ("asserts", "hangs", "invalid", "skips_a_fault", "waits_in_vain")
    ]


# --- tests that nobody can judge ---


def test_silence_on_a_starved_machine_is_inconclusive_and_anything_else_is_not(inconclusive):
    assert inconclusive.status == 1
    outcomes = {name: [child.tag for child in case] for name, case in inconclusive.cases.items()}
    skipped = [name for name, tags in outcomes.items() if "skipped" in tags]
    assert sorted(skipped) == ["test_unknown", "test_verdict_unknown", "test_waits"]
    assert "4 failed, 3 skipped" in inconclusive.out


def test_a_fresh_seed_is_the_same_for_all_workers(inconclusive):
    seeds = {inconclusive.properties(name)["cluster_seed"] for name in inconclusive.cases}
    (seed,) = seeds
    assert f"cluster seed: {seed}\n" in inconclusive.out


def test_an_inconclusive_test_says_why_and_keeps_what_there_is(inconclusive, home):
    _, _, summary = inconclusive.out.partition("- 3 inconclusive -")
    reason = "this machine is starved: it woke up 0.6 s late, with an election timeout of 1 s"
    assert f"test_waits: inconclusive: TimeoutError: the impossible: not within 0.1 s; {reason}" in summary
    assert "test_verdict_unknown: inconclusive: cas-register: the budget ran out" in summary
    properties = inconclusive.properties("test_waits")
    assert properties["cluster_verdict"] == "inconclusive"
    assert properties["cluster_faults"] == "pause n1"
    assert properties["cluster_artifacts"] == str(home / "starved" / "cluster-test_inconclusive.py-test_waits")
    assert (home / "starved" / "cluster-test_inconclusive.py-test_waits" / "history.jsonl").exists()


# --- mistakes ---


@pytest.mark.parametrize("name", TOLD)
def test_a_mistake_is_one_line_that_names_the_test(mistaken, name):
    (line,) = [line for line in mistaken.failure(name).splitlines() if "usage: " in line]
    assert line.startswith(f"usage: test_mistakes.py::{name}: ")
    assert TOLD[name] in line


@pytest.mark.parametrize("name", SAID)
def test_a_mistake_inside_of_a_test_says_what_is_wrong(mistaken, name):
    assert SAID[name] in mistaken.failure(name)


def test_mistakes_leave_nothing_behind(mistaken, home):
    assert left_running(home) == []
    assert directories(home / "mistakes") == []
    assert list((home / "tmp").rglob("cluster-*")) == []


def test_wrong_options_end_the_session_at_once(home):
    for wrong in (("--cluster-seed", "x"), ("--cluster-seed", "-1"), ("--cluster-keep", "some")):
        ran = run(home, "test_mistakes.py", *wrong)
        assert ran.status == 4
        assert wrong[0] in ran.out
