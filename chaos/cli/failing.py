"""How a failing run ends: what went wrong in a sentence, the operations around it, the smallest schedule, what to do.

The schedule of a live run is looked for in simulation, where it takes seconds; in a process of its own, because a
user's node may do there what it never does live.
"""

import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chaos.again import minimal_file, shrink_run
from chaos.cli.answers import FAULT, Answer
from chaos.kept import Kept
from chaos.report import write_report
from chaos.scenario import SEED_MAX, FaultSpec, Scenario
from chaos.shrink import Shrunk, describe, shrink
from testbed.base.durations import format_duration
from testbed.base.errors import UsageError
from testbed.live import clock

if TYPE_CHECKING:
    from chaos.history import Event

WIDTH: Final = 80
LABEL_WIDTH: Final = 8
ROWS_MAX: Final = 12  # of one label: what does not fit on a screen is not read there
REPORT_EVERY: Final = 50  # tries
TRIES_UNASKED: Final = 100  # where nobody asked for it, half a minute or so; `testbed shrink` goes on from there
SEEDS_MAX: Final = 6  # that a live run's schedule is simulated with: the nodes' dice are others each time
SEARCH_S_MAX: Final = 20.0  # for all of them; nobody waits longer for what they did not ask for
SHRINK_S_MAX: Final = 20.0
GRACE_S: Final = 5.0  # for a try that is under way when the time is over
MEMORY_BYTES: Final = 2 * 10**9


# --- the smallest schedule ---


def smaller(answer: Answer, summary: dict[str, Any]) -> dict[str, Any]:
    """What to add to the summary of a run that failed: a small schedule that fails like it, if there is one soon.

    Ctrl-C ends the search, not the command; and whatever is in the way of the search, the run keeps its verdict.
    """
    from chaos.kept import load_run

    if summary["verdict"] != "invalid" or summary["run_dir"] is None:
        return {}
    try:
        answer.progress("INVALID; looking for a small schedule that fails like this (Ctrl-C ends that)")
        kept = load_run(summary["run_dir"])
        return shrunk_to_file(answer, kept) if kept.world == "sim" else simulated_to_file(answer, kept)
    except KeyboardInterrupt:
        return {"searched": "the search was ended"}
    except (UsageError, OSError) as error:  # such as a full disk, or nobody who reads what is said any more
        return {"searched": f"the search was given up: {error}"}


def shrunk_to_file(answer: Answer, kept: Kept, tries_max: int | None = TRIES_UNASKED) -> dict[str, Any]:
    """Shrink a run that failed; what to add to its summary: `minimal` (a scenario file) and its `schedule`."""

    def report(tries: int, scenario: Scenario) -> None:
        if tries % REPORT_EVERY == 0:
            answer.progress(f"  shrinking: {tries} tries, {len(scenario.faults)} faults left")

    answer.progress(f"shrinking {kept.directory} ({kept.failure})")
    return _found(kept, shrink_run(kept, tries_max, report))


def _found(kept: Kept, shrunk: Shrunk) -> dict[str, Any]:
    path = minimal_file(kept, shrunk)
    write_report(kept.directory)  # with the smallest schedule in it
    return {
        "minimal": str(path),
        "shrunk": shrunk.summary,
        "tries": shrunk.tries,
        "is_minimal": shrunk.minimal,
        "schedule": schedule_lines(shrunk.scenario),
    }


def simulated_to_file(answer: Answer, kept: Kept) -> dict[str, Any]:
    """Simulate a live run's schedule with some seeds, and shrink the first run that the same check finds invalid.

    As `shrunk_to_file`, and `simulated_seed`; if there is none, only `searched`: what came of it, in words.
    """
    give_up = clock.now() + SEARCH_S_MAX
    seed = _bounded(lambda: _failing_seed(kept, give_up), give_up)
    if not isinstance(seed, int):
        return {"searched": seed or f"no simulation of this schedule failed like this in {SEARCH_S_MAX:g} s"}
    answer.progress(f"a simulation with seed {seed} fails in the same way; shrinking it")
    scenario = msgspec.structs.replace(kept.scenario, seed=seed)
    there = msgspec.structs.replace(kept, world="sim", seed=seed, scenario=scenario, failure=_check(kept))
    give_up = clock.now() + SHRINK_S_MAX
    found = _bounded(lambda: _found(there, _shrunk(there, give_up)), give_up)
    if not isinstance(found, dict):
        found = _found(
            there, Shrunk(scenario=scenario, tries=0, minimal=False, summary=f"as it was: {found or 'late'}")
        )
    return {**found, "simulated_seed": seed}


def _bounded(work: Callable[[], Any], give_up: float) -> Any:
    """What `work` returns, from a process of its own; words, or None if it took too long, if it returns nothing."""
    from chaos.cli.bounded import run_bounded

    try:
        return run_bounded(lambda _: work(), lambda: None, give_up + GRACE_S, MEMORY_BYTES).value
    except Exception as error:  # a node that cannot be simulated is no fault of the run, which has its verdict
        return f"this schedule cannot be simulated: {error}"


def _failing_seed(kept: Kept, give_up: float) -> int | str:
    tried = 0
    for seed in range(kept.seed, min(kept.seed + SEEDS_MAX, SEED_MAX + 1)):
        if clock.now() >= give_up:
            break
        if _fails(kept.scenario, seed, kept):
            return seed
        tried += 1
    return f"none of {tried} simulations of this schedule failed like this"


def _shrunk(kept: Kept, give_up: float) -> Shrunk:
    """As far as the time lasts."""
    late = False

    def fails(candidate: Scenario) -> bool:
        nonlocal late
        late = late or clock.now() >= give_up
        try:
            return not late and _fails(candidate, kept.seed, kept)
        except UsageError:
            return False

    shrunk = shrink(kept.scenario, fails, tries_max=TRIES_UNASKED)
    summary = describe(kept.scenario, shrunk.scenario)
    return msgspec.structs.replace(shrunk, summary=summary, minimal=shrunk.minimal and not late)


def _fails(scenario: Scenario, seed: int, kept: Kept) -> bool:
    """Whether the check that failed live fails in this simulation. Invariants, which see more, may fail as well."""
    from chaos.simulation import simulate

    found = simulate(scenario, seed, plant=kept.plant).result.invalid
    return _check(kept) in [name for name, _ in found]


def _check(kept: Kept) -> str:
    assert kept.failure is not None, "only a run that failed is looked for"
    return kept.failure.partition(":")[0]


def confess_worker(answer: Answer, error: Exception) -> int:
    """The end of a command whose worker ended. A traceback would show only who has waited for it."""
    answer.progress(f"testbed: a fault of the testbed itself: {error}")
    return FAULT


# --- words ---


def schedule_lines(scenario: Scenario) -> list[str]:
    """One line a fault, for people."""
    return [_fault_line(spec) for spec in scenario.faults] or ["no fault at all"]


def _fault_line(spec: FaultSpec) -> str:
    groups = " | ".join(",".join(group) for group in spec.groups)
    target = spec.target if isinstance(spec.target, str) else ",".join(spec.target or ())
    details = [groups or target]
    if spec.kind == "partition":
        details += [spec.shape] * (not spec.groups) + [spec.mode]
    details += [
        f"{name} {format_duration(value)}" for name, value in (("delay", spec.delay), ("jitter", spec.jitter)) if value
    ]
    details += [f"rate {spec.rate:g}"] * bool(spec.rate) + [f"{spec.links} links"] * (spec.links != "nodes")
    what = " ".join(part for part in (spec.kind, *details) if part)
    return f"at {format_duration(spec.at or 0.0)}: {what} for {format_duration(spec.lasting)}"


def ending(summary: dict[str, Any]) -> str:
    """The last lines about a run that failed; `anomaly`, `minimal` and `schedule` may be missing from its summary."""
    wrong = next(check for check in summary["checks"] if check["verdict"] == "invalid")
    anomaly = _anomaly(summary, wrong)
    reason = f": {anomaly['reason']}" if anomaly and anomaly["reason"] else ""
    lines = labelled("wrong", [f"{wrong['name']}: {sentence(summary, wrong)}{reason}"])
    lines += _around(anomaly) if anomaly else []
    lines += [f"  seed    {summary['seed']}", *_schedule(summary), "", *places(summary)]
    return "\n".join(lines)


def sentence(summary: dict[str, Any], check: dict[str, Any]) -> str:
    """What a check has to say; where there is more to show than fits into a sentence, only what broke."""
    anomaly = _anomaly(summary, check)
    if anomaly is None:
        return str(check["detail"])
    from chaos.checkers.values import show_json

    on = "" if anomaly["key"] is None else f"on key {show_json(anomaly['key'])} "
    return f"{on}no order explains {anomaly['operation']}"


def _anomaly(summary: dict[str, Any], check: dict[str, Any]) -> dict[str, Any] | None:
    """That check's, if it is the one that is shown."""
    found: dict[str, Any] | None = summary.get("anomaly")
    is_its = found is not None and (found["check"], found["workload"]) == (check["name"], check["workload"])
    return found if is_its else None


def _around(anomaly: Mapping[str, Any]) -> list[str]:
    """The operations that do not fit together, as `testbed check` shows them."""
    from chaos.history import Event

    lines = labelled("open", anomaly["concurrent"] or ["nothing else was open then"])
    lines += labelled("states", anomaly["states"])
    return lines + labelled("alone", _operations(msgspec.convert(anomaly["minimal"], list[Event])))


def _operations(events: "list[Event]") -> list[str]:
    """The operations of a part of a history, with the places of their events in the whole."""
    from chaos.checkers.explain import describe as describe_operation
    from chaos.history import operations

    places = [event.index for event in events]
    return [
        describe_operation(
            msgspec.structs.replace(
                one,
                invoked=places[one.invoked],
                completed=None if one.completed is None else places[one.completed],
            )
        )
        for one in operations(events)
    ]


def _schedule(summary: dict[str, Any]) -> list[str]:
    if "minimal" in summary:
        lines = labelled("minimal", [f"{summary['minimal']} ({summary['shrunk']})"])
        if "simulated_seed" in summary:
            lines += labelled("", [f"found in simulation, with seed {summary['simulated_seed']}"])
        return lines + labelled("", summary["schedule"])
    if summary["run_dir"] is None:
        return []
    search = f"  smaller testbed shrink {shlex.quote(summary['run_dir'])}"
    return [search, *labelled("", [summary["searched"]] if "searched" in summary else [])]


def _place(anomaly: Mapping[str, Any]) -> str:
    """Where the operation is that broke it, as `testbed explain` is asked."""
    workload = anomaly["history"].removeprefix("history").removeprefix("-").removesuffix(".jsonl")
    return f"{workload}:{anomaly['event']}" if workload else str(anomaly["event"])


def places(summary: dict[str, Any]) -> list[str]:
    """Where the run is kept, and the commands that show more of it. Their lines are not wrapped: people copy them."""
    directory = summary["run_dir"]
    if directory is None:
        return [f"  again   {summary['replay']}"]
    lines = [f"  kept in {directory}"]
    report = Path(directory) / "report.html"
    if report.is_file():
        lines.append(f"  report  {report}")
    lines.append(f"  logs    testbed logs {shlex.quote(directory)}")
    if "anomaly" in summary and (Path(directory) / "clients.jsonl").is_file():  # without it nothing can be followed
        lines.append(f"  explain testbed explain {shlex.quote(directory)} {_place(summary['anomaly'])}")
    return [*lines, f"  again   {summary['replay']}"]


def labelled(label: str, paragraphs: list[str]) -> list[str]:
    """Paragraphs below each other, beside a label; in WIDTH columns."""
    shown = paragraphs[:ROWS_MAX]
    if len(paragraphs) > ROWS_MAX:
        shown.append(f"and {len(paragraphs) - ROWS_MAX} more")
    lines = [line for text in shown for line in wrapped(text, WIDTH - LABEL_WIDTH - 2)]
    return [f"  {label if number == 0 else '':<{LABEL_WIDTH}}{line}" for number, line in enumerate(lines)]


def wrapped(text: str, columns: int) -> list[str]:
    """In lines of so many columns, of which there is at least one; a path is not broken."""
    return textwrap.wrap(text, columns, break_on_hyphens=False, break_long_words=False) or [""]
