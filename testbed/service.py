"""The built-in node: Raft and the replicated services behind the Node API.

It translates: hooks into Raft's events, Raft's effects into what a node can do. What is stored under which key is
decided here; what is decided about terms, votes and entries is Raft's.
"""

from typing import Any

from testbed.base.codec import nests_too_deep
from testbed.base.limits import COMMAND_BYTES_MAX, NESTING_MAX, SESSION_TTL_S
from testbed.core import requests
from testbed.core.raft import events
from testbed.core.raft.core import Raft, RaftConfig
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import PEER_MESSAGES, Entry, PeerMessage
from testbed.core.services.machine import Services
from testbed.node import LogLine, Node, Request

VOTE_KEY = "raft/vote"
BASE_KEY = "raft/base"
SNAPSHOT_KEY = "raft/snapshot"
LOG_PREFIX = "raft/log/"


def log_key(index: int) -> str:
    """The key of a log entry; keys sort as indexes do."""
    return f"{LOG_PREFIX}{index:016x}"


class ServiceNode(Node):
    """A member of a replicated service.

    Options: `heartbeat` and `election_timeout` (seconds), `snapshot_entries` (applied entries behind which a snapshot
    is taken), `trailing_entries` (kept in the log behind it), `session_ttl` (seconds after which a client that is heard
    of no more is forgotten). They must be the same on all nodes.
    """

    messages = (*PEER_MESSAGES, *requests.REQUESTS, *requests.REPLIES)

    def on_start(self) -> None:
        """Take up what was stored and join the cluster."""
        defaults = RaftConfig()
        config = RaftConfig(
            heartbeat=self.options.get("heartbeat", defaults.heartbeat),
            election_timeout=self.options.get("election_timeout", defaults.election_timeout),
            compact_entries=self.options.get("snapshot_entries", defaults.compact_entries),
            trailing_entries=self.options.get("trailing_entries", defaults.trailing_entries),
        )
        ttl = self.options.get("session_ttl", SESSION_TTL_S)
        self.raft = Raft(self.id, self.peers, config, self.random, ReplicatedState(Services(), session_ttl=ttl))
        self.raft.restore(self._stored_state())
        self._shown: tuple[Any, ...] = ()
        self._traced: tuple[int, ...] = ()
        self._tell(events.Started())

    def _stored_state(self) -> events.Stored:
        term, vote = self.load(VOTE_KEY, (0, None))
        base_index, base_term = self.load(BASE_KEY, (0, 0))
        snapshot = self.load(SNAPSHOT_KEY)
        return events.Stored(
            term,
            vote,
            events.Snapshot(*snapshot) if snapshot is not None else None,
            base_index,
            base_term,
            [Entry(*fields) for _, fields in self.items(LOG_PREFIX)],
        )

    def on_message(self, sender: str, message: Any) -> None:
        """All messages between these nodes are Raft's."""
        if isinstance(message, PeerMessage):
            self._tell(events.Received(sender, message))
        else:
            self.log.warning("drops a message that is not Raft's", sender=sender, type=type(message).__name__)

    def on_request(self, request: Request, body: Any) -> None:
        """A client's command, query, or wish for a session."""
        match body:
            case requests.Submit():
                command = bytes(body.command)
                unfit = _unfit(command)
                if unfit is None:
                    self._propose(request, events.Proposed(request, body.session, body.serial, command))
                else:
                    self.refuse(request, unfit)
            case requests.Query():
                self._tell(events.QueryAsked(request, bytes(body.query)))
            case requests.OpenSession():
                self._propose(request, events.SessionAsked(request))
            case _:
                self.refuse(request, "not a request of the replicated service")

    def _propose(self, request: Request, event: events.Proposed | events.SessionAsked) -> None:
        """What may put an entry into the log, unless it is there already or somebody else leads."""
        last = self.raft.log.last
        self._tell(event)
        if self.raft.log.last > last:
            self.log.trace("appended", request=request.number, index=last + 1, term=self.raft.term)

    def on_timer(self, name: str) -> None:
        """All timers are Raft's."""
        self._tell(events.TimerFired(name))

    def on_connected(self, peer: str) -> None:
        """Matters before the first election."""
        self._tell(events.PeerConnected(peer))

    def on_closed(self, peer: str) -> None:
        """The leader may have crashed."""
        self._tell(events.PeerClosed(peer))

    def on_step(self) -> None:
        """Send what the step's events add up to, in batches."""
        if self.raft.role == "leader":  # nobody else has anything to send that was not sent at once
            self._tell(events.StepEnded())
        shown = (self.raft.role, self.raft.term, self.raft.leader)
        if shown != self._shown:
            self._shown = shown
            self.report()
        self._trace_log()

    def on_saved(self) -> None:
        """The own copy of the log counts from now on."""
        self.log.trace("durable", last=self.raft.log.last)
        self._tell(events.SavesDurable())

    def _trace_log(self) -> None:
        """How far the log is, after each step that moved anything."""
        raft = self.raft
        reached = (raft.term, raft.log.last, raft.commit, raft.applied)
        if self.log.traces is not None and reached != self._traced:
            self._traced = reached
            self.log.trace("log", term=reached[0], last=reached[1], commit=reached[2], applied=reached[3])

    def on_stop(self) -> bool:
        """A leader hands over first."""
        self._tell(events.TransferAsked())
        return self.raft.role != "leader" or not self.peers

    def on_status(self) -> dict[str, Any]:
        """Role, term and leader; how far the log is."""
        raft = self.raft
        return {
            "role": raft.role,
            "term": raft.term,
            "leader": raft.leader,
            "commit": raft.commit,
            "applied": raft.applied,
            "last": raft.log.last,
            "first": raft.log.first,
            "snapshot": raft.snapshot.last_index if raft.snapshot is not None else 0,
            "sessions": len(raft.machine.sessions),
        }

    def _tell(self, event: events.Event) -> None:
        for effect in self.raft.step(event, self.now):
            match effect:
                case events.Answer():
                    self._answer_client(effect.handle, effect.reply)
                case events.SaveEntries():
                    for index, entry in enumerate(effect.entries, effect.first):
                        self.save(log_key(index), entry)
                case events.Send():
                    self.send(effect.to, effect.message, early=effect.early)
                case events.SetTimer():
                    self.set_timer(effect.name, effect.after)
                case events.DropEntries():
                    for index in range(effect.first, effect.last + 1):
                        self.delete(log_key(index))
                case events.SaveVote():
                    self.save(VOTE_KEY, (effect.term, effect.vote))
                case events.SaveBase():
                    self.save(BASE_KEY, (effect.index, effect.term))
                case events.SaveSnapshot():
                    self.save(SNAPSHOT_KEY, effect.snapshot)
                case events.Logged():
                    self.log.lines.append(LogLine(effect.level, effect.text, effect.fields))

    def _answer_client(self, request: Request, reply: Any) -> None:
        if isinstance(reply, bytes):  # encoded once, when it was applied, and kept for retries
            self._answer_encoded(request, reply)
        else:
            self.reply(request, reply)


def _unfit(command: bytes) -> str | None:
    """Why a command must not get into the log, where every node would choke on it for ever; None if it may."""
    if len(command) > COMMAND_BYTES_MAX:
        return f"the command has more than {COMMAND_BYTES_MAX} bytes"
    if nests_too_deep(command):
        return f"the command nests deeper than {NESTING_MAX}"
    return None
