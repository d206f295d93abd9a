"""The workload `kv`: reads, writes and compare-and-sets on a few keys of the replicated store."""

from chaos.workloads.api import Client, Op, Workload
from chaos.workloads.names import Numbers
from testbed.base.rand import Random
from testbed.core.services.commands import PRECONDITION_FAILED, Cas, Get, Put, value

KEYS_AT_A_TIME = 3


class KeyValue(Workload):
    """Reads, writes and compare-and-sets on a few keys of the built-in key-value store; judged as cas-registers."""

    model = "cas-register"

    def __init__(self) -> None:
        self._keys = Numbers(KEYS_AT_A_TIME)
        self._values = 0

    def client(self, number: int, random: Random) -> Client:  # noqa: ARG002  # all clients do the same
        """Half of the operations read; the others write a value that nobody wrote before, half of them by cas.

        A cas expects what this client last saw under the key: often right, and often overtaken by another client.
        """
        seen: dict[str, object] = {}
        while True:
            key = self._key(random)
            draw = random.random()
            if draw < 0.5:
                outcome = yield Op("read", key=key, request=Get(key))
                if outcome.type == "ok":
                    seen[key] = outcome.value
                continue
            self._values += 1
            new = self._values
            if draw < 0.75:
                outcome = yield Op("write", new, key, Put(key, value(new)))
            else:
                old = seen.get(key)
                outcome = yield Op("cas", [old, new], key, Cas(key, value(old), value(new)))
            if outcome.type == "ok":
                seen[key] = new
            elif outcome.error == PRECONDITION_FAILED:
                seen.pop(key, None)

    def _key(self, random: Random) -> str:
        number = self._keys.use(random.randrange(KEYS_AT_A_TIME))
        return f"k{number}" if self.number == 1 else f"w{self.number}-k{number}"  # each workload judges its own keys
