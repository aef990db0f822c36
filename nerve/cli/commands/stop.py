"""`nerve stop`: stop the engine gracefully, and return when it has stopped."""

from __future__ import annotations

import click

from nerve.cli.console import say
from nerve.cli.options import Duration, workspace_of
from nerve.control.client import ControlClient
from nerve.control.protocol import Accepted, StopEngine
from nerve.errors import ControlError
from nerve.units import format_duration

ANSWER_SECONDS = 5.0


@click.command()
@click.option("--timeout", type=Duration(), default=60.0, help="How long to wait for the engine to stop. Default: 60s.")
@click.pass_context
def stop(ctx: click.Context, timeout: float) -> None:
    """Stop the running engine gracefully, and return when it has stopped.

    Running senses have `shutdown_timeout` (in nerve.yaml) to finish.

    \b
    Example:
      nerve stop --timeout 10s
    """
    workspace = workspace_of(ctx)
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(StopEngine())
        client.expect(Accepted, ANSWER_SECONDS)
        try:
            has_stopped = client.wait_for_end(timeout)
        except KeyboardInterrupt:
            raise ControlError("no longer waiting; the engine goes on stopping: see `nerve status`") from None
        if not has_stopped:
            raise ControlError(f"the engine has not stopped after {format_duration(timeout)}: see `nerve status`")
    say("nerve: stopped")
