"""The one module that reads the operating system's clocks."""

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds on CLOCK_MONOTONIC: one for all processes; it never goes back and runs on in SIGSTOP."""
    return time.monotonic()


def since_boot() -> float:
    """Seconds on the clock by which the kernel notes when processes began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def resolution() -> float:
    """The smallest step of `now`, in seconds."""
    return time.clock_getres(time.CLOCK_MONOTONIC)


def sleep(seconds: float) -> None:
    """Let real time pass."""
    time.sleep(seconds)


def utc() -> datetime:
    """Wall-clock time, for people's eyes only: nothing is decided by it."""
    return datetime.now(UTC)
