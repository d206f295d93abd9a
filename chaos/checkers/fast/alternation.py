"""Orders of two kinds of calls that alternate, such as the acquires and releases of a lock.

Knows real time, and whose turn is next. Does not know states, values or models.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

from chaos.checkers.fast import STEPS_PER_QUESTION, Ask
from chaos.checkers.model import Call, Explained, Impossible
from chaos.checkers.values import counted


def alternate(calls: Sequence[Call], kinds: tuple[str, str], ask: Ask) -> Explained | Impossible:
    """Whether calls of two `kinds` can take turns, the first kind first. Never None; O(n log n).

    Earliest deadline first, as in scheduling: whose turn it is needs no choice, so among the calls of that kind which
    may come next (no call that must come before is left) the one that completed first is taken, and one of unknown
    outcome, which has no deadline, only if there is no other. That loses nothing. Let c be taken, and let an order
    that goes on otherwise have x next and c later. Exchange the two: c may come next, and x completed after c or never,
    so that whatever must follow x must follow c, and comes later than both. If only calls of unknown outcome may be
    next, they are alike from now on: none has a deadline, and all may come next at any later time. So where neither
    kind of call is there for the turn, no order exists.
    """
    required = sorted(
        (call.completed, call.invoked, call.f == kinds[1]) for call in calls if call.completed is not None
    )
    ask()
    arriving = sorted((invoked, number) for number, (_, invoked, _) in enumerate(required))
    spare_arriving = sorted((call.invoked, call.f == kinds[1]) for call in calls if call.completed is None)
    ready: tuple[list[int], list[int]] = ([], [])  # heaps of numbers, which are in the order of completions
    spare = [0, 0]
    placed = bytearray(len(required))
    arrived = spare_arrived = front = steps = 0
    turn = False
    while front < len(required):
        if placed[front]:
            front += 1
            continue
        deadline = required[front][0]
        while arrived < len(arriving) and arriving[arrived][0] < deadline:
            number = arriving[arrived][1]
            heappush(ready[required[number][2]], number)
            arrived += 1
        while spare_arrived < len(spare_arriving) and spare_arriving[spare_arrived][0] < deadline:
            spare[spare_arriving[spare_arrived][1]] += 1
            spare_arrived += 1
        if ready[turn]:
            placed[heappop(ready[turn])] = 1
        elif spare[turn]:
            spare[turn] -= 1
        else:
            return _crowded(calls, kinds, turn, deadline)
        turn = not turn
        steps += 1
        if steps % STEPS_PER_QUESTION == 0:
            ask()
    return Explained()


def _crowded(calls: Sequence[Call], kinds: tuple[str, str], turn: bool, end: int) -> Impossible:
    """The shortest stretch of time before `end` into which too many calls of one kind fall.

    Two calls of a kind have one of the other kind between them. So of the calls that lie within a stretch, there can be
    one more than there are calls of the other kind that reach into it, and no others help. If no single stretch is too
    full, but several together are (they share a call of the other kind), all calls up to there are the proof.
    """
    scarce, crowd = kinds[turn], kinds[not turn]
    helping = [call for call in calls if call.f == scarce and call.invoked < end]
    inside = [call for call in calls if call.f == crowd and call.completed is not None and call.completed <= end]
    events = [(call.invoked, 0) for call in inside]
    events += [(call.completed, 1) for call in helping if call.completed is not None and call.completed < end]
    events.sort(reverse=True)
    surplus = -1 - (len(inside) + len(helping) - len(events))
    for start, helps in events:
        surplus += -1 if helps else 1
        if surplus > 0:
            inside = [call for call in inside if call.invoked >= start]
            helping = [call for call in helping if call.completed is None or call.completed > start]
            return _too_many(inside, helping, scarce, f"between events {start} and {end}", "between them")
    if scarce == kinds[0] and surplus == 0:
        return _too_many(inside, helping, scarce, f"up to event {end}", "before or between them")
    last = next(call for call in inside if call.completed == end)
    return Impossible(
        f"however those before it are put, no {scarce} is left that could come before the {crowd} of process"
        f" {last.operation.process} (events {last.invoked} to {end})",
        tuple(call for call in calls if call.invoked < end),
    )


def _too_many(inside: Sequence[Call], helping: Sequence[Call], scarce: str, when: str, where: str) -> Impossible:
    helpers = f"only {counted(len(helping), scarce)}" if helping else f"no {scarce}"
    return Impossible(
        f"{counted(len(inside), inside[0].f)} happened {when}, and {helpers} could come {where}",
        tuple(sorted((*inside, *helping), key=lambda call: call.invoked)),
    )
