"""What an operation's journey comes to: what is missing from it and why, and one or two sentences in the end.

Knows journeys only. Durations are counted from the invocation, and times of the run from its beginning.
"""

from typing import Any

from chaos.logbook.book import Logbook
from chaos.logbook.circumstances import Span
from chaos.logbook.journey import (
    COMMAND,
    OF_THE_SERVICE,
    QUERY,
    Appended,
    Journey,
    Request,
    Step,
    asked,
    listed,
    outcome,
)

LATE_S = 0.1  # a copy that comes so late, or after the client was answered, has its reason


def standing(journey: Journey) -> list[str]:
    """What was so already when the operation began, each in a sentence."""
    began = journey.found.began
    facts: dict[str, list[str]] = {}
    for node in journey.nodes:
        for span in journey.circumstances.harms(node, began, began):
            facts.setdefault(_told(journey, span), []).append(node)
    return [f"{listed(nodes)} {fact}" for fact, nodes in facts.items()]


def gaps(journey: Journey, book: Logbook) -> list[str]:
    """What did not happen, came late, or cannot be seen, each in a sentence."""
    by_node: dict[str, list[str]] = {}
    for request in journey.requests.values():
        gap = _of_request(journey, request)
        if gap:
            by_node.setdefault(request.node, []).append(gap)
    found = [node_gaps[0] + _more(len(node_gaps) - 1) for node_gaps in by_node.values()]
    decisive = decisive_entry(journey)
    if decisive is not None:
        found += [_of_copy(journey, decisive, node) for node in journey.nodes]
    return [gap for gap in found if gap] + _unseen(journey, book)


def _more(others: int) -> str:
    return f" ({others} more like that)" if others else ""


def _of_request(journey: Journey, request: Request) -> str:
    until = journey.found.ended or request.sent
    number, node = request.number, request.node
    if request.received is None:
        return f"request {number} never reached {node}{_because(journey, node, request.sent, until)}"
    late = request.received - request.sent
    if late > LATE_S:
        because = _because(journey, node, request.sent, request.received)
        return f"request {number} reached {node} only {span_of(late)} after it was sent{because}"
    if request.answered is None:
        return f"{node} never answered request {number}{_because(journey, node, request.received, until)}"
    held = request.answered - request.received
    because = _because(journey, node, request.received, request.answered)
    return f"{node} answered request {number} only {span_of(held)} later{because}" if held > LATE_S and because else ""


def _of_copy(journey: Journey, one: Appended, node: str) -> str:
    ended = journey.found.ended or one.at
    if node not in one.has:
        return f"{node} never had the entry{_because(journey, node, one.at, ended)}"
    late = one.has[node] - one.at
    if late > LATE_S:
        because = _because(journey, node, one.at, one.has[node])
        return f"{node} had the entry only {span_of(late)} after {one.leader}{because}"
    if one.committed and node not in one.applied:
        return f"no trace shows that {node} applied it{_because(journey, node, one.at, ended)}"
    return ""


def _because(journey: Journey, node: str, since: float, until: float) -> str:
    harms = journey.circumstances.harms(node, since, until)
    return ": it " + ", and ".join(_told(journey, harm) for harm in harms) if harms else ""


def _told(journey: Journey, harm: Span) -> str:
    since, until = harm.since - journey.begins, harm.until - journey.begins
    return f"{harm.what} from {since:.3f} s {'on' if until == float('inf') else f'to {until:.3f} s'}"


def _unseen(journey: Journey, book: Logbook) -> list[str]:
    began = journey.found.began - journey.begins
    unseen = []
    for node in journey.nodes:
        later = [begins for _, begins in book.late_traces(node) if begins > began]
        if later and node not in journey.traced:
            unseen.append(f"{node}'s trace begins only at {min(later):.3f} s")
        elif not book.has_trace(node):
            unseen.append(f"{node} has no trace")
    return unseen


def decisive_entry(journey: Journey) -> Appended | None:
    """The entry that counts: of the operation's commands in the log the first that was committed, or else the last."""
    commands = [one for one in journey.appended if not one.opens]
    committed = [one for one in commands if one.committed]
    if committed:
        return min(committed, key=lambda one: min(one.committed.values()))
    return commands[-1] if commands else None


def conclusion(journey: Journey) -> str:
    """How it ended, and why."""
    kinds = {request.kind for request in journey.requests.values()}
    if not journey.requests:
        return f"No request was sent, and so it had no effect: {outcome(journey.found.operation)}."
    if any(
        request.received is not None and request.kind not in OF_THE_SERVICE for request in journey.requests.values()
    ):
        return _plain(journey)
    if QUERY in kinds:
        return _query(journey)
    return _command(journey, kinds)


def _command(journey: Journey, kinds: set[str]) -> str:
    one = decisive_entry(journey)
    if one is None:
        told = _told_outcome(journey)
        if COMMAND in kinds:
            return f"It never got into the log: no node that was asked led, or took it. {told}"
        if any(kinds):
            return f"The client's session was never opened, so that the command itself was never sent. {told}"
        return f"None of its requests was received by any node, as far as the traces show. {told}"
    if one.committed:
        return _took_effect(journey, one)
    copies = f"on the disk of {listed(one.durable)}" if one.durable else "on nobody's disk"
    if one.lost is not None:
        end = f"It did not take effect: the entry ({one.where}) was {copies}, and was lost: {_rival(journey, one)}"
    else:
        end = f"It stopped on its way: {one.leader} appended it ({one.where}), it was {copies}"
        end += ", and no trace shows that it was committed"
    return f"{end}. {_told_outcome(journey)}"


def _took_effect(journey: Journey, one: Appended) -> str:
    node, at = min(one.committed.items(), key=lambda pair: pair[1])
    others = [other for other in journey.appended if not other.opens and other is not one]
    waited = any(step.kind == "waits" for step in journey.steps)
    then = "and" if node == one.leader else f"and {node}"
    text = (
        f"It was carried out at {one.where}: {one.leader} appended it after {journey.since(one.at)}, "
        f"{then} committed it after {journey.since(at)}"
    )
    text += ", and had to wait for its result" if waited else ""
    lost = [other for other in others if other.lost is not None]
    repeated = [other for other in others if other.lost is None]
    if repeated:
        text += f"; what it has at index {listed(str(other.index) for other in repeated)} changed nothing"
    if lost:
        text += f"; what it had before at index {listed(str(other.index) for other in lost)} was lost: "
        text += _rival(journey, lost[0])
    return f"{text}. {_told_outcome(journey)}"


def _rival(journey: Journey, one: Appended) -> str:
    terms = [term for term in journey.circumstances.leaders if term > one.term]
    term = one.threatened or min(terms, default=0)
    leader, last = journey.circumstances.leaders.get(term, ("another node", one.index))
    ends = f", with a log that ended at {last}" if last < one.index else ""
    return f"{leader} was elected in term {term} without it{ends}"


def _query(journey: Journey) -> str:
    served: list[Step] = []
    for step in journey.steps:
        if step.kind == "asked":
            served.clear()  # who asks again was not reached by the answers before
        elif step.kind == "answered" and step.text.startswith("answers"):
            served.append(step)
    if not served or journey.found.operation.outcome != "ok":
        return f"No leader answered it in time. {_told_outcome(journey)}"
    last = served[0]
    role, term, _ = journey.circumstances.role(last.who, last.time)
    led = f", which led in term {term}," if role == "leader" else ""
    state = last.text.removeprefix("answers")
    return f"{last.who}{led} answered it after {journey.since(last.time)}{state}. {_told_outcome(journey)}"


def _plain(journey: Journey) -> str:
    answered = [request for request in journey.requests.values() if request.answered is not None]
    if not answered:
        nodes = listed(request.node for request in journey.requests.values() if request.received is not None)
        return f"{nodes} received it, and no answer came. {_told_outcome(journey)}"
    last = answered[-1]
    assert last.answered is not None
    verb = "answered" if last.ok else "refused"
    return f"{last.node} {verb} it after {journey.since(last.answered)}. {_told_outcome(journey)}"


def _told_outcome(journey: Journey) -> str:
    """What the client knows in the end."""
    operation, ended = journey.found.operation, journey.found.ended
    if ended is None:
        return "The client was never told what became of it."
    if operation.outcome == "info":
        return (
            f"The client gave up after {journey.since(ended)}: {operation.error or 'nobody told it what became of it'}."
        )
    return f"The client was told after {journey.since(ended)}: {outcome(operation)}."


def span_of(seconds: float) -> str:
    """A duration in words: milliseconds, or seconds where there are many."""
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def to_json(journey: Journey, book: Logbook) -> dict[str, Any]:
    """All of it. Times in seconds since the invocation, but for `began_s`: since the beginning of the run."""
    found, origin = journey.found, journey.found.began

    def times(by_node: dict[str, float]) -> dict[str, float]:
        return {node: round(at - origin, 6) for node, at in by_node.items()}

    def relative(at: float | None) -> float | None:
        return None if at is None else round(at - origin, 6)

    operation = found.operation
    return {
        "run_dir": str(book.directory),
        "history": found.history,
        "workload": found.workload,
        "operation": {
            "asked": asked(operation),
            "outcome": operation.outcome,
            "told": outcome(operation),
            "process": operation.process,
            "f": operation.f,
            "key": operation.key,
            "value": operation.argument,
            "result": operation.result,
            "error": operation.error,
            "invoked": operation.invoked,
            "completed": operation.answered,
        },
        "began_s": round(origin - journey.begins, 6),
        "ended_s": relative(found.ended),
        "requests": [
            {
                "request": request.number,
                "node": request.node,
                "kind": request.kind,
                "sent_s": relative(request.sent),
                "received_s": relative(request.received),
                "answered_s": relative(request.answered),
            }
            for request in journey.requests.values()
        ],
        "appended": [
            {
                "index": one.index,
                "term": one.term,
                "leader": one.leader,
                "request": one.request,
                "opens_session": one.opens,
                "has_s": times(one.has),
                "durable_s": times(one.durable),
                "committed_s": times(one.committed),
                "applied_s": times(one.applied),
                "lost_s": relative(one.lost),
            }
            for one in journey.appended
        ],
        "standing": standing(journey),
        "steps": [
            {
                "time_s": relative(step.time),
                "who": step.who,
                "kind": step.kind,
                "text": step.text,
                "index": step.index,
                "term": step.term,
                "request": step.request,
            }
            for step in journey.steps
        ],
        "gaps": gaps(journey, book),
        "conclusion": conclusion(journey),
    }
