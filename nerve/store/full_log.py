"""FullLog: the table and the archive, read as one log."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from nerve.events.model import Log
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles, archive_of, may_hold
from nerve.store.archive.row_filter import row_filter_of
from nerve.store.filters import Filter
from nerve.store.merge import Merge
from nerve.store.schema import Row
from nerve.store.table.reader import LogReader

if TYPE_CHECKING:
    from nerve.store.provenance.archived_runs import ArchivedRuns


class FullLog:
    """Reads a log from its table and its archive: each entry once, even if it moves meanwhile.

    For one thread; a context manager. Opening and every method raise StoreError, with one line, for what can't be read;
    `keep_damaged` is as in LogReader. `archive` is the archive's folder; the default is where a workspace has it.
    """

    def __init__(self, path: str | Path, archive: Path | None = None, *, keep_damaged: bool = False) -> None:
        self._reader = LogReader(path, keep_damaged=keep_damaged)
        try:
            log_id = self._reader.meta("log_id") or ""
            self._files = ArchivedFiles(archive or archive_of(Path(path)), log_id)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FullLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._reader.close()

    def last_id(self) -> int:
        """Return the greatest id assigned so far; 0 for an empty log."""
        return self._reader.last_id()

    def query(self, filter: Filter) -> list[Log]:
        """Return the entries that match, in the order of their ids."""
        return list(self.stream(filter))

    def stream(self, filter: Filter) -> Iterator[Log]:
        """Return an iterator over the entries that match now, in the order of their ids.

        Without a limit, it reads a page at a time.
        """
        return map(self._reader.decoded, self.rows(filter))

    def rows(self, filter: Filter) -> Iterator[Row]:
        """Like `stream`, with each payload as JSON text."""
        return self._merged(filter) if filter.limit is None else iter(self._newest(filter))

    def runs(self) -> ArchivedRuns:
        """Return the runs in the table and the archive, for tracing causes and effects."""
        from nerve.store.provenance.archived_runs import ArchivedRuns  # noqa: PLC0415 - only `nerve trace` needs it

        return ArchivedRuns(self)

    def _merged(self, filter: Filter) -> Iterator[Row]:
        row_filter, merge, files_seen, last_id = row_filter_of(filter), Merge[Row](), 0, filter.after_id or 0
        try:
            for page in self._reader.pages(filter):
                # The manifest is read after each page, never before: a row leaves the table only once the manifest
                # names its file. So any row missing from this page because it has just moved is in a named file.
                files = self._files.entries()
                for entry in files[files_seen:]:
                    if may_hold(entry, filter):
                        merge.add(entry.first_id, self._files.rows(entry, row_filter))
                files_seen = len(files)
                merge.add(0, _generator(page.rows))
                for row in merge.until(page.until_id):
                    if row[0] > last_id:  # else it was in the table when its page was read, and is in a file too
                        last_id = row[0]
                        yield row
                last_id = page.until_id
        finally:
            merge.close()

    def _newest(self, filter: Filter) -> list[Row]:
        """Read the table, and then files from the newest backwards, as long as they can contain newer rows."""
        current, rows = self._reader.newest(filter)
        newest = Newest(current.limit or 0, rows)
        row_filter = row_filter_of(current)
        # The manifest is read after the table, as above.
        files = [entry for entry in self._files.entries() if may_hold(entry, current)]
        for entry in sorted(files, key=_last_id, reverse=True):
            if entry.last_id <= newest.floor:
                break
            for row in self._files.rows(entry, row_filter):
                newest.add(row)
        return newest.rows()


class Newest:
    """The `most` rows with the greatest ids of all rows that are added; each id counts once."""

    def __init__(self, most: int, rows: list[Row]) -> None:
        """Start with rows with distinct ids, at most `most` of them."""
        self._most = most
        self._heap = rows
        heapq.heapify(self._heap)  # the id is the first item of a row, and unique: nothing else is compared
        self._ids = {row[0] for row in rows}

    @property
    def floor(self) -> int | float:
        """The id that a row must exceed to be added."""
        if not self._most:
            return float("inf")
        return self._heap[0][0] if len(self._heap) == self._most else -1

    def add(self, row: Row) -> None:
        """Add a row if it is among the newest so far."""
        number = row[0]
        if number <= self.floor or number in self._ids:
            return
        self._ids.add(number)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, row)
        else:
            self._ids.remove(heapq.heapreplace(self._heap, row)[0])

    def rows(self) -> list[Row]:
        """Return the rows, ascending by id."""
        return sorted(self._heap)


def _generator(rows: list[Row]) -> Generator[Row, None, None]:
    yield from rows


def _last_id(entry: ManifestEntry) -> int:
    return entry.last_id
