"""Where a command prints: the width and colours of a terminal, or a pipe that gets everything whole and plain."""

from __future__ import annotations

import io
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click

from nerve.escaping import escape

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


class Styled(NamedTuple):
    """A part of a line with a style."""

    text: str
    fg: str | None = None
    bold: bool = False
    dim: bool = False


def say(*parts: str | Styled, err: bool = False) -> None:
    """Print a line on standard output or standard error: each part escaped, and styled where there are colours."""
    stream = sys.stderr if err else sys.stdout
    styled_parts = (part if isinstance(part, Styled) else Styled(part) for part in parts)
    line = "".join(styled(escape(part.text), stream, fg=part.fg, bold=part.bold, dim=part.dim) for part in styled_parts)
    click.echo(line.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace"), err=err)


def discard_output() -> None:
    """Redirect standard output to /dev/null, so that Python's flush of its buffer at exit can't fail again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def open_missing_streams() -> None:
    """Give descriptors 0 to 2 to /dev/null where they are closed, before a database or a socket gets one of them.

    Standard output then can't be written to, so that a command whose output is lost fails.
    """
    for number, mode in ((0, "r"), (1, "r"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if mode == "w" else os.O_RDONLY)  # which gets the lowest free number
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - open for good
    sys.stdout = sys.stdout or io.TextIOWrapper(io.BufferedWriter(_Raw(1)), encoding="utf-8")
    sys.stderr = sys.stderr or open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115


class _Raw(io.FileIO):
    """A descriptor that is opened for writing, whatever it can do."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)


def console_for(view: View, *, at_least: int = 0) -> Console:
    """Return a rich console for standard output, at least `at_least` columns wide: a narrower terminal wraps."""
    from rich.console import Console  # noqa: PLC0415 - most commands don't need rich, and it takes long to import

    class QuietConsole(Console):
        """A console that leaves a closed pipe to its caller; rich would end the process with exit code 1."""

        def on_broken_pipe(self) -> None:
            """Raise the BrokenPipeError again, which is being handled."""
            raise  # noqa: PLE0704 - rich calls this in its `except` block

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks a character must not fail
    return QuietConsole(
        width=UNLIMITED_WIDTH if view.width is None else max(view.width, at_least),
        color_system="auto" if view.colour else None,
        force_terminal=view.width is not None,
        highlight=False,
        markup=False,
        emoji=False,
    )
