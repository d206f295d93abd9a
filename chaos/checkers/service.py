"""The judges that keep a verdict from being empty: availability, recovery, membership, crashes; and recovery times.

They know when writes were acknowledged, and what others observed about faults and views. They do not know what a write
means, nor how a fault was applied. All instants are in nanoseconds on the history's clock, all bounds in seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from statistics import median
from typing import Final, NamedTuple, Protocol

from chaos.checkers.model import REFUSALS, Verdict, VerdictType
from chaos.history import NS_PER_S, Event, Operation, is_lapse, operations

READS: Final = frozenset({"read", "get", "contains"})

# These may wait for as long as there is nothing to be had: that one was not answered says nothing about the service.
WAITS: Final = frozenset({"take", "acquire"})

ALIVE: Final = "alive"
FAILED: Final = "failed"

NAMED_MAX: Final = 8


class Exit(Protocol):
    """A node process that ended. `expected`: a fault or an orderly stop caused it. `reason` is for people."""

    @property
    def node(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def expected(self) -> bool: ...


class _Request(NamedTuple):
    """A write that a client asked for; times in nanoseconds.

    `ended`: when it completed in whatever way; math.inf if it never did. `refused`: it was answered with one of
    the service's own refusals.
    """

    invoked: int
    ended: float
    ok: bool
    refused: bool


class _Stretch(NamedTuple):
    """A time without an acknowledged write, in nanoseconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


NO_STRETCH: Final = _Stretch(0, 0)


class _Asked(NamedTuple):
    """What the clients asked for: the `requests` that count, in the order of invocation, and the `word` for them.

    `answers`: when the service gave an answer that acknowledges none of them, in order: a refusal, or something else.
    """

    word: str
    requests: list[_Request]
    answers: Sequence[float]


def _requests(history: Sequence[Event], writes: frozenset[str] | None) -> _Asked:
    """What counts of a history.

    `writes` names the f's that count. None means all but READS and WAITS; and if that leaves nothing, the reads: a
    service that is only ever read is judged by its reads. The end of a lease was asked for by nobody.
    """
    found = [one for one in operations(history) if not is_lapse(one.process)]  # raises for a history that is none
    counted = [operation for operation in found if _counts(operation, writes)]
    word = "write" if counted or writes is not None else "read"
    if word == "read":
        counted = [operation for operation in found if operation.f in READS]
    ended = _ends(history)
    requests = [
        _Request(
            history[operation.invoked].time,
            ended.get(operation.invoked, inf),
            operation.outcome == "ok",
            _is_refused(operation),
        )
        for operation in counted
    ]
    counts = {operation.invoked for operation in counted}
    answers = sorted(
        ended[operation.invoked]
        for operation in found
        if _is_refused(operation) or (operation.outcome == "ok" and operation.invoked not in counts)
    )
    return _Asked(word, requests, answers)


def _is_refused(operation: Operation) -> bool:
    return operation.outcome == "fail" and (operation.error or "").partition(":")[0] in REFUSALS


def _counts(operation: Operation, writes: frozenset[str] | None) -> bool:
    return operation.f not in READS | WAITS if writes is None else operation.f in writes


def _ends(history: Sequence[Event]) -> dict[int, int]:
    """For the position of each invocation, when its client got or gave up on an answer: of info completions, too."""
    open_at: dict[int | str, int] = {}
    ended: dict[int, int] = {}
    for position, event in enumerate(history):
        if event.type == "invoke":
            open_at[event.process] = position
        elif event.process in open_at:
            ended[open_at.pop(event.process)] = event.time
    return ended


def _acknowledged(requests: Iterable[_Request]) -> list[_Request]:
    """Those that completed ok, by completion."""
    return sorted((request for request in requests if request.ok), key=lambda request: request.ended)


def _longest_unanswered(
    requests: Iterable[_Request], answers: Sequence[float], gap: _Stretch, bound_ns: int
) -> _Stretch:
    """The longest stretch of `gap`, in which nothing was acknowledged, for which writes were asked for.

    Each request asks from its invocation until its client has an answer or gives up. Requests that follow one another
    within the bound make one stretch: clients that are turned away at once ask for all of the time between their
    attempts. After a longer silence, nobody knows how the service was meanwhile; and any other answer, a refusal or a
    read, shows between two attempts that the service was there.
    """
    asked = sorted(
        (max(request.invoked, gap.start), min(request.ended, gap.end))
        for request in requests
        if not request.refused and request.invoked < gap.end and request.ended > gap.start
    )
    longest = current = NO_STRETCH
    for start, end in asked:
        silent = start <= current.end or bisect_left(answers, current.end) == bisect_right(answers, start)
        together = current is not NO_STRETCH and start - current.end <= bound_ns and silent
        current = _Stretch(current.start, max(current.end, end)) if together else _Stretch(start, end)
        longest = max(longest, current, key=lambda stretch: stretch.length)
    return longest


def availability(
    history: Sequence[Event],
    windows: Iterable[tuple[int, int]],
    bound_s: float,
    writes: frozenset[str] | None = None,
) -> Verdict:
    """Whether, while a majority was up and connected, nobody who asked for a write waited for longer than the bound.

    `windows`: the (start, end) in ns during which a majority was up and connected. Acknowledged writes divide each
    into gaps. A gap counts from the first to the last instant at which some write was asked for in it: invoked, before
    or inside of it, and without an answer yet, whatever it ended in; attempts that were turned away ("no leader") at
    most `bound_s` seconds apart count with the time between them. What counts must not be longer than `bound_s`. Where
    no write was asked for (a slow workload, clients that are through) none is owed, and the detail says so. A write
    that the service refused (see REFUSALS) was answered: it owes nothing and proves nothing.

    A window no longer than the bound cannot be too long without a write; where all are that short, a write
    acknowledged inside one of them is what was observed. Unknown: without that, or if no write was asked for in any
    window. `writes` names the f's that count (None: all but READS and WAITS, or reads where there is nothing else).
    Invalid names the longest stretch, in seconds of the history's clock. Raises ValueError if the events do not pair
    up.
    """
    word, requests, answers = _requests(history, writes)
    bound_ns = _ns(bound_s)
    longest, idle, judged, served, asked = _gaps(requests, answers, windows, bound_ns)
    verdict = _service_verdict("availability", len(_acknowledged(requests)))
    if longest.length > bound_ns:
        return verdict(
            "invalid",
            f"no {word} was acknowledged for {_s(longest.length):.3f} s although some were asked for and a majority was"
            f" up and connected: {_span(longest)} (bound {bound_s:g} s)",
        )
    if judged == 0 and served:
        return verdict(
            "valid",
            f"{word}s were acknowledged in {served} windows with a majority,"
            f" none longer than the bound ({bound_s:g} s)",
        )
    if judged == 0:
        return verdict(
            "unknown",
            f"a majority was never up and connected for longer than the bound ({bound_s:g} s);"
            f" nothing was {'written' if word == 'write' else 'read'}",
        )
    if asked == 0:
        return verdict("unknown", f"no {word} was asked for while a majority was up and connected")
    unasked = f"; few or none were asked for {_span(idle)}" if idle.length > bound_ns else ""
    return verdict(
        "valid",
        f"at most {_s(longest.length):.3f} s without an acknowledged {word} in {judged} windows"
        f" (bound {bound_s:g} s){unasked}",
    )


class _Gaps(NamedTuple):
    """Over all windows: the longest gap that counts, and the longest in which few or none were asked for.

    How many windows were `judged` because they are longer than the bound, in how many of those some write was `asked`
    for, and how many windows of any length were `served` at all.
    """

    longest: _Stretch
    idle: _Stretch
    judged: int
    served: int
    asked: int


def _gaps(
    requests: Sequence[_Request], answers: Sequence[float], windows: Iterable[tuple[int, int]], bound_ns: int
) -> _Gaps:
    completions = [request.ended for request in _acknowledged(requests)]
    longest = idle = NO_STRETCH
    judged = served = asked = 0
    for start, end in windows:
        inside = completions[bisect_left(completions, start) : bisect_right(completions, end)]
        served += bool(inside)
        if end - start <= bound_ns:
            continue
        judged += 1
        asked += any(request.invoked < end and request.ended > start for request in requests)
        for gap in (_Stretch(*pair) for pair in pairwise([start, *inside, end])):
            if gap.length <= bound_ns:
                longest = max(longest, gap, key=lambda stretch: stretch.length)
                continue
            unanswered = _longest_unanswered(requests, answers, gap, bound_ns)
            longest = max(longest, unanswered, key=lambda stretch: stretch.length)
            idle = max(idle, gap, key=lambda stretch: stretch.length)
    return _Gaps(longest, idle, judged, served, asked)


def recovery(
    history: Sequence[Event],
    healed_ns: int,
    bound_s: float,
    end_ns: int,
    writes: frozenset[str] | None = None,
) -> Verdict:
    """Whether a write invoked after the last heal was acknowledged within the bound of it, if one was asked for.

    The time counts as in `availability`: from the first to the last instant at which some write was asked for. A write
    that was invoked before the heal and acknowledged after it proves nothing and owes nothing. If none was asked for
    after the heal, all that was asked for has been answered: valid, and the detail says so. If some were, none was
    acknowledged, and they did not ask for longer than the bound, the verdict is unknown. Raises ValueError if the
    events do not pair up.
    """
    word, requests, answers = _requests(history, writes)
    acknowledged = _acknowledged(requests)
    verdict = _service_verdict("recovery", len(acknowledged))
    first = next((request for request in acknowledged if request.invoked >= healed_ns), None)
    after = [request for request in requests if request.invoked >= healed_ns or not request.ok]
    until = max(end_ns, healed_ns) if first is None else first.ended
    waited = _longest_unanswered(after, answers, _Stretch(healed_ns, until), _ns(bound_s))
    if first is not None and waited.length <= _ns(bound_s):
        took = _s(first.ended - healed_ns)
        return verdict("valid", f"the first {word} after the last heal was acknowledged after {took:.3f} s")
    if first is not None:
        return verdict(
            "invalid",
            f"the first {word} after the last heal at {_s(healed_ns):.3f} s was acknowledged only after"
            f" {_s(first.ended - healed_ns):.3f} s, {_s(waited.length):.3f} s of which some were asked for"
            f" (bound {bound_s:g} s)",
        )
    if waited is NO_STRETCH:
        refused = any(request.refused and request.invoked >= healed_ns for request in requests)
        but = ", but some that were refused" if refused else ""
        return verdict("valid", f"no {word} was asked for after the last heal at {_s(healed_ns):.3f} s{but}")
    ran = _s(end_ns - healed_ns)
    if waited.length <= _ns(bound_s):
        return verdict(
            "unknown",
            f"no {word} was acknowledged yet when the run ended {ran:.3f} s after the last heal, and some were asked"
            f" for during no longer than {_s(waited.length):.3f} s (bound {bound_s:g} s)",
        )
    return verdict(
        "invalid",
        f"no {word} was acknowledged after the last heal at {_s(healed_ns):.3f} s, though some were asked for and the"
        f" run went on for {ran:.3f} s (bound {bound_s:g} s)",
    )


def membership(views: Mapping[str, Mapping[str, str]], up: Collection[str]) -> Verdict:
    """Whether all nodes that are up agree with the facts: the others that are up are alive, the rest failed.

    `views`: for each node what it finally believes of each peer ("alive", "suspect" or "failed"). Judged are the nodes
    in `up`, in `views`, and those that any view mentions. The view of a node that is down does not count, nor what a
    node says about itself. A node that is up and gives no view, or none of a peer, is invalid too. With nobody
    up there is nobody to ask: unknown.
    """
    verdict = _service_verdict("membership", 0)
    if not up:
        return verdict("unknown", "no node was up to be asked")
    nodes = sorted({*up, *views, *(peer for view in views.values() for peer in view)})
    wrong = []
    for observer in sorted(up):
        if observer not in views:
            wrong.append(f"{observer} gives no view")
            continue
        for peer in nodes:
            fact = ALIVE if peer in up else FAILED
            belief = views[observer].get(peer)
            if peer != observer and belief != fact:
                believes = f"holds {peer} to be {belief}" if belief is not None else f"does not know {peer}"
                wrong.append(f"{observer} {believes}, which is {'up' if fact == ALIVE else 'down'}")
    if wrong:
        return verdict("invalid", _list(wrong))
    return verdict("valid", f"{len(up)} of {len(nodes)} nodes are up, and each of them knows it")


def crashes(exits: Iterable[Exit]) -> Verdict:
    """Whether every exit of a node's process was caused by a fault or an orderly stop."""
    counted = list(exits)
    verdict = _service_verdict("crashes", 0)
    unexpected = [f"{one.node} exited: {one.reason}" for one in counted if not one.expected]
    if unexpected:
        return verdict("invalid", f"exits that no fault caused: {_list(unexpected)}")
    return verdict("valid", f"{len(counted)} exits, all caused by faults or by stopping")


def recovery_times(
    history: Sequence[Event],
    applied: Iterable[tuple[str, int]],
    writes: frozenset[str] | None = None,
) -> dict[str, dict[str, float]]:
    """For each kind of fault the median and the longest time, in seconds, until the service answered again.

    `applied`: (kind, instant in ns at which the fault was observed in effect). A time runs from there to the earliest
    completion of an ok write that was invoked after it. A fault that no write followed adds nothing, and a kind
    without any time is left out: whether that is bad is for `recovery` to say. Kinds are in alphabetical order.
    """
    by_invocation = sorted(_acknowledged(_requests(history, writes).requests))
    invocations = [write.invoked for write in by_invocation]
    earliest = [write.ended for write in by_invocation]  # from here on: the earliest completion of this or later
    for position in reversed(range(len(earliest) - 1)):
        earliest[position] = min(earliest[position], earliest[position + 1])
    times: dict[str, list[float]] = {}
    for kind, observed_ns in applied:
        position = bisect_right(invocations, observed_ns)
        if position < len(earliest):
            times.setdefault(kind, []).append(_s(earliest[position] - observed_ns))
    return {kind: {"p50": median(times[kind]), "max": max(times[kind])} for kind in sorted(times)}


class _Say(Protocol):
    def __call__(self, verdict: VerdictType, detail: str) -> Verdict: ...


def _service_verdict(judge: str, judged: int) -> _Say:
    def say(verdict: VerdictType, detail: str) -> Verdict:
        return Verdict(verdict=verdict, model=judge, operations=judged, detail=detail)

    return say


def _list(items: Sequence[str]) -> str:
    more = len(items) - NAMED_MAX
    return "; ".join(items[:NAMED_MAX]) + (f"; and {more} more" if more > 0 else "")


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _s(nanoseconds: float) -> float:
    return nanoseconds / NS_PER_S


def _span(stretch: _Stretch) -> str:
    return f"from {_s(stretch.start):.3f} s to {_s(stretch.end):.3f} s"
