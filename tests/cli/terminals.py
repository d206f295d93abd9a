"""A terminal in a directory: runs commands of the testbed as processes, and knows every process of its clusters."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from testbed.live.procfs import marked_processes, observe

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


class Terminal:
    """Commands run in `directory`. Close it: whatever still runs is ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = directory / ".testbed"
        self._ups: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "chaos.cli", *arguments],
            cwd=self.directory,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def ok(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = self.run(*arguments)
        assert done.returncode == 0, (arguments, done)
        return done

    def json(self, *arguments: str):
        """What the command says on stdout, which must be one JSON object and nothing else."""
        return json.loads(self.ok(*arguments, "--json").stdout)

    def up(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a cluster in the foreground of another terminal; does not wait for it."""
        with open(self.directory / "up.out", "a") as out, open(self.directory / "up.err", "a") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "chaos.cli", "up", *arguments],
                cwd=self.directory,
                env=environment(),
                stdout=out,
                stderr=err,
                text=True,
            )
        self._ups.append(process)
        return process

    def ready(self, *arguments: str) -> "subprocess.Popen[str]":
        """The same, and wait until `status` calls it ready."""
        process = self.up(*arguments)
        self.until(lambda: self.run("status").returncode == 0 or process.poll() is not None, "a ready cluster")
        assert process.poll() is None, (self.directory / "up.err").read_text()
        return process

    def nodes(self):
        return {node["id"]: node for node in self.json("status")["nodes"]}

    def processes(self) -> list[int]:
        """Fork servers and nodes of this directory's clusters that live."""
        return [
            pid
            for pid, marker in marked_processes()
            if marker.directory == str(self.place) and observe(pid) not in ("zombie", "gone")
        ]

    def until(self, condition, what: str, seconds: float = PATIENCE_S) -> float:
        """Wait for it; how long that took, in seconds."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"{what}: not within {seconds} s"
            time.sleep(0.02)
        return time.monotonic() - began

    def close(self) -> None:
        for process in self._ups:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(PATIENCE_S)
        self.until(lambda: self.processes() == [], "the end of all nodes")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def mistake(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line on stderr of a command that ended with 254 and printed nothing else."""
    assert done.returncode == 254, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    return done.stderr
