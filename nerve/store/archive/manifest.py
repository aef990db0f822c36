"""The archive's files as its manifest tells of them, one line a file; pure."""

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
    """What the name of a file says: its day, the part (0 for the first, which isn't written), and how it is stored."""

    day: str
    part: int
    compressed: bool = False

    def __str__(self) -> str:
        part, suffix = f".{self.part}" if self.part else "", ZSTD_SUFFIX if self.compressed else ""
        return f"{self.day}{part}.jsonl{suffix}"

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Read a name; None when it is no archive file's."""
        found = _FILE.fullmatch(name)
        if not found or not is_day(found["day"]):
            return None
        return cls(found["day"], int(found["part"] or 0), bool(found["zstd"]))


class ManifestEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of the archive: what it holds, and when it was archived (`ts`, unix ms).

    `bytes` and `sha256` are those of the file as it is stored, compressed or not, so that `sha256sum` can check it.
    `log_id` names the log that it comes from: another log has other entries with the same ids. `open_runs` are the runs
    that were not complete then: their entries of this day are not in this file, but stay in the table until they are.
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
    """Counts the entries of a file, as they are written or read."""

    rows: int = 0
    first_id: int = 0
    last_id: int = 0

    def add(self, ids: Sequence[int]) -> None:
        """Count the entries with these ids (one at least); all come in the order of their ids."""
        self.first_id = self.first_id or ids[0]
        self.last_id = ids[-1]
        self.rows += len(ids)

    def entry(self, name: FileName, stored: Stored, ts: int, log_id: str, open_runs: Iterable[str]) -> ManifestEntry:
        """Give the manifest's entry of the file that holds them."""
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
    """The entries of a day that one file vouches for: up to `last_id`, but for those of the runs that were open."""

    last_id: int
    open_runs: frozenset[str] = frozenset()

    def holds(self, id: int, ref_id: str | None) -> bool:
        """Tell whether an entry of the day, with this id and ref_id, is in the archive on that account."""
        return id <= self.last_id and ref_id not in self.open_runs

    def covers(self, other: ArchivedRange) -> bool:
        """Tell whether it holds whatever the other does."""
        return self.last_id >= other.last_id and self.open_runs <= other.open_runs


def parse_manifest(data: bytes) -> tuple[list[ManifestEntry], int]:
    """Read a manifest; gives its entries, and how many bytes they take.

    A last line without its end was being written when the power failed: it doesn't count. Raises ValueError, with the
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
    """Say which entries of `day` are archived: those that any of these stretches holds; most often there is one.

    Each file took in all that was not archived yet, so what the last files vouch for was, if not in them, in earlier
    ones.
    """
    found: list[ArchivedRange] = []
    for entry in entries:
        if entry.day == day and entry.log_id == log_id:
            stretch = ArchivedRange(entry.last_id, frozenset(entry.open_runs))
            if not any(earlier.covers(stretch) for earlier in found):
                found = [*(earlier for earlier in found if not stretch.covers(earlier)), stretch]
    return tuple(found)


def next_name(taken: Collection[FileName], day: str, *, compressed: bool = False) -> FileName:
    """Name the next file of `day`: the first, or a further part for entries that came late."""
    return FileName(day, max((name.part + 1 for name in taken if name.day == day), default=0), compressed)
