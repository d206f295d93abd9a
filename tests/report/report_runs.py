"""Run directories for the tests of reports: one with everything in it, and large ones."""

import json
from pathlib import Path

NODES = ["n1", "n2", "n3"]
ORIGIN_S = 1000.0  # of the logs' clock
START = (("kill", 1, "n1", 2.0, 3.0), ("partition", 2, "n2", 2.5, 3.5), ("pause", 3, "n3", 4.0, 4.5))


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def fault_steps():
    """(time in s, kind, value) of every step."""
    for kind, number, node, start, end in START:
        about = {"fault": number, "nodes": [node]} | ({"shape": "split", "mode": "drop"} if number == 2 else {})
        yield start - 0.02, kind, about | {"step": "asked"}
        yield start + 0.02, kind, about | {"step": "in effect", "since": ORIGIN_S + start}
        yield end - 0.02, kind, about | {"step": "ended"}
        yield end + 0.02, kind, about | {"step": "healed", "since": ORIGIN_S + end}
    yield 5.0, "kill", {"fault": 4, "step": "asked", "nodes": ["n2"]}
    yield 5.0, "kill", {"fault": 4, "step": "skipped", "nodes": ["n2"], "reason": "no leader is known"}


def history(*operations, faults=True):
    """Events of (process, f, key, argument, began, ended, type, result), times in seconds, in order of time."""
    events = []
    for process, f, key, argument, began, ended, kind, result in operations:
        whole = {"process": process, "f": f} | ({} if key is None else {"key": key})
        events.append((began, 0, whole | {"type": "invoke", "value": argument}))
        if ended is not None:
            events.append((ended, 1, whole | {"type": kind, "value": result}))
    for time, kind, value in fault_steps() if faults else ():
        name = "invoke" if value["step"] == "asked" else "info"
        events.append((time, 1, {"process": "nemesis", "type": name, "f": kind, "value": value}))
    events.sort(key=lambda event: event[:2])
    return [{"index": i, "time": round(time * 1e9), **event} for i, (time, _, event) in enumerate(events)]


KV = history(
    *[(n % 3, "write", "k0", n, 0.1 * n, 0.1 * n + 0.004 + 0.001 * n, "ok", n) for n in range(18)],
    (3, "cas", "k0", [1, 2], 0.305, 0.31, "fail", [1, 2]),
    (4, "write", "k0", 99, 2.05, 3.05, "info", 99),
    (5, "write", "k1", 5, 5.00, 5.01, "ok", 5),
    (6, "write", "k1", 6, 5.02, 5.30, "ok", 6),
    (7, "read", "k1", None, 5.05, 5.10, "ok", 6),
    (7, "read", "k1", None, 5.15, 5.20, "ok", 5),
)
QUEUE = history(
    (10, "enqueue", None, "a", 0.1, 0.2, "ok", "a"),
    (10, "enqueue", None, "b", 0.3, 0.4, "ok", "b"),
    (11, "dequeue", None, "a", 1.0, 1.1, "ok", "a"),
)
LOCK = history(
    (20, "acquire", "l0", None, 0.1, 0.2, "ok", 1),
    (20, "release", "l0", 1, 0.5, 0.6, "ok", 1),
    (-1, "release", "l0", 1, 1.2, None, None, None),
    (21, "acquire", "l0", None, 1.3, 1.4, "ok", 2),
    (-2, "release", "l0", 2, 2.4, None, None, None),
)


def broken_read():
    """The index of the invocation of the read that went back in time, and the anomaly that a summary tells of it."""
    first = [event["index"] for event in KV if event["f"] == "read" and event["type"] == "invoke"][-1]
    last = next(event["index"] for event in KV[first:] if event["process"] == 7 and event["type"] == "ok")
    write = next(event["index"] for event in KV if event["process"] == 6)
    done = max(event["index"] for event in KV if event["process"] == 6)
    return first, {
        "check": "cas-register",
        "workload": "kv",
        "history": "history.jsonl",
        "key": "k1",
        "prefix": last + 1,
        "shortest": True,
        "operation": f"read -> 5 (process 7, events {first} to {last})",
        "reason": "5 was there before 6 was for the last time",
        "concurrent": [f"write 6 ok (process 6, events {write} to {done})"],
        "states": ["it holds 6"],
        "minimal": [event for event in KV if event["process"] in (5, 6, 7)],
    }


def summary(verdict="valid", **more):
    checks = [
        {"name": "cas-register", "workload": "kv", "verdict": verdict, "detail": "24 operations on 2 keys </script>"},
        {"name": "membership", "workload": None, "verdict": "valid", "detail": "3 of 3 nodes are up"},
    ]
    return {
        "scenario": "small <b>",
        "world": "live",
        "seed": 7,
        "verdict": verdict,
        "duration_s": 6.0,
        "run_dir": "runs/small",
        "replay": "testbed replay runs/small",
        "operations": {"ok": 27, "fail": 1, "info": 1},
        "faults": [{"kind": "kill", "asked": 2, "applied": 1, "healed": 1, "skipped": 1}],
        "checks": checks,
        "recovery_s": {"kill": {"p50": 0.2, "max": 0.4}},
        "recovery_steps_s": {
            "kill": {
                "detect": {"p50": 0.01, "max": 0.02},
                "elect": {"p50": 0.1, "max": 0.1},
                "write": {"p50": 0.2, "max": 0.4},
            }
        },
        "source": "",
    } | more


def small_run(directory: Path, broken=True) -> Path:
    """A run of six seconds with all files that a run leaves."""
    directory.mkdir(parents=True)
    more = {"anomaly": broken_read()[1]} if broken else {}
    (directory / "summary.json").write_text(json.dumps(summary("invalid" if broken else "valid", **more)))
    (directory / "schedule.json").write_text(json.dumps({"seed": 7, "duration": 6.0, "nodes": NODES, "faults": []}))
    kinds = "".join(f'[[workload]]\nkind = "{kind}"\n' for kind in ("kv", "queue", "lock"))
    (directory / "scenario.toml").write_text(f'name = "small"\n[cluster]\nnodes = 3\n{kinds}')
    (directory / "minimal.toml").write_text('name = "smaller"\n')
    write_lines(directory / "history.jsonl", KV)
    write_lines(directory / "history-2.jsonl", QUEUE)
    write_lines(directory / "history-3.jsonl", LOCK)
    write_logs(directory)
    return directory


def write_logs(directory: Path, duration: float = 6.0) -> None:
    begins = {"time": ORIGIN_S, "what": "begins", "scenario": "small", "world": "live", "seed": 7, "nodes": NODES}
    write_lines(directory / "experiment.jsonl", [begins | {"duration": duration}])
    write_lines(
        directory / "clients.jsonl", [{"time": ORIGIN_S, "process": 0, "invoked": 0, "workload": 1, "request": 1}]
    )
    lives = [(ORIGIN_S - 1, "start", {}), (ORIGIN_S - 0.9, "listens", {"incarnation": 1})]
    n1 = [(ORIGIN_S + 2.0, "exit", {"reason": "killed"}), (ORIGIN_S + 2.9, "start", {})]
    n1.append((ORIGIN_S + 3.0, "listens", {"incarnation": 2}))
    told = [(time, what, {"node": node, **more}) for node in NODES for time, what, more in lives]
    told += [(time, what, {"node": "n1", **more}) for time, what, more in n1]
    told.sort(key=lambda one: one[0])
    write_lines(directory / "supervisor.jsonl", [{"time": at, "what": what, **more} for at, what, more in told])
    roles = {
        "n1": [(-0.5, "leader", 1), (3.0, "follower", 2)],
        "n2": [(-0.5, "follower", 1), (2.1, "candidate", 2), (2.3, "leader", 2)],
        "n3": [(-0.5, "follower", 1), (2.3, "follower", 2)],
    }
    for node, found in roles.items():
        lines = [
            {
                "time": ORIGIN_S + at,
                "node": node,
                "boot": 1,
                "level": "INFO",
                "text": "role",
                "role": role,
                "term": term,
            }
            for at, role, term in found
        ]
        for peer in NODES:
            states = [(-0.5, "alive")] + ([(2.2, "suspect"), (2.6, "failed"), (3.1, "alive")] if peer == "n1" else [])
            lines += [
                {"time": ORIGIN_S + at, "level": "INFO", "text": "membership", "peer": peer, "new": state}
                for at, state in states
                if peer != node and (node, at) != ("n1", 2.2)
            ]
        lines.sort(key=lambda line: line["time"])
        write_lines(directory / "nodes" / node / "log-0001.jsonl", lines)
    beat = {"type": "AppendEntries", "term": 2, "entries": 1}
    sent = {"time": ORIGIN_S + 5.1, "text": "sent", "to": "n3", "what": beat}
    heard = {"time": ORIGIN_S + 5.101, "text": "heard", "sender": "n2", "what": beat}
    lost = {"time": ORIGIN_S + 5.12, "text": "published", "what": {"type": "VoteRequest", "term": 3}}
    quiet = [{"time": ORIGIN_S + n / 100, "text": "durable", "last": n} for n in range(500)]
    write_lines(directory / "nodes" / "n2" / "trace-0001.jsonl", [*quiet, sent, lost])
    write_lines(directory / "nodes" / "n3" / "trace-0001.jsonl", [*quiet, heard])


def large_run(directory: Path, operations: int, seconds: float) -> Path:
    """Steady load with the odd failure, unknown outcome and slow answer; a kill every ten seconds."""
    directory.mkdir(parents=True)
    step = round(seconds * 1e9 / operations)
    with open(directory / "history.jsonl", "w") as file:
        for n in range(operations):
            at, process, key = n * step, n % 97, f'"k{n // 400}"'
            kind = "fail" if n % 41 == 0 else "info" if n % 997 == 0 else "ok"
            ends = at + step * (1 + n * n * 7919 % 97) // 98
            what = f'"process":{process},"f":"write","key":{key},"value":{n}'
            file.write(
                f'{{"index":{2 * n},"time":{at},"type":"invoke",{what}}}\n'
                f'{{"index":{2 * n + 1},"time":{ends},"type":"{kind}",{what}}}\n'
            )
    counts = {"ok": operations, "fail": 0, "info": 0}
    whole = summary("valid", duration_s=seconds, operations=counts)
    (directory / "summary.json").write_text(json.dumps(whole))
    write_logs(directory, seconds)
    steps = []
    for number in range(1, int(seconds / 10)):
        for after, name in ((0, "asked"), (0.1, "in effect"), (2, "ended"), (2.5, "healed")):
            told = {"time": ORIGIN_S + 10 * number + after, "what": "fault", "kind": "kill"}
            steps.append(told | {"fault": number, "step": name, "nodes": ["n1"]})
    with open(directory / "experiment.jsonl", "a") as file:
        file.writelines(json.dumps(step) + "\n" for step in steps)
    return directory
