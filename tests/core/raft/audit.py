"""What must never happen in a Raft cluster, checked after every step of every node. It drives nothing."""

from collections import Counter
from typing import Any

from testbed.base import limits
from testbed.core.raft.core import Raft
from testbed.core.raft.events import Effect, Logged, SaveEntries, SaveSnapshot, Send
from testbed.core.raft.machine import Applied, ReplicatedState
from testbed.core.raft.messages import Entry, VoteReply
from testbed.core.services.commands import LockStatus
from testbed.core.services.machine import Services

LOCKS = ("a", "b")
ROUNDING_S = 1e-6

SOMETIMES = {  # lines of the nodes' logs -> events that a campaign of seeds must have reached
    "snapshot installed": "snapshot installed",
    "snapshot taken": "snapshot taken",
    "truncates its log": "truncation",
    "elected": "leader elected",
    "leader steps down": "leader stepped down",
    "hands leadership over": "leadership transferred",
    "the leader's connection closed": "leader's connection closed",
}


class Violation(AssertionError):
    """An invariant does not hold."""


class AuditedServices(Services):
    """Notes that a command was carried out, not merely answered from the session."""

    executed = False

    def apply(self, command: bytes, session: int, time: float) -> bytes | None:
        self.executed = True
        return super().apply(command, session, time)


class AuditedState(ReplicatedState):
    """Reports every entry that one process applies to the audit."""

    def __init__(self, audit: "Audit", sessions_max: int) -> None:
        self.audited = AuditedServices()
        super().__init__(self.audited, sessions_max, limits.SESSION_TTL_S)
        self._audit = audit

    def apply(self, entry: Entry, index: int) -> Applied:
        self.audited.executed = False
        result = super().apply(entry, index)
        self._audit.applied(entry, index, result, self.audited.executed)
        for lock in LOCKS:
            for holder in self.audited.locks.query(LockStatus(lock))["holders"]:
                self._audit.granted_at.setdefault((lock, holder["token"]), self._audit.now)
        return result


class Audit:
    """The safety properties of the Raft paper's figure 3, and what sessions promise on top of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.chosen: dict[int, tuple[Entry, Any]] = {}  # index -> the entry applied there, and its result
        self.executions: dict[bytes, int] = {}  # every command of a test is unique: it may be carried out once
        self.never: set[bytes] = set()  # commands that their client was told had failed
        self.now = 0.0
        self.granted_at: dict[tuple[str, int], float] = {}  # lock and token -> when the first node knew
        self.held_until: dict[int, float] = {}  # token -> until when its client was sure to be the only one
        self.acknowledged: dict[int, float] = {}  # message -> when its consumer knew that it is done with
        self._leaders: dict[int, str] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}  # (index, term) -> entry, term before it
        self._snapshots: dict[int, bytes] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self._seen: dict[int, tuple[int, int, Raft]] = {}  # one process' core, its term and commit index
        self._terms: dict[str, int] = {}  # node -> highest term it made known to anybody, over all its processes

    def require(self, condition: bool, text: str, *details: Any) -> None:
        if not condition:
            raise Violation(f"{text}: {details}")

    # --- a process applies an entry ---

    def applied(self, entry: Entry, index: int, result: Applied, executed: bool) -> None:
        known, known_result = self.chosen.setdefault(index, (entry, result))
        self.require(known == entry and known_result == result, "state-machine safety", index, known, entry)
        if index > 1 and index - 1 in self.chosen:
            self.require(entry.time >= self.chosen[index - 1][0].time, "log time goes back", index)
        if result.expired:
            self.counts["session expired"] += 1
        if executed:
            first = self.executions.setdefault(entry.command, index)
            self.require(first == index, "a command was carried out twice", entry.session, entry.serial, first, index)
            self.require(entry.command not in self.never, "a failed command was carried out", entry)
        elif entry.session and result.answer is not None:
            self.counts["retry answered from the session"] += 1

    # --- a client was told ---

    def delivered(self, message: int, asked: float) -> None:
        self.require(asked <= self.acknowledged.get(message, asked), "an acknowledged message came again", message)

    def leases(self) -> None:
        """Nobody was granted a lock while another was sure to hold it (all claims are plain ones)."""
        for (lock, token), granted_at in self.granted_at.items():
            for other, until in self.held_until.items():
                if other < token and (lock, other) in self.granted_at:
                    self.require(
                        until <= granted_at + ROUNDING_S, "two hold a lock", lock, other, until, token, granted_at
                    )

    # --- a process made a step ---

    def stepped(self, raft: Raft, effects: list[Effect]) -> None:
        self._elections(raft)
        self._never_back(raft)
        self._shape(raft)
        for effect in effects:
            match effect:
                case SaveEntries():
                    self._log_matching(raft, effect)
                case SaveSnapshot():
                    index, data = effect.snapshot.last_index, effect.snapshot.data
                    self.require(self._snapshots.setdefault(index, data) == data, "snapshots differ", index)
                case Logged():
                    if effect.text in SOMETIMES:
                        self.counts[SOMETIMES[effect.text]] += 1

    def departed(self, sender: str, effect: Send) -> None:
        """A message left: its promises hold for ever, whatever becomes of the process."""
        message = effect.message
        self.require(message.term >= 0, "a negative term")
        if isinstance(message, VoteReply):
            term = message.term
            if message.granted and not message.pre:
                voted = self._votes.setdefault((sender, term), effect.to)
                self.require(voted == effect.to, "two votes in one term", sender, term, voted, effect.to)
            known = self._terms.get(sender, 0)
            self.require(term >= known, "a term went back over a restart", sender, known, term)
            self._terms[sender] = term

    def _elections(self, raft: Raft) -> None:
        if raft.role != "leader":
            return
        known = self._leaders.get(raft.term)
        self.require(known in (None, raft.id), "two leaders in one term", raft.term, known, raft.id)
        if known is None:
            self._leaders[raft.term] = raft.id
            for index in range(raft.log.first, max(self.chosen, default=0) + 1):
                if index in self.chosen:
                    held = raft.log.entry(index) if index <= raft.log.last else None
                    self.require(held == self.chosen[index][0], "leader completeness", raft.id, raft.term, index)

    def _never_back(self, raft: Raft) -> None:
        term, commit, _ = self._seen.get(id(raft), (0, 0, raft))
        self.require(raft.term >= term, "the term goes back", raft.id, term, raft.term)
        self.require(raft.commit >= commit, "the commit index goes back", raft.id, commit, raft.commit)
        self._seen[id(raft)] = (raft.term, raft.commit, raft)

    def _shape(self, raft: Raft) -> None:
        log, snapshot = raft.log, raft.snapshot
        self.require(raft.applied == raft.commit <= log.last, "applied, commit, last", raft.applied, raft.commit)
        self.require(raft.durable <= log.last, "more is durable than there is", raft.durable, log.last)
        covered = snapshot.last_index if snapshot is not None else 0
        self.require(log.base_index <= covered <= raft.commit, "a gap behind the snapshot", log.base_index, covered)
        leads = raft.role == "leader"
        self.require(leads == (raft.leader == raft.id), "who leads", raft.role, raft.leader)
        self.require(
            leads or not (raft.pending or raft.reads or raft.progress or raft.held), "a follower with a leader's duties"
        )
        self.require(not leads or raft.vote == raft.id, "a leader that voted for another", raft.vote)
        for peer, progress in raft.progress.items():
            self.require(progress.match < progress.next <= log.last + 1, "match, next, last", peer, progress, log.last)
            self.require(progress.acked <= progress.sent <= raft.round, "an answer to no question", peer, progress)
        for index in raft.pending:
            self.require(raft.commit < index <= log.last, "a client waits for what is decided", index, raft.commit)

    def _log_matching(self, raft: Raft, saved: SaveEntries) -> None:
        """By induction: an index and a term determine the entry and the term before it (log matching, 3.5)."""
        index = saved.first
        for entry in saved.entries:
            if index - 1 >= raft.log.base_index and index <= raft.log.last and raft.log.entry(index) is entry:
                before = raft.log.term_at(index - 1)
                assert before is not None
                self.require(before <= entry.term, "terms in a log go back", index)
                known = self._entries.setdefault((index, entry.term), (entry, before))
                self.require(known == (entry, before), "log matching", raft.id, index, known, (entry, before))
            index += 1
