"""What a traced cluster keeps of its work, in both worlds: enough to follow one write through every node."""

import json

from testbed import Cluster, Node


def traces(cluster, node):
    paths = sorted((cluster.directory / "nodes" / node).glob("trace-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_a_write_is_traced_from_the_request_to_every_copy(new_cluster):
    cluster = new_cluster(trace=True)
    leader = cluster.wait_for_leader()
    cluster.client().kv.put("x", 1)
    kept = traces(cluster, leader)
    submitted = next(line for line in kept if line["text"] == "received" and line["what"]["type"] == "Submit")
    appended = next(line for line in kept if line["text"] == "appended" and line["request"] == submitted["request"])
    index = appended["index"]

    def has_it(node):
        lines = traces(cluster, node)
        return any(line["text"] == "durable" and line["last"] >= index for line in lines) and any(
            line["text"] == "log" and line["applied"] >= index and line["term"] == appended["term"] for line in lines
        )

    cluster.wait_for(lambda: all(has_it(node) for node in cluster.nodes), "a traced copy on every node")
    kept = traces(cluster, leader)
    answered = next(line for line in kept if line["text"] == "answered" and line["request"] == submitted["request"])
    committed = next(line for line in kept if line["text"] == "log" and line["commit"] >= index)
    assert submitted["time"] <= appended["time"] <= committed["time"] <= answered["time"]
    assert answered["ok"] is True


def test_every_message_that_is_heard_was_sent_before(new_cluster):
    cluster = new_cluster(trace=True)
    cluster.wait_for_leader()
    client = cluster.client()
    for number in range(20):
        client.kv.put("x", number)
    kept = {node: traces(cluster, node) for node in cluster.nodes}
    heard = [(node, line) for node in cluster.nodes for line in kept[node] if line["text"] == "heard"]
    assert len(heard) > 40
    for node, line in heard:
        assert any(
            sent["text"] == "sent"
            and sent["to"] == node
            and sent["what"] == line["what"]
            and sent["time"] <= line["time"]
            for sent in kept[line["sender"]]
        ), (node, line)


def test_traces_never_go_back_in_time(new_cluster):
    cluster = new_cluster(trace=True)
    cluster.client().kv.put("x", 1)
    for node in cluster.nodes:
        times = [line["time"] for line in traces(cluster, node)]
        assert times == sorted(times) != []


def test_without_trace_there_are_none(new_cluster):
    cluster = new_cluster()
    cluster.client().kv.put("x", 1)
    assert [traces(cluster, node) for node in cluster.nodes] == [[], [], []]


class Echo(Node):
    """A user's node, with a step of its own in the trace."""

    def on_request(self, request, body):
        self.log.trace("thinks", about=body["word"])
        self.publish({"said": body["word"], "long": "x" * 1000})
        self.reply(request, {"echo": body["word"]})


def test_what_a_users_node_takes_sends_and_notes_is_traced(new_cluster):
    cluster = new_cluster(node=Echo, trace=True)
    cluster.client().request({"word": "hello", "many": [1, 2, 3]}, to="n1")
    kept = traces(cluster, "n1")
    assert [line["text"] for line in kept if line["text"] != "heard"] == ["received", "thinks", "published", "answered"]
    assert kept[0]["what"] == {"word": "hello", "many": 3}
    assert len(next(line for line in kept if line["text"] == "published")["what"]["long"]) < 100


def test_every_process_says_that_it_starts_and_who_leads_is_in_the_logs(new_cluster):
    cluster = new_cluster()
    leader = cluster.wait_for_leader()
    cluster.restart(leader)
    cluster.wait_for_leader()
    paths = sorted((cluster.directory / "nodes" / leader).glob("log-*.jsonl"))
    logs = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
    assert [(log[0]["text"], log[0]["incarnation"]) for log in logs] == [("starts", 1), ("starts", 2)]
    roles = [(line["role"], line["leader"]) for line in logs[0] if line["text"] == "role"]
    assert ("leader", leader) in roles


def test_the_laboratory_logs_starts_and_ends(new_cluster):
    cluster = new_cluster()
    cluster.kill("n2")
    cluster.start_node("n2")
    lines = [json.loads(line) for line in (cluster.directory / "supervisor.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines if line.get("node") == "n2" and line["what"] != "membership"] == [
        *("start", "listens", "exit", "start", "listens"),
    ]


def test_a_simulation_is_the_same_whether_it_is_traced_or_not(tmp_path):
    def digest(**settings):
        with Cluster(3, world="sim", seed=5, **settings) as cluster:
            cluster.client().kv.put("x", 1)
            cluster.kill(cluster.wait_for_leader())
            cluster.client().kv.put("x", 2)
            return cluster.world.digest

    assert digest() == digest(directory=tmp_path, trace=True)
