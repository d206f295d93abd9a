"""A node class for the contract suite: it does on request what a user's node might do, and knows of no world."""

import msgspec

from testbed import Node


class Note(msgspec.Struct, frozen=True):
    """A message with a type of its own."""

    text: str
    marks: list[int] = []


class Scripted(Node):
    """Does what it is asked to, and remembers what it was told.

    Options: `fail_to_start` names the nodes that raise in `on_start`; `linger` is how long `on_stop` puts off the end.
    """

    messages = (Note,)

    def on_start(self):
        self.begun_at = self.latest = self.now
        self.went_back = False
        self.rolls = [self.random.random() for _ in range(5)]
        self.heard, self.changes, self.fired = [], [], []
        self.met, self.connected = set(), set()
        self.count = 0
        self.waiting = {}
        self.plans = {}  # what a timer, when it fires, does to others
        self.asked_to_stop_at = None
        self.save("starts", self.load("starts", 0) + 1)
        if self.id in self.options.get("fail_to_start", ()):
            raise RuntimeError("will not start")

    def on_step(self):
        self.went_back = self.went_back or self.now < self.latest
        self.latest = self.now

    def on_message(self, sender, message):
        if message == "greeting":
            self.met.add(sender)
            return
        kind = type(message).__name__
        self.heard.append([sender, kind, message.text if isinstance(message, Note) else message])

    def on_membership(self, peer, state):
        self.changes.append([peer, state])

    def on_connected(self, peer):
        self.connected.add(peer)

    def on_closed(self, peer):
        self.connected.discard(peer)

    def on_timer(self, name):
        self.fired.append([name, self.now])
        self._use_timers(**self.plans.pop(name, {}))

    def on_status(self):
        return {"waiting": sorted(self.waiting), "count": self.count, "connected": sorted(self.connected)}

    def on_stop(self):
        if self.asked_to_stop_at is None:
            self.asked_to_stop_at = self.now
        return self.now >= self.asked_to_stop_at + self.options.get("linger", 0.0)

    def on_request(self, request, body):
        match body:
            case "who":
                self.reply(request, self.id)
            case "what":
                self.reply(request, {"heard": self.heard, "changes": self.changes, "fired": self.fired})
            case "time":
                self.reply(request, {"now": self.now, "begun_at": self.begun_at, "went_back": self.went_back})
            case "rolls":
                self.reply(request, self.rolls)
            case "forget":
                self.heard, self.changes, self.fired = [], [], []
                self.met = set()
                self.reply(request, None)
            case "greet":
                for peer in self.peers:
                    self.send(peer, "greeting")
                self.reply(request, sorted(self.met))
            case "add":
                self.count += 1
                self.reply(request, self.count)
            case "silence":
                self.count += 1
            case Note():
                self.reply(request, Note(body.text.upper(), [*body.marks, len(body.marks)]))
            case {"send": [peer, message]}:
                self.send(peer, message)
                self.reply(request, None)
            case {"note": [peer, text]}:
                self.send(peer, Note(text))
                self.publish(Note(text + " to all"))
                self.reply(request, None)
            case {"publish": message}:
                self.publish(message)
                self.reply(request, None)
            case {"change": peer}:
                self._send_and_change(peer)
                self.reply(request, None)
            case {"save": pairs, "delete": keys}:
                for key, value in pairs.items():
                    self.save(key, value)
                for key in keys:
                    self.delete(key)
                self.reply(request, None)
            case {"load": key}:
                self.reply(request, self.load(key, "nothing"))
            case {"items": prefix}:
                self.reply(request, [list(item) for item in self.items(prefix)])
            case {"timers": timers, "plans": plans}:
                self.plans = plans
                self._use_timers(timers, [])
                self.reply(request, self.now)
            case {"wait": name}:
                self.waiting[name] = request
                self.report()
            case {"answer": name}:
                for _ in range(2):
                    self.reply(self.waiting[name], f"answer to {name}")
                self.refuse(self.waiting.pop(name), "too late")
                self.reply(request, None)
            case {"refuse": reason}:
                self.refuse(request, reason)
                self.reply(request, "too late")
            case {"crash": reason}:
                self.save("last words", reason)
                self.publish(reason)
                self.reply(request, reason)
                raise RuntimeError(reason)
            case _:
                super().on_request(request, body)

    def _use_timers(self, timers=(), cancel=()):
        for name, after in timers:
            self.set_timer(name, after)
        for name in cancel:
            self.cancel_timer(name)

    def _send_and_change(self, peer):
        """Send and save something that is changed right afterwards, in the same step."""
        message = {"list": [1, 2]}
        self.send(peer, message)
        self.save("list", message)
        message["list"].append(3)
        self.load("list")["list"].append(4)
