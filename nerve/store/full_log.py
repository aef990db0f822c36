"""FullLog: what is in the table and what is in the archive, as one log."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

from nerve.events.model import Log
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles, archive_of, may_hold
from nerve.store.archive.row_filter import row_filter_of
from nerve.store.filters import Filter
from nerve.store.merge import Merge
from nerve.store.schema import Row
from nerve.store.table.reader import LogReader


class FullLog:
    """Reads a log from its table and its archive: each entry once, wherever it is, and wherever it moves meanwhile.

    For one thread; a context manager. Opening and every method raise StoreError, with one line, for what can't
    be read; `keep_damaged` is as in LogReader. `archive` is the archive's folder; the default is where a workspace
    has it, seen from its log.
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
        """Give the greatest id that any entry was ever given; 0 for none."""
        return self._reader.last_id()

    def query(self, wanted: Filter) -> list[Log]:
        """Give what `wanted` finds, in the order of its id."""
        return list(self.stream(wanted) if wanted.limit is None else map(self._reader.decoded, self._newest(wanted)))

    def stream(self, wanted: Filter) -> Iterator[Log]:
        """Give what `wanted` finds, of what there is now, in the order of its id; without a limit, a page at a time."""
        return map(self._reader.decoded, self.rows(wanted))

    def rows(self, wanted: Filter) -> Iterator[Row]:
        """Give the same as `stream`, with each payload as the JSON text that it is."""
        return self._merged(wanted) if wanted.limit is None else iter(self._newest(wanted))

    def _merged(self, wanted: Filter) -> Iterator[Row]:
        judge, merge, known, last_id = row_filter_of(wanted), Merge[Row](), 0, wanted.after_id or 0
        try:
            for page in self._reader.pages(wanted):
                # The manifest is read after each page, never before: a row leaves the table only once the manifest
                # names its file. So what this page lacks, since it has just moved, is in a file that is known by now.
                files = self._files.entries()
                for entry in files[known:]:
                    if may_hold(entry, wanted):
                        merge.add(entry.first_id, self._files.rows(entry, judge))
                known = len(files)
                merge.add(0, _given(page.rows))
                for row in merge.until(page.until_id):
                    if row[0] > last_id:  # or else it was in the table when its page was read, and is in a file too
                        last_id = row[0]
                        yield row
                last_id = page.until_id
        finally:
            merge.close()

    def _newest(self, wanted: Filter) -> list[Row]:
        """Read the table, and then files from the newest backwards, as long as they can have what is newer."""
        wanted, rows = self._reader.newest(wanted)
        newest = Newest(wanted.limit or 0, rows)
        judge = row_filter_of(wanted)
        # The manifest after the table, as above.
        files = [entry for entry in self._files.entries() if may_hold(entry, wanted)]
        for entry in sorted(files, key=_last_id, reverse=True):
            if entry.last_id <= newest.floor:
                break
            for row in self._files.rows(entry, judge):
                newest.add(row)
        return newest.rows()


class Newest:
    """The `most` rows with the greatest ids, of all that are added; each id counts once."""

    def __init__(self, most: int, rows: list[Row]) -> None:
        """Begin with rows whose ids all differ, and which are no more than `most`."""
        self._most = most
        self._heap = rows
        heapq.heapify(self._heap)  # an id is the first of a row, and unique: nothing else is compared
        self._ids = {row[0] for row in rows}

    @property
    def floor(self) -> int | float:
        """The id that a row must exceed to be among them."""
        if not self._most:
            return float("inf")
        return self._heap[0][0] if len(self._heap) == self._most else -1

    def add(self, row: Row) -> None:
        """Take in a row if it is among the newest so far."""
        number = row[0]
        if number <= self.floor or number in self._ids:
            return
        self._ids.add(number)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, row)
        else:
            self._ids.remove(heapq.heapreplace(self._heap, row)[0])

    def rows(self) -> list[Row]:
        """Give them, ascending."""
        return sorted(self._heap)


def _given(rows: list[Row]) -> Generator[Row, None, None]:
    yield from rows


def _last_id(entry: ManifestEntry) -> int:
    return entry.last_id
