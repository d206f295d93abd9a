"""The hunt for planted bugs: what is caught, what escapes, and what cries without any bug."""

from dataclasses import replace
from pathlib import Path

from chaos.bugs import find
from chaos.hunt import hunt

PAUSING = """
duration = "4s"
[cluster]
nodes = 3
heartbeat = "50ms"
election_timeout = "250ms"
[[workload]]
kind = "{load}"
clients = 1
rate = 10
[[fault]]
kind = "pause"
target = ["n2"]
at = "500ms"
for = "1500ms"
"""

CRYING = """
from chaos import Op
from chaos.workloads.kv import KeyValue

class Crying(KeyValue):
    def client(self, number, random):
        client = super().client(number, random)
        yield next(client)
        raise AssertionError("wolf")
"""


def test_a_bug_is_caught_by_a_check_that_must_find_it_or_escapes_and_a_check_that_always_cries_is_told(tmp_path: Path):
    (tmp_path / "crying.py").write_text(CRYING)
    (tmp_path / "calm.toml").write_text(PAUSING.format(load="kv"))
    (tmp_path / "cries.toml").write_text(PAUSING.format(load="crying:Crying"))
    caught = replace(find("no-refutation"), scenario="calm.toml", seeds=3)
    escapes = replace(find("no-refutation"), scenario="calm.toml", caught_by=("crashes",), seeds=2)
    cries = replace(find("no-refutation"), scenario="cries.toml", caught_by=("workload",), seeds=3)
    asked = []

    def shipped(name: str) -> Path:
        asked.append(name)
        return tmp_path / name

    def only(bug):
        (found,) = hunt([bug], 2, shipped)
        return found

    found = only(caught)
    assert (found.name, found.world, found.caught, found.false_alarms) == ("no-refutation", "sim", True, [])
    assert found.by in ("membership-invariants", "membership")
    assert found.detail
    assert 1 <= found.seeds <= 3
    found = only(escapes)
    assert (found.caught, found.by, found.seeds, found.false_alarms) == (False, None, 2, [])
    found = only(cries)
    assert (found.caught, found.by) == (True, "workload")
    assert [alarm for alarm in found.false_alarms if "wolf" in alarm] == found.false_alarms != []
    assert set(asked) == {"calm.toml", "cries.toml"}
