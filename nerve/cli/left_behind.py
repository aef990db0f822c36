"""Events that an engine has left in its lanes when it died: a note for the commands, and their recovery."""

from __future__ import annotations

from contextlib import closing

import click

from nerve.cli.options import counted
from nerve.clock import SystemClock
from nerve.lock import WorkspaceLock
from nerve.maintenance.recovery import left_behind, recover
from nerve.store import LogWriter
from nerve.units import format_size
from nerve.workspace import Workspace

PREDECESSOR_SECONDS = 5.0
"""How long recovery waits for the last processes of an engine that was killed."""


def left_behind_note(workspace: Workspace) -> str | None:
    """Return a sentence about events that are not in the log yet; None if there are none, or an engine is running."""
    left = left_behind(workspace.lanes_dir)
    if not left.bytes:
        return None
    lanes = counted(left.lanes, "producer", "producers")
    step = "run `nerve start`, or `nerve verify --recover` to write them without starting the engine"
    size = format_size(left.bytes)
    return f"the engine did not stop in order: {size} of events from {lanes} are not in the log yet; {step}"


def note_left_behind(workspace: Workspace) -> None:
    """Print that sentence to standard error, if there is one."""
    note = left_behind_note(workspace)
    if note:
        click.echo(f"nerve: note: {note}", err=True)


def recover_events(workspace: Workspace) -> int:
    """Write left-over events to the log; return their number.

    Raises AlreadyRunningError if an engine is running, and StoreError if the log can't be written.
    """
    workspace.prepare()
    clock = SystemClock()
    with (
        WorkspaceLock.acquire(workspace, wait=PREDECESSOR_SECONDS, clock=clock),
        closing(LogWriter.open(workspace.logs_db)) as store,
    ):
        return recover(store, workspace.lanes_dir, clock)
