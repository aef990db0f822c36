"""The archive: whole days leave the table for files, every row once, wherever the work is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from nerve.errors import StoreError
from nerve.events import Log
from nerve.store.days import FIRST_TS, day_end, day_of, day_start
from nerve.store.filters import Filter
from nerve.store.lines import from_line, to_line
from nerve.store.manifest import FileName, ManifestEntry, Tally
from nerve.store.querying import LogReader
from nerve.store.shelf import Shelf


class PurgeOrder(msgspec.Struct, frozen=True):
    """What may be deleted, being archived: the rows of the UTC day `day` with id <= `last_id`."""

    day: str
    last_id: int


class DayPlan(msgspec.Struct, frozen=True):
    """A UTC day that is due, and how many rows of it are in the table."""

    day: str
    rows: int


def due_days(reader: LogReader, now_ms: int, retention_s: float) -> list[str]:
    """Give the UTC days that have rows and ended at least `retention_s` seconds before `now_ms`, in order."""
    cutoff = now_ms - int(retention_s * 1000)
    days: list[str] = []
    ts = reader.first_ts(FIRST_TS)
    while ts is not None and ts < cutoff and day_end(day_of(ts)) <= cutoff:
        days.append(day_of(ts))
        ts = reader.first_ts(day_end(day_of(ts)))
    return days


def plan(reader: LogReader, now_ms: int, retention_s: float) -> list[DayPlan]:
    """Say what an archiver would do now; changes nothing."""
    days = due_days(reader, now_ms, retention_s)
    return [DayPlan(day, reader.count_between(day_start(day), day_end(day) - 1)) for day in days]


class Archive:
    """Moves the log's old days to a folder.

    `purge` deletes rows from the table, and gives how many it has deleted: in an engine it asks the writer. It is told
    to only when the rows' file, and its line in the manifest, are on the disk.
    """

    def __init__(self, folder: Path, db: Path, purge: Callable[[PurgeOrder], int]) -> None:
        self._folder = folder
        self._db = db
        self._purge = purge

    def run_once(self, now_ms: int, retention_s: float) -> Generator[ManifestEntry, None, None]:
        """Archive every day that is due, and give the entry of each file that has come into the archive.

        An entry is given before its rows are deleted; they are when the next one is asked for. What an interrupted
        run has left half done is completed first. Raises StoreError (DiskError for a full disk); what was done
        by then is safe, and the next run goes on from there.
        """
        with Shelf.held(self._folder) as shelf, LogReader(self._db) as reader:
            work = _Work(shelf, reader, now_ms)
            for name in shelf.strays():
                yield work.adopt(name)
            for day in due_days(reader, now_ms, retention_s):
                archived, late = work.rows_of(day)
                if archived:
                    self._purge(PurgeOrder(day, work.last_archived_id(day)))
                if late:
                    yield work.export(day)
                    self._purge(PurgeOrder(day, work.last_archived_id(day)))


class _Work:
    """One run: what it reads, where it writes, and its moment."""

    def __init__(self, shelf: Shelf, reader: LogReader, now_ms: int) -> None:
        self._shelf = shelf
        self._reader = reader
        self._now_ms = now_ms
        self._log_id = reader.meta("log_id") or ""

    def last_archived_id(self, day: str) -> int:
        """Give the id up to which the rows of `day` are archived; all rows of the day up to it are."""
        return self._shelf.last_archived_id(day, self._log_id)

    def rows_of(self, day: str) -> tuple[int, int]:
        """Count the rows of `day` in the table: those that are in the archive too, and the others."""
        first, last, done = day_start(day), day_end(day) - 1, self.last_archived_id(day)
        archived = self._reader.count_between(first, last, until_id=done)
        return archived, self._reader.count_between(first, last, after_id=done)

    def export(self, day: str) -> ManifestEntry:
        """Write the rows of `day` that are not archived yet to a new file."""
        name, tally = self._shelf.next_name(day), Tally()
        self._shelf.write(name, _tallied(self._rows(day, self._reader.last_id()), tally))
        return self._add(name, tally)

    def adopt(self, name: FileName) -> ManifestEntry:
        """Enter a file into the manifest that an interrupted run has completed; StoreError when it is none."""
        path, tally = self._shelf.path(name), Tally()
        previous_id = self.last_archived_id(name.day)
        for number, line in enumerate(self._shelf.lines(name), 1):
            entry = _entry_of(name.day, previous_id, line, f"{path}, line {number}")
            tally.add(entry.id, line)
            previous_id = entry.id
        lines = self._shelf.lines(name)
        # `in` goes on from where it found the row before: both are in order.
        if not tally.rows or not all(to_line(row) in lines for row in self._rows(name.day, tally.last_id)):
            raise StoreError(f"{path} is not of this archive: it lacks rows that the log has; move it away")
        return self._add(name, tally)

    def _rows(self, day: str, last_id: int) -> Iterator[Log]:
        period = Filter(since=day_start(day), until=day_end(day) - 1)
        return self._reader.stream_raw(replace(period, after_id=self.last_archived_id(day), until_id=last_id))

    def _add(self, name: FileName, tally: Tally) -> ManifestEntry:
        entry = tally.entry(name, self._now_ms, self._log_id)
        self._shelf.add(entry)
        return entry


def _tallied(rows: Iterator[Log], tally: Tally) -> Iterator[bytes]:
    for row in rows:
        line = to_line(row)
        tally.add(row.id, line)
        yield line


def _entry_of(day: str, previous_id: int, line: bytes, place: str) -> Log:
    """Read a line that must hold an entry of `day`, with an id above `previous_id`."""
    try:
        entry = from_line(line)
    except ValueError as error:
        raise StoreError(f"{place}: damaged ({error}); move the file away") from None
    if not day_start(day) <= entry.ts < day_end(day) or entry.id <= previous_id:
        raise StoreError(f"{place}: entry {entry.id} (ts {entry.ts}) doesn't belong there; move the file away")
    return entry
