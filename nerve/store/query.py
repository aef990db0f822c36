"""Opening a log for reading, and `query_logs`, its public face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from nerve.clock import Moment, unix_ms
from nerve.events.model import Log
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader

if TYPE_CHECKING:
    from nerve.store.provenance.trace import RunSource
    from nerve.store.schema import Row


class LogSource(Protocol):
    """An open log: its table (LogReader), or its table and its archive (FullLog); a context manager.

    Every method raises StoreError, with one line, for what can't be read.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None:
        """Close the log; may be called twice."""

    def last_id(self) -> int:
        """Return the greatest id assigned so far; 0 for an empty log."""

    def query(self, filter: Filter) -> list[Log]:
        """Return the entries that match, in the order of their ids."""

    def stream(self, filter: Filter) -> Iterator[Log]:
        """Return an iterator over the entries that match now, in the order of their ids."""

    def rows(self, filter: Filter) -> Iterator[Row]:
        """Like `stream`, with each payload as JSON text."""

    def runs(self) -> RunSource:
        """Return the runs in this log, for tracing causes and effects."""


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
    """Return the entries of the log at `db` that match all filters, in the order of their ids; changes nothing.

    `since` and `until` are inclusive: unix ms, or a datetime with a timezone. `limit` keeps the newest entries. With
    `archived` the archive, a folder beside the log, is searched too. Raises ValueError or TypeError for an invalid
    filter, and StoreError if the log can't be read.
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


def open_log(db: str | Path, *, archived: bool, keep_damaged: bool = False) -> LogSource:
    """Open the log at `db` for reading: its table, or its table and its archive.

    Entries with a damaged payload raise StoreError when they are read or, with `keep_damaged`, become DamagedLogs.
    Raises StoreError if the log can't be read.
    """
    if archived:
        from nerve.store.full_log import FullLog  # noqa: PLC0415 - most reads don't need what an archive takes

        return FullLog(db, keep_damaged=keep_damaged)
    return LogReader(db, keep_damaged=keep_damaged)
