"""The models by name. Knows which there are; what each of them means is in its own module."""

from typing import Final

from chaos.checkers.keyorder import KeyOrder
from chaos.checkers.locks import FencedMutex, Mutex, OwnerMutex
from chaos.checkers.model import Inconsistent, Judge, Model
from chaos.checkers.queues import FifoQueue, Queue, Stack
from chaos.checkers.registers import CasRegister, Counter, GrowShrinkSet, ListRegister, Register
from chaos.checkers.totals import TotalQueue, UniqueIds

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
