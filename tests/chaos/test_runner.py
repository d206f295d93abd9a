"""A workload's client, driven by hand: when it asks, what it asks again, and what its history says of that.

The session below it is a double that knows no cluster: each operation comes to what the test says.
"""

import pytest

from chaos.history import NS_PER_S, Recorder, is_lapse, operations
from chaos.workloads.api import Op
from chaos.workloads.runner import REPEATS_MAX, Allowance, WorkloadClient
from testbed.base.rand import Streams
from testbed.client import Outcome, PlainRequest, Started, Told, Woken
from testbed.core.services.commands import Take

ORIGIN = 100.0
PROCESSES = 4
TIMEOUT = 5.0
LEASES = {"acquire": "release"}
OK, FAIL, INFO = Outcome("ok", 7), Outcome("fail", error="refused"), Outcome("info", error="timeout")


class Scripted:
    """A session whose operations end when they are told to, and as they are told to."""

    def __init__(self):
        self.begun, self.timeouts = [], []
        self.outcome = self.next = None
        self.deadline = None

    def begin(self, operation, now, timeout):
        assert self.outcome is not None or not self.begun, "one operation at a time"
        self.begun.append((operation, now))
        self.timeouts.append(timeout)
        self.outcome = None
        return []

    def step(self, event, now):
        if self.next is not None:
            self.outcome, self.next = self.next, None
        return []


class Hand:
    """A client and the time it is told. What its generator was sent is kept in `sent`."""

    def __init__(self, *ops, doing=None, process=1, interval=0.0, **settings):
        self.session, self.recorder, self.now, self.sent = Scripted(), Recorder(), ORIGIN, []
        self.client = WorkloadClient(
            doing or self.yielding(*ops),
            self.session,
            self.recorder,
            process=process,
            processes=PROCESSES,
            interval=interval,
            timeout=TIMEOUT,
            random=Streams(1).stream("hand"),
            origin=ORIGIN,
            leases=LEASES,
            **settings,
        )
        self.client.step(Started(), self.now)

    def yielding(self, *ops):
        for op in ops:
            self.sent.append((yield op))

    def wake(self, at=None):
        """Let it go on, `at` seconds after the origin."""
        self.now = self.now if at is None else ORIGIN + at
        self.client.step(Woken(), self.now)

    def end(self, outcome, at=None):
        """Its operation comes to this."""
        self.session.next = outcome
        self.wake(at)

    def tell(self, what):
        self.client.step(Told(what), self.now)

    @property
    def asked(self):
        """When each request was made, in seconds since the origin."""
        return [now - ORIGIN for _, now in self.session.begun]

    @property
    def history(self):
        return [(event.process, event.type, event.f, event.value) for event in self.recorder.events()]


def asking(f="f", **settings):
    return Op(f, request="please", **settings)


# --- pace ---


def test_an_operation_that_is_to_come_later_is_not_asked_before():
    hand = Hand(asking("soon"), asking("late", after=2.0), asking("next"))
    hand.wake(0.0)
    hand.end(OK, at=1.0)
    assert hand.client.deadline == ORIGIN + 3.0
    hand.wake(2.999)
    assert hand.asked == [0.0]
    hand.wake(3.0)
    assert hand.asked == [0.0, 3.0]
    hand.end(OK, at=3.5)
    assert hand.asked == [0.0, 3.0, 3.5]


def test_the_first_operation_of_all_may_be_to_come_later_too():
    hand = Hand(asking(after=1.5))
    hand.wake(1.0)
    assert hand.asked == []
    hand.wake(1.5)
    assert hand.asked == [1.5]


def test_an_operation_with_a_timeout_of_its_own_is_given_up_then_however_long_it_was_to_wait():
    """A session adds to a timeout what its operation is ready to wait."""
    hand = Hand(asking(), asking(timeout=0.25), Op("take", request=Take("jobs", 1.0, wait=10.0), timeout=0.25))
    hand.wake(0.0)
    hand.end(OK)
    hand.end(INFO)
    assert hand.session.timeouts == [TIMEOUT, 0.25, 0.25 - 10.0]


# --- what is asked again ---


def test_an_idempotent_operation_of_unknown_outcome_is_asked_again_and_is_one_operation_of_the_history():
    hand = Hand(asking(idempotent=True, value=3), asking("next"))
    hand.wake(0.0)
    hand.end(INFO, at=5.0)
    hand.end(INFO, at=10.0)
    assert hand.sent == []
    hand.end(OK, at=11.0)
    assert hand.sent == [OK]
    assert hand.asked == [0.0, 5.0, 10.0, 11.0]
    assert hand.session.begun[:3] == [(PlainRequest("please"), ORIGIN + at) for at in (0.0, 5.0, 10.0)]
    assert hand.history == [(1, "invoke", "f", 3), (1, "ok", "f", 7), (1, "invoke", "next", None)]
    assert hand.client.counts == {"ok": 1, "fail": 0, "info": 0}


def test_what_stays_unknown_is_asked_again_only_so_often():
    hand = Hand(asking(idempotent=True), asking("next", idempotent=True))
    hand.wake(0.0)
    for _ in range(REPEATS_MAX):
        hand.end(INFO)
        assert hand.sent == []
    hand.end(INFO)
    assert hand.sent == [INFO]
    assert len(hand.asked) == 1 + REPEATS_MAX + 1  # the last one is the next operation's
    hand.end(INFO)
    assert len(hand.asked) == 1 + REPEATS_MAX + 2  # which has its own repeats
    assert [kind for _, kind, _, _ in hand.history] == ["invoke", "info", "invoke"]


def test_a_refusal_after_a_repeat_says_nothing_about_the_first_time():
    hand = Hand(asking(idempotent=True))
    hand.wake(0.0)
    hand.end(INFO)
    hand.end(FAIL)
    assert hand.sent == [Outcome("info", error="refused")]
    assert [(event.type, event.error) for event in hand.recorder.events()] == [("invoke", None), ("info", "refused")]
    assert hand.client.counts == {"ok": 0, "fail": 0, "info": 1}


def test_a_refusal_at_the_first_time_is_one():
    hand = Hand(asking(idempotent=True))
    hand.wake(0.0)
    hand.end(FAIL)
    assert (hand.sent, len(hand.asked)) == ([FAIL], 1)


def test_an_operation_that_is_not_idempotent_is_asked_once():
    hand = Hand(asking())
    hand.wake(0.0)
    hand.end(INFO)
    assert (hand.sent, len(hand.asked)) == ([INFO], 1)


# --- what the history shows ---


def test_a_client_goes_on_under_another_number_after_each_unknown_outcome_and_only_then():
    hand = Hand(*(asking() for _ in range(5)))
    hand.wake(0.0)
    for outcome in (OK, INFO, FAIL, INFO):
        hand.end(outcome)
    assert [process for process, kind, _, _ in hand.history if kind == "invoke"] == [1, 1, 5, 5, 9]
    assert [one.outcome for one in operations(hand.recorder.events())] == ["ok", "info", "fail", "info", "info"]


def test_what_an_operation_shows_is_asked_of_ok_outcomes_with_a_value_only():
    ops = [asking(value=number, shows=lambda answer: [answer, "shown"]) for number in range(4)]
    hand = Hand(*ops, asking(value=4))
    hand.wake(0.0)
    for outcome in (OK, FAIL, Outcome("info", 8), Outcome("ok"), OK):
        hand.end(outcome)
    completed = [(kind, value) for _, kind, _, value in hand.history if kind != "invoke"]
    assert completed == [("ok", [7, "shown"]), ("fail", 1), ("info", 2), ("ok", 3), ("ok", 7)]
    assert [outcome.value for outcome in hand.sent] == [7, None, 8, None, 7]  # the client is told what was answered


def test_a_lease_that_was_granted_may_end_by_itself_when_it_is_over_and_nobody_completes_that():
    hand = Hand(*(asking("acquire", key=key) for key in ("x", "y")), asking("read", key="x"))
    hand.wake(0.0)
    for token, until in ((7, 4.0), (8, 3.0)):
        hand.end(Outcome("ok", token, until=ORIGIN + until), at=1.0)
    hand.end(Outcome("ok", 9, until=ORIGIN + 2.0))  # a read gives no lease, whatever it is answered
    hand.recorder.add(5 * NS_PER_S, 3, "invoke", "read", "x")
    lapses = [event for event in hand.recorder.events() if is_lapse(event.process)]
    assert [(one.process, one.time, one.type, one.f, one.key, one.value) for one in lapses] == [
        (-2, 3 * NS_PER_S, "invoke", "release", "y", 8),
        (-1, 4 * NS_PER_S, "invoke", "release", "x", 7),
    ]
    assert [one.outcome for one in operations(hand.recorder.events()) if is_lapse(one.process)] == ["info", "info"]
    assert hand.client.counts == {"ok": 3, "fail": 0, "info": 0}


def test_a_lease_ends_no_sooner_than_it_was_asked_for():
    hand = Hand(asking("acquire"))
    hand.wake(2.0)
    hand.end(Outcome("ok", 7, until=ORIGIN + 1.0), at=4.0)
    assert [(event.process, event.time / NS_PER_S) for event in hand.recorder.events()] == [(1, 2), (-1, 2), (1, 4)]


@pytest.mark.parametrize("outcome", [FAIL, INFO])
def test_a_lease_that_was_refused_or_that_nobody_knows_of_has_no_end(outcome):
    hand = Hand(asking("acquire"))
    hand.wake(0.0)
    hand.end(outcome)
    assert [process for process, _, _, _ in hand.history] == [1, 1]


# --- what is done last ---


def test_a_client_that_is_stopped_finishes_its_operation_and_does_then_what_it_is_told_at_no_pace():
    hand = Hand(*(asking("run") for _ in range(9)), interval=60.0, allowance=Allowance(2))
    hand.wake(60.0)
    hand.tell(None)
    assert not hand.client.finished
    hand.end(OK, at=61.0)
    assert hand.client.finished
    assert not hand.client.drained  # for it was not told to
    assert (hand.client.deadline, len(hand.asked)) == (None, 1)
    hand.tell(hand.yielding(*(asking("drain") for _ in range(4))))
    assert not hand.client.drained
    for at in (61.5, 61.6, 61.7, 61.8):  # more than its allowance, and no minute between two of them
        assert not hand.client.finished
        hand.wake(at)
        hand.end(OK)
    assert hand.client.drained
    assert hand.client.deadline is None
    assert [f for _, kind, f, _ in hand.history if kind == "invoke"] == ["run", *4 * ["drain"]]


def test_what_is_done_last_is_recorded_under_the_clients_present_number():
    hand = Hand(asking("run"))
    hand.wake(0.0)
    hand.end(INFO)
    hand.tell(None)
    hand.tell(hand.yielding(asking("drain")))
    hand.wake()
    hand.end(OK)
    assert hand.history[-2:] == [(5, "invoke", "drain", None), (5, "ok", "drain", 7)]


def test_a_client_with_nothing_to_do_last_is_done_at_once():
    hand = Hand(asking())
    hand.tell(None)
    hand.tell(hand.yielding())
    assert hand.client.drained
    assert hand.asked == []


def test_a_client_that_had_ended_before_does_what_it_is_told_last_all_the_same():
    hand = Hand(asking())
    hand.wake(0.0)
    hand.end(OK)
    assert hand.client.finished
    hand.tell(None)
    hand.tell(hand.yielding(asking("drain")))
    assert not hand.client.drained
    hand.wake(1.0)
    assert hand.asked == [0.0, 1.0]
    hand.end(OK)
    assert hand.client.drained


def test_what_is_done_last_is_not_done_while_an_operation_is_open():
    hand = Hand()
    hand.tell(None)
    hand.tell(hand.yielding(asking("drain", idempotent=True)))
    hand.wake()
    hand.end(INFO)
    assert not hand.client.drained
    hand.end(OK)
    assert hand.client.drained


def failing(op):
    yield op
    raise AssertionError("nothing was there")


def test_a_client_that_failed_has_nothing_more_to_do_and_is_done():
    hand = Hand(doing=failing(asking()))
    hand.wake(0.0)
    hand.end(OK)
    assert hand.client.broken is not None
    assert hand.client.drained
    hand.tell(None)
    hand.tell(hand.yielding(asking("drain")))
    hand.wake()
    assert hand.client.drained
    assert hand.asked == [0.0]


def test_a_client_that_fails_in_what_it_does_last_is_done():
    hand = Hand()
    hand.tell(None)
    hand.tell(failing(asking("drain")))
    hand.wake()
    assert not hand.client.drained
    hand.end(OK)
    assert hand.client.drained
    assert hand.client.broken.startswith("client 1, test_runner.py:")
    assert hand.client.broken.endswith(": nothing was there")
