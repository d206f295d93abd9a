"""What a simulated laboratory knows of one node: its process, its disk, why it is down, what it last reported."""

import math
from typing import Any

from testbed.core.restart import NodeRestarts, RestartPolicy
from testbed.ports import NodeStatus, State, status_of
from testbed.sim.disk import Disk
from testbed.sim.process import Process


class Member:
    """One node, over all its processes. Times: virtual seconds."""

    def __init__(self, node: str, policy: RestartPolicy, disk: Disk) -> None:
        self.node = node
        self.disk = disk
        self.restarts = NodeRestarts(policy)
        self.starts = 0
        self.process: Process | None = None
        self.asked = False  # its process is to end: no restart, and no surprise
        self.wanted = False  # to be started once its present process has ended
        self.restart_at = math.inf
        self.down_since = 0.0
        self.note: str | None = None
        self._report: dict[str, Any] = {}
        self._reported_at = 0.0

    @property
    def up(self) -> Process | None:
        """The process, once it listens."""
        return self.process if self.process is not None and self.process.listening else None

    def forget_report(self) -> None:
        """A new process has not reported yet."""
        self._report = {}

    def status(self, now: float, fresh: bool) -> NodeStatus:
        """As the world shows it; `fresh`: a node that runs is asked now, and not only if it has news."""
        process = self.process
        runs = process is not None and process.listening and not process.paused
        if runs and process is not None and (fresh or process.report_is_due):
            reported = process.status_of_host()
            if reported is None:  # it ended over the question
                process, runs = None, False
            else:
                self._report, self._reported_at = reported, now
        return status_of(
            self.node,
            self._state(),
            process.pid if process is not None else None,
            self._report,
            links_version=process.links.version if runs and process is not None else 0,
            reported_at=self._reported_at,
            note=self.note,
        )

    def _state(self) -> State:
        if self.process is None:
            return "down"
        if self.process.paused:
            return "paused"
        return "up" if self.process.listening else "starting"
