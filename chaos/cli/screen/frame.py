"""A picture of a run as lines of text, in so many columns and rows: the same number of them each time.

Pure. Knows pictures and styles; not the terminal, nor the run. Only the 16 colours of the terminal's own palette, which
fit its background, and none that is illegible on white or black; each says what a word says, too.
"""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from chaos.cli.screen.picture import Picture, Row

WIDTH_MAX: Final = 110  # wider, and the eye loses the row
WIDE_MIN: Final = 78  # columns for the whole table; with less of them, what the others believe is left out
EVENTS_MIN: Final = 3
EVENTS_MAX: Final = 12
HEALTH_WIDTH: Final = 19
STATES: Final = {"up": "green", "down": "bold red", "paused": "bold magenta", "starting": "magenta"}
HEALTH: Final = {"failed": "red", "suspect": "magenta", "alive": ""}
QUIET: Final = "dim"
FAULT: Final = "magenta"
KINDS: Final = (("ok", "ok", ""), ("fail", "failed", ""), ("info", "unknown", ""))


def frame(picture: Picture, events: Sequence[str], width: int, height: int) -> list[Text]:
    """Lines of fewer than `width` columns; fewer than `height` of them, wherever that is possible at all."""
    columns = min(width, WIDTH_MAX) - 2  # a margin at both sides
    head = [_title(picture, columns), _bar(picture, columns)]
    load = _load(picture)
    faults = _faults(picture, columns)
    fixed = len(head) + 1 + len(load) + len(faults)
    room = max(height - 1 - fixed, 1)
    blanks = 4 if room >= len(picture.rows) + EVENTS_MIN + 4 else 0
    rows = _table(picture.rows, columns, max(room - blanks - EVENTS_MIN, 1))
    shown = max(0, min(EVENTS_MAX, room - blanks - len(rows) + 1))
    news = [_event(event) for event in events[-shown:]] if shown else []
    news += [Text()] * (shown - len(news))
    blank = [Text()] if blanks else []
    lines = [*head, *blank, *rows, *blank, *load, *blank, *faults, *blank, *news]
    return [_fitted(line, columns) for line in lines[: max(height - 1, 1)]]


def _fitted(line: Text, columns: int) -> Text:
    line = line.copy()
    line.truncate(columns, overflow="ellipsis")
    return Text(" ") + line


def _title(picture: Picture, columns: int) -> Text:
    if picture.phase:
        right = picture.phase
    else:
        right = (
            f"{picture.elapsed:.0f} of {picture.duration:g} s, {max(0, picture.duration - picture.elapsed):.0f} s left"
        )
    left = Text(picture.title)
    left.truncate(max(columns - len(right) - 2, 8), overflow="ellipsis")
    return Text.assemble((left.plain, "bold"), " " * max(2, columns - left.cell_len - len(right)), right)


def _bar(picture: Picture, columns: int) -> Text:
    share = min(picture.elapsed / picture.duration, 1.0) if picture.duration else 1.0
    done = round(share * columns)
    return Text.assemble(("━" * done, "green"), ("─" * (columns - done), QUIET))


# --- the nodes ---


def _table(rows: Sequence[Row], columns: int, room: int) -> list[Text]:
    """The head and the nodes, in their order; of more than there is room for, the last are told in one line."""
    shown = rows if len(rows) <= room else rows[: room - 1]
    head = _cells(columns, "id", "state", "role", "term", "inc.", "seen by others")
    lines = [Text(f"{head}being done to it", style=QUIET), *(_row(row, columns) for row in shown)]
    left = rows[len(shown) :]
    return [*lines, _the_rest(left)] if left else lines


def _cells(columns: int, node: str, state: str, role: str, term: str, incarnation: str, health: str) -> str:
    """All but the last column, in fixed widths."""
    cells = f"{node:<3} {state:<8} {_cut(role, 9):<9} {_cut(term, 4):>4}"
    if columns < WIDE_MIN:
        return f"{cells}  "
    return f"{cells}  {_cut(incarnation, 4):>4}  {_cut(health, HEALTH_WIDTH):<{HEALTH_WIDTH}}  "


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _row(row: Row, columns: int) -> Text:
    cells = (row.id, row.state, row.role or "-", row.term or "-", row.incarnation or "-", _health(row) or "-")
    line = Text(_cells(columns, *cells))
    line.stylize(STATES.get(row.state, ""), 4, 12)
    if row.role == "leader":
        line.stylize("bold", 0, 3)
        line.stylize("bold", 13, 22)
    if columns >= WIDE_MIN and row.health:
        line.stylize(HEALTH[next(iter(row.health))], len(line) - HEALTH_WIDTH - 2, len(line))
    harm = ", ".join(full for full, _ in row.harms)
    if len(line) + len(harm) > columns:
        harm = ", ".join(short for _, short in row.harms)
    return line + Text(harm, style=FAULT)


def _health(row: Row) -> str:
    return ", ".join(f"{count} {view}" for view, count in list(row.health.items())[:2])


def _the_rest(rows: Sequence[Row]) -> Text:
    strange = [f"{row.id} {row.state}" for row in rows if row.state != "up"]
    leads = [f"{row.id} leads" for row in rows if row.role == "leader"]
    return Text(f"and {len(rows)} more: {', '.join([*leads, *strange] if strange else [*leads, 'all up'])}")


# --- the rest ---


def _load(picture: Picture) -> list[Text]:
    """Operations by their outcome, lately and in all, and how long those took that were ok."""
    p50, p99 = (_latency(seconds) for seconds in picture.latency or (None, None))
    head = f"{'operations':<12}" + "".join(f"{name:>9}" for _, name, _ in KINDS) + "     latency of ok"
    now = f"{'a second':<12}" + "".join(f"{picture.rates.get(kind, 0):>9.0f}" for kind, _, _ in KINDS)
    total = f"{'in all':<12}" + "".join(f"{picture.totals.get(kind, 0):>9}" for kind, _, _ in KINDS)
    return [Text(head, style=QUIET), Text(f"{now}     p50 {p50:>9}"), Text(f"{total}     p99 {p99:>9}")]


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _faults(picture: Picture, columns: int) -> list[Text]:
    held = _listed(picture.held, columns - 12) or "none"
    now = Text.assemble(("faults now  ", QUIET), (held, FAULT if picture.held else ""))
    return [now, Text.assemble(("next        ", QUIET), picture.next or "-")]


def _event(event: str) -> Text:
    line = Text(event)
    line.stylize(QUIET, 0, event.index(" s ") + 2)
    return line


def _listed(words: Sequence[str], room: int) -> str:
    """As many of them as fit, and how many do not."""
    for count in range(len(words), 0, -1):
        more = f", and {len(words) - count} more" if count < len(words) else ""
        text = ", ".join(words[:count]) + more
        if len(text) <= room or count == 1:
            return text
    return ""
