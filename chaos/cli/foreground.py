"""What `testbed up` does while it runs: carries out what companions ask for, and reports changes.

One thread - the one that calls `run` - uses the cluster; requests wait for it in a queue. It knows the cluster through
`Cluster` and its world, and nothing of sockets, files or terminals.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from chaos.cli.changes import Changes
from chaos.console import Act, Done, Down, Failed, Heal, Job, Partition, Status, Verb
from chaos.faults import Fault, mistake
from chaos.targets import WORDS, draw_target, resolve
from testbed.base.errors import UsageError
from testbed.base.links import combine
from testbed.base.rand import Random
from testbed.cluster import Cluster, leader_of
from testbed.ports import NodeStatus

TICK_S: Final = 0.25  # how often to look for changes that nothing announces
EFFECT_S_MAX: Final = 30.0  # from an order until its effect was seen, on a machine that is starved
LEADER_S_MAX: Final = 5.0  # a leader that is asked for may be just being elected


class Foreground:
    """Serves a running cluster. `say` is given a line for each change, `show` the status after it."""

    def __init__(
        self,
        cluster: Cluster,
        random: Random,
        say: Callable[[str], None],
        show: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.stopped_by: int | None = None  # a signal's number; set by its handler
        self._cluster = cluster
        self._random = random
        self._say = say
        self._show = show
        self._jobs: deque[Job] = deque()
        self._changes = Changes()
        self._taken: set[str] = set()  # killed or paused by command, and not asked back since
        self._was_led = False

    def submit(self, job: Job) -> None:
        """Hand in a request, from any thread; also before `run` is called and after it has returned."""
        self._jobs.append(job)

    def run(self) -> Job | None:
        """Serve until a signal comes (None) or somebody asks for the end: that job is then still to be finished."""
        while self.stopped_by is None:
            self._cluster.world.wait(lambda: bool(self._jobs) or self.stopped_by is not None, TICK_S)
            while self._jobs and self.stopped_by is None:
                job = self._jobs.popleft()
                if isinstance(job.request, Down):
                    return job
                self._serve(job)
                self._report()
            self._report()
        return None

    def refuse_the_rest(self, reason: str) -> None:
        """Finish every job that is left."""
        while self._jobs:
            self._jobs.popleft().finish(Failed(254, reason))

    def _report(self) -> None:
        status = self._cluster.status(fresh=False)
        self._was_led = self._was_led or leader_of(status) is not None
        lines = self._changes.note(status, self._cluster.links, self._cluster.world.exits())
        for line in lines:
            self._say(line)
        if lines:
            self._show(self._described(status))

    # --- requests ---

    def _serve(self, job: Job) -> None:
        try:
            job.finish(Done(self._carry_out(job)))
        except UsageError as error:
            job.finish(Failed(254, str(error)))
        except TimeoutError as error:
            job.finish(Failed(255, str(error)))
        except BaseException as error:
            job.finish(Failed(255, f"{type(error).__name__}: {error}"))
            raise

    def _carry_out(self, job: Job) -> dict[str, Any]:
        world = self._cluster.world
        began = world.now()
        match job.request:
            case Status():
                return self._status()
            case Act(verb, target):
                told = self._act(verb, target)
            case Partition(groups, mode):
                sides = self._sides(groups)
                self._cluster.partition(*sides, mode=mode)
                told = {"command": "partition", "groups": sides, "mode": mode}
            case Heal():
                links = len(combine(self._cluster.links))
                self._cluster.heal()
                told = {"command": "heal", "links": links}
            case Down():
                raise AssertionError("`run` returns on it")
        return told | {"seconds": round(world.now() - began, 4)}

    def _status(self) -> dict[str, Any]:
        status = self._cluster.status(fresh=True)
        self._was_led = self._was_led or leader_of(status) is not None
        late = [
            f"{node.id} is {node.state}"
            for node in status.values()
            if node.state != "up" and not (node.id in self._taken and node.state in ("down", "paused"))
        ]
        elects = any(node.role is not None for node in status.values())
        if not late and elects and not self._was_led:
            late = ["no leader has been elected yet"]
        return {"status": self._described(status), "ready": not late, "waits_for": ", ".join(late)}

    def _described(self, status: dict[str, NodeStatus]) -> dict[str, Any]:
        """The contract's shape. What a node that is down reported last is history: its role and term are null."""
        return {
            "nodes": [
                {
                    "id": node.id,
                    "pid": node.pid,
                    "state": node.state,
                    "role": node.role if node.state != "down" else None,
                    "term": node.term if node.state != "down" else None,
                    "incarnation": node.incarnation,
                    "views": dict(node.views) if node.state != "down" else {},
                    "note": node.note,
                    "extra": node.extra if node.state != "down" else None,
                }
                for node in status.values()
            ],
            "leader": leader_of(status),
            "links": [msgspec.to_builtins(rule) for rule in combine(self._cluster.links).values()],
        }

    # --- processes ---

    def _act(self, verb: Verb, target: str) -> dict[str, Any]:
        nodes = self._targets(verb, target)
        status = self._cluster.status(fresh=False)
        note = ""
        match verb:
            case "kill":
                nodes, note = self._kill(nodes, status), "down already"
            case "pause":
                if target in WORDS:  # a word means whom it can mean; a name means that node
                    nodes = [node for node in nodes if status[node].state != "down"]
                nodes, note = self._pause(nodes, status), "paused or down already"
            case "resume":
                nodes, note = self._resume(nodes, status), "not paused"
            case "restart":
                self._restart(nodes, status)
        return {"command": verb, "target": target, "nodes": nodes, "note": "" if nodes else note}

    def _kill(self, nodes: list[str], status: dict[str, NodeStatus]) -> list[str]:
        for node in nodes:  # also one that is down: the restart policy may be about to start it
            self._cluster.world.kill(node)
        self._taken.update(nodes)
        self._until(nodes, lambda node: node.state == "down", "down")
        return [node for node in nodes if status[node].state != "down"]

    def _pause(self, nodes: list[str], status: dict[str, NodeStatus]) -> list[str]:
        down = [node for node in nodes if status[node].state == "down"]
        if down:
            raise UsageError("pause", down[0], "is down")
        for node in nodes:
            self._cluster.world.pause(node)
        self._taken.update(nodes)
        self._until(nodes, lambda node: node.state in ("paused", "down"), "paused")
        return [node for node in nodes if status[node].state != "paused"]

    def _resume(self, nodes: list[str], status: dict[str, NodeStatus]) -> list[str]:
        paused = [node for node in nodes if status[node].state == "paused"]
        for node in paused:
            self._cluster.world.resume(node)
        self._until(paused, lambda node: node.state != "paused", "resumed")
        self._taken.difference_update(paused)
        return paused

    def _restart(self, nodes: list[str], status: dict[str, NodeStatus]) -> None:
        world = self._cluster.world
        self._kill(nodes, status)
        earlier = len(world.exits())
        for node in nodes:
            world.start(node)
        self._taken.difference_update(nodes)

        def ended() -> list[str]:
            return [f"{exit.node}: {exit.reason}" for exit in world.exits()[earlier:] if exit.node in nodes]

        self._wait(lambda: bool(ended()) or self._all(nodes, lambda node: node.state == "up"), f"{', '.join(nodes)} up")
        if ended():
            raise UsageError("restart", "", f"could not be started: {'; '.join(ended())}")

    def _until(self, nodes: Sequence[str], state: Callable[[NodeStatus], bool], what: str) -> None:
        self._wait(lambda: self._all(nodes, state), f"{', '.join(nodes)} {what}")

    def _all(self, nodes: Sequence[str], state: Callable[[NodeStatus], bool]) -> bool:
        status = self._cluster.status(fresh=False)
        return all(state(status[node]) for node in nodes)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        self._cluster.wait_for(lambda: self.stopped_by is not None or condition(), what, EFFECT_S_MAX)
        if self.stopped_by is not None:
            raise UsageError("", "", "the cluster is being stopped")

    # --- whom ---

    def _targets(self, verb: str, target: str) -> list[str]:
        """The nodes meant by ids, or by a word at this moment; UsageError if that is nobody."""
        nodes = self._cluster.nodes
        if target not in WORDS:
            return self._named(verb, target)
        if verb == "resume" and target != "all":
            raise UsageError(verb, target, "takes node ids, or all")
        if target == "one":
            return [self._random.choice(self._fit_for(verb))]
        found = resolve(draw_target(target, nodes, self._random), nodes, self._leader(verb, target))
        if not found:
            raise UsageError(verb, target, f"is nobody in a cluster of {len(nodes)}")
        return list(found)

    def _named(self, verb: str, target: str) -> list[str]:
        names = [name.strip() for name in target.split(",")]
        for name in names:
            if name not in self._cluster.nodes:
                known = ", ".join(self._cluster.nodes)
                raise UsageError(verb, name or repr(target), f"is no node of this cluster; there are {known}")
        return [node for node in self._cluster.nodes if node in names]

    def _fit_for(self, verb: str) -> list[str]:
        status = self._cluster.status(fresh=False)
        fit = [node.id for node in status.values() if verb == "restart" or node.state == "up"]
        if not fit:
            raise UsageError(verb, "one", "no node is up")
        return fit

    def _leader(self, verb: str, target: str) -> str | None:
        if target not in ("leader", "followers"):
            return None
        self._cluster.world.wait(lambda: self.stopped_by is not None or self._cluster.leader is not None, LEADER_S_MAX)
        leader = self._cluster.leader
        if leader is None:
            raise UsageError(verb, target, "no node leads at this moment")
        return leader

    def _sides(self, groups: list[str]) -> list[list[str]]:
        """The sides of a partition, the last being the rest if only one was named."""
        sides = [self._targets("partition", group) for group in groups]
        if len(sides) == 1:
            wrong = mistake(Fault(kind="partition", target=tuple(sides[0])), self._cluster.nodes)
            sides.append([node for node in self._cluster.nodes if node not in sides[0]])
        else:
            wrong = mistake(Fault(kind="partition", groups=tuple(map(tuple, sides))), self._cluster.nodes)
        if wrong is not None:
            raise UsageError("partition", " ".join(groups), wrong)
        return sides
