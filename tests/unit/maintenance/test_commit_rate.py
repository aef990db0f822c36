"""The rate of committed events."""

from __future__ import annotations

from nerve.maintenance.commit_rate import RATE_SECONDS, CommitRate


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """What was committed longer ago counts no more, and nothing is a rate of zero."""
    rate = CommitRate()
    assert rate.per_second(0) == 0
    rate.add(10, 100)
    rate.add(12, 400)
    assert rate.per_second(12) == 500 / RATE_SECONDS
    assert rate.per_second(10 + RATE_SECONDS) == 500 / RATE_SECONDS
    assert rate.per_second(11 + RATE_SECONDS) == 400 / RATE_SECONDS
    assert rate.per_second(13 + RATE_SECONDS) == 0
