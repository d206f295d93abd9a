"""Models of users' own: the smallest class that will do, and what is said of one that will not."""

import textwrap
from dataclasses import dataclass

import pytest

from chaos import models
from chaos.checkers import check
from chaos.checkers.models import custom
from chaos.checkers.models.custom import BadModel, plain, wrap
from chaos.checkers.values import freeze
from chaos.history import Recorder


class History:
    """Operations of one client after another, and of others beside them."""

    def __init__(self):
        self.recorder = Recorder()
        self.now = 0

    def add(self, kind, f, value=None, process=0, **more):
        self.now += 1
        self.recorder.add(self.now, process, kind, f, value=value, **more)
        return self

    def ok(self, f, argument=None, result=None, process=0):
        return self.add("invoke", f, argument, process).add("ok", f, result, process)

    def judged(self, model, initial=None):
        return check(self.recorder.events(), wrap(model), initial)


def verdict(history, model, initial=None):
    return history.judged(model, initial).verdict


def example():
    """The class that the documentation shows, from its text."""
    _, _, rest = custom.__doc__.partition("does to it:\n\n")
    code, _, _ = rest.partition("\nThe judge asks")
    defined = {}
    exec(textwrap.dedent(code), defined)
    return defined["Gauge"]


class Least:
    """A register in as few words as possible."""

    def step(self, state, call):
        if call.f == "write":
            return call.argument
        return state if call.result == state or not call.known else models.Inconsistent("another value")


# --- the example ---


def test_the_example_in_the_documentation_judges_right_and_wrong():
    gauge = example()
    assert verdict(History().ok("add", 3).ok("add", -2).ok("read", None, 1), gauge) == "valid"
    assert verdict(History().ok("add", 3).ok("read", None, 1), gauge) == "invalid"
    assert verdict(History().ok("add", 3).ok("add", -4), gauge) == "invalid"
    assert verdict(History().ok("add", -4), gauge, 5) == "valid"
    late = History().add("invoke", "add", 5, process=1).ok("read", None, 0).ok("add", -1).ok("read", None, 4)
    assert verdict(late, gauge) == "valid"  # the unknown one took effect in between
    unread = History().add("invoke", "read", None, process=1).add("info", "read", None, process=1)
    assert verdict(unread.ok("add", 1), gauge) == "valid"


# --- what a class may say ---


def test_a_class_and_an_object_of_it_are_the_same_model():
    for model in (Least, Least()):
        assert verdict(History().ok("write", 1).ok("read", None, 1), model) == "valid"
        assert verdict(History().ok("write", 1).ok("read", None, 2), model) == "invalid"


def test_a_complete_model_passes_unchanged():
    register, queue = models.MODELS["register"], models.MODELS["total-queue"]
    assert wrap(register) is register
    assert wrap(queue) is queue
    assert wrap(type(register), "some:Register") == register


def test_the_initial_state_is_none_a_value_or_what_a_method_makes_of_the_one_given():
    class From(Least):
        initial = 7

    class Made(Least):
        def initial(self, given):
            return 7 if given is None else dict(given)["at"]

    for model, given, state in ((Least, None, None), (From, None, 7), (From, 8, 8), (Made, None, 7)):
        assert verdict(History().ok("read", None, state), model, given) == "valid"
        assert verdict(History().ok("read", None, "else"), model, given) == "invalid"
    assert verdict(History().ok("read", None, 5), Made, {"at": 5}) == "valid"


@pytest.mark.parametrize(
    ("json", "value"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("[", "["),
        ([], ()),
        ([1, [True, None]], (1, (True, None))),
        ({"b": [1], "a": {"c": None}}, (("a", (("c", None),)), ("b", (1,)))),
        ({}, ()),
    ],
)
def test_values_are_plain(json, value):
    assert plain(freeze(json)) == value
    assert repr(plain(freeze(json))) == repr(value)


def test_a_step_sees_the_whole_call():
    seen = []

    class Watcher(Least):
        def step(self, state, call):
            seen.append(call)
            return super().step(state, call)

    with_cas = History().ok("cas", [1, {"a": 2}], False, process=3)
    assert verdict(with_cas, Watcher, False) == "valid"
    assert seen[0]._asdict() == {
        "f": "cas",
        "argument": (1, (("a", 2),)),
        "result": False,
        "known": True,
        "refused": False,
        "process": 3,
    }
    assert verdict(History().add("invoke", "write", 4, process=5).ok("read", None, 4), Watcher) == "valid"
    (pending,) = {call for call in seen if call.f == "write"}
    assert (pending.known, pending.result, pending.process) == (False, None, 5)


def test_a_model_that_names_no_operations_knows_all_and_one_that_names_some_refuses_others():
    class Some(Least):
        operations = ("read", "write")

    history = History().ok("dance", None, None)
    assert verdict(history, Least) == "valid"
    with pytest.raises(ValueError, match="'Some' does not know f 'dance'"):
        history.judged(Some)


def test_observations_must_not_change_the_state():
    class Looks(Least):
        observations = frozenset({"read"})

    class Lies(Least):
        observations = frozenset({"write"})

    assert verdict(History().ok("write", 1).ok("read", None, 1), Looks) == "valid"
    assert verdict(History().ok("write", 1).ok("read", None, 2), Looks) == "invalid"
    with pytest.raises(BadModel, match="'write', one of the observations, changes the state from None to 1 at write 1"):
        History().ok("write", 1).judged(Lies)


def test_a_refused_cas_counts_only_for_a_model_that_looks_at_it():
    class Blind(Least):
        initial = 1

    class Sees(Blind):
        refusals = True

        def step(self, state, call):
            if call.refused:
                return state if call.argument[0] != state else models.Inconsistent("it held")
            return super().step(state, call)

    refused = History().add("invoke", "cas", [1, 2]).add("fail", "cas", [1, 2], error="precondition-failed")
    assert verdict(refused, Blind) == "valid"
    assert verdict(refused, Sees) == "invalid"


def test_a_state_is_described_in_the_users_words_if_there_are_any():
    class Worded(Least):
        def describe(self, state):
            return f"it reads {state}"

    history = History().ok("write", 1).ok("read", None, 2)
    assert "it reads 1" in history.judged(Worded).detail
    assert "the state is 1" in history.judged(Least).detail


# --- what is said of one that will not do ---


def saying(history, model, reason, initial=None):
    with pytest.raises(BadModel) as raised:
        history.judged(model, initial)
    assert str(raised.value).count("\n") == 0
    assert reason in str(raised.value)


def test_a_thing_without_a_step_is_no_model():
    class Empty:
        pass

    for thing, name in ((Empty, "Empty"), (Empty(), "Empty"), (7, "int"), (len, "builtin_function_or_method")):
        saying(History(), thing, f"model {name!r}: it has no method step(self, state, call)")


def test_a_class_that_needs_arguments_or_fails_is_named():
    class Needs(Least):
        def __init__(self, size):
            pass

    class Ends(Least):
        def __init__(self):
            raise SystemExit(3)

    saying(History(), Needs, "model 'Needs': cannot be made without arguments: TypeError: ")
    saying(History(), Ends, "model 'Ends': cannot be made without arguments: SystemExit: 3")


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, RecursionError, StopIteration])
def test_a_step_that_fails_is_named_with_its_call_and_state(error):
    class Fails(Least):
        def step(self, state, call):
            if call.argument == (2,):
                raise error("no\nreason")
            return call.argument

    history = History().ok("write", 1).ok("write", [2], "x", process=4)
    where = 'step fails at write [2] -> "x" (process 4, event 2) in state 1'
    saying(history, Fails, f"model 'Fails': {where}: {error.__name__}: no reason")


def test_want_of_memory_in_a_step_is_not_the_models_mistake():
    class Starves(Least):
        def step(self, state, call):
            raise MemoryError

    with pytest.raises(MemoryError):
        History().ok("write", 1).judged(Starves)


def test_a_state_must_be_hashable():
    class Lists(Least):
        def step(self, state, call):
            return [state, call.argument]

    class Starts(Least):
        initial = {"a": 1}  # noqa: RUF012  # the mistake that is meant

    class Fails(Least):
        def initial(self, given):
            raise ValueError(given)

    reason = "cannot be hashed: TypeError: unhashable type: "
    first = "the state after write 1 -> null (process 0, event 0)"
    saying(History().ok("write", 1), Lists, f"model 'Lists': {first} {reason}'list': [None, 1]")
    saying(History(), Starts, f"model 'Starts': the initial state {reason}'dict': {{'a': 1}}")
    saying(History(), Fails, "model 'Fails': initial fails, given [1]: ValueError: (1,)", [1])


@pytest.mark.parametrize("names", ["read", 7, [1]])
def test_names_of_operations_are_a_set_of_names(names):
    for which in ("operations", "observations"):
        model = type("Odd", (Least,), {which: names})
        saying(History(), model, f"model 'Odd': {which} must be a set of names such as")


def test_a_reason_must_be_given():
    class Curt(Least):
        def step(self, state, call):
            return models.Inconsistent

    saying(History().ok("write", 1), Curt, "model 'Curt': step returned the class Inconsistent")


def test_words_and_states_that_fail_themselves_are_named():
    class Speechless:
        def __repr__(self):
            raise OSError("hush")

    class Mute(Least):
        initial = Speechless()

        def describe(self, state):
            raise LookupError

    reason = "model 'Mute': describe fails for state a Speechless whose repr fails (OSError: hush): LookupError"
    saying(History().ok("read", None, 1), Mute, reason)


class Fussy:
    """A state that can be hashed, and not be compared."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise LookupError("not\nthat")

    def __repr__(self):
        return "a\nfussy one"


def nested(state):
    return (1, frozenset({("x", state)}))


@pytest.mark.parametrize("made", [Fussy, lambda: nested(Fussy())])
def test_a_state_that_cannot_be_compared_is_named(made):
    class Compares(Least):
        def step(self, state, call):
            return models.Inconsistent("never") if call.f == "read" else made()

    class Looks(Compares):
        initial = made()
        observations = frozenset({"look"})

    late = History().add("invoke", "write", 5, process=1).ok("write", 1).ok("read")
    for history, model in ((late, Compares), (History().ok("look"), Looks)):
        saying(history, model, "cannot be compared with ")
        saying(history, model, "a fussy one")
        saying(history, model, ": LookupError: not that")


def test_states_of_a_users_own_are_compared_by_value_and_given_back_as_they_are():
    @dataclass(frozen=True)
    class Held:
        value: object

    class Own(Least):
        initial = Held(0)

        def step(self, state, call):
            assert type(state) is Held
            after = super().step(state.value, call)
            return after if isinstance(after, models.Inconsistent) else Held(after)

        def describe(self, state):
            return f"it holds {state.value}"

    history = History().add("invoke", "write", 5, process=1).ok("write", 1).ok("read", None, 5)
    assert verdict(history, Own) == "valid"
    assert "it holds 5" in history.ok("read", None, 7).judged(Own).detail


def test_a_state_whose_hash_fails_in_its_own_way_is_named():
    class Odd:
        def __hash__(self):
            raise SystemExit(4)

    class Starts(Least):
        initial = Odd()

    saying(History(), Starts, "model 'Starts': the initial state cannot be hashed: SystemExit: 4")


@pytest.mark.parametrize("which", ["step", "initial", "operations", "observations", "refusals", "describe"])
@pytest.mark.parametrize("error", [AttributeError, SystemExit])
def test_a_property_that_fails_is_named(which, error):
    def fails(self):
        raise error("hush")

    model = type("Shy", (Least,), {which: property(fails)})
    saying(History(), model, f"model 'Shy': {which} fails: {error.__name__}: hush")


def test_names_that_cannot_be_listed_are_named():
    class Unlisted(list):
        def __iter__(self):
            raise LookupError("no list")

    model = type("Odd", (Least,), {"operations": Unlisted()})
    saying(History(), model, "model 'Odd': operations fails: LookupError: no list")


def test_an_error_without_words_for_itself_is_named_by_its_kind():
    class Wordless(Exception):
        def __str__(self):
            raise RuntimeError

    class Fails(Least):
        def step(self, state, call):
            raise Wordless

    with pytest.raises(BadModel, match=r"in state None: Wordless$"):
        History().ok("write", 1).judged(Fails)


async def _awaited(self, *arguments):
    return arguments


def _yielding(self, *arguments):
    yield arguments


async def _both(self, *arguments):
    yield arguments


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["step", "initial"])
@pytest.mark.parametrize(
    ("function", "kind"), [(_awaited, "coroutine"), (_yielding, "generator"), (_both, "async generator")]
)
def test_a_state_must_be_returned_at_once(method, function, kind):
    model = type("Later", (Least,), {method: function})
    reason = f"{method} returned a {kind} and no state: it must use neither async nor yield"
    saying(History().ok("write", 1), model, f"model 'Later': {reason}")


def test_an_interrupt_in_a_step_is_left_to_whoever_is_interrupted():
    class Stops(Least):
        def step(self, state, call):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        History().ok("write", 1).judged(Stops)


def test_the_models_own_reason_is_shown_with_the_state():
    judged = History().ok("move", 3).ok("read", None, 4).judged(example())
    assert judged.explanation.states == ["the state is 3: it stood at 3"]
    assert "the state is 3: it stood at 3" in judged.detail
