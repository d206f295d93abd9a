"""A user's own kinds of faults: the class that people subclass, how it is loaded, and how it becomes a grip.

What such a fault does by the methods offered here is evidence of itself and is undone without being asked to; all else
the fault has to prove and to undo with its own hooks. No exception of theirs leaves this module: it becomes the reason
why a fault did not take hold, or did not heal. Knows no schedule and no time limit; those are the nemesis'.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from chaos.faults import Fault, is_custom
from chaos.grips import Down, FaultSkipped, Grip, Holds, LinksHeld, Pause
from chaos.loading import load_object
from chaos.scenario import CUSTOM_FAULT_KEYS, FaultSpec
from chaos.settings import Table
from testbed.base.links import Cut, LinkRule
from testbed.base.rand import Random, Streams

if TYPE_CHECKING:
    from chaos.grips import Statuses
    from testbed.ports import NodeStatus

__all__ = ["CustomFault", "CustomGrip", "CustomKinds", "load_kinds"]

OPTION_FORMS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


NOTHING_SHOWS_IT: Final = "nothing shows it: it has no in_effect(), and none of its methods did anything"


class CustomFault:
    """Subclass this. One object is one occurrence of the fault: attributes set in `begin` are there in `end`.

    `options`: on the class, the further keys of its `[[fault]]` with their defaults, or with a type where a key must be
    given; in its methods, what was given. `live_only`: it needs real processes, and is skipped in simulation.
    `nodes`: whom it is for - of its targets, those that have a process. It may touch no others. `random`: its own dice,
    from the run's seed.

    No hook may take long: other faults wait meanwhile. What takes time is begun in `begin` and looked at in
    `in_effect`. In simulation nothing but `self.random` may roll dice and nothing but `self.now` tell the time.
    """

    options: Mapping[str, Any] = {}
    live_only: bool = False

    nodes: tuple[str, ...] = ()
    random: Random
    _grip: "CustomGrip"  # set with `nodes`, before `begin`

    # --- what a fault says ---

    def check(self) -> None:
        """Look at `self.options` when the scenario is read; a ValueError says what is wrong with them."""

    def begin(self) -> None:
        """Make it happen. An exception is the reason why it did not; `end` is called then, too."""
        raise NotImplementedError(f"{type(self).__name__}.begin()")

    def in_effect(self) -> bool | str:
        """Whether it is seen in effect: True, or in words what is missing. Asked again and again, until it is.

        Not before all that the methods below were told to do is seen as well; where that says it all, leave this out.
        """
        return True if self._grip.parts else NOTHING_SHOWS_IT

    def end(self) -> None:
        """Undo it. Called once after `begin`, whatever happened; once more in the end if it raised.

        What was done by the methods below is undone afterwards, without this.
        """

    def healed(self) -> bool | str:
        """Whether all is as it was: True, or in words what is missing. Asked again and again after `end`."""
        return True

    # --- what a fault may do, to its own nodes ---

    def kill(self, node: str) -> None:
        """SIGKILL. It stays down until `start`, or until the fault ends."""
        self._grip.down(node, terminate=False)

    def terminate(self, node: str) -> None:
        """Ask it to stop in good order. It stays down until `start`, or until the fault ends."""
        self._grip.down(node, terminate=True)

    def start(self, node: str) -> None:
        """Start again what this fault has ended, as soon as it is down and no other fault keeps it there."""
        self._grip.release(node, Down)

    def pause(self, node: str) -> None:
        """SIGSTOP, until `resume` or the fault's end."""
        self._grip.pause(node)

    def resume(self, node: str) -> None:
        """SIGCONT to what this fault has paused, unless another fault has, too."""
        self._grip.release(node, Pause)

    def cut(self, source: str, target: str, mode: Cut = "drop") -> None:
        """Let nothing from `source` reach `target` until the fault ends; one of the two is one of its nodes."""
        self._grip.cut(source, target, mode)

    def skip(self, reason: str) -> NoReturn:
        """In `begin`, before anything was done: the fault cannot be had now. `end` is not called."""
        raise FaultSkipped(reason)

    # --- what a fault may look at ---

    @property
    def now(self) -> float:
        """Seconds on the cluster's clock: the monotonic one, or the simulation's."""
        return self._grip.holds.world.now()

    @property
    def all_nodes(self) -> tuple[str, ...]:
        """Every node of the cluster, in order."""
        return self._grip.holds.world.nodes

    def status(self, node: str, fresh: bool = False) -> "NodeStatus":
        """What is known of a node: `state`, `pid`, `role`, `extra` and so on; `fresh`: asked now, which takes time."""
        return self._grip.holds.world.status(fresh)[node]

    def pid(self, node: str) -> int:
        """The process id of a node. There is none in simulation: in `begin`, the fault is skipped then."""
        self.directory(node)
        pid = self.status(node).pid
        if pid is None:
            raise RuntimeError(f"{node} is down")
        return pid

    def directory(self, node: str) -> Path:
        """Where a node keeps its database and its logs. There is none in simulation, as with `pid`."""
        if self._grip.directory is None:
            raise FaultSkipped("needs real processes and files, and this is a simulation")
        return self._grip.directory / "nodes" / node


class CustomGrip:
    """What one `CustomFault` does to a cluster. Its parts, the built-in grips, share the ledger with all other faults.

    `directory`: the live cluster's; None in a simulation.
    """

    def __init__(
        self,
        holds: Holds,
        fault: CustomFault,
        nodes: Sequence[str],
        *,
        heartbeat: float,
        directory: Path | None,
    ) -> None:
        self.holds, self.fault, self.directory = holds, fault, directory
        self.parts: list[Down | Pause | LinksHeld] = []
        self._heartbeat = heartbeat
        self._undone: list[Grip] = []  # parts that have been let go, before the fault's end or then
        self._not_begun: str | None = None
        self._to_end = False
        self._not_ended: str | None = None
        fault.nodes, fault._grip = tuple(nodes), self

    @property
    def fresh(self) -> bool:
        return any(part.fresh for part in self.parts)

    # --- what the fault asks for ---

    def down(self, node: str, terminate: bool) -> None:
        self._running(node)
        self._add(Down(self.holds, (node,), terminate))

    def pause(self, node: str) -> None:
        self._add(Pause(self.holds, (node,), self._running(node)))

    def cut(self, source: str, target: str, mode: Cut) -> None:
        everybody = self.holds.world.nodes
        if source not in everybody or target not in everybody or source == target:
            raise ValueError(f"there is no link from {source} to {target}")
        if source not in self.fault.nodes and target not in self.fault.nodes:
            raise ValueError(f"neither {source} nor {target} is one of its nodes, {', '.join(self.fault.nodes)}")
        self._add(LinksHeld(self.holds, (LinkRule(source, target, cut=mode),), self._heartbeat))

    def release(self, node: str, kind: type[Down] | type[Pause]) -> None:
        held = [part for part in self.parts if isinstance(part, kind) and node in part.nodes]
        if not held:
            raise RuntimeError(f"it has done nothing to {node} that could be undone so")
        for part in held:
            self._undo(part)

    def _add(self, part: Down | Pause | LinksHeld) -> None:
        self.parts.append(part)  # before it takes: what is interrupted is undone, too
        part.take()

    def _running(self, node: str) -> "Statuses":
        statuses = self.holds.world.status()
        if statuses[self._mine(node)].state == "down":
            raise RuntimeError(f"{node} is down")
        return statuses

    def _mine(self, node: str) -> str:
        """That node. Where a majority is whole is told by the faults' nodes: it must not touch others."""
        if node not in self.fault.nodes:
            raise ValueError(f"{node} is not one of its nodes, {', '.join(self.fault.nodes)}")
        return node

    # --- the grip ---

    def take(self) -> None:
        if self.fault.live_only and self.directory is None:
            raise FaultSkipped("needs real processes and files, and this is a simulation")
        self._to_end = True
        try:
            self.fault.begin()
        except FaultSkipped as skipped:
            if not self.parts:
                raise
            self._not_begun = f"begin() gave up: {skipped}"
        except (Exception, SystemExit) as error:
            self._not_begun = _failure("begin", error)

    def seen_in_effect(self, statuses: "Statuses", now: float) -> float | str:
        missing = self._not_begun or _missing("in_effect", self.fault.in_effect)
        seen = [  # of each: they take samples, and start what has ended meanwhile
            part.seen_healed(statuses, now) if part in self._undone else part.seen_in_effect(statuses, now)
            for part in self.parts
        ]
        silent = type(self.fault).in_effect is CustomFault.in_effect
        return missing or _all(seen, 0.0 if silent and seen else now)

    def let_go(self) -> None:
        with ExitStack() as undone:
            undone.callback(self._let_parts_go)
            self._end()

    def _end(self) -> None:
        if not self._to_end:
            return
        try:
            self.fault.end()
        except (Exception, SystemExit) as error:
            self._not_ended = _failure("end", error)
        else:
            self._to_end, self._not_ended = False, None

    def _let_parts_go(self) -> None:
        with ExitStack() as undone:
            for part in self.parts:  # the last first, and all of them whatever goes wrong with one
                undone.callback(self._undo, part)

    def _undo(self, part: Grip) -> None:
        """Once: whom a second time would resume may be paused by another fault, or by nobody."""
        if part not in self._undone:
            part.let_go()
            self._undone.append(part)

    def seen_healed(self, statuses: "Statuses", now: float) -> float | str:
        seen = [part.seen_healed(statuses, now) for part in self.parts]
        return self._not_ended or _missing("healed", self.fault.healed) or _all(seen, now)


def _all(seen: Sequence[float | str], since: float) -> float | str:
    """The first that says what is missing; else since when all of it is so, `since` at the earliest."""
    times = [since]
    for part in seen:
        if isinstance(part, str):
            return part
        times.append(part)
    return max(times)


def _missing(name: str, hook: Callable[[], object]) -> str | None:
    """What a hook says is missing, in words whatever it says; None if nothing is."""
    try:
        said = hook()
    except (Exception, SystemExit) as error:
        return _failure(name, error)
    if said is True:
        return None
    if isinstance(said, str) and said:
        return said
    return f"{name}() says no" if said is False else f"{name}() answers {said!r}, neither True nor what is missing"


def _failure(name: str, error: BaseException) -> str:
    return f"{name}() fails: {type(error).__name__}: {error}".rstrip(": ")


class CustomKinds:
    """The user's own kinds that a run may meet, by their names, each occurrence with dice of its own from `seed`.

    `directory`: where a live cluster keeps its data; None in a simulation.
    """

    def __init__(self, classes: Mapping[str, type[CustomFault]], seed: int | str, directory: Path | None) -> None:
        self.classes = classes
        self.directory = directory
        self._streams = Streams(seed)

    def make(self, fault: Fault, number: int) -> CustomFault:
        """The occurrence of that number. UsageError for options that its kind does not know."""
        made = _made(self.classes[fault.kind], Table("fault", fault.kind, fault.options))
        made.random = self._streams.stream("custom fault", number)
        return made


def load_kinds(faults: Sequence[FaultSpec], search: tuple[str, ...], where: str) -> dict[str, type[CustomFault]]:
    """The classes that the entries of a scenario name. UsageError, naming `where` and the entry, for what is wrong."""
    classes: dict[str, type[CustomFault]] = {}
    for number, spec in enumerate(faults, 1):
        if is_custom(spec.kind):
            table = Table(where, f"fault[{number}]", spec.options)
            found = load_object(spec.kind, search, where, f"fault[{number}].kind")
            if not (isinstance(found, type) and issubclass(found, CustomFault)):
                table.fail("kind", f"{spec.kind} is no chaos.CustomFault")
            _made(found, table)
            classes[spec.kind] = found
    return classes


def _made(found: type[CustomFault], given: Table) -> CustomFault:
    """A new object of that class with these options, both found to be right."""
    try:
        made = found()
    except (Exception, SystemExit) as error:
        given.fail("kind", _failure(found.__name__, error))
    made.options = _options(found, given)
    try:
        made.check()
    except ValueError as error:
        given.fail("", str(error))
    except (Exception, SystemExit) as error:
        given.fail("kind", _failure("check", error))
    return made


def _options(found: type[CustomFault], given: Table) -> dict[str, Any]:
    if not isinstance(found.options, Mapping):
        given.fail("kind", f"{found.__name__}.options is no dict of keys and their defaults")
    given.only((*found.options, *CUSTOM_FAULT_KEYS))  # so that a misspelt `every` is told apart from an option
    return deepcopy({key: _option(given, key, declared) for key, declared in found.options.items()})


def _option(given: Table, key: str, declared: Any) -> Any:
    """The value given for a key, or its default; `declared` is that default, or the type of what must be given."""
    if key not in given.values:
        if isinstance(declared, type):
            given.fail(key, "is missing")
        return declared
    form = declared if isinstance(declared, type) else type(declared)
    value = given.values[key]
    if form is float and type(value) is int:
        return float(value)
    if declared is not None and type(value) is not form:
        given.fail(key, f"must be {OPTION_FORMS.get(form, form.__name__)}, not {value!r}")
    return value
