"""Logs a part of which is in the archive, made without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nerve.events import LogEvent
from nerve.store import Archive, LogWriter, ManifestEntry, PurgeOrder
from nerve.store.days import DAY_MS, day_start

FIRST_DAY = "2026-11-01"
NOW = day_start("2026-12-01")
"""When they are archived: the days from FIRST_DAY up to 24 days after it have ended then."""


def at(day: int, ms: int = 0) -> int:
    """Give the moment so many days and ms after the beginning of FIRST_DAY, in unix ms."""
    return day_start(FIRST_DAY) + day * DAY_MS + ms


def archive_before(db: Path, day: int, *, purge: bool = True) -> list[ManifestEntry]:
    """Archive the days before the given one, as an archiver does whose turn has come; give what it says of the files.

    Without `purge` it dies each time when it has written a file, and before anything is deleted.
    """
    writer = LogWriter.open(db)

    def delete(order: PurgeOrder) -> int:
        return writer.purge_chunk(order.day, order.last_id, limit=1_000_000) if purge else 0

    try:
        archive = Archive(db.parent / "archive" / "logs", db, delete)
        return list(archive.run_once(NOW, (NOW - at(day)) / 1000))
    finally:
        writer.close()


def append(db: Path, events: Iterable[LogEvent]) -> None:
    """Append events by a writer that starts for it and stops after it."""
    writer = LogWriter.open(db)
    writer.append(list(events), {})
    writer.close()


def file_lines(entry: ManifestEntry, db: Path) -> Sequence[bytes]:
    """Give the lines of an archive file that isn't compressed."""
    return (db.parent / "archive" / "logs" / entry.file).read_bytes().splitlines(keepends=True)
