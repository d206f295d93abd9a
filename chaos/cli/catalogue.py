"""`testbed list`: what there is to choose from."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import click

from chaos.cli.answers import VALID, Answer, answering


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
