"""`nerve restore`: an archived day as a database of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from nerve.cli.formatting import escape
from nerve.cli.options import NerveError, counted, workspace_of
from nerve.cli.progress import shown_work
from nerve.store.archive.restore import restore_day
from nerve.store.table.reader import LogReader
from nerve.store.utc_days import is_day
from nerve.workspace import Workspace


class Day(click.ParamType[str]):
    """A UTC day on the command line."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take a day as it is."""
        if not is_day(value) or len(value) != len("2026-11-23"):
            self.fail(f"{value!r} is no day: write it as 2026-11-23", param, ctx)
        return str(value)


@click.command()
@click.argument("day", type=Day())
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file to make. Default: data/restored/DAY.db."
)
@click.option("--force", is_flag=True, help="Replace the file, if that is a restored day as well.")
@click.pass_context
def restore(ctx: click.Context, day: str, output: Path | None, force: bool) -> None:
    """Load an archived DAY (UTC) into a separate SQLite database, to be analysed; the log is never touched.

    The database has the log's tables and indexes. Each file of the archive is checked against its SHA-256 first. The
    path of the database is printed on standard output, what else there is to say on standard error.

    \b
    Example:
      nerve restore 2026-10-20
      sqlite3 -readonly "$(nerve restore 2026-10-20 --force)" 'select type, count(*) from logs group by type'
    """
    workspace = workspace_of(ctx)
    target = output or workspace.data_dir / "restored" / f"{day}.db"
    if _is_the_log(target, workspace):
        raise NerveError(f"{target} is the log: nothing is ever restored into it; name another file with -o")
    with shown_work("restoring") as working:
        done = restore_day(
            workspace.archive_dir,
            day,
            target,
            log_id=_log_id(workspace),
            force=force,
            progress=lambda rows, total: working(day, rows, total),
        )
    if done.left_out:
        click.echo(f"nerve: left out, being of another log: {escape(', '.join(done.left_out))}", err=True)
    entries, files = counted(done.rows, "entry", "entries"), counted(done.files, "file", "files")
    click.echo(f"nerve: restored {entries} of {day} (UTC) from {files}; ask it, for example, by", err=True)
    query = "select source, type, count(*) from logs group by 1, 2"
    click.echo(f"  sqlite3 -readonly {shlex.quote(str(target))} {shlex.quote(query)}", err=True)
    click.echo(str(target))


def _is_the_log(target: Path, workspace: Workspace) -> bool:
    log = workspace.logs_db
    return target.resolve() == log.resolve() or (target.exists() and log.exists() and target.samefile(log))


def _log_id(workspace: Workspace) -> str | None:
    """Tell which log the workspace has now; the archive may be all that is left of it."""
    if not workspace.logs_db.exists():
        return None
    with LogReader(workspace.logs_db) as reader:
        return reader.meta("log_id")
