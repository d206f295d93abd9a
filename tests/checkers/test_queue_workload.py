"""What the workload `queue` asks for and records, so that total-queue can judge it: serials, and the ends of leases."""

from typing import Any

import msgspec
import pytest

from chaos.experiment import Run
from chaos.history import Event, is_lapse, operations
from chaos.scenario import parse_scenario
from chaos.workloads.api import Outcome
from chaos.workloads.queue import Messages
from testbed.base.rand import Streams
from testbed.core.services import queues
from testbed.core.services.commands import Publish
from testbed.core.services.queues import Delivery, Queues

SCENARIO = """
name = "queue"
duration = "3s"
[cluster]
nodes = 3
[[workload]]
kind = "queue"
clients = 6
rate = 200
"""


def numbered(seed: int, outcomes: dict[int, str]) -> list[tuple[str, int]]:
    """Producer and serial of one client's publications that have them; `outcomes` of some, by place, the others ok."""
    client = Messages().client(3, Streams(seed).stream("client"))
    op = next(client)
    found: list[tuple[str, int]] = []
    while len(found) < 12:
        kind: Any = "ok"
        if isinstance(op.request, Publish) and op.request.producer is not None:
            assert op.idempotent
            found.append((op.request.producer, op.request.serial))
            kind = outcomes.get(len(found), "ok")
        op = client.send(Outcome(kind))
    return found


def test_serials_count_the_numbered_publications_and_one_that_failed_is_used_again() -> None:
    for seed in range(5):
        serials = [1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10]
        assert numbered(seed, {3: "fail", 4: "fail"}) == [("client 3", serial) for serial in serials]


def test_after_an_unknown_outcome_a_producer_s_name_is_never_used_again() -> None:
    for seed in range(5):
        found = numbered(seed, {4: "info", 6: "info", 7: "fail"})
        assert [serial for _, serial in found] == [1, 2, 3, 4, 1, 2, 1, 1, 2, 3, 4, 5]
        names = [name for name, serial in found]
        assert [len(set(names[:4])), len(set(names[4:6])), len(set(names[6:]))] == [1, 1, 1]
        assert len(set(names)) == 3


def ran(seed: int) -> tuple[dict[str, Any], list[Event]]:
    """The verdict of total-queue on a run in memory, and its history."""
    run = Run(parse_scenario(SCENARIO, ""), seed=seed, world="sim", out=None)
    checks = run.execute()["checks"]
    (load,) = run._loads
    return next(check for check in checks if check["name"] == "total-queue"), load.recorder.events()


def test_each_delivery_s_lease_may_end_by_itself_and_that_shows_what_was_delivered() -> None:
    judged, events = ran(1)
    assert judged["verdict"] == "valid", judged
    takes = [one for one in operations(events) if one.f == "take" and one.outcome == "ok" and one.result is not None]
    lapses = [event for event in events if is_lapse(event.process)]
    assert {lapse.f for lapse in lapses} == {"nack"}
    assert sorted(map(msgspec.json.encode, (lapse.value for lapse in lapses))) == sorted(
        msgspec.json.encode(take.result) for take in takes
    )


def test_a_lease_that_ends_before_its_consumer_may_think_so_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Queues._set_until

    def early(self: Queues, delivery: Delivery, until: float) -> None:
        right(self, delivery, until)
        self._deadlines[queues._LEASE, delivery.receipt, ""] = until - 0.9 * delivery.visibility

    monkeypatch.setattr(Queues, "_set_until", early)
    judged, _ = ran(1)
    assert judged["verdict"] == "invalid"
    assert "while it was leased" in judged["detail"]
