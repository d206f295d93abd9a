"""Models of your own, for `testbed check HISTORY --model my_module:MyModel` and `check(history, MyModel())`.

A model is a class that says where a thing starts and what each operation does to it:

    from chaos import models


    class Gauge:
        \"\"\"A number that is moved by an amount, never goes below zero, and is read.\"\"\"

        initial = 0

        def step(self, state, call):
            if call.f == "read":
                right = not call.known or call.result == state
                return state if right else models.Inconsistent(f"it stood at {state}")
            after = state + call.argument
            return after if after >= 0 else models.Inconsistent("it would go below zero")

The judge asks for an order of each key's operations, in keeping with real time, in which no step is inconsistent. The
module is looked for beside the history first, then in the current directory.

`initial` is the state before anything happened: a value (None, if it is left out), or a method `initial(self, given)`.
`--initial` comes instead of the value, and is what the method is given (None without it).

`step(self, state, call)` returns the state after the call, or `models.Inconsistent("why")` if the call cannot have
happened in `state`. It must be a function of the two alone, must not change `state`, and must return something that can
be hashed: numbers, strings, tuples, frozensets, frozen dataclasses. Of a call it sees

    call.f          what was asked for: "read"
    call.argument   the value of the invocation
    call.result     the value of the completion
    call.known      False if nobody knows whether the call took effect: its result is None then and says nothing, and
                    any must be allowed. It may also be left out of the order.
    call.refused    True for a cas that failed with "precondition-failed"; see `refusals`
    call.process    who called

Values are plain and can be hashed: null is None, lists are tuples, objects are tuples of (name, value) pairs sorted by
name, at every depth. (So `dict(call.argument)` gives the object back.) In Python, unlike in JSON, 1 == True.

All else may be left out:

    operations      the f's it knows; a history with others is then refused (or, where those of other models are left
                    out, judged without them). All, if it is left out.
    observations    those of them that never change the state, such as {"read"}: the search is faster for knowing.
    refusals        True: a refused cas is a call that changes nothing and proves that it could not be made; step must
                    look at `call.refused`. Otherwise it counts as never made, as does everything that failed.
    describe(self, state)
                    the state in a few words for people, such as "it stands at 3"

In Python: `check(history, Gauge())`, with a list of events.

This module knows the shape of such a class and turns it into a `Model`. It knows no particular one.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, NamedTuple

from chaos.checkers import model as protocol
from chaos.checkers.model import Inconsistent, Judge, Model
from chaos.checkers.values import freeze, show_json

STATE_CHARACTERS_MAX: Final = 120

_MEMBERS: Final = ("step", "initial", "operations", "observations", "refusals", "describe")
_ATOMS: Final = frozenset({int, float, bool, str, bytes, type(None)})  # none of them runs anybody's code
_PLAIN: Final = _ATOMS | {tuple, frozenset}


class BadModel(ValueError):
    """A user's model that cannot be used, or whose code fails. One line names the model, the call and the reason."""


class Call(NamedTuple):
    """What a user's `step` sees of an operation; see above."""

    f: str
    argument: Hashable
    result: Hashable
    known: bool
    refused: bool
    process: int | None


class _Everything(frozenset[str]):  # a set that cannot be listed: the one way to be what `Model.operations` must be
    """All f's there can be."""

    def __contains__(self, f: object) -> bool:
        return True


EVERYTHING: Final = _Everything()


def wrap(found: object, name: str = "") -> Model | Judge:
    """The model that a user's class, or an object of it, stands for; `name` is what people call it.

    A complete `Model` or `Judge` is returned as it is. Raises BadModel (a ValueError) if it is none of these.
    """
    name = name or (found.__name__ if isinstance(found, type) else type(found).__name__)
    made = _attempt(name, "cannot be made without arguments", found) if isinstance(found, type) else found
    for which in _MEMBERS:
        _member(name, made, which)
    complete: Model | Judge | None = _attempt(name, "cannot be looked at", _complete, made)
    if complete is not None:
        return complete
    if not callable(_member(name, made, "step")):
        raise BadModel(f"model {name!r}: it has no method step(self, state, call)")
    return Custom(name, made)


def _complete(made: object) -> Model | Judge | None:
    return made if isinstance(made, Model | Judge) else None


class Custom:
    """A user's model as a `Model`."""

    def __init__(self, name: str, users: Any) -> None:
        self.name = name
        operations = _names(name, "operations", _member(name, users, "operations"))
        self.operations = EVERYTHING if operations is None else operations
        self.observations = _names(name, "observations", _member(name, users, "observations")) or frozenset()
        self._users = users
        self._step: Callable[[Any, Call], Any] = _member(name, users, "step")
        self._refusals: bool = _attempt(name, "refusals fails", bool, _member(name, users, "refusals"))

    def start(self, initial: Any) -> Hashable:
        given = plain(freeze(initial))
        first: Any = _member(self.name, self._users, "initial")
        if callable(first):
            state = _attempt(self.name, f"initial fails, given {show_json(initial)}", first, given)
        else:
            state = first if initial is None else given
        return self._guarded(state, "the initial state", "initial")

    def step(self, before: Hashable, call: protocol.Call) -> Hashable | Inconsistent:
        state = _bare(before)
        seen = Call(call.f, plain(call.argument), plain(call.result), call.known, call.refused, call.process)
        try:
            after: Any = self._step(state, seen)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise BadModel(
                f"model {self.name!r}: step fails at {_shown(call)} in state {_cut(state)}: {_named(error)}"
            ) from error
        if isinstance(after, Inconsistent):
            return after
        if after is Inconsistent:
            raise BadModel(f"model {self.name!r}: step returned the class Inconsistent; it must give a reason")
        found = self._guarded(after, call, "step")
        if call.observes and found != before:
            why = "a refused cas" if call.refused else f"{call.f!r}, one of the observations,"
            raise BadModel(
                f"model {self.name!r}: {why} changes the state from {_cut(state)} to {_cut(after)} at {_shown(call)}"
            )
        return found

    def describe(self, guarded: Hashable) -> str:
        state = _bare(guarded)
        describe = _member(self.name, self._users, "describe")
        if describe is None:
            return f"the state is {_cut(state)}"
        trouble = f"describe fails for state {_cut(state)}"
        return str(_attempt(self.name, trouble, lambda: str(describe(state))))

    def argue(self, state: Any, call: protocol.Call) -> str:
        after = self.step(state, call)
        return str(after.reason) if isinstance(after, Inconsistent) else ""

    def reduce(self, calls: Sequence[protocol.Call]) -> list[protocol.Call]:
        """Drops refused calls, unless the model says that it looks at them: they changed nothing."""
        return [call for call in calls if self._refusals or not call.refused]

    def _guarded(self, state: Any, which: str | protocol.Call, method: str) -> Hashable:
        """The state as the judge may have it: to be hashed and compared without harm."""
        if isinstance(state, CoroutineType | GeneratorType | AsyncGeneratorType):
            if isinstance(state, CoroutineType):
                state.close()  # or Python would warn that nobody awaited it
            kind = type(state).__name__.replace("_", " ")
            raise BadModel(
                f"model {self.name!r}: {method} returned a {kind} and no state: it must use neither async nor yield"
            )
        try:
            hashed = hash(state)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            where = which if isinstance(which, str) else f"the state after {_shown(which)}"
            raise BadModel(f"model {self.name!r}: {where} cannot be hashed: {_named(error)}: {_cut(state)}") from error
        return state if _is_plain(state) else _Guarded(self.name, state, hashed)


class _Guarded:
    """A state whose comparison is a user's code: where that fails, it says so as a BadModel."""

    __slots__ = ("_hashed", "_model", "state")

    def __init__(self, model: str, state: Any, hashed: int) -> None:
        self._model = model
        self.state = state
        self._hashed = hashed

    def __hash__(self) -> int:
        return self._hashed

    def __eq__(self, other: object) -> bool:
        state = _bare(other)
        try:
            return self.state is state or bool(self.state == state)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise BadModel(
                f"model {self._model!r}: {_cut(self.state)} cannot be compared with {_cut(state)}: {_named(error)}"
            ) from error


def _bare(state: Any) -> Any:
    return state.state if type(state) is _Guarded else state


def _is_plain(state: Any) -> bool:
    """Whether it holds nothing but Python's own, all through. Such a state may be compared as it is."""
    kinds, level = {type(state)}, [state]
    while not kinds <= _ATOMS:
        if not kinds <= _PLAIN:
            return False
        level = [item for one in level if type(one) is tuple or type(one) is frozenset for item in one]
        kinds = set(map(type, level))
    return True


def plain(frozen: Any) -> Hashable:
    """What `values.freeze` made of a JSON value, without its tags: see the module's docstring."""
    if not isinstance(frozen, tuple):
        return frozen  # type: ignore[no-any-return]  # null, a number or a string
    tag, *items = frozen
    if tag == "?":
        return items[0]  # type: ignore[no-any-return]  # a bool
    if tag == "[":
        return tuple(map(plain, items))
    return tuple((name, plain(item)) for name, item in sorted(items[0]))


def _names(model: str, which: str, given: Any) -> frozenset[str] | None:
    if given is None:
        return None
    names = _attempt(model, f"{which} fails", _listed, given)
    if names is None:
        raise BadModel(f'model {model!r}: {which} must be a set of names such as {{"read"}}, not {_cut(given)}')
    return frozenset(names)


def _listed(given: Any) -> list[str] | None:
    if isinstance(given, str) or not isinstance(given, Collection):
        return None
    listed = list(given)
    return listed if all(isinstance(one, str) for one in listed) else None


def _member(model: str, users: Any, which: str) -> Any:
    """What the user's object has under that name; None without it. A property may fail, even with AttributeError."""
    default = () if hasattr(type(users), which) else (None,)
    return _attempt(model, f"{which} fails", getattr, users, which, *default)


def _attempt(model: str, trouble: str, users: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return users(*arguments)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise BadModel(f"model {model!r}: {trouble}: {_named(error)}") from error


def _shown(call: protocol.Call) -> str:
    operation = call.operation
    asked = f" {show_json(operation.argument)}" if operation.argument is not None else ""
    answer = f" -> {show_json(operation.result)}" if call.known else ", of unknown outcome,"
    return f"{operation.f}{asked}{answer} (process {operation.process}, event {operation.invoked})"


def _named(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except (Exception, SystemExit):  # a user's own
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _cut(state: Any) -> str:
    try:
        text = " ".join(repr(state).splitlines())
    except (Exception, SystemExit) as error:  # a user's own
        text = f"a {type(state).__name__} whose repr fails ({_named(error)})"
    return text if len(text) <= STATE_CHARACTERS_MAX else text[: STATE_CHARACTERS_MAX - 1] + "…"
