"""How long to wait before a child that died is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nerve.processes.restart import (
    BACKGROUND_DELAY_SECONDS,
    FAILED_STARTS_LIMIT,
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    RECENT_SECONDS,
    restart_delay,
)


def test_the_first_death_restarts_at_once() -> None:
    """So does the second one, if it comes long after the first."""
    assert restart_delay([100.0], 0, 100.0) == 0.0
    assert restart_delay([100.0, 100.0 + RECENT_SECONDS + 1], 0, 100.0 + RECENT_SECONDS + 1) == 0.0
    assert restart_delay([], 0, 5.0) == 0.0


def test_each_further_death_doubles_the_delay_up_to_the_longest() -> None:
    """It begins with the first delay, and never exceeds the longest."""
    delays = [restart_delay([7.0] * deaths, 0, 7.0) for deaths in range(1, 40)]
    assert delays[:4] == [0.0, FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_a_background_child_that_always_dies_is_soon_restarted_once_a_minute() -> None:
    """All day long no more often than that; its first restarts are as quick as those of any child."""
    now, deaths = 0.0, list[float]()
    while now < 86_400:
        deaths = [*deaths[-50:], now]
        delay = restart_delay(deaths, 0, now, BACKGROUND_DELAY_SECONDS)
        assert delay is not None
        now += delay
    assert deaths[-1] - deaths[-2] == BACKGROUND_DELAY_SECONDS
    assert restart_delay([now] * 4, 0, now, BACKGROUND_DELAY_SECONDS) == 4 * FIRST_DELAY_SECONDS


def test_only_recent_deaths_count() -> None:
    """A death counts for RECENT_SECONDS, and not any longer."""
    deaths = [0.0, 0.0, 0.0, 5.0]
    assert restart_delay(deaths, 0, RECENT_SECONDS) == 4 * FIRST_DELAY_SECONDS
    assert restart_delay(deaths, 0, RECENT_SECONDS + 0.001) == 0.0


def test_only_failed_starts_in_a_row_end_the_restarts() -> None:
    """A child that gets to serve is restarted after any number of deaths."""
    assert restart_delay([1.0] * 1000, 0, 1.0) is not None
    assert restart_delay([1.0], FAILED_STARTS_LIMIT - 1, 1.0) is not None
    assert restart_delay([1.0], FAILED_STARTS_LIMIT, 1.0) is None
    assert restart_delay([], FAILED_STARTS_LIMIT + 1, 1.0) is None


@given(
    deaths=st.lists(st.floats(0, 100), max_size=60),
    more=st.lists(st.floats(0, 100), max_size=5),
    failed=st.integers(0, FAILED_STARTS_LIMIT - 1),
    now=st.floats(100, 120),
)
def test_a_delay_is_bounded_and_never_shrinks_with_more_deaths(
    deaths: list[float], more: list[float], failed: int, now: float
) -> None:
    """Whatever the history, it is at most the longest delay."""
    delay, longer = restart_delay(deaths, failed, now), restart_delay(deaths + more, failed, now)
    assert delay is not None
    assert longer is not None
    assert 0.0 <= delay <= longer <= LONGEST_DELAY_SECONDS
