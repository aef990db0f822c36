"""The file that `nerve logs -f` follows: waiting for the first one, and noticing that it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nerve.cli.console import say
from nerve.errors import NerveError, StoreError
from nerve.store.table.reader import LogReader

POLL_SECONDS = 0.1
CREATION_SECONDS = 5.0
"""How long a new file may take to become a log that can be read."""


@dataclass(frozen=True, slots=True)
class FollowedFile:
    """A log as it was when following it began; another file at its path has another identity."""

    path: Path
    identity: tuple[int, int] | None

    @classmethod
    def at(cls, path: Path) -> FollowedFile:
        """Return the file that is at a path now."""
        return cls(path, _identity(path))

    def check(self) -> None:
        """Raise NerveError if the file has been removed or replaced: nothing new would be found in it."""
        now = _identity(self.path)
        if now != self.identity:
            event, step = ("removed", "see `nerve status`") if now is None else ("replaced", "run the command again")
            raise NerveError(f"{self.path} has been {event} while it was followed: {step}")


def await_log(path: Path, wait: Callable[[float], bool]) -> bool:
    """Wait until there is a log at `path`, for as long as `wait` returns True; return False if it did not.

    Raises StoreError if a file is there, and does not become a log.
    """
    if path.exists():
        return True
    say("nerve: no log yet: waiting for the first start of the engine", err=True)
    while not path.exists():
        if not wait(POLL_SECONDS):
            return False
    deadline = time.monotonic() + CREATION_SECONDS
    while wait(POLL_SECONDS):
        try:
            with LogReader(path) as reader:
                reader.last_id()
        except StoreError:
            if time.monotonic() >= deadline:
                raise
        else:
            return True
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
