"""The archive's manifest, one line per file, and the names of files; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from nerve.store.archive.codec import ZSTD_SUFFIX, Stored
from nerve.store.utc_days import is_day

_FILE = re.compile(r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.(?P<part>[1-9][0-9]{0,8}))?\.jsonl(?P<zstd>\.zst)?")


class FileName(NamedTuple):
    """The parts of a file name: its day, its part (0, the first, is not written), and whether it is compressed."""

    day: str
    part: int
    compressed: bool = False

    def __str__(self) -> str:
        part, suffix = f".{self.part}" if self.part else "", ZSTD_SUFFIX if self.compressed else ""
        return f"{self.day}{part}.jsonl{suffix}"

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Parse a name; return None if it is not the name of an archive file."""
        parts = _FILE.fullmatch(name)
        if not parts or not is_day(parts["day"]):
            return None
        return cls(parts["day"], int(parts["part"] or 0), bool(parts["zstd"]))


class ManifestEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of the archive: its contents, and when it was archived (`ts`, unix ms).

    `bytes` and `sha256` are those of the file on the disk, compressed or not, so that `sha256sum` can check it.
    `log_id` is the log that it comes from: another log has other entries with the same ids. `open_runs` are the runs
    that were not complete then: their entries of this day are not in this file, and stay in the table until they are.
    """

    day: str
    file: str
    rows: int
    first_id: int
    last_id: int
    sha256: str
    bytes: int
    ts: int
    log_id: str
    open_runs: tuple[str, ...] = ()


@dataclass(slots=True)
class RowCounter:
    """Counts the entries of a file while they are written or read."""

    rows: int = 0
    first_id: int = 0
    last_id: int = 0

    def add(self, ids: Sequence[int]) -> None:
        """Count entries (at least one); ids must be ascending, also from call to call."""
        self.first_id = self.first_id or ids[0]
        self.last_id = ids[-1]
        self.rows += len(ids)

    def entry(self, name: FileName, stored: Stored, ts: int, log_id: str, open_runs: Iterable[str]) -> ManifestEntry:
        """Return the manifest entry of the file."""
        return ManifestEntry(
            day=name.day,
            file=str(name),
            rows=self.rows,
            first_id=self.first_id,
            last_id=self.last_id,
            sha256=stored.sha256,
            bytes=stored.bytes,
            ts=ts,
            log_id=log_id,
            open_runs=tuple(sorted(open_runs)),
        )


@dataclass(frozen=True, slots=True)
class ArchivedRange:
    """The entries of a day that were archived with one file: up to `last_id`, except those of runs open at the time."""

    last_id: int
    open_runs: frozenset[str] = frozenset()

    def holds(self, id: int, ref_id: str | None) -> bool:
        """Return True if the range contains the entry of the day with this id and ref_id."""
        return id <= self.last_id and ref_id not in self.open_runs

    def covers(self, other: ArchivedRange) -> bool:
        """Return True if the range contains everything that the other one does."""
        return self.last_id >= other.last_id and self.open_runs <= other.open_runs


def parse_manifest(data: bytes) -> tuple[list[ManifestEntry], int]:
    """Parse a manifest; return its entries, and their size in bytes.

    A last line without an end is ignored: it was being written when the power failed. Raises ValueError, with the
    number of the line, for any other damage.
    """
    whole = data[: data.rfind(b"\n") + 1]
    entries = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entries.append(msgspec.json.decode(line, type=ManifestEntry))
        except (msgspec.DecodeError, UnicodeDecodeError) as why:
            raise ValueError(f"line {number} is damaged: {why}") from None
    return entries, len(whole)


def archived_ranges(entries: Iterable[ManifestEntry], day: str, log_id: str) -> tuple[ArchivedRange, ...]:
    """Return the ranges of the entries of `day` that are archived; most often there is one.

    Each file took all entries that were not archived yet. So the entries in the range of a file are in that file or in
    an earlier one, and a range that a later one covers is left out.
    """
    ranges: list[ArchivedRange] = []
    for entry in entries:
        if entry.day == day and entry.log_id == log_id:
            archived = ArchivedRange(entry.last_id, frozenset(entry.open_runs))
            if not any(earlier.covers(archived) for earlier in ranges):
                ranges = [*(earlier for earlier in ranges if not archived.covers(earlier)), archived]
    return tuple(ranges)


def next_name(taken: Collection[FileName], day: str, *, compressed: bool = False) -> FileName:
    """Return the name of the next file of `day`: the first one, or a further part for late entries."""
    return FileName(day, max((name.part + 1 for name in taken if name.day == day), default=0), compressed)
