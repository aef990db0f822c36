"""How far an archiver is: a bar at a terminal, else a line at intervals on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nerve.ipc.progress import ArchiveProgress

LINE_SECONDS = 5.0

Progressed = Callable[[ArchiveProgress], None]


@contextmanager
def shown_progress() -> Iterator[Progressed]:
    """Give what shows the progress of a run, in the block, on stderr; the bar is gone at its end."""
    if not sys.stderr.isatty():
        yield LineProgress(time.monotonic)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("archiving", total=None)
        yield lambda progress: bar.update(
            task, description=describe(progress), completed=steps_done(progress), total=2 * progress.due
        )


class LineProgress:
    """Says how far a run is, every LINE_SECONDS of `now`: what takes no longer passes in silence."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._said = now()

    def __call__(self, progress: ArchiveProgress) -> None:
        """Hear of some progress."""
        if self._now() - self._said >= LINE_SECONDS:
            self._said = self._now()
            percent = 100 * steps_done(progress) // max(1, 2 * progress.due)
            click.echo(f"nerve: {describe(progress)}, {percent}%", err=True)


def steps_done(progress: ArchiveProgress) -> int:
    """Count the rows that are archived and those that are deleted: each row takes two steps."""
    return progress.archived + progress.deleted


def describe(progress: ArchiveProgress) -> str:
    """Say it in words."""
    return f"{progress.day}: archived {progress.archived}, deleted {progress.deleted} of {progress.due} entries"


LINE_SECONDS = 5.0


Working = Callable[[str, int, int], None]
"""Hears what is being gone through, how far it is, and of how much (0 where nobody knows)."""


@contextmanager
def shown_work(verb: str) -> Iterator[Working]:
    """Give what shows how far work is, in the block; `verb` says what is done, as in `checking`."""
    if not sys.stderr.isatty():
        yield Lines(verb, time.monotonic)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda what, done, total: bar.update(
            task, description=f"{verb} {what}", completed=done, total=total or None
        )


class Lines:
    """Says how far work is, every LINE_SECONDS of `now`: what takes no longer passes in silence."""

    def __init__(self, verb: str, now: Callable[[], float]) -> None:
        self._verb = verb
        self._now = now
        self._said = now()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear of some progress."""
        now = self._now()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            share = f": {100 * done // total}%" if total else " ..."
            click.echo(f"nerve: {self._verb} {what}{share}", err=True)
