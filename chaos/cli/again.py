"""`replay` and `shrink`: a run that is kept, once more or made smaller."""

from typing import Any, cast

import click

from chaos.cli.answers import INVALID, STATUS_OF_VERDICT, VALID, Answer, answering
from testbed.base.errors import UsageError

LIVE_TIMES = 3


@click.command()
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--times", type=click.IntRange(1, 1000), help="Repetitions. Default: 1 in simulation, 3 live.")
@click.option("--world", type=click.Choice(["live", "sim"]), help="Default: the run's own.")
@click.option("--out", default="runs", metavar="DIR", help="The parent of the runs' directories.", show_default=True)
@answering
def replay(answer: Answer, run_dir: str, times: int | None, world: str | None, out: str) -> int:
    """Run a kept run's schedule again: exactly in simulation, as faithfully as processes allow live.

    Exit status 1 if it failed again in any repetition, in whichever way; 0 if every one was valid.
    """
    from chaos.again import World, run_again
    from chaos.kept import load_run
    from chaos.verdicts import failure

    kept = load_run(run_dir)
    where = cast(World, world or kept.world)
    total = times or (1 if where == "sim" else LIVE_TIMES)
    summaries = []
    for number in range(1, total + 1):
        summaries.append(run_again(kept, where, out))
        answer.progress(f"{number} of {total}: {summaries[-1]['verdict']}  {failure(summaries[-1]['checks']) or ''}")
    verdicts = [summary["verdict"] for summary in summaries]
    result: dict[str, Any] = {
        "run_dir": run_dir,
        "world": where,
        "seed": kept.seed,
        "failure": kept.failure,
        "times": total,
        "failed": verdicts.count("invalid"),
        "failed_the_same_way": sum(
            kept.failure is not None and failure(summary["checks"]) == kept.failure for summary in summaries
        ),
        "verdicts": verdicts,
        "run_dirs": [summary["run_dir"] for summary in summaries],
    }
    if where == kept.world == "sim":
        result["same_digest"] = all(summary["digest"] == kept.digest for summary in summaries)
    answer.result(result, _shown(result, kept.verdict))
    return max(STATUS_OF_VERDICT[verdict] for verdict in verdicts) if "invalid" not in verdicts else INVALID


def _shown(result: dict[str, Any], before: str) -> str:
    if result["failure"] is None:
        line = f"was {before}; now {', '.join(result['verdicts'])}"
    else:
        line = f"failed again in {result['failed']} of {result['times']} repetitions"
        if result["world"] == "live" and "-invariants" in result["failure"]:
            line += f"; it was {result['failure']}, which only a simulation can see"
        else:
            line += f", {result['failed_the_same_way']} of them in the same way ({result['failure']})"
    if result.get("same_digest") is True:
        line += "; event for event the same run"
    elif result.get("same_digest") is False:
        line += "; not the same events: the code is not what it was"
    return line


@click.command()
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--tries", type=click.IntRange(1, 100_000), help="At most so many runs. Default: 400, or 40 live.")
@answering
def shrink(answer: Answer, run_dir: str, tries: int | None) -> int:
    """Find a smaller schedule with which a run still fails in the same way, and write it as a scenario."""
    from chaos.cli.failing import shrunk_to_file
    from chaos.kept import load_run

    kept = load_run(run_dir)
    if kept.failure is None:
        raise UsageError(run_dir, "verdict", f"is {kept.verdict}: there is nothing to shrink")
    found = {"run_dir": run_dir, "failure": kept.failure, "seed": kept.seed, **shrunk_to_file(answer, kept, tries)}
    lines = [f"{found['shrunk']}, in {found['tries']} tries" + ("" if found["is_minimal"] else ", and no more tries")]
    lines += [f"  {line}" for line in found["schedule"]]
    lines.append(f"  written to {found['minimal']}")
    answer.result(found, "\n".join(lines))
    return VALID
