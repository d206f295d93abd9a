"""fenced-mutex under leases: what it makes of releases that nobody completed, with the plain search beside it."""

from collections.abc import Hashable
from typing import Any

import pytest
from histories import Row, expires_after, history

from chaos.checkers import Call, Inconsistent, check
from chaos.checkers.model import calls_of
from chaos.checkers.models.locks import FencedMutex
from chaos.history import Event, operations
from testbed.base.rand import Random, Streams

FENCED = FencedMutex()


class Plain:
    """The same lock for the search alone: nothing is reduced, and no order is told."""

    name = "plain"
    operations = FENCED.operations
    observations = FENCED.observations

    def start(self, initial: Any) -> Hashable:
        return FENCED.start(initial)

    def step(self, state: Any, call: Call) -> Hashable | Inconsistent:
        return FENCED.step(state, call)


class Lock:
    """A lock, its clients and its leases, drawn step by step; `sloppy` is how often each step is a mistake."""

    def __init__(self, random: Random, sloppy: float) -> None:
        self.random = random
        self.sloppy = sloppy
        self.rows: list[Row] = []
        self.held: int | None = None
        self.last = 0
        self.told: list[int] = []
        self.clients: dict[int, tuple[str, Any, Any]] = {0: ("idle", None, None), 1: ("idle", None, None)}
        self.clients[2] = ("idle", None, None)
        self.processes = 3
        self.lapses = 100

    def mistaken(self) -> bool:
        return self.random.random() < self.sloppy

    def step(self) -> None:
        process = self.random.choice(list(self.clients))
        doing, token, effect = self.clients[process]
        if doing == "idle":
            self.invoke(process, token)
        elif effect is None:
            self.take_effect(process, doing, token)
        else:
            self.complete(process, doing, effect)
        if self.told and self.random.random() < 0.2:
            self.lapse(self.random.choice(self.told))

    def invoke(self, process: int, token: int | None) -> None:
        if token is None:
            self.rows.append((process, "invoke", "acquire", None))
            self.clients[process] = ("acquire", None, None)
            return
        self.rows.append((process, "invoke", "release", None if self.mistaken() else token))
        self.clients[process] = ("release", token, None)

    def take_effect(self, process: int, doing: str, token: int | None) -> None:
        if doing == "acquire":
            if self.held is None or self.mistaken():
                self.last += self.random.choice([-1, 0, 1]) if self.mistaken() else 1
                self.held = self.last
                self.clients[process] = (doing, None, self.last)
        elif self.held == token or self.mistaken():
            self.held = None
            self.clients[process] = (doing, token, "done")
        else:
            self.clients[process] = (doing, token, "refused")

    def complete(self, process: int, doing: str, effect: Any) -> None:
        if self.random.random() < 0.15:
            self.rows.append((process, "info", doing, None))
            del self.clients[process]
            process, self.processes = self.processes, self.processes + 1
            self.clients[process] = ("idle", None, None)
            return
        if doing == "acquire":
            self.rows.append((process, "ok", doing, effect))
            self.told.append(effect)
            self.clients[process] = ("idle", effect, None)
            return
        self.rows.append((process, "ok" if effect == "done" else "fail", doing, None))
        self.clients[process] = ("idle", None, None)

    def lapse(self, token: int) -> None:
        self.lapses += 1
        self.rows.append((self.lapses, "invoke", "release", token))
        if token == self.held and self.random.random() < 0.5:
            self.held = None


def drawn(seed: int, sloppy: float) -> list[Event]:
    random = Streams(seed).stream("lock", sloppy)
    lock = Lock(random, sloppy)
    for _ in range(random.choice([10, 20, 40])):
        lock.step()
    return history(*lock.rows)


@pytest.mark.parametrize("sloppy", [0.0, 0.02, 0.1, 0.3])
def test_what_is_left_out_of_the_search_changes_no_verdict(sloppy: float) -> None:
    found = []
    for seed in range(500):
        events = drawn(seed, sloppy)
        found.append(check(events, "fenced-mutex").verdict)
        assert found[-1] == check(events, Plain()).verdict, seed
    assert set(found) == ({"valid", "invalid"} if sloppy else {"valid"})


def expiring(leases: int, open_at_once: int) -> list[Row]:
    """Every lease runs out: each is followed by the next acquire, while `open_at_once` clients wait for theirs."""
    rows: list[Row] = [(process, "invoke", "acquire", None) for process in range(open_at_once)]
    for token in range(1, leases + 1):
        process = token % open_at_once
        rows += [(process, "ok", "acquire", token), (10_000 + token, "invoke", "release", token)]
        rows.append((process, "invoke", "acquire", None))
    return rows


def test_a_thousand_leases_that_ran_out_are_decided_within_a_hundred_turns() -> None:
    rows = expiring(1000, open_at_once=20)
    assert check(history(*rows), "fenced-mutex", expired=expires_after(100)).verdict == "valid"
    without_one = [row for row in rows if row != (10_900, "invoke", "release", 900)]
    judged = check(history(*without_one), "fenced-mutex", expired=expires_after(100))
    assert judged.verdict == "invalid"
    assert "acquire -> 901" in judged.detail
    assert "the lock is held under token 900" in judged.detail


def test_where_each_release_names_a_token_nothing_is_left_that_may_or_may_not_happen_nor_any_choice_of_order() -> None:
    rows = [*expiring(5, open_at_once=2), (7, "invoke", "acquire", None), (7, "info", "acquire", None)]
    calls = FENCED.reduce(calls_of(FENCED, operations(history(*rows))))
    shown = [(call.f, call.argument or call.result, call.completed) for call in calls]
    acquires = [("acquire", token, 3 * token - 1) for token in range(1, 6)]
    assert sorted(shown) == acquires + [("release", token, 3 * token + 2) for token in range(1, 5)]
    precedes = FENCED.order(calls, FENCED.start(None))
    assert precedes is not None
    for first in calls:
        for second in calls:
            assert precedes(first, second) + precedes(second, first) == (first != second)


def test_an_acquire_that_returned_no_token_is_wrong_beside_whatever_else() -> None:
    rows: list[Row] = [(process, "invoke", "acquire", None) for process in (0, 1)]
    rows += [(0, "ok", "acquire", None), (1, "ok", "acquire", 1)]
    assert check(history(*rows), "fenced-mutex").verdict == "invalid"


def test_a_lease_that_ends_only_after_the_next_acquire_completed_explains_nothing() -> None:
    first: list[Row] = [(0, "invoke", "acquire", None), (0, "ok", "acquire", 1)]
    second: list[Row] = [(1, "invoke", "acquire", None), (1, "ok", "acquire", 2)]
    lapse = (9, "invoke", "release", 1)
    assert check(history(*first, lapse, *second), "fenced-mutex").verdict == "valid"
    assert check(history(*first, second[0], lapse, second[1]), "fenced-mutex").verdict == "valid"
    assert check(history(*first, *second, lapse), "fenced-mutex").verdict == "invalid"


@pytest.mark.parametrize(("refused", "expected"), [(True, "valid"), (False, "invalid")])
def test_a_release_after_the_lease_s_end_must_have_been_refused(refused: bool, expected: str) -> None:
    rows: list[Row] = [(0, "invoke", "acquire", None), (0, "ok", "acquire", 1), (9, "invoke", "release", 1)]
    rows += [(1, "invoke", "acquire", None), (1, "ok", "acquire", 2), (0, "invoke", "release", 1)]
    rows.append((0, "fail", "release", None, "lease-lost") if refused else (0, "ok", "release", None))
    assert check(history(*rows), "fenced-mutex").verdict == expected


def test_a_lease_s_end_explains_one_acquire_and_no_second_one() -> None:
    rows: list[Row] = [(0, "invoke", "acquire", None), (0, "ok", "acquire", 1), (9, "invoke", "release", 1)]
    for token in (2, 3):
        rows += [(1, "invoke", "acquire", None), (1, "ok", "acquire", token)]
    assert check(history(*rows), "fenced-mutex").verdict == "invalid"


def test_an_acquire_of_unknown_outcome_needs_no_end_of_its_lease() -> None:
    rows: list[Row] = [(0, "invoke", "acquire", None), (0, "info", "acquire", None)]
    rows += [(1, "invoke", "acquire", None), (1, "ok", "acquire", 5)]
    assert check(history(*rows), "fenced-mutex").verdict == "valid"
