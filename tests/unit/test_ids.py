"""Identifiers: valid UUIDs of version 7, ordered by time, each different."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.ids import RUN_ID_DIGITS, RunIds, sense_of, uuid7_hex


def test_the_digits_are_a_valid_uuid_of_version_7() -> None:
    """Version, variant and the 48 bits of time are where RFC 9562 puts them, for any random bits."""
    for _ in range(500):
        before = time.time_ns() // 1_000_000
        digits = uuid7_hex()
        after = time.time_ns() // 1_000_000
        made = uuid.UUID(digits)
        assert len(digits) == RUN_ID_DIGITS
        assert digits == digits.lower()
        assert made.version == 7
        assert made.variant == uuid.RFC_4122
        assert before <= made.int >> 80 <= after


def test_each_of_the_74_remaining_bits_is_random() -> None:
    """Each takes both values."""
    ones, zeros = 0, 0
    for _ in range(200):
        value = int(uuid7_hex(), 16)
        ones |= value
        zeros |= ~value
    free = (1 << 80) - 1 & ~(0xF << 76) & ~(0x3 << 62)
    assert ones & zeros & free == free


def test_identifiers_of_later_milliseconds_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order as text is their order in time, across every carry of the digits."""
    moments = [0, 1, 15, 16, 255, 256, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1]
    made = []
    for moment in moments:
        monkeypatch.setattr(time, "time_ns", lambda ms=moment: ms * 1_000_000)
        made.append(uuid7_hex())
    assert made == sorted(made)
    assert [int(digits[:12], 16) for digits in made] == moments


def test_identifiers_of_the_same_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniqueness does not depend on the clock."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert len({uuid7_hex() for _ in range(10_000)}) == 10_000


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True))
def test_a_run_id_begins_with_its_sense(sense: str) -> None:
    """sense_of returns it, and returns the name of a sense as it is."""
    run_id = RunIds().new(sense)
    assert sense_of(run_id) == sense_of(sense) == sense
    assert uuid.UUID(run_id.removeprefix(f"{sense}/")).version == 7


def test_run_ids_of_several_generators_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each generator has its own seed, also within one millisecond."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    generators = [RunIds() for _ in range(10)]
    assert len({generator.new("disk") for generator in generators for _ in range(1_000)}) == 10_000
