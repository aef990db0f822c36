"""`nerve restore`: load an archived day into a separate database."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from nerve.cli.console import say
from nerve.cli.options import counted, workspace_of
from nerve.cli.progress import show_progress
from nerve.errors import NerveError
from nerve.store.archive.restore import restore_day
from nerve.store.table.reader import LogReader
from nerve.store.utc_days import is_day
from nerve.workspace import Workspace


class Day(click.ParamType[str]):
    """A UTC day on the command line."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that the text is a day, such as 2026-11-23."""
        if not is_day(value) or len(value) != len("2026-11-23"):
            self.fail(f"{value!r} is not a valid day: write it as 2026-11-23", param, ctx)
        return str(value)


@click.command()
@click.argument("day", type=Day())
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Output file. Default: data/restored/DAY.db.")
@click.option("--force", is_flag=True, help="Replace the output file if it is a restored day as well.")
@click.pass_context
def restore(ctx: click.Context, day: str, output: Path | None, force: bool) -> None:
    """Load an archived DAY (UTC) into a separate SQLite database for analysis. The log itself does not change.

    The database has the same tables and indexes as the log. Each archive file is checked against its SHA-256 first.
    The path of the database is printed to standard output, everything else to standard error.

    \b
    Example:
      nerve restore 2026-10-20
      sqlite3 "$(nerve restore 2026-10-20 --force)" 'select count(*) from logs'
    """
    workspace = workspace_of(ctx)
    target = output or workspace.data_dir / "restored" / f"{day}.db"
    if _is_the_log(target, workspace):
        raise NerveError(f"{target} is the log, which restore never writes to: choose another file with -o")
    with show_progress("restoring") as report:
        restored = restore_day(
            workspace.archive_dir,
            day,
            target,
            log_id=_log_id(workspace),
            force=force,
            progress=lambda rows, total: report(day, rows, total),
        )
    if restored.left_out:
        say(f"nerve: skipped files that belong to another log: {', '.join(restored.left_out)}", err=True)
    entries, files = counted(restored.rows, "entry", "entries"), counted(restored.files, "file")
    say(f"nerve: restored {entries} of {day} (UTC) from {files}; example of a query:", err=True)
    query = "select source, type, count(*) from logs group by 1, 2"
    say(f"  sqlite3 -readonly {shlex.quote(str(target))} {shlex.quote(query)}", err=True)
    if sys.stdout.isatty():
        say(str(target))
    else:
        click.echo(os.fsencode(target))  # as it is: it is for another program


def _is_the_log(target: Path, workspace: Workspace) -> bool:
    log = workspace.logs_db
    return target.resolve() == log.resolve() or (target.exists() and log.exists() and target.samefile(log))


def _log_id(workspace: Workspace) -> str | None:
    """Return the id of the workspace's log; None if the log is gone and only the archive is left."""
    if not workspace.logs_db.exists():
        return None
    with LogReader(workspace.logs_db) as reader:
        return reader.meta("log_id")
