"""What a supervisor knows of one node: its process, why that should end or begin, and what the node last reported."""

from pathlib import Path

from testbed.core.restart import NodeRestarts, RestartPolicy
from testbed.live import control
from testbed.live.control import Ports
from testbed.live.exits import Asked
from testbed.live.procfs import observe
from testbed.ports import NodeStatus, State, status_of


class Member:
    """One node, as the supervisor knows it."""

    def __init__(self, node: str, policy: RestartPolicy, directory: Path) -> None:
        self.node = node
        self.directory = directory
        self.restarts = NodeRestarts(policy)
        self.ports = Ports()
        self.pid: int | None = None
        self.running = False  # a process was asked for and has not been reported as ended
        self.listening = False
        self.wanted = False  # to be started once its present process has ended
        self.asked: Asked | None = None  # why its process is expected to end, if it is
        self.kill_at: float | None = None
        self.restart_at: float | None = None
        self.route: bytes | None = None
        self.report: control.Report | None = None
        self.reported_at = 0.0
        self.note: str | None = None
        self.hindered = False  # its last process ended by what its code cannot help
        self.hopeless = False  # ... and neither can a restart

    def status(self) -> NodeStatus:
        """As the world shows it: the process as it is now, the rest as last reported."""
        report = self.report
        host = report.host if report is not None else {}
        counters = {**host.get("counters", {}), **(report.transport if report is not None else {})}
        return status_of(
            self.node,
            self._state(),
            self.pid if self.running else None,
            {**host, "counters": counters},
            links_version=report.links_version if report is not None else 0,
            reported_at=self.reported_at,
            note=self.note,
        )

    def _state(self) -> State:
        if not self.running:
            return "down"
        if self.pid is not None and observe(self.pid) == "stopped":
            return "paused"
        return "up" if self.listening else "starting"
