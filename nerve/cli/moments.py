"""Moments as people write them, to unix ms and back, and the time zone of this machine."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from nerve.units import parse_duration

EXAMPLES = "10m or 2h30m (ago), 2026-11-23, 2026-11-23T10:00, 2026-11-23T10:00Z, today, yesterday or now"
FIRST_YEAR, LAST_YEAR = 1970, 9998  # in between, every zone can convert every moment

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
    """The time zone of this machine (or of $TZ) with its daylight saving, which no fixed offset has."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Give the offset at a wall time of this zone; `fold` tells which of two it is."""
        return self._fixed(moment).utcoffset() if moment else None

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Give None: nobody asks how much of the offset is daylight saving."""

    def tzname(self, moment: datetime | None) -> str | None:
        """Give the zone's abbreviation at a wall time: CET, CEST."""
        return self._fixed(moment).tzname() if moment else None

    def fromutc(self, moment: datetime) -> datetime:
        """Turn UTC into this zone's wall time, with the right `fold`."""
        seconds = (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
        return datetime.fromtimestamp(seconds).replace(microsecond=moment.microsecond, tzinfo=self)  # noqa: DTZ006 - local time is what is asked for

    @staticmethod
    def _fixed(moment: datetime) -> datetime:
        return moment.replace(tzinfo=None).astimezone()


def parse_moment(text: str, now_ms: int, zone: tzinfo, *, end: bool = False) -> int:
    """Read a moment, in unix ms: that long ago (`10m`), a day, a time (ISO 8601, or with a space), or a word.

    What names no offset is in `zone`. A bare day, `today` and `yesterday` are their first moment or, with `end`,
    their last one, however long daylight saving makes the day. A wall time that daylight saving skips or repeats
    is the earlier of the two readings or, with `end`, the later one, so that a search from it or until it shows
    what was meant. Raises ValueError, with one sentence for the reader, for anything else.
    """
    wanted = text.strip()
    word = wanted.lower()
    if word == "now":
        return now_ms
    if word in {"today", "yesterday"}:
        day = _moment(now_ms, zone).date() - (_DAY if word == "yesterday" else timedelta())
        return _bound_of_day(day, zone, end=end)
    if _AGO.fullmatch(wanted):
        return now_ms - round(parse_duration(wanted, allow_zero=True) * 1000)
    reason = ""
    try:
        if (moment := _parse_iso(wanted, zone, end=end)) is not None:
            return moment
    except (ValueError, OverflowError) as error:
        reason = f" ({error})"
    shown = repr(text) if len(text) <= 40 else f"{text[:37]!r}..."
    raise ValueError(f"{shown} is not a moment{reason}: write it as {EXAMPLES}")


def format_moment(ts_ms: int, zone: tzinfo, *, offset: bool) -> str:
    """Write unix ms as parse_moment reads it, to the millisecond.

    For a person `2026-11-23 10:00:00.123`, and with `offset` `2026-11-23T10:00:00.123+01:00`, which is one word
    and unambiguous. What no calendar holds is written as `@` and the number.
    """
    seconds, ms = divmod(ts_ms, 1000)
    try:
        second = _format_second(seconds, zone)
    except (ValueError, OverflowError, OSError):
        return f"@{ts_ms}"
    day, clock, suffix = second[:10], second[11:19], second[19:]
    return f"{day}T{clock}.{ms:03}{suffix}" if offset else f"{day} {clock}.{ms:03}"


@lru_cache(maxsize=64)  # entries come by the hundred a second
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
    # Where the clock goes back over midnight, the day has its last hour after the next day's first minute.
    return max((last for last in ends if _moment(last, zone).date() == day), default=ends[0])


def _midnight(day: date, zone: tzinfo, *, fold: int) -> int:
    return _unix_ms(datetime.combine(day, time(fold=fold), zone))


def _unix_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(ts_ms: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=ts_ms)).astimezone(zone)
