"""What the commands say about events that an engine which died has left in its lanes."""

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
    """Return one sentence on the events that are not in the log yet; None if there are none, or an engine runs."""
    left = left_behind(workspace.lanes_dir)
    if not left.bytes:
        return None
    lanes = counted(left.lanes, "producer", "producers")
    step = "`nerve start` writes them first of all, `nerve verify --recover` without starting the engine"
    return f"an engine died: {format_size(left.bytes)} of events of {lanes} are not in the log yet; {step}"


def note_left_behind(workspace: Workspace) -> None:
    """Print that sentence on standard error, if there is something to say."""
    note = left_behind_note(workspace)
    if note:
        click.echo(f"nerve: note: {note}", err=True)


def recover_events(workspace: Workspace) -> int:
    """Write what was left behind to the log, without an engine; returns how many events that were.

    Raises AlreadyRunningError where an engine runs, and StoreError where the log can't be written.
    """
    workspace.prepare()
    clock = SystemClock()
    with (
        WorkspaceLock.acquire(workspace, wait=PREDECESSOR_SECONDS, clock=clock),
        closing(LogWriter.open(workspace.logs_db)) as store,
    ):
        return recover(store, workspace.lanes_dir, clock)
