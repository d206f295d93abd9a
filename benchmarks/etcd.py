"""etcd as a reference for fail-over: three members on the loopback address, if its binary is in PATH.

Debian has it as `etcd-server`. Reached over its HTTP gateway, so that no client library is needed.
"""

import base64
import http.client
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
WRITE_TIMEOUT_S = 0.3  # a write forwarded to a leader that is away is never answered: ask anew in good time
RETRY_S = 0.005
CATCH_UP_S = 0.3  # after a fault, so that the member that was away has the log and can be elected by the next one
SETTLE_S_MAX = 30.0
PUT = json.dumps({"key": base64.b64encode(b"k").decode(), "value": base64.b64encode(b"v" * 100).decode()})


class Member:
    """One member's process."""

    def __init__(self, name: str, directory: Path, heartbeat: float, election_timeout: float) -> None:
        self.name = name
        self.client_port, self.peer_port = _free_port(), _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"{name}.log"
        self._arguments = [
            *("etcd", "--name", name, "--data-dir", str(directory / name)),
            *("--heartbeat-interval", str(round(heartbeat * 1000))),
            *("--election-timeout", str(round(election_timeout * 1000))),
            *("--listen-client-urls", f"http://{HOST}:{self.client_port}"),
            *("--advertise-client-urls", f"http://{HOST}:{self.client_port}"),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
        ]

    @property
    def peer_url(self) -> str:
        """Where its peers find it."""
        return f"http://{HOST}:{self.peer_port}"

    def start(self, members: "list[Member]") -> None:
        """Start it, for the first time or again."""
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in members)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._arguments, "--initial-cluster", cluster], stdout=log, stderr=subprocess.STDOUT
            )

    def signal(self, signum: int) -> None:
        """Signal its process."""
        assert self.process is not None
        self.process.send_signal(signum)

    def end(self) -> None:
        """Kill it and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, body: str = "{}", timeout: float = 1.0) -> Any:
        """One request on a connection of its own. OSError or HTTPException if there is no answer."""
        connection = http.client.HTTPConnection(HOST, self.client_port, timeout=timeout)
        try:
            return _asked(connection, path, body)
        finally:
            connection.close()


class Writers:
    """One writing thread for each member. `answered_at`: when the first write begun after `since` was acknowledged."""

    def __init__(self, members: list[Member]) -> None:
        self._over = False
        self.since = float("inf")
        self.answered_at: float | None = None
        self._threads = [threading.Thread(target=self._write, args=(member,), daemon=True) for member in members]
        for thread in self._threads:
            thread.start()

    def watch(self) -> float:
        """The clock starts now."""
        self.answered_at = None
        self.since = time.monotonic()
        return self.since

    def close(self) -> None:
        """End the threads."""
        self._over = True
        for thread in self._threads:
            thread.join()

    def _write(self, member: Member) -> None:
        connection = http.client.HTTPConnection(HOST, member.client_port, timeout=WRITE_TIMEOUT_S)
        while not self._over:
            begun = time.monotonic()
            try:
                _asked(connection, "/v3/kv/put", PUT)
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(RETRY_S)
                continue
            if begun >= self.since and self.answered_at is None:
                self.answered_at = time.monotonic()
        connection.close()


def failover(fault: str, count: int, nodes: int, heartbeat: float, election_timeout: float) -> list[float]:
    """Seconds from each fault at the leader to the next acknowledged write; empty without etcd."""
    if shutil.which("etcd") is None:
        return []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-")))
        members = [Member(f"e{number}", directory, heartbeat, election_timeout) for number in range(1, nodes + 1)]
        for member in members:
            stack.callback(member.end)
            member.start(members)
        _wait_for(lambda: _leader(members) is not None, "a leader")
        writers = Writers(members)
        stack.callback(writers.close)
        return [_one(members, writers, fault) for _ in range(count)]


def _one(members: list[Member], writers: Writers, fault: str) -> float:
    _wait_for(lambda: _leader(members) is not None, "a leader that all members follow")
    time.sleep(CATCH_UP_S)
    leader = _leader(members)
    assert leader is not None
    begun = writers.watch()
    leader.signal(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    _wait_for(lambda: writers.answered_at is not None, "a write")
    assert writers.answered_at is not None
    seconds = writers.answered_at - begun
    if fault == "kill":
        leader.end()
        leader.start(members)
    else:
        leader.signal(signal.SIGCONT)
    return seconds


def _leader(members: list[Member]) -> Member | None:
    """The leader, if every member answers and names the same one."""
    named = set()
    by_id = {}
    for member in members:
        try:
            status = member.ask("/v3/maintenance/status")
        except (OSError, http.client.HTTPException):
            return None
        by_id[status["header"]["member_id"]] = member
        named.add(status.get("leader"))
    return by_id.get(named.pop()) if len(named) == 1 else None


def _asked(connection: http.client.HTTPConnection, path: str, body: str) -> Any:
    connection.request("POST", path, body)
    response = connection.getresponse()
    data = response.read()
    if response.status != http.HTTPStatus.OK:
        raise http.client.HTTPException(f"{response.status}: {data!r}")
    return json.loads(data)


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + SETTLE_S_MAX
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"etcd: {what}: not within {SETTLE_S_MAX:g} s")
        time.sleep(0.002)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
