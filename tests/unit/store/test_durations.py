"""Durations: exact percentiles."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nerve.store.durations import Durations

durations = st.floats(0, 2.0**52) | st.integers(0, 40).map(float)


@given(st.lists(durations, min_size=1), st.sampled_from([0, 1, 50, 90, 95, 99, 99.9, 100]))
def test_percentile_is_the_value_of_its_rank(values: list[float], percent: float) -> None:
    """It is the same as by sorting all of them."""
    kept = Durations()
    for value in values:
        kept.add(value)
    assert kept.percentile(percent) == sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    assert kept.count == len(values)


def test_percentile_of_no_durations_is_none() -> None:
    """There is no default."""
    assert Durations().percentile(50) is None
