"""Cuts what waits to be sent into batches that fit a frame. It knows sizes, not meanings."""

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from testbed.base import limits

T = TypeVar("T")


def take_batch(waiting: deque[T], size: Callable[[T], int]) -> list[T]:
    """Takes from the front of `waiting` what goes into one frame: at least one item, if there is any.

    `size`: an item's bytes. A frame larger than FRAME_BYTES_MAX would be dropped unread by whoever gets it.
    """
    batch: list[T] = []
    total = 0
    while waiting and len(batch) < limits.BATCH_MESSAGES_MAX:
        total += size(waiting[0])
        if batch and total > limits.BATCH_BYTES_MAX:
            break
        batch.append(waiting.popleft())
    return batch
