"""UTC days, the unit of the archive: their names, such as `2026-11-23`, and their bounds in unix ms."""

from __future__ import annotations

from datetime import date

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()

FIRST_TS = (date.min.toordinal() - _EPOCH) * DAY_MS
"""The beginning of the calendar, in unix ms: earlier days have no name."""


def day_of(ts: int) -> str:
    """Return the day of the time `ts` (unix ms). Raises ValueError after the end of the calendar."""
    return date.fromordinal(_EPOCH + ts // DAY_MS).isoformat()


def day_start(day: str) -> int:
    """Return the first unix ms of `day`. Raises ValueError if it is not a valid day."""
    return (date.fromisoformat(day).toordinal() - _EPOCH) * DAY_MS


def day_end(day: str) -> int:
    """Return the first unix ms after `day`. Raises ValueError if it is not a valid day."""
    return day_start(day) + DAY_MS


def is_day(text: str) -> bool:
    """Return True if `text` is a day of the calendar."""
    try:
        day_start(text)
    except ValueError:
        return False
    return True
