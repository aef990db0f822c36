"""LogReader: reads the log's table, in short reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from nerve.errors import StoreError
from nerve.events.model import DamagedLog, Log
from nerve.store.filters import Filter
from nerve.store.jsonl import undecoded
from nerve.store.schema import Row, get_meta
from nerve.store.table import queries
from nerve.store.table.known_names import KnownNames, known_names
from nerve.store.table.queries import Count
from nerve.store.table.readonly import ReadOnlyDatabase
from nerve.store.table.run_lookup import RunName, find_runs
from nerve.store.table.table_stats import TableStats

BATCH = 50_000
"""So many ids does a stream look up at once: in memory they are small, entries are not."""

PAGE = 1000
"""So many entries does a stream read at once."""


class Page(NamedTuple):
    """What a read of some rows found: all that there were, and are still in the table, up to and with `until_id`."""

    rows: list[Row]
    until_id: int


class LogReader:
    """A read-only connection to a log, for one thread; a context manager. Each call is a short read, or several.

    Opening and every method raise StoreError, with one line, when the log can't be read. An entry whose payload is
    damaged is such a case, unless `keep_damaged` is set: then it is given as a DamagedLog.
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

    def query(self, wanted: Filter) -> list[Log]:
        """Give what `wanted` finds, in the order of its id."""
        return [self.decoded(row) for row in self._db.read(partial(queries.find, wanted=wanted))]

    def stream(self, wanted: Filter, page: int | None = None) -> Iterator[Log]:
        """Give what `wanted` finds, of what there is now, in the order of its id: in short reads of `page` entries."""
        return map(self.decoded, self.rows(wanted, page))

    def stream_raw(self, wanted: Filter, page: int | None = None) -> Iterator[Log]:
        """Give the same as `stream`, with each payload as msgspec.Raw, on one line: to be passed on, not to be read.

        A payload that is no JSON, which no event of ours has, is given as the JSON of its text.
        """
        return map(undecoded, self.rows(wanted, page))

    def rows(self, wanted: Filter, page: int | None = None) -> Iterator[Row]:
        """Give the same as `stream`, with each payload as the JSON text that it is in the table."""
        for rows, _until_id in self.pages(wanted, page):
            yield from rows

    def pages(self, wanted: Filter, size: int | None = None) -> Iterator[Page]:
        """Give the rows that `stream` goes through, in its short reads; the last page reaches to the end of the log."""
        wanted, known = self._db.read(partial(queries.as_of_now, wanted=wanted))
        size = size or PAGE
        for ids in self._ids(wanted, known):
            for at in range(0, len(ids), size):
                part = ids[at : at + size]
                yield Page(self._db.read(partial(queries.rows, ids=part)), part[-1])
        yield Page([], wanted.until_id or 0)

    def newest(self, wanted: Filter) -> tuple[Filter, list[Row]]:
        """Give the rows that `query` decodes, and `wanted` limited to what the log held then."""
        return self._db.read(partial(queries.find_as_of_now, wanted=wanted))

    def caused_by(self, runs: Sequence[str]) -> list[Log]:
        """Give the `run_start` of each run that was fired by a signal of one of `runs` (run ids)."""
        return [self.decoded(row) for row in self._db.read(partial(queries.caused_by, runs=runs))]

    def count_caused(self, runs: Sequence[str], at_most: int) -> int:
        """Count `runs` (run ids) and all runs that came of their signals, directly or not; stops at `at_most`."""
        return self._db.read(partial(queries.count_caused, runs=runs, at_most=at_most))

    def find_runs(self, name: str, at_most: int) -> list[str]:
        """Give the ids of up to `at_most` runs that `name` can mean, newest first; ValueError for no part of an id."""
        return self._db.read(partial(find_runs, name=RunName.parse(name), at_most=at_most))

    def counts_since(self, id: int) -> list[Count]:
        """Count the entries with an id above `id`, for each source and type that has any."""
        return self._db.read(partial(queries.counts_since, id=id))

    def count_between(self, since: int, until: int, *, after_id: int = 0, until_id: int | None = None) -> int:
        """Count the entries with since <= ts <= until (unix ms) and after_id < id <= until_id."""
        period = Filter(since=since, until=until, after_id=after_id, until_id=until_id)
        return self._db.read(partial(queries.count_between, wanted=period))

    def first_ts(self, at_least: int) -> int | None:
        """Give the earliest ts (unix ms) that is not before `at_least`; None when there is none."""
        return self._db.read(partial(queries.first_ts, at_least=at_least))

    def last_id(self) -> int:
        """Give the greatest id that any entry was ever given; 0 for none."""
        return self._db.read(queries.last_id)

    def open_runs(self, until_id: int) -> frozenset[str]:
        """Give the runs that have started, as the entry `until_id` or before, and are not complete."""
        return self._db.read(partial(queries.open_runs, until_id=until_id))

    def live_bytes(self) -> int:
        """Give the size of what the database holds, without the pages that it has free."""
        return self._db.read(queries.live_bytes)

    def known_names(self) -> KnownNames:
        """Return the sources, types and senses that entries have."""
        return self._db.read(known_names)

    def meta(self, key: str) -> str | None:
        """Give what the writer remembers under `key`."""
        return self._db.read(partial(get_meta, key=key))

    def _ids(self, wanted: Filter, known: TableStats) -> Iterator[list[int]]:
        if wanted.limit is not None:
            yield self._db.read(partial(queries.find_ids, wanted=wanted, known=known, newest=True))
            return
        more = True
        while more:
            batch = replace(wanted, limit=BATCH)
            ids = self._db.read(partial(queries.find_ids, wanted=batch, known=known, newest=False))
            yield ids
            more = len(ids) == BATCH
            wanted = replace(wanted, after_id=ids[-1] if ids else None)

    def decoded(self, row: Row) -> Log:
        """Make an entry of a row; StoreError, with its id, when its payload is no JSON (and that is not to be kept)."""
        number, source, kind, ref_id, payload, ts = row
        try:
            return Log(number, source, kind, ref_id, msgspec.json.decode(payload), ts)
        except (msgspec.DecodeError, RecursionError) as why:
            if self._keep_damaged:
                return DamagedLog(number, source, kind, ref_id, payload, ts)
            place = f"{self._path}: the payload of entry {number}"
            raise StoreError(f"{place} is no JSON ({why}): see `nerve verify`") from why
