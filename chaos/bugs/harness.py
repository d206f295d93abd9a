"""Mistakes in the laboratory itself: faults that are believed instead of seen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chaos.bugs.bug import Replacement, bug
from chaos.grips import Down, Pause

if TYPE_CHECKING:
    from chaos.grips import Statuses


@bug("harness", source="signal(7): SIGTERM waits while a process is stopped", caught_by=("evidence",))
def counts_unapplied_faults() -> Sequence[Replacement]:
    """A kill never reaches its process, and counts all the same as seen in effect, and later as healed."""

    def take(grip: Down) -> None:  # noqa: ARG001  # it does not act
        return

    def believed(grip: Down, statuses: "Statuses", now: float) -> float | str:  # noqa: ARG001  # it does not look
        return now

    return [(Down, "take", take), (Down, "seen_in_effect", believed), (Down, "seen_healed", believed)]


@bug("harness", source="tcp(7): the kernel accepts for a stopped process", caught_by=("evidence", "recovery"))
def heals_without_looking() -> Sequence[Replacement]:
    """A paused process is never told to go on, and counts as healed all the same."""

    def let_go(grip: Pause) -> None:  # noqa: ARG001  # it does not act
        return

    def believed(grip: Pause, statuses: "Statuses", now: float) -> float | str:  # noqa: ARG001  # it does not look
        return now

    return [(Pause, "let_go", let_go), (Pause, "seen_healed", believed)]
