"""The failure detector of one node: facts in, verdicts out.

It knows the static set of members, its own monotonic clock (as an argument) and what the others' beats say. It knows
no sockets, no storage, no roles and no quorum: a verdict here never moves leadership or locks, so a minority may
hold the majority failed and nothing follows from it.

- Evidence of life is gossiped (van Renesse, Minsky, Hayden 1998, "A Gossip-Style Failure Detection Service"): a beat
  says of every member which (incarnation, sequence) its sender knows and how old that is. Only a higher pair counts,
  so evidence cannot keep itself young by going round. It is the indirect probe: who is heard by anyone is alive.
- Suspicion, refutation by incarnation: SWIM (Das, Gupta, Motivala 2002), section 4.2. Local health, confirmations and
  telling the accused directly: Lifeguard (Dadgar, Phillips, Currey 2018, arXiv 1707.00788).
- Differences from SWIM: another's "failed" is at most a suspicion here; a suspicion also ends by fresh evidence alone,
  so only a conviction costs an incarnation; verdicts need evidence that is old, not merely beats that are missing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

from testbed.core.membership.health import SCORE_MAX, LocalHealth
from testbed.core.membership.member import ClockOffset, Member, Quota, suspicion_timeout
from testbed.core.membership.messages import (
    ALIVE,
    FAILED,
    STATE_CODES,
    SUSPECT,
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
    LogLevel,
    MembershipConfig,
    Publish,
    Reason,
    SaveIncarnation,
    Started,
    State,
    Tell,
    Tick,
    View,
)

ALIVE_CODE = STATE_CODES[ALIVE]
FAILED_CODE = STATE_CODES[FAILED]
CODES_WHILE_BLIND = {**STATE_CODES, SUSPECT: ALIVE_CODE}
CLOCK_WINDOW_BEATS = 20  # how fast a link that became slower is accepted, against how long a burst may dribble in
TICK_MIN = 0.01  # of a heartbeat: a deadline never lies nearer than this after a tick, whatever floats round to


class Membership:
    """One node's failure detector. Call `step` with every event, and with `Tick()` whenever `next_deadline` has come.

    `incarnation` must be higher than any this node has used before, and already durable. Instants are seconds of one
    monotonic clock that never goes back; `step` asserts that.
    """

    def __init__(self, self_id: str, peers: Sequence[str], config: MembershipConfig, incarnation: int) -> None:
        assert self_id not in peers, "a node is no peer of its own"
        assert len(set(peers)) == len(peers), "peers must be distinct"
        assert incarnation >= 1, "incarnation 0 means never heard of"
        self.id = self_id
        self.config = config
        self.boot = incarnation
        window = CLOCK_WINDOW_BEATS * config.heartbeat
        self._members = {peer: Member(peer, ClockOffset(window)) for peer in peers}
        self._incarnation = incarnation
        self._sequence = 0
        self._health = LocalHealth(config)
        self._published_at = -math.inf
        self._refuted_at = -math.inf
        self._next_beat = math.inf
        self._next_judgement = math.inf
        self._gone = False
        self._quota = Quota()
        self._effects: list[Effect] = []

    # --- what the host may ask ---

    @property
    def incarnation(self) -> int:
        """This node's current incarnation; it only grows."""
        return self._incarnation

    @property
    def next_deadline(self) -> float:
        """Local instant in seconds at which `step(Tick(), now)` is due; infinity before Started and after Leaving."""
        return self._next_beat if self._next_beat < self._next_judgement else self._next_judgement

    @property
    def health(self) -> int:
        """Lifeguard's local health multiplier: 1 is well, 8 is worst; it stretches this node's patience."""
        return self._health.multiplier

    @property
    def is_away(self) -> bool:
        """Whether this node, after an absence of its own, is still catching up and judges nobody."""
        return self._health.last_step < self._health.blind_until

    def view(self) -> dict[str, State]:
        """The verdict on each peer, in the order of the peers given."""
        return {member.id: member.state for member in self._members.values()}

    @property
    def members(self) -> Mapping[str, Member]:
        """What is remembered of each peer, in the order of the peers given; for whoever only looks."""
        return self._members

    def incarnations(self) -> dict[str, int]:
        """The highest incarnation known of each peer; 0 for one never heard of."""
        return {member.id: member.incarnation for member in self._members.values()}

    def validate(self) -> None:
        """Assert what must hold between any two steps."""
        assert self.id not in self._members
        assert self._incarnation >= self.boot
        assert 0 <= self._health.score <= SCORE_MAX
        for member in self._members.values():
            member.validate()
            assert member.alive_at <= self._health.last_step, member
            assert self.id not in member.accusers, member

    # --- the one door ---

    def step(self, event: Event, now: float) -> list[Effect]:
        """What follows from `event` at local instant `now`, in the order in which it is to be done."""
        assert now >= self._health.last_step, "a monotonic clock went back"
        if self._gone:
            return []
        incarnation = self._incarnation
        effects: list[Effect] = []
        self._effects = effects
        if unseeing := self._health.observe_step(now):
            self._return_from_absence(unseeing, now)
        match event:
            case BeatReceived(sender=sender, beat=beat):
                self._on_beat(sender, beat, now)
            case Tick():
                self._on_tick(now)
            case Heard(peer=peer):
                self._on_heard(peer, now)
            case AccusationReceived(accusation=accusation):
                if accusation.node == self.id:
                    self._answer_claim(accusation.incarnation, accusation.state, now)
            case ConnectionClosed(peer=peer):
                self._on_connection_closed(peer, now)
            case Started():
                self._on_started(now)
            case Leaving():
                self._publish(now, leaving=True)
                self._gone = True
                self._next_beat = self._next_judgement = math.inf
            case _:
                assert_never(event)
        assert self._incarnation >= incarnation, "only a node itself raises its incarnation, and it never lowers it"
        return effects

    # --- events ---

    def _on_started(self, now: float) -> None:
        assert self._next_beat == math.inf, "started twice"
        for member in self._members.values():
            member.grace_until = now + self.config.grace
        self._publish(now)
        self._judge_all(now)

    def _on_tick(self, now: float) -> None:
        beat_is_due = now >= self._next_beat
        recovered = beat_is_due and self._health.recover(now)
        if recovered or now >= self._next_judgement:
            self._judge_all(now)
        if beat_is_due:
            self._publish(now)  # last, so that it tells the newest verdicts
        self._next_judgement = max(self._next_judgement, now + TICK_MIN * self.config.heartbeat)

    def _on_heard(self, peer: str, now: float) -> None:
        member = self._members.get(peer)
        if member is None or now < self._health.blind_until:
            return  # what is drained after an absence does not tell how old it is
        member.alive_at = now
        self._weigh(member, now)

    def _on_connection_closed(self, peer: str, now: float) -> None:
        member = self._members.get(peer)
        if member is None or member.state == FAILED:
            return
        member.closed_at = now
        if member.state == SUSPECT:
            member.doubted_at = self._closing_proved_by(now)
        self._judge(member, now)

    def _on_beat(self, sender: str, beat: Beat, now: float) -> None:
        member = self._members.get(beat.node)
        if member is None or sender != beat.node or not 1 <= beat.boot <= beat.incarnation:
            self._on_foreign_beat(sender, beat, now)
            return
        if beat.incarnation < member.incarnation:
            return  # of a former life; if it still lives it learns from the views here that it is behind
        newborn = beat.boot != member.boot
        if beat.incarnation <= member.boot_incarnation if newborn else beat.sequence <= member.heard:
            return  # duplicated, reordered, or of two processes under one name the one that was not first
        if newborn:
            member.clock.forget()
        sent_at = member.clock.sending_time(now, beat.sent)
        was_known, member.boot, member.boot_incarnation = member.boot > 0, beat.boot, beat.incarnation
        member.heard, member.health = beat.sequence, beat.health
        if beat.incarnation > member.incarnation:
            self._begin_life(member, beat.incarnation, beat.sequence, sent_at)
            member.grace_until = max(member.grace_until, now + self.config.suspect_after)
            self._acquit(member, ("restarted" if was_known else "joined") if newborn else "refuted", now)
        elif newborn and member.state == ALIVE:  # others had told of this life before it was heard itself
            self._acquit(member, "restarted" if was_known else "joined", now)
        member.sequence = max(member.sequence, beat.sequence)
        member.alive_at = max(member.alive_at, sent_at)
        if beat.leaving:
            self._on_departure(member, now)
        elif member.state != ALIVE or member.closed_at is not None:
            self._weigh(member, now)
        self._merge(beat, sent_at, now)

    def _on_foreign_beat(self, sender: str, beat: Beat, now: float) -> None:
        if beat.node == self.id and (beat.boot, beat.sequence) <= (self.boot, self._sequence):
            return  # an echo of this node, or of its former life
        text = "name conflict: another process beats under this node's name" if beat.node == self.id else "foreign beat"
        self._log(self._quota, "warning", text, now, sender=sender, node=beat.node, boot=beat.boot)

    def _on_departure(self, member: Member, now: float) -> None:
        if member.state != FAILED:
            member.left = True
            self._change(member, FAILED, "left", now)

    # --- evidence ---

    def _merge(self, beat: Beat, sent_at: float, now: float) -> None:
        """Take over what the beat's sender knows better, and note whom it accuses."""
        members = self._members
        claim: View | None = None
        for view in beat.views:
            member = members.get(view.node)
            if member is None or view.node == beat.node:
                claim = view if view.node == self.id else claim
                continue
            fresher = False
            if view.incarnation > member.incarnation:
                self._on_life_reported(member, view, sent_at, now)
            elif view.incarnation == member.incarnation and view.sequence > member.sequence:
                member.sequence = view.sequence
                fresher = (alive_at := sent_at - max(view.age, 0.0)) > member.alive_at
                if fresher:
                    member.alive_at = alive_at
            accused = view.state != ALIVE_CODE and view.incarnation == member.incarnation
            if accused:
                member.accusers[beat.node] = None
            elif member.accusers:
                member.accusers.pop(beat.node, None)
            if fresher and (member.state != ALIVE or member.closed_at is not None):
                self._weigh(member, now)
            if accused:
                self._judge(member, now)
        if claim is not None:
            self._answer_claim(claim.incarnation, claim.state, now)

    def _on_life_reported(self, member: Member, view: View, sent_at: float, now: float) -> None:
        """Another node knows a higher incarnation. It revives only by fresh evidence, and convicts nobody here."""
        alive_at = sent_at - max(view.age, 0.0)
        self._begin_life(member, view.incarnation, view.sequence, alive_at)
        if now < member.alive_at + self._health.patience:
            self._acquit(member, "refuted", now)
        elif member.state == FAILED:
            self._suspect(member, "accused", now)
        elif member.state == SUSPECT:
            member.suspect_at, member.doubted_at = now, member.alive_at  # the former life's timer is not this one's

    def _begin_life(self, member: Member, incarnation: int, sequence: int, alive_at: float) -> None:
        assert incarnation > member.incarnation
        member.incarnation, member.sequence = incarnation, sequence
        member.alive_at = max(member.alive_at, alive_at)
        member.accusers.clear()
        member.closed_at = None
        member.left = False
        member.told_at = -math.inf

    def _weigh(self, member: Member, now: float) -> None:
        """New evidence of a peer that is not simply alive: it may end a suspicion, never a conviction."""
        if member.closed_at is not None and member.alive_at > self._closing_proved_by(member.closed_at):
            member.closed_at = None
        if member.state == SUSPECT:
            fresh = member.closed_at is None and member.alive_at > member.doubted_at
            if fresh and now < member.alive_at + self._health.patience / 2:  # half of it: no flapping at the threshold
                self._acquit(member, "heard", now)
        elif member.state == FAILED and not member.left:
            # Otherwise a node that missed its own conviction stays failed for ever (memberlist#311, #345).
            untold = now >= member.told_at + self.config.suspect_after
            if untold and now < member.alive_at + self._health.patience:
                self._accuse(member, now)

    def _closing_proved_by(self, closed_at: float) -> float:
        """Evidence must be later than this to outweigh a closed connection: what was in flight is no proof of life."""
        return closed_at + self.config.heartbeat / 2

    # --- verdicts ---

    def _accusers_of(self, member: Member) -> int:
        """How many peers, alive and in good health, hold this one suspect or failed."""
        peers = (self._members[accuser] for accuser in member.accusers)
        return sum(1 for peer in peers if peer.state == ALIVE and peer.health == 1)

    def _due(self, member: Member) -> float:
        """The instant at which, without further evidence, the next verdict falls against this peer."""
        if member.state == FAILED:
            return math.inf
        if member.state == SUSPECT:
            timeout = suspicion_timeout(self.config, len(self._members) + 1, self._accusers_of(member))
            return max(member.suspect_at + timeout, member.alive_at + self._health.patience, self._health.blind_until)
        if member.closed_at is not None:
            return max(member.closed_at, self._health.blind_until)
        accused = bool(member.accusers) and self._accusers_of(member) > 0
        silent_at = member.alive_at + (self._health.patience / 2 if accused else self._health.patience)
        return max(silent_at, member.grace_until, self._health.blind_until)

    def _judge(self, member: Member, now: float) -> None:
        if now >= self._due(member):
            if member.state == SUSPECT:
                self._change(member, FAILED, "unrefuted", now)
                self._accuse(member, now)
            elif member.closed_at is not None:
                self._suspect(member, "connection closed", now)
            else:
                silent = now >= member.alive_at + self._health.patience
                self._suspect(member, "silent" if silent else "accused", now)
        self._next_judgement = min(self._next_judgement, self._due(member))

    def _judge_all(self, now: float) -> None:
        self._next_judgement = math.inf
        for member in self._members.values():
            self._judge(member, now)

    def _suspect(self, member: Member, reason: Reason, now: float) -> None:
        member.suspect_at = now
        closed_at = member.closed_at
        member.doubted_at = member.alive_at if closed_at is None else self._closing_proved_by(closed_at)
        self._change(member, SUSPECT, reason, now)
        self._accuse(member, now)

    def _acquit(self, member: Member, reason: Reason, now: float) -> None:
        """Back to alive; for a peer that never was anything else only a new process is news."""
        if member.state != ALIVE or reason in ("joined", "restarted"):
            self._change(member, ALIVE, reason, now)
        self._next_judgement = now  # whoever is believed again may bring forward the verdict on others

    def _change(self, member: Member, state: State, reason: Reason, now: float) -> None:
        before, member.state = member.state, state
        self._effects.append(Changed(member.id, state, member.incarnation, reason))
        level: LogLevel = "info" if state == ALIVE else "warning"
        about: dict[str, str | int] = {"peer": member.id, "old": before, "new": state}
        self._log(member.quota, level, "membership", now, **about, incarnation=member.incarnation, reason=reason)

    def _accuse(self, member: Member, now: float) -> None:
        if member.incarnation:  # one never heard of has nothing to refute
            member.told_at = now
            code = STATE_CODES[member.state]
            self._effects.append(Tell(member.id, Accusation(member.id, member.incarnation, code)))

    # --- this node itself ---

    def _return_from_absence(self, unseeing: float, now: float) -> None:
        """Time in which this node saw nothing does not count against those it suspects."""
        for member in self._members.values():
            if member.state == SUSPECT:
                member.suspect_at += unseeing
        seconds = round(self._health.blind_until - now, 3)
        self._log(self._quota, "warning", "was away; judging nobody for some seconds", now, seconds=seconds)

    def _answer_claim(self, incarnation: int, state: int, now: float) -> None:
        """What another node holds about this one. Only here is the own incarnation raised."""
        if incarnation > self._incarnation:  # of a life that this node has forgotten: its beats would pass for old
            self._raise_incarnation(incarnation + 1, now)
            return
        if incarnation < self._incarnation or state == ALIVE_CODE:
            return
        if state == FAILED_CODE and now >= self._refuted_at + self.config.suspect_after:
            self._health.worsen(now)
            self._raise_incarnation(incarnation + 1, now)
        elif state != FAILED_CODE and now >= self._published_at + self.config.heartbeat / 2:
            # A mere suspicion ends by fresh evidence, so that a beat out of turn answers it: no incarnation storms.
            self._publish(now)

    def _raise_incarnation(self, incarnation: int, now: float) -> None:
        assert incarnation > self._incarnation
        self._incarnation = incarnation
        self._refuted_at = now
        self._effects.insert(0, SaveIncarnation(incarnation))
        self._publish(now)
        self._log(self._quota, "warning", "refuting with a higher incarnation", now, incarnation=incarnation)

    def _publish(self, now: float, leaving: bool = False) -> None:
        """One beat, now. The cadence does not drift unless a beat was a whole heartbeat late or out of turn."""
        interval = self.config.heartbeat
        on_time = self._next_beat <= now < self._next_beat + interval
        self._next_beat = self._next_beat + interval if on_time else now + interval
        self._sequence += 1
        self._published_at = now
        beat = Beat(self.id, self.boot, self._incarnation, self._sequence, now, self.health, leaving, self._views(now))
        self._effects.append(Publish(beat))

    def _views(self, now: float) -> tuple[View, ...]:
        """While catching up, suspicions from before the absence are withheld: they are nobody's confirmation."""
        codes = CODES_WHILE_BLIND if now < self._health.blind_until else STATE_CODES
        return tuple(
            [
                View(member.id, codes[member.state], member.incarnation, member.sequence, now - member.alive_at)
                if member.sequence
                else View(member.id, codes[member.state], member.incarnation, 0, 0.0)
                for member in self._members.values()
            ]
        )

    def _log(self, quota: Quota, level: LogLevel, text: str, now: float, **fields: str | int | float) -> None:
        suppressed = quota.take(now)
        if suppressed:
            fields["suppressed"] = suppressed
        if suppressed is not None:
            self._effects.append(Log(level, text, fields))
