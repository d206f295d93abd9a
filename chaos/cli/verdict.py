"""A run's summary in words, in 80 columns."""

import textwrap
from typing import Any, Final

WIDTH: Final = 80
_INDENT = " " * 33


def text_of(summary: dict[str, Any]) -> str:
    """The verdict first, then each check, the faults, the recoveries, and where to go from here."""
    operations = summary["operations"]
    lines = [
        f"{summary['verdict'].upper()}  {summary['scenario']}, seed {summary['seed']}, {summary['duration_s']:.1f} s:"
        f" {operations['ok']} ok, {operations['fail']} failed, {operations['info']} unknown",
        "",
    ]
    for check in summary["checks"]:
        name = check["name"] + (f" ({check['workload']})" if check["workload"] else "")
        lines += _entry(f"  {check['verdict']:<8}{name}", check["detail"])
    lines.append("")
    for fault in summary["faults"]:
        counts = f"{fault['applied']} of {fault['asked']} took hold, {fault['healed']} healed"
        if fault["skipped"]:
            counts += f", {fault['skipped']} skipped"
        back = summary["recovery_s"].get(fault["kind"])
        if back is not None:
            counts += f"; next write after {back['p50']:.2f} s (p50), {back['max']:.2f} s (max)"
        lines += _entry(f"  fault   {fault['kind']}", counts)
    lines += ["", f"  kept in {summary['run_dir']}"]
    if summary["verdict"] == "invalid":
        from chaos.cli.failing import ending

        lines.append(ending(summary))
    else:
        lines.append(f"  again   {summary['replay']}")
    return "\n".join(lines)


def _entry(head: str, body: str) -> list[str]:
    wrapped = textwrap.wrap(body, WIDTH - len(_INDENT)) or [""]
    return [f"{head:<{len(_INDENT) - 1}} {wrapped[0]}", *(_INDENT + line for line in wrapped[1:])]
