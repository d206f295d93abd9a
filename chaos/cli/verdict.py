"""A run's summary in words, in 80 columns: verdict first, what matters before what does not, commands at the end."""

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import click

from chaos.cli.failing import LABEL_WIDTH, WIDTH, ending, labelled, places, sentence, wrapped
from chaos.records import FaultRecord

NAME_WIDTH_MAX: Final = 28
KIND_WIDTH_MAX: Final = 20
GRAVEST_FIRST: Final = ("invalid", "unknown", "valid")
COLOURS: Final = {"invalid": "red", "unknown": "magenta", "valid": "green"}
STEPS: Final = (("detect", "others see it"), ("elect", "a leader again"), ("write", "next write"))

Paint = Callable[[str, str], str]  # a text and the verdict whose colour it gets


def text_of(
    summary: dict[str, Any], records: Sequence[FaultRecord] = (), colour: bool = False, rows: int | None = None
) -> str:
    """The verdict, each check, the faults, the recoveries, and where to go from here. `records`: of the faults.

    On a terminal of too few `rows` the verdict would scroll out of sight, and is repeated at the end.
    """
    paint: Paint = _coloured if colour else lambda text, _: text
    lines = [_headline(summary, paint), "", *_checks(summary, paint)]
    for part in (_faults(summary), [*_recoveries(summary), *_not_done(records)]):
        lines += ["", *part] if part else []
    lines += ["", *([ending(summary)] if summary["verdict"] == "invalid" else places(summary))]
    if rows is not None and len("\n".join(lines).splitlines()) >= rows:
        lines += ["", lines[0]]
    return "\n".join(lines)


def _coloured(text: str, verdict: str) -> str:
    return click.style(text, fg=COLOURS[verdict], bold=verdict != "valid")


def _headline(summary: dict[str, Any], paint: Paint) -> str:
    counts = summary["operations"]
    return (
        f"{paint(summary['verdict'].upper(), summary['verdict'])}  {summary['scenario']}, seed {summary['seed']}, "
        f"{summary['duration_s']:.1f} s: {counts['ok']} ok, {counts['fail']} failed, {counts['info']} unknown"
    )


def _checks(summary: dict[str, Any], paint: Paint) -> list[str]:
    """The gravest first; else in their order."""
    checks = sorted(summary["checks"], key=lambda check: GRAVEST_FIRST.index(check["verdict"]))
    names = [check["name"] + (f" ({_short(check['workload'])})" if check["workload"] else "") for check in checks]
    width = min(max(map(len, names), default=0), NAME_WIDTH_MAX)
    lines = []
    for check, name in zip(checks, names, strict=True):
        verdict = paint(f"{check['verdict']:<{LABEL_WIDTH}}", check["verdict"])
        indent = LABEL_WIDTH + 2 + width + 2
        first, *more = wrapped(sentence(summary, check), WIDTH - indent)
        if len(name) > width:
            lines.append(f"  {verdict}{name}")
            lines.append(" " * indent + first)
        else:
            lines.append(f"  {verdict}{name:<{width}}  {first}")
        lines += [" " * indent + line for line in more]
    return lines


def _faults(summary: dict[str, Any]) -> list[str]:
    if not summary["faults"]:
        return []
    width = _kind_width(summary["faults"])
    heads = ("asked", "took hold", "healed", "skipped")
    keys = ("asked", "applied", "healed", "skipped")
    lines = [f"  {'faults':<{width}}" + "".join(f"{head:>12}" for head in heads)]
    for fault in summary["faults"]:
        lines.append(f"  {_short(fault['kind']):<{width}}" + "".join(f"{fault[key]:>12}" for key in keys))
    return lines


def _recoveries(summary: dict[str, Any]) -> list[str]:
    """Per kind of fault, from its being in effect: medians and maxima of what could be measured."""
    steps: dict[str, dict[str, dict[str, float]]] = summary.get("recovery_steps_s") or {
        kind: {"write": times} for kind, times in summary["recovery_s"].items()
    }
    columns = [(key, head) for key, head in STEPS if any(key in found for found in steps.values())]
    if not columns:
        return []
    width = _kind_width(summary["faults"])
    lines = [
        f"  {'recovery':<{width}}" + "".join(f"{head:>18}" for _, head in columns),
        f"  {'in seconds':<{width}}" + f"{'p50':>10}{'max':>8}" * len(columns),
    ]
    for kind, found in steps.items():
        cells = [found.get(key) for key, _ in columns]
        times = "".join(f"{cell['p50']:>10.3f}{cell['max']:>8.3f}" if cell else f"{'-':>10}{'-':>8}" for cell in cells)
        lines.append(f"  {_short(kind):<{width}}{times}")
    return lines


def _kind_width(faults: list[dict[str, Any]]) -> int:
    return max([len("in seconds"), *(len(_short(fault["kind"])) for fault in faults)])


def _short(kind: str) -> str:
    """A user's own kind of fault or workload goes by its class."""
    return kind.rpartition(":")[2][:KIND_WIDTH_MAX]


def _not_done(records: Sequence[FaultRecord]) -> list[str]:
    """Why faults were skipped, or did not verifiably take hold or heal."""
    lines: list[str] = []
    for label, reason_of in (("skipped", attrgetter("skipped")), ("failed", attrgetter("failed"))):
        reasons = Counter((_short(record.fault.kind), reason_of(record)) for record in records if reason_of(record))
        lines += labelled(label, [f"{kind}{_times(count)}: {reason}" for (kind, reason), count in reasons.items()])
    return lines


def _times(count: int) -> str:
    return f", {count} times" if count > 1 else ""
