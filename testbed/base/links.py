"""Link rules: what is done to messages on one directed link, and how rules held at the same time add up.

A rule says nothing about who enforces it; `testbed.core.links` decides per message. `CLIENTS` stands for every client
of the cluster, whichever process it lives in.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

CLIENTS = "clients"

Cut = Literal["drop", "hold", "reset"]


class LinkRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to messages from `source` to `target` (node ids, or `CLIENTS`).

    `cut`: `drop` loses them, `hold` delivers them after the heal, `reset` refuses the connection; None lets them pass,
    after `delay` + uniform(0, `jitter`) seconds, lost / duplicated / reordered with the given probabilities (0 to 1).
    """

    source: str
    target: str
    cut: Cut | None = None
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


_SEVERITY = {None: 0, "hold": 1, "drop": 2, "reset": 3}


def combine(rules: Iterable[LinkRule]) -> dict[tuple[str, str], LinkRule]:
    """One rule per directed link from all that are held: cuts are united, delays add, probabilities compound."""
    table: dict[tuple[str, str], LinkRule] = {}
    for rule in rules:
        link = (rule.source, rule.target)
        held = table.get(link)
        if held is not None:
            rule = LinkRule(
                *link,
                cut=max(held.cut, rule.cut, key=lambda cut: _SEVERITY[cut]),
                delay=held.delay + rule.delay,
                jitter=held.jitter + rule.jitter,
                loss=_either(held.loss, rule.loss),
                duplicate=_either(held.duplicate, rule.duplicate),
                reorder=_either(held.reorder, rule.reorder),
            )
        table[link] = rule
    return table


def _either(one: float, other: float) -> float:
    return 1.0 - (1.0 - one) * (1.0 - other)
