"""The archive: whole days leave the table for files, every row once, wherever the work is interrupted."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from nerve.config.logs_section import LogsConfig
from nerve.errors import DiskError, StoreError
from nerve.events.model import ArchiveReason, Log
from nerve.ipc.progress import ArchiveProgress
from nerve.store.archive.codec import Stored
from nerve.store.archive.directory import ArchiveDirectory, read_manifest
from nerve.store.archive.manifest import FileName, ManifestEntry, RowCounter
from nerve.store.archive.recovery import examine
from nerve.store.archive.retention import count_rows, due_days
from nerve.store.filters import Filter
from nerve.store.jsonl import to_lines
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import RECORDED_FILES
from nerve.store.utc_days import day_end, day_start

ROWS_AT_ONCE = 200
"""So many rows are written at once, and then a word on the progress."""


class PurgeOrder(msgspec.Struct, frozen=True):
    """What may be deleted, being archived: the rows of the UTC day `day` with id <= `last_id`, but for `open_runs`."""

    day: str
    last_id: int
    open_runs: tuple[str, ...] = ()


class ExportedFile(NamedTuple):
    """A file that has come into the archive, the `number`-th of this log, and why now."""

    entry: ManifestEntry
    number: int
    reason: ArchiveReason


class ArchiveHost(Protocol):
    """What an archive has others do, and whom it tells. What these raise ends the run, which harms nothing."""

    def purge(self, order: PurgeOrder) -> Iterator[int]:
        """Delete rows from the table, and give the number of each chunk that has gone: in an engine the writer does."""

    def progressed(self, progress: ArchiveProgress) -> None:
        """Hear how far the run is."""

    def refused(self, reason: str) -> None:
        """Hear, in one line, of a file in the folder that is left alone, since it is none of this archive."""


class Archive:
    """Moves the log's old days to a folder.

    Its host is told to purge rows only when their file, and its line in the manifest, are on the disk.
    """

    def __init__(self, folder: Path, db: Path, host: ArchiveHost) -> None:
        self._folder = folder
        self._db = db
        self._host = host

    def unrecorded(self) -> list[ExportedFile]:
        """Give the files that the log has not been told of, since an archiver died when the manifest had just been."""
        with LogReader(self._db) as reader:
            log_id, recorded = reader.meta("log_id"), int(reader.meta(RECORDED_FILES) or 0)
        files = [entry for entry in read_manifest(self._folder) if entry.log_id == log_id]
        return [
            ExportedFile(entry, number, "interrupted") for number, entry in enumerate(files, 1) if number > recorded
        ]

    def run_once(self, now_ms: int, logs: LogsConfig) -> Generator[ExportedFile, None, None]:
        """Archive every day that is due, and give each file that has come into the archive.

        A file is given before its rows are deleted; they are when the next one is asked for. What an interrupted
        run has left half done is completed first. Raises StoreError (DiskError for a full disk); what was done
        by then is safe, and the next run goes on from there.
        """
        with ArchiveDirectory.held(self._folder) as shelf, LogReader(self._db) as reader:
            work = _Work(shelf, reader, self._host, now_ms)
            for name in shelf.strays():
                if adopted := work.adopt(name):
                    yield work.filed(adopted, "interrupted")
            for day, reason in due_days(reader, now_ms, logs):
                work.begin(day)
                work.purge(day)
                if entry := work.export(day, compressed=logs.compress == "zstd"):
                    yield work.filed(entry, reason)
                    work.purge(day)


class _Work:
    """One run: what it reads, where it writes, its moment, and how far it is."""

    def __init__(self, shelf: ArchiveDirectory, reader: LogReader, host: ArchiveHost, now_ms: int) -> None:
        self._shelf = shelf
        self._reader = reader
        self._host = host
        self._now_ms = now_ms
        self._log_id = reader.meta("log_id") or ""
        self._progress = ArchiveProgress("", 0, 0, 0)

    def begin(self, day: str) -> None:
        """Count a day in: what follows is about it."""
        self._tell(day=day, due=self._progress.due + count_rows(self._reader, day))

    def purge(self, day: str) -> None:
        """Have the rows of `day` deleted that are in the archive."""
        for stretch in self._shelf.archived(day, self._log_id):
            if count_rows(self._reader, day, stretch.last_id):
                for rows in self._host.purge(PurgeOrder(day, stretch.last_id, tuple(stretch.open_runs))):
                    self._tell(deleted=self._progress.deleted + rows)

    def export(self, day: str, *, compressed: bool) -> ManifestEntry | None:
        """Write the rows of `day` that are not archived yet to a new file; None when there are none.

        Those of runs that are not complete stay where they are.
        """
        last_id = self._reader.last_id()
        open_runs, held_back = self._reader.open_runs(last_id), set[str]()
        rows = _held_back(self._rows_left(day, last_id), open_runs, held_back)
        first = next(rows, None)
        if first is None:
            return None
        name, tally = self._shelf.next_name(day, compressed=compressed), RowCounter()
        stored = self._shelf.write(name, self._lines(chain([first], rows), tally))
        return self._add(name, stored, tally, held_back)

    def adopt(self, name: FileName) -> ManifestEntry | None:
        """Enter a file into the manifest that an interrupted run has completed; None when it is refused."""
        try:
            archived = self._shelf.archived(name.day, self._log_id)
            tally, open_runs = examine(self._shelf, name, archived, self._rows_left(name.day, self._reader.last_id()))
            return self._add(name, self._shelf.measure(name), tally, open_runs)
        except DiskError:
            raise
        except StoreError as why:
            self._host.refused(str(why))
            return None

    def filed(self, entry: ManifestEntry, reason: ArchiveReason) -> ExportedFile:
        """Tell of the file that has just come into the archive."""
        return ExportedFile(entry, self._shelf.count(self._log_id), reason)

    def _rows_left(self, day: str, last_id: int) -> Iterator[Log]:
        """Give the rows of `day` with id <= `last_id` that are not archived, with raw payloads."""
        archived = self._shelf.archived(day, self._log_id)
        done = max((stretch.last_id for stretch in archived if not stretch.open_runs), default=0)
        period = Filter(since=day_start(day), until=day_end(day) - 1, after_id=done, until_id=last_id)
        rows = self._reader.stream_raw(period)
        if not archived:
            return rows
        return (row for row in rows if not any(stretch.holds(row.id, row.ref_id) for stretch in archived))

    def _lines(self, rows: Iterator[Log], tally: RowCounter) -> Iterator[bytes]:
        """Give the lines of many rows at a time: to pass each on by itself would take most of the time."""
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            tally.add([row.id for row in batch])
            yield to_lines(batch)
            self._tell(archived=self._progress.archived + len(batch))

    def _add(self, name: FileName, stored: Stored, tally: RowCounter, open_runs: Iterable[str]) -> ManifestEntry:
        entry = tally.entry(name, stored, self._now_ms, self._log_id, open_runs)
        self._shelf.add(entry)
        return entry

    def _tell(self, **changes: str | int) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changes)
        self._host.progressed(self._progress)


def _held_back(rows: Iterator[Log], runs: frozenset[str], held_back: set[str]) -> Iterator[Log]:
    """Give the rows that are of none of these runs, and note the runs whose rows are held back."""
    for row in rows:
        if row.ref_id in runs:
            held_back.add(row.ref_id)
        else:
            yield row
