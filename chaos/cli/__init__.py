"""The command line: `main`, and which module holds which command.

A command's module is imported when the command is called, so that `testbed status` loads neither ZeroMQ nor judges.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import click

from chaos.cli.answers import ALONE, FAULT, INTERRUPTED, USAGE, VALID, one_line
from testbed.base.errors import UsageError

COMMANDS: Final[dict[str, tuple[str, str]]] = {  # name -> (module:object, what `--help` says), in that order
    "demo": ("chaos.cli.run:demo", "Five nodes under kills, pauses and partitions, and a verdict. About 30 s."),
    "run": ("chaos.cli.run:run", "Run a scenario: a cluster, clients, faults, and a verdict."),
    "up": ("chaos.cli.up:up", "Start a cluster in this directory and supervise it until it is told to stop."),
    "status": ("chaos.cli.companions:status", "How the nodes of this directory's cluster are."),
    "kill": ("chaos.cli.companions:kill", "End nodes at once (SIGKILL); they stay down until restart."),
    "pause": ("chaos.cli.companions:pause", "Stop nodes in their tracks (SIGSTOP)."),
    "resume": ("chaos.cli.companions:resume", "Let paused nodes go on (SIGCONT)."),
    "restart": ("chaos.cli.companions:restart", "Kill nodes, unless they are down, and start them."),
    "partition": ("chaos.cli.companions:partition", "Cut the links between groups of nodes."),
    "heal": ("chaos.cli.companions:heal", "Heal all partitions."),
    "logs": ("chaos.cli.logs:logs", "All logs of a run or a cluster, merged in causal order."),
    "down": ("chaos.cli.companions:down", "Stop this directory's cluster."),
    "sim": ("chaos.cli.sim:sim", "Simulate a scenario under many seeds, on virtual time."),
    "replay": ("chaos.cli.again:replay", "Run a kept run's schedule again."),
    "report": ("chaos.cli.report:report", "Write a run's report: one HTML file that opens offline."),
    "explain": ("chaos.cli.explain:explain", "Follow one client operation of a run through the nodes."),
    "shrink": ("chaos.cli.again:shrink", "Find the smallest schedule with which a run still fails."),
    "bugs": ("chaos.cli.bugs:bugs", "Plant known bugs, one at a time, and see that each is caught."),
    "check": ("chaos.cli.judge:check", "Judge a history by a model."),
    "convert": ("chaos.cli.convert:convert", "Write a history in another format: JSON lines or EDN."),
    "list": ("chaos.cli.catalogue:list_", "What there is: faults, workloads, models, bugs."),
    "doctor": ("chaos.cli.doctor:doctor", "What this machine can and cannot do, and what that means."),
    "cleanup": ("chaos.cli.cleanup:cleanup", "End what dead supervisors left behind."),
}


class _Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from chaos.settings import suggest

            raise click.UsageError(f"no such command {args[0]!r}{suggest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"testbed {version('testbed')}")
        except PackageNotFoundError:
            click.echo("testbed (a checkout that is not installed)")
        ctx.exit()


@click.group(cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="The version."
)
def testbed() -> None:
    """A fault-tolerance lab that fits on one machine: real node processes, faults, and judges.

    Exit status: 0 valid, 1 invalid, 2 unknown, 254 the caller's mistake, 255 a fault of the testbed itself.
    """


def call(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line (without the program's name; the process's own by default); its exit status."""
    try:
        # Not `testbed.main`: it ends with 1, which means invalid here, when nobody reads its output any more.
        words = sys.argv[1:] if arguments is None else list(arguments)
        with testbed.make_context("testbed", words, obj=None if arguments is not None else ALONE) as context:
            status: Any = testbed.invoke(context)
        sys.stdout.flush()
        return status if isinstance(status, int) else VALID
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        where: click.Context | None = getattr(error, "ctx", None)
        _complain(where.command_path if where is not None else "testbed", error.format_message())
        return USAGE
    except UsageError as error:
        _complain("testbed", str(error))
        return USAGE
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return VALID
    except Exception as error:
        return _confess(error)


def _complain(who: str, reason: str) -> None:
    click.echo(f"{who}: {one_line(reason)}", err=True)


def _confess(error: Exception) -> int:
    """A fault of the testbed itself: what an engineer needs to find it, unless the supervisor has printed it."""
    if type(error).__name__ != "SupervisorFault":
        import traceback

        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    _complain("testbed: a fault of the testbed itself", f"{type(error).__name__}: {error}")
    return FAULT


def main() -> None:
    """The installed command."""
    sys.exit(call())
