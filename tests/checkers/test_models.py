"""Each model accepts what is right and rejects what is wrong, in histories where the order leaves no choice."""

import pytest
from histories import Row, history, sequential

from chaos.checkers import MODELS, check

RIGHT: list[tuple[str, list[Row]]] = [
    (
        "register",
        [("read", None, None), ("write", 1, 1), ("read", None, 1), ("write", None, None), ("read", None, None)],
    ),
    ("cas-register", [("write", 1, 1), ("cas", [1, 2], [1, 2]), ("read", None, 2)]),
    ("cas-register", [("cas", [None, {"a": [1]}], None), ("read", None, {"a": [1.0]})]),
    ("list", [("read", None, []), ("append", 1, 1), ("append", 1, None), ("read", None, [1, 1])]),
    ("list", [("append", 1, 1), ("write", [7, 8], None), ("append", 9, 9), ("read", None, [7, 8, 9])]),
    ("mutex", [("acquire", None, None), ("release", None, None), ("acquire", None, None)]),
    ("fenced-mutex", [("acquire", None, 1), ("release", 1, None), ("acquire", None, 5), ("release", None, None)]),
    ("fifo-queue", [("enqueue", 1, 1), ("enqueue", 2, 2), ("dequeue", None, 1), ("dequeue", None, 2)]),
    ("fifo-queue", [("dequeue", None, None), ("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, None)]),
    ("queue", [("enqueue", 1, 1), ("enqueue", 1, 1), ("enqueue", 2, 2), ("dequeue", None, 2), ("dequeue", None, 1)]),
    (
        "queue",
        [("enqueue", 1, 1), ("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, 1), ("dequeue", None, None)],
    ),
    ("stack", [("push", 1, 1), ("push", 2, 2), ("pop", None, 2), ("pop", None, 1), ("pop", None, None)]),
    ("set", [("add", 1, None), ("add", 1, None), ("contains", 1, True), ("remove", 1, None), ("read", None, [])]),
    ("set", [("add", 2, None), ("add", 1, None), ("read", None, [1, 2]), ("contains", 3, False)]),
    ("counter", [("read", None, 0), ("add", 2, None), ("add", -3, None), ("read", None, -1)]),
    ("total-queue", [("enqueue", 1, 1), ("enqueue", 2, 2), ("dequeue", None, 2), ("dequeue", None, 1)]),
    ("total-queue", [("enqueue", 1, 1), ("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, 1)]),
    (
        "total-queue",
        [("enqueue", 1, 1), ("take", None, [1, 1]), ("take", None, [1, 2]), ("take", None, None), ("dequeue", 1, 1)],
    ),
    ("key-order", [("enqueue", ["a", 1], 1), ("enqueue", ["a", 2], 1), ("dequeue", None, ["a", 1])]),
    ("unique-ids", [("generate", None, 1), ("generate", None, "1"), ("generate", None, True)]),
]

WRONG: list[tuple[str, list[Row]]] = [
    ("register", [("write", 1, 1), ("write", 2, 2), ("read", None, 1)]),
    ("register", [("write", 1, 1), ("read", None, None)]),
    ("register", [("write", 1, 1), ("read", None, True)]),
    ("register", [("write", [0], None), ("read", None, [False])]),
    ("cas-register", [("write", 1, 1), ("cas", [2, 3], [2, 3])]),
    ("cas-register", [("write", 1, 1), ("cas", [1, 3], None), ("read", None, 1)]),
    ("list", [("append", 1, 1), ("append", 2, 2), ("read", None, [2, 1])]),
    ("list", [("append", 1, 1), ("append", 2, 2), ("read", None, [2])]),
    ("list", [("read", None, None)]),
    ("list", [("append", 1, 1), ("write", [], None), ("read", None, [1])]),
    ("mutex", [("acquire", None, None), ("acquire", None, None)]),
    ("mutex", [("release", None, None)]),
    ("owner-mutex", [("acquire", None, None), ("release", None, None)]),
    ("fenced-mutex", [("acquire", None, 2), ("release", None, None), ("acquire", None, 2)]),
    ("fenced-mutex", [("acquire", None, 2), ("release", None, None), ("acquire", None, 1)]),
    ("fenced-mutex", [("acquire", None, 1), ("acquire", None, 2)]),
    ("fenced-mutex", [("acquire", None, None)]),
    ("fenced-mutex", [("acquire", None, 1), ("release", 1, None), ("acquire", None, 2), ("release", 1, None)]),
    ("fifo-queue", [("enqueue", 1, 1), ("enqueue", 2, 2), ("dequeue", None, 2)]),
    ("fifo-queue", [("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, 1)]),
    ("fifo-queue", [("enqueue", 1, 1), ("dequeue", None, None)]),
    ("queue", [("enqueue", 1, 1), ("dequeue", None, 2)]),
    ("queue", [("enqueue", 1, 1), ("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, None)]),
    ("stack", [("push", 1, 1), ("push", 2, 2), ("pop", None, 1)]),
    ("stack", [("push", 1, 1), ("pop", None, None)]),
    ("set", [("add", 1, None), ("read", None, [])]),
    ("set", [("add", 1, None), ("read", None, [1, 1])]),
    ("set", [("add", 1, None), ("contains", 1, False)]),
    ("set", [("contains", 1, True)]),
    ("counter", [("add", 2, None), ("read", None, 0)]),
    ("counter", [("read", None, False)]),
    ("total-queue", [("enqueue", 1, 1), ("enqueue", 2, 2), ("dequeue", None, 2)]),
    ("total-queue", [("enqueue", 1, 1), ("dequeue", None, 1), ("dequeue", None, 1)]),
    ("total-queue", [("dequeue", None, 1)]),
    ("total-queue", [("dequeue", None, 1), ("enqueue", 1, 1)]),
    ("total-queue", [("enqueue", 1, 1), ("take", None, [1, 1]), ("dequeue", 1, 1), ("take", None, [1, 2])]),
    ("key-order", [("enqueue", ["a", 1], 1), ("enqueue", ["a", 2], 1), ("dequeue", None, ["a", 2])]),
    ("unique-ids", [("generate", None, 1), ("generate", None, 2), ("generate", None, 1.0)]),
]


@pytest.mark.parametrize(("model", "calls"), RIGHT)
def test_a_right_history_is_valid(model: str, calls: list[Row]) -> None:
    verdict = check(sequential(*calls), model)
    assert (verdict.verdict, verdict.model, verdict.operations) == ("valid", model, len(calls)), verdict


@pytest.mark.parametrize(("model", "calls"), WRONG)
def test_a_wrong_history_is_invalid(model: str, calls: list[Row]) -> None:
    assert check(sequential(*calls), model).verdict == "invalid"


def test_every_model_has_a_right_and_a_wrong_history() -> None:
    assert {model for model, _ in RIGHT} | {"owner-mutex"} == set(MODELS)
    assert {model for model, _ in WRONG} == set(MODELS)


def test_the_models_are_in_alphabetical_order_and_bear_their_names() -> None:
    assert list(MODELS) == sorted(MODELS)
    assert [model.name for model in MODELS.values()] == list(MODELS)


def test_the_process_that_holds_an_owner_mutex_may_release_it() -> None:
    rows: list[Row] = [
        (process, kind, f, None) for process in (0, 1) for f in ("acquire", "release") for kind in ("invoke", "ok")
    ]
    assert check(history(*rows), "owner-mutex").verdict == "valid"


@pytest.mark.parametrize(
    ("model", "initial", "call"),
    [
        ("register", 5, ("read", None, 5)),
        ("cas-register", {"a": 1}, ("cas", [{"a": 1}, 2], None)),
        ("list", [1, 2], ("read", None, [1, 2])),
        ("mutex", True, ("release", None, None)),
        ("owner-mutex", 0, ("release", None, None)),
        ("fenced-mutex", 6, ("acquire", None, 7)),
        ("fifo-queue", [1, 2], ("dequeue", None, 1)),
        ("queue", [1, 2], ("dequeue", None, 2)),
        ("stack", [1, 2], ("pop", None, 2)),
        ("set", [1, 2], ("read", None, [2, 1])),
        ("counter", 10, ("read", None, 10)),
        ("total-queue", [1], ("dequeue", None, 1)),
        ("unique-ids", [1], ("generate", None, 2)),
    ],
)
def test_the_initial_value_is_what_a_key_starts_with(model: str, initial: object, call: Row) -> None:
    assert check(sequential(call), model, initial=initial).verdict == "valid"


@pytest.mark.parametrize(
    ("model", "initial", "call"),
    [
        ("register", 5, ("read", None, None)),
        ("list", [1, 2], ("read", None, [])),
        ("mutex", True, ("acquire", None, None)),
        ("owner-mutex", 4, ("release", None, None)),
        ("fenced-mutex", 6, ("acquire", None, 6)),
        ("fifo-queue", [1, 2], ("dequeue", None, 2)),
        ("queue", [1], ("dequeue", None, None)),
        ("stack", [1, 2], ("pop", None, 1)),
        ("set", [1], ("contains", 1, False)),
        ("counter", 10, ("read", None, 0)),
        ("total-queue", [1, 2], ("dequeue", None, 1)),
        ("unique-ids", [1], ("generate", None, 1)),
    ],
)
def test_a_history_that_ignores_the_initial_value_is_invalid(model: str, initial: object, call: Row) -> None:
    assert check(sequential(call), model, initial=initial).verdict == "invalid"


@pytest.mark.parametrize(
    ("model", "initial"),
    [("list", 1), ("mutex", "held"), ("owner-mutex", True), ("fenced-mutex", "a"), ("counter", "1"), ("set", {"a": 1})],
)
def test_an_initial_value_that_makes_no_sense_is_refused(model: str, initial: object) -> None:
    with pytest.raises(ValueError, match=f"model '{model}' starts with"):
        check([], model, initial=initial)


@pytest.mark.parametrize(
    ("model", "call", "reason"),
    [
        ("register", ("cas", [1, 2], None), "model 'register' does not know f 'cas'"),
        ("unique-ids", ("read", None, 1), "model 'unique-ids' does not know f 'read'"),
        ("cas-register", ("cas", 5, None), r"a cas takes \[old, new\], not 5"),
        ("list", ("write", 5, None), "a write takes a list, not 5"),
        ("counter", ("add", True, None), "an add takes a number, not true"),
        ("fifo-queue", ("enqueue", None, None), "enqueue of null"),
        ("total-queue", ("enqueue", None, None), "enqueue of null"),
        ("key-order", ("enqueue", None, None), "enqueue of null"),
        ("stack", ("push", None, None), "push of null"),
        ("nonesuch", ("read", None, None), "there is no model 'nonesuch'"),
    ],
)
def test_what_a_model_cannot_judge_is_refused_with_the_reason(model: str, call: Row, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(sequential(call), model)


def test_a_dequeue_of_unknown_outcome_makes_a_loss_unknown() -> None:
    lost = [(0, "invoke", "enqueue", 1), (0, "ok", "enqueue", 1), (0, "invoke", "enqueue", 2), (0, "ok", "enqueue", 2)]
    blind = [*lost, (1, "invoke", "dequeue", None), (1, "info", "dequeue", None)]
    assert check(history(*blind), "total-queue").verdict == "invalid"  # one dequeue cannot explain two losses
    one_left = [*blind, (2, "invoke", "dequeue", None), (2, "ok", "dequeue", 2)]
    assert check(history(*one_left), "total-queue").verdict == "unknown"


def test_a_dequeue_whose_acknowledgement_is_unknown_took_the_element_it_names() -> None:
    rows = [
        (0, "invoke", "enqueue", 1),
        (0, "ok", "enqueue", 1),
        (1, "invoke", "dequeue", None),
        (1, "info", "dequeue", 1),
    ]
    assert check(history(*rows), "total-queue").verdict == "valid"


def test_an_element_whose_enqueue_failed_is_unexpected_and_one_of_unknown_outcome_is_not() -> None:
    def judged(outcome: str) -> str:
        rows = [
            (0, "invoke", "enqueue", 1),
            (0, outcome, "enqueue", 1),
            (1, "invoke", "dequeue", None),
            (1, "ok", "dequeue", 1),
        ]
        return check(history(*rows), "total-queue").verdict

    assert [judged("fail"), judged("info")] == ["invalid", "valid"]
