"""Checkpointer: keeps the WAL small, and raises an alarm if a reader prevents that for long."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from nerve.clock import Clock
from nerve.errors import DiskError
from nerve.events.model import ErrorDetail
from nerve.units import format_size

logger = logging.getLogger("nerve.writer")

CHECK_SECONDS = 1.0
"""Delay of a check after a commit, and so the shortest interval between two checks."""

RETRY_SECONDS = 2.0
"""Delay before the next attempt to empty a WAL."""

WAIT_MS = 100
"""How long a checkpoint waits for readers, and delays commits: short reads end within that time."""

LARGE_BYTES = 16 * 1024 * 1024
"""Size above which the WAL is emptied; without long reads it stays below, because SQLite reuses its space."""

ALARM_BYTES = 64 * 1024 * 1024
"""Size above which the alarm is raised; the WAL grows this large only if a reader prevents checkpoints for long."""


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """The state of the WAL; times in monotonic seconds, sizes in bytes.

    `next_check` is None until the next commit. `alarmed` is True from the alarm until the WAL is below half that size.
    """

    next_check: float | None = None
    last_check: float = -math.inf
    alarmed: bool = False

    def committed(self, now: float) -> CheckpointState:
        """Return the state after a commit, which may have let the WAL grow."""
        if self.next_check is not None:
            return self
        return replace(self, next_check=max(now, self.last_check + CHECK_SECONDS))

    def is_due(self, now: float) -> bool:
        """Return True if the WAL is to be checked now."""
        return self.next_check is not None and now >= self.next_check

    def checked(self, size: int, now: float) -> CheckpointState:
        """Return the state after a check; `size` is the WAL's size after it was emptied, if that was possible."""
        alarmed = size > (ALARM_BYTES // 2 if self.alarmed else ALARM_BYTES)
        return CheckpointState(now + RETRY_SECONDS if is_large(size) else None, now, alarmed)


def is_large(size: int) -> bool:
    """Return True if a WAL of this size should be emptied."""
    return size > LARGE_BYTES


def describe_alarm(size: int) -> str:
    """Return the message of the alarm at this size: one line that says what to do."""
    return (
        f"the WAL of logs.db has grown to {format_size(size)}: a program with a long-running read of logs.db prevents "
        "emptying it; nothing is lost, but it grows until that program ends (find it with `fuser` or `lsof`)"
    )


class WalConnection(Protocol):
    """The connection that writes the log."""

    def wal_bytes(self) -> int:
        """Return the size of the WAL, in bytes."""

    def checkpoint(self, wait_ms: int) -> bool:
        """Empty the WAL; return False if readers prevented it for `wait_ms`. Raises DiskError."""


class Checkpointer:
    """Empties the WAL between commits; calls `alarm` once each time that a reader lets it grow too large."""

    def __init__(self, connection: WalConnection, clock: Clock, alarm: Callable[[ErrorDetail], None]) -> None:
        self._connection = connection
        self._clock = clock
        self._alarm = alarm
        self._state = CheckpointState()

    def next_deadline(self) -> float | None:
        """Return the time (monotonic seconds) of the next `maintain`, or None until the next commit."""
        return self._state.next_check

    def committed(self) -> None:
        """Note a commit: the WAL may have grown."""
        self._state = self._state.committed(self._clock.now())

    def maintain(self) -> None:
        """Check the WAL if that is due, and empty it if it is large; waits up to WAIT_MS for readers."""
        if not self._state.is_due(self._clock.now()):
            return
        if is_large(self._connection.wal_bytes()):
            try:
                self._connection.checkpoint(WAIT_MS)
            except DiskError as error:
                logger.warning("the WAL can't be emptied: %s", error)
        size = self._connection.wal_bytes()
        before, self._state = self._state, self._state.checked(size, self._clock.now())
        if self._state.alarmed and not before.alarmed:
            self._alarm(ErrorDetail("wal", describe_alarm(size)))
