"""Restoring an archived day to a separate database, for analysis; never to the log."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import peewee

from nerve.errors import StoreError
from nerve.store.archive.codec import sync
from nerve.store.archive.directory import ArchiveDirectory
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles, name_of
from nerve.store.archive.row_filter import row_filter_of
from nerve.store.error_mapping import disk_failures, sqlite_failures
from nerve.store.filters import Filter
from nerve.store.merge import Merge
from nerve.store.schema import LogRow, MetaRow, Row, create_schema, execute, get_meta, sql_of
from nerve.store.table.readonly import ReadOnlyDatabase

BATCH = 10_000

_MARK = "restored_day"
"""Key in the table meta that marks a restored day; only a database with it is replaced."""

_BLANK = (1, "", "", "", "", 0)


class Restored(NamedTuple):
    """The result of restoring a day: entries, files, and the files of that day left out as they are of other logs."""

    rows: int
    files: int
    left_out: tuple[str, ...]


def restore_day(
    folder: Path,
    day: str,
    target: Path,
    *,
    log_id: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Restored:
    """Load the files of `day` in the archive's `folder` into a new database at `target`, with the log's schema.

    Each file is checked against the manifest first. If files of several logs have that day, those of the log `log_id`
    are loaded or, if it has none, those of the log that was archived last. `target` appears whole or not at all. Raises
    StoreError if the day isn't archived, a file is damaged, or `target` is in use, or exists; with `force`, an existing
    `target` is replaced if it is a restored day.
    """
    files = ArchivedFiles(folder, None)
    chosen, left_out = _choose(files.entries(), day, log_id)
    _check_target(target, force=force)
    for entry in chosen:
        _check_file(ArchiveDirectory(folder), entry)
    total = sum(entry.rows for entry in chosen)
    with _replacing(target) as path:
        rows = _load(path, chosen, files, lambda done: progress(done, total))
        if rows != total:
            raise StoreError(f"{folder}: {day} has {rows} entries, the manifest says {total}: see `nerve verify`")
    return Restored(rows, len(chosen), tuple(entry.file for entry in left_out))


def _choose(
    entries: Sequence[ManifestEntry], day: str, log_id: str | None
) -> tuple[list[ManifestEntry], list[ManifestEntry]]:
    """Return the files of `day`: those of one log, and the others."""
    of_day = [entry for entry in entries if entry.day == day]
    if not of_day:
        days = sorted({entry.day for entry in entries})
        there = f"it has {len(days)} days from {days[0]} to {days[-1]}" if days else "nothing has been archived yet"
        raise StoreError(f"{day} (UTC) is not in the archive ({there}); newer entries are still in the log")
    log = log_id if log_id in {entry.log_id for entry in of_day} else of_day[-1].log_id
    return [e for e in of_day if e.log_id == log], [e for e in of_day if e.log_id != log]


def _check_target(target: Path, *, force: bool) -> None:
    for suffix in ("-wal", "-journal"):
        beside = target.with_name(target.name + suffix)
        if beside.exists():
            raise StoreError(f"{target} is in use ({beside.name} exists): close it, or restore to another file")
    if not target.exists():
        return
    if not force:
        raise StoreError(f"{target} already exists: restore to another file with -o, or replace it with --force")
    if not _is_restored(target):
        raise StoreError(f"{target} is not the database of a restored day: name another file with -o")


def _is_restored(path: Path) -> bool:
    try:
        database = ReadOnlyDatabase(path)
        try:
            return database.read(partial(get_meta, key=_MARK)) is not None
        finally:
            database.close()
    except StoreError:
        return False


def _check_file(directory: ArchiveDirectory, entry: ManifestEntry) -> None:
    name = name_of(entry)
    stored = directory.measure(name)
    if stored != (entry.bytes, entry.sha256):
        raise StoreError(f"{directory.path(name)} is not what was archived (its SHA-256 differs): see `nerve verify`")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield the path of a new file that atomically becomes `target` if the block succeeds."""
    path = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    with disk_failures(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # left by a killed process with the same pid
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield path
        with disk_failures(target):
            sync(path)
            path.replace(target)
            sync(target.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _load(path: Path, entries: Sequence[ManifestEntry], files: ArchivedFiles, progress: Callable[[int], None]) -> int:
    """Create a log with the entries of these files and return their number; in the order of ids, as that is fastest."""
    merge, every = Merge[Row](), row_filter_of(Filter())
    db = peewee.SqliteDatabase(str(path), pragmas={"journal_mode": "OFF", "synchronous": "OFF"}, autoconnect=False)
    with sqlite_failures(path), db.connection_context():
        create_schema(db)
        connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
        execute(connection, MetaRow.update(value=entries[0].log_id).where(MetaRow.key == "log_id"))
        execute(connection, MetaRow.insert(key=_MARK, value=entries[0].day))
        for entry in entries:
            merge.add(entry.first_id, files.rows(entry, every))
        try:
            rows = merge.until(max(entry.last_id for entry in entries))
            return _insert(db, rows, progress)
        finally:
            merge.close()


def _insert(db: peewee.SqliteDatabase, rows: Iterator[Row], progress: Callable[[int], None]) -> int:
    insert = sql_of(
        LogRow.insert_many(
            [_BLANK], fields=[LogRow.id, LogRow.source, LogRow.type, LogRow.ref_id, LogRow.payload, LogRow.ts]
        )
    )
    connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
    done = 0
    while batch := list(islice(rows, BATCH)):
        with db.atomic():
            connection.executemany(insert, batch)
        done += len(batch)
        progress(done)
    return done
