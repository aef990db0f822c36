"""`nerve archive`: move what is older than the retention to the archive now, with or without a running engine."""

from __future__ import annotations

import time

import click

from nerve.cli.common import Duration, workspace_of
from nerve.clock import SystemClock
from nerve.config import load_config
from nerve.control import ArchiveDone, ControlClient, RunArchive
from nerve.errors import NotRunningError
from nerve.lock import WorkspaceLock
from nerve.store import LogReader, plan
from nerve.workspace import Workspace
from workers.archiver import archive_alone

LONGEST_SECONDS = 24 * 3600.0


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--retention", type=Duration(), help="Instead of the configured one, e.g. 7d.")
@click.option("--vacuum", is_flag=True, help="Rebuild the database file afterwards, to give its unused space back.")
@click.pass_context
def archive(ctx: click.Context, dry_run: bool, retention: float | None, vacuum: bool) -> None:
    """Move entries of whole UTC days older than the retention to data/archive/logs, one file a day.

    \b
    Example:
      nerve archive --dry-run --retention 7d
    """
    workspace = workspace_of(ctx)
    seconds = load_config(workspace.config_path).logs.retention if retention is None else retention
    if dry_run:
        _show_plan(workspace, seconds)
        return
    try:
        files, rows = _by_the_engine(workspace, seconds, vacuum)
    except NotRunningError:
        files, rows = _by_ourselves(workspace, seconds, vacuum)
    click.echo(f"nerve: archived {rows} entries into {files} files in {workspace.archive_dir}")


def _show_plan(workspace: Workspace, retention: float) -> None:
    with LogReader(workspace.logs_db) as reader:
        days = plan(reader, time.time_ns() // 1_000_000, retention)
    for day in days:
        click.echo(f"{day.day}  {day.rows} entries")
    if not days:
        click.echo("nerve: nothing is older than the retention", err=True)


def _by_the_engine(workspace: Workspace, retention: float, vacuum: bool) -> tuple[int, int]:
    with ControlClient(workspace.control_socket, workspace.home) as client:
        client.send(RunArchive(retention, vacuum))
        done = client.expect(ArchiveDone, LONGEST_SECONDS)
    return done.files, done.rows


def _by_ourselves(workspace: Workspace, retention: float, vacuum: bool) -> tuple[int, int]:
    workspace.prepare()
    with WorkspaceLock.acquire(workspace, wait=5.0, clock=SystemClock()):
        done = archive_alone(workspace, retention, vacuum=vacuum)
    return done.files, done.rows
