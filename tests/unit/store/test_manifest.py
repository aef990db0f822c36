"""The manifest, as text and as entries."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.store.manifest import FileName, ManifestEntry, Tally, last_archived_id, next_name, parse_manifest

DAY = "2026-11-23"


def entry(file: str, last_id: int, *, day: str = DAY, log_id: str = "L") -> ManifestEntry:
    """Make an entry."""
    return ManifestEntry(day, file, 1, last_id, last_id, "abc", 10, 0, log_id)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2026-11-23.jsonl", FileName(DAY, 0)),
        ("2026-11-23.1.jsonl", FileName(DAY, 1)),
        ("2026-11-23.12.jsonl", FileName(DAY, 12)),
        ("2026-11-23.0.jsonl", None),
        ("2026-11-23.01.jsonl", None),
        ("2026-02-30.jsonl", None),
        ("2026-11-23.jsonl.tmp", None),
        ("2026-11-23.jsonl.zst", None),
        ("manifest.jsonl", None),
    ],
)
def test_names_of_files_are_told_from_others(text: str, name: FileName | None) -> None:
    """Only a name that we would give is one of ours, and it is written as it was read."""
    assert FileName.parse(text) == name
    assert name is None or str(name) == text


def test_a_tally_adds_up_what_the_manifest_says() -> None:
    """Rows, first and last id, bytes, and the digest of the file."""
    tally = Tally()
    tally.add(3, b"one\n")
    tally.add(9, b"two\n")
    digest = hashlib.sha256(b"one\ntwo\n").hexdigest()
    expected = ManifestEntry(DAY, "2026-11-23.1.jsonl", 2, 3, 9, digest, 8, 1234, "L")
    assert tally.entry(FileName(DAY, 1), 1234, "L") == expected


@given(st.lists(st.integers(1, 99), max_size=4), st.integers(0, 500))
def test_a_line_that_was_being_written_does_not_count(ids: list[int], cut: int) -> None:
    """Wherever the power failed, the whole lines before are there, and their length is known."""
    lines = [msgspec.json.encode(entry("x.jsonl", n)) + b"\n" for n in ids]
    data = b"".join(lines)[:cut]
    entries, length = parse_manifest(data)
    assert length == data.rfind(b"\n") + 1
    assert entries == [entry("x.jsonl", n) for n in ids[: data.count(b"\n")]]


@pytest.mark.parametrize("damage", [b"{}\n", b"oops\n", b"\xff\n", b"\n", b"\x00\x00\n"])
def test_other_damage_is_told_with_its_line(damage: bytes) -> None:
    """A whole line that is no entry means that somebody else has written there."""
    with pytest.raises(ValueError, match="line 2 is damaged"):
        parse_manifest(msgspec.json.encode(entry("a.jsonl", 1)) + b"\n" + damage)


def test_rows_are_archived_up_to_the_greatest_id_of_their_day() -> None:
    """Other days, and another log with the same ids, don't count."""
    entries = [entry("a", 5), entry("b", 3), entry("c", 9, day="2026-11-24"), entry("d", 99, log_id="other")]
    assert last_archived_id(entries, DAY, "L") == 5
    assert last_archived_id(entries, "2020-01-01", "L") == 0


def test_late_rows_go_to_the_next_part() -> None:
    """Whichever log the parts came from, none is written twice."""
    assert str(next_name([], DAY)) == "2026-11-23.jsonl"
    entries = [entry("2026-11-23.jsonl", 1), entry("2026-11-23.2.jsonl", 2, log_id="other"), entry("odd", 3)]
    assert str(next_name(entries, DAY)) == "2026-11-23.3.jsonl"
    assert str(next_name(entries, "2026-11-24")) == "2026-11-24.jsonl"
