"""Queries of the log from Python: `query_logs` and `iter_logs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
    sense: str | None = None,
    since: int | datetime | None = None,
    until: int | datetime | None = None,
    errors: bool = False,
    limit: int | None = None,
    archived: bool = False,
) -> list[Log]:
    """Return the entries of the log at `db` that all filters allow, in the order of their ids; change nothing.

    `sense` allows what belongs to a sense and its runs; `errors` allows errors, failed runs, and logging of level
    warning and above. `since` and `until` are inclusive: unix ms, or a datetime with a timezone. `limit` keeps the
    newest. With `archived` the archive, which is beside the log, is searched too. Raises ValueError or TypeError for a
    filter that is not valid, and StoreError if there is no log that can be read.

        query_logs("data/logs.db", sense="disk", errors=True, since=datetime.now(UTC) - timedelta(days=1))
    """
    wanted = _filter(source, type, ref_id, sense, since, until, errors=errors, limit=limit)
    with open_log(db, archived=archived) as log:
        return log.query(wanted)


def iter_logs(
    db: str | Path,
    *,
    source: str | None = None,
    type: str | None = None,
    ref_id: str | None = None,
    sense: str | None = None,
    since: int | datetime | None = None,
    until: int | datetime | None = None,
    errors: bool = False,
    after_id: int | None = None,
    archived: bool = False,
) -> Iterator[Log]:
    """Return an iterator over the entries that `query_logs` returns, for more of them than fit into memory.

    It reads a page at a time, so that it holds up nobody, and ends with the entry that was the newest when it began.
    `after_id` allows only entries after that one, to continue later. Raises as `query_logs` does: for a filter at once,
    for the log when the first entry is asked for.

        for entry in iter_logs("data/logs.db", after_id=last_id):
            send(entry)
            last_id = entry.id
    """
    wanted = _filter(source, type, ref_id, sense, since, until, errors=errors, after_id=after_id)
    return _iterate(db, wanted, archived=archived)


def _iterate(db: str | Path, wanted: Filter, *, archived: bool) -> Iterator[Log]:
    with open_log(db, archived=archived) as log:
        yield from log.stream(wanted)


def _filter(
    source: str | None,
    type: str | None,
    ref_id: str | None,
    sense: str | None,
    since: int | datetime | None,
    until: int | datetime | None,
    **others: Any,
) -> Filter:
    return Filter(
        source=source,
        type=type,
        ref_id=ref_id,
        sense=sense,
        since=_unix_ms("since", since),
        until=_unix_ms("until", until),
        **others,
    )


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
