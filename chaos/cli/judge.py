"""`testbed check` and `testbed list`: a verdict on a history from anywhere, and what there is to choose from."""

import inspect
import json
from collections import Counter
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any, Final

import click

from chaos.cli.answers import STATUS_OF_VERDICT, VALID, Answer, answering
from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError
from testbed.live import clock

BUDGET_DEFAULT: Final = "30s"


@click.command()
@click.argument("history")
@click.option("--model", required=True, metavar="NAME", help="See testbed list models.")
@click.option("--initial", metavar="JSON", help="What each key holds at first; the model's default if left out.")
@click.option("--budget", default=BUDGET_DEFAULT, show_default=True, help="When it is used up, the verdict is unknown.")
@answering
def check(answer: Answer, history: str, model: str, initial: str | None, budget: str) -> int:
    """Judge a history (JSON lines) by a model. Exit status: 0 valid, 1 invalid, 2 unknown."""
    began = clock.now()  # reading counts, too
    give_up = began + _budget(budget)
    from chaos.checkers import MODELS
    from chaos.checkers import check as judge
    from chaos.history import of_clients, read_history

    if model not in MODELS:
        from chaos.settings import suggest

        raise UsageError("check", "--model", f"there is no model {model!r}{suggest(model, MODELS)}")
    start = _initial(initial)
    events = read_history(history)
    asked = Counter(event.f for event in of_clients(events) if event.type == "invoke")
    others = _others(model, asked)
    try:
        verdict = judge(events, model, start, lambda: clock.now() >= give_up, others)
    except ValueError as error:
        raise UsageError(history, "--initial" if _blames_initial(model, start) else "", str(error)) from error
    seconds = round(clock.now() - began, 3)
    left_out = sum(count for f, count in asked.items() if f in others)
    detail = verdict.detail + (f"; {left_out} operations that other models judge were left out" if left_out else "")
    told = {
        "verdict": verdict.verdict,
        "model": verdict.model,
        "operations": verdict.operations,
        "detail": detail,
        "seconds": seconds,
    }
    text = f"{verdict.verdict}: {verdict.model}, {verdict.operations} operations, {seconds:g} s\n{detail}"
    answer.result(told, text)
    return STATUS_OF_VERDICT[verdict.verdict]


def _others(name: str, asked: Collection[str]) -> frozenset[str]:
    """The f's that are none of the model's business, if it knows others of those that were asked for.

    Those that a model knows which shares some of its own are its business: without them it would misjudge.
    """
    from chaos.checkers import MODELS

    known = MODELS[name].operations
    if known.isdisjoint(asked):
        return frozenset()
    every = frozenset[str]().union(*(model.operations for model in MODELS.values()))
    return every.difference(*(model.operations for model in MODELS.values() if model.operations & known))


def _budget(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError("check", "--budget", str(error)) from None


def _initial(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("check", "--initial", f"{text!r} is not JSON: {error}") from None


def _blames_initial(name: str, start: Any) -> bool:
    """Whether the model refuses that state by itself, whatever the history."""
    from chaos.checkers import MODELS, Model

    model = MODELS[name]
    if isinstance(model, Model):
        try:
            model.start(start)
        except ValueError:
            return True
    return False


# --- list ---


def _faults() -> list[dict[str, Any]]:
    from chaos.faults import KINDS

    return [{"name": kind.name, "description": kind.description, "keys": dict(kind.keys)} for kind in KINDS.values()]


def _workloads() -> list[dict[str, Any]]:
    from chaos.workloads import BUILT_IN

    return [{"name": name, "description": _described(home)} for name, home in BUILT_IN.items()]


def _described(home: str) -> str:
    module, _, name = home.partition(":")
    return _first_line(getattr(import_module(module), name))


def _first_line(thing: object) -> str:
    lines = (inspect.getdoc(thing) or "").splitlines()
    return lines[0] if lines else ""


def _models() -> list[dict[str, Any]]:
    from chaos.checkers import MODELS

    return [
        {"name": name, "description": _first_line(type(model)), "operations": sorted(model.operations)}
        for name, model in MODELS.items()
    ]


def _bugs() -> list[dict[str, Any]]:
    from chaos.bugs import BUGS

    return [
        {"name": found.name, "description": found.description, "part": found.part, "world": found.world}
        | {"source": found.source, "scenario": found.scenario, "seeds": found.seeds}
        | {"caught_by": list(found.caught_by)}
        for found in BUGS.values()
    ]


_LISTS: Final[dict[str, Callable[[], list[dict[str, Any]]]]] = {
    "faults": _faults,
    "workloads": _workloads,
    "models": _models,
    "bugs": _bugs,
}


@click.command("list")
@click.argument("what", type=click.Choice(list(_LISTS)))
@answering
def list_(answer: Answer, what: str) -> int:
    """What there is to choose from."""
    found = _LISTS[what]()
    answer.result({what: found}, "\n".join(_shown(entry, _width(found)) for entry in found) or f"no {what} yet")
    return VALID


def _width(entries: list[dict[str, Any]]) -> int:
    return max(14, *(len(entry["name"]) for entry in entries)) if entries else 0


def _shown(entry: dict[str, Any], width: int) -> str:
    indent = " " * (width + 2)
    lines = [f"{entry['name']:<{width}} {entry['description']}"]
    lines += [f"{indent}{key}: {meaning}" for key, meaning in entry.get("keys", {}).items()]
    if "caught_by" in entry:
        lines.append(f"{indent}in {entry['world']}, by {' or '.join(entry['caught_by'])}; from {entry['source']}")
    if "operations" in entry:
        lines.append(f"{indent}{', '.join(entry['operations'])}")
    return "\n".join(lines)
