"""Run directories made by hand, in the formats that runs write."""

import json

BEGINS = 100.0  # on the clock of the logs, where the run's own time is 0


class RunDirectory:
    """Writes lines where a run would. Times are seconds since the run began."""

    def __init__(self, path, nodes=("n1", "n2", "n3")):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.experiment(0.0, "begins", scenario="made", world="live", seed=1, nodes=list(nodes))
        for node in nodes:
            self.log(node, 0.0, "starts", incarnation=1)
        self._events = 0

    def append(self, name, line):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(line if isinstance(line, str) else json.dumps(line) + "\n")

    def experiment(self, at, what, **fields):
        self.append("experiment.jsonl", {"time": BEGINS + at, "what": what, **fields})

    def fault(self, at, kind, number, step, *nodes):
        self.experiment(at, "fault", kind=kind, fault=number, step=step, nodes=list(nodes))

    def supervisor(self, at, what, **fields):
        self.append(
            "supervisor.jsonl", {"time": BEGINS + at, "utc": "2026-01-01T00:00:00+00:00", "what": what, **fields}
        )

    def log(self, node, at, text, level="INFO", boot=1, **fields):
        line = {"time": BEGINS + at, "utc": "", "node": node, "boot": boot, "level": level, "text": text, **fields}
        self.append(f"nodes/{node}/log-{boot:04d}.jsonl", line)

    def trace(self, node, at, text, boot=1, **fields):
        self.append(f"nodes/{node}/trace-{boot:04d}.jsonl", {"time": BEGINS + at, "text": text, **fields})

    def role(self, node, at, role, term, leader):
        self.log(node, at, "role", role=role, term=term, leader=leader)

    def event(self, at, process, kind, f, value=None, key=None, error=None, name="history.jsonl"):
        event = {
            "index": self._events,
            "time": round(at * 1e9),
            "process": process,
            "type": kind,
            "f": f,
            "value": value,
        }
        more = {name: held for name, held in (("key", key), ("error", error)) if held is not None}
        self.append(name, event | more)
        self._events += 1

    def asks(self, at, request, node, process=0, invoked=1.0, workload=1):
        line = {"process": process, "invoked": round(invoked * 1e9), "workload": workload, "request": request}
        self.append("clients.jsonl", {"time": BEGINS + at, **line, "asks": node})

    # --- messages ---

    def entries(self, sender, to, sent, heard, index, term=2, count=1):
        """An AppendEntries on its way; `heard` None for one that is lost."""
        what = {"type": "AppendEntries", "term": term, "round": 1, "previous_index": index - 1, "entries": count}
        self.trace(sender, sent, "sent", to=to, what=what)
        if heard is not None:
            self.trace(to, heard, "heard", sender=sender, what=what)

    def agrees(self, sender, to, sent, heard, match, term=2):
        """The follower's answer to it."""
        what = {"type": "AppendReply", "term": term, "round": 1, "success": True, "match": match}
        self.trace(sender, sent, "sent", to=to, what=what)
        if heard is not None:
            self.trace(to, heard, "heard", sender=sender, what=what)

    def moved(self, node, at, last, commit, term=2):
        self.trace(node, at, "log", term=term, last=last, commit=commit, applied=commit)

    def submitted(self, node, at, request):
        what = {"type": "Submit", "session": 3, "serial": 1, "command": 20}
        self.trace(node, at, "received", request=request, what=what)


def a_put(path, outcome="ok"):
    """Client 0 writes 5 under k at 1.0 s: n1 leads in term 2 and appends it at 7; n2 has it; n3 is down until 2 s."""
    run = RunDirectory(path)
    run.role("n1", 0.5, "leader", 2, "n1")
    run.role("n2", 0.5, "follower", 2, "n1")
    run.fault(0.8, "kill", 1, "asked", "n3")
    run.supervisor(0.8, "exit", node="n3", pid=7, reason="killed by fault", expected=True)
    run.event(1.0, 0, "invoke", "write", 5, "k")
    run.asks(1.001, 17, "n1")
    run.submitted("n1", 1.002, 17)
    run.trace("n1", 1.002, "appended", request=17, index=7, term=2)
    run.moved("n1", 1.002, 7, 6)
    run.entries("n1", "n2", 1.0022, 1.0025, 7, count=0)
    run.agrees("n2", "n1", 1.0026, 1.0028, 6)
    run.entries("n1", "n2", 1.003, 1.004, 7)
    run.entries("n1", "n3", 1.003, None, 7)
    run.moved("n2", 1.004, 7, 6)
    run.trace("n1", 1.005, "durable", last=7)
    run.trace("n2", 1.006, "durable", last=7)
    run.agrees("n2", "n1", 1.006, 1.007, 7)
    if outcome == "ok":
        run.moved("n1", 1.007, 7, 7)
        run.trace("n1", 1.007, "answered", request=17, ok=True)
        run.event(1.01, 0, "ok", "write", 5, "k")
        run.moved("n2", 1.02, 7, 7)
        run.supervisor(2.0, "listens", node="n3", pid=8, incarnation=2)
        run.log("n3", 2.0, "starts", boot=2, incarnation=2)
        run.entries("n1", "n3", 2.1, None, 7)
        what = {"type": "AppendEntries", "term": 2, "round": 1, "previous_index": 6, "entries": 1}
        run.trace("n3", 2.101, "heard", boot=2, sender="n1", what=what)
        run.trace("n3", 2.101, "log", boot=2, term=2, last=7, commit=7, applied=7)
    return run
