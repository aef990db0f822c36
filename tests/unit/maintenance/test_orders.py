"""AdaptiveBatchSize: steps between commits take about STEP_SECONDS."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nerve.maintenance.orders import FEWEST, MOST, STEP_SECONDS, AdaptiveBatchSize

RATES = st.floats(1.0, 1e7)  # rows per second


def test_next_step_grows_after_a_fast_one_and_shrinks_after_a_slow_one() -> None:
    """The size at most doubles, and shrinks to a quarter at most, since one step may be an exception."""
    assert AdaptiveBatchSize(100).after(100, STEP_SECONDS / 1.5).size == 150
    assert AdaptiveBatchSize(100).after(100, 0.0).size == 200
    assert AdaptiveBatchSize(100).after(100, STEP_SECONDS * 2).size == 50
    assert AdaptiveBatchSize(100).after(100, 10.0).size == 25


def test_size_stays_after_a_step_with_little_left_to_do() -> None:
    """A short step with few rows says nothing about the speed; a long one does."""
    assert AdaptiveBatchSize(100).after(3, 0.0001) == AdaptiveBatchSize(100)
    assert AdaptiveBatchSize(100).after(3, 1.0).size < 100


@given(RATES, st.integers(FEWEST, MOST))
def test_steps_approach_the_target_duration_at_any_speed(rate: float, size: int) -> None:
    """From any size, twelve steps are enough to get within 10 % of STEP_SECONDS, if the bounds permit it."""
    batch = AdaptiveBatchSize(size)
    for _ in range(12):
        batch = batch.after(batch.size, batch.size / rate)
    assert FEWEST <= batch.size <= MOST
    assert batch.size / rate <= max(STEP_SECONDS * 1.1, FEWEST / rate)
    assert batch.size >= min(0.9 * STEP_SECONDS * rate, MOST) - 1


@given(st.lists(st.tuples(st.integers(0, MOST), st.floats(0.0, 100.0)), max_size=20))
def test_size_stays_within_its_bounds_after_any_steps(past: list[tuple[int, float]]) -> None:
    """Neither very fast nor very slow steps lead out of FEWEST to MOST."""
    batch = AdaptiveBatchSize()
    for done, seconds in past:
        batch = batch.after(done, seconds)
        assert FEWEST <= batch.size <= MOST
