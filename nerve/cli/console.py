"""Consoles of rich, for those commands that show a table or a tree."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from nerve.cli.formatting import View

ENDLESS = 1_000_000
"""The width of a pipe, in which nothing is cut or wrapped."""


def console_for(view: View, *, at_least: int = 0) -> Console:
    """Give the console for standard output: a terminal (lines of `at_least` so many columns may wrap), or a pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks a character is no failure
    return Console(
        width=ENDLESS if view.width is None else max(view.width, at_least),
        color_system="auto" if view.colour else None,
        force_terminal=view.width is not None,
        highlight=False,
        markup=False,
        emoji=False,
    )
