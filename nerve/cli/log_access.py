"""What the commands that read the log share: opening it, parsing --since and --until, and printing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, tzinfo

import click

from nerve.cli.console import discard_output, say
from nerve.cli.left_behind import note_left_behind
from nerve.cli.moments import SystemZone, parse_moment
from nerve.cli.options import workspace_of
from nerve.clock import SystemClock
from nerve.errors import ConfigError, NerveError
from nerve.store.filters import Filter
from nerve.store.query import LogSource, open_log
from nerve.store.table.reader import LogReader
from nerve.workspace import Workspace


def open_workspace_log(ctx: click.Context, *, archived: bool = False) -> LogSource:
    """Open the log of the command's workspace, with or without the archive; damaged entries are returned as well.

    Raises NerveError if there is no log yet.
    """
    workspace = workspace_of(ctx)
    note_left_behind(workspace)
    path = workspace.logs_db
    if not path.exists():
        raise NerveError(f"no log yet: {path} does not exist; start the engine with `nerve start`")
    return open_log(path, archived=archived, keep_damaged=True)


def show_hints(ctx: click.Context, criteria: Filter, *, archived: bool) -> bool:
    """Print on stderr why `criteria` may have found nothing; return True if there was anything to say."""
    # Needed only if nothing was found.
    from nerve.cli.hints import archive_hint, query_hints  # noqa: PLC0415
    from nerve.store.archive.directory import read_manifest  # noqa: PLC0415

    workspace = workspace_of(ctx)
    with LogReader(workspace.logs_db) as reader:
        names = reader.known_names()
    hints = list(query_hints(criteria, names, _configured_senses(workspace)))
    if not hints and not archived:
        with suppress(NerveError):
            hints += filter(None, [archive_hint(criteria, read_manifest(workspace.archive_dir))])
    for hint in hints:
        say(f"nerve: {hint}", err=True)
    return bool(hints)


def _configured_senses(workspace: Workspace) -> tuple[str, ...]:
    from nerve.config.config import load_config  # noqa: PLC0415 - a query that finds something needs no YAML

    try:
        return tuple(load_config(workspace.config_path).senses)
    except ConfigError:
        return ()


def zone_of(*, utc: bool) -> tzinfo:
    """Return the time zone in which a command reads and shows times."""
    return UTC if utc else SystemZone()


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Parse --since or --until to unix ms; the command must have --utc as an eager option."""
    if value is None:
        return None
    try:
        return parse_moment(value, SystemClock().stamp().ts, zone_of(utc=ctx.params["utc"]), end=param.name == "until")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@contextmanager
def printing() -> Iterator[None]:
    """Print to standard output in this block: a closed pipe ends the block quietly, another failure is a NerveError."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        raise NerveError(f"can't write the output: {error.strerror or error}") from None
