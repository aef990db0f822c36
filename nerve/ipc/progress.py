"""How far a run of the archiver is, and how it ended."""

from __future__ import annotations

import msgspec


class ArchiveProgress(msgspec.Struct, frozen=True, tag=8):
    """Archiver to kernel, and on to the client that asked for the run: its current day, and rows.

    Of `due` rows, as far as that number is known, `archived` are in files and `deleted` are gone from the table.
    """

    day: str
    archived: int
    deleted: int
    due: int


class Archived(msgspec.Struct, frozen=True, tag=10):
    """Archiver to kernel, and on to the client that asked for the run: its outcome.

    `error` is None unless the run failed; `notes` are sentences for the person who asked.
    """

    files: int
    rows: int
    error: str | None = None
    notes: tuple[str, ...] = ()
