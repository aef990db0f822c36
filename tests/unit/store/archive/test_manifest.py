"""The manifest: its lines, entries and file names."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerve.store.archive.codec import Stored
from nerve.store.archive.manifest import (
    ArchivedRange,
    FileName,
    ManifestEntry,
    RowCounter,
    archived_ranges,
    next_name,
    parse_manifest,
)

DAY = "2026-11-23"


def entry(file: str, last_id: int, *, day: str = DAY, log_id: str = "L", open_runs: str = "") -> ManifestEntry:
    """Return an entry; each letter of `open_runs` is an open run."""
    return ManifestEntry(
        day=day,
        file=file,
        rows=1,
        first_id=last_id,
        last_id=last_id,
        sha256="abc",
        bytes=10,
        ts=0,
        log_id=log_id,
        open_runs=tuple(open_runs),
    )


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
        ("2026-11-23.jsonl.zst", FileName(DAY, 0, compressed=True)),
        ("2026-11-23.3.jsonl.zst", FileName(DAY, 3, compressed=True)),
        ("2026-11-23.jsonl.zst.tmp", None),
        ("2026-11-23.jsonl.gz", None),
        ("manifest.jsonl", None),
    ],
)
def test_only_names_of_archive_files_are_parsed(text: str, name: FileName | None) -> None:
    """A parsed name is written as it was read."""
    assert FileName.parse(text) == name
    assert name is None or str(name) == text


def test_row_counter_makes_the_manifest_entry() -> None:
    """It counts rows and keeps the first and last id; the open runs are sorted."""
    counter = RowCounter()
    counter.add([3])
    counter.add([9])
    expected = ManifestEntry(
        day=DAY,
        file="2026-11-23.1.jsonl",
        rows=2,
        first_id=3,
        last_id=9,
        sha256="abc",
        bytes=8,
        ts=1234,
        log_id="L",
        open_runs=("a", "b"),
    )
    assert counter.entry(FileName(DAY, 1), Stored(8, "abc"), 1234, "L", {"b", "a"}) == expected


def test_open_runs_are_written_only_if_there_are_any() -> None:
    """A line without open runs has no such field."""
    assert b"open_runs" not in msgspec.json.encode(entry("a", 1))
    line = msgspec.json.encode(entry("a", 1, open_runs="rs")) + b"\n"
    assert parse_manifest(line) == ([entry("a", 1, open_runs="rs")], len(line))


@given(st.lists(st.integers(1, 99), max_size=4), st.integers(0, 500))
def test_incomplete_last_line_is_ignored(ids: list[int], cut: int) -> None:
    """Wherever the power failed, the complete lines are parsed, and their size is returned."""
    lines = [msgspec.json.encode(entry("x.jsonl", n)) + b"\n" for n in ids]
    data = b"".join(lines)[:cut]
    entries, length = parse_manifest(data)
    assert length == data.rfind(b"\n") + 1
    assert entries == [entry("x.jsonl", n) for n in ids[: data.count(b"\n")]]


@pytest.mark.parametrize("damage", [b"{}\n", b"oops\n", b"\xff\n", b"\n", b"\x00\x00\n"])
def test_damaged_line_raises_value_error_with_its_number(damage: bytes) -> None:
    """A complete line that is not an entry was not written by an archiver."""
    with pytest.raises(ValueError, match="line 2 is damaged"):
        parse_manifest(msgspec.json.encode(entry("a.jsonl", 1)) + b"\n" + damage)


def test_range_of_a_day_ends_with_its_greatest_id() -> None:
    """Files of other days, and of another log with the same ids, are ignored."""
    entries = [entry("a", 5), entry("b", 3), entry("c", 9, day="2026-11-24"), entry("d", 99, log_id="other")]
    assert archived_ranges(entries, DAY, "L") == (ArchivedRange(5),)
    assert archived_ranges(entries, "2020-01-01", "L") == ()


ROWS = st.tuples(st.integers(1, 12), st.sampled_from(["a", "b", None]))
RUNS = st.sampled_from(["", "a", "b", "ab"])


@given(st.lists(st.tuples(st.integers(1, 12), RUNS), max_size=5), ROWS)
def test_entry_is_archived_if_the_range_of_any_file_has_it(files: list[tuple[int, str]], row: tuple[int, str]) -> None:
    """This holds for all open runs, though ranges that others cover are left out."""
    entries = [entry(f"{n}", last_id, open_runs=runs) for n, (last_id, runs) in enumerate(files)]
    archived = any(row[0] <= last_id and row[1] not in set(runs) for last_id, runs in files)
    ranges = archived_ranges(entries, DAY, "L")
    assert any(one.holds(*row) for one in ranges) == archived
    assert not any(one.covers(other) for one in ranges for other in ranges if one is not other)


def test_next_name_has_the_next_part() -> None:
    """Parts are numbered over all logs, compressed or not, so that no file is overwritten."""
    assert str(next_name([], DAY)) == "2026-11-23.jsonl"
    taken = [FileName(DAY, 0), FileName(DAY, 2, compressed=True)]
    assert str(next_name(taken, DAY)) == "2026-11-23.3.jsonl"
    assert str(next_name(taken, DAY, compressed=True)) == "2026-11-23.3.jsonl.zst"
    assert str(next_name(taken, "2026-11-24")) == "2026-11-24.jsonl"
