"""A leader is killed, or paused: how long until the next write is acknowledged?

The clock starts before the signal is asked for and stops when a continuously writing client has the answer to a write
that it began after that. etcd, if installed, is measured in the same run, with the same heartbeat, election timeout
and number of nodes; its clients write to every node at once, so that none has to find the new leader first.
"""

from collections.abc import Callable
from statistics import median

from benchmarks import etcd
from benchmarks.measures import Row, ms
from testbed import Cluster
from testbed.base.codec import Codec
from testbed.client import Ask, ClientEvent, Session
from testbed.core.services.commands import Put, value

NODES = 3
HEARTBEAT_S, ELECTION_TIMEOUT_S = 0.1, 1.0
KILLS, PAUSES, ETCD_FAULTS = 15, 8, 8
KILL_REACH_S = 0.2
CATCH_UP_S = 0.3  # after a fault, so that the node that was away has the log and can be elected by the next one
ETCD_STATED_S = 1.53  # DESIGN section 6: killed leader, same settings and machine
OPERATION_TIMEOUT_S = 20.0


class Writer:
    """A client program that never stops writing. `answered_at`: of the first write begun after `since`, in seconds."""

    def __init__(self, session: Session, notify: Callable[[], None]) -> None:
        self._session = session
        self._notify = notify
        self._begun_at = 0.0
        self._puts = 0
        self.since = float("inf")
        self.answered_at: float | None = None

    def step(self, event: ClientEvent, now: float) -> list[Ask]:
        """Take an event; the requests to send."""
        asks = self._session.step(event, now)
        if self._session.busy:
            return asks
        outcome = self._session.outcome
        if outcome is not None and outcome.type == "ok" and self._begun_at >= self.since:
            self.since, self.answered_at = float("inf"), now
            self._notify()
        self._begun_at = now
        self._puts += 1
        return asks + self._session.begin(Put("k", value(self._puts)), now, OPERATION_TIMEOUT_S)

    @property
    def deadline(self) -> float | None:
        """The session's."""
        return self._session.deadline

    @property
    def finished(self) -> bool:
        """Never."""
        return False


def kill() -> Row:
    """SIGKILL."""
    ours, theirs = _ours("kill", KILLS), etcd.failover("kill", ETCD_FAULTS, NODES, HEARTBEAT_S, ELECTION_TIMEOUT_S)
    return _row("leader killed -> next write", ours, theirs, KILL_REACH_S)


def pause() -> Row:
    """SIGSTOP: no connection closes."""
    ours, theirs = _ours("pause", PAUSES), etcd.failover("pause", ETCD_FAULTS, NODES, HEARTBEAT_S, ELECTION_TIMEOUT_S)
    return _row("leader paused -> next write", ours, theirs, median(theirs) if theirs else ETCD_STATED_S)


def _row(what: str, ours: list[float], theirs: list[float], reach: float) -> Row:
    reference = median(theirs) if theirs else ETCD_STATED_S
    how = f"max {ms(max(theirs))}" if theirs else "stated, killed; not installed here"
    killed = "killed" in what
    return Row(
        what,
        f"{ms(median(ours))} (max {ms(max(ours))})",
        f"{ms(reference)} etcd ({how})",
        f"{median(ours) / reference:.2f}",
        f"<= {ms(reach)}" if killed else "<= etcd",
        median(ours) <= reach,
        "the closed connection tells; then two rounds of votes, and the client that asks where the leader is"
        if killed
        else "silence is all there is: an election timeout, drawn between one and two times 1 s by two followers",
    )


def _ours(fault: str, count: int) -> list[float]:
    with Cluster(nodes=NODES, heartbeat=HEARTBEAT_S, election_timeout=ELECTION_TIMEOUT_S) as cluster:
        cluster.wait_for_leader()
        world = cluster.world
        writer = Writer(Session(cluster.nodes, ELECTION_TIMEOUT_S / 2, Codec()), world.notify)
        world.run_client(writer)
        return [_one(cluster, writer, fault) for _ in range(count)]


def _one(cluster: Cluster, writer: Writer, fault: str) -> float:
    """One fault at the leader, and all back to normal."""
    cluster.wait_for(lambda: _settled(cluster), "all nodes to follow one leader")
    cluster.world.wait(lambda: False, CATCH_UP_S)
    leader = cluster.wait_for_leader()
    writer.answered_at = None
    begun = cluster.world.now()
    writer.since = begun
    if fault == "kill":
        cluster.world.kill(leader)
    else:
        cluster.world.pause(leader)
    cluster.wait_for(lambda: writer.answered_at is not None, "a write")
    assert writer.answered_at is not None
    if fault == "kill":
        cluster.wait_for(lambda: cluster.status(fresh=False)[leader].state == "down", f"{leader} down")
        cluster.start_node(leader)
    else:
        cluster.resume(leader)
    return writer.answered_at - begun


def _settled(cluster: Cluster) -> bool:
    """Everyone is up, follows the same leader and holds everyone alive."""
    nodes = cluster.status(fresh=False).values()
    leaders = {node.leader for node in nodes}
    healthy = all(node.state == "up" and set(node.views.values()) <= {"alive"} for node in nodes)
    return healthy and len(leaders) == 1 and None not in leaders and sum(node.role == "leader" for node in nodes) == 1
