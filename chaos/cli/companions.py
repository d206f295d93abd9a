"""The commands beside a running `testbed up`: each asks its supervisor, and returns once the effect was seen.

They know the console and how to show its answers; what a request does is decided by the supervisor.
"""

import sys
import textwrap
from pathlib import Path
from typing import Any, Final

import click

from chaos.cli.answers import UNKNOWN, VALID, Answer, answering
from chaos.console import Act, Down, Heal, Partition, Place, Status, Verb, ask
from testbed.base.links import Cut

WIDTH: Final = 80
LINKS_SHOWN_MAX: Final = 24
_TARGET_HELP: Final = "NODE: ids separated by commas, or a word: leader, followers, one, minority, majority, all."


def _place() -> Place:
    return Place(Path.cwd())


@click.command()
@answering
def status(answer: Answer) -> int:
    """How the nodes of this directory's cluster are.

    Exit status 0 once it is ready: every node is up, except those that were killed or paused by command, and the nodes,
    if they elect, have had a leader. 2 while it is not. 254 where there is no cluster.
    """
    told = ask(_place(), Status())
    answer.result(told["status"], table(told["status"]))
    if not told["ready"]:
        answer.progress(f"testbed status: not ready: {told['waits_for']}")
    return VALID if told["ready"] else UNKNOWN


def _act(answer: Answer, verb: Verb, target: str) -> int:
    told = ask(_place(), Act(verb, target))
    done = {"kill": "killed", "pause": "paused", "resume": "resumed", "restart": "restarted"}[verb]
    if told["nodes"]:
        text = f"{', '.join(told['nodes'])} {done} in {told['seconds'] * 1000:.0f} ms"
    else:
        text = f"nothing to do: {told['note']}"
    answer.result(told, text)
    return VALID


@click.command(epilog=_TARGET_HELP)
@click.argument("target", metavar="NODE")
@answering
def kill(answer: Answer, target: str) -> int:
    """End nodes at once (SIGKILL); they stay down until restart. Returns when they are gone."""
    return _act(answer, "kill", target)


@click.command(epilog=_TARGET_HELP)
@click.argument("target", metavar="NODE")
@answering
def pause(answer: Answer, target: str) -> int:
    """Stop nodes in their tracks (SIGSTOP). Returns when they are seen stopped."""
    return _act(answer, "pause", target)


@click.command()
@click.argument("target", metavar="NODE")
@answering
def resume(answer: Answer, target: str) -> int:
    """Let paused nodes go on (SIGCONT): ids, or all."""
    return _act(answer, "resume", target)


@click.command(epilog=_TARGET_HELP)
@click.argument("target", metavar="NODE")
@answering
def restart(answer: Answer, target: str) -> int:
    """Kill nodes, unless they are down, and start them. Returns when they are up."""
    return _act(answer, "restart", target)


@click.command()
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice(["drop", "hold", "reset"]),
    default="drop",
    help="drop: lost (the default); hold: delivered after the heal; reset: connection refused.",
)
@answering
def partition(answer: Answer, groups: tuple[str, ...], mode: Cut) -> int:
    """Cut the links between groups of nodes, such as n1,n2 n3,n4,n5; one group is cut off from all the others.

    Adds to earlier partitions. A node in no group keeps its links. Returns when the nodes obey.
    """
    told = ask(_place(), Partition(list(groups), mode))
    sides = " | ".join(",".join(side) for side in told["groups"])
    answer.result(told, f"cut ({mode}): {sides} in {told['seconds'] * 1000:.0f} ms")
    return VALID


@click.command()
@answering
def heal(answer: Answer) -> int:
    """Heal all partitions. Returns when the nodes obey."""
    told = ask(_place(), Heal())
    answer.result(told, f"healed {told['links']} links in {told['seconds'] * 1000:.0f} ms")
    return VALID


@click.command()
@answering
def down(answer: Answer) -> int:
    """Stop this directory's cluster; what its nodes keep stays in .testbed/nodes. Returns when everything is gone."""
    told = ask(_place(), Down())
    answer.result(told, "the cluster is down")
    return VALID


# --- for people ---


def table(status: dict[str, Any]) -> str:
    """The answer to `status` in at most 80 columns; colours on a terminal."""
    head = f"{'node':<5}{'state':<10}{'role':<11}{'term':>6}{'incarnation':>13}{'pid':>9}  what"
    lines = [head, *(_row(node) for node in status["nodes"])]
    lines.append(f"leader: {status['leader'] or 'nobody leads'}")
    lines += _links(status["links"])
    return "\n".join(lines)


def _row(node: dict[str, Any]) -> str:
    shown = {key: "-" if node[key] is None else str(node[key]) for key in ("role", "term", "pid")}
    strange = [f"{peer} {state}" for peer, state in node["views"].items() if state != "alive"]
    what = node["note"] or ("sees " + ", ".join(strange) if strange and node["state"] == "up" else "")
    state = f"{node['state']:<10}"
    if sys.stdout.isatty():
        colour = {"up": "green", "down": "red"}.get(node["state"], "yellow")
        state = click.style(state, fg=colour)
    row = f"{node['id']:<5}{state}{shown['role']:<11}{shown['term']:>6}{node['incarnation']:>13}{shown['pid']:>9}  "
    return (row + textwrap.shorten(what, WIDTH - 56, placeholder=" …")).rstrip()


def _links(links: list[dict[str, Any]]) -> list[str]:
    if not links:
        return []
    shown = [f"{link['source']}>{link['target']} {link['cut']}" for link in links[:LINKS_SHOWN_MAX]]
    more = f" and {len(links) - len(shown)} more" if len(links) > len(shown) else ""
    return textwrap.wrap(f"links: {', '.join(shown)}{more}", WIDTH, subsequent_indent="       ")
