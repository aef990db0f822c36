"""UTC days, and the moments where they begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.store.utc_days import DAY_MS, FIRST_TS, day_end, day_of, day_start, is_day


@pytest.mark.parametrize(
    ("ts", "day"),
    [(0, "1970-01-01"), (-1, "1969-12-31"), (DAY_MS - 1, "1970-01-01"), (1_709_164_800_000, "2024-02-29")],
)
def test_a_moment_belongs_to_its_utc_day(ts: int, day: str) -> None:
    """The day is that of UTC, before 1970 too."""
    assert day_of(ts) == day


@given(st.integers(FIRST_TS, 250_000_000_000_000))
def test_a_day_holds_its_moments(ts: int) -> None:
    """Each moment lies between the start and the end of its day, which is DAY_MS later."""
    day = day_of(ts)
    assert day_start(day) <= ts < day_end(day) == day_start(day) + DAY_MS


@pytest.mark.parametrize(
    ("text", "yes"), [("2026-11-23", True), ("2026-02-30", False), ("manifest", False), ("", False)]
)
def test_days_are_told_from_other_text(text: str, yes: bool) -> None:
    """Only what the calendar has is a day."""
    assert is_day(text) is yes
