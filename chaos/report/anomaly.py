"""What broke: the operation that nothing explains among those beside it, and the messages between nodes at that time.

Pure. Knows how operations are named in a judge's words ("process 1, events 5 to 6"), and the texts of nodes' traces.
Times are in seconds since the start of the run.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from chaos.history import NS_PER_S, Operation
from chaos.report.points import cut, in_short, key_text

BARS_MAX: Final = 16  # of the picture; the table beside it has as many
MESSAGES_MAX: Final = 80
FIELDS_MAX: Final = 90  # characters of a message's fields
SHOWN_BEFORE_S: Final = 0.25  # messages that were sent so long before count, too

_PLACE: Final = re.compile(r"\(process (-?\d+), events (\d+)(?: to (\d+)| on)\)")

Entry = Mapping[str, Any]


class Bar(msgspec.Struct, frozen=True):
    """One operation of the picture. `part`: broken, open (then), or shows (it, with the others). `last`: if known."""

    part: str
    process: int
    words: str
    first: int
    last: int | None
    began: float
    ended: float | None


class Anomaly(msgspec.Struct, frozen=True):
    """An invalid check's reason. `workload` is the place of its history; `unnamed` operations were left out."""

    check: str
    workload: int
    key: str
    sentence: str
    reason: str
    states: list[str]
    prefix: int | None
    bars: list[Bar]
    unnamed: int
    start: float
    end: float


class Message(msgspec.Struct, frozen=True):
    """From one node to another, or to all. `sent` and `heard` are None where nobody wrote it down at that time."""

    sender: str
    to: str
    sent: float | None
    heard: float | None
    kind: str
    words: str


def invocations(words: str) -> list[int]:
    """The places of the operations that are named in a judge's words, in their order."""
    return list(dict.fromkeys(int(found[2]) for found in _PLACE.finditer(words)))


def anomaly(
    check: str, workload: int, told: Mapping[str, Any], detail: str, operations: Sequence[Operation]
) -> Anomaly | None:
    """The picture of a check that is invalid; None if no operation of that history is named.

    `told` is the explanation, as in a summary; where there is none, `detail` is a line that names operations.
    """
    parts = _parts(told, detail)
    wanted = {one.invoked: one for one in operations if one.invoked in parts}
    named = [(part, wanted[first]) for first, part in parts.items() if first in wanted]
    broken = next((one for part, one in named if part == "broken"), None)
    if broken is None:
        return None
    shown = sorted(named[:BARS_MAX], key=lambda pair: pair[1].invoked)
    beside = [one for part, one in named if part in ("broken", "open")]
    key = key_text(broken.key)
    reason = str(told.get("reason") or "")
    states = told.get("states")
    prefix = told.get("prefix")
    on = f"On key {cut(key)}, " if key else ""
    why = reason or _reason_in(detail) or "no order of the operations explains it"
    return Anomaly(
        check=check,
        workload=workload,
        key=key,
        sentence=f"{on}{in_short(broken)} (process {broken.process}) cannot be explained: {why}.",
        reason=reason,
        states=[str(state) for state in states[:BARS_MAX]] if isinstance(states, list) else [],
        prefix=prefix if isinstance(prefix, int) else None,
        bars=[_bar(part, one) for part, one in shown],
        unnamed=len(parts) - len(shown),
        start=max(min(one.began for one in beside), broken.began - NS_PER_S) / NS_PER_S,
        end=broken.ended / NS_PER_S,
    )


def _parts(told: Mapping[str, Any], detail: str) -> dict[int, str]:
    """Where the operations that matter were invoked, and what each is to the anomaly; the most important first."""
    parts: dict[int, str] = {}
    for first in invocations(str(told.get("operation", "")))[:1] or invocations(detail)[:1]:
        parts[first] = "broken"
    concurrent, minimal = told.get("concurrent"), told.get("minimal")
    for words in concurrent if isinstance(concurrent, list) else []:
        for first in invocations(str(words)):
            parts.setdefault(first, "open")
    for event in minimal if isinstance(minimal, list) else []:
        if isinstance(event, Mapping) and event.get("type") == "invoke" and isinstance(event.get("index"), int):
            parts.setdefault(event["index"], "shows")
    for first in [] if told else invocations(detail):
        parts.setdefault(first, "shows")
    return parts


def _reason_in(detail: str) -> str:
    return _PLACE.split(detail.partition(";")[0], maxsplit=1)[-1].removeprefix(":").strip()


def _bar(part: str, one: Operation) -> Bar:
    ended = None if one.completed is None else one.ended / NS_PER_S
    return Bar(part, one.process, cut(in_short(one)), one.invoked, one.completed, one.began / NS_PER_S, ended)


# --- messages ---


def messages(entries: Iterable[Entry], start: float, end: float) -> list[Message]:
    """What nodes told each other then, as far as they wrote it down; the last ones, if there are too many.

    A message that was heard belongs to the first equal one that was sent to that node and was not heard by it yet.
    """
    found: list[dict[str, Any]] = []
    waiting: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: entry["time"]):
        text, node, what = entry.get("text"), str(entry.get("node")), entry.get("what")
        if not isinstance(what, Mapping) or not start - SHOWN_BEFORE_S <= entry["time"] <= end + SHOWN_BEFORE_S:
            continue
        kind, words = str(what.get("type", "")), _fields(what)
        if text in ("sent", "published"):
            to = str(entry.get("to")) if text == "sent" else "all"
            message = {"sender": node, "to": to, "sent": entry["time"], "heard": None, "kind": kind, "words": words}
            found.append(message)
            waiting.setdefault((node, to, kind + words), []).append(message)
        elif text == "heard":
            sender = str(entry.get("sender"))
            own = waiting.get((sender, node, kind + words))
            if own:
                own.pop(0)["heard"] = entry["time"]
                continue
            public = waiting.get((sender, "all", kind + words))
            sent = public[-1]["sent"] if public else None
            heard = {"sender": sender, "to": node, "sent": sent, "heard": entry["time"], "kind": kind, "words": words}
            found.append(heard)
    reached = {(one["sender"], one["kind"], one["words"], one["sent"]) for one in found if one["to"] != "all"}
    found = [one for one in found if one["to"] != "all" or _identity(one) not in reached]
    return [Message(**one) for one in _nearest(found, end)]


def _identity(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["sender"], one["kind"], one["words"], one["sent"]


def _nearest(found: list[dict[str, Any]], end: float) -> list[dict[str, Any]]:
    before = [one for one in found if (one["sent"] if one["sent"] is not None else one["heard"]) <= end]
    return before[-MESSAGES_MAX:]


def _fields(what: Mapping[str, Any]) -> str:
    return cut(", ".join(f"{name} {value}" for name, value in what.items() if name != "type"), FIELDS_MAX)
