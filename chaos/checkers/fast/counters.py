"""Orders of adds and reads of one number.

Knows amounts, sums and real time. Does not know what else a counter may be asked, nor models.
"""

from bisect import bisect_left
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.model import Call, Decision, Explained, Impossible
from chaos.checkers.values import show

Number = int | float


def decide_sums(calls: Sequence[Call], start: Number, ask: Ask) -> Decision:
    """Whether adds can be put between reads so that each read returns the sum of those before it. O(n log n).

    No read is out of bounds, and an order was found: each call of it is the next one to be due, but reads come as soon
    as they can. With equal amounts that finds an order if there is one. With different ones it may not, for which adds
    came before a read is the subset sum problem: then it cannot be told.
    """
    adds = [call for call in calls if call.f == "add"]
    exact = isinstance(start, int) and all(isinstance(call.argument, int) for call in adds)
    beyond = _out_of_bounds(calls, adds, start, ask) if exact else None
    if beyond is not None:
        return beyond
    stuck = _place_in_turn(calls, start, ask)
    if stuck is None:
        return Explained()
    if len({(type(call.argument), call.argument) for call in adds}) > 1:
        return None
    return Impossible(
        f"however the adds are put between them, the reads up to event {stuck} do not return the sums",
        tuple(call for call in calls if call.invoked < stuck),
    )


def _out_of_bounds(calls: Sequence[Call], adds: Sequence[Call], start: Any, ask: Ask) -> Impossible | None:
    """A read that returned less, or more, than any choice of the adds that may have come before it comes to.

    Those that completed before its invocation did, those invoked before its completion may have. The least sum leaves
    out of the latter what is positive, the greatest what is negative. (Jepsen's counter checker does the same for
    amounts that are not negative.)
    """
    done, begun = [], []
    for call in adds:
        amount: Any = call.argument
        begun.append((call.invoked, amount))
        if call.completed is not None:
            done.append((call.completed, amount))
    done.sort()
    ask()
    done_at, begun_at = [position for position, _ in done], [position for position, _ in begun]
    done_up, done_down = _sums(done, 1), _sums(done, -1)
    begun_up, begun_down = _sums(begun, 1), _sums(begun, -1)
    for number, call in enumerate(calls):
        if number % STEPS_PER_QUESTION == 0:
            ask()
        if call.f == "add":
            continue
        result: Any = call.result
        if not isinstance(result, int | float) or result != result // 1:
            return Impossible(f"a read returned {show(result)}, and all amounts are whole numbers", (call,))
        assert call.completed is not None
        before, until = bisect_left(done_at, call.invoked), bisect_left(begun_at, call.completed)
        least = start + done_up[before] + begun_down[until]
        greatest = start + done_down[before] + begun_up[until]
        if not least <= result <= greatest:
            return _beyond(call, adds, least, greatest)
    return None


def _sums(adds: Sequence[tuple[int, int]], sign: int) -> list[int]:
    """The sums of the first 0, 1, 2 … amounts, of one sign only."""
    return list(accumulate((amount if amount * sign > 0 else 0 for _, amount in adds), initial=0))


def _beyond(read: Call, adds: Sequence[Call], least: int, greatest: int) -> Impossible:
    """The proof holds what certainly moved the sum away from what was read, and what may have moved it there."""
    result: Any = read.result
    towards = 1 if result > greatest else -1
    assert read.completed is not None
    proof = [read]
    for call in adds:
        amount: Any = call.argument
        if amount * towards > 0 and call.invoked < read.completed:
            proof.append(call)
        if amount * towards < 0 and call.completed is not None and call.completed < read.invoked:
            proof.append(call)
    proof.sort(key=lambda call: call.invoked)
    bound = f"at most {greatest}" if towards > 0 else f"at least {least}"
    return Impossible(f"a read returned {show(result)}, and the sum was {bound} at any time during it", tuple(proof))


def _place_in_turn(calls: Sequence[Call], start: Any, ask: Ask) -> int | None:
    """None if an order was found; else the completion that no call can be placed before.

    Reads that may come next and fit come next; that never does harm. Else the add that completed first, of those that
    may come next, and one of unknown outcome only if there is no other. If all amounts are the same, that does no harm
    either: whatever order goes on with another add can have the two exchanged, since the one taken must come before
    everything that the other must come before.
    """
    required = sorted((call.completed, call.invoked, call) for call in calls if call.completed is not None)
    arriving = sorted((invoked, number) for number, (_, invoked, _) in enumerate(required))
    spare_arriving = [call for call in calls if call.completed is None]
    placed = bytearray(len(required))
    adds: list[int] = []  # heap of numbers, which are in the order of completions
    reads: dict[Any, list[int]] = {}  # those that may come next, by result
    spare: list[Any] = []
    arrived = spare_arrived = front = steps = 0
    state = start
    while front < len(required):
        if placed[front]:
            front += 1
            continue
        steps += 1
        if steps % STEPS_PER_QUESTION == 0:
            ask()
        deadline = required[front][0]
        while arrived < len(arriving) and arriving[arrived][0] < deadline:
            number = arriving[arrived][1]
            call = required[number][2]
            arrived += 1
            if call.f == "add":
                heappush(adds, number)
            else:
                reads.setdefault(call.result, []).append(number)
        while spare_arrived < len(spare_arriving) and spare_arriving[spare_arrived].invoked < deadline:
            spare.append(spare_arriving[spare_arrived].argument)
            spare_arrived += 1
        fitting = reads.pop(state, None)
        if fitting is not None:
            for number in fitting:
                placed[number] = 1
        elif adds:
            number = heappop(adds)
            placed[number] = 1
            state = state + required[number][2].argument
        elif spare:
            state = state + spare.pop()
        else:
            return deadline
    return None
