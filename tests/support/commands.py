"""What tests of commands share: how a command is called, and its result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

NERVE = [sys.executable, "-c", "from nerve.cli import main; main()"]
"""The command line that starts `nerve` as a separate process."""


class CommandResult(NamedTuple):
    """The output of a command on stdout and stderr, and its exit code."""

    out: str
    err: str
    code: int


Command = Callable[..., CommandResult]
"""Runs a command with arguments, in the test's own process."""

Write = Callable[..., None]
"""Commits the given events."""
