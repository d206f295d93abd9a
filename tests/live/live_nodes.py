"""Node classes for tests of the live world: they do on request what a user's node might do."""

import math
import os
import re
import resource
import signal
import time
from pathlib import Path

import msgspec

from testbed import Node
from testbed.service import ServiceNode


class Note(msgspec.Struct, frozen=True):
    """A message with a type of its own."""

    text: str
    size: int = 0


class Obedient(Node):
    """Does what it is asked to. `on_start` options: `fail_to_start` names the nodes that raise in it."""

    messages = (Note,)

    def on_start(self):
        self.heard, self.changes, self.fired = [], [], []
        self.connected = []
        self.waiting = None
        self.stop_at = None
        self.save("starts", self.load("starts", 0) + 1)
        if self.id in self.options.get("fail_to_start", ()):
            raise RuntimeError("will not start")

    def on_message(self, sender, message):
        if isinstance(message, dict) and "flood" in message:
            for _ in range(message["flood"]):
                self.send(sender, Note("x" * message["size"], message["size"]))
            return
        kept = Note(message.text[:20], message.size) if isinstance(message, Note) else message
        self.heard.append([sender, type(message).__name__, kept.text if isinstance(kept, Note) else kept])

    def on_membership(self, peer, state):
        self.changes.append([peer, state])

    def on_connected(self, peer):
        self.connected.append(peer)

    def on_timer(self, name):
        self.fired.append(name)
        if name == "answer":
            self.reply(self.waiting, "late")
            self.reply(self.waiting, "twice")

    def on_stop(self):
        if self.options.get("linger") is None:
            return True
        if self.stop_at is None:
            self.stop_at = self.now + self.options["linger"]
        return self.now >= self.stop_at

    def on_status(self):
        return {
            "heard": len(self.heard),
            "changes": self.changes,
            "starts": self.load("starts"),
            "waiting": self.waiting is not None,
        }

    def on_request(self, request, body):
        match body:
            case {"block": seconds}:
                self.reply(request, None)
                self.block = seconds
                self.set_timer("block", after=0.0)
                time.sleep(seconds)
            case {"hold_gil": seconds}:
                _hold_gil(seconds)
                self.reply(request, None)
            case {"crash": reason}:
                raise RuntimeError(reason)
            case {"log": lines, "then": then}:
                for number in range(lines):
                    self.log.info("counted", number=number)
                if then == "crash":
                    raise RuntimeError("after logging")
                self.reply(request, None)
            case {"log_strange": True}:
                self.log.info("strange", time="mine", node=7, value=object(), keys={(1, 2): 3}, big=2**80)
                self.reply(request, None)
            case {"save": [key, value]}:
                self.save(key, value)
                self.reply(request, None)
            case {"delete": key}:
                self.delete(key)
                self.reply(request, None)
            case {"load": key}:
                self.reply(request, self.load(key))
            case {"items": prefix}:
                self.reply(request, list(self.items(prefix)))
            case {"tell": peer, "message": message}:
                self.send(peer, message)
                self.reply(request, None)
            case {"note": peer, "text": text}:
                self.send(peer, Note(text))
                self.reply(request, None)
            case {"publish": message}:
                self.publish(message)
                self.reply(request, None)
            case {"bulk": peer, "count": count, "size": size}:
                for _ in range(count):
                    self.send(peer, Note("x" * size, size))
                    self.publish(Note("x" * size, size))
                self.reply(request, None)
            case {"timers": [first, second, cancelled]}:
                for name, after in ((first, 0.05), (second, 0.01), (cancelled, 0.02)):
                    self.set_timer(name, after)
                self.cancel_timer(cancelled)
                self.reply(request, None)
            case {"answer_after": seconds}:
                self.waiting = request
                self.set_timer("answer", seconds)
            case {"never": True}:
                self.waiting = request
            case {"refuse": reason}:
                self.refuse(request, reason)
                self.reply(request, "too late: refused already")
            case {"large": size}:
                self.reply(request, "x" * size)
            case Note():
                self.reply(request, Note(body.text.upper()))
            case "what":
                self.reply(request, {"heard": self.heard, "changes": self.changes, "fired": self.fired})
            case "connected":
                self.reply(request, self.connected)
            case _:
                self.reply(request, {"me": self.id, "pid": os.getpid(), "sigint": _ignores_ctrl_c()})


class Cramped(ServiceNode):
    """A member of the service whose disk is full once it is told so."""

    def on_request(self, request, body):
        if body != "disk full":
            super().on_request(request, body)
            return
        # The database's log may not grow any more; the node's own log, far smaller, may.
        grown = max(Path(path).stat().st_size for path in _open_files() if path.endswith("-wal"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (grown, grown))
        self.reply(request, None)


class Unstoppable(Node):
    """Ignores the request to stop for longer than anybody waits."""

    def on_stop(self):
        time.sleep(60)
        return True


class Mute(Node):
    """Takes requests and never answers."""

    def on_request(self, request, body):
        """Nothing."""


def _open_files():
    return [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]


def _hold_gil(seconds):
    """One call of C code that takes `seconds` to twice that, and lets no other thread of the process run Python."""

    def match(length):  # each character more takes twice as long
        begun = time.monotonic()
        re.match(r"(a+)+$", "a" * length + "b")
        return time.monotonic() - begun

    length = 16
    while (took := match(length)) < 0.05:
        length += 1
    match(length + math.ceil(math.log2(seconds / took)))


def _ignores_ctrl_c():
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
