"""A run directory, read for its report: whatever of it is there and whole, and in words what is not.

Knows the names and the formats of a run's files. Raises for nothing that a run left damaged or did not leave at all.
"""

import gc
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec

from chaos.formats import read_events
from chaos.history import NEMESIS, NS_PER_S, Event, Operation, operations
from chaos.logbook import Logbook
from chaos.logbook.files import DAMAGED, LINE_BYTES_MAX, Entry, LogFile, entry_of, files_of_node
from chaos.report.anomaly import SHOWN_BEFORE_S, Anomaly, Message, anomaly, messages
from chaos.report.points import Depth, Lock, Points, Throughput, cut, depth, locks, of_clients, points, throughput
from chaos.report.timeline import Band, Lane, View, bands, lanes, untaken, views
from testbed.base.errors import UsageError

LEAVES: Final = (
    "summary.json",
    "supervisor.jsonl",
    "history.jsonl",
    "schedule.json",
    "scenario.toml",
    "experiment.jsonl",
    "nodes",
)
ENTRIES_MAX: Final = 400_000  # a node that logs without end must not be the end of its report
TRACE_LINES_MAX: Final = 5_000  # of one file, around the anomaly
MINIMAL_CHARACTERS_MAX: Final = 4_000
SENTENCE_MAX: Final = 600

MEANING: Final = {
    "valid": "Every check holds, and every planned kind of fault was really seen in effect.",
    "invalid": "A promise was broken: at least one check does not hold.",
    "unknown": "Nobody can tell: no check failed, but at least one could not be decided.",
}
NO_VERDICT: Final = "This run directory has no verdict: the run did not come to its end, or its summary is damaged."

_AT: Final = re.compile(r" at (\d+(?:\.\d+)?) s: ")
_ABOUT_TRACES: Final = ("no traces", "the trace of", "clients.jsonl")  # they are for `testbed explain`
_HISTORY: Final = re.compile(r"history(?:-(\d{1,6}))?\.jsonl")
_Wanted = TypeVar("_Wanted")


class CheckRow(msgspec.Struct, frozen=True):
    """A check, as in a summary."""

    name: str
    verdict: str
    detail: str
    workload: str | None = None


class FaultRow(msgspec.Struct, frozen=True):
    """What became of a kind of fault, as in a summary."""

    kind: str
    asked: int = 0
    applied: int = 0
    healed: int = 0
    skipped: int = 0


class RecoveryRow(msgspec.Struct, frozen=True):
    """Seconds (p50, max) after a kind of fault until it was detected, a leader was there, a write was acknowledged."""

    kind: str
    detect: tuple[float, float] | None
    elect: tuple[float, float] | None
    write: tuple[float, float] | None


class Wrong(msgspec.Struct, frozen=True):
    """When something was first seen to be wrong."""

    start: float
    end: float
    words: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a page shows. Times in seconds since the start, up to `end`."""

    directory: str
    explain: str
    scenario: str
    world: str
    seed: str
    verdict: str
    meaning: str
    duration_s: float | None
    replay: str
    plant: str
    missing: list[str]
    checks: list[CheckRow]
    operations: dict[str, int]
    faults: list[FaultRow]
    untaken: list[dict[str, str]]
    recovery: list[RecoveryRow]
    sentence: str
    wrong: Wrong | None
    anomaly: Anomaly | None
    messages: list[Message]
    minimal: str
    end: float
    nodes: list[str]
    lanes: list[Lane]
    bands: list[Band]
    views: list[View]
    points: Points | None
    throughput: Throughput | None
    depths: list[Depth]
    locks: list[Lock]
    locks_in_all: int


class _History(msgspec.Struct):
    """One workload's. `operations` are those of clients and the ends of leases."""

    file: str
    name: str
    operations: list[Operation]


def gather(directory: Path) -> Report:
    """What is there. UsageError if that directory is none, or has nothing that a run leaves."""
    if not directory.is_dir():
        raise UsageError(directory, "", "there is no such run directory")
    if not any((directory / name).exists() for name in LEAVES):
        raise UsageError(directory, "", f"is no run directory: it has none of {', '.join(LEAVES)}")
    collecting = gc.isenabled()
    gc.disable()  # millions of objects that all stay until the end
    try:
        return _Reading(directory).report()
    finally:
        if collecting:
            gc.enable()


class _Reading:
    """One directory while it is read; `missing` grows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.missing: list[str] = []
        self._summary = self._object("summary.json")
        self._schedule = self._object("schedule.json")
        self._kinds = self._workload_kinds()
        self._steps: list[dict[str, Any]] = []
        self._histories: list[_History] = self._shown("the operations", self._read_histories, [])
        self._book = Logbook(directory)
        self._begins: Entry = self._shown("the experiment's log", lambda: self._book.beginning, {})
        self._nodes: list[str] = self._shown("the nodes", self._node_names, [])
        self._entries: list[Entry] = self._shown("the logs", self._read_logs, [])
        self._origin = self._origin_of_clock()

    def report(self) -> Report:
        """Everything, from what was read."""
        missing = self.missing
        checks = self._field("checks", list[CheckRow], [])
        verdict = self._field("verdict", str, "")
        entries = self._placed(self._entries)
        steps = self._steps_of_faults()
        clients = [(one.name, of_clients(one.operations)) for one in self._histories]
        every = [one for _, found in clients for one in found]
        end = self._end(every, entries)
        faults: list[Band] = self._shown("the faults", lambda: bands(steps, end), [])
        broken = self._shown("the anomaly", lambda: self._anomaly(checks), None)
        wrong = self._shown("the first error", lambda: self._first_wrong(checks, broken, entries), None)
        if wrong is None and verdict == "invalid":
            missing.append("when it first went wrong is not recorded: there is nowhere to jump to")
        first = broken.key if broken is not None else None
        no_locks: tuple[list[Lock], int] = ([], 0)
        held, held_in_all = self._shown("the locks", lambda: self._locks(end, first), no_locks)
        counts = self._field("operations", dict[str, int], {}) or self._counted(every)
        return Report(
            directory=str(_short(self._directory)),
            explain=f"testbed explain {shlex.quote(str(_short(self._directory)))}",
            scenario=self._field("scenario", str, self._begun("scenario", str, self._directory.resolve().name)),
            world=self._field("world", str, self._begun("world", str, "")),
            seed=str(self._field("seed", int, self._begun("seed", int, self._schedule.get("seed", "not known")))),
            verdict=verdict,
            meaning=MEANING.get(verdict, NO_VERDICT),
            duration_s=self._field("duration_s", float | None, self._begun("duration", float, None)),
            replay=self._field("replay", str | None, None) or "",
            plant=self._field("plant", str | None, None) or "",
            checks=checks,
            operations=counts,
            faults=self._field("faults", list[FaultRow], []),
            untaken=self._shown("the faults", lambda: untaken(steps), []),
            recovery=self._recoveries(),
            sentence=_sentence(checks, broken, wrong),
            wrong=wrong,
            anomaly=broken,
            messages=self._shown("the messages", lambda: self._messages(wrong), []),
            minimal=self._minimal(),
            end=end,
            nodes=self._nodes,
            lanes=self._shown("the nodes", lambda: lanes(self._nodes, entries, faults, end), []),
            bands=faults,
            views=self._shown("the views", lambda: views(self._nodes, entries, end), []),
            points=self._shown("the operations", lambda: points(clients) if every else None, None),
            throughput=self._shown("the throughput", lambda: throughput(every, end) if every else None, None),
            depths=self._shown("the queues", lambda: self._depths(end), []),
            locks=held,
            locks_in_all=held_in_all,
            missing=list(dict.fromkeys(missing)),
        )

    # --- files ---

    def _object(self, name: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode((self._directory / name).read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            self.missing.append(f"{name} is missing")
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.missing.append(f"{name} cannot be read: {_reason(error)}")
        return {}

    def _field(self, name: str, kind: Any, default: Any) -> Any:
        """A part of the summary, if it is what it should be."""
        if name not in self._summary:
            if self._summary and name in ("verdict", "checks", "operations", "faults", "recovery_s"):
                self.missing.append(f"summary.json has no {name}")
            return default
        try:
            return msgspec.convert(self._summary[name], kind)
        except msgspec.ValidationError as error:
            self.missing.append(f"summary.json: {name} cannot be read: {error}")
            return default

    def _begun(self, name: str, kind: Any, default: Any) -> Any:
        """The same from the experiment's first line, which is there before there is a summary."""
        try:
            return msgspec.convert(self._begins[name], kind)
        except (KeyError, msgspec.ValidationError):
            return default

    def _workload_kinds(self) -> list[str]:
        try:
            scenario = tomllib.loads((self._directory / "scenario.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.missing.append("scenario.toml is missing")
            return []
        except (OSError, ValueError, RecursionError) as error:
            self.missing.append(f"scenario.toml cannot be read: {_reason(error)}")
            return []
        entries = scenario.get("workload", [])
        return [
            str(entry.get("kind", "")) if isinstance(entry, dict) else ""
            for entry in (entries if isinstance(entries, list) else [])
        ]

    def _read_histories(self) -> list[_History]:
        numbers = {int(found[1] or 1) for path in self._directory.iterdir() if (found := _HISTORY.fullmatch(path.name))}
        numbers |= set(range(1, max(1, len(self._kinds)) + 1))
        return [self._read_history(number) for number in sorted(numbers)]

    def _read_history(self, number: int) -> _History:
        file = "history.jsonl" if number == 1 else f"history-{number}.jsonl"
        kind = self._kinds[number - 1] if number <= len(self._kinds) else ""
        twice = self._kinds.count(kind) > 1
        name = f"{kind} ({number})" if kind and twice else kind or f"workload {number}"
        path = self._directory / file
        found: list[Operation] = []
        if not path.exists():
            self.missing.append(f"{file} is missing: the operations of {name} are not shown")
        elif path.stat().st_size or self._kinds:
            found = operations(self._whole_events(path))
        return _History(file, name, found)

    def _whole_events(self, path: Path) -> Iterator[Event]:
        """The events of a history up to its first damage; steps of faults are noted."""
        count = 0
        try:
            for event in read_events(path):
                if event.process == NEMESIS and isinstance(event.value, dict):
                    self._steps.append({"time": event.time / NS_PER_S, "f": event.f, "value": event.value})
                count += 1
                yield event
        except UsageError as error:
            self.missing.append(f"{path.name}, {error.key}: {error.reason}; the {count} events before it are shown")

    def _node_names(self) -> list[str]:
        try:
            planned = msgspec.convert(self._schedule.get("nodes"), list[str])
        except msgspec.ValidationError as error:
            planned = []
            if self._schedule:
                self.missing.append(f"schedule.json: nodes cannot be read: {error}")
        return list(dict.fromkeys([*planned, *self._book.nodes]))

    def _read_logs(self) -> list[Entry]:
        """What experiment, supervisor and nodes wrote, by time."""
        entries = list(islice(self._book.stream(), ENTRIES_MAX))
        if len(entries) == ENTRIES_MAX:
            self.missing.append(f"the logs have more than {ENTRIES_MAX} entries: what follows is not shown")
        damaged = Counter(entry["file"] for entry in entries if entry["level"] == DAMAGED)
        for file, lines in damaged.items():
            name = Path(file).relative_to(self._directory)
            self.missing.append(f"{name}: {lines} damaged line{'s' if lines > 1 else ''} left out")
        self.missing += [gap for gap in self._book.missing if not gap.startswith(_ABOUT_TRACES)]
        known = {path.name for path in (self._directory / "nodes").glob("*")}
        self.missing += [f"nodes/{node} is missing" for node in self._nodes if node not in known]
        return [entry for entry in entries if entry["level"] != DAMAGED]

    # --- time ---

    def _origin_of_clock(self) -> float | None:
        """The instant of the logs' clock from which the history's stamps count; None if that is not known.

        A fault is observed after it was asked for and before the history says so: where the experiment's log does not
        tell, this leaves a few milliseconds.
        """
        if self._begins:
            return float(self._begins["time"])
        told = [
            step["value"]["since"] - step["time"]
            for step in self._steps
            if isinstance(step["value"].get("since"), int | float)
        ]
        if told:
            self.missing.append(
                "when the logs' clock began is told from the faults alone: some milliseconds are unsure"
            )
            return float(max(told))
        if self._entries:
            self.missing.append("when the logs' clock began is not known: nodes' times are those since the first entry")
            return float(self._entries[0]["time"])
        return None

    def _placed(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """With times since the start."""
        return [{**entry, "time": entry["time"] - (self._origin or 0.0)} for entry in entries]

    def _steps_of_faults(self) -> list[dict[str, Any]]:
        steps = list(self._steps)
        for entry in self._entries if self._origin is not None else []:
            if entry["source"] == "experiment" and entry["text"] == "fault" and isinstance(entry.get("kind"), str):
                steps.append({"time": entry["time"] - (self._origin or 0.0), "f": entry["kind"], "value": entry})
        placed = []
        for step in steps:
            value = dict(step["value"])
            since = value.pop("since", None)
            if isinstance(since, int | float) and self._origin is not None:
                value["since"] = min(since - self._origin, step["time"])
            nodes = value.get("nodes")
            placed.append({**step, "value": {**value, "nodes": nodes if isinstance(nodes, list) else []}})
        return sorted(placed, key=lambda step: step["time"])

    def _end(self, every: Sequence[Operation], entries: Sequence[Mapping[str, Any]]) -> float:
        ends = [max((one.ended for one in every), default=0) / NS_PER_S]
        ends.append(self._field("duration_s", float, self._begun("duration", float, 0.0)) or 0.0)
        if not any(ends):
            ends += [entry["time"] for entry in entries[-1:]]
        return max(*ends, 0.001)

    # --- what broke ---

    def _anomaly(self, checks: Sequence[CheckRow]) -> Anomaly | None:
        told = self._summary.get("anomaly")
        if isinstance(told, dict):
            for place, history in enumerate(self._histories):
                if told.get("history", "history.jsonl") in (history.file, str(place + 1)):
                    found = anomaly(str(told.get("check", "")), place, told, "", history.operations)
                    if found is not None:
                        return found
            self.missing.append("summary.json: the anomaly names no operation of a history that is there")
        for check in checks:
            for place, history in enumerate(self._histories):
                if check.verdict == "invalid" and check.workload == history.name.partition(" (")[0]:
                    found = anomaly(check.name, place, {}, check.detail, history.operations)
                    if found is not None:
                        return found
        return None

    def _first_wrong(
        self, checks: Sequence[CheckRow], broken: Anomaly | None, entries: Sequence[Mapping[str, Any]]
    ) -> Wrong | None:
        found = [Wrong(broken.start, broken.end, f"{broken.check}: {broken.sentence}")] if broken is not None else []
        for check in checks:
            place = _AT.search(check.detail) if check.name.endswith("-invariants") else None
            if check.verdict == "invalid" and place is not None and self._origin is not None:
                at = float(place[1]) - self._origin
                rest = check.detail[place.end() :]  # its own time was the world's, which began before the run
                words = f"{check.name}: {check.detail[: place.start()]} at {at:.3f} s of the run: {rest}"
                found.append(Wrong(at, at, words))
            if check.verdict == "invalid" and check.name == "crashes":
                found += [
                    Wrong(entry["time"], entry["time"], f"{entry.get('node')} ended: {entry.get('reason')}")
                    for entry in entries
                    if entry.get("text") == "exit" and entry.get("expected") is False
                ]
        return min(found, key=lambda wrong: wrong.end, default=None)

    def _messages(self, wrong: Wrong | None) -> list[Message]:
        if wrong is None:
            return []
        files = [file for node in self._nodes for file in files_of_node(self._directory / "nodes" / node)]
        traces = [file for file in files if file.is_trace]
        if not traces or self._origin is None:
            self.missing.append("nodes' traces are missing: messages around the first error are not shown")
            return []
        since = self._origin + wrong.start - SHOWN_BEFORE_S
        until = self._origin + wrong.end + SHOWN_BEFORE_S
        entries: list[Entry] = []
        for trace in traces:
            try:
                with open(trace.path, "rb") as stream:
                    entries += _between(stream, trace, since, until)
            except OSError as error:
                self.missing.append(f"{trace.path.relative_to(self._directory)} cannot be read: {_reason(error)}")
        return messages(self._placed(entries), wrong.start, wrong.end)

    def _minimal(self) -> str:
        path = self._directory / "minimal.toml"
        try:
            return cut(path.read_text(encoding="utf-8"), MINIMAL_CHARACTERS_MAX) if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            self.missing.append(f"minimal.toml cannot be read: {_reason(error)}")
            return ""

    # --- the rest ---

    def _shown(self, what: str, make: Callable[[], _Wanted], instead: _Wanted) -> _Wanted:
        """Damage has more shapes than anybody foresees, and one part's must not cost the others."""
        try:
            return make()
        except Exception as error:
            self.missing.append(f"{what} cannot be shown: {type(error).__name__}: {_reason(error)}")
            return instead

    def _recoveries(self) -> list[RecoveryRow]:
        steps = self._field("recovery_steps_s", dict[str, dict[str, dict[str, float]]], {})
        writes = self._field("recovery_s", dict[str, dict[str, float]], {})
        return [
            RecoveryRow(
                kind,
                detect=_pair(steps.get(kind, {}).get("detect")),
                elect=_pair(steps.get(kind, {}).get("elect")),
                write=_pair(steps.get(kind, {}).get("write") or writes.get(kind)),
            )
            for kind in dict.fromkeys((*steps, *writes))
        ]

    def _depths(self, end: float) -> list[Depth]:
        found = (depth(one.name, of_clients(one.operations), end) for one in self._histories)
        return [one for one in found if one is not None]

    def _locks(self, end: float, first: object) -> tuple[list[Lock], int]:
        found = [locks(one.operations, end, first) for one in self._histories]
        return [lock for shown, _ in found for lock in shown], sum(number for _, number in found)

    @staticmethod
    def _counted(every: Sequence[Operation]) -> dict[str, int]:
        return {kind: sum(one.outcome == kind for one in every) for kind in ("ok", "fail", "info")}


def _between(stream: BinaryIO, trace: LogFile, since: float, until: float) -> Iterator[Entry]:
    """The lines of a trace from then until then; where they begin is found by halving, as it may be long."""
    low, high = 0, stream.seek(0, 2)
    while high - low > 4096:
        middle = (low + high) // 2
        stream.seek(middle)
        stream.readline()  # the rest of a line
        early = entry_of(stream.readline(LINE_BYTES_MAX), trace, until)["time"] < since
        low, high = (middle, high) if early else (low, middle)
    stream.seek(low)
    for line in islice(iter(lambda: stream.readline(LINE_BYTES_MAX), b""), TRACE_LINES_MAX):
        entry = entry_of(line, trace, since)
        if entry["time"] > until:
            return
        if entry["time"] >= since and entry["level"] != DAMAGED:
            yield entry


def _sentence(checks: Sequence[CheckRow], broken: Anomaly | None, wrong: Wrong | None) -> str:
    invalid = [check for check in checks if check.verdict == "invalid"]
    if not invalid:
        return ""
    if broken is not None and (wrong is None or wrong.end >= broken.end):
        return broken.sentence
    return cut(wrong.words if wrong is not None else f"{invalid[0].name}: {invalid[0].detail}", SENTENCE_MAX)


def _pair(found: Mapping[str, float] | None) -> tuple[float, float] | None:
    if not found or "p50" not in found or "max" not in found:
        return None
    return found["p50"], found["max"]


def _short(directory: Path) -> Path:
    """As one would type it here."""
    whole = directory.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return cut(" ".join(text.split()), 200)
