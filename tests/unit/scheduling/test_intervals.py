"""Timers come on their grid, without drift, and those that were missed are counted."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nerve.scheduling.intervals import Interval, Tick, Timer, Timers, stagger

HALF_A_YEAR_OF_DECISECONDS = 160_000_000


def beats_of(*pulses: Timer) -> Timers:
    """Give Timers with these pulses."""
    beats = Timers()
    for pulse in pulses:
        beats.add(pulse)
    return beats


def test_no_error_adds_up_over_millions_of_beats() -> None:
    """Half a year of tenths of a second later, a beat is off by no more than one rounding."""
    moment = Interval(0.7, 0.1).at(HALF_A_YEAR_OF_DECISECONDS)
    exact = Fraction(0.7) + HALF_A_YEAR_OF_DECISECONDS * Fraction(0.1)
    assert abs(Fraction(moment) - exact) <= 2 * Fraction(math.ulp(moment))


@given(first=st.floats(0, 1e7), interval=st.floats(1e-3, 1e6), passed=st.floats(0, 1e7))
@example(first=0.0, interval=0.1, passed=0.3)
@example(first=0.0, interval=0.1, passed=3.4)
def test_the_latest_beat_is_the_last_one_not_after_now(first: float, interval: float, passed: float) -> None:
    """Rounding never makes a beat come early, nor twice, nor go unseen."""
    grid, now = Interval(first, interval), first + passed
    k = grid.latest(now)
    assert k >= 0
    assert grid.at(k) <= now < grid.at(k + 1)


def test_the_beats_of_many_are_spread_and_those_of_a_few_are_not() -> None:
    """A thousand reflexes at 1 s fill their second evenly; the first four of them still begin at once."""
    offsets = [stagger(number, 1.0) for number in range(1000)]
    assert offsets[:5] == [0.0] * 4 + [0.004]
    for tenth in range(10):
        assert 90 < sum(tenth / 10 <= offset < (tenth + 1) / 10 for offset in offsets) < 110


@given(number=st.integers(0, 100_000), interval=st.floats(1e-3, 1e6))
def test_nothing_is_put_off_by_a_whole_interval(number: int, interval: float) -> None:
    """However many reflexes there are, each has its first beat within its first interval."""
    assert 0 <= stagger(number, interval) < interval


@pytest.mark.parametrize("interval", [0.0, -1.0, math.inf, math.nan])
def test_an_interval_must_be_positive_and_finite(interval: float) -> None:
    """What could never beat, or would beat for ever at one moment, is refused."""
    with pytest.raises(ValueError, match="positive, finite number of seconds"):
        Interval(0.0, interval)


def test_a_beat_comes_once() -> None:
    """Passing to the same moment twice gives its beat once."""
    beats = beats_of(Timer("disk", "every", Interval(5.0, 2.0)))
    assert beats.pass_to(4.9) == []
    assert beats.pass_to(5.0) == [Tick("disk", "every", 5.0, 0)]
    assert beats.pass_to(5.0) == []
    assert beats.next() == 7.0


def test_late_beats_are_given_in_the_order_of_what_is_left_of_them() -> None:
    """After a gap, the order is that of each pulse's last beat, not of its first missed one."""
    beats = beats_of(Timer("a", "fast", Interval(0.0, 1.0)), Timer("b", "slow", Interval(0.5, 10.0)))
    assert beats.pass_to(3.2) == [Tick("b", "slow", 0.5, 0), Tick("a", "fast", 3.0, 3)]


def test_of_beats_at_one_moment_the_first_added_comes_first() -> None:
    """Ties keep the order in which the reflexes are configured, even if the later one has missed more."""
    beats = beats_of(Timer("a", "slow", Interval(0.0, 3.0), k=1), Timer("b", "fast", Interval(0.0, 1.0), k=1))
    assert beats.pass_to(3.0) == [Tick("a", "slow", 3.0, 0), Tick("b", "fast", 3.0, 2)]


def test_cleared_beats_are_silent() -> None:
    """Nothing beats after clear."""
    beats = beats_of(Timer("disk", "every", Interval(0.0, 1.0)))
    beats.clear()
    assert beats.pass_to(100.0) == []
    assert beats.next() is None
