"""How every command answers: exit statuses, one JSON object or lines for people, and errors on one line.

Knows no command. Statuses are part of the contract: 0 valid, 1 invalid, 2 unknown, 254 the caller's mistake, 255 a
fault of the testbed itself; 130 after Ctrl-C.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from typing import IO, Any, Final

import click

VALID: Final = 0
INVALID: Final = 1
UNKNOWN: Final = 2
USAGE: Final = 254
FAULT: Final = 255
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count

ALONE: Final = "alone"  # the context's object, where the process began for this one command

STATUS_OF_VERDICT: Final = {"valid": VALID, "invalid": INVALID, "unknown": UNKNOWN}


class Answer:
    """Where a command says what it has to say. With `--json`, stdout gets one object and all else goes to stderr."""

    def __init__(self, as_json: bool, stdout: IO[str]) -> None:
        self.as_json = as_json
        self._stdout = stdout

    def say(self, text: str = "") -> None:
        """A line for people: to stdout, or to stderr where that is for JSON."""
        click.echo(text, file=sys.stderr if self.as_json else self._stdout)

    def progress(self, text: str) -> None:
        """A line about what is going on: always to stderr."""
        click.echo(text, err=True)

    def result(self, value: dict[str, Any], text: str | None = None) -> None:
        """What came of it, at the very end, once: as JSON, or `text` for people.

        If nobody reads it, the exit status still tells.
        """
        try:
            if self.as_json:
                click.echo(json.dumps(value, ensure_ascii=False), file=self._stdout)
            elif text is not None:
                self.say(text)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())


def answering(command: Callable[..., int]) -> Callable[..., int]:
    """Adds `--json` to a command and hands it an `Answer` as `answer`; it returns its exit status.

    While the command runs, prints of anybody else - a user's module, say - do not reach stdout if that is for JSON.
    """

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; all else goes to stderr.")
    @wraps(command)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> int:
        answer = Answer(as_json, sys.stdout)
        if not as_json:
            return command(*args, answer=answer, **kwargs)
        with redirect_stdout(sys.stderr):
            return command(*args, answer=answer, **kwargs)

    return run


def one_line(text: str) -> str:
    """Without its line breaks."""
    return " ".join(text.split())
