"""LogReader: reads the log's table, in short read transactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nerve.errors import StoreError
from nerve.events.model import DamagedLog, Log
from nerve.store.filters import Filter
from nerve.store.jsonl import undecoded
from nerve.store.provenance.run_name import RunName
from nerve.store.schema import Row, get_meta
from nerve.store.table import queries
from nerve.store.table.known_names import KnownNames, known_names
from nerve.store.table.queries import Count
from nerve.store.table.readonly import ReadOnlyDatabase
from nerve.store.table.run_lookup import find_runs
from nerve.store.table.table_stats import TableStats

if TYPE_CHECKING:
    from nerve.store.provenance.logged_runs import LoggedRuns

BATCH = 50_000
"""Ids that a stream looks up at once; unlike entries, they take little memory."""

PAGE = 1000
"""Entries that a stream reads at once."""


class Page(NamedTuple):
    """The rows of one read: all matches up to and including the id `until_id` that are still in the table."""

    rows: list[Row]
    until_id: int


class LogReader:
    """A read-only connection to a log, for one thread; a context manager. Each call is one short read, or several.

    Opening and every method raise StoreError, with one line, if the log can't be read. So do entries with a damaged
    payload unless `keep_damaged` is set: then they are returned as DamagedLog.
    """

    def __init__(self, path: str | Path, *, keep_damaged: bool = False) -> None:
        self._path = path
        self._keep_damaged = keep_damaged
        self._db = ReadOnlyDatabase(path)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._db.close()

    def query(self, filter: Filter) -> list[Log]:
        """Return the entries that match, in the order of their ids."""
        return [self.decoded(row) for row in self._db.read(partial(queries.find, filter=filter))]

    def stream(self, filter: Filter, page: int | None = None) -> Iterator[Log]:
        """Return an iterator over the entries that match now, in the order of their ids; reads `page` at a time."""
        return map(self.decoded, self.rows(filter, page))

    def stream_raw(self, filter: Filter, page: int | None = None) -> Iterator[Log]:
        """Like `stream`, with each payload as msgspec.Raw on one line: to be passed on, not to be read.

        A payload that is not JSON, which only another program can have written, is returned as a JSON string.
        """
        return map(undecoded, self.rows(filter, page))

    def rows(self, filter: Filter, page: int | None = None) -> Iterator[Row]:
        """Like `stream`, with each payload as the JSON text in the table."""
        for rows, _until_id in self.pages(filter, page):
            yield from rows

    def pages(self, filter: Filter, size: int | None = None) -> Iterator[Page]:
        """Yield the rows of `stream` in pages, one read each; the last page reaches to the end of the log."""
        current, stats = self._db.read(partial(queries.as_of_now, filter=filter))
        size = size or PAGE
        for ids in self._ids(current, stats):
            for at in range(0, len(ids), size):
                part = ids[at : at + size]
                yield Page(self._db.read(partial(queries.rows, ids=part)), part[-1])
        yield Page([], current.until_id or 0)

    def newest(self, filter: Filter) -> tuple[Filter, list[Row]]:
        """Return the rows of `query`, and the filter limited to the entries that existed then."""
        return self._db.read(partial(queries.find_as_of_now, filter=filter))

    def runs(self) -> LoggedRuns:
        """Return the runs in the table, for tracing causes and effects."""
        from nerve.store.provenance.logged_runs import LoggedRuns  # noqa: PLC0415 - only `nerve trace` needs it

        return LoggedRuns(self)

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Return the `run_start` of each run that a signal of one of `runs` (run ids) triggered."""
        return [self.decoded(row) for row in self._db.read(partial(queries.caused_by, runs=runs))]

    def count_caused(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` (run ids) and all direct and indirect effects of theirs, up to `at_most`."""
        return self._db.read(partial(queries.count_caused, runs=runs, at_most=at_most))

    def find_runs(self, name: str, at_most: int) -> list[str]:
        """Return the ids of up to `at_most` runs that `name` can mean, newest first. Raises ValueError."""
        return self._db.read(partial(find_runs, name=RunName.parse(name), at_most=at_most))

    def counts_since(self, id: int) -> list[Count]:
        """Count the entries with an id above `id`, for each source and type that has any."""
        return self._db.read(partial(queries.counts_since, id=id))

    def count_between(self, since: int, until: int, *, after_id: int = 0, until_id: int | None = None) -> int:
        """Count the entries with since <= ts <= until (unix ms) and after_id < id <= until_id."""
        period = Filter(since=since, until=until, after_id=after_id, until_id=until_id)
        return self._db.read(partial(queries.count_between, filter=period))

    def first_ts(self, at_least: int) -> int | None:
        """Return the earliest ts (unix ms) that is not before `at_least`, or None."""
        return self._db.read(partial(queries.first_ts, at_least=at_least))

    def last_id(self) -> int:
        """Return the greatest id assigned so far; 0 for an empty log."""
        return self._db.read(queries.last_id)

    def open_runs(self, until_id: int) -> frozenset[str]:
        """Return the runs that started with an id up to `until_id`, and are not complete."""
        return self._db.read(partial(queries.open_runs, until_id=until_id))

    def live_bytes(self) -> int:
        """Return the size of the database without its unused pages, in bytes."""
        return self._db.read(queries.live_bytes)

    def known_names(self) -> KnownNames:
        """Return the sources, types and senses that entries have."""
        return self._db.read(known_names)

    def meta(self, key: str) -> str | None:
        """Return the value of `key` in the table meta, or None."""
        return self._db.read(partial(get_meta, key=key))

    def decoded(self, row: Row) -> Log:
        """Return a row as an entry. Raises StoreError, with its id, for a damaged payload (unless those are kept)."""
        number, source, kind, ref_id, payload, ts = row
        try:
            return Log(number, source, kind, ref_id, msgspec.json.decode(payload), ts)
        except (msgspec.DecodeError, RecursionError) as why:
            if self._keep_damaged:
                return DamagedLog(number, source, kind, ref_id, payload, ts)
            place = f"{self._path}: the payload of entry {number}"
            raise StoreError(f"{place} is not valid JSON ({why}); see `nerve verify`") from why

    def _ids(self, filter: Filter, stats: TableStats) -> Iterator[list[int]]:
        if filter.limit is not None:
            yield self._db.read(partial(queries.find_ids, filter=filter, stats=stats, newest=True))
            return
        batch, more = replace(filter, limit=BATCH), True
        while more:
            ids = self._db.read(partial(queries.find_ids, filter=batch, stats=stats, newest=False))
            yield ids
            more = len(ids) == BATCH
            batch = replace(batch, after_id=ids[-1] if ids else None)
