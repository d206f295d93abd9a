"""The failure detector alone: every event by hand, whole lists of effects out."""

import math
from collections.abc import Iterable

import msgspec
import pytest

from testbed.core.membership import (
    Accusation,
    AccusationReceived,
    Beat,
    BeatReceived,
    Changed,
    ConnectionClosed,
    Effect,
    Event,
    Heard,
    Leaving,
    Log,
    Membership,
    MembershipConfig,
    Publish,
    SaveIncarnation,
    Started,
    Tell,
    Tick,
    View,
)
from testbed.core.membership.member import ClockOffset, Quota, suspicion_timeout

CONFIG = MembershipConfig()
ALIVE, SUSPECT, FAILED = 0, 1, 2  # codes on the wire
T0 = 1000.0  # this node's clock at its start
FAR = 7.5e4  # what the peers' clocks are ahead


class Observer:
    """The core of n1 with peers n2, n3, n4; a driver that ticks it on time and beats for its peers."""

    def __init__(self, incarnation: int = 5) -> None:
        self.core = Membership("n1", ("n2", "n3", "n4"), CONFIG, incarnation)
        self.now = T0
        self.sequences = {"n2": 0, "n3": 0, "n4": 0}
        self.incarnations = {"n2": 1, "n3": 1, "n4": 1}
        self.feed(Started())

    def feed(self, event: Event) -> list[Effect]:
        effects = self.core.step(event, self.now)
        self.core.validate()
        return effects

    def beat(self, node: str, *views: View, age: float = 0.0, **changes: object) -> Beat:
        """The next beat of a peer, sent `age` seconds ago."""
        self.sequences[node] += 1
        boot = incarnation = self.incarnations[node]
        sent = self.now - age + FAR
        beat = Beat(node, boot, incarnation, self.sequences[node], sent, 1, False, views)
        return msgspec.structs.replace(beat, **changes)

    def hear(self, node: str, *views: View, age: float = 0.0, **changes: object) -> list[Effect]:
        return self.feed(BeatReceived(node, self.beat(node, *views, age=age, **changes)))

    def run(self, seconds: float, beating: Iterable[str] = ()) -> list[Effect]:
        """Tick on time; the given peers beat every 100 ms. All effects but the beats."""
        effects: list[Effect] = []
        end = self.now + seconds
        next_round = self.now
        while True:
            self.now = max(self.now, min(self.core.next_deadline, next_round))
            if self.now > end:
                self.now = end
                return [effect for effect in effects if not isinstance(effect, Publish)]
            if self.now >= next_round:
                for node in beating:
                    effects += self.hear(node)
                next_round += 0.1
            else:
                effects += self.feed(Tick())


def acquainted(incarnation: int = 5) -> Observer:
    """An observer that has heard every peer for three seconds, past the grace of its start."""
    observer = Observer(incarnation)
    observer.run(3.0, ("n2", "n3", "n4"))
    assert set(observer.core.view().values()) == {"alive"}
    return observer


def verdicts(effects: Iterable[Effect]) -> list[Changed]:
    return [effect for effect in effects if isinstance(effect, Changed)]


def beats(effects: Iterable[Effect]) -> list[Beat]:
    return [effect.beat for effect in effects if isinstance(effect, Publish)]


# --- beats ---


def test_a_start_publishes_at_once_and_then_every_heartbeat() -> None:
    core = Membership("n1", ("n2",), CONFIG, 5)
    assert core.next_deadline == math.inf
    view = View("n2", ALIVE, 0, 0, 0.0)
    assert core.step(Started(), T0) == [Publish(Beat("n1", 5, 5, 1, T0, 1, False, (view,)))]
    assert core.next_deadline == T0 + 0.1
    assert core.step(Tick(), T0 + 0.05) == []
    assert core.step(Tick(), T0 + 0.11) == [Publish(Beat("n1", 5, 5, 2, T0 + 0.11, 1, False, (view,)))]
    assert core.next_deadline == pytest.approx(T0 + 0.2)  # a little late, but the cadence stands


def test_a_beat_carries_the_latest_evidence_of_every_peer_and_its_age() -> None:
    observer = Observer()
    observer.now += 0.02
    observer.hear("n3")
    observer.now += 0.05
    observer.hear("n3", age=0.01)
    observer.now = T0 + 0.1
    (beat,) = beats(observer.feed(Tick()))
    assert [(view.node, view.state, view.incarnation, view.sequence) for view in beat.views] == [
        ("n2", ALIVE, 0, 0),
        ("n3", ALIVE, 1, 2),
        ("n4", ALIVE, 0, 0),
    ]
    assert beat.views[1].age == pytest.approx(0.04)


def test_duplicated_reordered_old_and_echoed_beats_change_nothing() -> None:
    """FD7."""
    observer = acquainted()
    old, middle, new = observer.beat("n2"), observer.beat("n2"), observer.beat("n2")
    own = Beat("n1", 5, 5, 3, T0, 1, False, ())
    observer.feed(BeatReceived("n2", new))
    accusing = msgspec.structs.replace(middle, views=(View("n1", FAILED, 5, 1, 9.0),))
    former = msgspec.structs.replace(new, incarnation=0, boot=0, sequence=10_000)
    for sender, beat in (("n2", new), ("n2", old), ("n2", accusing), ("n2", former), ("n1", own)):
        assert beats(observer.feed(BeatReceived(sender, beat))) == []
        assert observer.core.view() == {"n2": "alive", "n3": "alive", "n4": "alive"}
    assert observer.core.incarnation == 5


def test_a_beat_under_this_nodes_name_is_reported_once_in_a_while_and_ignored() -> None:
    observer = acquainted()
    impostor = Beat("n1", 9, 9, 1, 0.0, 1, False, (View("n2", FAILED, 1, 1, 9.0),))
    (log,) = observer.feed(BeatReceived("n9", impostor))
    assert isinstance(log, Log)
    assert log.level == "warning"
    assert log.fields == {"sender": "n9", "node": "n1", "boot": 9}
    lines = sum(len(observer.feed(BeatReceived("n9", impostor))) for _ in range(100))
    assert lines == 5
    assert observer.core.incarnation == 5


def test_a_beat_that_another_node_sent_under_a_peers_name_is_ignored() -> None:
    observer = acquainted()
    forged = observer.beat("n3", boot=9, incarnation=9)
    assert [type(effect) for effect in observer.feed(BeatReceived("n2", forged))] == [Log]
    assert observer.core.incarnations()["n3"] == 1


def test_the_first_beat_of_each_process_is_news_and_a_refutation_while_alive_is_not() -> None:
    """FD6."""
    observer = Observer()
    assert verdicts(observer.hear("n2")) == [Changed("n2", "alive", 1, "joined")]
    assert verdicts(observer.hear("n2")) == []
    assert verdicts(observer.hear("n2", boot=1, incarnation=2)) == []
    assert observer.core.incarnations()["n2"] == 2, "evidence advances the incarnation without a transition"
    assert verdicts(observer.hear("n2", boot=3, incarnation=3, sequence=1)) == [Changed("n2", "alive", 3, "restarted")]


# --- suspicion and conviction ---


def silent(seconds: float, *views_of_others: View) -> tuple[Observer, list[Effect]]:
    """n4 has been silent for that long while n2 and n3 went on, saying `views_of_others`; all effects since."""
    observer = acquainted()
    observer.hear("n4")
    start = observer.now
    effects: list[Effect] = []
    while observer.now < start + seconds - 1e-9:
        effects += observer.run(min(0.1, start + seconds - observer.now))
        for node in ("n2", "n3"):
            effects += observer.hear(node, *views_of_others)
    return observer, effects


def test_silence_is_suspected_after_the_interval_and_the_suspect_is_told_directly() -> None:
    observer, effects = silent(0.4)
    assert [effect for effect in effects if not isinstance(effect, Publish)] == []
    fields: dict[str, str | int | float] = {
        "peer": "n4",
        "old": "alive",
        "new": "suspect",
        "incarnation": 1,
        "reason": "silent",
    }
    assert observer.run(0.101) == [
        Changed("n4", "suspect", 1, "silent"),
        Log("warning", "membership", fields),
        Tell("n4", Accusation("n4", 1, SUSPECT)),
    ]


def test_without_confirmation_conviction_waits_for_the_longest_timeout() -> None:
    observer, effects = silent(2.8)
    assert verdicts(effects) == [Changed("n4", "suspect", 1, "silent")]
    effects = observer.run(0.11)
    fields: dict[str, str | int | float] = {
        "peer": "n4",
        "old": "suspect",
        "new": "failed",
        "incarnation": 1,
        "reason": "unrefuted",
    }
    assert effects == [
        Changed("n4", "failed", 1, "unrefuted"),
        Log("warning", "membership", fields),
        Tell("n4", Accusation("n4", 1, FAILED)),
    ]


def test_confirmations_of_two_others_bring_the_shortest_timeout() -> None:
    suspicion = View("n4", SUSPECT, 1, 1, 0.9)
    observer, effects = silent(1.0, suspicion)
    assert verdicts(effects) == [Changed("n4", "suspect", 1, "accused")]  # after half the interval: others doubt too
    effects = observer.run(0.11)
    assert verdicts(effects) == [Changed("n4", "failed", 1, "unrefuted")]


@pytest.mark.parametrize(
    ("case", "expected"),
    [("one confirms", 2), ("both confirm, one in poor health", 2), ("both, of a former life", 3), ("both retract", 3)],
)
def test_only_healthy_witnesses_that_still_hold_to_it_confirm(case: str, expected: int) -> None:
    observer, _ = silent(0.6)
    suspect_at = observer.now - 0.1
    accusing = View("n4", SUSPECT, 0 if "former" in case else 1, 1, 0.9)
    observer.hear("n2", accusing)
    if "both" in case:
        observer.hear("n3", accusing, health=2 if "poor" in case else 1)
    if "retract" in case:
        observer.hear("n2", View("n4", ALIVE, 1, 1, 0.1))
        observer.hear("n3", View("n4", ALIVE, 1, 1, 0.1))
    due = observer.core._due(observer.core._members["n4"]) - suspect_at
    confirmations = {2: 1, 3: 0}[expected]
    assert due == pytest.approx(suspicion_timeout(CONFIG, 4, confirmations), abs=0.02)


def test_anothers_conviction_changes_nothing_while_the_own_evidence_is_fresh() -> None:
    observer = acquainted()
    observer.hear("n4")
    convicted = View("n4", FAILED, 1, 1, 60.0)
    for _ in range(20):
        observer.now += 0.1
        observer.feed(Tick())
        assert verdicts(observer.hear("n2", convicted) + observer.hear("n3", convicted) + observer.hear("n4")) == []


def test_anothers_conviction_is_at_most_a_suspicion() -> None:
    """FD12."""
    observer, _ = silent(0.3)
    effects = observer.hear("n2", View("n4", FAILED, 1, 1, 60.0))
    assert verdicts(effects) == [Changed("n4", "suspect", 1, "accused")]
    observer, _ = silent(0.3)
    effects = observer.hear("n2", View("n4", FAILED, 7, 1, 60.0))  # of a life that was never seen here
    assert verdicts(effects) == [Changed("n4", "suspect", 7, "accused")]


def test_an_accuser_that_is_itself_not_alive_is_not_believed() -> None:
    observer, _ = silent(0.3)
    observer.feed(ConnectionClosed("n2"))
    assert verdicts(observer.hear("n2", View("n4", FAILED, 1, 1, 60.0))) == []


# --- what ends a suspicion ---


def test_a_fresh_beat_ends_a_suspicion_without_a_new_incarnation() -> None:
    observer, _ = silent(0.6)
    assert verdicts(observer.hear("n4")) == [Changed("n4", "alive", 1, "heard")]


def test_any_other_traffic_ends_a_suspicion() -> None:
    observer, _ = silent(0.6)
    assert verdicts(observer.feed(Heard("n4"))) == [Changed("n4", "alive", 1, "heard")]


def test_what_another_node_heard_of_the_suspect_ends_the_suspicion() -> None:
    observer, _ = silent(0.6)
    known = observer.sequences["n4"]
    assert verdicts(observer.hear("n2", View("n4", ALIVE, 1, known, 0.0))) == [], "the same evidence is not younger"
    assert verdicts(observer.hear("n2", View("n4", ALIVE, 1, known + 9, 0.4))) == [], "newer, and yet too old"
    assert verdicts(observer.hear("n2", View("n4", ALIVE, 1, known + 10, 0.1))) == [Changed("n4", "alive", 1, "heard")]


def test_evidence_that_goes_round_between_others_does_not_stay_young() -> None:
    observer, _ = silent(0.4)
    known = observer.sequences["n4"]
    effects: list[Effect] = []
    for _ in range(30):
        effects += observer.run(0.1)
        for node in ("n2", "n3"):
            effects += observer.hear(node, View("n4", ALIVE, 1, known, 0.0))
    assert [change.state for change in verdicts(effects)] == ["suspect", "failed"]


def test_a_burst_of_old_beats_is_no_evidence_of_present_life() -> None:
    """FD7."""
    observer, _ = silent(0.6)
    effects = [effect for age in range(500, 50, -5) for effect in observer.hear("n4", age=age / 100)]
    assert verdicts(effects) == []
    assert observer.core.view()["n4"] == "suspect"
    assert verdicts(observer.hear("n4", age=0.01)) == [Changed("n4", "alive", 1, "heard")]


# --- hints ---


def test_a_closed_connection_is_suspected_at_once_and_convicts_nobody_alone() -> None:
    observer = acquainted()
    observer.hear("n4")
    assert verdicts(observer.feed(ConnectionClosed("n4"))) == [Changed("n4", "suspect", 1, "connection closed")]
    observer.now += 0.002
    assert verdicts(observer.hear("n4", age=0.01) + observer.hear("n4")) == [], "what was in flight is no proof of life"
    observer.now += 0.09
    assert verdicts(observer.hear("n4")) == [Changed("n4", "alive", 1, "heard")]
    assert verdicts(observer.run(2.0, ("n2", "n3", "n4"))) == []


def test_hints_that_come_all_the_time_convict_nobody_who_beats() -> None:
    observer = acquainted()
    effects: list[Effect] = []
    for _ in range(100):
        effects += observer.run(0.06, ("n2", "n3", "n4"))
        effects += observer.feed(ConnectionClosed("n4"))
    assert "failed" not in {change.state for change in verdicts(effects)}


# --- the convicted ---


def convicted() -> Observer:
    observer, effects = silent(3.0)
    assert verdicts(effects)[-1] == Changed("n4", "failed", 1, "unrefuted")
    return observer


def test_a_convicted_node_stays_so_until_it_shows_a_higher_incarnation_and_is_told_again() -> None:
    observer = convicted()
    told = [effect for _ in range(5) for effect in observer.hear("n4")]
    assert told == [], "it was told a moment ago"
    for _ in range(20):
        told += observer.run(0.1, ("n2", "n3", "n4"))
    assert [effect for effect in told if isinstance(effect, Tell)] == [Tell("n4", Accusation("n4", 1, FAILED))] * 4
    assert verdicts(told) == []
    assert observer.hear("n4", incarnation=2)[0] == Changed("n4", "alive", 2, "refuted")


def test_a_convicted_node_is_not_told_again_on_stale_beats() -> None:
    observer = convicted()
    observer.run(1.0, ("n2", "n3"))
    assert [effect for age in range(300, 60, -10) for effect in observer.hear("n4", age=age / 100)] == []


def test_a_convicted_node_that_was_restarted_is_alive_again() -> None:
    observer = convicted()
    assert verdicts(observer.hear("n4", boot=2, incarnation=2, sequence=1)) == [Changed("n4", "alive", 2, "restarted")]


def test_others_knowledge_of_a_higher_incarnation_revives_only_with_fresh_evidence() -> None:
    observer = convicted()
    assert verdicts(observer.hear("n2", View("n4", ALIVE, 2, 3, 5.0))) == [Changed("n4", "suspect", 2, "accused")]
    observer = convicted()
    assert verdicts(observer.hear("n2", View("n4", ALIVE, 2, 3, 0.1))) == [Changed("n4", "alive", 2, "refuted")]


def test_a_beat_of_an_incarnation_that_others_know_to_be_over_is_no_evidence() -> None:
    observer = convicted()
    observer.hear("n2", View("n4", ALIVE, 2, 3, 5.0))
    assert observer.hear("n4") == []
    assert observer.core.view()["n4"] == "suspect"


def test_a_suspect_known_by_others_to_live_a_new_life_gets_a_timer_of_its_own() -> None:
    observer, _ = silent(2.5)
    observer.hear("n2", View("n4", ALIVE, 2, 3, 5.0))
    assert verdicts(observer.run(2.3, ("n2", "n3"))) == []
    assert verdicts(observer.run(0.2, ("n2", "n3"))) == [Changed("n4", "failed", 2, "unrefuted")]


def test_a_refutation_that_arrives_late_gains_a_full_interval_before_the_next_suspicion() -> None:
    observer = convicted()
    assert verdicts(observer.hear("n4", incarnation=2, age=3.0)) == [Changed("n4", "alive", 2, "refuted")]
    assert verdicts(observer.run(0.45, ("n2", "n3"))) == []
    assert verdicts(observer.run(0.1, ("n2", "n3"))) == [Changed("n4", "suspect", 2, "silent")]


def test_an_accusers_word_counts_from_the_moment_it_is_believed_again() -> None:
    observer, _ = silent(0.3)
    observer.feed(ConnectionClosed("n2"))
    observer.hear("n2", View("n4", SUSPECT, 1, 1, 0.9))
    observer.now += 0.06
    assert verdicts(observer.feed(Heard("n2"))) == [Changed("n2", "alive", 1, "heard")]
    assert observer.core.next_deadline <= observer.now
    assert verdicts(observer.feed(Tick())) == [Changed("n4", "suspect", 1, "accused")]
    assert observer.core.next_deadline > observer.now


def test_a_node_convicted_on_hearsay_is_not_revived_by_its_first_beat_at_the_same_incarnation() -> None:
    observer = Observer()
    effects: list[Effect] = []
    for _ in range(40):
        effects += observer.run(0.1)
        for node in ("n2", "n3"):
            effects += observer.hear(node, View("n4", FAILED, 1, 7, 60.0))
    assert observer.core.view()["n4"] == "failed"
    assert observer.hear("n4", sequence=8) == [Tell("n4", Accusation("n4", 1, FAILED))]


def test_a_leaving_node_is_failed_at_once_and_not_argued_with() -> None:
    observer = acquainted()
    assert verdicts(observer.hear("n4", leaving=True)) == [Changed("n4", "failed", 1, "left")]
    effects = observer.hear("n4") + observer.run(2.0, ("n2", "n3"))
    assert effects == []


def test_after_leaving_nothing_follows_from_anything() -> None:
    observer = acquainted()
    (beat,) = beats(observer.feed(Leaving()))
    assert beat.leaving
    assert observer.core.next_deadline == math.inf
    observer.now += 5.0
    assert observer.feed(Tick()) == observer.hear("n2", View("n1", FAILED, 5, 9, 9.0)) == []


# --- the accused is this node ---


def test_a_conviction_at_the_own_incarnation_is_refuted_durably_and_at_once() -> None:
    for how in ("view", "accusation"):
        observer = acquainted(incarnation=5)
        if how == "view":
            save, publish, log = observer.hear("n2", View("n1", FAILED, 5, 9, 9.0))
        else:
            save, publish, log = observer.feed(AccusationReceived("n2", Accusation("n1", 5, FAILED)))
        assert save == SaveIncarnation(6)
        assert isinstance(publish, Publish)
        assert (publish.beat.boot, publish.beat.incarnation, publish.beat.health) == (5, 6, 2)
        assert isinstance(log, Log)
        assert observer.core.incarnation == 6
        assert observer.hear("n3", View("n1", FAILED, 5, 9, 9.0)) == [], "an accusation of a former incarnation"


def test_a_mere_suspicion_is_answered_by_a_beat_out_of_turn_and_costs_no_incarnation() -> None:
    observer = acquainted(incarnation=5)
    observer.now = observer.core.next_deadline
    observer.feed(Tick())
    observer.now += 0.06
    (publish,) = observer.feed(AccusationReceived("n2", Accusation("n1", 5, SUSPECT)))
    assert isinstance(publish, Publish)
    assert publish.beat.incarnation == 5
    assert observer.feed(AccusationReceived("n3", Accusation("n1", 5, SUSPECT))) == [], "it was answered just now"


def test_convictions_raise_the_incarnation_at_most_once_an_interval() -> None:
    observer = acquainted(incarnation=5)
    for _ in range(50):
        observer.now += 0.02
        observer.hear("n2", View("n1", FAILED, observer.core.incarnation, 9, 9.0))
    assert observer.core.incarnation == 7


def test_a_node_that_forgot_its_incarnation_jumps_above_what_others_remember() -> None:
    observer = acquainted(incarnation=5)
    assert observer.hear("n2", View("n1", ALIVE, 41, 9, 9.0))[0] == SaveIncarnation(42)
    assert observer.core.incarnation == 42


def test_an_accusation_against_somebody_else_is_not_answered() -> None:
    observer = acquainted()
    assert observer.feed(AccusationReceived("n2", Accusation("n3", 1, FAILED))) == []


# --- this node was away ---


def test_a_node_that_was_away_judges_nobody_until_it_has_caught_up() -> None:
    """FD1."""
    observer = acquainted()
    observer.now += 5.0
    effects = observer.feed(Tick())
    (beat,) = beats(effects)
    assert verdicts(effects) == []
    assert observer.core.is_away
    assert (beat.health, observer.core.health) == (2, 2)
    assert all(view.age == pytest.approx(5.0, abs=0.2) for view in beat.views), "it says how old its evidence is"
    observer.feed(ConnectionClosed("n3"))
    assert verdicts(observer.run(0.95)) == []
    effects = observer.run(0.1)
    assert verdicts(effects) == [
        Changed("n2", "suspect", 1, "silent"),
        Changed("n3", "suspect", 1, "connection closed"),
        Changed("n4", "suspect", 1, "silent"),
    ]
    assert not observer.core.is_away


def test_traffic_drained_after_an_absence_is_no_evidence() -> None:
    observer, _ = silent(0.6)
    observer.now += 1.0
    observer.feed(Tick())
    assert verdicts(observer.feed(Heard("n4"))) == []
    assert verdicts(observer.hear("n4", age=0.9)) == []
    assert verdicts(observer.hear("n4")) == [Changed("n4", "alive", 1, "heard")], "a fresh beat is"


def test_an_absence_does_not_run_down_the_timer_of_a_suspicion_nor_confirm_anothers() -> None:
    observer, _ = silent(0.6)
    before = observer.core._due(observer.core._members["n4"])
    observer.now += 3.0
    (beat,) = beats(observer.feed(Tick()))
    assert [view.state for view in beat.views] == [ALIVE, ALIVE, ALIVE]
    assert observer.core._due(observer.core._members["n4"]) == pytest.approx(before + 3.0 + 1.0, abs=0.1)
    observer.now += 2.0  # away again while catching up: what was discounted is not discounted twice
    observer.feed(Tick())
    assert observer.core._due(observer.core._members["n4"]) == pytest.approx(before + 3.0 + 2.0 + 1.5, abs=0.1)


def test_health_recovers_by_one_an_interval() -> None:
    observer = acquainted()
    for _ in range(10):
        observer.now += 1.0
        observer.feed(Tick())
    assert observer.core.health == 8
    observer.run(1.9, ("n2", "n3", "n4"))
    assert 4 <= observer.core.health <= 5
    observer.run(3.0, ("n2", "n3", "n4"))
    assert observer.core.health == 1


# --- start ---


def test_a_peer_that_was_never_heard_is_alive_by_courtesy_then_suspected_then_convicted() -> None:
    observer = Observer()
    assert observer.run(1.9, ("n2", "n3")) is not None
    assert observer.core.view()["n4"] == "alive"
    effects = observer.run(0.2, ("n2", "n3"))
    assert verdicts(effects) == [Changed("n4", "suspect", 0, "silent")]
    assert not [effect for effect in effects if isinstance(effect, Tell)], "there is nothing that it could refute"
    assert verdicts(observer.run(2.5, ("n2", "n3"))) == [Changed("n4", "failed", 0, "unrefuted")]
    assert verdicts(observer.hear("n4")) == [Changed("n4", "alive", 1, "joined")]


# --- the calculations ---


def test_log_lines_about_a_flapping_peer_are_limited_and_the_suppressed_ones_counted() -> None:
    """FD13."""
    observer = acquainted()
    observer.run(10.0, ("n2", "n3", "n4"))
    lines: list[Log] = []
    changes = 0
    for _ in range(100):
        effects = observer.feed(ConnectionClosed("n4"))
        observer.now += 0.09
        effects += observer.feed(Tick()) + observer.hear("n4") + observer.hear("n2") + observer.hear("n3")
        lines += [effect for effect in effects if isinstance(effect, Log)]
        changes += len(verdicts(effects))
    assert changes == 200, "the host is told of every change"
    assert len(lines) == 6
    observer.run(10.0, ("n2", "n3", "n4"))
    (log,) = (effect for effect in observer.feed(ConnectionClosed("n4")) if isinstance(effect, Log))
    assert log.fields["suppressed"] == 194


def test_a_quota_opens_again_with_the_next_window() -> None:
    quota = Quota(lines=2, seconds=10.0)
    assert [quota.take(now) for now in (0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0)] == [0, 0, None, None, 2, 0, None]


def test_the_sending_time_ignores_offset_and_follows_drift_and_slower_links() -> None:
    clock = ClockOffset(window=2.0)
    for number in range(200):  # a clock 100 ppm fast and an hour behind; every other beat is 30 ms late
        now = 0.1 * number
        late = 0.03 * (number % 2)
        assert now - clock.sending_time(now, (now - late) * 1.0001 - 3600.0) == pytest.approx(late, abs=0.001)
    assert 30.0 - clock.sending_time(30.0, 29.0 * 1.0001 - 3600.0) == pytest.approx(1.0, abs=0.01)
    for number in range(45):
        now = 30.0 + 0.1 * number
        estimate = clock.sending_time(now, (now - 1.0) * 1.0001 - 3600.0)
    assert now - estimate == pytest.approx(0.0, abs=0.001), "a second slower for good: accepted after two windows"


@pytest.mark.parametrize(
    ("members", "confirmations", "timeout"),
    [(5, 0, 2.4), (5, 1, 1.3905124), (5, 2, 0.8), (5, 3, 0.8), (3, 0, 2.4), (3, 1, 0.8), (2, 0, 0.8)],
)
def test_the_suspicion_timeout_follows_lifeguards_formula(members: int, confirmations: int, timeout: float) -> None:
    assert suspicion_timeout(CONFIG, members, confirmations) == pytest.approx(timeout)


@pytest.mark.parametrize(
    "numbers", [{"heartbeat": 0.0}, {"away_beats": 4.5}, {"away_beats": 1.0}, {"failed_beats_max": 5.0}]
)
def test_a_configuration_that_contradicts_itself_is_rejected(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        MembershipConfig(**numbers)


def test_a_clock_that_goes_back_is_a_bug_of_the_host() -> None:
    observer = acquainted()
    with pytest.raises(AssertionError, match="clock"):
        observer.core.step(Tick(), observer.now - 1.0)
