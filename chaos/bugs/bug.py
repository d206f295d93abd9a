"""What a planted bug is: a real mistake, and the pieces of the running code that are replaced to make it.

It knows nothing of how pieces are replaced and put back (`chaos.bugs`), nor of runs and verdicts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["transport", "detection", "raft", "sessions", "locks", "queues", "storage", "client", "harness"]

Replacement = tuple[object, str, object]  # the module or class in which a piece is looked up, its name, the wrong piece
Plant = Callable[[], Sequence[Replacement]]


@dataclass(frozen=True, slots=True)
class Bug:
    """One mistake. `source`: where it was really made, or is warned of. `caught_by`: checks, any of which must fail.

    `scenario`: a file under configs/, or under chaos/bugs/scenarios/; `seeds`: how many of its runs are tried at most.
    `plant` gives the replacements; what it needs of a world is imported only then.
    """

    name: str
    part: Part
    description: str
    source: str
    world: Literal["sim", "live"]
    caught_by: tuple[str, ...]
    scenario: str
    seeds: int
    plant: Plant


def bug(
    part: Part,
    *,
    source: str,
    caught_by: tuple[str, ...],
    world: Literal["sim", "live"] = "sim",
    scenario: str = "swarm.toml",
    seeds: int = 300,
) -> Callable[[Plant], Bug]:
    """Make a bug of a function that gives its replacements: named after it, and described by its docstring."""

    def made(plant: Plant) -> Bug:
        name = plant.__name__.replace("_", "-")
        description = " ".join((plant.__doc__ or "").split())
        return Bug(name, part, description, source, world, caught_by, scenario, seeds, plant)

    return made
