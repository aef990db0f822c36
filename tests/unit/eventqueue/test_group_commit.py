"""When to commit, and how long to gather before the next time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.eventqueue.group_commit import (
    GROUP_SECONDS,
    LONGEST_GROUP_SECONDS,
    REST,
    commit_due,
    group_seconds,
)


@pytest.mark.parametrize(
    ("oldest", "last_commit", "due"),
    [
        (100.0, 50.0, 100.0),
        (100.0, 100.0 - GROUP_SECONDS, 100.0),
        (100.0, 99.999, 99.999 + GROUP_SECONDS),
        (100.0, 100.0, 100.0 + GROUP_SECONDS),
    ],
    ids=["after a pause", "after just the pause", "soon after a commit", "at a commit"],
)
def test_when_to_commit(oldest: float, last_commit: float, due: float) -> None:
    """At once after a pause, and else with what comes in the next moments."""
    assert commit_due(oldest, last_commit, GROUP_SECONDS) == due


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_the_longer_a_commit_takes_the_longer_is_gathered(shorter: float, longer: float) -> None:
    """Within bounds: never so short that each event has a commit, nor so long that anybody would notice."""
    shorter, longer = sorted((shorter, longer))
    assert GROUP_SECONDS <= group_seconds(shorter) <= group_seconds(longer) <= LONGEST_GROUP_SECONDS


def test_in_between_it_is_a_multiple_of_what_the_commit_took() -> None:
    """So commits have a fixed share of the writer's time, as long as they are short."""
    assert group_seconds(0.008) == REST * 0.008
