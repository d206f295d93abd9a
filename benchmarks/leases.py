"""The queue and the locks on three nodes, beside the raw puts of the same clusters, right before."""

from benchmarks import load
from benchmarks.measures import Row, Sample, medians, ms, sample
from benchmarks.puts import CLIENTS, NODES, PUTS, PUTS_ALONE, TURNS, VALUE_BYTES, WARM_UP
from testbed import Cluster
from testbed.core.services.commands import Ack, Acquire, Claim, LockStatus, Publish, Release, Take, value

QUEUE, LOCK = "jobs", "lock"
LEASE_S, WAIT_S = 30.0, 60.0  # neither is to end
CYCLES = 5_000
COMMANDS_A_CYCLE = 3
HAND_OVERS = 500
WAITERS = 100


def queue() -> Row:
    """A hundred clients, each of which publishes a message, takes one and acknowledges it, again and again."""
    raw, cycles = [], []
    work = deliveries(VALUE_BYTES)
    for _ in range(TURNS):
        with Cluster(nodes=NODES) as cluster:
            load.measure(cluster, *WARM_UP, load.puts(VALUE_BYTES))
            raw.append(load.measure(cluster, CLIENTS, PUTS, load.puts(VALUE_BYTES)))
            cycles.append(load.measure(cluster, CLIENTS, CYCLES, work))
    ours, puts = medians(cycles), medians(raw)
    commands = COMMANDS_A_CYCLE * ours.rate
    return Row(
        f"publish-take-ack/s, {CLIENTS} clients",
        f"{ours.rate:,.0f}, {commands:,.0f} commands",
        f"{puts.rate:,.0f} puts",
        f"{ours.rate / puts.rate:.2f}, {commands / puts.rate:.2f} a command",
        "-",
        None,
        "the CPU of both cores, as for puts: each of the three is durable, and twice a put to the state machine",
    )


def locks() -> list[Row]:
    """One lock that is handed over from client to client: with one who waits for it, and with a hundred."""
    raw, one, many = [], [], []
    for _ in range(TURNS):
        with Cluster(nodes=NODES) as cluster:
            load.measure(cluster, *WARM_UP, load.puts(VALUE_BYTES))
            raw.append(load.measure(cluster, 1, PUTS_ALONE, load.puts(VALUE_BYTES)))
            one.append(_hand_over(cluster, 1))
            many.append(_hand_over(cluster, WAITERS))
    two, crowd, put = medians(one), medians(many), medians(raw)
    return [
        Row(
            "lock hand-over, release to the next one's grant, p50",
            f"{ms(two.p50)} (p99 {ms(two.p99)})",
            f"{ms(put.p50)} (p99 {ms(put.p99)}) one client's put",
            f"{two.p50 / put.p50:.2f}",
            "-",
            None,
            "one commit, of the release, which also grants the lock to who waits; right before came the acquire of who "
            "waits, and the question whether anybody does",
        ),
        Row(
            f"lock hand-overs/s, {WAITERS} wait",
            f"{crowd.rate:,.0f} (p99 {ms(crowd.p99)})",
            f"{put.rate:,.0f} one client's puts",
            f"{crowd.rate / put.rate:.2f}",
            "-",
            None,
            "one commit after the other, as for one client; each with two commands, for whoever let go acquires anew",
        ),
    ]


def deliveries(body_bytes: int) -> load.Work:
    """Publish, take, ack. A message is always there: everyone publishes before they take."""
    body = value("v" * body_bytes)

    def cycle(number: int) -> load.Cycle:  # noqa: ARG001  # all are alike
        yield Publish(QUEUE, body)
        message, _ = yield Take(QUEUE, LEASE_S)
        yield Ack(message["receipt"])

    return cycle


class Line:
    """Clients that hold one lock in turn, `holds` times in all. `latencies`: from each release to the next grant.

    `patient`: nobody lets go before another waits. In a crowd somebody always does.
    """

    def __init__(self, holds: int, patient: bool) -> None:
        self._left = holds
        self._patient = patient
        self._released_at: float | None = None
        self.latencies: list[float] = []

    def hold(self, number: int) -> load.Cycle:  # noqa: ARG002  # all are alike
        """Acquire, release."""
        token, now = yield Acquire((Claim(LOCK),), LEASE_S, WAIT_S)
        if self._released_at is not None:
            self.latencies.append(now - self._released_at)
        self._left -= 1
        someone_waits = not self._patient
        while self._left and not someone_waits:
            status, now = yield LockStatus(LOCK)
            someone_waits = bool(status["waiting"])
        self._released_at = now
        yield Release(token)


def _hand_over(cluster: Cluster, waiters: int) -> Sample:
    line = Line(HAND_OVERS, patient=waiters == 1)
    load.measure(cluster, 1 + waiters, HAND_OVERS, line.hold)
    return sample(line.latencies, sum(line.latencies))
