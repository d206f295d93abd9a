"""The reference of scenario files, docs/SCENARIOS.md, made from the tables by which they are read.

`python -m chaos.scenario_reference > docs/SCENARIOS.md` writes it anew. Knows how to put keys into words; what they
are, and what is refused, is in `chaos.scenario`.
"""

import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from chaos.custom_faults import CustomFault
from chaos.faults import KINDS, MODE_MEANINGS, SHAPE_MEANINGS
from chaos.scenario import (
    BUILTIN_WORKLOADS,
    CLUSTER_KEYS,
    CUSTOM_FAULT_KEYS,
    FAULT_KEYS,
    TOP_KEYS,
    WORKLOAD_KEYS,
)
from chaos.settings import REQUIRED, Key
from chaos.targets import WORD_MEANINGS
from testbed.base.durations import format_duration

EXAMPLE: Final = """\
name = "everyday"
duration = "30s"

[cluster]
nodes = 5
heartbeat = "100ms"
election_timeout = "1s"

[[workload]]
kind = "kv"
clients = 5
rate = 200

[[workload]]
kind = "lock"
clients = 3
rate = 30
lease = "500ms"

[[fault]]
kind = "kill"
target = "leader"
every = "8s"
for = "2s"

[[fault]]
kind = "partition"
target = ["n1", "n2"]
mode = "reset"
at = "10s"
for = "3s"

[[fault]]
kind = "delay"
target = "minority"
delay = "20ms"
jitter = "30ms"
every = "9s"
for = "3s"
"""

CUSTOM_MODULE: Final = '''\
from chaos import CustomFault


class CrashLoop(CustomFault):
    """Each node is killed several times in a row, whenever it has come up again."""

    options = {"times": 3}

    def check(self):
        if self.options["times"] < 1:
            raise ValueError("times: must be at least 1")

    def begin(self):
        self.killed = {node: [] for node in self.nodes}  # the processes

    def in_effect(self):
        for node, killed in self.killed.items():
            status = self.status(node)
            if status.state == "up" and status.pid not in killed and len(killed) < self.options["times"]:
                killed.append(status.pid)
                self.kill(node)
                self.start(node)  # as soon as it is down
        left = sum(self.options["times"] - len(killed) for killed in self.killed.values())
        return f"{left} kills are left" if left else True
'''

CUSTOM_EXAMPLE: Final = """\
duration = "20s"

[cluster]
nodes = 3

[[workload]]
kind = "kv"

[[fault]]
kind = "crash_loop:CrashLoop"
target = "one"
every = "6s"
for = "4s"
times = 2                        # an option of CrashLoop
"""

_HOOKS: Final = ("check", "begin", "in_effect", "end", "healed")
_ACTS: Final = ("kill", "terminate", "start", "pause", "resume", "cut", "skip")
_SIGHTS: Final = ("now", "all_nodes", "status", "pid", "directory")


def reference() -> str:
    """All of docs/SCENARIOS.md."""
    parts = [
        _TOP,
        f"```toml\n{EXAMPLE}```",
        _WRITING,
        "## Top level",
        _keys(TOP_KEYS.values()),
        "## `[cluster]`",
        _keys(CLUSTER_KEYS.values()),
        _CLUSTER,
        "## `[[workload]]`",
        _keys(WORKLOAD_KEYS.values()),
        *_workloads(),
        "## `[[fault]]`",
        _keys(FAULT_KEYS[name] for name in CUSTOM_FAULT_KEYS),
        _FAULT,
        "### Targets",
        _meanings("target", WORD_MEANINGS),
        "### Kinds",
        _kinds(),
        "### Their further keys",
        _keys(key for name, key in FAULT_KEYS.items() if name not in CUSTOM_FAULT_KEYS),
        "### Shapes of a partition",
        _meanings("shape", SHAPE_MEANINGS),
        "A partition never cuts the links of clients. What becomes of messages over a cut link is its mode:",
        _meanings("mode", MODE_MEANINGS),
        *_custom(),
        _PINNED,
    ]
    return "\n\n".join(parts) + "\n"


_TOP: Final = """\
# Scenario files

<!-- Made by `python -m chaos.scenario_reference`, from the tables by which scenarios are read. -->

A scenario is a TOML file: a cluster, who uses it, and what goes wrong meanwhile. `testbed run` runs it, `--world sim`
in simulation, `testbed sim` in many variants, and `testbed run --dry-run` prints what would go wrong when. Whatever is
wrong with a file is told in one line that names file, key and reason (exit status 254)."""

_WRITING: Final = """\
A duration is a string such as `"1500ms"`, `"5s"` or `"2m"`. A key that is not known is refused. The nodes are called
`n1`, `n2` and so on."""

_CLUSTER: Final = """\
The built-in node, `testbed:ServiceNode`, has these options: `snapshot_entries` (applied entries behind which a snapshot
is taken), `trailing_entries` (kept in the log behind it), `session_ttl` (seconds after which a client that is not heard
of is forgotten)."""

_FAULT: Final = """\
Either `every` or `at` says when. The faults of an `every` end before the run does, so that recovery from the last one
is seen; one with `at` is taken at its word. Faults may overlap, also with themselves: then they add up. Each one is
seen in effect and seen healed, or does not count (see the check `coverage`)."""

_CUSTOM: Final = """\
While it lasts, its nodes count as away: writes are owed by a majority of the others, where there is one. A process that
ends without having been ended by the methods here is a crash, and makes the run invalid. A fault that raises in `begin`
or never comes into effect does not count; one that raises in `end`, or is never healed, makes the verdict unknown, and
all others are healed all the same."""

_PINNED: Final = """\
## Files that the testbed writes

A minimal schedule (`minimal.toml`) and a variant of the swarm are files of this form, too, in which each fault has `at`
and names. They can be read, edited and run like any other."""


def _workloads() -> Iterable[str]:
    yield "The built-in kinds, and their further keys:"
    for name, keys in BUILTIN_WORKLOADS.items():
        yield f"### `{name}`"
        yield _keys(keys.values()) if keys else "No further keys."
    yield "### A workload of your own"
    yield "All further keys are its options, as they are: `self.options` of your `chaos.Workload`."


def _custom() -> Iterable[str]:
    yield "### A kind of your own"
    yield (
        "`kind` names a class, looked up beside the scenario file first; all keys but "
        f"{', '.join(f'`{key}`' for key in CUSTOM_FAULT_KEYS)}\nare its options."
    )
    yield f"<!-- file: crash_loop.py -->\n```python\n{CUSTOM_MODULE}```"
    yield f"<!-- file: crash_loop.toml -->\n```toml\n{CUSTOM_EXAMPLE}```"
    yield _prose(CustomFault)
    yield _CUSTOM
    yield _methods("what it says", _HOOKS)
    yield _methods("what it may do", _ACTS)
    yield _methods("what it may look at", _SIGHTS)


def _prose(described: object) -> str:
    return inspect.getdoc(described) or ""


def _methods(title: str, names: Iterable[str]) -> str:
    rows = []
    for name in names:
        found = inspect.getattr_static(CustomFault, name)
        signature = "" if isinstance(found, property) else _signature(found)
        rows.append((f"`{name}{signature}`", " ".join(_prose(found).split())))
    return _table((title, "meaning"), rows)


def _signature(method: object) -> str:
    assert callable(method)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return f"({', '.join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters)})"


def _kinds() -> str:
    rows = [
        (f"`{kind.name}`", kind.description, ", ".join(f"`{key}`" for key in kind.keys) or "none")
        for kind in KINDS.values()
    ]
    return _table(("kind", "what it does", "further keys"), rows)


def _meanings(title: str, meanings: Mapping[Any, str]) -> str:
    return _table((title, "meaning"), [(f"`{word}`", meaning) for word, meaning in meanings.items()])


def _keys(keys: Iterable[Key]) -> str:
    rows = [(f"`{key.name}`", _form(key), _default(key), key.meaning) for key in keys]
    return _table(("key", "form", "default", "meaning"), rows)


def _form(key: Key) -> str:
    """What may be written, with its bounds."""
    if key.words:
        return f"one of {', '.join(f'`{word}`' for word in key.words)}"
    form = "`true` or `false`" if key.form == "flag" else key.form
    low, high = (f"`{_amount(key, bound)}`" if bound is not None else "" for bound in (key.low, key.high))
    if high:
        return f"{form} from {low} to {high}"
    return f"{form} of at least {low}" if low else form


def _default(key: Key) -> str:
    match key.default:
        case _ if key.default is REQUIRED:
            return "must be given"
        case None | () | {}:
            return "none"
        case bool():
            return f"`{str(key.default).lower()}`"
        case str() if key.name == "name":
            return key.default
        case str():
            return f'`"{key.default}"`'
        case _:
            return f"`{_amount(key, key.default)}`"


def _amount(key: Key, amount: float) -> str:
    """A bound or a default, as it would be written in a file."""
    return f'"{format_duration(amount)}"' if key.form == "duration" else str(amount).removesuffix(".0")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
