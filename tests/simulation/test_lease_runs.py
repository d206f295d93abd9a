"""Simulated runs with queues and locks: what the shipped scenarios show, what is read at the end of a run, and that
clients who wait for each other are told so."""

from pathlib import Path

import msgspec
import pytest

from chaos import experiment
from chaos.experiment import Run
from chaos.history import NS_PER_S, is_lapse, operations
from chaos.scenario import load_scenario, parse_scenario
from chaos.workloads.api import Op, Outcome, Workload
from chaos.workloads.queue import Messages
from testbed.base.errors import UsageError
from testbed.base.rand import Streams
from testbed.core.services.commands import Acquire, Claim, Get, Nack, Release

CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = """
name = "small"
duration = "{duration}"
[cluster]
nodes = 3
heartbeat = "100ms"
election_timeout = "500ms"
[[workload]]
kind = "{kind}"
clients = {clients}
rate = 60
"""


def small(kind, clients=3, duration="3s", more=""):
    return parse_scenario(SMALL.format(kind=kind, clients=clients, duration=duration) + more, "")


class Result:
    """A run in memory that is over: its summary, its checks by name, and its histories."""

    def __init__(self, scenario, seed, duration=None):
        run = Run(scenario, seed=seed, duration=duration, world="sim", out=None)
        self.summary = run.execute()
        self.verdict = self.summary["verdict"]
        self.checks = {check["name"]: check for check in self.summary["checks"]}
        self.histories = [load.recorder.events() for load in run._loads]

    def __repr__(self):
        return f"{self.verdict}: {self.summary['checks']}"

    def completions(self, kind, f):
        """The events of that kind, in order."""
        return [event for history in self.histories for event in history if (event.type, event.f) == (kind, f)]

    def refusals(self, f):
        """The words that operations of that name were refused with."""
        return {event.error.partition(":")[0] for event in self.completions("fail", f)}


# --- what ships ---


@pytest.mark.parametrize("seed", range(1, 11))
def test_locks_protect_what_is_written_under_their_token_and_nothing_else(seed):
    """A holder that is slower than its lease overwrites what the next one wrote (LK: a lock without fencing)."""
    unfenced = load_scenario(CONFIGS / "lock_without_fencing.toml")
    (workload,) = unfenced.workloads
    assert workload.options["fenced"] is False
    with_tokens = msgspec.structs.replace(workload, options={**workload.options, "fenced": True})
    fenced = msgspec.structs.replace(unfenced, workloads=(with_tokens,))
    bad, good = (Result(scenario, seed, duration=4.0) for scenario in (unfenced, fenced))
    assert [name for name, check in bad.checks.items() if check["verdict"] != "valid"] == ["cas-register"], bad
    assert bad.checks["cas-register"]["verdict"] == "invalid"
    assert "no order explains" in bad.checks["cas-register"]["detail"]
    assert good.verdict == "valid", good
    assert "lease-lost" in good.refusals("cas")
    assert "lease-lost" not in bad.refusals("cas")


def test_messages_are_redelivered_and_come_to_the_dead_letters_and_none_is_lost_while_messages_of_nodes_are():
    results = [Result(load_scenario(CONFIGS / "message_loss.toml"), seed, duration=6.0) for seed in (1, 2)]
    assert [result.verdict for result in results] == ["valid", "valid"], results
    for result in results:
        assert result.checks["total-queue"]["detail"].startswith("0 lost, 0 duplicated, 0 unexpected")
    taken = [event.value for result in results for event in result.completions("ok", "take") if event.value]
    assert any(number >= 2 for _, number, *_ in taken)
    assert any(more == ["dead"] for _, _, *more in taken)
    assert any("lease-lost" in result.refusals("dequeue") for result in results)


def test_circles_and_late_holders_and_impatient_ones_are_refused_while_leaders_come_and_go():
    results = [Result(load_scenario(CONFIGS / "contention.toml"), seed, duration=10.0) for seed in (1, 2)]
    assert [result.verdict for result in results] == ["valid", "valid"], results
    acquires = set().union(*(result.refusals("acquire") for result in results))
    assert acquires >= {"deadlock", "not-granted"}
    assert all("lease-lost" in result.refusals("cas") for result in results)
    assert any(is_lapse(event.process) for result in results for event in result.histories[0])


# --- circles ---


class Crossing(Workload):
    """Each client takes a lock of its own, and when all have theirs, waits for the next one's: that closes a circle."""

    model = ("fenced-mutex", "cas-register")

    def __init__(self):
        self.held = 0

    def client(self, number, random):
        own = yield self.acquire(number)
        self.held += 1
        while self.held < self.clients:
            yield Op("read", key="x", request=Get("x"), after=0.01)
        next_ = (number + 1) % self.clients
        crossed = yield self.acquire(next_)
        yield self.release(number, own.value)
        if crossed.type == "ok":
            yield self.release(next_, crossed.value)

    def acquire(self, number):
        return Op("acquire", key=f"l{number}", request=Acquire((Claim(f"l{number}"),), 60.0, 60.0))

    def release(self, number, token):
        return Op("release", token, f"l{number}", Release(token))


@pytest.mark.parametrize("clients", [2, 3])
def test_every_circle_is_broken_within_a_heartbeat_by_refusing_exactly_one_of_those_in_it(clients):
    scenario = small("test_lease_runs:Crossing", clients, duration="2s")
    for seed in range(25):
        result = Result(scenario, seed)
        assert result.verdict == "valid", (seed, result)
        (events,) = result.histories
        acquires = [one for one in operations(events) if one.f == "acquire" and not is_lapse(one.process)]
        assert len(acquires) == 2 * clients, seed
        (victim,) = (one for one in acquires if one.outcome != "ok")
        assert victim.outcome == "fail", seed
        assert victim.error.startswith("deadlock: session "), seed
        closed = max(events[one.invoked].time for one in acquires)
        assert events[victim.completed].time - closed <= scenario.cluster.heartbeat * NS_PER_S, seed


# --- what is read at the end ---


def late(result, f):
    """The completions of that name after the end of the run itself."""
    return [event for event in result.completions("ok", f) if event.time > result.summary["duration_s"] * NS_PER_S]


def test_all_that_is_left_in_a_queue_is_read_after_the_run():
    for seed in range(3):
        result = Result(small("queue"), seed)
        assert result.verdict == "valid", (seed, result)
        put, taken = (len(result.completions("ok", f)) for f in ("enqueue", "dequeue"))
        assert f" of {put} acknowledged and {taken} taken for good" in result.checks["total-queue"]["detail"]
        assert put == taken > 0
        assert late(result, "dequeue"), seed
        assert all(event.value is None for event in late(result, "take")[-2:]), seed  # the last answers say so


def test_the_last_reading_waits_for_what_was_given_back_for_later_however_short_leases_are():
    queue, random = Messages(), Streams(1).stream("queue")
    queue.options = {"visibility": "10ms"}
    client, taken = queue.client(0, random), Outcome("ok", {"body": 1, "receipt": 1})
    requests = [(client.send(taken) if number else next(client)).request for number in range(500)]
    latest = max(request.delay for request in requests if isinstance(request, Nack))
    last = next(queue.drain(0, random)).request
    assert latest > 0.1
    assert last.wait >= latest + 0.02


class Endless(Messages):
    """Always thinks that there may be one more."""

    def drain(self, number, random):
        yield from super().drain(number, random)
        while number == 0:
            yield self._take(0.3, False)


def test_a_run_of_which_nobody_knows_whether_all_was_read_is_unknown(monkeypatch):
    monkeypatch.setattr(experiment, "DRAIN_S_MAX", 6.0)
    result = Result(small("test_lease_runs:Endless"), 1)
    assert result.verdict == "unknown", result
    unsure = {name: check["detail"] for name, check in result.checks.items() if check["verdict"] != "valid"}
    assert unsure == {"coverage": "workload test_lease_runs:Endless did not read all that was left"}


def test_what_was_not_read_for_want_of_time_is_not_called_lost(monkeypatch):
    monkeypatch.setattr(experiment, "DRAIN_S_MAX", 0.01)
    result = Result(small("queue"), 1)
    assert "workload queue did not read all that was left" in result.checks["coverage"]["detail"]
    assert result.verdict == "unknown", result


# --- workloads of one's own ---

OWN = """
from chaos import Op, Workload
from testbed.core.services.commands import Acquire, Claim, Release

class Forgetful(Workload):
    model = "fenced-mutex"
    leases = {leases}

    def client(self, number, random):
        while True:
            granted = yield self.acquire()
            if number > 0 and granted.type == "ok":  # client 0 forgets it
                yield self.release(granted.value)

    def drain(self, number, random):
        granted = yield self.acquire()
        while granted.type != "ok":  # client 0 may hold it, and is told not to wait for itself
            granted = yield self.acquire(after=0.1)
        yield self.release(granted.value)

    def acquire(self, after=0.0):
        return Op("acquire", key="mine", request=Acquire((Claim("mine"),), 0.2, 5.0), after=after)

    def release(self, token):
        return Op("release", token, "mine", Release(token))
"""


@pytest.mark.parametrize(
    ("leases", "verdict"), [({"acquire": "release"}, "valid"), ({}, "invalid")], ids=["known", "not known"]
)
def test_a_workload_of_ones_own_may_say_what_ends_by_itself_and_do_something_last(tmp_path, leases, verdict):
    """Who is granted the lock after client 0 is so because a lease ended."""
    (tmp_path / "own.py").write_text(OWN.format(leases=leases))
    (tmp_path / "own.toml").write_text(small("own:Forgetful").text)
    result = Result(load_scenario(tmp_path / "own.toml"), 3)
    assert result.checks["fenced-mutex"]["verdict"] == result.verdict == verdict, result
    assert [event.process for event in sorted(late(result, "release")[-3:], key=lambda event: event.process)] == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", r"own:Own: drain\(\) is no generator: it yields nothing"),
        ("raise KeyError('x')", "own:Own: KeyError: 'x'"),
        ("yield 3", "a client yielded 3, which is no Op"),
        ("yield from self.client(number, random)\n        raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_mistake_in_what_a_workload_does_last_is_its_authors(tmp_path, body, said):
    (tmp_path / "own.py").write_text(
        "from chaos import Op, Workload\n"
        "from testbed.core.services.commands import Get\n"
        "class Own(Workload):\n"
        "    def client(self, number, random):\n"
        "        yield Op('read', request=Get('x'))\n"
        f"    def drain(self, number, random):\n        {body}\n"
    )
    (tmp_path / "own.toml").write_text(small("own:Own").text)
    with pytest.raises(UsageError, match=f"own.toml: workload: {said}"):
        Result(load_scenario(tmp_path / "own.toml"), 1)
