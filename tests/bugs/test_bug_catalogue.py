"""The catalogue of planted bugs: its entries, planting one at a time, and putting everything back."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import bugs
from chaos.bugs import BUGS, SCENARIOS, Bug, find, node_reference, plant, planted
from chaos.scenario import load_scenario
from testbed.base.errors import UsageError
from testbed.core.raft import replication
from testbed.core.raft.core import Raft

CHECKS = {
    "availability",
    "cas-register",
    "crashes",
    "evidence",
    "fenced-mutex",
    "key-order",
    "membership",
    "membership-invariants",
    "raft-invariants",
    "recovery",
    "service-invariants",
    "total-queue",
    "workload",
}
CONFIGS = Path(__file__).parents[2] / "configs"

each = pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)


def holders(bug: Bug) -> list[object]:
    return [holder for holder, _, _ in bug.plant()]


def contents(bug: Bug) -> list[dict[str, object]]:
    return [dict(vars(holder)) for holder in holders(bug)]


def test_there_are_bugs_of_every_part() -> None:
    assert len(BUGS) >= 20
    assert {bug.part for bug in BUGS.values()} == {
        "transport",
        "detection",
        "raft",
        "sessions",
        "locks",
        "queues",
        "storage",
        "client",
        "harness",
    }


@each
def test_a_bug_says_what_it_is_and_what_catches_it(bug: Bug) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", bug.name)
    assert bug.description.endswith(".")
    assert bug.source
    assert bug.caught_by
    assert set(bug.caught_by) <= CHECKS
    assert bug.seeds >= 1


@each
def test_a_bugs_scenario_ships(bug: Bug) -> None:
    ways = [path for path in (CONFIGS / bug.scenario, SCENARIOS / bug.scenario) if path.exists()]
    assert len(ways) == 1
    load_scenario(ways[0])


@each
def test_planting_replaces_pieces_and_puts_back_what_was_there(bug: Bug) -> None:
    before = contents(bug)
    pieces = [(holder, name, vars(holder).get(name)) for holder, name, _ in bug.plant()]
    assert pieces
    with planted(bug.name):
        for holder, name, right in pieces:
            assert vars(holder)[name] is not right
    assert contents(bug) == before


def test_pieces_are_put_back_when_the_run_raises() -> None:
    right = replication.read
    with pytest.raises(KeyError), planted("reads-locally"):
        raise KeyError
    assert replication.read is right


def test_pieces_are_put_back_when_planting_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replication.read

    def half() -> list[tuple[object, str, object]]:
        return [(replication, "read", None), (object, "immutable", None)]

    broken = Bug("half-done", "raft", "", "", "sim", (), "", 1, half)
    monkeypatch.setattr(bugs, "BUGS", {"half-done": broken})
    with pytest.raises(TypeError), planted("half-done"):
        pass
    assert replication.read is right
    monkeypatch.undo()
    with planted("reads-locally"):
        assert replication.read is not right


def test_an_attribute_that_was_inherited_is_inherited_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Heir(Raft):
        """Has no `step` of its own."""

    inherited = Bug("heir", "raft", "", "", "sim", (), "", 1, lambda: [(Heir, "step", None)])
    monkeypatch.setattr(bugs, "BUGS", {"heir": inherited})
    with planted("heir"):
        assert vars(Heir)["step"] is None
    assert "step" not in vars(Heir)


def test_of_two_bugs_the_second_is_refused() -> None:
    with planted("reads-locally"):
        for again in ("reads-locally", "forgets-vote"):
            with pytest.raises(RuntimeError, match="reads-locally is planted already"), planted(again):
                pass
        with pytest.raises(RuntimeError, match="reads-locally is planted already"):
            plant("forgets-vote")
        assert replication.read.__module__ == "chaos.bugs.raft"


def test_an_unknown_bug_is_a_mistake_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="forgets-voet: no such bug; did you mean 'forgets-vote'"):
        find("forgets-voet")
    with pytest.raises(UsageError), planted("forgets-voet"):
        pass


def test_a_live_node_with_a_bug_has_a_name() -> None:
    assert node_reference("forgets-vote", "testbed:ServiceNode") == "chaos.bugs.nodes:forgets_vote.ServiceNode"
    with pytest.raises(UsageError, match="cannot be planted around greeter:Greeter"):
        node_reference("forgets-vote", "greeter:Greeter")
    with pytest.raises(UsageError, match="no such bug"):
        node_reference("forgets-voet", "testbed:ServiceNode")


def test_the_catalogue_loads_no_world() -> None:
    script = "import sys, chaos.bugs; print([name for name in sys.modules if name.startswith(('zmq', 'testbed.'))])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "testbed.core.raft.core" in found
    assert "zmq" not in found
    assert "testbed.live" not in found
    assert "testbed.sim" not in found
