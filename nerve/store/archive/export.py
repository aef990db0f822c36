"""Archive: moves whole days from the table to files; every row is moved once, wherever the work is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from nerve.config.logs_section import LogsConfig
from nerve.errors import DiskError, StoreError
from nerve.events.model import ArchiveReason, Log, LogEvent
from nerve.ipc.progress import ArchiveProgress
from nerve.store.archive.codec import Stored
from nerve.store.archive.directory import ArchiveDirectory, read_manifest
from nerve.store.archive.manifest import FileName, ManifestEntry, RowCounter
from nerve.store.archive.order_messages import Order, Purge
from nerve.store.archive.recovery import examine
from nerve.store.archive.retention import count_rows, due_days
from nerve.store.filters import Filter
from nerve.store.jsonl import to_lines
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import RECORDED_FILES
from nerve.store.utc_days import day_end, day_start

ROWS_AT_ONCE = 200
"""Rows per write to a file; progress is reported after each write."""

PURGE_ROWS = 20_000
"""Rows deleted per order: progress is reported, and the kernel can interrupt, between two orders."""


class ArchiverBackend(Protocol):
    """How an archiver writes the log and reports. An exception from any of these ends the run, which is safe."""

    def record(self, event: LogEvent) -> None:
        """Append an event. Raises StoreError."""

    def execute(self, order: Order) -> int:
        """Carry out an order and return the number of rows it deleted; its `request` is ignored. Raises StoreError."""

    def progressed(self, progress: ArchiveProgress) -> None:
        """Report the progress of the run."""

    def warn(self, problem: str) -> None:
        """Report a problem that is new, in one line."""


class ExportedFile(NamedTuple):
    """A file that has been added to the archive: the `number`-th of this log, and why it was made now."""

    entry: ManifestEntry
    number: int
    reason: ArchiveReason


class Archive:
    """Moves the log's old days to a folder.

    The backend is ordered to delete rows only when their file, and its line in the manifest, are on the disk.
    `refused` is called, with one line, for a file in the folder that does not belong to this archive: it is left alone.
    """

    def __init__(self, folder: Path, db: Path, backend: ArchiverBackend, refused: Callable[[str], None]) -> None:
        self._folder = folder
        self._db = db
        self._backend = backend
        self._refused = refused

    def unrecorded(self) -> list[ExportedFile]:
        """Return the files that the log has no entry for, because an archiver died after adding them."""
        with LogReader(self._db) as reader:
            log_id, recorded = reader.meta("log_id"), int(reader.meta(RECORDED_FILES) or 0)
        files = [entry for entry in read_manifest(self._folder) if entry.log_id == log_id]
        return [
            ExportedFile(entry, number, "interrupted") for number, entry in enumerate(files, 1) if number > recorded
        ]

    def run_once(self, now_ms: int, logs: LogsConfig) -> Generator[ExportedFile, None, None]:
        """Archive every day that is due, and yield each file that is added to the archive.

        A file is yielded before its rows are deleted; they are deleted when the next one is requested. Work that an
        interrupted run left unfinished is completed first. Raises StoreError (DiskError for a full disk); the work
        done until then is safe, and the next run continues from there.
        """
        with ArchiveDirectory.held(self._folder) as directory, LogReader(self._db) as reader:
            run = _Run(directory, reader, self._backend, now_ms)
            for name in directory.strays():
                try:
                    adopted = run.adopt(name)
                except DiskError:
                    raise
                except StoreError as why:
                    self._refused(str(why))
                else:
                    yield run.exported(adopted, "interrupted")
            for day, reason in due_days(reader, now_ms, logs):
                run.begin(day)
                run.purge(day)
                if entry := run.export(day, compressed=logs.compress == "zstd"):
                    yield run.exported(entry, reason)
                    run.purge(day)


class _Run:
    """One run of the archiver: its source, its destination, its time, and its progress."""

    def __init__(self, directory: ArchiveDirectory, reader: LogReader, backend: ArchiverBackend, now_ms: int) -> None:
        self._directory = directory
        self._reader = reader
        self._backend = backend
        self._now_ms = now_ms
        self._log_id = reader.meta("log_id") or ""
        self._progress = ArchiveProgress("", 0, 0, 0)

    def begin(self, day: str) -> None:
        """Add the rows of a day to the progress: the work that follows is about this day."""
        self._report(day=day, due=self._progress.due + count_rows(self._reader, day))

    def purge(self, day: str) -> None:
        """Have the archived rows of `day` deleted from the table."""
        for archived in self._directory.archived(day, self._log_id):
            if count_rows(self._reader, day, archived.last_id):
                order = Purge(0, day, archived.last_id, tuple(archived.open_runs), PURGE_ROWS)
                deleted = PURGE_ROWS
                while deleted == PURGE_ROWS:
                    deleted = self._backend.execute(order)
                    self._report(deleted=self._progress.deleted + deleted)

    def export(self, day: str, *, compressed: bool) -> ManifestEntry | None:
        """Write the rows of `day` that are not archived yet to a new file; return None if there are none.

        The rows of runs that are not complete stay in the table.
        """
        last_id = self._reader.last_id()
        open_runs, held_back = self._reader.open_runs(last_id), set[str]()
        rows = _without_runs(self._unarchived_rows(day, last_id), open_runs, held_back)
        first = next(rows, None)
        if first is None:
            return None
        name, counter = self._directory.next_name(day, compressed=compressed), RowCounter()
        stored = self._directory.write(name, self._lines(chain([first], rows), counter))
        return self._add(name, stored, counter, held_back)

    def adopt(self, name: FileName) -> ManifestEntry:
        """Add a file to the manifest that an interrupted run has completed. Raises StoreError if it is not one."""
        archived = self._directory.archived(name.day, self._log_id)
        rows = self._unarchived_rows(name.day, self._reader.last_id())
        counter, open_runs = examine(self._directory, name, archived, rows)
        return self._add(name, self._directory.measure(name), counter, open_runs)

    def exported(self, entry: ManifestEntry, reason: ArchiveReason) -> ExportedFile:
        """Describe the file that has just been added to the archive."""
        return ExportedFile(entry, self._directory.count(self._log_id), reason)

    def _unarchived_rows(self, day: str, last_id: int) -> Iterator[Log]:
        """Return the rows of `day` with id <= `last_id` that are not archived, with raw payloads."""
        ranges = self._directory.archived(day, self._log_id)
        done = max((archived.last_id for archived in ranges if not archived.open_runs), default=0)
        period = Filter(since=day_start(day), until=day_end(day) - 1, after_id=done, until_id=last_id)
        rows = self._reader.stream_raw(period)
        if not ranges:
            return rows
        return (row for row in rows if not any(archived.holds(row.id, row.ref_id) for archived in ranges))

    def _lines(self, rows: Iterator[Log], counter: RowCounter) -> Iterator[bytes]:
        """Yield the lines of ROWS_AT_ONCE rows at a time: one by one, handing them over would take most of the time."""
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            counter.add([row.id for row in batch])
            yield to_lines(batch)
            self._report(archived=self._progress.archived + len(batch))

    def _add(self, name: FileName, stored: Stored, counter: RowCounter, open_runs: Iterable[str]) -> ManifestEntry:
        entry = counter.entry(name, stored, self._now_ms, self._log_id, open_runs)
        self._directory.add(entry)
        return entry

    def _report(self, **changes: str | int) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changes)
        self._backend.progressed(self._progress)


def _without_runs(rows: Iterator[Log], runs: frozenset[str], held_back: set[str]) -> Iterator[Log]:
    """Yield the rows that belong to none of these runs; add the runs whose rows are left out to `held_back`."""
    for row in rows:
        if row.ref_id in runs:
            held_back.add(row.ref_id)
        else:
            yield row
