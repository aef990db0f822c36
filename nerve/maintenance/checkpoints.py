"""Keeping the WAL small: when to look at it and empty it, and when a person must hear that a reader is in the way."""

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

LOOK_SECONDS = 1.0
"""How soon after a commit its size is looked at, and so how often at most while commits follow each other."""

RETRY_SECONDS = 2.0
"""How long to leave a WAL alone that could not be emptied."""

WAIT_MS = 100
"""How long an attempt to empty it waits for readers, and holds commits up: short reads have ended by then."""

LARGE_BYTES = 16 * 1024 * 1024
"""More than commits leave behind by themselves, as SQLite reuses what no reader needs: it should be emptied."""

ALARM_BYTES = 64 * 1024 * 1024
"""So much can't be emptied only where a reader is in the way for long."""


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """What is known of the WAL, and what follows from it; moments in monotonic seconds, sizes in bytes.

    `look_at` is the moment to look at it next (None: after the next commit). It is `alarmed` from the moment that
    a person must know, until half of it is gone.
    """

    look_at: float | None = None
    looked_at: float = -math.inf
    alarmed: bool = False

    def committed(self, now: float) -> CheckpointState:
        """Note that it may have grown."""
        if self.look_at is not None:
            return self
        return replace(self, look_at=max(now, self.looked_at + LOOK_SECONDS))

    def is_due(self, now: float) -> bool:
        """Tell whether to look at it now."""
        return self.look_at is not None and now >= self.look_at

    def looked(self, size: int, now: float) -> CheckpointState:
        """Note its size, after the attempt to empty it if it was large."""
        alarmed = size > (ALARM_BYTES // 2 if self.alarmed else ALARM_BYTES)
        return CheckpointState(now + RETRY_SECONDS if is_large(size) else None, now, alarmed)


def is_large(size: int) -> bool:
    """Tell whether a WAL of this size should be emptied."""
    return size > LARGE_BYTES


def describe_alarm(size: int) -> str:
    """Say in one line what an alarm at this size means, and what to do."""
    return (
        f"the WAL of logs.db has grown to {format_size(size)}: a program that has been reading logs.db for long keeps "
        "it from being emptied; nothing is lost, but it grows until that program ends (`fuser` and `lsof` name it)"
    )


class WalConnection(Protocol):
    """The one connection that writes, and so owns the WAL."""

    def wal_bytes(self) -> int:
        """Give the size of the WAL."""

    def checkpoint(self, wait_ms: int) -> bool:
        """Empty the WAL; False if readers were in the way for `wait_ms`. DiskError where the disk refuses."""


class Checkpointer:
    """Looks after the WAL between commits; `alarm` is called once each time that a reader lets it grow too large."""

    def __init__(self, owner: WalConnection, clock: Clock, alarm: Callable[[ErrorDetail], None]) -> None:
        self._owner = owner
        self._clock = clock
        self._alarm = alarm
        self._watch = CheckpointState()

    @property
    def look_at(self) -> float | None:
        """The moment at which `tend` has something to do next."""
        return self._watch.look_at

    def committed(self) -> None:
        """Note a commit."""
        self._watch = self._watch.committed(self._clock.now())

    def tend(self) -> None:
        """Look at the WAL if it is time to, and empty it if it is large; it may wait for readers, WAIT_MS at most."""
        if not self._watch.is_due(self._clock.now()):
            return
        if is_large(self._owner.wal_bytes()):
            try:
                self._owner.checkpoint(WAIT_MS)
            except DiskError as error:
                logger.warning("the WAL can't be emptied: %s", error)
        size = self._owner.wal_bytes()
        before, self._watch = self._watch, self._watch.looked(size, self._clock.now())
        if self._watch.alarmed and not before.alarmed:
            self._alarm(ErrorDetail("wal", describe_alarm(size)))
