"""What link rules do to messages: cut, held, delayed, lost, doubled, overtaken - and in which order they go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.base import limits
from testbed.base.links import CLIENTS, Cut, LinkRule, combine
from testbed.base.rand import Streams
from testbed.core.links import REORDER_DELAY_S, Links

AB = ("a", "b")


def links(*rules: LinkRule, seed: int = 1) -> Links:
    found = Links(Streams(seed).stream("links"))
    found.configure(rules, 1, 0.0)
    return found


def items(found: list[tuple[str, str, object]]) -> list[object]:
    return [item for _, _, item in found]


def test_without_a_rule_everything_passes() -> None:
    table = links(LinkRule(*AB, cut="drop"))
    assert table.send("b", "a", 1, 0.0)
    assert table.receive("b", "a", 1)
    assert table.send("a", "c", 1, 0.0)
    assert not links().active


@pytest.mark.parametrize("cut", ["drop", "reset"])
def test_a_cut_loses_messages_at_both_ends(cut: Cut) -> None:
    table = links(LinkRule(*AB, cut=cut))
    assert not table.send(*AB, 1, 0.0)
    assert not table.receive(*AB, 2)
    table.configure([], 2, 1.0)
    assert table.due(1.0) == []
    assert table.counters == {"cut": 2}
    assert table.send(*AB, 3, 1.0)


def test_hold_delivers_in_order_after_the_heal() -> None:
    table = links(LinkRule(*AB, cut="hold"))
    assert [table.send(*AB, number, 0.0) for number in range(3)] == [False] * 3
    assert not table.receive(*AB, 3)
    assert table.deadline is None
    table.configure([], 2, 5.0)
    assert table.deadline == 5.0
    assert table.due(5.0) == [(*AB, number) for number in range(4)]
    assert table.due(6.0) == []


def test_a_hold_that_becomes_a_drop_loses_what_it_held() -> None:
    table = links(LinkRule(*AB, cut="hold"))
    table.send(*AB, 1, 0.0)
    table.configure([LinkRule(*AB, cut="drop")], 2, 1.0)
    assert table.due(1.0) == []
    assert table.counters["cut"] == 1


def test_a_hold_that_goes_on_under_new_rules_keeps_what_it_held() -> None:
    table = links(LinkRule(*AB, cut="hold"))
    table.send(*AB, 1, 0.0)
    table.configure([LinkRule(*AB, cut="hold"), LinkRule("b", "a", cut="drop")], 2, 1.0)
    assert table.due(1.0) == []
    table.configure([], 3, 2.0)
    assert items(table.due(2.0)) == [1]


def test_held_messages_are_bounded_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MESSAGES_MAX", 3)
    table = links(LinkRule(*AB, cut="hold"))
    for number in range(5):
        table.send(*AB, number, 0.0)
    table.configure([], 2, 1.0)
    assert items(table.due(1.0)) == [2, 3, 4]
    assert table.counters["overflowed"] == 2


def test_delayed_messages_are_bounded_per_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_MESSAGES_MAX", 3)
    table = links(LinkRule(*AB, delay=1.0), LinkRule("a", "c", delay=1.0))
    for number in range(5):
        table.send(*AB, number, 0.0)
    table.send("a", "c", 9, 0.0)
    assert items(table.due(1.0)) == [0, 1, 2, 9]
    assert table.counters["overflowed"] == 2
    table.send(*AB, 6, 1.0)
    assert items(table.due(2.0)) == [6]


def test_a_delay_is_kept_exactly_and_in_order() -> None:
    table = links(LinkRule(*AB, delay=0.5))
    for number in range(3):
        assert not table.send(*AB, number, number / 10)
    assert table.deadline == 0.5
    assert table.due(0.49) == []
    assert items(table.due(0.6)) == [0, 1]
    assert items(table.due(9.0)) == [2]


def test_a_cut_that_came_since_stops_what_was_delayed() -> None:
    table = links(LinkRule(*AB, delay=0.5))
    table.send(*AB, 1, 0.0)
    table.configure([LinkRule(*AB, cut="drop")], 2, 0.2)
    assert table.due(1.0) == []
    table.configure([], 3, 2.0)
    assert table.due(3.0) == []


def test_jitter_is_drawn_between_nothing_and_its_bound() -> None:
    table = links(LinkRule(*AB, delay=1.0, jitter=0.5))
    for number in range(300):
        table.send(*AB, number, 0.0)
    assert table.deadline is not None
    assert 1.0 <= table.deadline < 1.05
    assert len(table.due(1.25)) == pytest.approx(150, abs=40)
    table.due(1.45)
    assert len(table.due(1.5)) > 0
    assert table.deadline is None


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_messages_are_lost_at_the_given_rate(rate: float) -> None:
    """Of 5000, five standard deviations are at most 177; the seed makes it the same every time."""
    table = links(LinkRule(*AB, loss=rate))
    passed = sum(table.send(*AB, number, 0.0) for number in range(5000))
    assert 5000 - passed == table.counters["lost"] == pytest.approx(5000 * rate, abs=177)


def test_a_rate_of_one_loses_everything_and_of_zero_nothing() -> None:
    table = links(LinkRule(*AB, loss=1.0), LinkRule("b", "a"))
    assert not any(table.send(*AB, number, 0.0) for number in range(100))
    assert all(table.send("b", "a", number, 0.0) for number in range(100))


def test_a_duplicated_message_arrives_twice() -> None:
    table = links(LinkRule(*AB, duplicate=1.0))
    assert table.send(*AB, 1, 0.0)
    assert items(table.due(0.0)) == [1]
    table = links(LinkRule(*AB, duplicate=1.0, delay=0.2))
    assert not table.send(*AB, 1, 0.0)
    assert items(table.due(0.2)) == [1, 1]


def test_a_reordered_message_is_overtaken() -> None:
    table = links(LinkRule(*AB, reorder=0.5))
    order = []
    for number in range(100):
        now = number / 1000
        if table.send(*AB, number, now):
            order.append(number)
        order += [item for item in items(table.due(now)) if isinstance(item, int)]
    order += [item for item in items(table.due(1.0)) if isinstance(item, int)]
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    places = {number: place for place, number in enumerate(order)}
    assert all(places[number] - number <= REORDER_DELAY_S * 1000 + 1 for number in range(100))


def test_rules_of_several_leases_add_up() -> None:
    held = [
        LinkRule(*AB, cut="hold", delay=0.1, loss=0.5),
        LinkRule(*AB, cut="drop", jitter=0.2, loss=0.5),
        LinkRule(*AB, delay=0.3, duplicate=0.1, reorder=1.0),
        LinkRule("b", "a", cut="hold"),
    ]
    table = combine(held)
    assert list(table) == [("a", "b"), ("b", "a")]
    both = table[AB]
    assert (both.cut, both.jitter, both.loss, both.reorder) == ("drop", 0.2, 0.75, 1.0)
    assert [both.delay, both.duplicate] == pytest.approx([0.4, 0.1])


rules = st.builds(
    LinkRule,
    source=st.just("a"),
    target=st.just("b"),
    cut=st.sampled_from([None, "hold", "drop", "reset"]),
    delay=st.floats(0, 1),
    loss=st.floats(0, 1),
)


@given(st.lists(rules, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_leases_does_not_matter_and_more_of_them_never_soften_a_link(
    held: list[LinkRule], dice: object
) -> None:
    both = combine(held)[AB]
    back = combine(reversed(held))[AB]
    assert both.cut == back.cut
    assert [both.delay, both.loss] == pytest.approx([back.delay, back.loss])
    for rule in held:
        assert both.delay >= rule.delay
        assert both.loss >= rule.loss - 1e-12
        assert both.cut is not None or rule.cut is None
    assert 0.0 <= both.loss <= 1.0


def test_a_node_knows_from_whom_it_is_cut_off_either_way() -> None:
    table = links(
        LinkRule("a", "b", cut="reset"),
        LinkRule("c", "a", cut="drop"),
        LinkRule("a", "d", delay=1.0),
        LinkRule("b", "c", cut="hold"),
    )
    assert table.cut_peers("a") == {"b", "c"}
    assert table.cut_peers("a", "reset") == {"b"}
    assert table.cut("c", "a") == "drop"
    assert table.cut("a", "d") is None


def test_clients_are_one_end_of_a_link() -> None:
    table = links(LinkRule(CLIENTS, "a", cut="drop"))
    assert not table.receive(CLIENTS, "a", 1)
    assert table.send("a", CLIENTS, 1, 0.0)


def test_a_seed_repeats_exactly() -> None:
    def play() -> list[object]:
        table = links(LinkRule(*AB, loss=0.3, duplicate=0.3, reorder=0.3, jitter=0.1), seed=5)
        passed: list[object] = [number for number in range(200) if table.send(*AB, number, 0.0)]
        return passed + items(table.due(1.0))

    assert play() == play()
