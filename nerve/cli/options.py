"""What the commands share: the workspace that they act on, and durations as an option's type."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import click

from nerve.errors import WorkspaceError
from nerve.units import parse_duration
from nerve.workspace import Workspace, find_workspace


def workspace_of(ctx: click.Context, *, needs_data: bool = True) -> Workspace:
    """Return the workspace that the command acts on; raises WorkspaceError if there is none that this user may use.

    Without `needs_data`, another user's data/ is no reason.
    """
    explicit: Path | None = ctx.find_root().obj
    workspace = find_workspace(explicit, os.environ, current_folder(explicit or os.environ.get("NERVE_HOME")))
    if needs_data:
        require_access(workspace.data_dir)
    return workspace


def current_folder(named: Path | str | None) -> Path:
    """Return the current folder, which may have been deleted: it is needed unless the workspace has a full path."""
    try:
        return Path.cwd()
    except OSError as error:
        if named and Path(named).is_absolute():
            return Path("/")
        step = "change to another one, or name the workspace's full path with --home"
        raise WorkspaceError(f"can't use the current folder: {error.strerror}; {step}") from None


def require_access(folder: Path) -> None:
    """Raise WorkspaceError if a folder that exists can't be read, which names its owner."""
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise WorkspaceError(f"can't use {folder}: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.X_OK):
        raise WorkspaceError(f"{folder} belongs to {_user_name(owner)}: run the command as that user")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 file`, `2 files`; `many` is the plural if it isn't `one` with an s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


class Duration(click.ParamType[float]):
    """A duration on the command line, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `10s` or `1h30m`; a bare number could be anything."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value, needs_unit=True)
        except ValueError as error:
            self.fail(str(error), param, ctx)
