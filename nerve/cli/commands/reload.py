"""`nerve reload`: look at nerve.yaml and all senses now, as if every file had changed."""

from __future__ import annotations

import click

from nerve.cli.options import workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import Reloaded, ReloadFiles
from nerve.errors import NerveError
from nerve.events.payload import printable

ANSWER_SECONDS = 30.0


@click.command()
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Load nerve.yaml and all senses anew, as if every file had changed.

    The engine does it by itself when a file changes; this is for file systems that don't tell (some network mounts),
    and for senses that read other files when they are loaded. What is broken stays as it was: exit 1.

    \b
    Example:
      nerve reload
    """
    workspace = workspace_of(ctx)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(ReloadFiles())
        done = client.expect(Reloaded, ANSWER_SECONDS)
    for change in done.changes:
        click.echo(f"nerve: {printable(change)}")
    unit = "sense" if len(done.senses) == 1 else "senses"
    click.echo(f"nerve: {len(done.senses)} {unit} loaded anew: {', '.join(done.senses) or 'none'}")
    if done.problems:
        raise NerveError(
            "\n".join(["what is broken stays as it was:", *(f"  {printable(line)}" for line in done.problems)])
        )
