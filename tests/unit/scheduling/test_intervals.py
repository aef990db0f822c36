"""The ticks of an interval come without drift, and missed ones are counted."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nerve.scheduling.intervals import Interval, Tick, Timer, Timers, stagger

HALF_A_YEAR_OF_DECISECONDS = 160_000_000


def timers_of(*timers: Timer) -> Timers:
    """Make Timers of some timers."""
    added = Timers()
    for timer in timers:
        added.add(timer)
    return added


def test_rounding_errors_do_not_add_up_over_millions_of_ticks() -> None:
    """After half a year of tenths of a second, a tick is off by no more than one rounding."""
    moment = Interval(0.7, 0.1).at(HALF_A_YEAR_OF_DECISECONDS)
    exact = Fraction(0.7) + HALF_A_YEAR_OF_DECISECONDS * Fraction(0.1)
    assert abs(Fraction(moment) - exact) <= 2 * Fraction(math.ulp(moment))


@given(first=st.floats(0, 1e7), interval=st.floats(1e-3, 1e6), passed=st.floats(0, 1e7))
@example(first=0.0, interval=0.1, passed=0.3)
@example(first=0.0, interval=0.1, passed=3.4)
def test_the_latest_tick_is_the_last_one_not_after_now(first: float, interval: float, passed: float) -> None:
    """Rounding never makes a tick come early, or twice, or not at all."""
    ticks, now = Interval(first, interval), first + passed
    k = ticks.latest(now)
    assert k >= 0
    assert ticks.at(k) <= now < ticks.at(k + 1)


def test_first_ticks_are_staggered_for_many_reflexes_but_not_for_four() -> None:
    """A thousand reflexes at 1 s fill their second evenly; the first four of them begin at once."""
    offsets = [stagger(number, 1.0) for number in range(1000)]
    assert offsets[:5] == [0.0] * 4 + [0.004]
    for tenth in range(10):
        assert 90 < sum(tenth / 10 <= offset < (tenth + 1) / 10 for offset in offsets) < 110


@given(number=st.integers(0, 100_000), interval=st.floats(1e-3, 1e6))
def test_a_first_tick_is_never_delayed_by_a_whole_interval(number: int, interval: float) -> None:
    """However many reflexes there are, each has its first tick within its first interval."""
    assert 0 <= stagger(number, interval) < interval


@pytest.mark.parametrize("interval", [0.0, -1.0, math.inf, math.nan])
def test_an_interval_must_be_positive_and_finite(interval: float) -> None:
    """An interval that would never tick, or tick without end at one moment, raises ValueError."""
    with pytest.raises(ValueError, match="positive, finite number of seconds"):
        Interval(0.0, interval)


def test_a_tick_comes_once() -> None:
    """Asking twice at the moment of a tick returns it once."""
    timers = timers_of(Timer("disk", "every", Interval(5.0, 2.0)))
    assert timers.pop_due(4.9) == []
    assert timers.pop_due(5.0) == [Tick("disk", "every", 5.0, 0)]
    assert timers.pop_due(5.0) == []
    assert timers.next_deadline() == 7.0


def test_late_ticks_are_ordered_by_the_last_one_of_each_timer() -> None:
    """After a gap, the order is not that of the first ticks that were missed."""
    timers = timers_of(Timer("a", "fast", Interval(0.0, 1.0)), Timer("b", "slow", Interval(0.5, 10.0)))
    assert timers.pop_due(3.2) == [Tick("b", "slow", 0.5, 0), Tick("a", "fast", 3.0, 3)]


def test_ticks_at_one_moment_are_ordered_by_when_their_timers_were_added() -> None:
    """Ties keep the order in which the reflexes are configured, even if the later one has missed more."""
    timers = timers_of(Timer("a", "slow", Interval(0.0, 3.0), k=1), Timer("b", "fast", Interval(0.0, 1.0), k=1))
    assert timers.pop_due(3.0) == [Tick("a", "slow", 3.0, 0), Tick("b", "fast", 3.0, 2)]


def test_cleared_timers_never_tick() -> None:
    """After clear there is no tick, and no next one."""
    timers = timers_of(Timer("disk", "every", Interval(0.0, 1.0)))
    timers.clear()
    assert timers.pop_due(100.0) == []
    assert timers.next_deadline() is None
