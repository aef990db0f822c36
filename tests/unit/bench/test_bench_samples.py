"""What the benchmark makes of its samples."""

from __future__ import annotations

import pytest
from bench.samples import Samples, growth_exponents, interleaved, percentile


def test_a_percentile_is_one_of_the_values() -> None:
    """The nearest rank: the smallest value that enough of the others don't exceed."""
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, percent) for percent in (0, 20, 21, 50, 99, 100)] == [1, 1, 2, 3, 5, 5]


def test_nothing_measured_has_no_percentile() -> None:
    """That is an error, not a 0 that would look very good."""
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 99)
    with pytest.raises(ValueError, match="101 is no percentage"):
        percentile([1.0], 101)


def test_one_slow_sample_does_not_move_the_median() -> None:
    """A machine that was busy once does not decide."""
    assert Samples("nerve", "ms", (1.0, 900.0, 1.2)).median == 1.2


def test_ways_take_turns_forwards_and_backwards() -> None:
    """So that what slows the machine for a while slows all of them."""
    order: list[str] = []

    def noted(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved(3, {"a": lambda: noted("a"), "b": lambda: noted("b")})
    assert "".join(order) == "abbaab"
    assert found == {"a": (1, 4, 5), "b": (2, 3, 6)}


def test_growth_is_a_power_of_the_size() -> None:
    """A constant cost a unit has 0, one that is in proportion to the size has 1."""
    assert growth_exponents((10, 100, 1000), (5.0, 5.0, 50.0)) == pytest.approx((0, 1))
