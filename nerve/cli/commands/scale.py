"""`nerve scale`: another number of workers, while the engine runs."""

from __future__ import annotations

import click

from nerve.cli.options import workspace_of
from nerve.config.config import MAX_WORKERS
from nerve.control.client import ControlClient
from nerve.control.protocol import Scaled, ScaleWorkers

ANSWER_SECONDS = 5.0


@click.command()
@click.argument("workers", type=click.IntRange(1, MAX_WORKERS))
@click.pass_context
def scale(ctx: click.Context, workers: int) -> None:
    """Have WORKERS workers from now on; those too many end once their run has.

    It holds until the engine stops, or `workers` in nerve.yaml is changed. SIGTTIN and SIGTTOU to the kernel add and
    remove one.

    \b
    Example:
      nerve scale 8
    """
    workspace = workspace_of(ctx)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(ScaleWorkers(workers))
        before = client.expect(Scaled, ANSWER_SECONDS).before
    unit = "worker" if workers == 1 else "workers"
    change = "as before" if before == workers else f"was {before}"
    click.echo(f"nerve: {workers} {unit} ({change})")
