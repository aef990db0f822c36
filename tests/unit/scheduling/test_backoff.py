"""The end of a throttle, and the length of a back-off."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nerve.scheduling.backoff import backoff, throttle_end


@pytest.mark.parametrize(
    ("deaths", "seconds"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 32), (8, 60), (9, 60), (10, 60), (10**6, 60)],
)
def test_backoff_doubles_from_the_second_death_up_to_a_minute(deaths: int, seconds: float) -> None:
    """One death has no consequence; then it is 1, 2, 4 ... seconds, never more than 60."""
    assert backoff(deaths) == seconds


@given(
    started=st.floats(0, 1e9),
    throttle=st.floats(0, 1e6),
    later=st.floats(0, 100),
)
@example(started=0.3, throttle=0.1, later=0.0)
@example(started=1e9, throttle=1e-9, later=0.0)
def test_a_throttle_ends_neither_too_early_nor_noticeably_late(started: float, throttle: float, later: float) -> None:
    """The difference of two starts is never below the throttle, in spite of rounding, which adds at most two ulps."""
    end = throttle_end(started, throttle)
    assert end - started >= throttle
    assert (end + later) - started >= throttle
    assert end <= started + throttle + 2 * math.ulp(started + throttle)
