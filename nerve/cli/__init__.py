"""The command line: parse, call, render; each command is loaded when it is used, so that all of them start at once."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from nerve.errors import NerveError
from nerve.version import __version__

COMMANDS = {
    "init": "Make a workspace with working senses.",
    "check": "Validate nerve.yaml and the senses.",
    "start": "Run the engine in the foreground.",
    "status": "Show how the running engine is.",
    "trigger": "Run a sense now.",
    "scale": "Change the number of workers.",
    "reload": "Load nerve.yaml and the senses anew.",
    "logs": "Ask the log.",
    "trace": "Show where a run came from, and what came of it.",
    "stats": "Show how the senses do.",
    "archive": "Move old entries to the archive now.",
    "verify": "Check that the log and its archive are whole.",
    "restore": "Load an archived day into a database of its own.",
    "stop": "Stop the running engine.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command from the module of its name."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"nerve.cli.commands.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a failure that a person can mend is one line on stderr, and its exit code."""
        try:
            return super().invoke(ctx)
        except NerveError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"nerve: {error}", err=True)
            ctx.exit(error.exit_code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="The workspace; else $NERVE_HOME, else the nearest nerve.yaml upwards.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of failures.")
@click.version_option(__version__, prog_name="nerve")
@click.pass_context
def nerve(ctx: click.Context, home: Path | None, debug: bool) -> None:
    """Nerve observes: senses look at the world, reflexes decide when, and the log keeps everything.

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
