"""The diagnostics process: prints the log records of all processes, so that a slow terminal blocks none of them."""

from __future__ import annotations

from nerve.processes.child import ChildContext
from nerve.workers import bootstrap


def main(context: ChildContext) -> None:
    """Print records until the kernel closes the link (child)."""
    link = bootstrap.enter(context)
    context.boot.relay.receive_until_hangup(link.fileno())
