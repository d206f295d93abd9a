"""By hand, for every model and everything that makes histories hard: what is right is accepted, what is wrong is not.

A history is written as steps, one after the other. `0:write(1)` is a whole operation of process 0, `0:read=1` one with
a result, `0:write(1)?` one of unknown outcome, `0:write(1)!full` one that failed for a reason. `0<write(1)` and
`0>write` are the beginning and the end of one; steps joined by `&` happen in one instant.
"""

import json
import re
from typing import Any, Final, NamedTuple

import pytest

from chaos.checkers import MODELS, check
from chaos.history import Event, EventType, Recorder

STEP: Final = re.compile(r"(-?\d+)([<>:])(\w+)(?:\((.*?)\))?(?:(=)(.+)|(\?)|(!)(.+))?")
TYPES: Final[dict[str | None, EventType]] = {None: "ok", "=": "ok", "?": "info", "!": "fail"}

EVERY: Final = frozenset(MODELS)
LOCKS: Final = frozenset({"mutex", "owner-mutex", "fenced-mutex"})

# What makes histories hard, and for which models.
KINDS: Final = {
    "tie": EVERY,  # operations that touch in one instant are concurrent
    "pending": EVERY,  # an operation that never completes
    "crashed": EVERY,  # one of unknown outcome: took effect later, or never
    "failed": EVERY,  # one that did not happen
    "refused": {"cas-register"},  # a cas that failed for its precondition
    "empty": {"fifo-queue", "queue", "stack"},  # a take that found nothing
    "twice": EVERY - LOCKS - {"unique-ids"},  # a value that was written or put in twice
    "reused": EVERY,  # a process that goes on under its number after an unknown outcome
    "lost": EVERY - {"unique-ids"},  # an update that left no trace, a grant that was forgotten
    "stale": EVERY
    - {"mutex", "owner-mutex", "queue", "total-queue", "unique-ids"},  # what was true earlier, out of turn
    "duplicate": EVERY - {"register", "cas-register", "key-order"},  # one effect seen twice
    "initial": EVERY,  # what the key starts with
}


class Pair(NamedTuple):
    """Two histories that differ in little: `right` has an order, `wrong` has none."""

    model: str
    kind: str
    right: str
    wrong: str
    initial: Any = None


PAIRS: Final = [
    Pair(
        "register",
        "tie",
        "0<write(1) 0>write&1<write(2) 1>write 2:read=1",
        "0<write(1) 0>write 1<write(2) 1>write 2:read=1",
    ),
    Pair("register", "pending", "0<write(1) 1:read=null 1:read=1", "0<write(1) 1:read=1 1:read=null"),
    Pair("register", "crashed", "0:write(1)? 1:write(2) 1:read=1", "0:write(1)? 1:read=1 1:write(2) 1:read=1"),
    Pair("register", "crashed", "1:read=null 0:write(1)? 1:read=null", "1:read=1 0:write(1)? 1:read=1"),
    Pair("register", "failed", "0:write(1)!no-leader 1:read=null", "0:write(1)!no-leader 1:read=1"),
    Pair("register", "twice", "0:write(1) 0:write(2) 0:write(1) 1:read=1", "0:write(1) 0:write(1) 0:write(2) 1:read=1"),
    Pair("register", "reused", "0:write(1)? 0:read=null 0:read=1", "0:write(1)? 0:read=1 0:read=null"),
    Pair(
        "register",
        "lost",
        "0<write(1) 1<write(2) 0>write 1>write 0:read=1",
        "0<write(1) 1<write(2) 0>write 1>write 0:read=null",
    ),
    Pair("register", "stale", "0:write(1) 1<read 0:write(2) 1>read=1", "0:write(1) 0<write(2) 0>write 1<read 1>read=1"),
    Pair("register", "initial", "0:write(1)? 0:read=5 0:read=1", "0:write(1)? 0:read=null", 5),
    Pair(
        "cas-register",
        "tie",
        "0<cas([null,1]) 0>cas&1<read 1>read=null",
        "0<cas([null,1]) 0>cas 1<read 1>read=null",
    ),
    Pair(
        "cas-register",
        "pending",
        "0<cas([null,1]) 1:read=null 1:cas([1,2])",
        "0<cas([null,1]) 1:cas([1,2]) 1:cas([1,3])",
    ),
    Pair("cas-register", "crashed", "0:cas([null,1])? 1:read=null 1:read=1", "0:cas([null,1])? 1:write(2) 1:read=1"),
    Pair("cas-register", "crashed", "0:cas([5,1])? 1:read=null", "0:cas([5,1])? 1:read=1"),
    Pair("cas-register", "failed", "0:cas([null,1])!no-leader 1:read=null", "0:cas([null,1])!no-leader 1:read=1"),
    Pair(
        "cas-register",
        "refused",
        "0:write(1) 1<write(2) 0:cas([1,3])!precondition-failed 1>write 0:read=2",
        "0:write(1) 0:cas([1,3])!precondition-failed 1:write(2) 0:read=2",
    ),
    Pair(
        "cas-register",
        "twice",
        "0:write(1) 0:write(2) 0:write(1) 1:cas([1,3])",
        "0:write(1) 0:write(1) 0:write(2) 1:cas([1,3])",
    ),
    Pair("cas-register", "reused", "0:cas([null,1])? 0:cas([1,2])", "0:cas([null,1])? 0:cas([1,2]) 0:cas([1,3])"),
    Pair(
        "cas-register",
        "lost",
        "0<cas([null,1]) 1<cas([1,2]) 0>cas 1>cas 0:read=2",
        "0<cas([null,1]) 1<cas([null,2]) 0>cas 1>cas 0:read=2",
    ),
    Pair("cas-register", "stale", "0:write(1) 1<read 0:cas([1,2]) 1>read=1", "0:write(1) 0:cas([1,2]) 1<read 1>read=1"),
    Pair("cas-register", "initial", "0:cas([5,1]) 0:read=1", "0:cas([null,1]) 0:read=1", 5),
    Pair(
        "list",
        "tie",
        "0<append(1) 0>append&1<append(2) 1>append 2:read=[2,1]",
        "0<append(1) 0>append 1<append(2) 1>append 2:read=[2,1]",
    ),
    Pair("list", "pending", "0<append(1) 1:read=[] 1:read=[1]", "0<append(1) 1:read=[1] 1:read=[]"),
    Pair(
        "list",
        "crashed",
        "0:append(1)? 1:append(2) 1:read=[2] 1:append(3) 1:read=[2,1,3]",
        "0:append(1)? 1:append(2) 1:read=[2] 1:append(3) 1:read=[1,2,3]",
    ),
    Pair("list", "crashed", "0:write([7])? 1:append(1) 1:read=[1]", "0:write([7])? 1:append(1) 1:read=[1,7]"),
    Pair("list", "failed", "0:append(1)!no-leader 1:read=[]", "0:append(1)!no-leader 1:read=[1]"),
    Pair("list", "twice", "0:append(1) 1:append(1) 1:read=[1,1]", "0:append(1) 1:append(1) 1:read=[1]"),
    Pair("list", "reused", "0:append(1)? 0:append(2) 0:read=[2,1]", "0:append(1)? 0:read=[1] 0:append(2) 0:read=[2,1]"),
    Pair(
        "list",
        "lost",
        "0<append(1) 1<append(2) 0>append 1>append 0:read=[2,1]",
        "0<append(1) 1<append(2) 0>append 1>append 0:read=[2]",
    ),
    Pair("list", "stale", "0:append(1) 1<read 0:append(2) 1>read=[1]", "0:append(1) 0:append(2) 1<read 1>read=[1]"),
    Pair("list", "duplicate", "0:append(1) 0:read=[1]", "0:append(1) 0:read=[1,1]"),
    Pair("list", "initial", "0:append(1) 0:read=[1,1]", "0:append(1) 0:read=[1]", [1]),
    Pair(
        "mutex",
        "tie",
        "0:acquire 1<acquire 1>acquire&0<release 0>release",
        "0:acquire 1<acquire 1>acquire 0<release 0>release",
    ),
    Pair("mutex", "pending", "0:acquire 0<release 1:acquire", "0:acquire 0<release 1:acquire 2:acquire"),
    Pair("mutex", "crashed", "0:acquire? 1:acquire 1:release", "0:acquire? 1:acquire 2:acquire"),
    Pair("mutex", "crashed", "0:acquire? 1:release", "1:release 0:acquire?"),
    Pair("mutex", "failed", "0:acquire!no-leader 1:acquire", "0:acquire 0:release!no-leader 1:acquire"),
    Pair("mutex", "reused", "0:acquire 0:release? 0:acquire", "0:acquire 0:release? 0:acquire 0:acquire"),
    Pair(
        "mutex", "lost", "0<acquire 1<acquire 0>acquire 0:release 1>acquire", "0<acquire 1<acquire 0>acquire 1>acquire"
    ),
    Pair("mutex", "duplicate", "0:acquire 0:release 1:acquire 1:release", "0:acquire 0:release 1:release"),
    Pair("mutex", "initial", "1<acquire 0:release 1>acquire", "1:acquire 0:release", True),
    Pair(
        "owner-mutex",
        "tie",
        "0:acquire 1<acquire 1>acquire&0<release 0>release",
        "0:acquire 1<acquire 1>acquire 0<release 0>release",
    ),
    Pair("owner-mutex", "pending", "0:acquire 0<release 2:acquire", "0:acquire 1<release 2:acquire"),
    Pair("owner-mutex", "crashed", "0:acquire? 1:acquire 1:release", "0:acquire? 1:release"),
    Pair("owner-mutex", "failed", "0:acquire 1:release!not-yours 0:release", "0:acquire 0:release!no-leader 1:acquire"),
    Pair("owner-mutex", "reused", "0:acquire? 0:release", "0:acquire? 0:release 0:release"),
    Pair(
        "owner-mutex",
        "lost",
        "0<acquire 1<acquire 0>acquire 0:release 1>acquire 1:release",
        "0<acquire 1<acquire 0>acquire 1>acquire 0:release 1:release",
    ),
    Pair("owner-mutex", "duplicate", "0:acquire 0:release? 0:release", "0:acquire 0:release 0:release"),
    Pair("owner-mutex", "initial", "1:release 0:acquire", "0:release 1:acquire", 1),
    Pair(
        "fenced-mutex",
        "tie",
        "0:acquire=1 1<acquire 1>acquire=2&0<release(1) 0>release",
        "0:acquire=1 1<acquire 1>acquire=2 0<release(1) 0>release",
    ),
    Pair(
        "fenced-mutex",
        "pending",
        "0:acquire=1 0<release(1) 1:acquire=2",
        "0:acquire=1 0<release(1) 1:acquire=2 2:acquire=3",
    ),
    Pair("fenced-mutex", "crashed", "0:acquire? 1:acquire=2", "0:acquire? 1:acquire=2 2:acquire=3"),
    Pair("fenced-mutex", "crashed", "0:acquire? 1:release(1) 1:acquire=2", "0:acquire? 1:release(3) 1:acquire=2"),
    Pair(
        "fenced-mutex",
        "failed",
        "0:acquire=1 0:release(1) 0:release(1)!lease-lost 1:acquire=2",
        "0:acquire=1 0:release(1)!lease-lost 1:acquire=2",
    ),
    Pair(
        "fenced-mutex",
        "reused",
        "0:acquire=1 0:release(1)? 0:acquire=2",
        "0:acquire=1 0:release(1)? 0:acquire=2 0:acquire=3",
    ),
    Pair(
        "fenced-mutex",
        "lost",
        "0<acquire 1<acquire 0>acquire=1 0:release(1) 1>acquire=2",
        "0<acquire 1<acquire 0>acquire=1 1>acquire=2",
    ),
    Pair(
        "fenced-mutex",
        "stale",
        "0<acquire 1:acquire=2 1:release(2) 0>acquire=3",
        "1:acquire=2 1:release(2) 0<acquire 0>acquire=1",
    ),
    Pair("fenced-mutex", "duplicate", "0:acquire=1 0:release 1:acquire=2", "0:acquire=1 0:release 1:acquire=1"),
    Pair(
        "fenced-mutex",
        "initial",
        "0<acquire 1:acquire=7 1:release(7) 0>acquire=8",
        "0<acquire 1:acquire=7 1:release(7) 0>acquire=5",
        6,
    ),
    Pair(
        "fifo-queue",
        "tie",
        "0<enqueue(1) 0>enqueue&1<enqueue(2) 1>enqueue 2:dequeue=2",
        "0<enqueue(1) 0>enqueue 1<enqueue(2) 1>enqueue 2:dequeue=2",
    ),
    Pair("fifo-queue", "pending", "0<enqueue(1) 1:dequeue=null 1:dequeue=1", "0<enqueue(1) 1:dequeue=1 1:dequeue=1"),
    Pair(
        "fifo-queue",
        "crashed",
        "0:enqueue(1)? 1:enqueue(2) 1:dequeue=2 1:dequeue=1",
        "1:dequeue=1 0:enqueue(1)? 1:enqueue(2) 1:dequeue=2",
    ),
    Pair(
        "fifo-queue",
        "crashed",
        "0:enqueue(1) 0:enqueue(2) 1:dequeue? 2:dequeue=2",
        "0:enqueue(1) 0:enqueue(2) 0:enqueue(3) 1:dequeue? 2:dequeue=3",
    ),
    Pair("fifo-queue", "failed", "0:enqueue(1)!full 1:dequeue=null", "0:enqueue(1)!full 1:dequeue=1"),
    Pair(
        "fifo-queue",
        "failed",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=1",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=null",
    ),
    Pair(
        "fifo-queue",
        "empty",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=null 2>dequeue=1",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=null 2>dequeue=null",
    ),
    Pair(
        "fifo-queue",
        "twice",
        "0:enqueue(1) 0:enqueue(2) 0:enqueue(1) 1:dequeue=1 1:dequeue=2 1:dequeue=1",
        "0:enqueue(1) 0:enqueue(1) 0:enqueue(2) 1:dequeue=1 1:dequeue=2",
    ),
    Pair(
        "fifo-queue",
        "reused",
        "0:enqueue(1)? 0:enqueue(2) 0:dequeue=2 0:dequeue=1",
        "0:enqueue(1)? 0:dequeue=1 0:enqueue(2) 0:dequeue=1",
    ),
    Pair(
        "fifo-queue",
        "lost",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=1",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=null",
    ),
    Pair(
        "fifo-queue",
        "stale",
        "0:enqueue(1) 0:enqueue(2) 1<dequeue 2:dequeue=2 1>dequeue=1",
        "0:enqueue(1) 0:enqueue(2) 2:dequeue=2 1<dequeue 1>dequeue=1",
    ),
    Pair(
        "fifo-queue",
        "duplicate",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=1 2>dequeue=null",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=1 2>dequeue=1",
    ),
    Pair("fifo-queue", "initial", "0:enqueue(1) 1:dequeue=1 1:dequeue=1", "0:enqueue(2) 1:dequeue=2 1:dequeue=1", [1]),
    Pair(
        "queue",
        "tie",
        "0<enqueue(1) 0>enqueue&1<dequeue 1>dequeue=null",
        "0<enqueue(1) 0>enqueue 1<dequeue 1>dequeue=null",
    ),
    Pair("queue", "pending", "0<enqueue(1) 1:dequeue=null 1:dequeue=1", "0<enqueue(1) 1:dequeue=1 1:dequeue=1"),
    Pair(
        "queue",
        "crashed",
        "0:enqueue(1)? 1:enqueue(2) 1:dequeue=1 1:dequeue=2",
        "0:enqueue(1)? 1:enqueue(2) 1:dequeue=1 1:dequeue=1",
    ),
    Pair(
        "queue",
        "crashed",
        "0:enqueue(1) 0:enqueue(2) 1:dequeue? 2:dequeue=1 2:dequeue=null",
        "0:enqueue(1) 0:enqueue(2) 2:dequeue=1 2:dequeue=null 1:dequeue?",
    ),
    Pair("queue", "failed", "0:enqueue(1)!full 1:dequeue=null", "0:enqueue(1)!full 1:dequeue=1"),
    Pair(
        "queue",
        "failed",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=1",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=null",
    ),
    Pair(
        "queue",
        "empty",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=null 2>dequeue=1",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=null 2>dequeue=null",
    ),
    Pair(
        "queue",
        "twice",
        "0:enqueue(1) 0:enqueue(1)? 1:dequeue=1 1:dequeue=1",
        "0:enqueue(1) 0:enqueue(1)? 1:dequeue=1 1:dequeue=1 1:dequeue=1",
    ),
    Pair(
        "queue",
        "reused",
        "0:enqueue(1)? 0:enqueue(2) 0:dequeue=1 0:dequeue=2",
        "0:enqueue(1)? 0:dequeue=1 0:enqueue(2) 0:dequeue=1",
    ),
    Pair(
        "queue",
        "lost",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=1",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=null",
    ),
    Pair(
        "queue",
        "duplicate",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=1 2>dequeue=null",
        "0:enqueue(1) 1<dequeue 2<dequeue 1>dequeue=1 2>dequeue=1",
    ),
    Pair("queue", "initial", "0:dequeue=2 0:dequeue=1 0:dequeue=null", "0:dequeue=2 0:dequeue=null", [1, 2]),
    Pair("stack", "tie", "0<push(1) 0>push&1<push(2) 1>push 2:pop=1", "0<push(1) 0>push 1<push(2) 1>push 2:pop=1"),
    Pair("stack", "pending", "0<push(1) 1:pop=null 1:pop=1", "0<push(1) 1:pop=1 1:pop=1"),
    Pair("stack", "crashed", "0:push(1)? 1:push(2) 1:pop=1 1:pop=2", "0:push(1)? 1:push(2) 1:pop=1 1:pop=1"),
    Pair(
        "stack", "crashed", "0:push(1) 0:push(2) 1:pop? 2:pop=1", "0:push(1) 0:push(2) 0:push(3) 1:pop? 2:pop=1 2:pop=2"
    ),
    Pair("stack", "failed", "0:push(1)!full 1:pop=null", "0:push(1)!full 1:pop=1"),
    Pair("stack", "failed", "0:push(1) 1:pop!no-leader 1:pop=1", "0:push(1) 1:pop!no-leader 1:pop=null"),
    Pair(
        "stack",
        "empty",
        "0:push(1) 1<pop 2<pop 1>pop=null 2>pop=1",
        "0:push(1) 1<pop 2<pop 1>pop=null 2>pop=null",
    ),
    Pair(
        "stack",
        "twice",
        "0:push(1) 0:push(2) 0:push(1) 1:pop=1 1:pop=2 1:pop=1",
        "0:push(1) 0:push(1) 0:push(2) 1:pop=1 1:pop=2 1:pop=1",
    ),
    Pair("stack", "reused", "0:push(1)? 0:push(2) 0:pop=2 0:pop=1", "0:push(1)? 0:pop=1 0:push(2) 0:pop=1"),
    Pair(
        "stack",
        "lost",
        "0<push(1) 1<push(2) 0>push 1>push 0:pop=1 0:pop=2",
        "0<push(1) 1<push(2) 0>push 1>push 0:pop=1 0:pop=null",
    ),
    Pair("stack", "stale", "0:push(1) 1<pop 0:push(2) 1>pop=1", "0:push(1) 0:push(2) 1<pop 1>pop=1"),
    Pair(
        "stack",
        "duplicate",
        "0:push(1) 1<pop 2<pop 1>pop=1 2>pop=null",
        "0:push(1) 1<pop 2<pop 1>pop=1 2>pop=1",
    ),
    Pair("stack", "initial", "0:push(1) 1:pop=1 1:pop=1", "0:push(2) 1:pop=1 1:pop=2", [1]),
    Pair("set", "tie", "0<add(1) 0>add&1<read 1>read=[]", "0<add(1) 0>add 1<read 1>read=[]"),
    Pair(
        "set",
        "pending",
        "0<add(1) 1:contains(1)=false 1:contains(1)=true",
        "0<add(1) 1:contains(1)=true 1:contains(1)=false",
    ),
    Pair("set", "crashed", "0:add(1)? 1:add(2) 1:read=[2] 1:read=[1,2]", "0:add(1)? 1:add(2) 1:read=[1,2] 1:read=[2]"),
    Pair("set", "crashed", "0:add(1) 0:remove(1)? 1:read=[1] 1:read=[]", "0:add(1) 0:remove(1)? 1:read=[] 1:read=[1]"),
    Pair("set", "failed", "0:add(1)!no-leader 1:read=[]", "0:add(1)!no-leader 1:read=[1]"),
    Pair("set", "twice", "0:add(1) 0:add(1) 0:remove(1) 1:read=[]", "0:add(1) 0:add(1) 0:remove(1) 1:read=[1]"),
    Pair(
        "set",
        "reused",
        "0:add(1)? 0:contains(1)=false 0:contains(1)=true",
        "0:add(1)? 0:contains(1)=true 0:contains(1)=false",
    ),
    Pair("set", "lost", "0<add(1) 1<add(2) 0>add 1>add 0:read=[2,1]", "0<add(1) 1<add(2) 0>add 1>add 0:read=[2]"),
    Pair("set", "stale", "0:add(1) 1<read 0:remove(1) 1>read=[1]", "0:add(1) 0:remove(1) 1<read 1>read=[1]"),
    Pair("set", "duplicate", "0:add(1) 0:add(1) 1:read=[1]", "0:add(1) 0:add(1) 1:read=[1,1]"),
    Pair("set", "initial", "0:add(1) 0:remove(2) 0:read=[1]", "0:remove(1) 0:remove(2) 0:read=[1]", [1, 2]),
    Pair("counter", "tie", "0<add(1) 0>add&1<read 1>read=0", "0<add(1) 0>add 1<read 1>read=0"),
    Pair("counter", "pending", "0<add(1) 1:read=0 1:read=1", "0<add(1) 1:read=1 1:read=0"),
    Pair("counter", "crashed", "0:add(2)? 1:add(1) 1:read=1 1:read=3", "0:add(2)? 1:add(1) 1:read=2"),
    Pair("counter", "failed", "0:add(1)!no-leader 1:read=0", "0:add(1)!no-leader 1:read=1"),
    Pair("counter", "twice", "0:add(1) 1:add(1) 1:read=2", "0:add(1) 1:add(1) 1:read=1"),
    Pair("counter", "reused", "0:add(1)? 0:read=0 0:read=1", "0:add(1)? 0:read=1 0:read=0"),
    Pair("counter", "lost", "0<add(1) 1<add(2) 0>add 1>add 0:read=3", "0<add(1) 1<add(2) 0>add 1>add 0:read=2"),
    Pair("counter", "stale", "0:add(1) 1<read 0:add(-1) 1>read=1", "0:add(1) 0:add(-1) 1<read 1>read=1"),
    Pair("counter", "duplicate", "0:add(1) 0:read=1", "0:add(1) 0:read=2"),
    Pair("counter", "initial", "0:add(1)? 0:read=10 0:read=11", "0:add(1)? 0:read=0 0:read=1", 10),
    Pair(
        "total-queue",
        "tie",
        "1<dequeue 1>dequeue=1&0<enqueue(1) 0>enqueue",
        "1<dequeue 1>dequeue=1 0<enqueue(1) 0>enqueue",
    ),
    Pair("total-queue", "pending", "0<enqueue(1) 1:dequeue=1", "0<enqueue(1) 1:dequeue=1 1:dequeue=1"),
    Pair("total-queue", "pending", "0<enqueue(1) 1:dequeue=null", "1:dequeue=1 0<enqueue(1)"),
    Pair(
        "total-queue",
        "crashed",
        "0:enqueue(1)? 1:enqueue(2) 1:dequeue=2",
        "0:enqueue(1)? 1:enqueue(2) 1:dequeue=1",
    ),
    Pair(
        "total-queue",
        "failed",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=1",
        "0:enqueue(1) 1:dequeue!no-leader 1:dequeue=null",
    ),
    Pair(
        "total-queue",
        "twice",
        "0:enqueue(1) 0:enqueue(1)? 1:dequeue=1 1:dequeue=1",
        "0:enqueue(1) 0:enqueue(1) 1:dequeue=1",
    ),
    Pair(
        "total-queue",
        "reused",
        "0:enqueue(1)? 0:enqueue(2) 0:dequeue=2 0:dequeue=1",
        "0:enqueue(1)? 0:enqueue(2) 0:dequeue=1",
    ),
    Pair(
        "total-queue",
        "lost",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=1",
        "0<enqueue(1) 1<enqueue(2) 0>enqueue 1>enqueue 0:dequeue=2 0:dequeue=null",
    ),
    Pair(
        "total-queue",
        "duplicate",
        "0:enqueue(1) 1:take=[1,1] 2:take=[1,2] 2:dequeue(1)",
        "0:enqueue(1) 1:take=[1,1] 2:take=[1,1] 2:dequeue(1)",
    ),
    Pair("total-queue", "initial", "0:enqueue(1) 1:dequeue=1 1:dequeue=1", "0:enqueue(2) 1:dequeue=2", [1]),
    Pair(
        "key-order",
        "tie",
        '0<enqueue(["a",1]) 0>enqueue&1<enqueue(["a",2]) 1>enqueue 2:dequeue=["a",2] 2:dequeue=["a",1]',
        '0<enqueue(["a",1]) 0>enqueue 1<enqueue(["a",2]) 1>enqueue 2:dequeue=["a",2] 2:dequeue=["a",1]',
    ),
    Pair(
        "key-order",
        "pending",
        '0<enqueue(["a",1]) 1:enqueue(["a",2]) 1:dequeue=["a",2] 1:dequeue=["a",1]',
        '0:enqueue(["a",1]) 1:enqueue(["a",2]) 1:dequeue=["a",2] 1<dequeue',
    ),
    Pair(
        "key-order",
        "crashed",
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 1:dequeue? 2:dequeue=["a",2]',
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 2:dequeue=["a",2] 1:dequeue?',
    ),
    Pair(
        "key-order",
        "failed",
        '0:enqueue(["a",1])!full 0:enqueue(["a",2]) 1:dequeue=["a",2]',
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 1:dequeue!no-leader 1:dequeue=["a",2]',
    ),
    Pair(
        "key-order",
        "twice",
        '0:enqueue(["a",1]) 0:enqueue(["a",1]) 0:enqueue(["a",2]) 1:dequeue=["a",2]',
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 0:enqueue(["a",2]) 1:dequeue=["a",2]',
    ),
    Pair(
        "key-order",
        "reused",
        '0:enqueue(["a",1])? 0:enqueue(["a",2]) 0:dequeue=["a",2] 0:dequeue=["a",1]',
        '0:enqueue(["a",1])? 0:enqueue(["a",2]) 0:enqueue(["a",3]) 0:dequeue=["a",3] 0:dequeue=["a",2]',
    ),
    Pair(
        "key-order",
        "lost",
        '0<enqueue(["a",1]) 1<enqueue(["a",2]) 0>enqueue 1>enqueue 2:dequeue=["a",2]',
        '0<enqueue(["a",1]) 0>enqueue 1<enqueue(["a",2]) 1>enqueue 2:dequeue=["a",2]',
    ),
    Pair(
        "key-order",
        "stale",
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 1<dequeue 2:dequeue=["a",2] 1>dequeue=["a",1]',
        '0:enqueue(["a",1]) 0:enqueue(["a",2]) 2:dequeue=["a",2] 1<dequeue 1>dequeue=["a",1]',
    ),
    Pair(
        "key-order",
        "initial",
        '0:enqueue(["a",3]) 1:dequeue=["a",1] 1:dequeue=["a",2] 1:dequeue=["a",3]',
        '0:enqueue(["a",3]) 1:dequeue=["a",1] 1:dequeue=["a",3] 1:dequeue=["a",2]',
        [["a", 1], ["a", 2]],
    ),
    Pair(
        "unique-ids",
        "tie",
        "0<generate 0>generate=1&1<generate 1>generate=2",
        "0<generate 0>generate=1&1<generate 1>generate=1",
    ),
    Pair("unique-ids", "pending", "0<generate 1:generate=1", "0<generate 1:generate=1 2:generate=1"),
    Pair("unique-ids", "crashed", "0:generate? 1:generate=1", "0:generate? 1:generate=1 2:generate=1"),
    Pair("unique-ids", "failed", "0:generate!full 1:generate=1", "0:generate!full 1:generate=1 2:generate=1"),
    Pair("unique-ids", "reused", "0:generate? 0:generate=1 0:generate=2", "0:generate? 0:generate=1 0:generate=1"),
    Pair(
        "unique-ids",
        "duplicate",
        "0<generate 1<generate 0>generate=1 1>generate=2",
        "0<generate 1<generate 0>generate=1 1>generate=1",
    ),
    Pair("unique-ids", "initial", "0:generate=2 1:generate=3", "0:generate=2 1:generate=1", [1]),
]


def written(text: str) -> list[Event]:
    """The history that is written down in steps."""
    recorder = Recorder()
    time = 0
    for instant in text.split():
        for step in instant.split("&"):
            time = _record(recorder, time, step)
        time += 1
    return recorder.events()


def _record(recorder: Recorder, time: int, step: str) -> int:
    """Record one step from `time` on, and return when it ended."""
    found = STEP.fullmatch(step)
    assert found is not None, step
    process, part, f, argument, answered, result, unknown, failed, error = found.groups()
    if part != ">":
        recorder.add(time, int(process), "invoke", f, "x", None if argument is None else json.loads(argument))
    if part == "<":
        return time
    end = time if part == ">" else time + 1
    value = None if result is None else json.loads(result)
    recorder.add(end, int(process), TYPES[answered or unknown or failed], f, "x", value, error)
    return end


def judged(pair: Pair, text: str) -> str:
    return check(written(text), pair.model, pair.initial).verdict


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.model}-{pair.kind}")
def test_the_right_one_is_valid_and_the_wrong_one_invalid(pair: Pair) -> None:
    assert (judged(pair, pair.right), judged(pair, pair.wrong)) == ("valid", "invalid"), pair


def test_every_model_has_a_right_and_a_wrong_history_of_each_kind_that_applies() -> None:
    expected = {(model, kind) for kind, models in KINDS.items() for model in models}
    assert {(pair.model, pair.kind) for pair in PAIRS} == expected


def test_steps_are_written_as_told() -> None:
    events = written('0<cas([1,"a"]) 1:read=[1,{"k":2}] 0>cas!precondition-failed&1<read')
    rows = [(e.time, e.process, e.type, e.f, e.value, e.error) for e in events]
    assert rows == [
        (0, 0, "invoke", "cas", [1, "a"], None),
        (1, 1, "invoke", "read", None, None),
        (2, 1, "ok", "read", [1, {"k": 2}], None),
        (3, 1, "invoke", "read", None, None),
        (3, 0, "fail", "cas", None, "precondition-failed"),
    ]
