"""Places: who can be handed out, and how long a sense is taken to need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.scheduling.slots import Places, expected_ms


def is_quick(sense: str) -> bool:
    """Tell whether a sense of these tests is quick."""
    return sense.startswith("quick")


def claimed(places: Places, *senses: str) -> list[bool]:
    """Claim a place for each."""
    return [places.claim(sense) for sense in senses]


def test_each_free_worker_takes_one_run_of_any_sense() -> None:
    """Nobody waits behind another where nothing is said of it."""
    assert claimed(Places(2), "slow", "quick", "quick") == [True, True, False]
    assert claimed(Places(0), "quick") == [False]


def test_only_quick_runs_wait_behind_busy_workers() -> None:
    """A slow one has to be the first of a worker."""
    assert claimed(Places(0, spare=2, is_quick=is_quick), "slow", "quick", "quick", "quick") == [
        False,
        True,
        True,
        False,
    ]


def test_a_free_worker_that_gets_a_quick_run_has_room_for_more() -> None:
    """And one that gets a slow run has not."""
    assert claimed(Places(1, behind=2, is_quick=is_quick), "quick", "quick", "quick", "quick") == [
        True,
        True,
        True,
        False,
    ]
    assert claimed(Places(1, behind=2, is_quick=is_quick), "slow", "quick") == [True, False]


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.lists(st.sampled_from(["slow", "quick"])))
def test_there_are_never_more_places_than_there_are(free: int, spare: int, behind: int, senses: list[str]) -> None:
    """However many ask: one for each free worker, and for quick ones those behind."""
    places = Places(free, spare, behind, is_quick)
    given_to = [sense for sense, place in zip(senses, claimed(places, *senses), strict=True) if place]
    assert len(given_to) <= free + spare + free * behind
    assert given_to.count("slow") <= free
    assert len(given_to) >= min(len(senses), free)


@pytest.mark.parametrize(
    ("before", "ms", "expected"),
    [(None, 5.0, 5.0), (4.0, 5.0, 5.0), (20.0, 5.0, 10.0), (8.0, 5.0, 5.0), (0.0, 0.0, 0.0)],
)
def test_a_long_run_is_remembered_for_a_while(before: float | None, ms: float, expected: float) -> None:
    """Half as much with each shorter one after it."""
    assert expected_ms(before, ms) == expected
