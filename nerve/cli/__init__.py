"""The command line: parse, call, render. Each command is imported only when it is used, so that all start quickly."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from nerve.errors import NerveError
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
    "stats": "Show runs, failures and durations per sense.",
    "archive": "Move old entries to the archive now.",
    "verify": "Check the integrity of the log and its archive.",
    "restore": "Load an archived day into a separate database.",
    "stop": "Stop the running engine.",
}


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
        """Run the command; a NerveError becomes a message on stderr and an exit code, unless --debug is given."""
        try:
            return super().invoke(ctx)
        except NerveError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"nerve: {error}", err=True)
            ctx.exit(error.exit_code)

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
    """Run the command line."""
    nerve.main()
