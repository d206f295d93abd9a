"""The models by name. Knows which there are; what each of them means is in its own module."""

from typing import Final

from chaos.checkers.model import Inconsistent, Judge, Model
from chaos.checkers.models.counters import Counter
from chaos.checkers.models.lists import ListRegister
from chaos.checkers.models.locks import FencedMutex, Mutex, OwnerMutex
from chaos.checkers.models.queues import FifoQueue, Queue, Stack
from chaos.checkers.models.registers import CasRegister, Register
from chaos.checkers.models.sets import GrowShrinkSet
from chaos.checkers.totals import TotalQueue, UniqueIds
from chaos.checkers.totals.keyorder import KeyOrder

MODELS: Final[dict[str, Model | Judge]] = {
    "cas-register": CasRegister(),
    "counter": Counter(),
    "fenced-mutex": FencedMutex(),
    "fifo-queue": FifoQueue(),
    "key-order": KeyOrder(),
    "list": ListRegister(),
    "mutex": Mutex(),
    "owner-mutex": OwnerMutex(),
    "queue": Queue(),
    "register": Register(),
    "set": GrowShrinkSet(),
    "stack": Stack(),
    "total-queue": TotalQueue(),
    "unique-ids": UniqueIds(),
}

__all__ = ["MODELS", "Inconsistent", "Judge", "Model"]
