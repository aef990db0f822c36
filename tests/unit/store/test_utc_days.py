"""UTC days and their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.store.utc_days import DAY_MS, FIRST_TS, day_end, day_of, day_start, is_day


@pytest.mark.parametrize(
    ("ts", "day"),
    [(0, "1970-01-01"), (-1, "1969-12-31"), (DAY_MS - 1, "1970-01-01"), (1_709_164_800_000, "2024-02-29")],
)
def test_day_of_a_time_is_in_utc(ts: int, day: str) -> None:
    """This holds before 1970 too."""
    assert day_of(ts) == day


@given(st.integers(FIRST_TS, 250_000_000_000_000))
def test_day_start_and_end_enclose_its_times(ts: int) -> None:
    """They are DAY_MS apart."""
    day = day_of(ts)
    assert day_start(day) <= ts < day_end(day) == day_start(day) + DAY_MS


@pytest.mark.parametrize(
    ("text", "yes"), [("2026-11-23", True), ("2026-02-30", False), ("manifest", False), ("", False)]
)
def test_is_day_accepts_days_of_the_calendar_only(text: str, yes: bool) -> None:
    """Other texts are not valid days."""
    assert is_day(text) is yes
