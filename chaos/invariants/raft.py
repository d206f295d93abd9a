"""What Raft rules out, watched over all nodes at once: the Raft paper's figure 3, and what an implementation owes it.

It knows every node's state, what each had made durable when others came to rely on it, and what they received of each
other. It changes nothing in them. A step that changed nothing costs one comparison, and no more is remembered than
what some node could still apply.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from testbed.base import limits
from testbed.base.codec import Garbage
from testbed.core.raft.core import Raft, Role
from testbed.core.raft.events import Snapshot
from testbed.core.raft.messages import Entry, VoteReply
from testbed.host import Host
from testbed.node import LogLine, Outbox
from testbed.ports import SimulatedWorld

RAFT_INVARIANTS = (
    "election-safety",  # at most one leader in a term, and one process of it
    "log-matching",  # an index and a term determine the entry, and the term of the one before it
    "leader-completeness",  # whoever becomes leader has every entry that was applied anywhere
    "state-machine-safety",  # nobody applies another entry at an index, nor comes to another state by it
    "one-vote",  # a node votes for one candidate in a term
    "monotone-term",
    "monotone-commit",
    "monotone-match",  # a leader never forgets, within its term, how much of the log a follower has
    "log-time",  # log time never goes back
    "durable-promise",  # a new process knows the term, the vote and the log on which others rely
    "timer-discipline",  # only a leader's word and a granted vote put off a follower's election
    "leader-without-majority",  # a leader that reaches no majority steps down
    "commit-quorum",  # what a leader commits is of its term, and durable at a majority
)
RAFT_SOMETIMES = (
    "leader elected",
    "leader change",
    "leader stepped down",
    "pre-vote",
    "truncation",
    "snapshot taken",
    "snapshot installed",
    "leadership transferred",
    "leader's connection closed",
    "session expired",
)

LEADERSHIP_ELECTION_TIMEOUTS = 3.0  # check-quorum takes one and a heartbeat; a node may take long to get to it
STATES_COMPARED_EVERY_S = 10.0  # whole states of machines that have applied equally much
ENTRIES_KEPT = 2 * limits.LOG_COMPACT_ENTRIES  # behind the newest applied one: whoever lacks more gets a snapshot
LEADERS_KEPT = 1_000  # terms
SNAPSHOTS_KEPT = 100

_LINES = {
    "leader steps down": "leader stepped down",
    "pre-vote": "pre-vote",
    "truncates its log": "truncation",
    "snapshot taken": "snapshot taken",
    "snapshot installed": "snapshot installed",
    "the leader's connection closed": "leader's connection closed",
}
_EXPIRED = (-1, b"")


class _State(NamedTuple):
    """What changes in a node where anything is to be checked."""

    term: int
    vote: str | None
    role: Role
    commit: int
    applied: int
    last: int
    last_term: int
    base: int
    snapshot: Snapshot | None


@dataclass(slots=True)
class _Watched:
    """One node, over all its processes."""

    id: str
    process: int = 0  # how many it had
    host: Host | None = None  # of the present one
    raft: Raft | None = None  # the same, once it has made a step
    seen: _State | None = None  # after the last step of the present process
    contact: float = 0.0  # and its leader contact and election deadline, on its own clock
    deadline: float = 0.0
    leads_since: float = 0.0
    matches: list[int] = field(default_factory=list)  # a leader's knowledge of its followers, in `matches_term`
    matches_term: int = 0
    promised: _State | None = None  # durable when its last messages left
    unpromised: _State | None = None  # what the process before may have made durable without anybody knowing

    def holds(self, index: int, term: int) -> bool:
        """Whether it had durably what a leader of `term` has at `index`: logs that end in the same entry are equal."""
        if self.promised is None or self.promised.last < index or self.promised.last_term < term:
            return False
        if self.promised.last_term == term or self.raft is None:
            return True
        return self.raft.log.term_at(index) in (term, None)  # None: its snapshot covers it


@dataclass(slots=True)
class _Chosen:
    """The entry that `node` was the first to apply, and what its session's serial and answer were then."""

    entry: Entry
    node: str
    outcome: tuple[int, bytes | None] | None = None  # no answer: its session waited for one when this was seen


class RaftInvariants:
    """Watches the Raft nodes of a cluster; others are ignored. `violate` takes a name, a sentence, and seconds."""

    def __init__(
        self,
        nodes: tuple[str, ...],
        election_timeout: float,
        world: SimulatedWorld,
        violate: Callable[[str, str, float], None],
        sometimes: Counter[str],
    ) -> None:
        self._world = world
        self._violate = violate
        self._sometimes = sometimes
        self._lonely_s = LEADERSHIP_ELECTION_TIMEOUTS * election_timeout
        self._quorum = len(nodes) // 2 + 1
        self._nodes = {node: _Watched(node) for node in nodes}
        self._leaders: dict[int, tuple[str, int]] = {}  # term -> node and its process
        self._logged: dict[int, dict[int, tuple[Entry, int]]] = {}  # index -> term -> entry, term before it
        self._chosen: dict[int, _Chosen] = {}  # by index
        self._highest = 0  # applied anywhere
        self._forgotten = 0  # indexes up to here are no longer compared
        self._snapshots: dict[int, tuple[str, int, float, int]] = {}  # last index -> node, term, time, hash
        self._touched: dict[tuple[str, str], tuple[int, float]] = {}  # messages of the second, received by the first
        self._compared_at = 0.0
        self.watched_any = False  # some node has Raft
        self._last_leader: str | None = None
        self._successor: str | None = None  # to whom leadership is being handed over

    def summary(self) -> str:
        """What there was to watch."""
        if not self._highest and not self._leaders:
            return "no node led or applied anything"
        return f"{self._highest} entries were applied, {self._sometimes['leader elected']} leaders elected"

    # --- what happens ---

    def began(self, node: str, host: Host) -> None:
        """Of the new process nothing is known before its first step."""
        watched = self._nodes[node]
        watched.process += 1
        watched.host, watched.raft, watched.seen = host, None, None

    def stepped(self, node: str, host: Host, out: Outbox, now: float) -> None:
        """Costs next to nothing where nothing changed."""
        watched = self._nodes[node]
        raft = watched.raft
        if raft is None:
            raft = getattr(host.node, "raft", None)
            if not isinstance(raft, Raft):
                return
            watched.raft = raft
            self.watched_any = True
        log = raft.log
        state = (
            raft.term,
            raft.vote,
            raft.role,
            raft.commit,
            raft.applied,
            log.last,
            log.last_term,
            log.base_index,
            raft.snapshot,
        )
        if raft.election_deadline > watched.deadline and raft.leader_contact == watched.contact:
            self._check_timer(watched, raft, host, out, now)
        watched.deadline, watched.contact = raft.election_deadline, raft.leader_contact
        if state != watched.seen:
            self._changed(watched, raft, _State._make(state), now)
        if raft.role == "leader":
            matches = [progress.match for progress in raft.progress.values()]
            if matches != watched.matches:
                self._check_matches(watched, raft, matches, now)
        if out.log:
            self._read(out.log)

    def departed(self, node: str) -> None:
        """Whatever the node then had, others may count on."""
        watched = self._nodes[node]
        watched.promised = watched.seen

    def ended(self, node: str, now: float) -> None:
        """What its last step saved may be durable or not."""
        watched = self._nodes[node]
        self._note_touches(watched, now)
        if watched.seen is not None:
            watched.unpromised = watched.seen
        watched.host, watched.raft, watched.seen = None, None, None

    def passed(self, now: float) -> None:
        """What shows only after a while, and what need not be remembered."""
        self._check_leaders(now)
        if now - self._compared_at >= STATES_COMPARED_EVERY_S:
            self._compared_at = now
            self._compare_states(now)
        self._forget()

    def _changed(self, watched: _Watched, raft: Raft, after: _State, now: float) -> None:
        before, watched.seen = watched.seen, after
        if before is None:
            self._check_restored(watched, raft, after, now)
            before = after._replace(role="follower", last=after.base, last_term=raft.log.base_term, snapshot=None)
        if after.term < before.term:
            self._violate("monotone-term", f"{watched.id} went from term {before.term} back to {after.term}", now)
        elif after.term == before.term and before.vote not in (None, after.vote):
            detail = f"{watched.id} voted for {before.vote} in term {after.term}, and then for {after.vote or 'nobody'}"
            self._violate("one-vote", detail, now)
        if after.commit < before.commit:
            detail = f"{watched.id} went from commit index {before.commit} back to {after.commit} in term {after.term}"
            self._violate("monotone-commit", detail, now)
        if (after.last, after.last_term) != (before.last, before.last_term):
            self._check_log(watched, raft, before, after, now)
        if after.applied > before.applied:
            self._check_applied(watched, raft, before, after, now)
        if after.snapshot is not None and after.snapshot is not before.snapshot:
            self._check_snapshot(watched, after.snapshot, now)
        if after.role == "leader":
            if (before.role, before.term) != ("leader", after.term):
                self._elected(watched, raft, after, now)
            elif after.commit > before.commit:
                self._check_commit(watched, raft, after, now)

    # --- elections ---

    def _elected(self, watched: _Watched, raft: Raft, after: _State, now: float) -> None:
        watched.leads_since = now
        self._count_election(watched.id)
        leader = (watched.id, watched.process)
        known = self._leaders.setdefault(after.term, leader)
        if known != leader:
            which = f"{known[0]} and {watched.id}" if known[0] != watched.id else f"two processes of {watched.id}"
            self._violate("election-safety", f"{which} led in term {after.term}", now)
        if len(self._leaders) > LEADERS_KEPT:
            del self._leaders[next(iter(self._leaders))]
        for index in range(max(after.applied, after.base) + 1, self._highest + 1):
            chosen = self._chosen.get(index)
            entry = raft.log.entry(index) if index <= after.last else None
            if chosen is not None and entry != chosen.entry:
                self._violate(
                    "leader-completeness",
                    f"{watched.id} leads in term {after.term} with {_named(entry)} at index {index},"
                    f" where {chosen.node} had applied {_named(chosen.entry)}",
                    now,
                )
                return

    def _count_election(self, node: str) -> None:
        if self._last_leader not in (None, node):
            self._sometimes["leader change"] += 1
        self._last_leader = node
        self._sometimes["leader elected"] += 1
        if node == self._successor:
            self._sometimes["leadership transferred"] += 1
        self._successor = None

    def _check_timer(self, watched: _Watched, raft: Raft, host: Host, out: Outbox, now: float) -> None:
        """A follower's deadline moved later in this step, and no leader's word that it had not heard before came."""
        before = watched.seen
        if before is None or before[:3] != (raft.term, raft.vote, raft.role) or raft.role != "follower":
            return
        if raft.leader_contact == raft.now or any(_grants(host, data) for _, data in out.sends):
            return
        later = raft.election_deadline - watched.deadline
        self._violate(
            "timer-discipline",
            f"{watched.id} put off its election in term {raft.term} by {later:.3f} s without a leader's word or a vote",
            now,
        )

    def _check_leaders(self, now: float) -> None:
        for watched in self._nodes.values():
            self._note_touches(watched, now)
        for watched in self._nodes.values():
            raft = watched.raft
            if raft is None or raft.role != "leader":
                continue
            heard = sorted((self._in_touch(watched.id, peer, now) for peer in self._nodes), reverse=True)
            since = max(watched.leads_since, self._world.well_since(watched.id), heard[self._quorum - 1])
            if now - since > self._lonely_s:
                self._violate(
                    "leader-without-majority",
                    f"{watched.id} still leads in term {raft.term}, although it and a majority have not heard of each"
                    f" other since {since:.3f} s",
                    now,
                )

    def _note_touches(self, watched: _Watched, now: float) -> None:
        """To the second. A link that loses some messages is no reason to step down: what arrived counts."""
        received = watched.host.received if watched.host is not None else {}
        for peer, count in received.items():
            if self._touched.get((watched.id, peer), (0, 0.0))[0] != count:
                self._touched[watched.id, peer] = (count, now)

    def _in_touch(self, leader: str, peer: str, now: float) -> float:
        """When each had last heard of the other; over a link that delays answers, when the leader heard of the peer."""
        if leader == peer:
            return inf
        _, heard = self._touched.get((leader, peer), (0, 0.0))
        if self._world.clear_since(peer, leader) > now - self._lonely_s:
            return heard
        return min(heard, self._touched.get((peer, leader), (0, 0.0))[1])

    # --- the log ---

    def _check_log(self, watched: _Watched, raft: Raft, before: _State, after: _State, now: float) -> None:
        """By induction: what was there before was checked then."""
        log = raft.log
        grown = after.last > before.last and log.term_at(before.last) == before.last_term
        first = max((before.last if grown else before.commit), after.base, self._forgotten) + 1
        term = log.term_at(first - 1)
        time = log.entry(first - 1).time if log.base_index < first - 1 <= after.last else -inf
        for index in range(first, after.last + 1):
            entry = log.entry(index)
            if entry.time < time:
                detail = f"{watched.id} has {_named(entry)} at index {index}, {time - entry.time:.6f} s before its last"
                self._violate("log-time", detail, now)
            if term is not None:
                self._check_entry(watched, index, entry, term, now)
            term, time = entry.term, entry.time

    def _check_entry(self, watched: _Watched, index: int, entry: Entry, term_before: int, now: float) -> None:
        known = self._logged.setdefault(index, {}).setdefault(entry.term, (entry, term_before))
        if entry.term < term_before:
            detail = f"{watched.id} has {_named(entry)} at index {index} after one of term {term_before}"
            self._violate("log-matching", detail, now)
        elif known[1] != term_before or (known[0] is not entry and known[0] != entry):
            self._violate(
                "log-matching",
                f"{watched.id} has {_named(entry)} at index {index} after term {term_before}, where another log has"
                f" {_named(known[0])} after term {known[1]}",
                now,
            )

    def _check_matches(self, watched: _Watched, raft: Raft, matches: list[int], now: float) -> None:
        before, same_term = watched.matches, watched.matches_term == raft.term
        watched.matches, watched.matches_term = matches, raft.term
        if not same_term or len(before) != len(matches):
            return
        for peer, old, new in zip(raft.progress, before, matches, strict=True):
            if new < old:
                detail = f"{watched.id}, leading in term {raft.term}, took {peer}'s match from {old} back to {new}"
                self._violate("monotone-match", detail, now)

    def _check_commit(self, watched: _Watched, raft: Raft, after: _State, now: float) -> None:
        """A leader decides that alone; nobody it counted can have lost the entry, nor lose it before a crash."""
        index, term = after.commit, after.term
        found = raft.log.term_at(index)
        holders = [other.id for other in self._nodes.values() if other.holds(index, term)]
        if found != term or len(holders) < self._quorum:
            self._violate(
                "commit-quorum",
                f"{watched.id}, leading in term {term}, committed index {index} of term {found}, which is durable at"
                f" {', '.join(holders) or 'no node'}",
                now,
            )

    # --- the state machine ---

    def _check_applied(self, watched: _Watched, raft: Raft, before: _State, after: _State, now: float) -> None:
        """Newest first: of each session, what came of the newest entry shows."""
        later: set[int] = set()
        for index in range(min(after.applied, after.last), max(before.applied, after.base, self._forgotten), -1):
            entry = raft.log.entry(index)
            chosen = self._chosen.get(index)
            if chosen is None:
                chosen = self._chosen[index] = _Chosen(entry, watched.id)
            elif chosen.entry is not entry and chosen.entry != entry:
                self._violate(
                    "state-machine-safety",
                    f"{watched.id} applied {_named(entry)} at index {index},"
                    f" where {chosen.node} had applied {_named(chosen.entry)}",
                    now,
                )
            if entry.session and entry.session not in later:
                later.add(entry.session)
                self._check_outcome(watched, raft, index, chosen, now)
        self._highest = max(self._highest, after.applied)

    def _check_outcome(self, watched: _Watched, raft: Raft, index: int, chosen: _Chosen, now: float) -> None:
        outcome: tuple[int, bytes | None]
        session = raft.machine.sessions.get(chosen.entry.session)
        if session is not None:
            outcome = (session.serial, session.answer)
        elif index == raft.applied:
            self._sometimes["session expired"] += 1
            outcome = _EXPIRED
        else:
            return  # it may have expired by this entry, or by a later one
        if chosen.outcome is None or chosen.outcome[1] is None:
            chosen.outcome = outcome
        elif outcome[1] is not None and chosen.outcome != outcome:
            self._violate(
                "state-machine-safety",
                f"{watched.id} came to another serial or answer by {_named(chosen.entry)} at index {index}"
                f" than another node: {outcome} instead of {chosen.outcome}",
                now,
            )

    def _check_snapshot(self, watched: _Watched, snapshot: Snapshot, now: float) -> None:
        content = (snapshot.last_term, snapshot.time, hash(snapshot.data))
        node, *known = self._snapshots.setdefault(snapshot.last_index, (watched.id, *content))
        if tuple(known) != content:
            self._differ(watched.id, node, f"have different snapshots of index {snapshot.last_index}", now)
        if len(self._snapshots) > SNAPSHOTS_KEPT:
            del self._snapshots[next(iter(self._snapshots))]

    def _compare_states(self, now: float) -> None:
        states: dict[int, tuple[str, bytes]] = {}
        for watched in self._nodes.values():
            if watched.raft is not None and watched.seen is not None:
                applied, data = watched.raft.applied, watched.raft.machine.snapshot()
                node, known = states.setdefault(applied, (watched.id, data))
                if known != data:
                    self._differ(watched.id, node, f"are in different states after index {applied}", now)

    def _differ(self, one: str, other: str, how: str, now: float) -> None:
        self._violate("state-machine-safety", f"{one} and {other} {how}", now)

    # --- durability ---

    def _check_restored(self, watched: _Watched, raft: Raft, after: _State, now: float) -> None:
        promised = watched.promised
        if promised is None:
            return
        if after.term < promised.term:
            lost = f"began again in term {after.term}, although others know it in term {promised.term}"
        elif after.term == promised.term and promised.vote not in (None, after.vote):
            lost = f"began again in term {after.term} with its vote for {promised.vote} now {after.vote or 'free'}"
        elif raft.log.term_at(promised.last) != promised.last_term and (
            watched.unpromised is None or _end(after) != _end(watched.unpromised)
        ):
            lost = (
                f"began again with a log that ends at index {after.last} (term {after.last_term}) and lacks"
                f" index {promised.last} of term {promised.last_term}"
            )
        else:
            return
        self._violate("durable-promise", f"{watched.id} {lost}", now)

    # --- housekeeping ---

    def _forget(self) -> None:
        """What every node's snapshot covers is applied no more."""
        snapshots = [watched.promised.snapshot if watched.promised else None for watched in self._nodes.values()]
        covered = min(snapshot.last_index if snapshot is not None else 0 for snapshot in snapshots)
        for index in range(self._forgotten + 1, max(covered, self._highest - ENTRIES_KEPT) + 1):
            self._logged.pop(index, None)
            self._chosen.pop(index, None)
            self._forgotten = index

    def _read(self, lines: list[LogLine]) -> None:
        for line in lines:
            if line.text in _LINES:
                self._sometimes[_LINES[line.text]] += 1
            elif line.text == "hands leadership over":
                self._successor = _text(line.fields, "to")


def _end(state: _State) -> tuple[int, int]:
    return (state.last, state.last_term)


def _grants(host: Host, data: bytes) -> bool:
    try:
        message = host.codec.decode(data)
    except Garbage:
        return False
    return isinstance(message, VoteReply) and message.granted and not message.pre


def _named(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    if not entry.command:
        return f"the no-op of term {entry.term}"
    return f"an entry of term {entry.term} (session {entry.session}, serial {entry.serial})"


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
