"""Checking the watermark in the table meta against the archive; pure."""

from __future__ import annotations

from collections.abc import Sequence

from nerve.store.archive.manifest import ManifestEntry
from nerve.store.utc_days import day_end
from nerve.store.verification.findings import Findings
from nerve.store.verification.ledger import Ledger

Marks = tuple[str | None, str | None]
"""watermark_ts and watermark_id, from the table meta."""


def check_watermark(marks: Marks, entries: Sequence[ManifestEntry], ledger: Ledger | None, findings: Findings) -> None:
    """Report a watermark that permits deleting entries not archived, or one below entries that have been deleted.

    `marks` were read after the entries in `ledger` (None: it is incomplete), and `entries`, of this log, after `marks`.
    """
    names = ("watermark_ts", "watermark_id")
    reached = (max((day_end(entry.day) for entry in entries), default=None),
               max((entry.last_id for entry in entries), default=None))  # fmt: skip
    deleted = (ledger.deleted_ts + 1, ledger.deleted_id) if ledger and ledger.deleted_id else (None, None)
    for name, mark, most, least in zip(names, marks, reached, deleted, strict=True):
        if wrong := _problem(mark, most, least):
            findings.add("watermark", f"meta, {name}", wrong)


def _problem(mark: str | None, most: int | None, least: int | None) -> str | None:
    """Return what is wrong with a mark that must be between `least` and `most`, or None."""
    if mark is None:
        return None if least is None else f"missing, though entries below {least} have been deleted from the table"
    try:
        value = int(mark)
    except ValueError:
        return f"{mark[:80]!r} is not a number"
    if most is None or value > most:
        return f"{value}, but the archive reaches only to {most or 0}: entries that are not in it could be deleted"
    if least is not None and value < least:
        return f"{value}, but entries below {least} have been deleted from the table"
    return None
