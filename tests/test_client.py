"""A client's session: where it turns, what it repeats, and what it may say about an operation in the end."""

import heapq
import itertools
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base.codec import Codec, Raw, pack
from testbed.base.limits import CLOCK_DRIFT_MAX, WAIT_S_MAX
from testbed.client import (
    Answered,
    Ask,
    ClientEvent,
    NodeClosed,
    NotSent,
    Operation,
    Outcome,
    PlainRequest,
    Session,
    Started,
    Woken,
)
from testbed.core import requests
from testbed.core.services.commands import Acquire, Claim, Get, Put, Take, value

WIRE = Codec((*requests.REQUESTS, *requests.REPLIES))
PLAIN = Codec()
NODES = ("n1", "n2", "n3")
PUT = Put("x", value(1))
DONE = requests.Done(Raw(pack(None)))
TIMEOUT = 5.0


def session(first: int = 0) -> Session:
    return Session(NODES, attempt_timeout=0.5, codec=PLAIN, first=first)


def one(asks: list[Ask]) -> Ask:
    assert len(asks) == 1, asks
    return asks[0]


def answer(client: Session, ask: Ask, reply: Any, now: float = 0.1) -> list[Ask]:
    return client.step(Answered(ask.ask, True, WIRE.encode(reply)), now)


def opened(now: float = 0.0) -> tuple[Session, Ask]:
    """A session whose first put is asked of n1, the leader, under session 9."""
    client = session()
    ask = one(client.begin(PUT, now, TIMEOUT))
    assert WIRE.decode(ask.body) == requests.OpenSession()
    return client, one(answer(client, ask, requests.Opened(9), now))


def deadline(client: Session) -> float:
    assert client.deadline is not None
    return client.deadline


def submitted(ask: Ask) -> tuple[str, int, int]:
    body = WIRE.decode(ask.body)
    assert isinstance(body, requests.Submit)
    return ask.node, body.session, body.serial


def test_a_session_is_opened_once_and_serials_count_up() -> None:
    client, ask = opened()
    assert submitted(ask) == ("n1", 9, 1)
    assert answer(client, ask, DONE) == []
    assert client.outcome == Outcome("ok", None)
    for serial in (2, 3):
        ask = one(client.begin(PUT, 1.0, TIMEOUT))
        assert submitted(ask) == ("n1", 9, serial)
        answer(client, ask, DONE)


def test_a_query_needs_no_session() -> None:
    client = session(first=1)
    ask = one(client.begin(Get("x"), 0.0, TIMEOUT))
    assert (ask.node, WIRE.decode(ask.body)) == ("n2", requests.Query(Raw(pack(Get("x")))))
    answer(client, ask, requests.Done(Raw(pack({"a": 1}))))
    assert client.outcome == Outcome("ok", {"a": 1})


def test_a_redirect_is_followed_at_once_with_the_same_serial() -> None:
    client, ask = opened()
    again = one(answer(client, ask, requests.NotLeader("n3")))
    assert submitted(again) == ("n3", 9, 1)
    answer(client, again, DONE)
    assert one(client.begin(PUT, 1.0, TIMEOUT)).node == "n3"


@pytest.mark.parametrize("hint", [None, "n1", "nobody"])
def test_a_redirect_to_nowhere_tries_the_next_node(hint: str | None) -> None:
    """PITFALLS, thesis checklist 11: no redirect loops."""
    client, ask = opened()
    assert one(answer(client, ask, requests.NotLeader(hint))).node == "n2"


def test_redirects_in_circles_end_in_pauses() -> None:
    client, ask = opened()
    for _ in range(100):
        asks = answer(client, ask, requests.NotLeader({"n1": "n2", "n2": "n1"}.get(ask.node)))
        if not asks:
            break
        ask = asks[0]
    assert asks == []
    assert 0.1 < deadline(client) <= 0.2
    assert client.busy


def test_while_nobody_leads_the_pauses_grow_to_a_bound() -> None:
    client = session()
    asks = client.begin(PUT, 0.0, 3.0)
    now, pauses = 0.0, []
    while client.busy:
        for ask in asks:
            asks = answer(client, ask, requests.NotLeader(None), now)
        if not asks:
            pauses.append(deadline(client) - now)
            now = deadline(client)
            asks = client.step(Woken(), now)
    assert client.outcome == Outcome("fail", error="no leader")
    assert pauses[0] == pytest.approx(0.02)
    assert max(pauses) == pytest.approx(0.05)
    assert len(pauses) > 20


def test_a_dead_leader_leads_to_another_node_and_to_doubt() -> None:
    client, ask = opened()
    again = one(client.step(NodeClosed("n1"), 0.1))
    assert submitted(again)[1:] == (9, 1)
    assert again.node != ask.node
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("info", error="timeout")


def test_another_nodes_closed_connection_does_not_matter() -> None:
    client, _ = opened()
    assert client.step(NodeClosed("n2"), 0.1) == []


def test_what_never_left_leaves_no_doubt() -> None:
    client = session()
    asks = client.begin(PUT, 0.0, TIMEOUT)
    nodes = []
    while asks:
        nodes.append(asks[0].node)
        asks = client.step(NotSent(asks[0].ask), 0.0)
    assert nodes == ["n1", "n2", "n3"]
    assert deadline(client) == pytest.approx(0.02)
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("fail", error="no node could be reached")


def test_an_attempt_that_takes_too_long_is_repeated_elsewhere_and_still_counts() -> None:
    client, ask = opened()
    assert deadline(client) == 0.5
    assert client.step(Woken(), 0.4) == []  # too early
    again = one(client.step(Woken(), 0.5))
    assert submitted(again) == ("n2", 9, 1)
    assert one(client.step(Woken(), 1.0)).node == "n3"
    assert answer(client, ask, DONE, 1.1) == []  # the late answer of the first attempt
    assert client.outcome == Outcome("ok", None)


def test_a_leader_that_did_not_answer_but_is_still_followed_is_asked_again_while_the_search_goes_on() -> None:
    """Paused, or only a lost message: nobody can tell, so it gets another attempt that holds nothing up."""
    client, _ = opened()
    elsewhere = one(client.step(Woken(), 0.5))
    again = one(answer(client, elsewhere, requests.NotLeader("n1"), 0.6))
    assert submitted(again) == ("n1", 9, 1)
    assert deadline(client) < 0.65
    onward = one(client.step(Woken(), deadline(client)))
    assert onward.node == "n3"
    assert answer(client, onward, requests.NotLeader("n1"), 0.7) == []  # it was asked just now


def test_a_pause_between_attempts_lengthens_nobodys_avoidance() -> None:
    """One lost reply must not keep the leader avoided for the rest of the operation."""
    client, _ = opened()
    asks = client.step(Woken(), 0.5)
    now = 0.5
    while now < 1.6:
        asks = answer(client, asks[0], requests.NotLeader(None), now) if asks else client.step(Woken(), now)
        now += 0.01
    asked = set()
    while len(asked) < 3 and now < 3.0:
        asked |= {ask.node for ask in asks}
        asks = answer(client, asks[0], requests.NotLeader(None), now) if asks else client.step(Woken(), now)
        now += 0.01
    assert asked == {"n1", "n2", "n3"}


def test_an_unanswered_attempt_makes_a_timeout_unknown() -> None:
    client, ask = opened()
    again = one(client.step(Woken(), 0.5))
    answer(client, again, requests.NotLeader(None), 0.6)
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("info", error="timeout")
    assert ask.ask != again.ask


def test_a_timeout_while_only_opening_is_a_definite_failure() -> None:
    """An unused session has no effect on the operation."""
    client = session()
    client.begin(PUT, 0.0, TIMEOUT)
    client.step(Woken(), 0.5)
    client.step(NodeClosed("n1"), 0.6)
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("fail", error="no answer in time")


def test_a_lost_command_is_asked_again_and_stays_in_doubt() -> None:
    """R13."""
    client, ask = opened()
    again = one(answer(client, ask, requests.Lost()))
    assert submitted(again)[1:] == (9, 1)
    for _ in range(20):
        asks = answer(client, again, requests.NotLeader(None))
        if not asks:
            break
        again = asks[0]
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("info", error="timeout")


def test_a_busy_leader_is_asked_again_after_a_pause() -> None:
    client, ask = opened()
    assert answer(client, ask, requests.Busy()) == []
    again = one(client.step(Woken(), deadline(client)))
    assert again.node == "n1"
    answer(client, again, requests.Busy())
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("fail", error="the leader has too much in flight")


def test_an_expired_session_without_doubt_is_opened_anew() -> None:
    """Thesis checklist 12."""
    client, ask = opened()
    opening = one(answer(client, ask, requests.Expired()))
    assert WIRE.decode(opening.body) == requests.OpenSession()
    again = one(answer(client, opening, requests.Opened(12)))
    assert submitted(again) == ("n1", 12, 1)
    answer(client, again, DONE)
    assert client.outcome == Outcome("ok", None)


@pytest.mark.parametrize("doubt", ["lost", "unanswered", "closed"])
def test_an_expired_session_with_doubt_is_unknown(doubt: str) -> None:
    """Thesis checklist 12: under another session the command could take effect twice."""
    client, ask = opened()
    if doubt == "lost":
        asks = answer(client, ask, requests.Lost())
    elif doubt == "closed":
        asks = client.step(NodeClosed("n1"), 0.1)
    else:
        asks = client.step(Woken(), 0.5)
    assert answer(client, one(asks), requests.Expired(), 0.6) == []
    assert client.outcome == Outcome("info", error="session expired")
    assert WIRE.decode(one(client.begin(PUT, 1.0, TIMEOUT)).body) == requests.OpenSession()


def test_a_rejected_command_failed_for_the_services_own_reason() -> None:
    client, ask = opened()
    answer(client, ask, requests.Rejected("precondition-failed"))
    assert client.outcome == Outcome("fail", error="precondition-failed")


def test_a_second_session_from_a_repeated_opening_is_not_used() -> None:
    client = session()
    first = one(client.begin(PUT, 0.0, TIMEOUT))
    second = one(client.step(Woken(), 0.5))
    ask = one(answer(client, second, requests.Opened(5), 0.6))
    assert answer(client, first, requests.Opened(4), 0.6) == []
    answer(client, ask, DONE)
    assert submitted(one(client.begin(PUT, 1.0, TIMEOUT)))[1:] == (5, 2)


def test_answers_to_earlier_operations_are_ignored() -> None:
    client, first = opened()
    client.step(Woken(), TIMEOUT)
    second = one(client.begin(PUT, 6.0, TIMEOUT))
    before = client.deadline
    for late in (DONE, requests.Lost(), requests.Expired(), requests.Opened(3)):
        assert answer(client, first, late, 6.1) == []
    assert client.step(NotSent(first.ask), 6.1) == []
    assert client.step(Started(), 6.1) == []
    assert (client.busy, client.deadline) == (True, before)
    answer(client, second, DONE, 6.2)
    assert client.outcome == Outcome("ok", None)
    assert answer(client, second, requests.Lost(), 6.3) == []
    assert client.outcome == Outcome("ok", None)


def test_an_earlier_attempt_that_never_left_starts_no_further_one() -> None:
    client, first = opened()
    again = one(client.step(Woken(), 0.5))
    assert client.step(NotSent(first.ask), 0.6) == []
    answer(client, again, requests.NotLeader(None), 0.7)
    client.step(Woken(), TIMEOUT)
    assert client.outcome is not None
    assert client.outcome.type == "fail"


def test_an_answer_that_cannot_be_read_leaves_doubt() -> None:
    client, ask = opened()
    asks = client.step(Answered(ask.ask, True, b"\xc1"), 0.1)
    while asks:
        asks = client.step(NotSent(asks[0].ask), 0.1)
    client.step(Woken(), TIMEOUT)
    assert client.outcome is not None
    assert client.outcome.type == "info"


UNREADABLE = {
    "not UTF-8": b"\xa1\xff",
    "a dict as a key": b"\x81\x80\x01",
    "no instant": b"\xc7\x0c\xff" + b"\xff" * 12,
}


@pytest.mark.parametrize("result", [pytest.param(data, id=why) for why, data in UNREADABLE.items()])
@pytest.mark.parametrize("operation", [Take("q", 5.0), Get("x")])
def test_a_result_that_cannot_be_read_is_unknown_and_the_session_goes_on(operation: Operation, result: bytes) -> None:
    """Another client stored it: it must not end whoever comes upon it."""
    client, ask = opened()
    answer(client, ask, DONE)
    ask = one(client.begin(operation, 1.0, TIMEOUT))
    leased = requests.Granted(Raw(result), 1.0, 6.0)
    assert answer(client, ask, leased if isinstance(operation, Take) else requests.Done(Raw(result)), 1.1) == []
    outcome = client.outcome
    assert outcome is not None
    assert (outcome.type, outcome.value, outcome.until) == ("info", None, None)
    assert outcome.error is not None
    assert outcome.error.startswith("a result that cannot be read")
    assert (client.busy, client.deadline) == (False, None)
    again = one(client.begin(PUT, 2.0, TIMEOUT))
    assert submitted(again)[:2] == ("n1", 9)
    answer(client, again, DONE, 2.1)
    assert client.outcome == Outcome("ok", None)


def test_a_node_that_is_no_replicated_service_refuses_definitely() -> None:
    client = session()
    ask = one(client.begin(PUT, 0.0, TIMEOUT))
    assert client.step(Answered(ask.ask, False, WIRE.encode("Greeter answers no puts")), 0.1) == []
    assert client.outcome == Outcome("fail", error="Greeter answers no puts")


# --- requests to users' nodes ---


def plain(to: str | None = None) -> tuple[Session, Ask]:
    client = session()
    return client, one(client.begin(PlainRequest({"give": "id"}, to), 0.0, TIMEOUT))


def test_a_plain_request_goes_to_its_node_and_brings_back_the_body() -> None:
    client, ask = plain("n2")
    assert (ask.node, PLAIN.decode(ask.body)) == ("n2", {"give": "id"})
    client.step(Answered(ask.ask, True, PLAIN.encode([1, 2])), 0.1)
    assert client.outcome == Outcome("ok", [1, 2])


def test_a_refused_plain_request_failed() -> None:
    client, ask = plain()
    client.step(Answered(ask.ask, False, PLAIN.encode("why")), 0.1)
    assert client.outcome == Outcome("fail", error="why")


def test_a_plain_request_to_any_node_tries_those_that_can_be_reached() -> None:
    client, ask = plain()
    assert ask.node == "n1"
    again = one(client.step(NotSent(ask.ask), 0.0))
    assert again.node == "n2"


def test_a_plain_request_to_a_node_that_is_down_waits_for_it() -> None:
    client, ask = plain("n2")
    assert client.step(NotSent(ask.ask), 0.0) == []
    again = one(client.step(Woken(), deadline(client)))
    assert again.node == "n2"
    client.step(NotSent(again.ask), 0.1)
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("fail", error="no node could be reached")


def test_a_plain_request_that_left_is_never_repeated() -> None:
    client, ask = plain()
    assert client.step(Woken(), 0.5) == []
    assert deadline(client) == TIMEOUT
    client.step(Woken(), TIMEOUT)
    assert client.outcome == Outcome("info", error="timeout")
    client, ask = plain()
    assert client.step(NodeClosed(ask.node), 0.1) == []
    assert client.outcome == Outcome("info", error="connection closed")


# --- whatever the answers, and whatever their order ---

REPLIES: list[Any] = [
    DONE,
    requests.Granted(Raw(pack(7)), 1.0, 2.0),
    requests.Waiting(3.0),
    requests.Rejected("precondition-failed"),
    requests.Opened(7),
    requests.NotLeader(None),
    requests.NotLeader("n1"),
    requests.NotLeader("n3"),
    requests.Busy(),
    requests.Lost(),
    requests.Expired(),
    None,  # bytes that cannot be read
]
DEFINITE = (
    requests.NotLeader,
    requests.Busy,
    requests.Expired,
    requests.Done,
    requests.Granted,
    requests.Rejected,
)


class Wire:
    """Every attempt that left, and whether it was definitely refused; drives one operation with given events."""

    def __init__(self, operation: Operation) -> None:
        self.client = session()
        self.now = 0.0
        self.attempts: dict[int, Ask] = {}
        self.settled: set[int] = set()  # attempts that certainly have no effect
        self.rejected = False
        self.take(self.client.begin(operation, 0.0, TIMEOUT))

    def take(self, asks: list[Ask]) -> None:
        for ask in asks:
            assert ask.ask not in self.attempts, "request numbers are unique"
            self.attempts[ask.ask] = ask
            if isinstance(WIRE.decode(ask.body), requests.OpenSession):
                self.settled.add(ask.ask)

    def step(self, event: ClientEvent) -> None:
        if self.client.busy:
            self.take(self.client.step(event, self.now))

    def play(self, kind: int, which: int, reply: Any, wait: float) -> None:
        self.now += wait
        ask = self.attempts[sorted(self.attempts)[which % len(self.attempts)]]
        if kind == 0:
            self.step(NodeClosed(ask.node))
        elif kind == 1 and ask.ask == max(self.attempts):
            self.settled.add(ask.ask)
            self.step(NotSent(ask.ask))
        elif kind == 2:
            self.step(Woken())
        elif reply is None:
            self.step(Answered(ask.ask, True, b"\xc1"))
        else:
            if isinstance(reply, DEFINITE):
                self.settled.add(ask.ask)
            self.rejected |= isinstance(reply, requests.Rejected)
            self.step(Answered(ask.ask, True, WIRE.encode(reply)))


plays = st.lists(
    st.tuples(
        st.integers(0, 9), st.integers(0, 50), st.sampled_from(REPLIES), st.sampled_from([0.0, 0.001, 0.05, 0.5])
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(operation=st.sampled_from([PUT, Get("x")]), events=plays)
def test_an_operation_fails_only_if_every_attempt_was_definitely_refused_and_always_ends(
    operation: Operation, events: list[tuple[int, int, Any, float]]
) -> None:
    wire = Wire(operation)
    for event in events:
        if not wire.client.busy:
            break
        assert wire.client.deadline is not None
        assert wire.client.deadline <= TIMEOUT
        wire.play(*event)
    for _ in range(1000):  # from here on: silence
        if not wire.client.busy:
            break
        wire.now = max(wire.now, deadline(wire.client))
        wire.step(Woken())
    outcome = wire.client.outcome
    assert outcome is not None, "it never ends"
    if outcome.type == "fail" and not wire.rejected:
        assert set(wire.attempts) <= wire.settled
    assert wire.now <= max(TIMEOUT, sum(wait for *_, wait in events))


# --- commands that wait, and leases ---

LEASE_S = 10.0


def acquiring(wait: float = 60.0, now: float = 0.0) -> tuple[Session, Ask]:
    """A session that asks n1, the leader, for a lock."""
    client, ask = opened(now)
    answer(client, ask, DONE, now)
    return client, one(client.begin(Acquire((Claim("a"),), LEASE_S, wait), now, TIMEOUT))


def granted(asked: float, until: float) -> requests.Granted:
    return requests.Granted(Raw(pack(7)), asked, until)


def test_who_waits_asks_the_same_node_again_at_once_with_the_same_serial() -> None:
    client, ask = acquiring()
    for _ in range(10):
        ask = one(answer(client, ask, requests.Waiting(3.0), 0.3))
        assert submitted(ask) == ("n1", 9, 2)
    answer(client, ask, granted(1.0, 11.0), 0.4)
    assert client.outcome is not None
    assert (client.outcome.type, client.outcome.value) == ("ok", 7)


def test_who_waits_does_not_know_what_became_of_it_if_nobody_answers_any_more() -> None:
    client, ask = acquiring(wait=2.0)
    asks = answer(client, ask, requests.Waiting(3.0), 0.3)
    while client.busy:
        for ask in asks:
            asks = answer(client, ask, requests.NotLeader(None), deadline(client))
        asks = asks or client.step(Woken(), deadline(client))
    assert client.outcome == Outcome("info", error="timeout")


@pytest.mark.parametrize("operation", [Acquire((Claim("a"),), LEASE_S, 60.0), Take("q", LEASE_S, 60.0)])
def test_an_operation_that_waits_is_given_up_that_much_later(operation: Operation) -> None:
    client, ask = opened()
    answer(client, ask, DONE)
    ask = one(client.begin(operation, 0.0, TIMEOUT))
    now = 0.0
    while now < 64.5:
        now += 0.3
        ask = one(answer(client, ask, requests.Waiting(now), now))
    client.step(Woken(), 64.99)
    assert client.busy
    client.step(Woken(), 65.0)
    assert client.outcome == Outcome("info", error="timeout")


def test_a_late_word_that_an_earlier_attempt_waits_starts_no_further_one() -> None:
    client, first = acquiring()
    second = one(client.step(Woken(), 0.5))
    before = client.deadline
    assert answer(client, first, requests.Waiting(3.0), 0.6) == []
    assert client.deadline == before
    assert submitted(one(answer(client, second, requests.NotLeader("n1"), 0.7))) == ("n1", 9, 2)


def test_who_waits_and_lost_a_message_asks_no_more_often_than_others() -> None:
    """The node holds the latest request only: one before, whose answer was lost, must not be waited for beside it."""
    client, _ = acquiring()
    elsewhere = one(client.step(Woken(), 0.5))
    ask = one(answer(client, elsewhere, requests.NotLeader("n1"), 0.5))
    assert ask.node == "n1"
    again = one(answer(client, ask, requests.Waiting(3.0), 0.51))
    assert (again.node, deadline(client)) == ("n1", pytest.approx(1.01))


def test_a_word_that_who_asked_twice_waits_gives_the_later_request_its_time() -> None:
    """Else it would be replaced at the node before the node answers, again and again."""
    client, _ = acquiring()
    elsewhere = one(client.step(Woken(), 0.5))
    first = one(answer(client, elsewhere, requests.NotLeader("n1"), 0.5))
    elsewhere = one(client.step(Woken(), deadline(client)))
    second = one(answer(client, elsewhere, requests.NotLeader("n1"), 0.8))
    assert (first.node, second.node) == ("n1", "n1")
    assert deadline(client) < 0.85
    assert answer(client, first, requests.Waiting(3.0), 0.81) == []
    assert deadline(client) == pytest.approx(1.31)
    answer(client, second, granted(1.0, 11.0), 1.0)
    assert client.outcome is not None


def test_who_waited_long_looks_for_the_next_leader_without_a_pause() -> None:
    client, ask = acquiring()
    for _ in range(50):
        ask = one(answer(client, ask, requests.Waiting(3.0), 0.3))
    ask = one(answer(client, ask, requests.Lost(), 0.4))
    assert one(answer(client, ask, requests.NotLeader("n3"), 0.4)).node == "n3"


def test_a_refusal_after_a_wait_is_definite() -> None:
    client, ask = acquiring()
    ask = one(answer(client, ask, requests.Waiting(3.0), 0.3))
    answer(client, ask, requests.Rejected("not-granted: it was given up"), 0.4)
    assert client.outcome == Outcome("fail", error="not-granted: it was given up")


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    """Cut by what the two clocks may differ."""
    client, ask = acquiring(now=100.0)
    answer(client, ask, granted(20.0, 30.0), 103.0)
    assert client.outcome == Outcome("ok", 7, until=pytest.approx(100.0 + LEASE_S * (1 - CLOCK_DRIFT_MAX)))


def test_a_lease_that_was_waited_for_counts_from_the_last_request_that_was_answered() -> None:
    """Where log time stood still meanwhile, that is much later than when it was asked for."""
    client, ask = acquiring(now=100.0)
    for tenths in range(3, 300, 3):
        ask = one(answer(client, ask, requests.Waiting(20.0 + tenths / 30), 100.0 + tenths / 10))
    answer(client, ask, granted(20.0, 40.0), 130.0)
    outcome = client.outcome
    assert outcome is not None
    assert outcome.until == pytest.approx(129.4 + (40.0 - 29.9) * (1 - CLOCK_DRIFT_MAX))


class Cluster:
    """Leaders one after the other, and a lock that is free some time after it was asked for; seconds of real time.

    Each reign: for how long, by how much its clock is wrong, for how long nobody leads then, and what part of it the
    next leader has no entry of. The last reign goes on for ever.
    """

    def __init__(self, reigns: list[tuple[float, float, float, float]], free_after: float, lease: float) -> None:
        self._spans: list[tuple[float, float, float]] = []  # from when on, log time there, and how fast it goes
        now, time = 0.0, 50.0
        for length, drift, gap, fall in reigns:
            rate = 1 + drift * CLOCK_DRIFT_MAX
            self._spans += [(now, time, rate), (now + length, time + length * rate, 0.0)]
            now, time = now + length + gap, time + (length * rate) * (1 - fall)
        self._spans.append((now, time, 1 + CLOCK_DRIFT_MAX))
        self._free_after = free_after
        self._lease = lease
        self._asked: tuple[float, float] | None = None  # when, by both clocks
        self.grant: tuple[float, requests.Granted] | None = None

    def _span(self, now: float) -> tuple[float, float, float]:
        return [span for span in self._spans if span[0] <= now][-1]

    def leads(self, now: float) -> bool:
        return self._span(now)[2] > 0

    def log_time(self, now: float) -> float:
        begin, time, rate = self._span(now)
        return time + (now - begin) * rate

    def reaches(self, time: float, now: float) -> float:
        """When, from `now` on, it is that log time for the first time."""
        ends = [span[0] for span in self._spans[1:]] + [inf]
        for (begin, start, rate), end in zip(self._spans, ends, strict=True):
            if end > now and rate:
                instant = max(now, begin, begin + (time - start) / rate)
                if instant < end:
                    return instant
        raise AssertionError("the last reign goes on for ever")

    def asked(self, now: float, patience: float) -> tuple[float, Any]:
        """When the leader of that moment answers, and what."""
        if self._asked is None:
            free = now + self._free_after
            while not self.leads(free):
                free += 0.01
            self._asked = (now, self.log_time(now))
            self.grant = (free, granted(self._asked[1], self.log_time(free) + self._lease))
        assert self.grant is not None
        free, grant = self.grant
        if free <= now + patience:
            return max(free, now), grant
        return now + patience, requests.Waiting(self.log_time(now + patience))


@settings(max_examples=150, deadline=None)
@given(
    reigns=st.lists(
        st.tuples(st.floats(0.1, 5.0), st.floats(-1, 1), st.floats(0.0, 2.0), st.floats(0, 0.5) | st.just(0.0)),
        max_size=4,
    ),
    free_after=st.floats(0.0, 20.0) | st.just(0.0),
    lease=st.floats(0.01, 100.0),
    patience=st.sampled_from([0.0, 0.05, 0.3]),
    delays=st.lists(st.floats(0.0, 0.4) | st.none(), min_size=1, max_size=30),
)
def test_a_lease_is_over_for_its_holder_before_anybody_else_can_be_granted_it(
    reigns: list[tuple[float, float, float, float]],
    free_after: float,
    lease: float,
    patience: float,
    delays: list[float | None],
) -> None:
    """LK10. `delays`: of one message after the other, none where it is lost; all over again when there are no more."""
    cluster = Cluster(reigns, free_after, lease)
    messages = itertools.cycle([*delays, 0.001])
    arrivals: list[tuple[float, int, str, Any]] = []  # when, in which order, where, what
    offset, order = 1000.0, 0  # of the client's clock

    def leave(now: float, where: str, what: Any) -> None:
        nonlocal order
        order += 1
        delay = next(messages)
        if delay is not None:
            heapq.heappush(arrivals, (now + delay, order, where, what))

    client, ask = acquiring(wait=60.0, now=offset)
    begun, asks = offset, [ask]
    now = 0.0
    while client.busy:
        for ask in asks:
            leave(now, "leader", ask)
        wakes_at = deadline(client) - offset
        if not arrivals or wakes_at <= arrivals[0][0]:
            now = max(now, wakes_at)
            asks = client.step(Woken(), max(now + offset, deadline(client)))
            continue
        now, _, where, what = heapq.heappop(arrivals)
        asks = []
        if where == "client":
            asks = answer(client, *what, now=now + offset)
        elif cluster.leads(now):
            answered_at, reply = cluster.asked(now, patience)
            if cluster.leads(answered_at):
                leave(answered_at, "client", (what, reply))
    outcome = client.outcome
    assert outcome is not None
    if outcome.type != "ok":
        return
    assert outcome.until is not None
    assert cluster.grant is not None
    granted_at, grant = cluster.grant
    assert outcome.until - offset <= cluster.reaches(grant.until, granted_at) + 1e-9
    assert outcome.until >= begun + lease * (1 - CLOCK_DRIFT_MAX) - 1e-9


@pytest.mark.parametrize("wait", [nan, inf, -1.0, WAIT_S_MAX + 1])
def test_a_wait_that_makes_no_sense_does_not_put_off_giving_up(wait: float) -> None:
    client = session()
    client.begin(Acquire((Claim("l"),), 1.0, wait), 0.0, TIMEOUT)
    client.step(Woken(), TIMEOUT)
    assert client.outcome is not None
