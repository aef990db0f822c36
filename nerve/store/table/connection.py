"""The file of the log, opened for writing: how it comes to be, its transactions and its upkeep."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import peewee

from nerve.errors import DiskError, StoreError
from nerve.store.error_mapping import disk_failures, sqlite_failures
from nerve.store.schema import check_schema, create_schema, is_empty

BUSY_SECONDS = 5
CHECKPOINT_WAIT_MS = 500
"""How long a checkpoint waits for readers to get out of its way; there will be another one."""

CHECKPOINT_PAGES = 3_000
"""How large the WAL grows before a commit empties it: the pages of the indexes are written to the file less often.

A reader finds a page as fast among up to 4,000; and with a large commit on top it is not what `nerve.maintenance.checkpoints` calls large.
"""

_PRAGMAS = (
    ("auto_vacuum", "INCREMENTAL"),  # counts only before the first table is made
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("fullfsync", "ON"),  # or else macOS leaves it to the drive's cache; elsewhere it changes nothing
    ("recursive_triggers", "ON"),
    ("wal_autocheckpoint", CHECKPOINT_PAGES),
    ("secure_delete", "FAST"),  # some builds of SQLite have it on, and overwrite what is in the archive anyway
    ("journal_size_limit", 64 * 1024 * 1024),
    ("temp_store", "MEMORY"),
)


VACUUM_STEPS = 100_000
"""After so many steps of SQLite's machine each, a rebuild of the file asks whether there is time to go on."""


class WritableDatabase:
    """The one read-write connection; it belongs to the process and the thread that opened it.

    Every method may raise StoreError, and DiskError where the disk or another program's lock refuses and trying
    again may help. A call that raised has changed nothing, and may be made again.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, and make it (for its owner alone) when it isn't there; its folder must be."""
        self._path = path.absolute()
        self._db = peewee.SqliteDatabase(str(self._path), timeout=BUSY_SECONDS, autoconnect=False, thread_safe=False)
        _create_file(self._path)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def incremental_vacuum(self, pages: int) -> int:
        """Give up to `pages` unused pages back to the file system; gives how many went, 0 when none is left."""
        with sqlite_failures(self._path):
            before = self._free_pages()
            # It frees one page a step: execute() takes a single step, since no row comes, and a script takes them all.
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            return before - self._free_pages()

    def vacuum(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Rebuild the file without its unused space; takes up to twice the file's size while it lasts.

        `is_over` is asked every now and then: once it says so, all stays as it was, and StoreError is raised.
        """
        with sqlite_failures(self._path):
            self._set("temp_store", "FILE")  # the copy that it makes may be larger than the memory
            self._connection.set_progress_handler(is_over, VACUUM_STEPS)
            try:
                self._connection.execute("VACUUM")
            except sqlite3.OperationalError:
                if is_over():
                    raise StoreError(f"{self._path} was not rebuilt: there was no time left for it") from None
                raise
            finally:
                self._connection.set_progress_handler(None, 0)
                self._set("temp_store", "MEMORY")
        self.checkpoint()

    def checkpoint(self, wait_ms: int = CHECKPOINT_WAIT_MS) -> bool:
        """Move all of the WAL into the database file, and empty it; False if readers were in the way for `wait_ms`."""
        with sqlite_failures(self._path):
            self._set("busy_timeout", wait_ms)
            try:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._set("busy_timeout", BUSY_SECONDS * 1000)
        return not busy

    def wal_bytes(self) -> int:
        """Give the size of the WAL, in bytes."""
        # Only its name is looked at: to open it, and close it again, would drop SQLite's locks.
        try:
            return os.stat(f"{self._path}-wal").st_size  # noqa: PTH116 - asked often, and no Path is needed
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Checkpoint, if the disk allows it, and close; may be called twice."""
        if self._db.is_closed():
            return
        try:
            with suppress(DiskError):  # what it could not move is as safe in the WAL
                self.checkpoint()
        finally:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with sqlite_failures(self._path):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # on a full disk, SQLite may have rolled back by itself
                    connection.execute("ROLLBACK")
                raise

    @property
    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
        return connection

    def _set(self, pragma: str, value: str | int) -> None:
        self._connection.execute(f"PRAGMA {pragma} = {value}")

    def _free_pages(self) -> int:
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages)

    def _prepare(self) -> None:
        with sqlite_failures(self._path):
            self._db.connect()
            fresh = is_empty(self._connection)
            if not fresh:  # before anything is set: what is not ours stays as it is
                check_schema(self._connection, str(self._path))
            for pragma, value in _PRAGMAS:
                self._set(pragma, value)
            if self._connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                raise StoreError(f"{self._path} can't have a WAL there: keep the workspace on a local disk")
            if fresh:
                with self._transaction():
                    create_schema(self._db)


def _create_file(path: Path) -> None:
    """Make the file before SQLite does, so that it (and the WAL after it) has the right mode from the start."""
    # A file that is there is not touched: closing it would drop the locks that this process has on it.
    with disk_failures(path):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if path.is_dir():
                raise StoreError(f"{path} is a folder: move it away, nerve makes a file there") from None
