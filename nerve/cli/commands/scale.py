"""`nerve scale`: change the number of workers while the engine runs."""

from __future__ import annotations

import click

from nerve.cli.console import say
from nerve.cli.options import counted, workspace_of
from nerve.config.config import MAX_WORKERS
from nerve.control.client import ControlClient
from nerve.control.protocol import Scaled, ScaleWorkers

ANSWER_SECONDS = 5.0


@click.command()
@click.argument("workers", type=click.IntRange(1, MAX_WORKERS))
@click.pass_context
def scale(ctx: click.Context, workers: int) -> None:
    """Set the number of workers. Surplus workers exit after their current run.

    The number stays until the engine stops or `workers` in nerve.yaml changes. The signals SIGTTIN and SIGTTOU to the
    kernel process add and remove one worker.

    \b
    Example:
      nerve scale 8
    """
    workspace = workspace_of(ctx)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(ScaleWorkers(workers))
        before = client.expect(Scaled, ANSWER_SECONDS).before
    change = "unchanged" if before == workers else f"was {before}"
    say(f"nerve: {counted(workers, 'worker')} ({change})")
