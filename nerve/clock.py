"""The clock: the one place that reads time, handed to everything that needs it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A moment: `ts` in unix ms for people, `mono` in monotonic ns for order (comparable across processes)."""

    ts: int
    mono: int


Moment = int | datetime
"""A moment as a user gives it: unix ms, or a datetime with a timezone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def unix_ms(name: str, moment: Moment | None) -> int | None:
    """Return `moment` in unix ms; None for None.

    Raises TypeError for other types and ValueError for a datetime without a timezone; both name the argument `name`.
    """
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is {moment!r}: give unix ms as an int, or a datetime with a timezone")
    if moment.utcoffset() is None:
        raise ValueError(f"{name} is a datetime without a timezone ({moment}): give it one, as in datetime.now(UTC)")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
