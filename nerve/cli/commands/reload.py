"""`nerve reload`: reload nerve.yaml and all senses now, as if every file had changed."""

from __future__ import annotations

import click

from nerve.cli.console import say
from nerve.cli.options import counted, workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import Reloaded, ReloadFiles
from nerve.errors import NerveError, first_lines
from nerve.escaping import escape

ANSWER_SECONDS = 30.0


@click.command()
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Reload nerve.yaml and all senses, as if every file had changed.

    The engine reloads a changed file by itself. Use this command on file systems without change notifications (some
    network mounts), and for senses that read other files when they are loaded. If a file is broken, its last working
    version stays active, and the exit code is 1.

    \b
    Example:
      nerve reload
    """
    workspace = workspace_of(ctx)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(ReloadFiles())
        reloaded = client.expect(Reloaded, ANSWER_SECONDS)
    for change in reloaded.changes:
        say(f"nerve: {change}")
    names = f": {', '.join(reloaded.senses)}" if reloaded.senses else ""
    say(f"nerve: reloaded {counted(len(reloaded.senses), 'sense')}{names}")
    if reloaded.problems:
        headline = "broken files were not reloaded; their last working version stays active:"
        shown = (f"  {escape(problem)}" for problem in first_lines(reloaded.problems))
        raise NerveError("\n".join([headline, *shown]))
