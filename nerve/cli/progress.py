"""Progress of a long command on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from nerve.cli.console import say

LINE_SECONDS = 5.0
"""Interval between two lines of progress; a command that takes less time prints none."""

BAR_COLUMNS = 20

Report = Callable[[str, int, int], None]
"""Takes the item in progress, the steps done and the total number of steps (0 if unknown)."""


@contextmanager
def show_progress(verb: str) -> Iterator[Report]:
    """Show the progress that is reported in this block; `verb` names the work, as in `verifying`."""
    if not sys.stderr.isatty():
        yield ProgressLines(verb, time.monotonic)
        return
    columns = (TextColumn("{task.description}"), BarColumn(BAR_COLUMNS), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda item, done, total: bar.update(
            task, description=f"{verb} {item}", completed=done, total=total or None
        )


class ProgressLines:
    """Prints a line of progress every LINE_SECONDS, by the clock `now`."""

    def __init__(self, verb: str, now: Callable[[], float]) -> None:
        self._verb = verb
        self._now = now
        self._last_line_at = now()

    def __call__(self, item: str, done: int, total: int) -> None:
        """Report progress; prints only if the last line is LINE_SECONDS old."""
        now = self._now()
        if now - self._last_line_at >= LINE_SECONDS:
            self._last_line_at = now
            percentage = f": {100 * done // total}%" if total else " ..."
            say(f"nerve: {self._verb} {item}{percentage}", err=True)
