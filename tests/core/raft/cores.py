"""Single Raft cores in a stated position, for tests that compare effects. n1 is under test; n2, n3 … are its peers."""

from collections.abc import Sequence
from typing import Any

from testbed.base.codec import pack
from testbed.base.rand import Streams
from testbed.core.raft import events
from testbed.core.raft.core import Raft, RaftConfig
from testbed.core.raft.machine import ReplicatedState
from testbed.core.raft.messages import AppendEntries, AppendReply, Entry, PeerMessage, VoteReply
from testbed.core.services.commands import Put, value
from testbed.core.services.machine import Services

CONFIG = RaftConfig(heartbeat=0.1, election_timeout=1.0)


def entry(term: int, time: float = 0.0, session: int = 0, serial: int = 0, command: bytes = b"") -> Entry:
    return Entry(term, time, session, serial, command)


def entries(*terms: int) -> list[Entry]:
    """No-ops of these terms."""
    return [entry(term) for term in terms]


def put(key: str, new: Any) -> bytes:
    """A command."""
    return pack(Put(key, value(new)))


def core(
    term: int = 0,
    terms: Sequence[int] = (),
    size: int = 3,
    config: RaftConfig = CONFIG,
    vote: str | None = None,
    log: Sequence[Entry] | None = None,
    **stored: Any,
) -> Raft:
    """A node that was started at time 0 with this on its disk. `terms`: of the entries of its log."""
    peers = tuple(f"n{number}" for number in range(2, size + 1))
    raft = Raft("n1", peers, config, Streams("cores").stream(), ReplicatedState(Services()))
    raft.restore(events.Stored(term, vote, entries=entries(*terms) if log is None else log, **stored))
    raft.step(events.Started(), 0.0)
    return raft


def leader(term: int = 2, terms: Sequence[int] = (), size: int = 3, **stored: Any) -> Raft:
    """A node that was elected in `term` at time 2.5; its no-op is durable and its first messages have left."""
    raft = core(term - 1, terms, size, **stored)
    raft.step(events.TimerFired(events.ELECTION), 2.5)
    for pre in (True, False):
        for number in range(2, size // 2 + 2):
            raft.step(events.Received(f"n{number}", VoteReply(term - 1 if pre else term, term, pre, True)), 2.5)
    assert raft.role == "leader"
    end(raft, 2.5)
    return raft


def end(raft: Raft, now: float) -> list[events.Effect]:
    """The end of a step, with its saves made durable."""
    effects = list(raft.step(events.StepEnded(), now))
    effects += raft.step(events.SavesDurable(), now)
    return [*effects, *raft.step(events.StepEnded(), now)]


def receive(raft: Raft, sender: str, message: PeerMessage, now: float = 3.0) -> list[events.Effect]:
    """One message; lines for the log are left out of the effects."""
    effects = raft.step(events.Received(sender, message), now)
    return [effect for effect in effects if not isinstance(effect, events.Logged)]


def append(term: int, previous: tuple[int, int], terms: Sequence[int] = (), commit: int = 0, round_: int = 1) -> Any:
    """AppendEntries after `previous` (index, term)."""
    return AppendEntries(term, round_, *previous, commit, entries(*terms))


def acknowledge(raft: Raft, *peers: str, now: float = 2.6) -> list[events.Effect]:
    """These followers answer the latest message that was sent to each of them: they have the whole log."""
    effects: list[events.Effect] = []
    for peer in peers:
        reply = AppendReply(raft.term, raft.progress[peer].sent, True, raft.log.last)
        effects += raft.step(events.Received(peer, reply), now)
    return effects


def sent(effects: Sequence[events.Effect], kind: type = object) -> list[Any]:
    """(to, message) of the messages of one kind among the effects."""
    sends = [effect for effect in effects if isinstance(effect, events.Send)]
    return [(effect.to, effect.message) for effect in sends if isinstance(effect.message, kind)]


def answers(effects: Sequence[events.Effect]) -> list[Any]:
    """(handle, reply) among the effects."""
    return [(effect.handle, effect.reply) for effect in effects if isinstance(effect, events.Answer)]


def log_terms(raft: Raft) -> list[int]:
    """Terms of the entries in the log."""
    return [raft.log.entry(index).term for index in range(raft.log.first, raft.log.last + 1)]
