"""`sim`: many seeds of a scenario in simulation, until one fails or all are done."""

import os
from typing import Any, Final

import click

from chaos.cli.answers import INTERRUPTED, INVALID, UNKNOWN, VALID, Answer, answering
from chaos.cli.failing import confess_worker, ending, shrunk_to_file
from chaos.scenario import SEED_MAX
from testbed.base.errors import UsageError

PROGRESS_S: Final = 2.0  # between two lines about how far it is
FAILURES_SHOWN: Final = 20
NOT_AGAIN: Final = "did not fail once more: it does not depend on its seed alone"


@click.command()
@click.argument("scenario", metavar="SCENARIO.toml")
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(0, SEED_MAX), default=0, show_default=True, help="The first of them.")
@click.option("--jobs", type=click.IntRange(1, 256), help="At a time. Default: one for each processor.")
@click.option("--check-every", type=click.IntRange(0), default=10, show_default=True, help="Run every n-th twice.")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first seed that fails.")
@click.option("--no-shrink", is_flag=True, help="Do not look for the smallest schedule of the first failure.")
@click.option("--as-written", is_flag=True, help="Vary nothing but the seed: no swarm.")
@click.option("--plant", metavar="BUG", help="Plant a bug (see: testbed list bugs).")
@click.option("--out", default="runs", metavar="DIR", help="Where a failing run is kept.", show_default=True)
@answering
def sim(
    answer: Answer,
    scenario: str,
    seeds: int,
    first: int,
    jobs: int | None,
    check_every: int,
    keep_going: bool,
    no_shrink: bool,
    as_written: bool,
    plant: str | None,
    out: str,
) -> int:
    """Simulate a scenario under many seeds, each of which draws its own cluster, timeouts, faults and load.

    Exit status 1 if a seed failed or was not deterministic, 2 if none was valid.
    """
    from chaos.bugs import find
    from chaos.campaign import Tally, WorkerEnded, campaign
    from chaos.scenario import load_scenario
    from chaos.seeds import Question

    load_scenario(scenario)  # its mistakes, now and not in another process
    if plant is not None:
        find(plant)
    if first + seeds - 1 > SEED_MAX:
        raise UsageError("sim", "--seeds", f"the last of them would be above {SEED_MAX}")
    tally, shown_at = Tally(), 0.0

    def progress(so_far: Tally) -> None:
        nonlocal tally, shown_at
        tally = so_far
        if tally.seconds - shown_at >= PROGRESS_S:
            shown_at = tally.seconds
            answer.progress(_progress(tally, seeds))

    question = Question(scenario, first, varied=not as_written, plant=plant)
    flags = " --as-written" * as_written + (f" --plant {plant}" if plant is not None else "")
    try:
        tally = campaign(
            question,
            range(first, first + seeds),
            jobs or os.cpu_count() or 1,
            check_every=check_every,
            keep_going=keep_going,
            progress=progress,
        )
    except WorkerEnded as error:
        return confess_worker(answer, error)
    except KeyboardInterrupt:
        if not tally.done:
            raise
        text = f"INTERRUPTED after {tally.done} of {seeds} seeds; so far:\n\n{_text(scenario, flags, tally, None)}"
        answer.result({**_result(scenario, first, tally, None), "interrupted": True}, text)
        return INTERRUPTED
    answer.progress(_progress(tally, seeds))
    kept = _keep_first(answer, question, tally, out, shrink=not no_shrink)
    answer.result(_result(scenario, first, tally, kept), _text(scenario, flags, tally, kept))
    if tally.failures or tally.diverged:
        return INVALID
    return VALID if tally.verdicts["valid"] else UNKNOWN


def _keep_first(answer: Answer, question: Any, tally: Any, out: str, shrink: bool) -> dict[str, Any] | None:
    """The first failing seed's run once more, this time kept, and shrunk."""
    from msgspec.structs import replace

    from chaos.kept import load_run
    from chaos.seeds import scenario_of
    from chaos.simulation import simulate

    if not tally.failures:
        return None
    seed = tally.failures[0].seed
    scenario = scenario_of(replace(question, seed=seed))
    summary = simulate(scenario, seed, plant=question.plant, out=out).summary
    if shrink and summary["verdict"] == "invalid":
        summary = {**summary, **shrunk_to_file(answer, load_run(summary["run_dir"]))}
    return summary


def _progress(tally: Any, seeds: int) -> str:
    took = max(tally.seconds, 1e-9)
    faults = sum(tally.faults.values())
    return (
        f"{tally.done} of {seeds} seeds, {tally.done / took:.1f}/s; {tally.simulated_s / took:.0f} simulated s/s; "
        f"{faults} faults; {tally.verdicts['invalid']} invalid, {tally.verdicts['unknown']} unknown"
    )


def _result(scenario: str, first: int, tally: Any, kept: dict[str, Any] | None) -> dict[str, Any]:
    took = max(tally.seconds, 1e-9)
    return {
        "scenario": scenario,
        "first": first,
        "seeds": tally.done,
        "valid": tally.verdicts["valid"],
        "invalid": tally.verdicts["invalid"],
        "unknown": tally.verdicts["unknown"],
        "failures": [
            {"seed": found.seed, "failure": found.failure, "detail": found.detail} for found in tally.failures
        ],
        "first_failure": kept,
        "determinism": {
            "checked": tally.checked,
            "diverged": [
                {"seed": found.seed, "event": found.event, "first": found.first, "second": found.second}
                for found in tally.diverged
            ],
        },
        "faults": dict(sorted(tally.faults.items())),
        "sometimes": dict(sorted(tally.sometimes.items())),
        "never": tally.never,
        "events": tally.events,
        "simulated_s": round(tally.simulated_s, 1),
        "seconds": round(tally.seconds, 2),
        "seeds_per_s": round(tally.done / took, 2),
        "simulated_s_per_s": round(tally.simulated_s / took, 1),
    }


def _text(scenario: str, flags: str, tally: Any, kept: dict[str, Any] | None) -> str:
    verdict = "INVALID" if tally.failures or tally.diverged else "VALID" if tally.verdicts["valid"] else "UNKNOWN"
    lines = [
        f"{verdict}  {scenario}: {tally.done} seeds, {tally.verdicts['valid']} valid, "
        f"{tally.verdicts['invalid']} invalid, {tally.verdicts['unknown']} unknown",
        f"  {tally.simulated_s:.0f} simulated seconds and {tally.events} events in {tally.seconds:.1f} s",
        f"  determinism: {tally.checked} seeds run twice, {len(tally.diverged)} differed",
    ]
    for found in tally.diverged:
        where = f"from event {found.event} on: {found.first} / {found.second}" if found.event else found.first
        lines.append(f"    seed {found.seed}: {where}")
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.faults.items()))
    lines.append(f"  faults: {faults or 'none'}")
    lines.append(
        "  reached: " + ", ".join(f"{name} {count}" for name, count in sorted(tally.sometimes.items()) if count)
    )
    if tally.never:
        lines.append("  never reached, so nothing was tested there: " + ", ".join(tally.never))
    for found in tally.failures[:FAILURES_SHOWN]:
        lines.append(f"  seed {found.seed} failed: {found.detail}")
        lines.append(f"    again: testbed sim {scenario} --first {found.seed} --seeds 1{flags}")
    if kept is not None:
        lines += ["", f"{kept['verdict'].upper()}  seed {kept['seed']}"]
        failed = kept["verdict"] == "invalid"
        lines.append(ending(kept) if failed else f"  {NOT_AGAIN}; kept in {kept['run_dir']}")
    return "\n".join(lines)
