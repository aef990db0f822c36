"""Steps between commits: as large as time allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nerve.maintenance.orders import FEWEST, MOST, STEP_SECONDS, AdaptiveBatchSize

RATES = st.floats(1.0, 1e7)  # rows a second


def test_a_fast_step_makes_the_next_one_larger_a_slow_one_smaller() -> None:
    """But no more than twice, or to a quarter, as one may be an exception."""
    assert AdaptiveBatchSize(100).after(100, STEP_SECONDS / 1.5).size == 150
    assert AdaptiveBatchSize(100).after(100, 0.0).size == 200
    assert AdaptiveBatchSize(100).after(100, STEP_SECONDS * 2).size == 50
    assert AdaptiveBatchSize(100).after(100, 10.0).size == 25


def test_a_step_that_had_little_to_do_says_nothing() -> None:
    """Unless it took long all the same."""
    assert AdaptiveBatchSize(100).after(3, 0.0001) == AdaptiveBatchSize(100)
    assert AdaptiveBatchSize(100).after(3, 1.0).size < 100


@given(RATES, st.integers(FEWEST, MOST))
def test_steps_soon_take_the_time_that_they_should(rate: float, size: int) -> None:
    """At any speed, from any size, and then they go on so."""
    stride = AdaptiveBatchSize(size)
    for _ in range(12):
        stride = stride.after(stride.size, stride.size / rate)
    assert FEWEST <= stride.size <= MOST
    assert stride.size / rate <= max(STEP_SECONDS * 1.1, FEWEST / rate)
    assert stride.size >= min(0.9 * STEP_SECONDS * rate, MOST) - 1


@given(st.lists(st.tuples(st.integers(0, MOST), st.floats(0.0, 100.0)), max_size=20))
def test_a_step_has_its_bounds(past: list[tuple[int, float]]) -> None:
    """Whatever happened before."""
    stride = AdaptiveBatchSize()
    for done, seconds in past:
        stride = stride.after(done, seconds)
        assert FEWEST <= stride.size <= MOST
