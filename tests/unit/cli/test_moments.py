"""Parsing and formatting of times: formats, zones, errors, and days on which the clock changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.cli.moments import SystemZone, format_moment, parse_moment

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
BERLIN = ZoneInfo("Europe/Berlin")

moments = st.integers(3 * DAY, 40_000 * DAY)


def ms(text: str) -> int:
    """Return the unix ms of an ISO 8601 time with an offset."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


NOW = ms("2026-11-23T15:30:12.345Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("10m", NOW - 10 * MINUTE),
        ("2h30m", NOW - 150 * MINUTE),
        ("0s", NOW),
        (" 1h 30m ", NOW - 90 * MINUTE),
        ("today", ms("2026-11-23T00:00+01:00")),
        ("Yesterday", ms("2026-11-22T00:00+01:00")),
        ("2026-11-23", ms("2026-11-23T00:00+01:00")),
        ("2026-11-23T10:00", ms("2026-11-23T10:00+01:00")),
        ("2026-11-23 10:00:05", ms("2026-11-23T10:00:05+01:00")),
        ("2026-11-23T10:00:05.678", ms("2026-11-23T10:00:05.678+01:00")),
        ("2026-07-01T10:00", ms("2026-07-01T10:00+02:00")),
        ("2026-11-23T10:00Z", ms("2026-11-23T10:00Z")),
        ("2026-11-23 10:00:00z", ms("2026-11-23T10:00Z")),
        ("2026-11-23T10:00+05:30", ms("2026-11-23T10:00+05:30")),
        ("2026-11-23 10:00 -0800", ms("2026-11-23T10:00-08:00")),
    ],
)
def test_a_time_without_an_offset_is_in_the_zone(text: str, expected: int) -> None:
    """Each format is parsed to the exact unix ms."""
    assert parse_moment(text, NOW, BERLIN) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", ms("2026-11-23T23:59:59.999+01:00")),
        ("today", ms("2026-11-23T23:59:59.999+01:00")),
        ("yesterday", ms("2026-11-22T23:59:59.999+01:00")),
        ("2026-11-23T10:00", ms("2026-11-23T10:00+01:00")),
        ("10m", NOW - 10 * MINUTE),
        ("now", NOW),
    ],
)
def test_the_end_of_a_bare_day_is_its_last_millisecond(text: str, expected: int) -> None:
    """`end` changes bare days only."""
    assert parse_moment(text, NOW, BERLIN, end=True) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "tomorrow", "10", "2026", "1h30", "2026-11", "2026-11-23T", "2026-11-23T10", "2026-02-30", "2026-13-01",
     "2026-11-23T25:00", "2026-11-23T10:00+99:00", "20261123", "2026-W47-1", "23.11.2026", "10:00", "-10m",
     "0001-01-01", "9999-12-31", "9999-12-31T23:59-12:00", "\u0662\u0660\u0662\u0666-11-23", "99999999d", "x" * 5000],
)  # fmt: skip
def test_an_invalid_time_is_an_error_in_one_line(text: str) -> None:
    """The message shows the text, the reason, and the valid formats."""
    with pytest.raises(ValueError, match=r"write it as|at most 36500d") as refusal:
        parse_moment(text, NOW, BERLIN)
    assert len(str(refusal.value)) < 240
    assert "\n" not in str(refusal.value)


@given(st.text(alphabet="0123456789-:TZ+. smhd\n\x00\u0663", max_size=30) | st.text(), st.booleans())
def test_any_text_is_a_time_or_a_value_error(text: str, end: bool) -> None:
    """No text raises another exception."""
    try:
        outcome = str(parse_moment(text, NOW, BERLIN, end=end))
    except ValueError as refusal:
        outcome = str(refusal)
    assert outcome.isprintable()


@pytest.mark.parametrize(
    ("zone", "day", "first", "last"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-29T00:00+01:00", "2026-03-29T23:59:59.999+02:00"),
        ("Europe/Berlin", "2026-10-25", "2026-10-25T00:00+02:00", "2026-10-25T23:59:59.999+01:00"),
        # The day starts at 01:00, since midnight is skipped.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T01:00-02:00", "2018-11-04T23:59:59.999-02:00"),
        # The last hour of the day is there twice.
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T00:00-02:00", "2018-02-17T23:59:59.999-03:00"),
        # The first hour of the day is there twice, and so is the midnight before it.
        ("America/Havana", "2026-11-01", "2026-11-01T00:00-04:00", "2026-11-01T23:59:59.999-05:00"),
        ("America/Havana", "2026-10-31", "2026-10-31T00:00-04:00", "2026-10-31T23:59:59.999-04:00"),
        # At 00:01 of the next day the clock went back to 23:01 of this one.
        ("America/St_Johns", "2010-11-06", "2010-11-06T00:00-02:30", "2010-11-06T23:59:59.999-03:30"),
    ],
)
def test_a_day_with_a_clock_change_has_its_own_bounds(zone: str, day: str, first: str, last: str) -> None:
    """A day of 23 or 25 hours is complete, even if the clock changes at midnight."""
    assert parse_moment(day, NOW, ZoneInfo(zone)) == ms(first)
    assert parse_moment(day, NOW, ZoneInfo(zone), end=True) == ms(last)


@given(moments, st.timezones())
def test_every_time_is_within_the_bounds_of_its_day(ts: int, zone: tzinfo) -> None:
    """In any zone, the bounds of a day enclose every time of that day, and both belong to it."""
    day = format_moment(ts, zone, offset=False)[:10]
    first, last = parse_moment(day, NOW, zone), parse_moment(day, NOW, zone, end=True)
    assert first <= ts <= last
    assert [format_moment(bound, zone, offset=False)[:10] for bound in (first, last)] == [day, day]
    assert date.fromisoformat(format_moment(first - 1, zone, offset=False)[:10]) < date.fromisoformat(day)


@given(moments, st.timezones())
def test_yesterday_is_the_day_before_today(ts: int, zone: tzinfo) -> None:
    """The bounds of yesterday are those of that date, and the bounds of today enclose the current time."""
    assert parse_moment("today", ts, zone) <= ts <= parse_moment("today", ts, zone, end=True)
    before = date.fromisoformat(format_moment(ts, zone, offset=False)[:10]) - timedelta(days=1)
    assert parse_moment("yesterday", ts, zone) == parse_moment(str(before), ts, zone)


@given(moments, st.timezones())
def test_a_formatted_time_with_an_offset_is_parsed_exactly(ts: int, zone: tzinfo) -> None:
    """A time that is copied from a pipe is unambiguous in any zone."""
    written = format_moment(ts, zone, offset=True)
    assert " " not in written
    assert parse_moment(written, NOW, BERLIN) == ts


@given(moments, st.timezones())
def test_a_formatted_time_without_an_offset_is_between_its_two_readings(ts: int, zone: tzinfo) -> None:
    """The readings of a time that is copied from a terminal differ only if the wall time is repeated."""
    written = format_moment(ts, zone, offset=False)
    first, last = parse_moment(written, NOW, zone), parse_moment(written, NOW, zone, end=True)
    assert first <= ts <= last
    assert {format_moment(reading, zone, offset=False) for reading in (first, last)} == {written}


def test_a_skipped_wall_time_widens_a_search() -> None:
    """02:30 does not exist on the night of the clock change: a search from it starts early, one until it ends late."""
    assert parse_moment("2026-03-29T02:30", NOW, BERLIN) == ms("2026-03-29T01:30+01:00")
    assert parse_moment("2026-03-29T02:30", NOW, BERLIN, end=True) == ms("2026-03-29T03:30+02:00")


def test_a_time_beyond_the_calendar_is_formatted_as_a_number() -> None:
    """No number in the column `ts` makes a command fail."""
    assert format_moment(2**53, BERLIN, offset=True) == f"@{2**53}"
    assert format_moment(-(2**53), SystemZone(), offset=False) == f"@{-(2**53)}"


@pytest.fixture(params=["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """Set the time zone of this process, and return it."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_the_zone_of_the_machine_includes_daylight_saving_time(machine_zone: ZoneInfo) -> None:
    """All year, and close to each clock change, it formats and parses times like the zone that $TZ names."""
    system = SystemZone()
    year = range(ms("2026-01-01T00:00Z"), ms("2027-01-01T00:00Z"), 7 * HOUR)
    switches = [ms(f"{day}T00:00Z") for day in ("2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01")]
    for ts in (*year, *(switch + step * HOUR // 2 for switch in switches for step in range(24))):
        written = format_moment(ts, machine_zone, offset=True)
        wall = written[: len("2026-01-01T00:00:00.000")]
        assert format_moment(ts, system, offset=True) == written
        for end in (False, True):
            assert parse_moment(wall, NOW, system, end=end) == parse_moment(wall, NOW, machine_zone, end=end)


def test_the_zone_of_the_machine_has_a_name(machine_zone: ZoneInfo) -> None:
    """The name is the abbreviation that the zone itself has."""
    moment = datetime(2026, 7, 1, tzinfo=SystemZone())
    assert moment.tzname() == moment.replace(tzinfo=machine_zone).tzname()
    assert moment.dst() is None
