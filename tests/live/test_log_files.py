"""Log files that take nothing: nobody waits for them, and what is lost is told."""

import fcntl
import json
import os

import pytest
from watching import log_files

from testbed.base.limits import TRACE_BYTES_MAX
from testbed.live.logs import LogFile, NodeLog
from testbed.node import LogLine


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that somebody has open and does not read; its path and the reading end."""
    path = tmp_path / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    yield path, reader
    os.close(reader)


def read_all(reader):
    data = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except BlockingIOError:
            return data
        if not part:
            return data
        data += part


def test_a_pipe_that_is_full_costs_lines_and_no_time_and_the_next_line_tells(pipe):
    path, reader = pipe
    log = LogFile(path)
    for number in range(1000):
        log.write(json.dumps({"number": number}).encode() + b"\n")
    assert log.lost > 0
    before = read_all(reader).splitlines()
    log.write(b'{"number": 1000}\n')
    after = [json.loads(line) for line in read_all(reader).splitlines() if line]
    assert [line.get("lost") or line["number"] for line in after] == [log.lost, 1000]
    whole = [line for line in before if line.endswith(b"}")]
    assert len(whole) + log.lost == 1000


def test_a_pipe_without_a_reader_is_tried_again_with_every_line(tmp_path):
    path = tmp_path / "log"
    os.mkfifo(path)
    log = LogFile(path)
    log.write(b'{"number": 1}\n')
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.write(b'{"number": 2}\n')
    assert [json.loads(line).get("number") for line in read_all(reader).splitlines()] == [None, 2]
    assert log.lost == 1
    os.close(reader)


def test_a_full_disk_costs_lines_and_the_node_goes_on():
    log = LogFile(os.devnull.replace("null", "full"))
    log.write(b"one\n")
    log.write(b"two\n")
    assert log.lost == 2


def test_a_node_whose_log_nobody_reads_serves_on(new_cluster, tmp_path):
    for node in ("n1", "n2", "n3"):
        (tmp_path / "cluster0" / "nodes" / node).mkdir(parents=True)
        os.mkfifo(tmp_path / "cluster0" / "nodes" / node / "log-0001.jsonl")
        os.mkfifo(tmp_path / "cluster0" / "nodes" / node / "trace-0001.jsonl")
    cluster = new_cluster(trace=True)
    client = cluster.client()
    for number in range(50):
        client.kv.put("x", number)
    assert client.kv.get("x") == 49
    assert all(status.counters["log_lost"] > 0 for status in cluster.status().values())
    assert log_files(cluster, "n1")[0].is_fifo()


def test_a_trace_that_grows_too_large_begins_anew_and_keeps_what_was_before(tmp_path):
    log = NodeLog(tmp_path, "n1", 1)
    long = [LogLine("TRACE", "thinks", {"about": "x" * 2**20})]
    steps = 3 * TRACE_BYTES_MAX // 2**20
    for number in range(steps):
        log.trace([*long, LogLine("TRACE", "number", {"number": number})], float(number))
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("trace*")}
    assert sorted(sizes) == ["trace-0001.jsonl", "trace-0001.old.jsonl"]
    assert all(size <= TRACE_BYTES_MAX + 2**21 for size in sizes.values())
    lines = [
        json.loads(line) for name in sorted(sizes, reverse=True) for line in (tmp_path / name).read_text().splitlines()
    ]
    kept = [line["number"] for line in lines if line["text"] == "number"]
    assert kept == list(range(kept[0], steps))
