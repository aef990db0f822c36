"""Moments: what is read, in which zone, what is refused, and that days and daylight saving hold for every zone."""

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
    """Give the unix ms of an ISO 8601 moment that names its offset."""
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
def test_a_moment_is_read_in_the_zone_unless_it_names_its_own(text: str, expected: int) -> None:
    """Each way to write a moment gives its exact unix ms."""
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
    """`end` moves bare days to their end, and nothing else."""
    assert parse_moment(text, NOW, BERLIN, end=True) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "tomorrow", "10", "2026", "1h30", "2026-11", "2026-11-23T", "2026-11-23T10", "2026-02-30", "2026-13-01",
     "2026-11-23T25:00", "2026-11-23T10:00+99:00", "20261123", "2026-W47-1", "23.11.2026", "10:00", "-10m",
     "0001-01-01", "9999-12-31", "9999-12-31T23:59-12:00", "\u0662\u0660\u0662\u0666-11-23", "99999999d", "x" * 5000],
)  # fmt: skip
def test_what_is_no_moment_is_refused_in_one_line(text: str) -> None:
    """The refusal names what was given, why, and how it is written."""
    with pytest.raises(ValueError, match=r"write it as|at most 36500d") as refusal:
        parse_moment(text, NOW, BERLIN)
    assert len(str(refusal.value)) < 240
    assert "\n" not in str(refusal.value)


@given(st.text(alphabet="0123456789-:TZ+. smhd\n\x00\u0663", max_size=30) | st.text(), st.booleans())
def test_any_text_is_a_moment_or_a_refusal(text: str, end: bool) -> None:
    """Nothing but ValueError comes out of any text."""
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
def test_a_day_with_a_switch_has_its_own_first_and_last_moment(zone: str, day: str, first: str, last: str) -> None:
    """A day of 23 or 25 hours is found whole, also where the switch is at midnight."""
    assert parse_moment(day, NOW, ZoneInfo(zone)) == ms(first)
    assert parse_moment(day, NOW, ZoneInfo(zone), end=True) == ms(last)


@given(moments, st.timezones())
def test_every_moment_is_within_the_day_that_its_zone_shows(ts: int, zone: tzinfo) -> None:
    """For any zone, the bounds of a day hold every moment that the zone calls so, and both belong to it."""
    day = format_moment(ts, zone, offset=False)[:10]
    first, last = parse_moment(day, NOW, zone), parse_moment(day, NOW, zone, end=True)
    assert first <= ts <= last
    assert [format_moment(bound, zone, offset=False)[:10] for bound in (first, last)] == [day, day]
    assert date.fromisoformat(format_moment(first - 1, zone, offset=False)[:10]) < date.fromisoformat(day)


@given(moments, st.timezones())
def test_yesterday_ends_where_today_starts(ts: int, zone: tzinfo) -> None:
    """Yesterday's bounds are those of the day before, and today's hold the moment itself."""
    assert parse_moment("today", ts, zone) <= ts <= parse_moment("today", ts, zone, end=True)
    before = date.fromisoformat(format_moment(ts, zone, offset=False)[:10]) - timedelta(days=1)
    assert parse_moment("yesterday", ts, zone) == parse_moment(str(before), ts, zone)


@given(moments, st.timezones())
def test_what_is_written_with_its_offset_is_read_back_exactly(ts: int, zone: tzinfo) -> None:
    """A moment copied from a pipe names itself, whatever the reader's zone."""
    written = format_moment(ts, zone, offset=True)
    assert " " not in written
    assert parse_moment(written, NOW, BERLIN) == ts


@given(moments, st.timezones())
def test_what_is_written_for_a_person_is_read_back(ts: int, zone: tzinfo) -> None:
    """A moment copied from the terminal is found between its two readings, which differ only where time repeats."""
    written = format_moment(ts, zone, offset=False)
    first, last = parse_moment(written, NOW, zone), parse_moment(written, NOW, zone, end=True)
    assert first <= ts <= last
    assert {format_moment(reading, zone, offset=False) for reading in (first, last)} == {written}


def test_a_skipped_wall_time_is_taken_around_the_gap() -> None:
    """02:30 on the night of the switch doesn't exist: a search from it or until it errs on the larger side."""
    assert parse_moment("2026-03-29T02:30", NOW, BERLIN) == ms("2026-03-29T01:30+01:00")
    assert parse_moment("2026-03-29T02:30", NOW, BERLIN, end=True) == ms("2026-03-29T03:30+02:00")


def test_a_moment_beyond_any_calendar_is_still_written() -> None:
    """No number in the column makes the output fail."""
    assert format_moment(2**53, BERLIN, offset=True) == f"@{2**53}"
    assert format_moment(-(2**53), SystemZone(), offset=False) == f"@{-(2**53)}"


@pytest.fixture(params=["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """Put this process into a zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_the_machines_zone_has_its_daylight_saving(machine_zone: ZoneInfo) -> None:
    """All year, and close to each switch, the machine's zone agrees with the one it was set to, there and back."""
    system = SystemZone()
    year = range(ms("2026-01-01T00:00Z"), ms("2027-01-01T00:00Z"), 7 * HOUR)
    switches = [ms(f"{day}T00:00Z") for day in ("2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01")]
    for ts in (*year, *(switch + step * HOUR // 2 for switch in switches for step in range(24))):
        written = format_moment(ts, machine_zone, offset=True)
        wall = written[: len("2026-01-01T00:00:00.000")]
        assert format_moment(ts, system, offset=True) == written
        for end in (False, True):
            assert parse_moment(wall, NOW, system, end=end) == parse_moment(wall, NOW, machine_zone, end=end)


def test_the_machines_zone_is_named(machine_zone: ZoneInfo) -> None:
    """The zone can be shown, as any tzinfo can."""
    moment = datetime(2026, 7, 1, tzinfo=SystemZone())
    assert moment.tzname() == moment.replace(tzinfo=machine_zone).tzname()
    assert moment.dst() is None
