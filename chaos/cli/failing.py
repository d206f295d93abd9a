"""How a failing run ends: what went wrong in a sentence, the seed, the smallest schedule, the command for more."""

from typing import Any, Final

from chaos.again import minimal_file, shrink_run
from chaos.cli.answers import FAULT, Answer
from chaos.kept import Kept
from chaos.scenario import FaultSpec, Scenario
from testbed.base.durations import format_duration

REPORT_EVERY: Final = 50  # tries
TRIES_UNASKED: Final = 100  # where nobody asked for it, half a minute or so; `testbed shrink` goes on from there


def shrunk_to_file(answer: Answer, kept: Kept, tries_max: int | None = TRIES_UNASKED) -> dict[str, Any]:
    """Shrink a run that failed; what to add to its summary: `minimal` (a scenario file) and its `schedule`."""

    def report(tries: int, scenario: Scenario) -> None:
        if tries % REPORT_EVERY == 0:
            answer.progress(f"  shrinking: {tries} tries, {len(scenario.faults)} faults left")

    answer.progress(f"shrinking {kept.directory} ({kept.failure})")
    shrunk = shrink_run(kept, tries_max, report)
    path = minimal_file(kept, shrunk)
    return {
        "minimal": str(path),
        "shrunk": shrunk.summary,
        "tries": shrunk.tries,
        "is_minimal": shrunk.minimal,
        "schedule": schedule_lines(shrunk.scenario),
    }


def confess_worker(answer: Answer, error: Exception) -> int:
    """The end of a command whose worker ended. A traceback would show only who has waited for it."""
    answer.progress(f"testbed: a fault of the testbed itself: {error}")
    return FAULT


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
    """The last lines about a run that failed; `minimal` and `schedule` may be missing from its summary."""
    wrong = next(check for check in summary["checks"] if check["verdict"] == "invalid")
    lines = [f"  wrong   {wrong['name']}: {wrong['detail']}", f"  seed    {summary['seed']}"]
    if "minimal" in summary:
        lines += [f"  minimal {summary['minimal']} ({summary['shrunk']})"]
        lines += [f"          {line}" for line in summary["schedule"]]
    elif summary["run_dir"] is not None:
        lines.append(f"  smaller testbed shrink {summary['run_dir']}")
    lines.append(f"  again   {summary['replay']}")
    return "\n".join(lines)
