"""A journey's steps as lines for people: what repeats is folded, what happens at once is one line.

Knows steps and words only. Nothing is left out that `Journey.steps` does not still have.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chaos.logbook.account import decisive_entry
from chaos.logbook.journey import Journey, Step, listed

ALIKE_MAX: Final = 2  # attempts that came to nothing at one node alike, before more of them are only counted
FUTILE: Final = {"turned away": "turned away", "waits": "no result yet"}


@dataclass(frozen=True)
class Line:
    """`time` on the clock of the logs; None for what stands for several steps."""

    time: float | None
    who: str
    kind: str
    text: str


def timeline(journey: Journey) -> list[Line]:
    """What to show, in order."""
    return _without_futile(journey, _joined(_counted(_of_decisive(journey))))


def _of_decisive(journey: Journey) -> list[Step]:
    """Of several entries of one command, the ways of those that changed nothing are not told."""
    decisive = decisive_entry(journey)
    if decisive is None:
        return journey.steps
    place = (decisive.index, decisive.term)
    return [
        step
        for step in journey.steps
        if step.index is None or step.kind == "appended" or (step.index, step.term) == place
    ]


def _counted(steps: Sequence[Step]) -> list[Step]:
    """The same thing several times in one step of a node is one line."""
    counts = Counter((step.time, step.who, step.text) for step in steps)
    shown = dict.fromkeys((step.time, step.who, step.text) for step in steps)
    firsts: list[Step] = []
    for step in steps:
        place = (step.time, step.who, step.text)
        if place in shown:
            del shown[place]
            times = counts[place]
            firsts.append(replace(step, text=f"{step.text} ({times} times)") if times > 1 else step)
    return firsts


def _joined(steps: Sequence[Step]) -> list[Step]:
    """What a node does at once with what it received, or to several, is one line."""
    joined: list[Step] = []
    for step in steps:
        last = joined[-1] if joined else step
        here = last is not step and (last.who, last.time) == (step.who, step.time)
        if step.text.startswith("turns it away") and (last.kind, last.request) == ("received", step.request):
            joined[-1] = replace(last, kind="turned away", text=f"{last.text}, and {step.text}")
        elif here and last.kind == step.kind == "appended":
            first, _, term = last.text.partition(", term ")
            joined[-1] = replace(last, text=f"{first}, {step.index}, term {term}")
        elif here and last.kind == step.kind == "sent" and last.index == step.index is not None:
            joined[-1] = replace(last, text=f"{last.text}, {step.text.rpartition(' ')[2]}")
        else:
            joined.append(step)
    return joined


def _without_futile(journey: Journey, steps: Sequence[Step]) -> list[Line]:
    """Attempts that came to nothing in the same way as some before them are told in one line, where they begin."""
    alike: Counter[tuple[str, str]] = Counter()
    futile: dict[int, Step] = {}  # by request
    for step in steps:
        if step.kind in FUTILE and step.request is not None:
            alike[step.who, step.text] += 1
            if alike[step.who, step.text] > ALIKE_MAX:
                futile[step.request] = step
    lines: list[Line] = []
    folded: list[Step] = []
    for step in steps:
        if step.request not in futile:
            lines += _fold(journey, folded)
            folded = []
            lines.append(Line(step.time, step.who, step.kind, step.text))
        elif step.kind in FUTILE:
            folded.append(step)
    return lines + _fold(journey, folded)


def _fold(journey: Journey, folded: Sequence[Step]) -> list[Line]:
    if not folded:
        return []
    nodes = listed(dict.fromkeys(step.who for step in folded))
    more = f"{len(folded)} more attempts at {nodes}" if len(folded) > 1 else f"another attempt at {nodes}"
    ends = listed(dict.fromkeys(FUTILE[step.kind] for step in folded))
    return [Line(None, journey.client, "folded", f"… {more}, until {journey.since(folded[-1].time)}: {ends}")]
