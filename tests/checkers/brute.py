"""Whether an order explains a few calls, by trying every order of every choice of those of unknown outcome.

Knows real time and a model's `step`. Shares nothing with the search: nothing is remembered, reduced or left out.
"""

from collections.abc import Hashable, Sequence

from chaos.checkers import Call, Inconsistent, Model


def explained(model: Model, calls: Sequence[Call], state: Hashable) -> bool:
    """Whether all `calls` that completed, and any of those that did not, can happen one after the other from `state`.

    Exponential: for some seven calls.
    """
    if all(call.completed is None for call in calls):
        return True  # whatever is left never took effect
    for place, call in enumerate(calls):
        others = [*calls[:place], *calls[place + 1 :]]
        if any(other.completed is not None and other.completed < call.invoked for other in others):
            continue
        after = model.step(state, call)
        if not isinstance(after, Inconsistent) and explained(model, others, after):
            return True
    return False
