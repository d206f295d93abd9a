"""`testbed check`: a verdict on a history from anywhere, within a time and a memory limit.

Knows what is asked, how a verdict is told, and how far a check has come that was cut short. The check itself, reading
included, is carried out in a process of its own: a user's model may do anything.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from chaos.cli.answers import ALONE, STATUS_OF_VERDICT, Answer, answering
from testbed.base.durations import parse_duration
from testbed.base.errors import UsageError
from testbed.live import clock

if TYPE_CHECKING:
    from chaos.checkers import Judge, Model, Progress
    from chaos.history import Event, Operation

BUDGET_DEFAULT: Final = "30s"
BUDGET_S_MAX: Final = 7 * 86400.0  # a week
MEMORY_DEFAULT: Final = "2GB"

# The check answers for itself when so much of the budget is used up; if it does not, it is ended a little later. Up to
# 1.2 times the budget are promised: the rest is for ending processes, and for the kernel to take back gigabytes.
OWN_TIME: Final = 0.95
OVERTIME: Final = 1.02

# The part of the memory that a search may fill with what it has tried. The history needs some, too.
SEARCH_SHARE: Final = 0.5

INVALID_CHARACTERS_MAX: Final = 1_000  # of what is told before the explanation; it must fit into one write to a pipe

STDIN: Final = "-"
LABEL_WIDTH: Final = 9
ROWS_MAX: Final = 40  # of one label


class _Question(NamedTuple):
    """What is asked, as far as it can be read without loading models and histories."""

    history: str
    model: str
    initial: Any
    keyed: bool | None
    give_up: float
    memory_bytes: int


@click.command()
@click.argument("history")
@click.option(
    "--model", required=True, metavar="NAME", help="See testbed list models; or module:Class, a model of your own."
)
@click.option("--initial", metavar="JSON", help="What each key holds at first; the model's default if left out.")
@click.option(
    "--keyed/--no-keyed", default=None, help="Whether values are [key, value] pairs. [default: told from the history]"
)
@click.option(
    "--budget", default=BUDGET_DEFAULT, show_default=True, help="Time; when it is used up, the verdict is unknown."
)
@click.option("--memory", default=MEMORY_DEFAULT, show_default=True, help="The same for memory.")
@click.option("--explain", is_flag=True, help="With --json: add the explanation of what is invalid.")
@click.option("--minimal", metavar="FILE", help="If invalid: write a smallest part that is invalid by itself.")
@answering
def check(
    answer: Answer,
    history: str,
    model: str,
    initial: str | None,
    keyed: bool | None,
    budget: str,
    memory: str,
    explain: bool,
    minimal: str | None,
) -> int:
    """Judge a history by a model. Exit status: 0 valid, 1 invalid, 2 unknown.

    HISTORY is a file, or - for standard input: JSON lines or Jepsen's EDN, also gzipped.
    """
    began = clock.now() - _spent()  # the start of Python and reading count, too
    budget_s = _budget(budget)
    question = _Question(history, model, _initial(initial), keyed, began + OWN_TIME * budget_s, _memory(memory))
    if minimal is not None:
        _refuse_unwritable(minimal, history)
    verdict = _judged(question, began + OVERTIME * budget_s)
    seconds = round(clock.now() - began, 3)
    explanation = verdict.pop("explanation", None)
    told = {**verdict, "seconds": seconds}
    text = f"{told['verdict']}: {told['model']}, {told['operations']} operations, {seconds:g} s\n"
    text += told["detail"] if explanation is None else _headline(explanation)
    if explain:
        told["explanation"] = explanation
    if explanation is not None:
        least = _events(explanation["minimal"])
        text += "\n\n" + _explained(explanation, least)
        if minimal is not None:
            from chaos.formats import write_events

            write_events(least, minimal)
            text += f"\n\nthe minimal part is in {minimal}"
    answer.result(told, text)
    return STATUS_OF_VERDICT[told["verdict"]]


def _spent() -> float:
    """Seconds that this command has taken already, if it is all that this process does."""
    from testbed.live.procfs import process_age

    alone = click.get_current_context().find_root().obj == ALONE
    return (process_age(os.getpid()) or 0.0) if alone else 0.0


def _judged(question: _Question, deadline: float) -> dict[str, Any]:
    """The verdict as a JSON object, from a process of its own."""
    from chaos.cli.bounded import run_bounded

    judging = _Judging(question)
    outcome = run_bounded(judging.verdict, judging.so_far, deadline, question.memory_bytes)
    if outcome.kind == "answer":
        verdict: dict[str, Any] = outcome.value
        return verdict
    reached = outcome.value or judging.so_far()
    if reached["invalid"]:
        return {
            "verdict": "invalid",
            "model": question.model,
            "operations": reached["operations"],
            "detail": f"{reached['invalid']} (there was no budget left to say more)",
        }
    trouble = "the budget ran out" if outcome.kind == "late" else "memory limit reached"
    return {
        "verdict": "unknown",
        "model": question.model,
        "operations": reached["operations"],
        "detail": f"{trouble} {reached['reached']}",
    }


class _Judging:
    """The work of the child process, and how far it has come."""

    def __init__(self, question: _Question) -> None:
        self._question = question
        self._events = 0
        self._complete = False  # the history has been read to its end
        self._asked: Counter[str] = Counter()  # operations of clients, by f
        self._others: frozenset[str] = frozenset()
        self._progress: Progress | None = None

    def so_far(self) -> dict[str, Any]:
        """How many operations are to be judged as far as is known, and in words how far it has come."""
        invalid = self._progress.invalid[:INVALID_CHARACTERS_MAX] if self._progress else ""
        return {
            "operations": self._asked.total() - self._left_out(),
            "reached": self._reached(),
            "invalid": invalid,
        }

    def verdict(self, tell: Callable[[], None]) -> dict[str, Any]:
        """Read, judge, and say so; `tell` before it reads, and before it judges: one line or one sort may take long."""
        import gc

        import msgspec

        from chaos.checkers import Progress
        from chaos.checkers import check as judge
        from chaos.checkers.models.custom import BadModel
        from chaos.formats import read_events

        gc.disable()  # a history is millions of objects that go nowhere, and memory has a limit of its own
        question = self._question
        model = _model(question)
        self._others = _others(model)
        self._progress = Progress()
        tell()
        try:
            verdict = judge(
                self._counted(read_events(question.history, question.keyed), model, tell),
                model,
                question.initial,
                lambda: clock.now() >= question.give_up,
                self._others,
                memory=int(question.memory_bytes * SEARCH_SHARE),
                progress=self._progress,
            )
        except BadModel as error:
            raise UsageError("check", "--model", str(error)) from error
        except ValueError as error:
            key = "--initial" if _blames_initial(model, question.initial) else ""
            raise UsageError(_where(question), key, str(error)) from error
        told: dict[str, Any] = msgspec.to_builtins(verdict)
        if verdict.explanation is None:
            told.pop("explanation", None)
        left_out = self._left_out()
        if left_out:
            told["detail"] += f"; {left_out} operations that other models judge were left out"
        return told

    def _counted(
        self, events: "Iterable[Event]", model: "Model | Judge", tell: Callable[[], None]
    ) -> "Iterator[Event]":
        """The events, while they are counted. UsageError if none of the operations is the model's business."""
        asked = self._asked
        for event in events:
            self._events += 1
            if event.type == "invoke" and isinstance(event.process, int) and event.process >= 0:
                asked[event.f] += 1
            yield event
        self._complete = True
        tell()
        if asked and not any(f in model.operations for f in asked):
            knows = ", ".join(sorted(model.operations))
            reason = f"model {model.name!r} does not know f {next(iter(asked))!r}; it knows {knows}"
            raise UsageError(_where(self._question), "", reason)

    def _left_out(self) -> int:
        return sum(count for f, count in self._asked.items() if f in self._others)

    def _reached(self) -> str:
        if self._progress is None:
            return "before the history was read"
        events = f"{self._events} events read"
        if not self._complete:
            return f"while the history was read: {events}"
        done = self._progress
        reached = f"while it was judged: {events}, {done.keys_decided} of {done.keys} keys decided"
        return reached + (f", {done.placed} of {done.required} operations put into an order" if done.required else "")


def _where(question: _Question) -> str:
    return "standard input" if question.history == STDIN else question.history


def _model(question: _Question) -> "Model | Judge":
    """A built-in model, or a user's: looked up beside the history first, then in the current directory."""
    from chaos.checkers import MODELS
    from chaos.checkers.models.custom import BadModel, wrap

    name = question.model
    if name in MODELS:
        return MODELS[name]
    if ":" not in name:
        from chaos.settings import suggest

        raise UsageError("check", "--model", f"there is no model {name!r}{suggest(name, MODELS)}")
    from chaos.loading import load_object

    beside = Path() if question.history == STDIN else Path(question.history).parent
    search = dict.fromkeys((str(beside.resolve()), os.getcwd()))
    try:
        return wrap(load_object(name, tuple(search), "check", "--model"), name)
    except BadModel as error:
        raise UsageError("check", "--model", str(error)) from error


def _others(model: "Model | Judge") -> frozenset[str]:
    """The f's of built-in models that are none of this one's business.

    Those that a model knows which shares some of its own are its business: without them it would misjudge.
    """
    from chaos.checkers import MODELS
    from chaos.checkers.models.custom import EVERYTHING

    known = model.operations
    if known is EVERYTHING:
        return frozenset()
    every = frozenset[str]().union(*(other.operations for other in MODELS.values()))
    return every.difference(known, *(other.operations for other in MODELS.values() if other.operations & known))


def _blames_initial(model: "Model | Judge", start: Any) -> bool:
    """Whether the model refuses that state by itself, whatever the history."""
    from chaos.checkers import Model

    if isinstance(model, Model):
        try:
            model.start(start)
        except ValueError:
            return True
    return False


# --- what is asked ---


def _budget(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError("check", "--budget", str(error)) from None
    if not 0 < seconds <= BUDGET_S_MAX:
        raise UsageError("check", "--budget", f"must be more than nothing and at most a week, not {text!r}")
    return seconds


def _memory(text: str) -> int:
    from chaos.cli.bounded import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError("check", "--memory", str(error)) from None


def _initial(text: str | None) -> Any:
    """As strict as histories are: no NaN, no lone surrogates."""
    import msgspec

    try:
        return None if text is None else msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise UsageError("check", "--initial", f"{text!r} is not JSON: {error}") from None


def _refuse_unwritable(minimal: str, history: str) -> None:
    """Before the work begins; `write_events` looks again."""
    path = Path(minimal)
    if path.is_dir():
        raise UsageError(minimal, "--minimal", "is a directory")
    if not minimal.removesuffix(".gz").endswith((".jsonl", ".edn")):
        raise UsageError(minimal, "--minimal", "ends in none of .jsonl, .edn, .jsonl.gz, .edn.gz")
    if path.exists() and os.path.exists(history) and path.samefile(history):
        raise UsageError(minimal, "--minimal", "is the history itself")
    if not path.parent.is_dir():
        raise UsageError(minimal, "--minimal", f"there is no directory {str(path.parent)!r}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(minimal, "--minimal", "cannot be written")


# --- what is answered ---


def _events(objects: list[dict[str, Any]]) -> "list[Event]":
    import msgspec

    from chaos.history import Event

    return msgspec.convert(objects, list[Event])


def _headline(explanation: dict[str, Any]) -> str:
    from chaos.checkers.values import show_json

    on = "" if explanation["key"] is None else f"on key {show_json(explanation['key'])} "
    why = f":\n{explanation['reason']}" if explanation["reason"] else ""
    return f"{on}no order explains {explanation['operation']}{why}"


def _explained(explanation: dict[str, Any], minimal: "list[Event]") -> str:
    """A short block for people."""
    from chaos.history import operations

    fewest = "are the fewest that nothing explains" if explanation["shortest"] else "are wrong; perhaps fewer are"
    rows = [
        ("prefix", [f"the first {explanation['prefix']} events {fewest}"]),
        ("broken by", [explanation["operation"]]),
        ("open then", explanation["concurrent"] or ["nothing else"]),
        ("states", explanation["states"]),
        ("minimal", [_shown(one, minimal) for one in operations(minimal)]),
    ]
    return "\n".join(
        f"  {name if number == 0 else '':<{LABEL_WIDTH}}  {line}"
        for name, lines in rows
        for number, line in enumerate(_cut(lines))
    )


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - ROWS_MAX
    return lines if more <= 0 else [*lines[:ROWS_MAX], f"and {more} more"]


def _shown(operation: "Operation", events: "list[Event]") -> str:
    """An operation of a list of events on one line, with the places of its events in the history."""
    import msgspec

    from chaos.checkers.explain import describe

    completed = None if operation.completed is None else events[operation.completed].index
    placed = msgspec.structs.replace(operation, invoked=events[operation.invoked].index, completed=completed)
    return describe(placed)
