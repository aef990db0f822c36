"""How far a run of the archiver is."""

from __future__ import annotations

import msgspec


class ArchiveProgress(msgspec.Struct, frozen=True, tag=8):
    """Archiver to kernel, and on to who asked for its run: the day that it is at, and rows.

    Of the rows that are `due`, as far as that is known, so many are `archived`, and `deleted` from the table, by now.
    """

    day: str
    archived: int
    deleted: int
    due: int
