"""What tests of commands share: how a command is called, and what it said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

NERVE = [sys.executable, "-c", "from nerve.cli import main; main()"]
"""The command line that starts `nerve` as a process of its own."""


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


Command = Callable[..., Said]
"""Runs a command with arguments, in the process of the test."""

Write = Callable[..., None]
"""Commits the events that it is given."""
