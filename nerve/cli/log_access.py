"""What the commands share that read the log: opening it, the moments of --since and --until, and printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, tzinfo
from typing import TextIO

import click

from nerve import store
from nerve.cli.left_behind import note_left_behind
from nerve.cli.moments import SystemZone, parse_moment
from nerve.cli.options import workspace_of
from nerve.clock import SystemClock
from nerve.errors import NerveError
from nerve.store import LogReader


def open_workspace_log(ctx: click.Context, *, archived: bool = False) -> LogReader | store.FullLog:
    """Open the log of a command's workspace, with the archive or without; what is damaged in it is kept."""
    workspace = workspace_of(ctx)
    note_left_behind(workspace)
    path = workspace.logs_db
    if not path.exists():
        raise NerveError(f"nothing is logged here yet ({path} is not there): start with `nerve start`")
    return (store.FullLog if archived else LogReader)(path, keep_damaged=True)


def zone_of(*, utc: bool) -> tzinfo:
    """Give the zone in which a command reads and shows moments."""
    return UTC if utc else SystemZone()


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read --since or --until, in unix ms; the command has --utc, as an eager option."""
    if value is None:
        return None
    try:
        return parse_moment(value, SystemClock().stamp().ts, zone_of(utc=ctx.params["utc"]), end=param.name == "until")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@contextmanager
def printing() -> Iterator[None]:
    """Print to standard output: a reader that has gone is no failure, and a disk that is full is one line."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        abandon(sys.stdout)
    except OSError as error:
        abandon(sys.stdout)
        raise NerveError(f"can't write the output: {error.strerror or error}") from None


def abandon(stream: TextIO) -> None:
    """Let what is still in the stream's buffer go nowhere, so that Python's own flush at exit is silent."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
