"""How a process ended, in words: exit codes, wait statuses, and whether the kernel's OOM killer did it.

It knows nothing of nodes, of restarts or of who asked for what: `asked` is told by whoever sent the signal.
"""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from testbed.base.errors import CorruptStorage, UsageError
from testbed.core.restart import ExitKind
from testbed.live import clock

Asked = Literal["kill", "stop"]  # kill: a fault's SIGKILL; stop: in good order, SIGTERM and at last SIGKILL

# The numbers are those of BSD's sysexits.h where one of them means the same.
EXIT_USAGE: Final = 64  # EX_USAGE: the node class or its configuration cannot be used
EXIT_CORRUPT_STORAGE: Final = 65  # EX_DATAERR
EXIT_ADDRESS_IN_USE: Final = 69  # EX_UNAVAILABLE: somebody else holds the node's port
EXIT_CRASHED: Final = 70  # EX_SOFTWARE: an exception in a hook
EXIT_OUT_OF_MEMORY: Final = 71  # EX_OSERR: MemoryError

LAST_WORDS_BYTES_MAX: Final = 2048  # below PIPE_BUF: written to a pipe whole or not at all, and never blocks

_MEANING = {
    EXIT_USAGE: "usage error",
    EXIT_CORRUPT_STORAGE: "corrupt storage",
    EXIT_ADDRESS_IN_USE: "address in use",
    EXIT_CRASHED: "crashed",
}


def code_for(error: BaseException) -> tuple[int, str]:
    """The exit code and the last words (one line) of a process that ends with this exception."""
    match error:
        case SystemExit():
            return _code_for_system_exit(error)
        case MemoryError():
            return EXIT_OUT_OF_MEMORY, "MemoryError"
        case CorruptStorage():
            return EXIT_CORRUPT_STORAGE, one_line(str(error))
        case UsageError():
            return EXIT_USAGE, one_line(str(error))
        case _ if getattr(error, "errno", None) == errno.EADDRINUSE:  # OSError, and zmq's own error type
            return EXIT_ADDRESS_IN_USE, one_line(str(error))
    return EXIT_CRASHED, describe_error(error)


def _code_for_system_exit(error: SystemExit) -> tuple[int, str]:
    if error.code is None:
        return 0, ""
    if isinstance(error.code, int):
        return error.code & 0xFF, ""
    return 1, one_line(str(error.code))


def describe_error(error: BaseException) -> str:
    """`ValueError: what it said`, on one line."""
    text = str(error)
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str) -> str:
    """The text without its line breaks, short enough for last words."""
    return " ".join(text.split()).encode(errors="replace")[:LAST_WORDS_BYTES_MAX].decode(errors="ignore")


def decode(status: int, asked: Asked | None = None, oom: bool = False, last_words: str | None = None) -> str:
    """The reason of an exit in words. `status` is a wait status as of `os.waitpid`.

    What was asked for explains only the ends it can bring about: a node that crashed by itself just before the fault's
    signal came is reported as crashed.
    """
    words = f": {last_words}" if last_words else ""
    if os.WIFSIGNALED(status):
        if expected(status, asked):
            return "killed by fault" if asked == "kill" else "stopped as asked"
        signum = os.WTERMSIG(status)
        if oom and signum == signal.SIGKILL:
            return "out of memory (killed by the kernel)"
        return f"killed by signal {signal_name(signum)}{' (core dumped)' if os.WCOREDUMP(status) else ''}{words}"
    code = os.waitstatus_to_exitcode(status)
    if expected(status, asked):
        return "stopped as asked"
    if code == EXIT_OUT_OF_MEMORY and words:
        return "out of memory (MemoryError)"
    if code in _MEANING and words:  # without words it was the program's own sys.exit with the same number
        return _MEANING[code] + words
    return f"exited with code {code}{words}"


def expected(status: int, asked: Asked | None) -> bool:
    """Whether this end is what was asked for: SIGKILL for a kill; for a stop also exit code 0 or SIGTERM."""
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        return (asked is not None and signum == signal.SIGKILL) or (asked == "stop" and signum == signal.SIGTERM)
    return asked == "stop" and os.waitstatus_to_exitcode(status) == 0


def classify(status: int, asked: Asked | None) -> ExitKind:
    """What the restart policy needs to know of an exit."""
    if asked is not None and expected(status, asked):
        return "fault" if asked == "kill" else "stopped"
    return "clean" if status == 0 else "failed"


def signal_name(signum: int) -> str:
    """`SIGSEGV`; for signals without a name of their own, the number."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


class OomWatch:
    """Tells whether an unasked SIGKILL may have come from the kernel's OOM killer, by the growth of its counters.

    Uncertain by nature: the counters do not name their victims. They count kills of the whole machine (/proc/vmstat)
    and of this cgroup; a kill of somebody else's process within the last `2 * TICK_S` seconds is indistinguishable
    from ours, so each counted kill explains one exit at most. In a container that hides both counters nothing is ever
    explained, and the exit reads "killed by signal SIGKILL".
    """

    TICK_S: Final = 5.0  # a victim with much memory takes a while from being counted to being seen dead

    def __init__(self, read: Callable[[], int] | None = None, now: Callable[[], float] = clock.now) -> None:
        self._read = read or oom_kills
        self._now = now
        self._base = self._latest = self._read()
        self._sampled = now()

    def tick(self) -> None:
        """To be called about every `TICK_S` seconds: what was counted two ticks ago explains nothing any more."""
        if self._now() - self._sampled >= self.TICK_S:
            self._base, self._latest = self._latest, max(self._read(), self._latest)
            self._sampled = self._now()

    def claim(self) -> bool:
        """Whether a recent OOM kill can explain the exit seen now; that kill then explains no other."""
        if self._read() <= self._base:
            return False
        self._base += 1
        self._latest = max(self._latest, self._base)
        return True


def oom_kills() -> int:
    """OOM kills so far, as far as this process can see: the larger of the machine's count and its own cgroup's."""
    return max((_counter(path) for path in _oom_counters()), default=0)


def _oom_counters() -> list[Path]:
    paths = [Path("/proc/vmstat")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return paths
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            paths.append(Path("/sys/fs/cgroup" + group, "memory.events"))
        elif "memory" in controllers.split(","):
            paths.append(Path("/sys/fs/cgroup/memory" + group, "memory.oom_control"))
    return paths


def _counter(path: Path) -> int:
    try:
        fields = dict(line.split()[:2] for line in path.read_text().splitlines())
        return int(fields.get("oom_kill", 0))
    except (OSError, ValueError):  # not mounted here, or of another kernel's shape
        return 0
