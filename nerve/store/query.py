"""Asking the log: `query_logs`, for everyone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.full_log import FullLog
from nerve.store.table.reader import LogReader

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def query_logs(
    db: str | Path,
    *,
    source: str | None = None,
    type: str | None = None,
    ref_id: str | None = None,
    since: int | datetime | None = None,
    until: int | datetime | None = None,
    limit: int | None = None,
    archived: bool = False,
) -> list[Log]:
    """Give the entries of the log at `db` that all filters allow, in the order of their id; makes and changes nothing.

    `since` and `until` are inclusive: unix ms, or a datetime with a timezone. `limit` keeps the newest. With `archived`
    the archive, which is beside the log, is looked through as well. Raises ValueError or TypeError for a filter that
    makes no sense, and StoreError where there is no log that can be read.
    """
    wanted = Filter(
        source=source,
        type=type,
        ref_id=ref_id,
        since=_unix_ms("since", since),
        until=_unix_ms("until", until),
        limit=limit,
    )
    with open_log(db, archived=archived) as log:
        return log.query(wanted)


def open_log(db: str | Path, *, archived: bool, keep_damaged: bool = False) -> LogReader | FullLog:
    """Open the log at `db` to read its table, or its table and its archive; StoreError when it can't be read."""
    return (FullLog if archived else LogReader)(db, keep_damaged=keep_damaged)


def _unix_ms(name: str, moment: int | datetime | None) -> int | None:
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is {moment!r}: give unix ms as an int, or a datetime with a timezone")
    if moment.utcoffset() is None:
        raise ValueError(f"{name} is a datetime without a timezone ({moment}): give it one, as in datetime.now(UTC)")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
