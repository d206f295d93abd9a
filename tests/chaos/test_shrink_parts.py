import msgspec
import pytest

from chaos.pinned import to_toml
from chaos.scenario import FaultSpec, Scenario, WorkloadSpec
from chaos.shrink import shrink

GIVEN = Scenario(
    name="x",
    duration=24.0,
    workloads=(WorkloadSpec(kind="kv", clients=6), WorkloadSpec(kind="kv", clients=3)),
    faults=(
        FaultSpec(kind="kill", target=("n1", "n2"), at=3.0, lasting=2.0),
        FaultSpec(kind="loss", target=("n1", "n2"), at=9.0, lasting=4.0, rate=0.37),
    ),
    source="x.toml",
)


def lossy(found):
    return any(fault.kind == "loss" for fault in found.faults)


def but(**changes):
    left = msgspec.structs.replace(GIVEN, **changes)
    return msgspec.structs.replace(left, text=to_toml(left))


def test_faults_alone_become_fewer_and_plainer_and_keep_their_times():
    shrunk = shrink(GIVEN, lossy, parts=("faults",))
    assert shrunk.minimal
    assert shrunk.scenario == but(
        faults=(FaultSpec(kind="loss", target=("n2",), at=9.0, lasting=4.0, rate=1.0),),
    )


def test_load_alone_becomes_less():
    shrunk = shrink(GIVEN, lossy, parts=("load",))
    assert shrunk.scenario == but(
        workloads=(WorkloadSpec(kind="kv", clients=1, operations=1),),
        cluster=msgspec.structs.replace(GIVEN.cluster, nodes=2),  # the faults name so many
    )


def test_times_alone_become_shorter():
    shrunk = shrink(GIVEN, lossy, parts=("times",))
    kill, loss = GIVEN.faults
    assert shrunk.scenario == but(
        faults=(
            msgspec.structs.replace(kill, at=0.0, lasting=0.01),
            msgspec.structs.replace(loss, at=0.0, lasting=0.01),
        ),
        duration=0.1,
    )


@pytest.mark.parametrize("parts", [("faults", "load"), ("load", "times"), ("faults", "times")])
def test_two_parts_leave_the_third(parts):
    found = shrink(GIVEN, lossy, parts=parts).scenario
    changed = {
        "faults": len(found.faults) < len(GIVEN.faults),
        "load": found.workloads != GIVEN.workloads or found.cluster != GIVEN.cluster,
        "times": found.duration < GIVEN.duration,
    }
    assert changed == {part: part in parts for part in changed}
