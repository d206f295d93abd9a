"""The general search alone, driven to its end."""

from collections.abc import Sequence
from typing import Any

from chaos.checkers import Call, Model
from chaos.checkers.search import Answer, Reach, search


def searched(model: Model, calls: Sequence[Call], initial: Any = None) -> Answer:
    """Its answer, however long that takes: None if there is an order."""
    turns = search(calls, model, initial, Reach())
    while True:
        try:
            next(turns)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
