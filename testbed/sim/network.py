"""Carries bytes between processes and clients: latency, and order within a channel, as a connection keeps it.

What faults do to messages is the links' business (`testbed.core.links`), which the nodes enforce as they do in the live
world; a channel itself loses nothing.
"""

from collections.abc import Callable
from typing import Any

from testbed.base.rand import Random
from testbed.sim.agenda import Agenda
from testbed.sim.conditions import Conditions
from testbed.sim.trace import Trace


class Channel:
    """One direction of one connection, by its name in traces; `last`: when its latest message arrives."""

    __slots__ = ("label", "last")

    def __init__(self, label: str) -> None:
        self.label = label.encode()
        self.last = 0.0


class Network:
    """All channels."""

    def __init__(self, agenda: Agenda, trace: Trace, random: Random, conditions: Conditions) -> None:
        self._agenda = agenda
        self._trace = trace
        self._random = random.random
        self._conditions = conditions
        self._channels: dict[tuple[str, str, str], Channel] = {}

    def latency(self) -> float:
        """Of one message, in seconds."""
        conditions = self._conditions
        latency = conditions.latency + conditions.jitter * self._random()
        if conditions.spike_rate and self._random() < conditions.spike_rate:
            latency += conditions.spike * self._random()
        return latency

    def carry(
        self, source: str, target: str, kind: str, data: bytes, arrive: Callable[..., None], *arguments: Any
    ) -> None:
        """Call `arrive` when `data` gets there: after all that was sent before on the same channel."""
        channel = self._channels.get((source, target, kind))
        if channel is None:
            channel = self._channels[source, target, kind] = Channel(f"{source}>{target} {kind}")
        at = self._agenda.now + self.latency()
        if at < channel.last:
            at = channel.last
        channel.last = at
        self._trace.note(at, channel.label, data)
        self._agenda.at(at, arrive, *arguments)
