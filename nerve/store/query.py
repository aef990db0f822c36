"""Opening a log for reading, and `query_logs` and `iter_logs`, its public face."""

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
    sense: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    errors: bool = False,
    limit: int | None = None,
    archived: bool = False,
) -> list[Log]:
    """Query a log, read-only; nothing is created or changed, and the engine may be running.

    Args:
        db: The path of a `logs.db`.
        source: Only entries with this source: `system`, `reflex`, `sense` or `logging`.
        type: Only entries of this type.
        ref_id: Only entries about this: a run id, a boot id, a sense's name ...
        sense: Only entries of this sense: those of its runs, and those about it.
        since: Only entries from this moment on: unix ms, or a datetime with a timezone.
        until: Only entries up to and including this moment: unix ms, or a datetime with a timezone.
        errors: Only errors, failed runs, and logging of level warning and above.
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
        sense=sense,
        since=unix_ms("since", since),
        until=unix_ms("until", until),
        errors=errors,
        limit=limit,
    )
    with open_log(db, archived=archived) as log:
        return log.query(wanted)


def iter_logs(
    db: str | Path,
    *,
    source: str | None = None,
    type: str | None = None,
    ref_id: str | None = None,
    sense: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    errors: bool = False,
    after_id: int | None = None,
    archived: bool = False,
) -> Iterator[Log]:
    """Return an iterator over the entries that `query_logs` returns, for more of them than fit into memory.

    It reads a page at a time, so it never blocks the engine, and ends at the entry that was the newest at its start.
    The filters are those of `query_logs`, without `limit`.

    Args:
        after_id: Only entries with a greater id than this, to continue later.

    Raises:
        TypeError: If `since` or `until` is neither an int nor a datetime.
        ValueError: If one of them has no timezone.
        StoreError: When the first entry is requested, if there is no log at `db`, or if it can't be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nerve import iter_logs
        >>> from nerve.testing import run
        >>> with TemporaryDirectory() as home:
        ...     _ = run(lambda ctx: ctx.log_many(("reading", n) for n in range(3)), home=home)
        ...     for entry in iter_logs(f"{home}/data/logs.db", after_id=1):
        ...         print(entry.payload)
        1
        2
    """
    wanted = Filter(
        source=source,
        type=type,
        ref_id=ref_id,
        sense=sense,
        since=unix_ms("since", since),
        until=unix_ms("until", until),
        errors=errors,
        after_id=after_id,
    )
    return _iterate(db, wanted, archived=archived)


def _iterate(db: str | Path, wanted: Filter, *, archived: bool) -> Iterator[Log]:
    with open_log(db, archived=archived) as log:
        yield from log.stream(wanted)


def open_log(db: str | Path, *, archived: bool, keep_damaged: bool = False) -> LogSource:
    """Open the log at `db` for reading: its table, or its table and its archive.

    Entries with a damaged payload raise StoreError when they are read or, with `keep_damaged`, become DamagedLogs.
    Raises StoreError if the log can't be read.
    """
    if archived:
        from nerve.store.full_log import FullLog  # noqa: PLC0415 - most reads don't need what an archive takes

        return FullLog(db, keep_damaged=keep_damaged)
    return LogReader(db, keep_damaged=keep_damaged)
