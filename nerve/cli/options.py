"""What the commands share: finding the workspace, and connecting to its engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from nerve.errors import ConfigError, NerveError
from nerve.units import parse_duration
from nerve.workspace import Workspace, find_workspace

F = TypeVar("F", bound=Callable[..., Any])


def workspace_of(ctx: click.Context) -> Workspace:
    """Find the workspace that a command is about."""
    return find_workspace(ctx.find_root().obj, os.environ, Path.cwd())


def counted(count: int, one: str, many: str) -> str:
    """Say how many there are of something: `1 file`, `2 files`."""
    return f"{count} {one if count == 1 else many}"


class Duration(click.ParamType[float]):
    """A duration on the command line, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `10s`, `1h30m` or a bare number of seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


__all__ = ["ConfigError", "Duration", "NerveError", "counted", "workspace_of"]
