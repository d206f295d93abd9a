"""Drives client programs on virtual time, as the live world's thread does on real time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from testbed.base import limits
from testbed.base.links import CLIENTS
from testbed.client import Answered, Ask, ClientEvent, ClientProgram, NodeClosed, NotSent, Sent, Started, Told, Woken
from testbed.sim.agenda import Agenda
from testbed.sim.network import Network

if TYPE_CHECKING:
    from testbed.sim.process import Process


class Clients:
    """All client programs. `process_of` gives the process that answers for a node, None if there is none."""

    def __init__(self, agenda: Agenda, network: Network, process_of: Callable[[str], "Process | None"]) -> None:
        self._agenda = agenda
        self._network = network
        self._process_of = process_of
        self._asked: dict[Process, dict[int, tuple[ClientProgram, int]]] = {}
        self._numbers = 0
        self._deadlines: dict[ClientProgram, float] = {}
        self._sent: dict[ClientProgram, Sent] = {}
        self.dropped = False

    def run(self, program: ClientProgram, sent: Sent | None = None) -> None:
        """Drive a program from now on. `sent` is told of its requests."""
        if sent is not None:
            self._sent[program] = sent
        self._agenda.at(self._agenda.now, self._step, program, Started())

    def tell(self, program: ClientProgram, what: Any) -> None:
        """Give a program a `Told` event."""
        self._agenda.at(self._agenda.now, self._step, program, Told(what))

    def close(self) -> None:
        """Programs are dropped where they are."""
        self.dropped = True

    def answer(self, process: "Process", number: int, ok: bool, body: bytes) -> None:
        """A node's reply is on its way."""
        self._network.carry(process.node, CLIENTS, "reply", body, self._answered, process, number, ok, body)

    def ended(self, process: "Process") -> None:
        """A process is gone: whoever waits for it will see the connection close."""
        self._network.carry(process.node, CLIENTS, "reply", b"", self._closed, process)

    def _answered(self, process: "Process", number: int, ok: bool, body: bytes) -> None:
        asked = self._asked.get(process, {}).pop(number, None)
        if asked is not None:
            program, ask = asked
            self._step(program, Answered(ask, ok, body))

    def _closed(self, process: "Process") -> None:
        lost = self._asked.pop(process, {})
        for program in dict.fromkeys(program for program, _ in lost.values()):
            self._step(program, NodeClosed(process.node))

    def _step(self, program: ClientProgram, event: ClientEvent) -> None:
        if self.dropped:
            return
        for ask in program.step(event, self._agenda.now):
            self._ask(program, ask)
        deadline = program.deadline
        if deadline is None:
            self._deadlines.pop(program, None)
        elif self._deadlines.get(program) != deadline:
            self._deadlines[program] = deadline
            self._agenda.at(deadline, self._woken, program, deadline)

    def _woken(self, program: ClientProgram, deadline: float) -> None:
        if self._deadlines.get(program) == deadline:
            del self._deadlines[program]
            self._step(program, Woken())

    def _ask(self, program: ClientProgram, ask: Ask) -> None:
        process = self._process_of(ask.node)
        if process is None:
            self._agenda.at(self._agenda.now + self._network.latency(), self._step, program, NotSent(ask.ask))
            return
        self._numbers += 1
        asked = self._asked.setdefault(process, {})
        asked[self._numbers] = (program, ask.ask)
        if len(asked) > limits.CLIENT_PENDING_MAX:
            del asked[next(iter(asked))]  # the oldest: long given up by its program
        if program in self._sent:
            self._sent[program](ask, self._numbers, self._agenda.now)
        self._network.carry(CLIENTS, ask.node, "ask", ask.body, process.asked, self._numbers, ask.body)
