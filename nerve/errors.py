"""Every exception that nerve raises on purpose, with the exit code that the command line gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

SHOWN_LINES = 20


def first_lines(lines: Sequence[str], limit: int = SHOWN_LINES) -> tuple[str, ...]:
    """Return the first lines of many, and one that says how many more there are."""
    more = len(lines) - limit
    return (*lines[:limit], f"... and {more} more") if more > 0 else tuple(lines)


class NerveError(Exception):
    """Something that a person can act on: its text is one clear line, shown without a traceback."""

    exit_code: ClassVar[int] = 1


class WorkspaceError(NerveError):
    """There is no workspace here, or its folders can't be used."""


class ConfigError(NerveError):
    """nerve.yaml has problems: all of them, each a line of text that names its place."""

    def __init__(self, path: str, problems: tuple[str, ...]) -> None:
        self.path = path
        self.problems = problems
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        shown = (f"  {line}" for line in first_lines(problems))
        super().__init__("\n".join([f"{path}: {count}; nothing was started", *shown]))


class NotRunningError(NerveError):
    """No engine runs in this workspace."""

    exit_code = 3


class AlreadyRunningError(NerveError):
    """Another engine holds this workspace."""


class StartError(NerveError):
    """A process that the engine can't do without did not come up."""


class StoreError(NerveError):
    """The database can't be opened, read or written."""


class DiskError(StoreError):
    """The disk refused a write (full, a quota, an I/O error): worth trying again."""


class NoRoomError(StoreError):
    """There is too little room on a disk to begin with something that can also be done later."""


class WireError(NerveError):
    """Bytes from another process that are no frame, or no message, of ours."""


class PayloadError(NerveError):
    """A value that can't be stored as JSON: `preview` is the start of what it looked like."""

    def __init__(self, reason: str, preview: str) -> None:
        self.reason = reason
        self.preview = preview
        super().__init__(reason)


class SenseLoadError(NerveError):
    """A sense's file is missing, isn't Python, or has no `compute`; `traceback` tells where it broke."""

    def __init__(self, message: str, traceback: str | None = None) -> None:
        self.traceback = traceback
        super().__init__(message)


class ControlError(NerveError):
    """The running engine refused a request, or did not answer in time."""


class ControlTimeoutError(ControlError):
    """The running engine did not answer in time."""
