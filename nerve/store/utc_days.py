"""UTC days as the archive counts them: `2026-11-23`, and the unix ms where they begin and end."""

from __future__ import annotations

from datetime import date

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()

FIRST_TS = (date.min.toordinal() - _EPOCH) * DAY_MS
"""Where the calendar begins, in unix ms: no day has a name before that."""


def day_of(ts: int) -> str:
    """Name the day that holds the moment `ts` (unix ms); ValueError beyond the calendar's end."""
    return date.fromordinal(_EPOCH + ts // DAY_MS).isoformat()


def day_start(day: str) -> int:
    """Give the first unix ms of `day`; ValueError when that is no day."""
    return (date.fromisoformat(day).toordinal() - _EPOCH) * DAY_MS


def day_end(day: str) -> int:
    """Give the first unix ms after `day`; ValueError when that is no day."""
    return day_start(day) + DAY_MS


def is_day(text: str) -> bool:
    """Tell whether `text` names a day of the calendar."""
    try:
        day_start(text)
    except ValueError:
        return False
    return True
