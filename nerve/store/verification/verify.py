"""Verifying a log: its database, its archive, and that the two have every entry; an engine may be running.

All entries are read once, in the order of their ids and in short reads, as FullLog reads them: so memory doesn't grow
with the log, only SQLite's own check holds the writer up, and entries that the archiver moves meanwhile are not missed.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import peewee

from nerve.errors import StoreError
from nerve.store.archive.reader import archive_of
from nerve.store.merge import Merge
from nerve.store.schema import altered_parts, fetch, get_meta
from nerve.store.table.queries import ByteRow, byte_rows, last_id
from nerve.store.table.readonly import ReadOnlyDatabase
from nerve.store.verification.archive_check import ArchiveCheck
from nerve.store.verification.findings import Findings, VerificationReport
from nerve.store.verification.ledger import Ledger, Seen
from nerve.store.verification.watermark import Marks, check_watermark

PAGE = 1000
PROGRESS_ENTRIES = 10_000
"""Entries between two progress reports."""

TICK_STEPS = 1_000_000
"""Steps of SQLite's virtual machine between two progress reports of its check: some tens a second."""

Progress = Callable[[str, int, int], None]
"""Called with the part being verified, the work done, and the total (0 if unknown)."""


def verify(db: Path, progress: Progress, *, archive: Path | None = None, quick: bool = False) -> VerificationReport:
    """Verify the log at `db` with its archive; `quick` skips the check of the indexes against the table.

    Raises StoreError only for a file that is not a log of this version, or can't be opened: other damage is reported.
    """
    database = ReadOnlyDatabase(db)
    try:
        verification = _Verification(database, archive or archive_of(db), progress)
        verification.check_database("quick_check" if quick else "integrity_check")
        return verification.check_entries()
    finally:
        database.close()


class _State(NamedTuple):
    """The log when the verification began: its greatest id, and the id below which no run should be open."""

    last_id: int
    settled_below: str | None


class _Verification:
    """One verification and its progress."""

    def __init__(self, database: ReadOnlyDatabase, folder: Path, progress: Progress) -> None:
        self._db = database
        self._folder = folder
        self._progress = progress
        self._findings = Findings()
        self._ledger = Ledger(self._findings)
        self._log_id = database.read(partial(get_meta, key="log_id")) or ""
        self._table_is_readable = True
        self._in_table = self._in_archive = 0

    def check_database(self, pragma: str) -> None:
        """Have SQLite check the file, and check the triggers and indexes."""
        self._progress("database", 0, 0)
        try:
            for result in self._db.read(partial(_sqlite_check, pragma=pragma, tick=self._tick)):
                if result != "ok":
                    self._findings.add("database", "logs.db", result)
        except StoreError as why:
            if _is_interruption(why):
                raise KeyboardInterrupt from why
            self._findings.add("database", "logs.db", _reason(why))
        for part in self._db.read(altered_parts):
            self._findings.add("schema", "logs.db", f"its {part} is missing, or was altered")

    def _tick(self) -> None:
        self._progress("database", 0, 0)

    def check_entries(self) -> VerificationReport:
        """Read all entries in the table and the archive, and return the report."""
        state = self._db.read(_state)
        archive, merge = self._archive(), Merge[Seen]()
        try:
            self._read_all(state.last_id, archive, merge)
        finally:
            merge.close()
        whole = self._table_is_readable and archive is not None and archive.readable
        if whole:
            self._ledger.end(state.last_id)
            if not self._ledger.has_gaps:  # else a run may only seem to be open
                self._check_open_runs(state.settled_below)
        if archive is not None:
            self._check_watermark(archive, self._ledger if whole else None)
        return self._report(state.last_id, archive)

    def _archive(self) -> ArchiveCheck | None:
        try:
            return ArchiveCheck(self._folder, self._log_id, self._findings)
        except StoreError as why:
            self._findings.add("manifest", "the archive", str(why))
            return None

    def _read_all(self, last: int, archive: ArchiveCheck | None, merge: Merge[Seen]) -> None:
        for rows, until_id in self._pages(last):
            # After each page, as in FullLog: entries missing from it are in a file that the manifest lists now.
            for first_id, check in archive.arrivals() if archive else ():
                merge.add(first_id, check.seen())
            merge.add(0, self._of_table(rows))
            for seen in merge.until(until_id):
                self._add(seen, last)
        for _ in merge.until(sys.maxsize):
            pass  # newer than the verification: only its file is checked
        for other in archive.others if archive else ():
            for _ in other.seen():
                pass

    def _pages(self, last: int) -> Iterator[tuple[list[ByteRow], int]]:
        """Yield pages of the table's rows, each with the id up to which it is complete."""
        position, more = 0, True
        while more:
            try:
                rows = self._db.read(partial(byte_rows, after_id=position, until_id=last, limit=PAGE))
            except StoreError as why:
                self._findings.add("database", f"logs.db, after entry {position}", _reason(why))
                self._table_is_readable, rows = False, []
            more = len(rows) == PAGE
            position = rows[-1].id if more else last
            yield rows, position

    def _of_table(self, rows: list[ByteRow]) -> Generator[Seen, None, None]:
        for row in rows:
            try:
                msgspec.json.decode(row.payload)
                yield Seen(row.id, None, row.decoded())
            except (ValueError, RecursionError) as why:
                self._findings.add("entry", f"entry {row.id}", f"can't be decoded: {why}")
                yield Seen(row.id, None, row.decoded(errors="replace"))

    def _add(self, seen: Seen, last: int) -> None:
        if seen.origin is None:
            self._in_table += 1
        elif seen.origin.is_listed:
            self._in_archive += 1
        if self._table_is_readable and seen.id <= last:
            self._ledger.add(seen)
        if not (self._in_table + self._in_archive) % PROGRESS_ENTRIES:
            self._progress("entries", min(seen.id, last), last)

    def _check_open_runs(self, settled_below: str | None) -> None:
        """Check that a restart would find the open runs, to complete them."""
        for run, start in self._ledger.open_runs.items():
            if not (settled_below or "1").isdecimal() or int(settled_below or 1) > start:
                what = f"open since entry {start}, but settled_below in the table meta ({settled_below}) is greater"
                self._findings.add("run", run, what)

    def _check_watermark(self, archive: ArchiveCheck, ledger: Ledger | None) -> None:
        marks: Marks = self._db.read(_marks)
        check_watermark(marks, archive.entries(), ledger, self._findings)

    def _report(self, last: int, archive: ArchiveCheck | None) -> VerificationReport:
        notes = [
            f"{name} is not in the manifest yet: an archiver was interrupted, and the next one will add it"
            for name in (archive.strays() if archive else [])
        ]
        return VerificationReport(
            ok=not self._findings.damage,
            entries=last,
            table=self._in_table,
            archive=self._in_archive,
            files=archive.files if archive else 0,
            runs=self._ledger.runs,
            open_runs=len(self._ledger.open_runs),
            damage=self._findings.damage,
            left_out=self._findings.left_out(),
            notes=notes,
        )


def _sqlite_check(db: sqlite3.Connection, pragma: str, tick: Callable[[], None]) -> list[str]:
    """Return the results of SQLite's check of the file; `tick` is called during it, and ends it by an exception."""
    db.set_progress_handler(tick, TICK_STEPS)
    try:
        return [result for (result,) in fetch(db, peewee.SQL(f"PRAGMA {pragma}"))]
    finally:
        db.set_progress_handler(None, 0)


def _is_interruption(error: StoreError) -> bool:
    cause = getattr(error.__cause__, "orig", error.__cause__)
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _reason(error: StoreError) -> str:
    """Return SQLite's message alone: without the advice to verify the log."""
    return str(error.__cause__ or error)


def _state(db: sqlite3.Connection) -> _State:
    return _State(last_id(db), get_meta(db, "settled_below"))


def _marks(db: sqlite3.Connection) -> Marks:
    return get_meta(db, "watermark_ts"), get_meta(db, "watermark_id")
