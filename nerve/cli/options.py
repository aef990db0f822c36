"""What the commands share: the workspace that they act on, and durations as an option's type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from nerve.units import parse_duration
from nerve.workspace import Workspace, find_workspace


def workspace_of(ctx: click.Context) -> Workspace:
    """Return the workspace that the command acts on; raises WorkspaceError if there is none."""
    return find_workspace(ctx.find_root().obj, os.environ, Path.cwd())


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
