"""The clock, and whether the machine is quick enough."""

from typing import Final

from chaos.doctor.finding import LIVE, Asked, Finding
from chaos.doctor.processes import child
from chaos.readiness import Measured, decide, election_timeout_min, measure
from testbed.base.durations import format_duration
from testbed.live import clock

STEP_S_MAX: Final = 1e-5  # operations of one client are 100 µs apart and more
_CLOCK: Final = "import sys, time\nfor _ in sys.stdin: print(repr(time.monotonic()), flush=True)"


def monotonic_clock(_: Asked) -> Finding:
    """How fine it is, and whether another process reads the same."""
    step = clock.resolution()
    found = f"steps of {step * 1e9:.0f} ns"
    if not _shared():
        meaning = "logs of nodes cannot be put into one order, and faults not beside them"
        return Finding(
            "monotonic clock", "doubtful", f"{found}, not the same in all processes", meaning, (*LIVE, "logs")
        )
    if step > STEP_S_MAX:
        meaning = "operations that follow each other may bear the same stamp, and judges see less"
        return Finding("monotonic clock", "doubtful", found, meaning, LIVE)
    return Finding("monotonic clock", "good", f"{found}, the same in all processes")


def _shared() -> bool:
    """Whether what a child reads lies between what is read here before and after."""
    with child(_CLOCK) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            before = clock.now()
            other.stdin.write("\n")
            other.stdin.flush()
            there = float(other.stdout.readline())
            return before <= there <= clock.now()
        finally:
            other.kill()


def quickness(asked: Asked) -> tuple[Finding, ...]:
    return of_measured(asked, measure(asked.directory))


def of_measured(asked: Asked, measured: Measured) -> tuple[Finding, Finding, Finding]:
    """Whether a machine that was measured so keeps the timeouts that are asked for."""
    ready = decide(measured, asked.heartbeat, asked.election_timeout)
    late, sync = measured.late_s * 1000, measured.fsync_s * 1000
    wake_up = Finding("wake-up", "good", f"at most {late:.1f} ms late, on any core, while nobody uses the machine")
    fsync = Finding("fsync", "good", f"{sync:.1f} ms, or less, nine times out of ten, in {asked.directory.resolve()}")
    asked_for = f"{format_duration(asked.heartbeat)} and {format_duration(asked.election_timeout)}"
    if ready.warnings:
        found = f"heartbeat and election timeout of {asked_for} are too short here"
        meaning = f"{'; '.join(ready.warnings)}. testbed run --timeouts auto multiplies all times by {ready.factor:g}"
        return wake_up, fsync, Finding("timeouts", "doubtful", found, meaning, LIVE)
    least = f"{election_timeout_min(measured) * 1000:.0f} ms"
    found = f"heartbeat and election timeout of {asked_for} can be kept (the latter from {least} on)"
    return wake_up, fsync, Finding("timeouts", "good", found)
