"""Campaigns: what many seeds add up to, whatever runs them; what is no function of its seed; and how workers end."""

import time
from pathlib import Path

import msgspec
import psutil
import pytest

from chaos.campaign import OPERATIONS, Crew, Tally, WorkerEnded, campaign
from chaos.invariants import SOMETIMES
from chaos.seeds import Question
from testbed.base.errors import UsageError
from testbed.ports import SIMULATED_SOMETIMES

NODES = """
import os
import random
import time

from testbed import Node

NAMES = [f"name {number}" for number in range(50)]

class Telling(Node):
    def on_start(self):
        self.set_timer("tell", after=0.2)

    def on_timer(self, name):
        self.publish(self.thought())
        self.set_timer("tell", after=0.2)

    def on_request(self, request, body):
        self.reply(request, body)

    def thought(self):
        return self.random.random()

class OrderOfStrings(Telling):
    def thought(self):
        return list(set(NAMES))

class Identity(Telling):
    def thought(self):
        return id(self)

class OwnDice(Telling):
    def thought(self):
        return random.random()

class OwnClock(Telling):
    def thought(self):
        return time.time()

class Leaving(Telling):
    def thought(self):
        os._exit(3)

class Talkative(Telling):
    def thought(self):
        print("to whom it may concern")
        os.write(1, b"no answer at all")
        return 0
"""

LOADS = """
from chaos import Op, Workload

class Asking(Workload):
    def client(self, number, random):
        while True:
            yield Op("ask", request=number)

class Unlucky(Asking):
    def client(self, number, random):
        yield Op("ask", request=number)
        assert random.random() < 0.7, "bad luck"

class Broken(Asking):
    def client(self, number, random):
        yield Op("ask", request=number)
        raise KeyError("mine")
"""


def question(directory: Path, node: str = "Telling", load: str = "Asking", module: str = "tellers") -> Question:
    (directory / "tellers.py").write_text(NODES)
    (directory / "askers.py").write_text(LOADS)
    path = directory / "some.toml"
    path.write_text(
        f'duration = "2s"\n[cluster]\nnodes = 2\nnode = "{module}:{node}"\n'
        f'[[workload]]\nkind = "askers:{load}"\nclients = 1\nrate = 10\n'
    )
    return Question(str(path), 0, varied=False)


def without_real_time(tally: Tally) -> dict[str, object]:
    told = dict(vars(tally)) | {"seconds": 0.0}
    for name in ("failures", "unknown"):
        told[name] = [msgspec.structs.replace(result, seconds=0.0) for result in told[name]]
    return told


# --- what they add up to ---


@pytest.mark.parametrize("keep_going", [True, False])
def test_what_comes_of_it_does_not_depend_on_how_many_run_at_a_time(tmp_path: Path, keep_going: bool):
    asked = question(tmp_path, load="Unlucky")
    tallies = [campaign(asked, range(20, 40), jobs, check_every=8, keep_going=keep_going) for jobs in (1, 3)]
    one, many = map(without_real_time, tallies)
    assert one == many
    failed = [result.seed for result in tallies[0].failures]
    if keep_going:
        assert (tallies[0].done, tallies[0].checked) == (20, 3)
        assert 1 < len(failed) < 20
        assert failed == sorted(failed)
        assert tallies[0].verdicts == {"valid": 20 - len(failed), "invalid": len(failed)}
    else:
        assert len(failed) == 1
        assert tallies[0].done == failed[0] - 20 + 1
    assert {result.failure for result in tallies[0].failures} == {"workload"}
    assert "bad luck" in tallies[0].failures[0].detail


def test_the_swarm_varies_what_is_simulated_by_its_seed(tmp_path: Path):
    asked = question(tmp_path)
    written = campaign(asked, range(2), 1, check_every=0)
    varied = campaign(msgspec.structs.replace(asked, varied=True), range(2), 1, check_every=0)
    assert written.simulated_s < 10 < varied.simulated_s


def test_progress_is_told_after_each_seed(tmp_path: Path):
    told = []
    campaign(question(tmp_path), range(3), 1, check_every=0, progress=lambda tally: told.append(tally.done))
    assert told == [1, 2, 3]


def test_what_no_seed_has_reached_is_named(tmp_path: Path):
    path = tmp_path / "store.toml"
    path.write_text(
        'duration = "3s"\n[cluster]\nnodes = 3\nheartbeat = "50ms"\nelection_timeout = "250ms"\n'
        '[[workload]]\nkind = "kv"\nclients = 2\nrate = 20\n'
    )
    tally = campaign(Question(str(path), 0, varied=False), range(2), 1, check_every=0)
    assert tally.sometimes["leader elected"] >= 2
    assert not {"leader elected", "pre-vote", "operation ok"} & set(tally.never)
    assert {"snapshot installed", "truncation", "restart noticed"} <= set(tally.never)
    every = (*SOMETIMES, *SIMULATED_SOMETIMES, *OPERATIONS)
    assert set(tally.never) == {name for name in every if not tally.sometimes[name]}


# --- what is no function of its seed ---


@pytest.mark.parametrize("node", ["OrderOfStrings", "Identity", "OwnDice", "OwnClock"])
def test_a_node_that_asks_anybody_else_than_its_seed_diverges(tmp_path: Path, node: str):
    tally = campaign(question(tmp_path, node), range(1), 1)
    (found,) = tally.diverged
    assert found.seed == 0
    assert found.event > 0
    assert found.first != found.second
    assert "news" in found.first  # what is published differs, and nothing before it


def test_a_node_that_asks_only_its_seed_does_not_diverge(tmp_path: Path):
    tally = campaign(question(tmp_path), range(3), 2, check_every=1)
    assert (tally.checked, tally.diverged, tally.verdicts) == (3, [], {"valid": 3})


def test_a_divergence_ends_a_campaign_that_is_not_to_keep_going(tmp_path: Path):
    tally = campaign(question(tmp_path, "OwnDice"), range(20), 1, check_every=2, keep_going=False)
    assert (tally.done, len(tally.diverged)) == (1, 1)


# --- how workers end ---


def workers() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"load": "Broken"}, "some.toml: workload: KeyError: 'mine'"),
        ({"module": "nowhere"}, "some.toml: cluster.node: there is no module 'nowhere'"),
        ({"node": "Nobody"}, "some.toml: cluster.node: module 'tellers' has no 'Nobody'"),
    ],
)
def test_a_mistake_in_a_users_module_ends_the_campaign_and_its_workers(tmp_path: Path, wrong: dict, said: str):
    before = workers()
    with pytest.raises(UsageError) as caught:
        campaign(question(tmp_path, **wrong), range(10), 2)
    assert str(caught.value).endswith(said)
    assert workers() == before


def test_a_worker_that_ends_is_named_with_its_seed_and_ends_the_campaign(tmp_path: Path):
    before = workers()
    with pytest.raises(WorkerEnded, match=r"the process that simulated seed [56] ended: exit code 3"):
        campaign(question(tmp_path, "Leaving"), range(5, 50), 2)
    assert workers() == before


def test_an_interrupted_campaign_leaves_no_worker(tmp_path: Path):
    before = workers()

    def interrupt(_: Tally) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign(question(tmp_path), range(1000), 2, progress=interrupt)
    assert workers() == before


def test_what_a_users_module_prints_is_no_answer(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    tally = campaign(question(tmp_path, "Talkative"), range(1), 1)
    assert tally.verdicts == {"valid": 1}
    told = capfd.readouterr()
    assert told.out == ""
    assert "to whom it may concern" in told.err
    assert "no answer at all" in told.err


def test_workers_do_not_take_a_module_of_the_present_directory_for_one_of_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = question(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("queue.py", "struct.py", "chaos.py"):
        (elsewhere / name).write_text("raise SystemExit('not me')")
    monkeypatch.chdir(elsewhere)
    assert campaign(asked, range(1), 1).verdicts == {"valid": 1}


def test_a_crew_hashes_strings_differently_in_each_of_its_workers():
    with Crew(2, 1) as crew:
        give_up = time.monotonic() + 30
        seeds = set()
        while len(seeds) < 3 and time.monotonic() < give_up:  # a process that begins has no environment yet
            seeds = {psutil.Process(worker._process.pid).environ().get("PYTHONHASHSEED") for worker in crew._all}
            seeds.discard(None)
    assert len(seeds) == 3
