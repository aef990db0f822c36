"""What the writer remembers of the archive, held against what is there; pure."""

from __future__ import annotations

from collections.abc import Sequence

from nerve.store.archive.manifest import ManifestEntry
from nerve.store.utc_days import day_end
from nerve.store.verification.findings import Findings
from nerve.store.verification.ledger import Ledger

Marks = tuple[str | None, str | None]
"""The watermark in `meta`: watermark_ts, watermark_id."""


def check_watermark(marks: Marks, entries: Sequence[ManifestEntry], ledger: Ledger | None, findings: Findings) -> None:
    """Note a watermark that lets go what is in no archive, or that lies below what has gone.

    `marks` were read after what `ledger` has seen (None: it has not seen all), and `entries`, of this log, after them.
    """
    names = ("watermark_ts", "watermark_id")
    reached = (max((day_end(entry.day) for entry in entries), default=None),
               max((entry.last_id for entry in entries), default=None))  # fmt: skip
    gone = (ledger.gone_ts + 1, ledger.gone_id) if ledger and ledger.gone_id else (None, None)
    for name, mark, most, least in zip(names, marks, reached, gone, strict=True):
        if wrong := _judged(mark, most, least):
            findings.add("watermark", f"meta, {name}", wrong)


def _judged(mark: str | None, most: int | None, least: int | None) -> str | None:
    """Say what is wrong with a mark that must be no more than `most`, and no less than `least`."""
    if mark is None:
        return None if least is None else f"missing, though what was below {least} has left the table"
    try:
        value = int(mark)
    except ValueError:
        return f"{mark[:80]!r} is no number"
    if most is None or value > most:
        return f"{value}, but the archive reaches only to {most or 0}: entries that are not in it could be deleted"
    if least is not None and value < least:
        return f"{value}, but what was below {least} has left the table"
    return None
