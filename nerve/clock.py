"""The clock: the one place that reads the time; whatever needs the time is given a Clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A moment: `ts` in unix ms for people, `mono` in monotonic ns for ordering (comparable across processes)."""

    ts: int
    mono: int


Moment = int | datetime
"""A moment as users pass it: unix ms, or a datetime with a timezone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """A source of the time."""

    def now(self) -> float:
        """Return monotonic seconds, for intervals and deadlines."""

    def stamp(self) -> Stamp:
        """Return the current moment, for an event."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return monotonic seconds, for intervals and deadlines."""
        return time.monotonic()

    def stamp(self) -> Stamp:
        """Return the current moment, for an event."""
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
