"""`nerve archive`: move what is older than the retention to the archive now, with or without a running engine."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from nerve.cli.options import Duration, workspace_of
from nerve.cli.progress import Progressed, shown_progress
from nerve.clock import SystemClock
from nerve.config.config import load_config
from nerve.config.logs_section import LogsConfig
from nerve.control.client import ControlClient
from nerve.control.protocol import RunArchive
from nerve.errors import ControlError, NotRunningError
from nerve.ipc.progress import Archived
from nerve.lock import WorkspaceLock
from nerve.maintenance.archiver import archive_alone
from nerve.store.archive.retention import DayPlan, plan
from nerve.store.table.reader import LogReader
from nerve.workspace import Workspace

LONGEST_SECONDS = 24 * 3600.0

WHY = {"retention": "", "max_size": " before its retention is over, as the log is larger than logs.max_size"}


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--retention", type=Duration(), help="Instead of the configured one, e.g. 7d.")
@click.option("--vacuum", is_flag=True, help="Rebuild the database file afterwards; needs twice its size on the disk.")
@click.pass_context
def archive(ctx: click.Context, dry_run: bool, retention: float | None, vacuum: bool) -> None:
    """Move entries of whole UTC days older than the retention to data/archive/logs, one file a day.

    While the log is larger than logs.max_size, the oldest days go too, though they are not that old. Entries of runs
    that are not complete stay. It may be interrupted at any moment: the next run goes on from there.

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
    with shown_progress() as progressed:
        try:
            done = _by_the_engine(workspace, logs, vacuum, progressed)
        except NotRunningError:
            done = _by_ourselves(workspace, logs, vacuum, progressed)
    for note in done.notes:
        click.echo(f"nerve: {note}", err=True)
    if done.error:
        raise ControlError(done.error)
    click.echo(f"nerve: archived {done.rows} entries into {done.files} files in {workspace.archive_dir}")


def _show_plan(workspace: Workspace, logs: LogsConfig) -> None:
    with LogReader(workspace.logs_db) as reader:
        days = plan(reader, time.time_ns() // 1_000_000, logs)
    for day in days:
        click.echo(_planned(day))
    if not days:
        click.echo("nerve: nothing is older than the retention", err=True)


def _planned(day: DayPlan) -> str:
    return f"{day.day}  {day.rows} entries{WHY[day.reason]}"


def _by_the_engine(workspace: Workspace, logs: LogsConfig, vacuum: bool, progressed: Progressed) -> Archived:
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(RunArchive(logs.retention, vacuum))
        return client.expect(Archived, LONGEST_SECONDS, progressed)


def _by_ourselves(workspace: Workspace, logs: LogsConfig, vacuum: bool, progressed: Progressed) -> Archived:
    workspace.prepare()
    with WorkspaceLock.acquire(workspace, wait=5.0, clock=SystemClock()):
        return archive_alone(workspace, logs, progressed, vacuum=vacuum)
