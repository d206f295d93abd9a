"""A scenario and a seed in, a run on a cluster, a verdict out.

It joins cluster, clients, nemesis and judges, and writes the run directory. What goes wrong when is the schedule's
business, whether it took hold the nemesis', what it means the judges'.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import msgspec

from chaos.bugs import node_reference, planted, refuse_elsewhere
from chaos.checkers import check
from chaos.checkers.model import PRECONDITION_FAILED
from chaos.custom_faults import CustomKinds, load_kinds
from chaos.history import NS_PER_S, Recorder
from chaos.invariants import Invariants
from chaos.journal import Journal
from chaos.junit import write_junit
from chaos.loading import load_object, search_path
from chaos.logbook import Logbook
from chaos.logbook.recovery import recovery_steps
from chaos.nemesis import Nemesis
from chaos.readiness import Lateness
from chaos.records import summary as fault_summary
from chaos.report import write_report
from chaos.scenario import Scenario, WorkloadSpec
from chaos.schedule import Schedule, draw
from chaos.verdicts import (
    Check,
    Observed,
    anomaly,
    bound,
    history_name,
    judge,
    of_verdict,
    operation_counts,
    overall,
    recoveries,
)
from chaos.workloads import BUILT_IN
from chaos.workloads.api import Client, Workload
from chaos.workloads.recent import Recent
from chaos.workloads.runner import REPEATS_MAX, Allowance, WorkloadClient, WorkloadFailed
from testbed.base.codec import Codec
from testbed.base.errors import UsageError
from testbed.base.rand import Random, Streams, entropy
from testbed.client import Sent, Session
from testbed.cluster import Cluster, stopwatch, utc_stamp
from testbed.node import Node
from testbed.ports import SimulatedWorld, World

JUDGE_BUDGET_S = 60.0  # for all models together; a run is judged in a second or two
DRAIN_S_MAX = 120.0  # for the clients to read what is left; a queue of a minute's messages takes seconds
MEMBERSHIP_ELECTION_TIMEOUTS = 10  # for the views to converge after the last heal ...
MEMBERSHIP_HEARTBEATS = 40  # ... and a conviction takes up to 29 heartbeats: 5 to suspicion, 24 more for the verdict
SEED_BITS = 31


class Watcher(Protocol):
    """Whoever looks on while a run is under way. Called from the thread that runs it."""

    def started(self, run: "Run") -> None:
        """The cluster is up, and clients and faults begin."""

    def tick(self) -> None:
        """Called many times a second while the cluster runs: look at the run now, and be quick."""

    def fault(self, event: Mapping[str, Any]) -> None:
        """A step of a fault, in the shape of a history's event; `time` in nanoseconds since the start."""

    def phase(self, text: str) -> None:
        """Something else begins, such as judging."""


class Nobody:
    """Watches nothing."""

    def started(self, run: "Run") -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def fault(self, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def phase(self, text: str) -> None:
        """Nothing."""


@dataclass
class _Load:
    """One workload of a run."""

    name: str
    workload: Workload
    spec: WorkloadSpec
    recorder: Recorder = field(default_factory=Recorder)
    clients: list[WorkloadClient] = field(default_factory=list)


class Run:
    """One run of a scenario. `directory`, below `out`, is where everything about it is kept; nowhere without `out`.

    `plant`: the name of a bug of the catalogue. In the world `sim`, invariants are watched as well; if the run is
    to keep `every_event`, each is there, as a line of `trace`.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int | None = None,
        duration: float | None = None,
        world: Literal["live", "sim"] = "live",
        out: str | Path | None = "runs",
        watcher: Watcher | None = None,
        plant: str | None = None,
        every_event: bool = False,
    ) -> None:
        if plant is not None:
            refuse_elsewhere(plant, world, scenario.cluster.node)
        self.scenario = scenario
        self.plant = plant
        self.seed = choose_seed(scenario, seed)
        self.duration = scenario.duration if duration is None else duration
        self.schedule: Schedule = draw(scenario, self.seed, self.duration)
        self.watcher: Watcher = watcher or Nobody()
        self._world_name = world
        self._search = search_path(scenario.source)
        self._loads = [self._load(number, spec) for number, spec in enumerate(scenario.workloads, 1)]
        self._kinds = load_kinds(scenario.faults, self._search, scenario.source)
        self._codec = Codec(self._node_messages())
        self._out = Path(out) if out is not None else None
        self.directory: Path | None = None
        self._every_event = every_event
        self.trace: list[str] | None = None
        self._invariants: Invariants | None = None
        self.start_time = 0.0
        self.phase = ""  # what is being done, if it is not what a run is about
        self.cluster: Cluster | None = None
        self.nemesis: Nemesis | None = None
        self.recent = Recent(self.elapsed)
        self._journal = Journal(None)
        self._lateness = Lateness() if world == "live" else None

    # --- before ---

    def _load(self, number: int, spec: WorkloadSpec) -> _Load:
        key = f"workload[{number}].kind"
        found = load_object(BUILT_IN.get(spec.kind, spec.kind), self._search, self.scenario.source, key)
        if not (isinstance(found, type) and issubclass(found, Workload)):
            raise UsageError(self.scenario.source, key, f"{spec.kind} is no chaos.Workload")
        try:
            workload = found()
        except (Exception, SystemExit) as error:
            raise UsageError(self.scenario.source, key, f"{spec.kind}() fails: {error}") from error
        workload.number, workload.clients, workload.options = number, spec.clients, spec.options
        try:
            for model in workload.models:
                check([], model)  # now, and not after an hour, if there is no such model
        except ValueError as error:
            raise UsageError(self.scenario.source, key, str(error)) from error
        return _Load(spec.kind, workload, spec)

    def _node_messages(self) -> tuple[type, ...]:
        name = self.scenario.cluster.node
        node = load_object(name, self._search, self.scenario.source, "cluster.node")
        if not (isinstance(node, type) and issubclass(node, Node)):
            raise UsageError(self.scenario.source, "cluster.node", f"{name} is no subclass of testbed.Node")
        return node.messages

    def _make_directory(self, out: Path) -> Path:
        directory = out / f"{utc_stamp()}-{self.scenario.name}-{self.seed}"
        latest = out / "latest"
        if latest.exists() and not latest.is_symlink():
            raise UsageError(latest, "--out", "is in the way: it is to be a link to the latest run")
        try:
            directory.mkdir(parents=True)
            (directory / "scenario.toml").write_text(self.scenario.text, encoding="utf-8")
            (directory / "schedule.json").write_bytes(self.schedule.to_json())
            fresh = directory / "latest"
            fresh.symlink_to(directory.name)
            fresh.replace(latest)  # at once, so that two runs that start together do not get into each other's way
        except OSError as error:
            raise UsageError(directory, "--out", f"cannot be made: {error.strerror}") from error
        return directory

    # --- the run ---

    def elapsed(self) -> float:
        """Seconds since clients and faults began, on the world's clock; 0 if the cluster does not run."""
        if self.cluster is None or not self.cluster.running:
            return 0.0
        return self.cluster.world.now() - self.start_time

    def execute(self) -> dict[str, Any]:
        """Do it all; the run's summary. UsageError if the cluster cannot be started; Ctrl-C heals and stops all."""
        if self._out is not None:
            self.directory = self._make_directory(self._out)
        self._journal = Journal(self.directory, self.scenario.cluster.trace)
        try:
            summary = self._execute()
        finally:
            self._journal.close()
        if self.directory is not None:
            write_junit(summary, self.directory)
            write_report(self.directory)
        return summary

    def _execute(self) -> dict[str, Any]:
        with planted(self.plant) if self.plant is not None else nullcontext():
            cluster = self._start_cluster()
            world = cluster.world
            try:
                with self._lateness or nullcontext():
                    observed = self._observe(cluster)
            except WorkloadFailed as error:
                raise UsageError(self.scenario.source, "workload", str(error)) from error
            finally:
                try:
                    self._write_history()
                finally:
                    cluster.stop()
            exits = tuple(  # a node may crash while stopping, too
                replace(exit, at=exit.at - self.start_time) for exit in world.exits()
            )
        self._phase("judging")
        summary = self._summarize(msgspec.structs.replace(observed, exits=exits), world)
        self._journal.note(world.now(), "ends", verdict=summary["verdict"])
        return summary

    def _phase(self, text: str) -> None:
        self.phase = text
        if self.cluster is not None and self.cluster.running:
            self._journal.note(self.cluster.world.now(), "phase", text=text)
        self.watcher.phase(text)

    def _start_cluster(self) -> Cluster:
        planned = self.scenario.cluster
        live_plant = self.plant is not None and self._world_name == "live"
        self.cluster = Cluster(
            planned.nodes,
            node_reference(cast(str, self.plant), planned.node) if live_plant else planned.node,
            world=self._world_name,
            seed=self.seed,
            heartbeat=planned.heartbeat,
            election_timeout=planned.election_timeout,
            restart=planned.restart,
            options=planned.options,
            directory=self.directory,
            search=self._search,
            trace=planned.trace and self.directory is not None,
            every_event=self._every_event,
            observer=self._watched,
        )
        return self.cluster.start(tolerant=True)

    def _observe(self, cluster: Cluster) -> Observed:
        world = cluster.world
        self.start_time = world.now()
        planned = self.scenario.cluster
        self._journal.note(
            self.start_time,
            "begins",
            utc=utc_stamp(),
            scenario=self.scenario.name,
            world=self._world_name,
            seed=self.seed,
            nodes=cluster.nodes,
            duration=self.duration,
            heartbeat=planned.heartbeat,
            election_timeout=planned.election_timeout,
        )
        self._start_clients(world)
        nemesis = self.nemesis = Nemesis(
            world,
            heartbeat=planned.heartbeat,
            observer=self._note_fault,
            tick=self.watcher.tick,
            custom=CustomKinds(self._kinds, self.seed, cluster.directory if self._world_name == "live" else None),
        )
        self.watcher.started(self)
        with nemesis:
            nemesis.run(self.schedule, until=self.start_time + self.duration, start=self.start_time)
        end = world.now()
        self._stop_clients(world)
        undrained = self._drain(world)
        views, up = self._final_views(world)
        records = tuple(shift(record, -self.start_time) for record in nemesis.records)
        return Observed(
            nodes=cluster.nodes,
            election_timeout=self.scenario.cluster.election_timeout,
            planned=self.schedule.kinds,
            records=records,
            histories=tuple((load.name, load.workload.models, load.recorder.events()) for load in self._loads),
            exits=(),
            views=views,
            up=up,
            healed=max((record.healed for record in records if record.healed is not None), default=0.0),
            end=end - self.start_time,
            undrained=undrained,
            broken=tuple(
                (load.name, "; ".join(client.broken for client in load.clients if client.broken is not None))
                for load in self._loads
                if any(client.broken is not None for client in load.clients)
            ),
        )

    def _watched(self, world: SimulatedWorld) -> Invariants:
        cluster = self.scenario.cluster
        self._invariants = Invariants(world.nodes, cluster.heartbeat, cluster.election_timeout, world)
        return self._invariants

    def _start_clients(self, world: World) -> None:
        total = sum(load.spec.clients for load in self._loads)
        timeout = bound(self.scenario.cluster.election_timeout)
        streams = Streams(self.seed)
        process = 0
        for place, load in enumerate(self._loads):
            allowance = Allowance(load.spec.operations)
            for number in range(load.spec.clients):
                session = Session(world.nodes, self.scenario.cluster.election_timeout / 2, self._codec, first=process)
                random = streams.stream("workload", place, "client", number)
                client = WorkloadClient(
                    generator_of(load.name, load.workload.client, number, random),
                    session,
                    load.recorder,
                    process=process,
                    processes=total,
                    interval=load.spec.clients / load.spec.rate,
                    timeout=timeout,
                    random=streams.stream("workload", place, "pace", number),
                    origin=self.start_time,
                    allowance=allowance,
                    leases=load.workload.leases,
                    recent=self.recent,
                )
                load.clients.append(client)
                process += 1
        for place, load in enumerate(self._loads, 1):
            for client in load.clients:
                world.run_client(client, self._sent(place, client))

    def _sent(self, place: int, client: WorkloadClient) -> Sent | None:
        if self.directory is None:
            return None
        return lambda ask, number, now: self._journal.request(now, place, client.invocation, number, ask.node)

    def _stop_clients(self, world: World) -> None:
        self._phase("letting the clients finish")
        clients = [client for load in self._loads for client in load.clients]
        for client in clients:
            world.tell_client(client, None)
        give_up_s = (2 + REPEATS_MAX) * bound(self.scenario.cluster.election_timeout)
        self._until(world, lambda: all(client.finished for client in clients), give_up_s)

    def _drain(self, world: World) -> tuple[str, ...]:
        """What the workloads do last; the names of those that did not come to an end with it."""
        streams = Streams(self.seed)
        told = []
        for place, load in enumerate(self._loads):
            for number, client in enumerate(load.clients):
                if client.finished:
                    random = streams.stream("workload", place, "drain", number)
                    world.tell_client(client, generator_of(load.name, load.workload.drain, number, random))
                    told.append(client)
        self._until(world, lambda: all(client.drained for client in told), DRAIN_S_MAX)
        return tuple(load.name for load in self._loads if not all(client.drained for client in load.clients))

    def _final_views(self, world: World) -> tuple[dict[str, Mapping[str, str]], frozenset[str]]:
        """What the nodes believe of each other once that has settled, or after the bound for it.

        A node that answers no question any more, though its process is up, has no view.
        """
        cluster = self.scenario.cluster
        give_up = world.now() + membership_bound(cluster.heartbeat, cluster.election_timeout)
        while True:
            asked = world.now()
            status = world.status(fresh=True)
            up = frozenset(node for node, found in status.items() if found.state == "up")
            views = {node: status[node].views for node in sorted(up) if status[node].reported_at >= asked}
            settled = len(views) == len(up) and all(
                state == ("alive" if peer in up else "failed")
                for seen in views.values()
                for peer, state in seen.items()
            )
            if settled or world.now() >= give_up:
                return views, up
            self._until(world, lambda: False, cluster.heartbeat)

    def _until(self, world: World, condition: Callable[[], bool], seconds: float) -> None:
        """Let time pass, and whoever looks on look."""

        def looked() -> bool:
            self.watcher.tick()
            return condition()

        world.wait(looked, seconds)

    def _note_fault(self, event: Mapping[str, Any]) -> None:
        seen = {**event, "time": event["time"] - round(self.start_time * NS_PER_S)}
        self._journal.fault(event["time"] / NS_PER_S, seen)
        for load in self._loads:
            load.recorder.add(seen["time"], seen["process"], seen["type"], seen["f"], None, seen["value"])
        self.watcher.fault(seen)

    # --- after ---

    @property
    def counts(self) -> dict[str, int]:
        """Operations so far, by outcome; those under way do not count yet."""
        clients = [client for load in self._loads for client in load.clients]
        return {kind: sum(client.counts[kind] for client in clients) for kind in ("ok", "fail", "info")}

    def _write_history(self) -> None:
        """One file per workload: `history.jsonl`, and `history-2.jsonl` and so on where there are more."""
        if self.directory is None:
            return
        for number, load in enumerate(self._loads, 1):
            load.recorder.write(self.directory / history_name(number))
        if not self._loads:
            Recorder().write(self.directory / history_name(1))

    def _summarize(self, observed: Observed, world: World) -> dict[str, Any]:
        passed = stopwatch()
        try:
            checks = judge(observed, lambda: passed() > JUDGE_BUDGET_S)
        except ValueError as error:  # a model that does not know what the workload does
            raise UsageError(self.scenario.source, "workload", str(error)) from error
        if self._invariants is not None:
            checks = [*map(of_verdict, self._invariants.checks()), *checks]
        writes = recoveries(observed)
        result = {
            "scenario": self.scenario.name,
            "world": self._world_name,
            "seed": self.seed,
            "verdict": overall(checks),
            "duration_s": round(observed.end, 3),
            "run_dir": str(self.directory) if self.directory is not None else None,
            "replay": f"testbed replay {shlex.quote(str(self.directory))}" if self.directory is not None else None,
            "operations": operation_counts([history for _, _, history in observed.histories]),
            "faults": fault_summary(observed.records, observed.planned),
            "checks": [check.shown() for check in checks],
            "recovery_s": writes,
            "source": str(Path(self.scenario.source).resolve()) if self.scenario.source else "",
        }
        if self._lateness is not None:
            result["machine"] = {"late_s": round(self._lateness.worst, 4)}
        if self.directory is not None:
            book = Logbook(self.directory)
            steps = recovery_steps(book.entries(), observed.records, writes, book.begins)
            result["recovery_steps_s"] = steps
        wrong = anomaly(checks)
        if wrong is not None:
            result["anomaly"] = wrong
        if self.plant is not None:
            result["plant"] = self.plant
        if self._invariants is not None:
            simulated = cast(SimulatedWorld, world)
            self.trace = simulated.trace_lines
            result |= {
                "digest": simulated.digest,
                "events": simulated.events,
                "simulated_s": round(simulated.now(), 3),
                "sometimes": dict(sorted(self._sometimes(observed, simulated).items())),
            }
        if self.directory is not None:
            (self.directory / "summary.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
            )
        return result

    def _sometimes(self, observed: Observed, world: SimulatedWorld) -> Counter[str]:
        """What happened in a simulated run that a campaign must have reached somewhere."""
        assert self._invariants is not None
        reached = Counter(self._invariants.sometimes)
        reached.update(world.sometimes)
        for kind, count in operation_counts([history for _, _, history in observed.histories]).items():
            reached[f"operation {kind}"] = count
        for _, _, history in observed.histories:
            reached["precondition failed"] += sum(event.error == PRECONDITION_FAILED for event in history)
        return reached


def choose_seed(scenario: Scenario, given: int | None) -> int:
    """The seed asked for, else the scenario's own, else a fresh one."""
    if given is not None:
        return given
    return scenario.seed if scenario.seed is not None else entropy().getrandbits(SEED_BITS)


def generator_of(name: str, method: Callable[[int, Random], Client], number: int, random: Random) -> Client:
    """What a client of workload `name` does. WorkloadFailed unless the user's method gives a generator."""
    try:
        generator = method(number, random)
    except (Exception, SystemExit) as error:
        raise WorkloadFailed(f"{name}: {type(error).__name__}: {error}") from error
    if not isinstance(generator, Generator):
        raise WorkloadFailed(f"{name}: {method.__name__}() is no generator: it yields nothing")
    return generator


def membership_bound(heartbeat: float, election_timeout: float) -> float:
    """Seconds within which all views converge once nothing disturbs them."""
    return max(MEMBERSHIP_ELECTION_TIMEOUTS * election_timeout, MEMBERSHIP_HEARTBEATS * heartbeat)


def shift(record: Any, seconds: float) -> Any:
    """A fault record with all its times moved."""
    moved = {
        name: getattr(record, name) + seconds
        for name in ("asked", "in_effect", "ended", "healed")
        if getattr(record, name) is not None
    }
    return msgspec.structs.replace(record, **moved)


__all__ = ["Check", "Run", "Watcher", "choose_seed"]
