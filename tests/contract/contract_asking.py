"""Client programs of the contract suite: calls that nobody waits for, to certain nodes only, by clients that may go
deaf or away; and bytes of any kind."""

from collections import deque

from testbed.base.codec import Codec
from testbed.client import Answered, Ask, NotSent, Session, Started, Told
from testbed.core.services.commands import Put, value


class Asker:
    """A session that knows only the nodes it is given; its operations are carried out one after the other."""

    def __init__(self, cluster, *nodes, messages=()):
        self._world = cluster.world
        self._session = Session(nodes or cluster.nodes, cluster.settings.election_timeout / 2, Codec(messages))
        self._waiting = deque()
        self._underway = False
        self.asked = False  # the first request of the latest operation has been given out
        self.outcomes = []
        self.deaf = False  # every answer is lost on its way here
        self.gone = False  # it does nothing any more, as if its process were killed
        self._world.run_client(self)

    def ask(self, operation, timeout=10.0):
        """Begin the operation, once all earlier ones are over; what became of it is appended to `outcomes`."""
        self.asked = False
        self._world.tell_client(self, (operation, timeout))

    def step(self, event, now):
        if self.gone or (self.deaf and isinstance(event, Answered)):
            return []
        if isinstance(event, Told):
            self._waiting.append(event.what)
            asks = []
        else:
            asks = self._session.step(event, now)
        while not self._session.busy:
            if self._underway:
                self._underway = False
                self.outcomes.append(self._session.outcome)
                self._world.notify()
            if not self._waiting:
                break
            operation, timeout = self._waiting.popleft()
            asks = asks + self._session.begin(operation, now, timeout)
            self._underway = self.asked = True
        return asks

    @property
    def deadline(self):
        return None if self.gone else self._session.deadline

    @property
    def finished(self):
        return False


def opened(cluster, *nodes):
    """An `Asker` whose session is open."""
    asker = Asker(cluster, *nodes)
    answered(cluster, asker, Put("session", value("open")))
    return asker


def answered(cluster, asker, operation):
    """The outcome of an operation, the only one under way, once it is known."""
    asker.outcomes.clear()
    asker.ask(operation)
    return outcome_of(cluster, asker)


def outcome_of(cluster, asker):
    """The first outcome that is not taken out yet."""
    cluster.wait_for(lambda: bool(asker.outcomes), "an outcome")
    return asker.outcomes.pop(0)


class Stranger:
    """Sends bytes that no client would send, to one node; `answer` is the node's."""

    def __init__(self, cluster, node, data):
        self._node, self._data = node, data
        self._world = cluster.world
        self.asked = False
        self.answer = None
        self._world.run_client(self)

    def step(self, event, now):
        match event:
            case Started() | NotSent():
                self.asked = True
                return [Ask(1, self._node, self._data)]
            case Answered():
                self.answer = event
                self._world.notify()
        return []

    deadline = None

    @property
    def finished(self):
        return self.answer is not None
