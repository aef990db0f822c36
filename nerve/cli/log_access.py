"""What the commands that read the log share: opening it, parsing --since and --until, and printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, tzinfo

import click

from nerve.cli.left_behind import note_left_behind
from nerve.cli.moments import SystemZone, parse_moment
from nerve.cli.options import workspace_of
from nerve.clock import SystemClock
from nerve.errors import NerveError
from nerve.store.query import LogSource, open_log


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
        _discard_output()
    except OSError as error:
        _discard_output()
        raise NerveError(f"can't write the output: {error.strerror or error}") from None


def _discard_output() -> None:
    """Redirect standard output to /dev/null, so that Python's flush of its buffer at exit can't fail again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
