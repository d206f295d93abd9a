"""One node with everything around it: the order of hooks, timers, what is saved, and what garbage does."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from testbed.base.codec import Codec, pack, unpack
from testbed.core.membership import Accusation, Beat
from testbed.host import (
    INCARNATION_KEY,
    REPLACED_TIMERS_MAX,
    ClientRequest,
    Closed,
    Connected,
    Host,
    HostConfig,
    PeerMessage,
    Publication,
)
from testbed.node import Node, Outbox, Request


class Hello(msgspec.Struct, frozen=True):
    name: str
    count: int


class Goodbye(msgspec.Struct, frozen=True):
    """Declared by nobody."""

    name: str


class Recorder(Node):
    """Notes every hook; `script` is called in each of them."""

    messages = (Hello,)

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.todo: Callable[[], None] | None = None  # carried out at the end of the next step

    def script(self, hook: str, *args: Any) -> None:
        self.calls.append((hook, *args))

    def on_start(self) -> None:
        self.script("start")

    def on_message(self, sender: str, message: Any) -> None:
        self.script("message", sender, message)

    def on_request(self, request: Request, body: Any) -> None:
        self.script("request", body)

    def on_timer(self, name: str) -> None:
        self.script("timer", name)

    def on_membership(self, peer: str, state: Any) -> None:
        self.script("membership", peer, state)

    def on_connected(self, peer: str) -> None:
        self.script("connected", peer)

    def on_closed(self, peer: str) -> None:
        self.script("closed", peer)

    def on_step(self) -> None:
        self.script("step")
        todo, self.todo = self.todo, None
        if todo is not None:
            todo()

    def on_saved(self) -> None:
        self.script("saved")


CODEC = Codec((Hello,), internal=(Beat,))
CONFIG = HostConfig("n1", ("n1", "n2", "n3"), heartbeat=0.1)


def host(
    node: type[Node] = Recorder, stored: Mapping[str, bytes] | None = None, now: float = 0.0
) -> tuple[Host, Any, Outbox]:
    found = Host(CONFIG, node, stored or {}, now)
    out = found.start(now)
    calls = getattr(found.node, "calls", None)
    if calls is not None:
        calls.clear()
    return found, found.node, out


def message(sender: str, value: Any) -> PeerMessage:
    return PeerMessage(sender, CODEC.encode(value))


def test_hooks_are_called_in_the_order_of_what_arrived_then_timers_then_the_end() -> None:
    found, node, _ = host()
    node.todo = lambda: node.set_timer("t", 0.0)
    found.step([], 0.0)
    node.calls.clear()
    found.step([message("n2", 1), Connected("n3"), Closed("n3"), message("n3", 2)], 0.05)
    assert node.calls == [
        ("message", "n2", 1),
        ("connected", "n3"),
        ("membership", "n3", "suspect"),  # the hint, to the failure detector first
        ("closed", "n3"),
        ("message", "n3", 2),
        ("timer", "t"),
        ("step",),
    ]
    node.calls.clear()
    found.saved(0.05)
    assert node.calls == [("saved",), ("step",)]


def test_structs_and_json_come_as_what_they_were_sent_as() -> None:
    found, node, _ = host()
    sent = [Hello("a", 1), {"a": [1, 2.5, None, "ü", True]}, None, 7, ["x"]]
    found.step([message("n2", value) for value in sent], 0.01)
    assert [call[2] for call in node.calls if call[0] == "message"] == sent


def test_a_published_message_reaches_on_message() -> None:
    found, node, _ = host()
    found.step([Publication("n2", CODEC.encode({"a": 1}))], 0.01)
    assert ("message", "n2", {"a": 1}) in node.calls


GARBAGE = {
    "bytes": b"\xc1\xff\x00",
    "nothing": b"",
    "an undeclared struct": Codec((Goodbye,)).encode(Goodbye("a")),
    "a wrong type in a struct": pack(("Hello", {"name": 1, "count": "x"})),
    "a missing field": pack(("Hello", {"name": "a"})),
    "no pair": pack([1]),
    "text that is no text": b"\x92\xa0\xa1\xff",
    "too deep": b"\x92\xa0" + b"\x91" * 100_000,
    "a cut message": CODEC.encode(Hello("a", 1))[:-1],
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_dropped_and_counted(data: bytes) -> None:
    found, node, _ = host()
    request = Request(None, 1)
    out = found.step([PeerMessage("n2", data), Publication("n2", data), ClientRequest(request, data)], 0.01)
    assert node.calls == [("step",)]
    assert found.counters["garbage"] == 3
    assert found.received["n2"] == 0
    assert [(asked, ok) for asked, ok, _ in out.replies] == [(request, False)]
    assert len([line for line in out.log if line.level == "WARNING"]) == 3


def test_lines_about_garbage_are_bounded() -> None:
    found, _, _ = host()
    out = found.step([PeerMessage("n2", b"\xc1")] * 100, 0.01)
    assert (found.counters["garbage"], len(out.log)) == (100, 20)


def test_received_messages_are_counted_per_peer() -> None:
    found, _, _ = host()
    found.step([message("n2", 1), message("n2", 2), Publication("n3", CODEC.encode(1))], 0.01)
    assert found.status()["received"] == {"n2": 2, "n3": 1}


# --- timers ---


def test_a_timer_fires_once_when_it_is_due() -> None:
    found, node, _ = host()
    node.todo = lambda: node.set_timer("t", 0.05)
    found.step([], 0.0)
    assert found.deadline == 0.05
    node.calls.clear()
    for now in (0.04, 0.05, 0.06):
        found.step([], now)
    assert [call for call in node.calls if call[0] == "timer"] == [("timer", "t")]


def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    found, node, _ = host()
    node.todo = lambda: [node.set_timer(name, after) for name, after in (("c", 0.03), ("a", 0.01), ("b", 0.02))]
    found.step([], 0.0)
    node.calls.clear()
    found.step([], 0.05)
    assert [call[1] for call in node.calls if call[0] == "timer"] == ["a", "b", "c"]


class Setter(Recorder):
    """Does with its timer what a message says, in the step in which the timer is due as well."""

    def on_message(self, sender: str, message: Any) -> None:
        if message is None:
            self.cancel_timer("t")
        else:
            self.set_timer("t", message)


@pytest.mark.parametrize(("then", "fired"), [(None, []), (0.0, [0.06]), (0.02, [0.07]), (5.0, [])])
def test_a_due_timer_that_is_replaced_or_cancelled_in_the_same_step_does_not_fire(
    then: float | None, fired: list[float]
) -> None:
    """`after=0` at the very instant of the old deadline is a replacement, too: it fires once, in the next step."""
    found, node, _ = host(Setter)
    node.todo = lambda: node.set_timer("t", 0.05)
    found.step([], 0.0)
    times = []
    for now in (0.05, 0.06, 0.07, 0.08, 0.09):
        node.calls.clear()
        found.step([message("n2", then)] if now == 0.05 else [], now)
        times += [now] * node.calls.count(("timer", "t"))
    assert times == fired


class Eager(Recorder):
    """Sets its timer anew, for now, each time it fires."""

    def on_timer(self, name: str) -> None:
        super().on_timer(name)
        self.set_timer(name, after=0)


def test_a_timer_set_for_now_in_its_own_hook_starves_nobody() -> None:
    found, node, _ = host(Eager)
    node.todo = lambda: node.set_timer("t", 0)
    found.step([], 0.0)
    node.calls.clear()
    found.step([message("n2", 1)], 0.01)
    assert node.calls == [("message", "n2", 1), ("timer", "t"), ("step",)]
    assert found.deadline <= 0.01
    found.step([message("n2", 2)], 0.01)
    assert node.calls.count(("timer", "t")) == 2


def test_a_timer_that_is_set_again_and_again_does_not_pile_up() -> None:
    found, node, _ = host()
    for turn in range(10_000):
        node.todo = lambda: node.set_timer("t", 100.0)
        found.step([], turn * 1e-6)
    assert len(found._due) <= REPLACED_TIMERS_MAX + 3
    node.calls.clear()
    found.step([], 200.0)
    assert node.calls.count(("timer", "t")) == 1


# --- what is saved ---


class Keeper(Recorder):
    def on_request(self, request: Request, body: Any) -> None:
        self.save("count", self.load("count", 0) + 1)
        self.save("last", body)
        self.send("n2", "before")
        self.publish("news")
        self.reply(request, self.load("count"))


def commit(stored: dict[str, bytes], out: Outbox) -> None:
    for key, data in out.saves.items():
        if data is None:
            stored.pop(key, None)
        else:
            stored[key] = data


def test_a_step_gives_saves_and_sends_together_and_nothing_of_it_is_early() -> None:
    found, _, _ = host(Keeper)
    request = Request("client", 1)
    out = found.step([ClientRequest(request, CODEC.encode({"a": 1}))], 0.01)
    assert out.saves == {"count": pack(1), "last": pack({"a": 1})}
    assert (out.early, out.sends) == ([], [("n2", CODEC.encode("before"))])
    assert (out.published, out.replies) == ([CODEC.encode("news")], [(request, True, CODEC.encode(1))])
    assert found.step([], 0.02).saves == {}


def test_what_a_node_saved_is_loaded_by_the_next_process() -> None:
    stored: dict[str, bytes] = {}
    for count in (1, 2, 3):
        found, node, out = host(Keeper, dict(stored))
        commit(stored, out)
        commit(stored, found.step([ClientRequest(Request(None, 1), CODEC.encode([count]))], 0.01))
        assert (node.load("count"), node.load("last")) == (count, [count])
    assert host(Keeper, stored)[1].load("count") == 3


def test_the_incarnation_is_raised_at_each_start_and_saved_with_the_first_beat_behind_it() -> None:
    stored: dict[str, bytes] = {}
    for boot in (1, 2, 3):
        found, node, out = host(stored=dict(stored))
        assert (found.boot, unpack(out.saves[INCARNATION_KEY] or b"")) == (boot, boot)
        beats = [CODEC.decode(beat) for beat in out.beats]
        assert all(beat.incarnation == boot for beat in beats)
        commit(stored, out)
        assert list(node.items()) == []  # the host's own key is none of the node's


def test_beats_say_what_the_node_shows_as_its_role() -> None:
    class Leading(Recorder):
        def on_status(self) -> Any:
            return {"role": "leader", "term": 4, "leader": "n1", "more": [1]}

    found, _, out = host(Leading)
    beats = [*out.beats, *found.step([], 1.0).beats]
    assert beats
    last = CODEC.decode(beats[-1])
    assert (last.node, last.role, last.term, last.leader) == ("n1", "leader", 4, "n1")
    assert found.status()["extra"]["more"] == [1]


@pytest.mark.parametrize("shown", [None, 7, "x", ["role"], {"role": 1, "term": True, "leader": 2.5}])
def test_a_status_of_any_shape_does_no_harm(shown: Any) -> None:
    class Odd(Recorder):
        def on_status(self) -> Any:
            return shown

    status = host(Odd)[0].status()
    assert (status["role"], status["term"], status["leader"], status["extra"]) == (None, None, None, shown)


def test_a_silent_peer_is_told_to_on_membership() -> None:
    found, node, _ = host()
    other = Host(HostConfig("n2", CONFIG.members, heartbeat=0.1), Recorder, {}, 0.0)
    beats = [*other.start(0.0).beats, *other.step([], 0.1).beats, *other.step([], 0.2).beats]
    found.step([Publication("n2", beat) for beat in beats], 0.2)
    now = 0.2
    while ("membership", "n2", "failed") not in node.calls:
        now += 0.05
        assert now < 20.0
        found.step([], now)
    states = [call[2] for call in node.calls if call[:2] == ("membership", "n2")]
    assert states[-2:] == ["suspect", "failed"]
    assert found.status()["views"]["n2"] == "failed"


# --- the end ---


@pytest.mark.parametrize("hook", ["on_message", "on_timer", "on_step", "on_request", "on_connected"])
def test_an_exception_in_a_hook_is_not_swallowed(hook: str) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise LookupError("a bug")

    found, node, _ = host()
    node.todo = lambda: node.set_timer("t", 0.0)
    found.step([], 0.0)
    broken = type("Broken", (Recorder,), {hook: fail})
    node.__class__ = broken
    with pytest.raises(LookupError, match="a bug"):
        found.step([message("n2", 1), Connected("n2"), ClientRequest(Request(None, 1), CODEC.encode(1))], 0.01)


def test_stopping_waits_for_the_node_but_not_for_ever() -> None:
    class Slow(Recorder):
        def on_stop(self) -> bool:
            return False

    found, _, _ = host(Slow)
    assert found.stop(0.1, last=False)[0] is False
    ready, out = found.stop(0.2, last=True)
    assert ready
    assert CODEC.decode(out.beats[-1]).leaving


@pytest.mark.parametrize(
    "given",
    [
        PeerMessage("n2", Codec((), internal=(Beat,)).encode(Beat("n2", 1, 1, 1, 0.0, 1, False, ()))),
        Publication("n2", Codec((), internal=(Accusation,)).encode(Accusation("n1", 1, 2))),
        ClientRequest(Request(b"", 1), Codec((), internal=(Accusation,)).encode(Accusation("n1", 1, 2))),
    ],
)
def test_the_hosts_own_messages_never_reach_a_node(given: Any) -> None:
    one, node, _ = host()
    one.step([given], 0.1)
    assert one.counters["garbage"] == 1
    assert node.calls == [("step",)]


def test_a_key_of_the_hosts_cannot_be_saved() -> None:
    _, node, _ = host()
    with pytest.raises(ValueError, match="null character"):
        node.save("\0incarnation", 0)


def test_of_two_copies_of_a_request_one_reaches_the_node() -> None:
    """Else one copy could be refused, and told so, and the other take effect at a node that leads by then."""
    one, node, _ = host()
    request = Request(b"", 7)
    copy = ClientRequest(request, CODEC.encode({"n": 1}))
    one.step([copy], 0.1)
    one.step([copy], 0.2)
    assert [call for call in node.calls if call[0] == "request"] == [("request", {"n": 1})]
    assert one.counters["repeated"] == 1
