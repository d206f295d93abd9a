"""A function in a process of its own, held to a deadline and to so much memory, whatever it does.

Knows processes, pipes and limits. Does not know what is computed: that, and how far it has come, are JSON values.

The child dies with this process. It is killed at the deadline: a function that wants to answer for itself has to look
at the clock, and to leave some time for it.
"""

import errno
import json
import os
import re
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

from testbed.base.errors import UsageError
from testbed.live import clock
from testbed.live.exits import OomWatch, decode
from testbed.live.forkserver import die_with_parent

TELLING_S: Final = 0.05  # how often the child says how far it has come

# What the child may take beyond its memory: the code that it loads, and the heap's rounding.
SLACK_BYTES: Final = 64 * 2**20

MEMORY_BYTES_MIN: Final = 2**20
MEMORY_BYTES_MAX: Final = 2**44  # far beyond any machine, and far below what the kernel can count

_ALL, _RESIDENT = 0, 1  # fields of /proc/self/statm, in pages

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(i?)B\Z")
_POWER: Final = {"K": 1, "M": 2, "G": 3, "T": 4}


class Outcome(NamedTuple):
    """`answer`: the function returned `value`. `late` and `starved`: time or memory did not suffice, and `value` is how
    far it had come when it last told; None if it never did."""

    kind: Literal["answer", "late", "starved"]
    value: Any


Work = Callable[[Callable[[], None]], Any]
"""It is given a function to call before one step of its own that may take long: `so_far` is told then."""


def run_bounded(work: Work, so_far: Callable[[], Any], deadline: float, memory_bytes: int) -> Outcome:
    """Call `work` in a child process, until `deadline` (of `clock.now`) and with `memory_bytes` more than this one has.

    `so_far` tells how far `work` has come, in less than a page of JSON. It is called between any two steps of Python.
    What `work` raises is raised here: a UsageError as such, anything else under its name, with the child's traceback.
    To be called before there are threads.
    """
    sys.stdout.flush()  # or the child would write it once more
    sys.stderr.flush()
    oom = OomWatch()
    before_bytes = _own_bytes(_RESIDENT)
    ears, voice = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it is clear who ends the child
    try:
        pid = _fork(work, so_far, (ears, voice), memory_bytes, mask)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            kind, value = _listen(ears, deadline)
        finally:
            os.kill(pid, signal.SIGKILL)  # nobody else can have its number until it is reaped
            _, status, used = os.wait4(pid, 0)
    finally:
        os.close(ears)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    match kind:
        case "answer" | "late" | "starved":
            return Outcome(kind, value)
        case "mistake":
            raise UsageError(*value)
        case "interrupted":
            raise KeyboardInterrupt
        case "fault":
            raise _fault(*value)
    grown_bytes = used.ru_maxrss * 1024 - before_bytes
    if os.WIFSIGNALED(status) and (
        grown_bytes > memory_bytes // 2 or (os.WTERMSIG(status) == signal.SIGKILL and oom.claim())
    ):
        return Outcome("starved", value)
    raise ChildProcessError(f"a process ended before it had answered: {decode(status)}")


def _fault(name: str, reason: str, trace: str) -> Exception:
    """An exception of that name. Its class may be one of a module that only the child has loaded."""
    fault: Exception = type(name, (Exception,), {})(reason)
    fault.add_note(trace)
    return fault


def _listen(ears: int, deadline: float) -> tuple[str, Any]:
    """What the child says in the end; if it says nothing, "late" or "ended" and how far it had come."""
    poller = select.poll()
    poller.register(ears, select.POLLIN)
    heard = bytearray()
    latest = None
    while (left := deadline - clock.now()) > 0 and poller.poll(left * 1000):
        said = os.read(ears, 2**16)
        if not said:
            return "ended", latest
        heard += said
        if not said.endswith(b"\n"):
            continue
        lines = heard.splitlines()
        heard.clear()
        for line in lines:
            kind, value = json.loads(line)
            if kind != "so_far":
                return kind, value
            latest = value
    return "late", latest


# --- the child ---


def _fork(
    work: Work,
    so_far: Callable[[], Any],
    pipe: tuple[int, int],
    memory_bytes: int,
    mask: set[signal.Signals | int],
) -> int:
    ears, voice = pipe
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _become(work, so_far, parent, ears, voice, memory_bytes, mask)
    finally:
        os.close(voice)
    return pid


def _become(
    work: Work,
    so_far: Callable[[], Any],
    parent: int,
    ears: int,
    voice: int,
    memory_bytes: int,
    mask: set[signal.Signals | int],
) -> NoReturn:
    """The child's life. It never returns into the parent's code, whatever happens."""
    code = 255
    try:
        die_with_parent(signal.SIGKILL, parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to handle
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(ears)
        _say(voice, _last_words(work, so_far, voice, memory_bytes))
        code = 0
    finally:
        os._exit(code)


def _last_words(work: Work, so_far: Callable[[], Any], voice: int, memory_bytes: int) -> bytes:
    """Carry it out, telling meanwhile how far it has come; how it ended."""

    def tell(*_: object) -> None:
        try:
            os.write(voice, _line("so_far", so_far()))  # below PIPE_BUF: whole or not at all
        except (BlockingIOError, MemoryError):  # the next one will do
            pass

    os.set_blocking(voice, False)
    unlimited = _limit_memory(memory_bytes)
    signal.signal(signal.SIGALRM, tell)
    signal.setitimer(signal.ITIMER_REAL, TELLING_S, TELLING_S)
    tell()
    try:
        words = _line("answer", work(tell))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        words = _line(*_bad_news(error, so_far))
    for stream in (sys.stdout, sys.stderr):  # what a user's code has printed
        try:
            stream.flush()
        except Exception:  # nobody reads it
            pass
    return words


def _bad_news(error: BaseException, so_far: Callable[[], Any]) -> tuple[str, Any]:
    if any(_is_starvation(one) for one in _causes(error)):
        return "starved", so_far()
    if isinstance(error, UsageError):
        return "mistake", [error.where, error.key, error.reason]
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", None
    return "fault", [type(error).__name__, str(error), "".join(traceback.format_exception(error))]


def _is_starvation(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that led to it, however they are hidden."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            left += [one.__cause__, one.__context__]
            yield one


def _limit_memory(memory_bytes: int) -> tuple[int, int]:
    """Limit this process to so much more than it has; the limits it had."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [_own_bytes(_ALL) + memory_bytes + SLACK_BYTES]
    limits += [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    return before


def _own_bytes(field: int) -> int:
    """This process's size, by the fields of /proc/self/statm."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * resource.getpagesize()


def _line(kind: str, value: Any) -> bytes:
    return json.dumps([kind, value]).encode() + b"\n"


def _say(voice: int, words: bytes) -> None:
    os.set_blocking(voice, True)
    while words:
        words = words[os.write(voice, words) :]


# --- sizes ---


def parse_size(text: str) -> int:
    """Bytes for `"512MB"`, `"2GB"` or `"1.5GiB"` (powers of 1000, with an i of 1024); ValueError with a reason."""
    found = _SIZE.match(text)
    if found is None:
        raise ValueError(f'{text!r} is not a size such as "512MB", "2GB" or "1.5GiB"')
    size = float(found[1]) * (1024 if found[3] else 1000) ** _POWER[found[2]]
    if not MEMORY_BYTES_MIN <= size <= MEMORY_BYTES_MAX:
        raise ValueError(f"{text!r} is not from 1MiB to 16TiB")
    return int(size)
