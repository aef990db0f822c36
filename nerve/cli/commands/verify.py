"""`nerve verify`: check the integrity of the log and its archive."""

from __future__ import annotations

from contextlib import closing

import click

from nerve.cli.console import Styled, say
from nerve.cli.formatting import print_json
from nerve.cli.left_behind import note_left_behind
from nerve.cli.log_access import printing
from nerve.cli.options import counted, workspace_of
from nerve.cli.progress import show_progress
from nerve.clock import SystemClock
from nerve.errors import NerveError
from nerve.lock import WorkspaceLock
from nerve.maintenance.recovery import recover as recover_events
from nerve.store.table.writer import LogWriter
from nerve.store.verification.findings import VerificationReport
from nerve.store.verification.verify import verify as verify_log
from nerve.workspace import Workspace

PREDECESSOR_SECONDS = 5.0
"""How long recovery waits for the last processes of an engine that was killed."""


@click.command()
@click.option("--quick", is_flag=True, help="Skip the index check, a long read during which the WAL grows.")
@click.option(
    "--recover", is_flag=True, help="First write the events that a dead engine has left; no engine may be running."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(ctx: click.Context, quick: bool, recover: bool, as_json: bool) -> None:
    """Check the integrity of the log and its archive; exit code 1 if anything is damaged.

    \b
    It checks that
    - SQLite's integrity check finds no errors;
    - no entry is missing from table and archive, and each can be decoded;
    - archive files have the sizes, SHA-256 and ids that the manifest states;
    - every run has one start and, unless it is still open, one end;
    - the watermark allows deleting only entries that are archived.

    Without --recover it changes nothing, and also works while the engine is running. Each problem is one line with its
    place: a file and line, an entry's id, or a run.

    \b
    Example:
      nerve verify
      nerve verify --json | jq '.damage[]'
    """
    workspace = workspace_of(ctx)
    if recover:
        say(f"nerve: recovered {counted(_recover(workspace), 'event', 'events')}", err=True)
    else:
        note_left_behind(workspace)
    if not workspace.logs_db.exists():
        raise NerveError(f"no log yet: {workspace.logs_db} does not exist; start the engine with `nerve start`")
    with show_progress("verifying") as progress:
        report = verify_log(workspace.logs_db, progress, archive=workspace.archive_dir, quick=quick)
    with printing():  # the exit code tells of damage, whether or not somebody reads all of it
        if as_json:
            print_json(report)
        else:
            _show(report)
    if not report.ok:
        count = len(report.damage) + sum(report.left_out.values())
        step = "restore the files named above from a backup, and check the disk"
        raise NerveError(f"{counted(count, 'problem')} found: {step}")


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
    for damage in report.damage:
        say(Styled(damage.kind, fg="red"), f": {damage}")
    for kind, count in report.left_out.items():
        say(Styled(kind, fg="red"), f": and {count} more")
    for note in report.notes:
        say(f"nerve: {note}", err=True)
    if report.ok:
        say(summary(report))


def summary(report: VerificationReport) -> str:
    """Return one line on what an undamaged log holds."""
    archived = f"{report.archive} archived in {counted(report.files, 'file')}" if report.archive else "none archived"
    open_runs = f" ({report.open_runs} open)" if report.open_runs else ""
    return (
        f"nerve: no problems found: entries 1 to {report.entries} ({report.table} in the table, {archived}), "
        f"{counted(report.runs, 'run')}{open_runs}"
    )
