"""Jepsen's histories: what the maps of a `history.edn` mean as events, and the other way round.

Knows the fields of an operation, and how a keyed history looks: jepsen.independent's tuples, printed as [key value].
Does not know EDN's notation, nor whether the events make a history.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

import msgspec

from chaos.formats import edn
from chaos.history import NEMESIS, Event, EventType
from testbed.base.errors import UsageError

_TYPES: Final = frozenset(get_args(EventType))

# Whoever invokes one of these has nothing to tell but the key.
_WITHOUT_ARGUMENT: Final = frozenset({"read", "dequeue", "pop", "drain", "acquire", "release", "generate"})

Numbered = tuple[int, Event]  # the number of its line


def read(where: str, lines: Iterable[bytes], keyed: bool | None) -> Iterator[Numbered]:
    """The events of a text in EDN, each with the number of the line where its map begins. UsageError if it is none.

    One map an event; they may be the items of one vector. `:f` is a keyword or string, anything else stands for its
    text. `:process` is an integer, or a name: those are not clients but the nemesis, whatever they are called. `:index`
    must grow, but may skip numbers, since histories are filtered; left out, it is counted. `:time` may be left out.
    `:error` is a keyword's name, a string, or the text of anything else. More fields are allowed, and ignored.

    `keyed` tells whether the clients' values are tuples, [key value]. If it is None, the invocations have to tell:

    - one whose value is no list of two: not keyed, because an independent generator makes tuples without exception;
    - a cas whose value is a list of two with neither a list nor a map in the second place: not keyed, for the same
      reason, as such a tuple would hold no two values to compare and to set;
    - one that takes no argument (a read, say), and yet has the value [k nil]: keyed.

    All else tells nothing: [1 nil] may be written to a register, pairs may be in a set, and [1 [2 3]] may be a cas of a
    register that holds pairs. Events are held back until it is told. It is refused if nothing tells, if what tells it
    comes both ways, and if in a keyed history an invocation has no tuple.
    """
    return _Keys(where, keyed).split(_events(where, lines))


def _events(where: str, lines: Iterable[bytes]) -> Iterator[Numbered]:
    index = -1
    time = 0
    try:
        for number, form in edn.forms(_decoded(lines)):
            try:
                event = _event(form, index, time)
            except ValueError as error:
                raise edn.Unreadable(number, str(error)) from None
            index, time = event.index, event.time
            yield number, event
    except edn.Unreadable as error:
        raise UsageError(where, f"line {error.line}", error.reason) from None


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise edn.Unreadable(number, f"is no text: {error}") from None


def _event(form: Any, index: int, time: int) -> Event:
    """ValueError says what is wrong with it. `index` and `time` are those of the event before."""
    if not isinstance(form, dict) or ":type" not in form:
        raise ValueError("is no operation: it is no map with a :type")
    kind = _name(form[":type"])
    if kind not in _TYPES:
        raise ValueError(f":type is {edn.text(form[':type'])}, which is none of {', '.join(sorted(_TYPES))}")
    f = form.get(":f")
    if f is None:
        raise ValueError("has no :f")
    own = _integer(form, ":index", index + 1)
    if own <= index:
        raise ValueError(f":index is {own} after {index}: lines are missing or out of order")
    error = form.get(":error")
    return Event(
        index=own,
        time=_integer(form, ":time", time),
        process=_process(form.get(":process")),
        type=kind,  # type: ignore[arg-type]  # it is one of them
        f=_name(f),
        value=form.get(":value"),
        error=None if error is None else _name(error),
    )


def _integer(form: dict[str, Any], field: str, missing: int) -> int:
    value = form.get(field)
    if value is None:
        return missing
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{field} is {edn.text(value)}, which is no integer")
    return value


def _process(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) or (isinstance(value, dict) and list(value) == ["#symbol"]):
        return NEMESIS
    raise ValueError(f":process is {edn.text(value)}, which is neither an integer nor a name")


def _name(value: Any) -> str:
    """A keyword's name, a string, or the text of anything else."""
    text = edn.text(value)
    if not isinstance(value, str):
        return text
    if text[0] == ":":
        return value[1:]
    return value if edn.quoted(value) == text else value[1:]  # else it is the string of what looks like a keyword


class _Keys:
    """Splits the clients' values into key and value, once it is clear that they are made of both."""

    def __init__(self, where: str, keyed: bool | None) -> None:
        self._where = where
        self._keyed = keyed
        self._asked = keyed is None
        self._open: dict[int, Any] = {}  # process -> the key of what it has invoked

    def split(self, events: Iterable[Numbered]) -> Iterator[Numbered]:
        held: list[Numbered] = []
        for number, event in events:
            if self._asked and event.type == "invoke" and isinstance(event.process, int):
                self._look(number, event)
            if self._keyed is None:
                held.append((number, event))
                continue
            for one, earlier in held:
                yield one, self._of(one, earlier)
            held = []
            yield number, self._of(number, event)
        if any(event.process != NEMESIS for _, event in held):
            reason = "nothing tells if each value is a pair of key and value or a plain one: pass --keyed or --no-keyed"
            raise UsageError(self._where, "history", reason)
        yield from held

    def _look(self, number: int, event: Event) -> None:
        told = _told(event)
        if self._keyed is None:
            self._keyed = told
        elif told and not self._keyed:
            reason = f"has a value with a key, {_shown(event.value)}, and earlier ones had none"
            raise UsageError(self._where, f"line {number}", f"{reason}: pass --keyed or --no-keyed")

    def _of(self, number: int, event: Event) -> Event:
        process, value = event.process, event.value
        if not self._keyed or not isinstance(process, int):
            return event
        if event.type == "invoke":
            if not _is_pair(value):
                reason = f"has the value {_shown(value)}, and not a pair of key and value as the others"
                raise UsageError(self._where, f"line {number}", reason)
            self._open[process] = value[0]
            return msgspec.structs.replace(event, key=value[0], value=value[1])
        key = self._open.pop(process, None)
        if _is_pair(value):
            key, value = value
        elif value is not None and event.type == "ok":
            reason = f"completes with {_shown(value)}, and not with a pair of key and value"
            raise UsageError(self._where, f"line {number}", reason)
        return msgspec.structs.replace(event, key=key, value=value)


def _told(invocation: Event) -> bool | None:
    """Whether the history is keyed, if this invocation tells it: see `read`."""
    value = invocation.value
    if not _is_pair(value) or (invocation.f == "cas" and not isinstance(value[1], list | dict)):
        return False
    return True if value[1] is None and invocation.f in _WITHOUT_ARGUMENT else None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _shown(value: Any) -> str:
    text = edn.text(value)
    return text if len(text) <= 40 else text[:40] + "…"


# --- writing ---


def lines_of(where: str, events: Iterable[Event], keyed: bool | None) -> Iterator[bytes]:
    """One line an event. Values with keys become tuples, [key value]; a key of the nemesis' is left out.

    All of a history's values become tuples, or none, as the first client's event has it, if `keyed` is None: in a keyed
    history an event without a key gets the key nil. UsageError for a key where there must be none.
    """
    for event in events:
        client = event.process != NEMESIS
        if client and keyed is None:
            keyed = event.key is not None
        if client and not keyed and event.key is not None:
            reason = (
                f"has the key {_shown(event.key)}, and earlier ones have none; pass --keyed to make it nil for those"
            )
            raise UsageError(where, f"event {event.index}", reason)
        yield _line(event, client and keyed is True).encode()


def _line(event: Event, keyed: bool) -> str:
    value = f"[{edn.text(event.key)} {edn.text(event.value)}]" if keyed else edn.text(event.value)
    error = "" if event.error is None else f", :error {_named(event.error)}"
    process = f":{NEMESIS}" if event.process == NEMESIS else event.process
    head = f"{{:type :{event.type}, :f {_named(event.f)}, :value {value}"
    return f"{head}, :process {process}, :time {event.time}, :index {event.index}{error}}}\n"


def _named(name: str) -> str:
    return f":{name}" if edn.is_name(name) else edn.quoted(name)
