"""The watcher where there is no terminal: a line for each step, and now and then one about how far it is."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from chaos.cli.screen.words import News, step_words
from testbed.live import clock

if TYPE_CHECKING:
    from chaos.experiment import Run

LOOK_S: Final = 0.25
STATUS_S: Final = 5.0


class Lines:
    """`say` is given each line; one that nobody reads any more does not end the run."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._run: Run | None = None
        self._news = News()
        self._looked_at = self._told_at = 0.0
        self._deaf = False

    def awaits(self, run: "Run", world: str) -> None:
        """Nothing is said before the cluster runs: it might be a mistake, which is told in one line."""

    def started(self, run: "Run") -> None:
        self._run = run
        self._told_at = clock.now()
        nodes, faults = len(run.scenario.cluster.names), len(run.schedule.faults)
        self._tell(f"{run.scenario.name}: {nodes} nodes, {faults} faults, seed {run.seed}, {run.duration:g} s")

    def tick(self) -> None:
        run, now = self._run, clock.now()
        if run is None or run.cluster is None or not run.cluster.running or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        for line in self._news.note(run.cluster.status(fresh=False), run.cluster.world.exits()):
            self._at(run.elapsed(), line)
        if now - self._told_at >= STATUS_S:
            self._told_at = now
            counts = run.counts
            done = f"ok {counts['ok']}, failed {counts['fail']}, unknown {counts['info']}"
            self._at(run.elapsed(), f"of {run.duration:g} s; {done}; leader {run.cluster.leader or 'none'}")

    def fault(self, event: Mapping[str, Any]) -> None:
        line = step_words(event)
        if line is not None:
            self._at(event["time"] / 1e9, line)

    def phase(self, text: str) -> None:
        self._tell(f"  … {text}")

    def _at(self, seconds: float, line: str) -> None:
        self._tell(f"{seconds:6.1f} s  {line}")

    def _tell(self, line: str) -> None:
        if not self._deaf:
            try:
                self._say(line)
            except OSError:
                self._deaf = True
