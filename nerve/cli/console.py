"""Where a command prints: the width and colours of a terminal, or a pipe that gets everything whole and plain."""

from __future__ import annotations

import io
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED_WIDTH = 1_000_000
"""The width of a pipe in columns: nothing is cut or wrapped."""


@dataclass(frozen=True, slots=True)
class View:
    """How entries are shown as text; `width` is the terminal's, in columns, or None for a pipe."""

    zone: tzinfo
    offset: bool = True
    width: int | None = None
    colour: bool = False


def view_of(stream: TextIO, zone: tzinfo, *, utc: bool = False) -> View:
    """Return the view for `stream`: a terminal with its current width, or a pipe."""
    if not stream.isatty():
        return View(zone)
    return View(zone, offset=utc, width=shutil.get_terminal_size().columns, colour=wants_colour(stream))


def wants_colour(stream: TextIO) -> bool:
    """Return True if `stream` is a terminal that shows colours and the user has not set NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, stream: TextIO, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """Return `text` styled for `stream`, or unchanged where `stream` does not want colours."""
    return click.style(text, fg=fg, bold=bold or None, dim=dim or None) if wants_colour(stream) else text


def console_for(view: View, *, at_least: int = 0) -> Console:
    """Return a rich console for standard output, at least `at_least` columns wide: a narrower terminal wraps."""
    from rich.console import Console  # noqa: PLC0415 - most commands don't need rich, and it takes long to import

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks a character must not fail
    return Console(
        width=UNLIMITED_WIDTH if view.width is None else max(view.width, at_least),
        color_system="auto" if view.colour else None,
        force_terminal=view.width is not None,
        highlight=False,
        markup=False,
        emoji=False,
    )
