"""`nerve archive`: move entries older than the retention to the archive now, with or without a running engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import click

from nerve.cli.console import say
from nerve.cli.options import Duration, counted, workspace_of
from nerve.cli.progress import Report, show_progress
from nerve.clock import SystemClock
from nerve.config.config import load_config
from nerve.config.logs_section import LogsConfig
from nerve.control.client import ControlClient
from nerve.control.protocol import RunArchive
from nerve.errors import ControlError, NotRunningError
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.lock import WorkspaceLock
from nerve.maintenance.archiver import archive_alone
from nerve.store.archive.retention import DayPlan, plan
from nerve.store.table.reader import LogReader
from nerve.workspace import Workspace

LONGEST_SECONDS = 24 * 3600.0
"""How long to wait for the engine's archiver."""

REASONS = {"retention": "", "max_size": " (early: the log exceeds logs.max_size)"}

OnProgress = Callable[[ArchiveProgress], None]


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be archived, without doing it.")
@click.option("--retention", type=Duration(), help="Use this retention, e.g. 7d, instead of logs.retention.")
@click.option(
    "--vacuum", is_flag=True, help="Rebuild the database file afterwards; needs free disk space of twice its size."
)
@click.pass_context
def archive(ctx: click.Context, dry_run: bool, retention: float | None, vacuum: bool) -> None:
    """Move whole UTC days that are older than the retention to data/archive/logs, one file per day.

    If the log exceeds logs.max_size, the oldest days are archived early. Entries of runs that have not ended stay in
    the log. You can interrupt the command at any time; the next one continues where it stopped.

    \b
    Example:
      nerve archive --dry-run --retention 7d
    """
    workspace = workspace_of(ctx)
    logs = load_config(workspace.config_path).logs
    logs = logs if retention is None else replace(logs, retention=retention)
    if dry_run:
        _show_plan(workspace, logs)
        return
    with show_progress("archiving") as report:
        on_progress = _reporter(report)
        try:
            archived = _archive_by_engine(workspace, logs, vacuum, on_progress)
        except NotRunningError:
            archived = _archive_here(workspace, logs, vacuum, on_progress)
    for note in archived.notes:
        say(f"nerve: {note}", err=True)
    if archived.error:
        raise ControlError(archived.error)
    entries, files = counted(archived.rows, "entry", "entries"), counted(archived.files, "file")
    say(f"nerve: archived {entries} into {files} in {workspace.archive_dir}")


def _show_plan(workspace: Workspace, logs: LogsConfig) -> None:
    with LogReader(workspace.logs_db) as reader:
        days = plan(reader, time.time_ns() // 1_000_000, logs)
    for day in days:
        say(_plan_line(day))
    if not days:
        say("nerve: nothing to archive: no entry is older than the retention", err=True)


def _plan_line(day: DayPlan) -> str:
    return f"{day.day}  {counted(day.rows, 'entry', 'entries')}{REASONS[day.reason]}"


def _reporter(report: Report) -> OnProgress:
    """Return a function that reports an archiver's progress; each entry is two steps: archived, then deleted."""

    def on_progress(progress: ArchiveProgress) -> None:
        item = f"{progress.day} ({progress.archived}/{progress.due} archived, {progress.deleted} deleted)"
        report(item, progress.archived + progress.deleted, 2 * progress.due)

    return on_progress


def _archive_by_engine(workspace: Workspace, logs: LogsConfig, vacuum: bool, on_progress: OnProgress) -> Archived:
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(RunArchive(logs.retention, vacuum))
        return client.expect(Archived, LONGEST_SECONDS, on_progress)


def _archive_here(workspace: Workspace, logs: LogsConfig, vacuum: bool, on_progress: OnProgress) -> Archived:
    workspace.prepare()
    with WorkspaceLock.acquire(workspace, wait=5.0, clock=SystemClock()):
        return archive_alone(workspace, logs, on_progress, vacuum=vacuum)
