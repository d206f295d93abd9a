"""A client's session: where it turns, what it repeats, and what it may say about an operation in the end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.base.codec import Codec, Raw, pack
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
from testbed.core.services.commands import Get, Put, value

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
DEFINITE = (requests.NotLeader, requests.Busy, requests.Expired, requests.Done, requests.Rejected)


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
