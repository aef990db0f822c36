"""The command line: parse, call, render. Each command is imported only when it is used, so that all start quickly."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from pathlib import Path

import click

from nerve.cli.console import discard_output, open_missing_streams
from nerve.errors import NerveError
from nerve.escaping import escape_lines
from nerve.version import __version__

COMMANDS = {
    "init": "Create a workspace with working senses.",
    "check": "Validate nerve.yaml and the senses.",
    "start": "Run the engine in the foreground.",
    "status": "Show the state of the running engine.",
    "trigger": "Run a sense now.",
    "scale": "Set the number of workers.",
    "reload": "Reload nerve.yaml and all senses.",
    "logs": "Query the log.",
    "trace": "Show a run's causes and effects.",
    "code": "Print the source of a version that ran.",
    "stats": "Show runs, failures and durations per sense.",
    "archive": "Move old entries to the archive now.",
    "verify": "Check the integrity of the log and its archive.",
    "restore": "Load an archived day into a separate database.",
    "stop": "Stop the running engine.",
}


_OUTPUT_ERRORS = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})
"""Errors that name no file and come from standard output: databases and sockets have exceptions of their own."""


class LazyGroup(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command from the module of the same name; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"nerve.cli.commands.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"nerve.cli.commands.{cmd_name}.{cmd_name} is not a command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error becomes a message on stderr and an exit code, unless --debug is given."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # as with `nerve status --watch | head`: the reader has what it wants
            discard_output()
            ctx.exit(0)
        except (NerveError, OSError, KeyboardInterrupt) as error:
            if ctx.params["debug"]:
                raise
            _show(error)
            ctx.exit(error.exit_code if isinstance(error, NerveError) else 1)
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Workspace directory. Default: $NERVE_HOME, or the nearest parent directory with a nerve.yaml.",
)
@click.option("--debug", is_flag=True, help="Show a traceback if the command fails.")
@click.version_option(__version__, prog_name="nerve")
@click.pass_context
def nerve(ctx: click.Context, home: Path | None, debug: bool) -> None:
    """An observation engine: senses observe, reflexes decide when they run, and the log records it all.

    \b
    Example:
      nerve init my-workspace && cd my-workspace
      nerve start
      nerve logs -f          (in another terminal)
    """
    ctx.obj = home


def main() -> None:
    """Run the command line, and exit."""
    open_missing_streams()
    try:
        code = nerve.main(standalone_mode=False)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        click.echo(escape_lines(text.getvalue().rstrip("\n")), err=True)
        code = error.exit_code
    except (OSError, click.Abort) as error:
        _show(error)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: BaseException) -> None:
    """Print what went wrong in one line, or in several if the error has several."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        text = "interrupted"
    elif isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        is_output = _output_fails() or (not place and error.errno in _OUTPUT_ERRORS)
        text = f"can't write the output: {error.strerror}" if is_output else f"{place}{error.strerror or error}"
    else:
        text = str(error)
    click.echo(escape_lines(f"nerve: {text}"), err=True)


def _output_fails() -> bool:
    """Return True if standard output can't take what has been written to it; it is then discarded."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
        return True
    return False
