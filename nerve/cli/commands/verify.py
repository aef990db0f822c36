"""`nerve verify`: whether the log and its archive are whole."""

from __future__ import annotations

from contextlib import closing

import click
import msgspec

from nerve.cli.formatting import colours_wanted, escape
from nerve.cli.left_behind import note_left_behind
from nerve.cli.options import NerveError, counted, workspace_of
from nerve.cli.progress import shown_work
from nerve.clock import SystemClock
from nerve.lock import WorkspaceLock
from nerve.maintenance.recovery import recover as recover_events
from nerve.store import LogWriter
from nerve.store.verification.findings import VerificationReport
from nerve.store.verification.verify import verify as verify_log
from nerve.workspace import Workspace

PREDECESSOR_SECONDS = 5.0
"""How long recovery waits for the last processes of an engine that was killed."""


@click.command()
@click.option(
    "--quick",
    is_flag=True,
    help="Leave out whether the indexes agree with the table: one long read, during which the WAL grows.",
)
@click.option(
    "--recover", is_flag=True, help="First write the events that a dead engine has left; no engine may be running."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.pass_context
def verify(ctx: click.Context, quick: bool, recover: bool, as_json: bool) -> None:
    """Verify the log and its archive, whether an engine runs or not; exit 1 on any damage.

    It checks the database, by SQLite's own means; that every entry that was ever given an id is in the table or in the
    archive, and can be decoded; each archive file's bytes, SHA-256, entries and ids; each run's start and complete; and
    the watermark. Without --recover it changes nothing. Each damage is a line that says where and what.

    \b
    Example:
      nerve verify
      nerve verify --json | jq '.damage[]'
    """
    workspace = workspace_of(ctx)
    if recover:
        click.echo(f"nerve: recovered {counted(_recover(workspace), 'event', 'events')}", err=True)
    else:
        note_left_behind(workspace)
    if not workspace.logs_db.exists():
        raise NerveError(f"there is no log to verify yet ({workspace.logs_db} is not there): start with `nerve start`")
    with shown_work("verifying") as working:
        report = verify_log(workspace.logs_db, working, archive=workspace.archive_dir, quick=quick)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)
    if not report.ok:
        count = len(report.damage) + sum(report.left_out.values())
        places = counted(count, "place is", "places are")
        raise NerveError(f"{places} damaged: restore what is named from a backup, and look at the disk")


def _recover(workspace: Workspace) -> int:
    """Write left-over events to the log; return their number.

    Raises AlreadyRunningError if an engine is running, and StoreError if the log can't be written.
    """
    workspace.prepare()
    clock = SystemClock()
    with (
        WorkspaceLock.acquire(workspace, wait=PREDECESSOR_SECONDS, clock=clock),
        closing(LogWriter.open(workspace.logs_db)) as store,
    ):
        return recover_events(store, workspace.lanes_dir, clock)


def _show(report: VerificationReport) -> None:
    colour = None if colours_wanted() else False
    for damage in report.damage:
        click.echo(f"{click.style(damage.kind, fg='red')}: {escape(str(damage))}", color=colour)
    for kind, count in report.left_out.items():
        click.echo(f"{click.style(kind, fg='red')}: and {count} more", color=colour)
    for note in report.notes:
        click.echo(f"nerve: {escape(note)}", err=True)
    if report.ok:
        click.echo(summary(report))


def summary(report: VerificationReport) -> str:
    """Say in one line what was found to be whole."""
    files, runs = counted(report.files, "file", "files"), counted(report.runs, "run", "runs")
    open_runs = f", {report.open_runs} of them open" if report.open_runs else ""
    return (
        f"nerve: the log is whole: entries 1 to {report.entries}, {report.table} in the table and {report.archive} in "
        f"{files} of the archive, {runs}{open_runs}"
    )
