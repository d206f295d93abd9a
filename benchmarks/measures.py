"""What a benchmark finds, and how it is printed. Seconds throughout; only the table shows milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One measurement of closed-loop clients. `rate`: operations a second; `p50`, `p99`: seconds."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Row:
    """One line of the table, in words. `reached`: None where nothing was promised."""

    what: str
    ours: str
    reference: str
    ratio: str
    reach: str
    reached: bool | None
    note: str = ""  # what limits it


def sample(latencies: list[float], seconds: float) -> Sample:
    """What a list of latencies comes to."""
    ordered = sorted(latencies)
    return Sample(len(ordered) / seconds, quantile(ordered, 0.5), quantile(ordered, 0.99))


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank, of any order."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def medians(samples: Sequence[Sample]) -> Sample:
    """Field by field."""
    return Sample(
        median(one.rate for one in samples), median(one.p50 for one in samples), median(one.p99 for one in samples)
    )


def ms(seconds: float) -> str:
    """Milliseconds, as precisely as anybody wants to read them."""
    return f"{seconds * 1000:.2f} ms" if seconds < 0.01 else f"{seconds * 1000:,.0f} ms"


def table(rows: Sequence[Row]) -> str:
    """The table, and what limits each row below it."""
    head = ("what", "ours", "reference", "ratio", "reach", "reached")
    said = {True: "yes", False: "NO", None: "-"}
    lines = [head, *((r.what, r.ours, r.reference, r.ratio, r.reach, said[r.reached]) for r in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-" * len(text[0]))
    notes = [f"  {row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([*text, "", "What limits them:", *notes] if notes else text)
