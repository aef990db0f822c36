"""The clock: the one place that reads time, handed to everything that needs it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol

import msgspec


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A moment: `ts` in unix ms for people, `mono` in monotonic ns for order (comparable across processes)."""

    ts: int
    mono: int


Moment = int | datetime
"""A moment as a user gives it: unix ms, or a datetime with a timezone."""


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> float:
        """Monotonic seconds: for intervals and deadlines."""

    def stamp(self) -> Stamp:
        """The moment, for an event."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Monotonic seconds: for intervals and deadlines."""
        return time.monotonic()

    def stamp(self) -> Stamp:
        """The moment, for an event."""
        return Stamp(time.time_ns() // 1_000_000, time.monotonic_ns())
