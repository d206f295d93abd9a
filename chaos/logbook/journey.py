"""The way of one client operation through the cluster: requests, log entries, copies, commitment, answers - in steps.

Follows the traces once, in causal order, from the invocation on. It knows what the built-in node's traces mean; of a
user's node it knows what was received, sent in the same step, and answered. What it cannot see it leaves to `gaps`.

An entry of the log is followed by its index and term. Whether a node has it is concluded from messages: the leader that
appended it has it, and whoever tells a leader that has it that their logs agree up to there has it, too. If a leader
without it is elected, its copies are on the way to being lost; that they are is known when another entry is committed
at the same index.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from chaos.checkers.explain import describe
from chaos.checkers.values import show_json
from chaos.history import Operation
from chaos.logbook.book import Logbook
from chaos.logbook.circumstances import Circumstances
from chaos.logbook.files import Entry
from chaos.logbook.operations import Found

OPENING: Final = "OpenSession"
COMMAND: Final = "Submit"
QUERY: Final = "Query"
OF_THE_SERVICE: Final = (OPENING, COMMAND, QUERY)
ROUNDING_S: Final = 2e-6  # logs are stamped in microseconds, histories in nanoseconds
AT_ONCE_S: Final = 0.1  # a client that gives up waiting for an answer has waited for longer
AFTERWARDS_S: Final = 2.0  # so long after the completion answers may still come


@dataclass(frozen=True)
class Step:
    """Something that happened at `time` (on the clock of the logs), at a node or the client, in words.

    `kind` is one word. `index` and `term` are those of the log entry that it is about, `request` the request's number.
    """

    time: float
    who: str
    kind: str
    text: str
    index: int | None = None
    term: int | None = None
    request: int | None = None


@dataclass
class Appended:
    """An entry that the operation has in the log. Times by node; `lost` once another entry took its place."""

    index: int
    term: int
    request: int
    leader: str
    at: float
    opens: bool  # a session, and nothing else
    sent: dict[str, int] = field(default_factory=dict)
    coming: dict[str, str] = field(default_factory=dict)  # whom it reached, and whose message it was
    has: dict[str, float] = field(default_factory=dict)
    durable: dict[str, float] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)  # to have it, by a leader
    committed: dict[str, float] = field(default_factory=dict)
    applied: dict[str, float] = field(default_factory=dict)
    threatened: int = 0  # the term of a leader that was elected without it
    lost: float | None = None

    @property
    def where(self) -> str:
        """Its place in the log."""
        return f"index {self.index}, term {self.term}"


@dataclass
class Request:
    """A request of the operation: what became of it at the node that was asked."""

    number: int
    node: str
    sent: float
    kind: str = ""
    received: float | None = None
    answered: float | None = None
    ok: bool = True


class Journey:
    """Everything that is known of an operation. `steps` are in causal order, `entries` are the lines they stand on."""

    def __init__(self, book: Logbook, found: Found) -> None:
        self.found = found
        self.nodes = book.nodes
        self.steps: list[Step] = []
        self.entries: list[Entry] = []
        self.appended: list[Appended] = []
        self.requests = {
            one["request"]: Request(one["request"], str(one.get("asks")), one["time"])
            for one in found.requests
            if isinstance(one.get("request"), int)
        }
        self.circumstances = Circumstances(book.stream())
        self.begins = book.begins
        self._reached: dict[str, Entry] = {}  # how far each node's log was, by its last word
        self._snapshots: dict[str, int] = {}  # up to which index a node was sent one
        self._acting: tuple[str, Any] | None = None  # the node and process whose step took the request last
        self._completed = self._noted = False
        self._book = book
        self._step(found.began, self.client, "invoked", f"begins: {asked(found.operation)}")
        self._follow()
        if not self._completed:
            self._complete()
        self._tell_waits()

    @property
    def traced(self) -> set[str]:
        """The nodes whose logs are seen to move in that time."""
        return set(self._reached)

    def since(self, time: float) -> str:
        """From the invocation to a time, in words."""
        seconds = time - self.found.began
        return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"

    # --- the pass ---

    def _follow(self) -> None:
        for entry in self._book.stream(level="TRACE", since=self.found.began - ROUNDING_S):
            ended = self.found.ended
            if not self._completed and ended is not None and entry["time"] > ended:
                self._complete()
            if self._completed and self._settled(entry["time"]):
                return
            self._noted = False
            self._take(entry)
            if self._noted:
                self.entries.append(entry)

    def _settled(self, now: float) -> bool:
        ended = self.found.ended
        assert ended is not None
        commands = [one for one in self.appended if not one.opens and one.lost is None]
        open_ = any(one.received is not None and one.answered is None for one in self.requests.values())
        if open_ and now < ended + AFTERWARDS_S:
            return False
        return all(len(one.applied) == len(self.nodes) for one in commands)

    def _take(self, entry: Entry) -> None:
        text, source = entry["text"], entry["source"]
        if source == "clients":
            if entry.get("request") in self.requests and self._is_ours(entry):
                self._asked(entry)
            return
        if source != "node":
            if not self._completed:
                self._happened(entry)
            return
        node = str(entry.get("node"))
        match text:
            case "received" if entry.get("request") in self.requests:
                self._received(node, entry)
            case "appended" if entry.get("request") in self.requests:
                self._append(node, entry)
            case "answered" if entry.get("request") in self.requests:
                self._answered(node, entry)
            case "log":
                self._moved(node, entry)
                self._reached[node] = entry
            case "durable":
                self._durable(node, entry)
            case "sent" | "published":
                self._sent(node, entry)
            case "heard":
                self._heard(node, entry)
            case "starts":
                self._started(node, entry)
            case "truncates its log":
                self._truncated(node, entry)
            case "elected":
                self._elected(node, entry)
        began_anew = text == "heard" or (text == "received" and entry.get("request") not in self.requests)
        if began_anew and self._acting == (node, entry.get("boot")):
            self._acting = None

    def _is_ours(self, entry: Entry) -> bool:
        return bool(entry.get("invoked") == self.found.operation.began)

    # --- the client ---

    @property
    def client(self) -> str:
        """What it is called in steps."""
        return f"client {self.found.operation.process}"

    def _complete(self) -> None:
        self._completed = True
        if self.found.ended is not None:
            self._step(self.found.ended, self.client, "completed", f"ends: {outcome(self.found.operation)}")

    def _asked(self, entry: Entry) -> None:
        number, node = entry["request"], str(entry.get("asks"))
        again = " again" if any(one.node == node for one in self.requests.values() if one.number < number) else ""
        self._step(entry["time"], self.client, "asked", f"asks {node}{again} (request {number})", request=number)

    # --- requests at a node ---

    def _received(self, node: str, entry: Entry) -> None:
        request = self.requests[entry["request"]]
        what = entry.get("what")
        request.kind = str(what.get("type", "")) if isinstance(what, dict) else ""
        request.received = entry["time"]
        self._acting = (node, entry.get("boot")) if request.kind not in OF_THE_SERVICE else None
        words = {
            OPENING: "receives the wish for a session",
            COMMAND: "receives the command",
            QUERY: "receives the query",
        }
        text = words.get(request.kind, f"receives {_brief(what)}")
        self._step(entry["time"], node, "received", text, request=request.number)

    def _applied_at(self, node: str) -> str:
        if node not in self._reached:
            for entry in self._book.stream(node, "TRACE", until=self.found.began):
                if entry["text"] == "log" and entry.get("node") == node:
                    self._reached[node] = entry
        reached = self._reached.get(node)
        return "" if reached is None else f", having applied up to index {reached.get('applied')}"

    def _append(self, node: str, entry: Entry) -> None:
        index, term = entry.get("index"), entry.get("term")
        if not (isinstance(index, int) and isinstance(term, int)):
            return
        opens = self.requests[entry["request"]].kind == OPENING
        one = Appended(index, term, entry["request"], node, entry["time"], opens)
        one.has[node] = entry["time"]
        text = f"appends {'a session' if opens else 'it'} at index {index}, term {term}"
        if not opens and any(not known.opens for known in self.appended):
            text += " (again: the first to be applied counts)"
        self.appended.append(one)
        self._step(entry["time"], node, "appended", text, one)

    def _answered(self, node: str, entry: Entry) -> None:
        request = self.requests[entry["request"]]
        request.answered, request.ok = entry["time"], entry.get("ok") is not False
        self._step(entry["time"], node, "answered", self._answer(node, request), request=request.number)

    def _answer(self, node: str, request: Request) -> str:
        role, _, leader = self.circumstances.role(node, request.answered or request.sent)
        own = [one for one in self.appended if one.request == request.number]
        if not request.ok:
            return "refuses it"
        if request.kind not in OF_THE_SERVICE:
            return "answers"
        if role != "leader" and role is not None and not any(node in one.applied for one in own):
            if own:
                return "answers that it leads no more, and cannot tell what becomes of it"
            return f"turns it away: {leader} leads" if leader not in (None, node) else "turns it away: nobody leads"
        if request.kind == QUERY:
            return f"answers{self._applied_at(node)}"
        if request.kind == OPENING:
            return "answers: the session is open"
        if own and any(node in one.applied for one in own):
            return "answers"
        if any(node in one.applied for one in self.appended if not one.opens):
            return "answers"
        return "turns it away"

    def _tell_waits(self) -> None:
        """A client that asks the same node again at once was told that the result is still to come."""
        for place, step in enumerate(self.steps):
            if step.kind != "answered" or step.text != "answers" or not self.appended:
                continue
            then = next((one for one in self.steps[place:] if one.kind in ("asked", "completed")), None)
            if then is None or then.request is None or then.time - step.time > AT_ONCE_S:
                continue
            if self.requests[then.request].node == step.who:
                text = "has no result yet: the client may ask again"
                self.steps[place] = replace(step, kind="waits", text=text)

    # --- the log ---

    def _commands(self) -> list[Appended]:
        return [one for one in self.appended if one.lost is None and not one.opens]

    def _sent(self, node: str, entry: Entry) -> None:
        what = entry.get("what")
        if self._acting == (node, entry.get("boot")) and not self._completed:
            text = (
                f"sends {_brief(what)} to {entry.get('to')}" if entry["text"] == "sent" else f"publishes {_brief(what)}"
            )
            self._step(entry["time"], node, "sent", text)
            return
        if not isinstance(what, dict):
            return
        for one in self._commands():
            to = str(entry.get("to"))
            if node in one.has and to not in one.has and to not in one.known and _carries(what, one):
                one.sent[to] = one.sent.get(to, 0) + 1
                if one.sent[to] == 1:
                    self._join(entry["time"], node, "sent", f"sends {self._it(one)} to ", to, one)
            elif to in one.has and node not in one.has and _confirms(what, one):
                self._got(one, node, entry["time"])
            elif node in one.coming and node not in one.has and to == one.coming[node] and _denies(what):
                del one.coming[node]
                one.durable.pop(node, None)
                self._step(entry["time"], node, "refused", f"cannot take {self._it(one)}: its log does not fit", one)

    def _heard(self, node: str, entry: Entry) -> None:
        what, sender = entry.get("what"), str(entry.get("sender"))
        if not isinstance(what, dict):
            return
        if what.get("type") == "InstallSnapshot" and _has_numbers(what, "last_index"):
            self._snapshots[node] = what["last_index"]
        for one in self._commands():
            if sender in one.has and node not in one.has and node not in one.coming and _carries(what, one):
                one.coming[node] = sender
                times = one.sent.get(node, 1)
                sent = f", which has sent it {times} times" if times > 1 else ""
                self._step(entry["time"], node, "reached", f"gets {self._it(one)} from {sender}{sent}", one)
            elif node in one.has and sender in one.has and sender not in one.known and _confirms(what, one):
                one.known.add(sender)
                self._step(entry["time"], node, "confirmed", f"hears that {sender} has {self._it(one)}", one)

    def _got(self, one: Appended, node: str, time: float) -> None:
        one.has[node] = time
        if node not in one.coming:
            self._step(time, node, "reached", f"has {self._it(one)}", one)

    def _durable(self, node: str, entry: Entry) -> None:
        last = entry.get("last")
        for one in self._commands():
            there = node in one.has or node in one.coming
            if there and node not in one.durable and isinstance(last, int) and last >= one.index:
                one.durable[node] = entry["time"]
                self._step(entry["time"], node, "durable", f"has {self._it(one)} on disk", one)

    def _moved(self, node: str, entry: Entry) -> None:
        commit, applied, term = (entry.get(name) for name in ("commit", "applied", "term"))
        if not (isinstance(commit, int) and isinstance(applied, int) and isinstance(term, int)):
            return
        for one in self.appended:
            if one.lost is not None or term < one.term or commit < one.index or node in one.applied:
                continue
            if self._is_another(one, term):
                one.lost = entry["time"]
                text = f"commits another entry at index {one.index}: the one of term {one.term} is lost"
                self._step(entry["time"], node, "lost", text, one)
                continue
            self._reaches(one, node, entry["time"], applied >= one.index)

    def _is_another(self, one: Appended, term: int) -> bool:
        """Whether what is committed at its index, as a node of this term says, is not this entry."""
        if one.committed or term == one.term:
            return False
        latest = max((led for led in self.circumstances.leaders if led <= term), default=one.term)
        leader, last = self.circumstances.leaders.get(latest, (one.leader, one.index))
        return latest > one.term and leader not in one.has and (last < one.index or leader in self.traced)

    def _reaches(self, one: Appended, node: str, time: float, applied: bool) -> None:
        first, new = not one.committed, node not in one.committed
        whence = ", from a snapshot" if node not in one.has and self._snapshots.get(node, 0) >= one.index else ""
        one.committed.setdefault(node, time)
        one.has.setdefault(node, time)
        if applied:
            one.applied[node] = time
        if one.opens and not first:
            return
        if first:
            disks = f", which is on the disks of {listed(one.durable)}" if one.durable else ""
            text = f"commits {self._it(one)}{disks}"
        elif new:
            text = f"learns that {self._it(one)} is committed{whence}"
        else:
            text = f"applies {self._it(one)}"
        if new and applied:
            text += ", and applies it"
        kind = "applied" if applied and not first else "committed"
        self._step(time, node, kind, text, one)

    def _elected(self, node: str, entry: Entry) -> None:
        term, last = entry.get("term"), entry.get("last")
        if not (isinstance(term, int) and isinstance(last, int)):
            return
        without = [one for one in self._commands() if not one.committed and one.term < term and node not in one.has]
        if not without and self._completed:
            return
        text = f"is elected in term {term}"
        if without:
            text += f" without {listed(self._it(one) for one in without)}"
            text += f": its log ends at {last}" if last < without[0].index else ""
        for one in without:
            one.threatened = term
        self._step(entry["time"], node, "elected", text)

    def _started(self, node: str, entry: Entry) -> None:
        """What was not on disk when the process before ended is gone."""
        for one in self._commands():
            if node in one.durable or node in one.committed:
                continue
            one.coming.pop(node, None)
            if node in one.has:
                del one.has[node]
                self._step(
                    entry["time"], node, "forgotten", f"has lost {self._it(one)}, which was not on its disk", one
                )

    def _truncated(self, node: str, entry: Entry) -> None:
        first = entry.get("first")
        for one in self._commands():
            if isinstance(first, int) and first <= one.index and node in one.has:
                del one.has[node]
                one.durable.pop(node, None)
                one.coming.pop(node, None)
                self._step(
                    entry["time"], node, "dropped", f"drops {self._it(one)}, which its leader does not have", one
                )

    # --- around it ---

    def _happened(self, entry: Entry) -> None:
        """What was done to nodes while the client waited."""
        match entry["source"], entry["text"]:
            case "experiment", "fault" if entry.get("step") in ("in effect", "healed"):
                nodes = entry.get("nodes")
                whom = ", ".join(map(str, nodes)) if isinstance(nodes, list) else ""
                verb = "is in effect on" if entry["step"] == "in effect" else "is healed on"
                text = f"{entry.get('kind')} {entry.get('fault')} {verb} {whom}"
                self._step(entry["time"], "faults", "fault", text)
            case "supervisor", "exit":
                self._step(entry["time"], str(entry.get("node")), "exit", f"ends: {entry.get('reason')}")
            case "supervisor", "listens":
                self._step(entry["time"], str(entry.get("node")), "listens", "is up again")

    # --- steps ---

    def _it(self, one: Appended) -> str:
        """Named where there are several."""
        return f"index {one.index}" if sum(not other.opens for other in self.appended) > 1 else "it"

    def _step(
        self, time: float, who: str, kind: str, text: str, one: Appended | None = None, request: int | None = None
    ) -> None:
        self._noted = True
        index, term = (None, None) if one is None else (one.index, one.term)
        self.steps.append(Step(max(time, self.found.began), who, kind, text, index, term, request))

    def _join(self, time: float, who: str, kind: str, text: str, whom: str, one: Appended) -> None:
        """To several at once is one step."""
        last = self.steps[-1]
        time = max(time, self.found.began)
        self._noted = True
        if (last.time, last.who, last.kind, last.index) == (time, who, kind, one.index):
            self.steps[-1] = Step(time, who, kind, f"{last.text}, {whom}", one.index, one.term)
        else:
            self._step(time, who, kind, text + whom, one)


def _brief(what: Any) -> str:
    """A message as it is in traces: a struct by its name, what is JSON as such."""
    return str(what["type"]) if isinstance(what, dict) and "type" in what else show_json(what)


def _carries(what: dict[str, Any], one: Appended) -> bool:
    """Whether it is an AppendEntries with the entry in it."""
    if what.get("type") != "AppendEntries" or not _has_numbers(what, "term", "previous_index", "entries"):
        return False
    first = what["previous_index"] + 1
    return bool(what["term"] >= one.term and first <= one.index < first + what["entries"])


def _confirms(what: dict[str, Any], one: Appended) -> bool:
    """Whether it says that its sender's log agrees with the leader's up to the entry."""
    if what.get("type") != "AppendReply" or not _has_numbers(what, "term", "match"):
        return False
    return bool(what.get("success") is True and what["term"] >= one.term and what["match"] >= one.index)


def _has_numbers(what: dict[str, Any], *names: str) -> bool:
    return all(isinstance(what.get(name), int) for name in names)


def _denies(what: dict[str, Any]) -> bool:
    return what.get("type") == "AppendReply" and what.get("success") is False


def listed(words: Iterable[str]) -> str:
    """`n1, n2 and n3`."""
    *firsts, last = words
    return f"{', '.join(firsts)} and {last}" if firsts else last


def asked(operation: Operation) -> str:
    """What was asked for, in words."""
    key = "" if operation.key is None else f" on key {show_json(operation.key)}"
    return f"{_called(operation)}{key}"


def outcome(operation: Operation) -> str:
    """What came of it, in words."""
    words = describe(operation).removeprefix(_called(operation)).rpartition(" (process")[0].strip()
    return f"{words}: {operation.error}" if operation.error and operation.error not in words else words


def _called(operation: Operation) -> str:
    return operation.f if operation.argument is None else f"{operation.f} {show_json(operation.argument)}"
