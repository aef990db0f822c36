"""What the commands say about events that an engine has left in its lanes when it died."""

from __future__ import annotations

from nerve.cli.console import say
from nerve.cli.options import counted
from nerve.units import format_size
from nerve.workspace import Workspace


def left_behind_note(workspace: Workspace) -> str | None:
    """Return a sentence about events that are not in the log yet; None if there are none, or an engine is running."""
    if not any(workspace.lanes_dir.glob("*.lane")):
        return None
    # Not before it is needed: most commands start faster without the event queue.
    from nerve.eventqueue.left_behind import left_behind  # noqa: PLC0415

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
        say(f"nerve: note: {note}", err=True)
