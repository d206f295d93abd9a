from pathlib import Path

import pytest

from chaos.scenario import ClusterSpec, FaultSpec, Scenario, WorkloadSpec, load_scenario, parse_scenario
from testbed.base.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"

EVERYTHING = """
name = "all"
duration = "2m"
seed = 7
[cluster]
nodes = 4
node = "my_module:MyNode"
heartbeat = "50ms"
election_timeout = "500ms"
restart = "on-failure"
trace = false
options = { depth = 3, names = ["a"] }
[[workload]]
kind = "kv"
clients = 7
rate = 12.5
operations = 20
[[workload]]
kind = "my_module:MyWorkload"
colour = "red"
[[fault]]
kind = "kill"
target = "leader"
every = "5s"
for = "1500ms"
[[fault]]
kind = "partition"
target = ["n1", "n3"]
shape = "one-way"
mode = "hold"
every = "1m"
for = "2s"
[[fault]]
kind = "partition"
groups = [["n1"], ["n2", "n3"]]
every = "5s"
for = "2s"
[[fault]]
kind = "partition"
shape = "ring"
every = "5s"
for = "2s"
[[fault]]
kind = "partition"
shape = "bridge"
target = "leader"
order = ["n3", "n1", "n4", "n2"]
at = "0s"
for = "2s"
[[fault]]
kind = "delay"
target = "all"
delay = "100ms"
jitter = "20ms"
links = "all"
every = "5s"
for = "2s"
[[fault]]
kind = "loss"
target = "minority"
rate = 1
links = "clients"
every = "5s"
for = "2s"
"""


def scenario(cluster="", fault="", workload="", top='duration = "30s"'):
    text = f"{top}\n[cluster]\n{cluster}\n"
    if workload:
        text += f"[[workload]]\n{workload}\n"
    if fault:
        text += f'[[fault]]\nkind = "kill"\ntarget = "one"\nevery = "5s"\nfor = "1s"\n[[fault]]\n{fault}\n'
    return parse_scenario(text, "dir/some.toml")


def test_a_scenario_is_read_whole():
    assert parse_scenario(EVERYTHING, "x.toml") == Scenario(
        name="all",
        duration=120.0,
        seed=7,
        source="x.toml",
        text=EVERYTHING,
        cluster=ClusterSpec(
            nodes=4,
            node="my_module:MyNode",
            heartbeat=0.05,
            election_timeout=0.5,
            restart="on-failure",
            trace=False,
            options={"depth": 3, "names": ["a"]},
        ),
        workloads=(
            WorkloadSpec(kind="kv", clients=7, rate=12.5, operations=20),
            WorkloadSpec(kind="my_module:MyWorkload", options={"colour": "red"}),
        ),
        faults=(
            FaultSpec(kind="kill", target="leader", every=5.0, lasting=1.5),
            FaultSpec(kind="partition", target=("n1", "n3"), shape="one-way", mode="hold", every=60.0, lasting=2.0),
            FaultSpec(kind="partition", target=None, groups=(("n1",), ("n2", "n3")), every=5.0, lasting=2.0),
            FaultSpec(kind="partition", target=None, shape="ring", every=5.0, lasting=2.0),
            FaultSpec(
                kind="partition",
                target="leader",
                shape="bridge",
                order=("n3", "n1", "n4", "n2"),
                at=0.0,
                lasting=2.0,
            ),
            FaultSpec(kind="delay", target="all", delay=0.1, jitter=0.02, links="all", every=5.0, lasting=2.0),
            FaultSpec(kind="loss", target="minority", rate=1.0, links="clients", every=5.0, lasting=2.0),
        ),
    )


def test_what_is_left_out_has_defaults_and_the_name_is_the_files():
    assert parse_scenario('duration = "10s"', "dir/some.toml") == Scenario(
        name="some",
        duration=10.0,
        cluster=ClusterSpec(
            nodes=5, node="testbed:ServiceNode", heartbeat=0.1, election_timeout=1.0, restart="never", options={}
        ),
        source="dir/some.toml",
        text='duration = "10s"',
    )


def test_a_built_in_workload_takes_its_own_keys_and_no_others():
    text = 'duration = "10s"\n[[workload]]\nkind = "lock"\nlease = "300ms"\nfenced = false\n'
    (workload,) = parse_scenario(text, "x.toml").workloads
    assert workload == WorkloadSpec(kind="lock", options={"lease": "300ms", "fenced": False})
    for line, key, reason in (
        ('visibility = "1s"', "visibility", "unknown key"),
        ('lease = "0s"', "lease", "longer than zero"),
        ("fenced = 1", "fenced", "must be true or false, not 1"),
    ):
        with pytest.raises(UsageError, match=rf"workload\[1\].{key}: .*{reason}"):
            parse_scenario(f'duration = "10s"\n[[workload]]\nkind = "lock"\n{line}\n', "x.toml")


KILL = 'kind = "kill"\nevery = "5s"\nfor = "1s"\n'
ONCE = 'kind = "kill"\ntarget = "one"\nfor = "1s"\n'
PARTITION = 'kind = "partition"\nevery = "5s"\nfor = "1s"\n'
RING = PARTITION + 'shape = "ring"\n'
LOSS = 'kind = "loss"\nevery = "5s"\nfor = "1s"\ntarget = "all"\n'
DELAY = 'kind = "delay"\nevery = "5s"\nfor = "1s"\ntarget = "all"\n'


@pytest.mark.parametrize(
    ("parts", "key", "reason"),
    [
        ({"top": ""}, "duration", "is missing"),
        ({"top": "duration = 30"}, "duration", '30 is not a duration such as "1500ms", "5s" or "2m"'),
        ({"top": 'duration = "0s"'}, "duration", "must be longer than zero"),
        ({"top": 'duration = "5s"\ndurration = "5s"'}, "durration", "unknown key; did you mean 'duration'?"),
        ({"top": 'duration = "5s"\nname = "a/b"'}, "name", "'a/b' names a directory: at most 64 of letters"),
        ({"top": 'duration = "5s"\nname = ".."'}, "name", "'..' names a directory"),
        ({"top": 'duration = "5s"\nseed = true'}, "seed", "must be a whole number, not True"),
        ({"top": 'duration = "5s"\nseed = -1'}, "seed", "must be from 0 to 9223372036854775807, not -1"),
        ({"top": 'duration = "5s"\nfault = 3'}, "fault", "must be written as [[fault]], once for each"),
        ({"cluster": "nodes = 0"}, "cluster.nodes", "must be from 1 to 31, not 0"),
        ({"cluster": "nodes = 32"}, "cluster.nodes", "must be from 1 to 31, not 32"),
        ({"cluster": 'nodes = "5"'}, "cluster.nodes", "must be a whole number, not '5'"),
        ({"cluster": "nodes = 5.0"}, "cluster.nodes", "must be a whole number, not 5.0"),
        ({"cluster": "node_count = 5"}, "cluster.node_count", "unknown key"),
        ({"cluster": "hartbeat = 5"}, "cluster.hartbeat", "unknown key; did you mean 'heartbeat'?"),
        ({"cluster": 'node = "Mine"'}, "cluster.node", "'Mine' is not of the form \"module:Class\""),
        ({"cluster": 'heartbeat = "-1s"'}, "cluster.heartbeat", "'-1s' is not a duration"),
        ({"cluster": 'heartbeat = "400ms"'}, "cluster.election_timeout", "must be at least 3 times the heartbeat"),
        ({"cluster": 'restart = "allways"'}, "cluster.restart", "'allways' is none of never, on-failure, always; did"),
        ({"cluster": "trace = 1"}, "cluster.trace", "must be true or false, not 1"),
        ({"cluster": "options = 3"}, "cluster.options", "must be a table, not 3"),
        ({"workload": "clients = 3"}, "workload[1].kind", "is missing"),
        (
            {"workload": 'kind = "kw"'},
            "workload[1].kind",
            "no workload 'kw', and not \"module:Class\" either; known here: kv",
        ),
        ({"workload": 'kind = "kv"\nclients = 0'}, "workload[1].clients", "must be from 1 to 50000, not 0"),
        ({"workload": 'kind = "kv"\nrate = -5'}, "workload[1].rate", "must be a finite number of at least 0.001"),
        ({"workload": 'kind = "kv"\nrate = inf'}, "workload[1].rate", "must be a finite number of at least 0.001"),
        ({"workload": 'kind = "kv"\nrate = nan'}, "workload[1].rate", "must be a finite number of at least 0.001"),
        ({"workload": 'kind = "kv"\noperations = 0'}, "workload[1].operations", "must be from 1 to 1000000000, not 0"),
        ({"workload": 'kind = "kv"\noperations = 2.5'}, "workload[1].operations", "must be a whole number, not 2.5"),
        ({"workload": 'kind = "kv"\nkeyz = 5'}, "workload[1].keyz", "unknown key"),
        ({"fault": 'target = "one"'}, "fault[2].kind", "is missing"),
        ({"fault": 'kind = "kil"'}, "fault[2].kind", "'kil' is none of kill, terminate"),
        ({"fault": 'kind = "kill"\ntarget = "one"\nfor = "1s"'}, "fault[2].every", "is missing"),
        ({"fault": 'kind = "kill"\ntarget = "one"\nevery = "1s"'}, "fault[2].for", "is missing"),
        (
            {"fault": 'kind = "kill"\ntarget = "one"\nevery = "1s"\nfor = "1ms"'},
            "fault[2].for",
            "must be at least 10ms",
        ),
        ({"fault": ONCE + "at = 3"}, "fault[2].at", "3 is not a duration"),
        ({"fault": ONCE + 'at = "-1s"'}, "fault[2].at", "'-1s' is not a duration"),
        ({"fault": ONCE + 'at = "1s"\nevery = "5s"'}, "fault[2].at", "does not go with every: a fault happens once"),
        ({"fault": KILL}, "fault[2].target", "is missing"),
        ({"fault": KILL + 'target = "leadr"'}, "fault[2].target", "'leadr' is none of one, minority"),
        ({"fault": KILL + 'target = "n1"'}, "fault[2].target", 'names are given as a list: ["n1"]'),
        ({"fault": KILL + 'target = ["n6"]'}, "fault[2].target", "no node 'n6' in this cluster of n1 to n5"),
        ({"fault": KILL + "target = []"}, "fault[2].target", "names nobody"),
        ({"fault": KILL + 'target = ["n1", "n1"]'}, "fault[2].target", "names n1 twice"),
        ({"fault": KILL + "target = 3"}, "fault[2].target", "must be a list of names, not 3"),
        ({"fault": KILL + 'target = "one"\nrate = 0.5'}, "fault[2].rate", "does not go with kill"),
        ({"fault": KILL + 'target = "one"\ngroups = []'}, "fault[2].groups", "does not go with kill"),
        ({"fault": KILL + 'target = "one"\nevry = 1'}, "fault[2].evry", "unknown key; did you mean 'every'?"),
        ({"fault": PARTITION + 'target = "all"'}, "fault[2].target", "that is all nodes against nobody"),
        ({"fault": PARTITION + 'target = "one"\nshape = "star"'}, "fault[2].shape", "'star' is none of split"),
        ({"fault": PARTITION + 'target = "one"\nmode = "lose"'}, "fault[2].mode", "'lose' is none of drop"),
        ({"fault": PARTITION + 'target = "one"\ndelay = "1s"'}, "fault[2].delay", "does not go with partition"),
        ({"fault": PARTITION + "groups = 3"}, "fault[2].groups", "must be two or more lists of nodes"),
        ({"fault": PARTITION + 'groups = [["n1"]]'}, "fault[2].groups", "must be two or more lists of nodes"),
        ({"fault": PARTITION + 'groups = [["n1"], ["n2", "n1"]]'}, "fault[2].groups", "n1 is in two groups"),
        ({"fault": PARTITION + 'groups = [["n1"], ["n7"]]'}, "fault[2].groups", "no node 'n7' in this cluster"),
        ({"fault": PARTITION + 'groups = [["n1"], []]'}, "fault[2].groups", "names nobody"),
        ({"fault": PARTITION + 'groups = [["n1"], ["n2"]]\ntarget = "one"'}, "fault[2].target", "does not go with gro"),
        ({"fault": PARTITION + 'groups = [["n1"], ["n2"]]\nshape = "ring"'}, "fault[2].shape", "does not go with gro"),
        (
            {"fault": PARTITION + 'groups = [["n1"], ["n2"]]\norder = ["n1"]'},
            "fault[2].order",
            "does not go with groups",
        ),
        ({"fault": KILL + 'target = "one"\norder = ["n1"]'}, "fault[2].order", "does not go with kill"),
        (
            {"fault": PARTITION + 'target = "one"\norder = ["n1"]'},
            "fault[2].order",
            "does not go with split, only with ring and bridge",
        ),
        (
            {"fault": RING + 'order = ["n1", "n2", "n3", "n4"]'},
            "fault[2].order",
            "must place every node once, and leav",
        ),
        ({"fault": RING + 'order = ["n1", "n2", "n3", "n4", "n4"]'}, "fault[2].order", "names n4 twice"),
        ({"fault": RING + 'order = ["n1", "n2", "n3", "n4", "n6"]'}, "fault[2].order", "no node 'n6' in this cluster"),
        ({"fault": RING + 'order = "n1"'}, "fault[2].order", "must be a list of names, not 'n1'"),
        ({"fault": LOSS}, "fault[2].rate", "is missing"),
        ({"fault": LOSS + "rate = 1.5"}, "fault[2].rate", "must be from 0 to 1, not 1.5"),
        ({"fault": LOSS + "rate = -0.1"}, "fault[2].rate", "must be from 0 to 1, not -0.1"),
        ({"fault": LOSS + "rate = nan"}, "fault[2].rate", "must be from 0 to 1, not nan"),
        ({"fault": LOSS + 'rate = "half"'}, "fault[2].rate", "must be a number, not 'half'"),
        ({"fault": LOSS + 'rate = 0.5\nlinks = "peers"'}, "fault[2].links", "'peers' is none of nodes, clients, all"),
        ({"fault": LOSS + 'rate = 0.5\nshape = "ring"'}, "fault[2].shape", "does not go with loss"),
        ({"fault": DELAY}, "fault[2].delay", "is missing: neither delay nor jitter says how late messages are"),
        ({"fault": DELAY + "delay = 0.1"}, "fault[2].delay", "0.1 is not a duration"),
    ],
)
def test_a_mistake_is_named_by_file_key_and_reason(parts, key, reason):
    with pytest.raises(UsageError) as caught:
        scenario(**parts)
    assert (caught.value.where, caught.value.key) == ("dir/some.toml", key)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "fault", "key", "reason"),
    [
        (1, KILL + 'target = "minority"', "target", "minority is nobody in a cluster of 1"),
        (2, KILL + 'target = "minority"', "target", "minority is nobody in a cluster of 2"),
        (1, KILL + 'target = "followers"', "target", "followers is nobody in a cluster of 1"),
        (1, PARTITION + 'target = "one"', "target", "that is all nodes against nobody"),
        (1, PARTITION + 'target = "leader"\nshape = "isolate"', "target", "one node alone has no links to cut"),
        (2, PARTITION + 'shape = "ring"', "shape", "a ring needs at least three nodes, and there are 2"),
        (2, PARTITION + 'shape = "bridge"', "shape", "a bridge needs at least three nodes, and there are 2"),
        (3, PARTITION + 'shape = "bridge"\ntarget = "majority"', "target", "with that many nodes in the bridge"),
        (1, LOSS + "rate = 0.5", "target", "one node alone has no links to other nodes"),
    ],
)
def test_a_target_that_would_be_nobody_is_named(nodes, fault, key, reason):
    text = f'duration = "30s"\n[cluster]\nnodes = {nodes}\n[[fault]]\n{fault}\n'
    with pytest.raises(UsageError) as caught:
        parse_scenario(text, "x.toml")
    assert caught.value.key == f"fault[1].{key}"
    assert caught.value.reason.startswith(reason)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.toml: No such file or directory"):
        load_scenario(tmp_path / "nowhere.toml")


def test_a_directory_is_no_scenario(tmp_path):
    with pytest.raises(UsageError, match="Is a directory"):
        load_scenario(tmp_path)


def test_a_syntax_error_is_named_with_its_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('duration = "5s"\n[cluster\n')
    with pytest.raises(UsageError, match=r"bad.toml: not valid TOML: .*line 2"):
        load_scenario(path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        load_scenario(path)


@pytest.mark.parametrize("name", ["demo", "ci", "single_point_of_failure", "crash"])
def test_a_scenario_that_ships_is_valid_and_named_after_its_file(name):
    assert load_scenario(CONFIGS / f"{name}.toml").name == name
