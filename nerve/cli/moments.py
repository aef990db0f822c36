"""Times as people write them, to unix ms and back, and the time zone of this machine."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from nerve.units import parse_duration

EXAMPLES = "10m or 2h30m (ago), 2026-11-23, 2026-11-23T10:00, 2026-11-23T10:00Z, today, yesterday or now"
FIRST_YEAR, LAST_YEAR = 1970, 9998  # within these years every time zone can convert every time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_AGO = re.compile(r"(?=.*[smhd])[0-9][0-9.smhd\s]*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_AND_TIME = re.compile(
    rf"({_DATE.pattern})[T ]([0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,9}})?)?)"
    r"\s?(Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9](?::[0-5][0-9])?)?",
    re.IGNORECASE,
)


class SystemZone(tzinfo):
    """The time zone of this machine (or of $TZ), including daylight saving time."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return the offset at a wall time in this zone; `fold` selects one of two readings of a repeated time."""
        return self._fixed(moment).utcoffset() if moment else None

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Return None: the daylight saving part of the offset is not needed."""

    def tzname(self, moment: datetime | None) -> str | None:
        """Return the abbreviation of this zone at a wall time, such as CET or CEST."""
        return self._fixed(moment).tzname() if moment else None

    def fromutc(self, moment: datetime) -> datetime:
        """Convert UTC to wall time in this zone, with the right `fold`."""
        seconds = (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
        return datetime.fromtimestamp(seconds).replace(microsecond=moment.microsecond, tzinfo=self)  # noqa: DTZ006 - local time is intended

    @staticmethod
    def _fixed(moment: datetime) -> datetime:
        return moment.replace(tzinfo=None).astimezone()


def parse_moment(text: str, now_ms: int, zone: tzinfo, *, end: bool = False) -> int:
    """Parse a time to unix ms: a duration ago (`10m`), a day, a time (ISO 8601, or with a space), or a word.

    Times without an offset are in `zone`. A bare day, `today` and `yesterday` mean the first millisecond of the day
    or, with `end`, the last one, also on days on which daylight saving time starts or ends. A wall time that is
    skipped or repeated on such a day means the earlier of its two readings or, with `end`, the later one, so that a
    search never misses entries. Raises ValueError, with a one-sentence message, for any other text.
    """
    stripped = text.strip()
    word = stripped.lower()
    if word == "now":
        return now_ms
    if word in {"today", "yesterday"}:
        day = _moment(now_ms, zone).date() - (_DAY if word == "yesterday" else timedelta())
        return _bound_of_day(day, zone, end=end)
    if _AGO.fullmatch(stripped):
        return now_ms - round(parse_duration(stripped, allow_zero=True) * 1000)
    reason = ""
    try:
        if (moment := _parse_iso(stripped, zone, end=end)) is not None:
            return moment
    except (ValueError, OverflowError) as error:
        reason = f" ({error})"
    shown = repr(text) if len(text) <= 40 else f"{text[:37]!r}..."
    raise ValueError(f"{shown} is not a valid time{reason}: write it as {EXAMPLES}")


def format_moment(ts_ms: int, zone: tzinfo, *, offset: bool) -> str:
    """Format unix ms so that parse_moment can parse it: `2026-11-23 10:00:00.123`.

    With `offset` it is one unambiguous word: `2026-11-23T10:00:00.123+01:00`. A time outside the calendar's years is
    `@` and the number.
    """
    seconds, ms = divmod(ts_ms, 1000)
    try:
        second = _format_second(seconds, zone)
    except (ValueError, OverflowError, OSError):
        return f"@{ts_ms}"
    day, clock, suffix = second[:10], second[11:19], second[19:]
    return f"{day}T{clock}.{ms:03}{suffix}" if offset else f"{day} {clock}.{ms:03}"


@lru_cache(maxsize=64)  # many entries share a second
def _format_second(seconds: int, zone: tzinfo) -> str:
    return _moment(seconds * 1000, zone).isoformat()


def _parse_iso(text: str, zone: tzinfo, *, end: bool) -> int | None:
    if _DATE.fullmatch(text):
        return _bound_of_day(_in_range(date.fromisoformat(text)), zone, end=end)
    match = _DATE_AND_TIME.fullmatch(text)
    if not match:
        return None
    day, clock, offset = match.groups()
    wall = datetime.combine(_in_range(date.fromisoformat(day)), time.fromisoformat(clock))
    if offset:
        return _unix_ms(datetime.fromisoformat(f"{wall.isoformat()}{offset.upper()}"))
    readings = [_unix_ms(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)]
    return max(readings) if end else min(readings)


def _in_range(day: date) -> date:
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"the year is not within {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _bound_of_day(day: date, zone: tzinfo, *, end: bool) -> int:
    if not end:
        return _midnight(day, zone, fold=0)
    ends = [_midnight(day + _DAY, zone, fold=fold) - 1 for fold in (0, 1)]
    # If the clock goes back over midnight, the last hour of the day comes after the first minute of the next day.
    return max((last for last in ends if _moment(last, zone).date() == day), default=ends[0])


def _midnight(day: date, zone: tzinfo, *, fold: int) -> int:
    return _unix_ms(datetime.combine(day, time(fold=fold), zone))


def _unix_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(ts_ms: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=ts_ms)).astimezone(zone)
