"""A world on a virtual clock: nodes with states, counters and exits, that obeys the nemesis - or, told to, does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from testbed.base.links import LinkRule, combine
from testbed.ports import Exit, NodeStatus

TICK_S = 0.005
BEAT_S = 0.1  # every node sends to every other
REAP_S = 0.01  # from a kill to the recorded exit
START_S = 0.3  # from a start to being up
OBEY_S = 0.02  # from new link rules to a node that obeys them


@dataclass
class FakeNode:
    pid: int
    state: str = "up"
    incarnation: int = 1
    links_version: int = 0
    received: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    dies_at: float | None = None
    up_at: float | None = None


class FakeWorld:
    """Implements `testbed.ports.World`. `refuses` names what it does not honour: kill, pause, start (never up), links
    (never obeyed), cuts (said to be obeyed, but messages come through), heals (a link that was cut stays dead, whatever
    the rules), harm (other rules are said to be obeyed, but do nothing to messages), reports (nodes hang: what is known
    of them stays as it is). "resume of what runs" is no refusal: it lets that pass, which is a mistake of the nemesis
    otherwise.

    `leader` leads while it is up. `script` holds (time, function): called once when the clock gets there, from inside
    `wait`. `calls` lists what it was told to do, with the time.
    """

    def __init__(self, count: int = 3, leader: str | None = None, refuses: Sequence[str] = ()) -> None:
        self.fakes = {f"n{number}": FakeNode(pid=100 + number) for number in range(1, count + 1)}
        self.leader = leader
        self.refuses = set(refuses)
        self.script: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[tuple[float, str, object]] = []
        self.rules: dict[tuple[str, str], LinkRule] = {}
        self.once_cut: set[tuple[str, str]] = set()
        self.version = 0
        self.version_since = 0.0
        self._exits: list[Exit] = []
        self._ticks = 0
        self._pids = 200

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.fakes)

    def now(self) -> float:
        return round(self._ticks * TICK_S, 6)

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = self.now() + timeout
        while not condition():
            if self.now() >= deadline - 1e-9:
                return False
            self._tick()
        return True

    def start(self, node: str) -> None:
        self._call("start", node)
        fake = self.fakes[node]
        assert fake.state == "down", f"{node} is {fake.state}: only what is down can be started"
        self._pids += 1
        self.fakes[node] = FakeNode(self._pids, "starting", fake.incarnation + 1)
        self.fakes[node].up_at = None if "start" in self.refuses else self.now() + START_S

    def kill(self, node: str) -> None:
        self._call("kill", node)
        if "kill" not in self.refuses and self.fakes[node].state != "down":
            self.fakes[node].dies_at = self.now() + REAP_S

    def terminate(self, node: str) -> None:
        self._call("terminate", node)
        if self.fakes[node].state != "down":
            self.fakes[node].dies_at = self.now() + 20 * REAP_S

    def pause(self, node: str) -> None:
        self._call("pause", node)
        if "pause" not in self.refuses:
            assert self.fakes[node].state in ("up", "starting")
            self.fakes[node].state = "paused"

    def resume(self, node: str) -> None:
        self._call("resume", node)
        if "resume of what runs" not in self.refuses:
            assert self.fakes[node].state == "paused", "the nemesis must not signal a process that it did not pause"
        self.fakes[node].state = "up"

    def set_links(self, rules: Sequence[LinkRule]) -> int:
        self._call("set_links", tuple(rules))
        self.rules = combine(rules)
        self.once_cut |= set(self.rules)
        self.version += 1
        self.version_since = self.now()
        return self.version

    def status(self, fresh: bool = False) -> dict[str, NodeStatus]:
        return {
            name: NodeStatus(
                id=name,
                pid=None if fake.state == "down" else fake.pid,
                state=fake.state,  # type: ignore[arg-type]
                role="leader" if name == self.leader else "follower",
                term=1,
                incarnation=fake.incarnation,
                links_version=fake.links_version,
                received=dict(fake.received),
                counters=dict(fake.counters),
                reported_at=0.0 if "reports" in self.refuses else self.now(),
            )
            for name, fake in self.fakes.items()
        }

    def exits(self) -> list[Exit]:
        return list(self._exits)

    def run_client(self, program: object, sent: object = None) -> None:
        raise AssertionError("the nemesis drives no clients")

    def tell_client(self, program: object, what: object) -> None:
        raise AssertionError("the nemesis drives no clients")

    def notify(self) -> None:
        """Nothing to wake: conditions are looked at on every tick."""

    def close(self) -> None:
        self._call("close", None)

    def refute(self, node: str) -> None:
        """What a node does that learns of its own conviction: the same process goes on under a new incarnation."""
        self.fakes[node].incarnation += 1

    def states(self) -> dict[str, str]:
        return {name: fake.state for name, fake in self.fakes.items()}

    def done(self, *what: str) -> list[tuple[str, object]]:
        """The calls of those names, in order, without their times."""
        return [(name, argument) for _, name, argument in self.calls if name in what]

    def _call(self, name: str, argument: object) -> None:
        self.calls.append((self.now(), name, argument))

    def _tick(self) -> None:
        self._ticks += 1
        now = self.now()
        for name, fake in self.fakes.items():
            if fake.dies_at is not None and now >= fake.dies_at:
                fake.state, fake.dies_at = "down", None
                self._exits.append(Exit(name, fake.pid, now, "killed by SIGKILL", expected=True))
            if fake.state == "starting" and fake.up_at is not None and now >= fake.up_at:
                fake.state = "up"
            if fake.state == "up" and "links" not in self.refuses and now >= self.version_since + OBEY_S:
                fake.links_version = self.version
        if self._ticks % round(BEAT_S / TICK_S) == 0:
            self._beat()
        due = [entry for entry in self.script if entry[0] <= now]
        self.script = [entry for entry in self.script if entry[0] > now]
        for _, action in due:
            action()

    def _beat(self) -> None:
        for source, sender in self.fakes.items():
            for target, receiver in self.fakes.items():
                if "heals" in self.refuses and (source, target) in self.once_cut:
                    continue
                if source == target or sender.state != "up" or receiver.state != "up":
                    continue
                rule = self.rules.get((source, target))
                if rule is not None and sender.links_version == self.version and "harm" not in self.refuses:
                    for counter, amount in (
                        ("lost", rule.loss),
                        ("delayed", rule.delay + rule.jitter + rule.reorder),
                        ("duplicated", rule.duplicate),
                        ("reordered", rule.reorder),
                    ):
                        sender.counters[counter] = sender.counters.get(counter, 0) + (amount > 0)
                obeyed = receiver.links_version == self.version and "cuts" not in self.refuses
                if rule is None or rule.cut is None or not obeyed:
                    receiver.received[source] = receiver.received.get(source, 0) + 1
