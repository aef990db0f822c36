"""The archive's files as its manifest tells of them, one line a file; pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from nerve.store.days import is_day

_FILE = re.compile(r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.(?P<part>[1-9][0-9]{0,8}))?\.jsonl")


class FileName(NamedTuple):
    """What the name of a file says: its day, and the part (0 for the first, which isn't written)."""

    day: str
    part: int

    def __str__(self) -> str:
        return f"{self.day}.{self.part}.jsonl" if self.part else f"{self.day}.jsonl"

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Read a name; None when it is no archive file's."""
        found = _FILE.fullmatch(name)
        return cls(found["day"], int(found["part"] or 0)) if found and is_day(found["day"]) else None


class ManifestEntry(msgspec.Struct, frozen=True):
    """One file of the archive: what it holds, its `sha256` and size in `bytes`, and when it was archived (unix ms).

    `log_id` names the log that it comes from: another log has other entries with the same ids.
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


class Tally:
    """Adds up the lines of a file, as they are written or read, to its entry in the manifest."""

    def __init__(self) -> None:
        self.rows = 0
        self.first_id = 0
        self.last_id = 0
        self._bytes = 0
        self._digest = hashlib.sha256()

    def add(self, id: int, line: bytes) -> None:
        """Count a line, and the id of the entry on it."""
        self.first_id = self.first_id or id
        self.last_id = id
        self.rows += 1
        self._bytes += len(line)
        self._digest.update(line)

    def entry(self, name: FileName, ts: int, log_id: str) -> ManifestEntry:
        """Give the entry of a file with these lines."""
        return ManifestEntry(
            day=name.day,
            file=str(name),
            rows=self.rows,
            first_id=self.first_id,
            last_id=self.last_id,
            sha256=self._digest.hexdigest(),
            bytes=self._bytes,
            ts=ts,
            log_id=log_id,
        )


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


def last_archived_id(entries: Iterable[ManifestEntry], day: str, log_id: str) -> int:
    """Give the id up to which the rows of `day` are archived; 0 when none are."""
    return max((entry.last_id for entry in entries if entry.day == day and entry.log_id == log_id), default=0)


def next_name(entries: Iterable[ManifestEntry], day: str) -> FileName:
    """Name the next file of `day`: the first, or a further part for rows that came late."""
    names = (FileName.parse(entry.file) for entry in entries if entry.day == day)
    return FileName(day, max((name.part + 1 for name in names if name), default=0))
