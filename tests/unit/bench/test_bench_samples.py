"""Statistics of the benchmark's samples."""

from __future__ import annotations

import pytest
from bench.samples import Samples, growth_exponents, interleaved, percentile


def test_a_percentile_is_one_of_the_values() -> None:
    """It is the nearest rank: the smallest value that enough of the values do not exceed."""
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, percent) for percent in (0, 20, 21, 50, 99, 100)] == [1, 1, 2, 3, 5, 5]


def test_a_percentile_of_no_values_is_an_error() -> None:
    """A 0 would look like a very good figure."""
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 99)
    with pytest.raises(ValueError, match="101 is no percentage"):
        percentile([1.0], 101)


def test_one_slow_sample_does_not_move_the_median() -> None:
    """The machine may have been busy once."""
    assert Samples("nerve", "ms", (1.0, 900.0, 1.2)).median == 1.2


def test_variants_are_measured_in_turns_forwards_and_backwards() -> None:
    """So a slow phase of the machine affects all of them."""
    order: list[str] = []

    def noted(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved(3, {"a": lambda: noted("a"), "b": lambda: noted("b")})
    assert "".join(order) == "abbaab"
    assert found == {"a": (1, 4, 5), "b": (2, 3, 6)}


def test_growth_is_the_exponent_of_the_size() -> None:
    """It is 0 for a constant cost per unit, and 1 for one in proportion to the size."""
    assert growth_exponents((10, 100, 1000), (5.0, 5.0, 50.0)) == pytest.approx((0, 1))
