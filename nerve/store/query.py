"""Asking the log: `query_logs`, for everyone."""

from __future__ import annotations

from pathlib import Path

from nerve.clock import Moment, unix_ms
from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.table.reader import LogReader


def query_logs(
    db: str | Path,
    *,
    source: str | None = None,
    type: str | None = None,
    ref_id: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    archived: bool = False,
) -> list[Log]:
    """Query a log, read-only; nothing is created or changed, and the engine may be running.

    Args:
        db: The path of a `logs.db`.
        source: Only entries with this source: `system`, `reflex`, `sense` or `logging`.
        type: Only entries of this type.
        ref_id: Only entries about this: a run id, a boot id, a sense's name ...
        since: Only entries from this moment on: unix ms, or a datetime with a timezone.
        until: Only entries up to and including this moment: unix ms, or a datetime with a timezone.
        limit: At most this many entries, the newest ones.
        archived: Search the archive too, which is beside the log. This reads files and takes longer.

    Returns:
        The entries that match all filters, in order of their id.

    Raises:
        TypeError: If `since` or `until` is neither an int nor a datetime.
        ValueError: If one of them has no timezone, or `limit` is negative.
        StoreError: If there is no log at `db`, or it can't be read.

    Example:
        >>> from datetime import UTC, datetime, timedelta
        >>> from tempfile import TemporaryDirectory
        >>> from nerve import query_logs
        >>> from nerve.testing import run
        >>> with TemporaryDirectory() as home:
        ...     _ = run(lambda ctx: ctx.log("reading", {"used": 0.93}), home=home)
        ...     hour_ago = datetime.now(UTC) - timedelta(hours=1)
        ...     entries = query_logs(f"{home}/data/logs.db", source="sense", type="reading", since=hour_ago)
        >>> [entry.payload for entry in entries]
        [{'used': 0.93}]
    """
    wanted = Filter(
        source=source,
        type=type,
        ref_id=ref_id,
        since=unix_ms("since", since),
        until=unix_ms("until", until),
        limit=limit,
    )
    with open_log(db, archived=archived) as log:
        return log.query(wanted)


def open_log(db: str | Path, *, archived: bool, keep_damaged: bool = False) -> LogReader | FullLog:
    """Open the log at `db` to read its table, or its table and its archive; StoreError when it can't be read."""
    return (FullLog if archived else LogReader)(db, keep_damaged=keep_damaged)
