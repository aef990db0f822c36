"""The exceptions that nerve raises on purpose, each with the exit code of a command that fails with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

SHOWN_LINES = 20


def first_lines(lines: Sequence[str], limit: int = SHOWN_LINES) -> tuple[str, ...]:
    """Return the first lines of many, and one that says how many more there are."""
    more = len(lines) - limit
    return (*lines[:limit], f"... and {more} more") if more > 0 else tuple(lines)


class NerveError(Exception):
    """A problem that a person can act on; its text is one line, shown without a traceback."""

    exit_code: ClassVar[int] = 1


class WorkspaceError(NerveError):
    """There is no workspace, or its folders can't be used."""


class ConfigError(NerveError):
    """nerve.yaml has problems; `problems` has a line for each of them, which names its place."""

    def __init__(self, path: str, problems: tuple[str, ...]) -> None:
        self.path = path
        self.problems = problems
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        shown = (f"  {line}" for line in first_lines(problems))
        super().__init__("\n".join([f"{path}: {count}; nothing was started", *shown]))


class NotRunningError(NerveError):
    """No engine is running in this workspace."""

    exit_code = 3


class AlreadyRunningError(NerveError):
    """Another engine is running in this workspace."""


class StartError(NerveError):
    """A process without which the engine can't run did not start."""


class StoreError(NerveError):
    """The database can't be opened, read or written; the message is one line that says what to do.

    Example:
        >>> from nerve import StoreError, query_logs
        >>> try:
        ...     query_logs("/no/such/logs.db")
        ... except StoreError as error:
        ...     print(error)
        there is no log at /no/such/logs.db: check the path, or start nerve there
    """


class DiskError(StoreError):
    """The disk refused a write (full, quota exceeded, I/O error); trying again later can succeed."""


class NoRoomError(StoreError):
    """There is not enough free space on a disk to start something that can also be done later."""


class WireError(NerveError):
    """Another process sent something that is not a valid frame or message, or is not allowed to send anything."""


class PayloadError(NerveError):
    """A value that can't be stored as JSON: why, and in `preview` the beginning of what it looks like."""

    def __init__(self, reason: str, preview: str, *, too_large: bool = False) -> None:
        self.reason = reason
        self.preview = preview
        self.too_large = too_large
        super().__init__(reason)


class SenseLoadError(NerveError):
    """A sense's file is missing, is not valid Python, fails when it is loaded, or has no `compute`."""

    def __init__(self, message: str, traceback: str | None = None) -> None:
        self.traceback = traceback
        super().__init__(message)


class ControlError(NerveError):
    """The running engine refused a request, or did not answer in time."""


class ControlTimeoutError(ControlError):
    """The running engine did not answer in time."""
