"""A process that simulates one seed after the other for a campaign: a question a line in, an answer a line out.

It ends with the process that asks, and knows nothing of what is asked for why.
"""

import os
import signal
import sys
from typing import Any

import msgspec

from chaos.scenario import Scenario, load_scenario
from chaos.simulation import Simulated, simulate
from chaos.swarm import vary
from testbed.base.errors import UsageError
from testbed.live.forkserver import die_with_parent


class Question(msgspec.Struct, frozen=True):
    """Simulate this seed of that scenario: the swarm's variant of it, if `varied`. `every_event`: tell each of them."""

    scenario: str
    seed: int
    varied: bool = True
    plant: str | None = None
    every_event: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What came of it; or why it cannot be (`mistake` of the caller: file, key and reason)."""

    result: Simulated | None = None
    mistake: tuple[str, str, str] | None = None
    trace: list[str] | None = None


def scenario_of(question: Question) -> Scenario:
    """What is simulated for it."""
    scenario = load_scenario(question.scenario)
    return vary(scenario, question.seed) if question.varied else scenario


def answer(question: Question) -> Answer:
    """Carry out one question."""
    try:
        done = simulate(scenario_of(question), question.seed, plant=question.plant, every_event=question.every_event)
        return Answer(done.result, trace=done.trace)
    except UsageError as error:
        return Answer(mistake=(str(error.where), error.key, error.reason))


def main(parent: int) -> None:
    """Until the questions end, or the process `parent` does. Whatever a user's module prints goes to stderr."""
    die_with_parent(signal.SIGKILL, parent)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    decode = msgspec.json.Decoder(Question).decode
    encode: Any = msgspec.json.Encoder().encode
    for line in sys.stdin.buffer:
        answers.write(encode(answer(decode(line))) + b"\n")
        answers.flush()
