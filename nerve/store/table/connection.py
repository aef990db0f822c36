"""WritableDatabase: the log's file opened for writing, with its transactions and its maintenance."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import peewee

from nerve.errors import DiskError, StoreError
from nerve.store.error_mapping import disk_failures, sqlite_failures
from nerve.store.migrations import migrate
from nerve.store.schema import SCHEMA_VERSION, check_tables, create_schema, is_empty, schema_version

BUSY_SECONDS = 5
CHECKPOINT_WAIT_MS = 500
"""How long a checkpoint waits for readers; if they stay, the next checkpoint does its work."""

CHECKPOINT_PAGES = 3_000
"""Size of the WAL, in pages, at which a commit empties it: a larger one writes the indexes to the file less often.

Readers find a page equally fast among up to 4,000. Even with a large commit on top, the WAL stays below the size that
`nerve.maintenance.checkpoints` calls large.
"""

_PRAGMAS = (
    ("auto_vacuum", "INCREMENTAL"),  # has no effect once the first table exists
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("fullfsync", "ON"),  # else macOS leaves the data in the drive's cache; no effect on other systems
    ("recursive_triggers", "ON"),
    ("wal_autocheckpoint", CHECKPOINT_PAGES),
    ("secure_delete", "FAST"),  # some builds of SQLite turn it on, and overwrite rows that the archive has anyway
    ("journal_size_limit", 64 * 1024 * 1024),
    ("temp_store", "MEMORY"),
)


VACUUM_STEPS = 100_000
"""Steps of SQLite's virtual machine between two calls of `is_over` during a rebuild of the file."""


class WritableDatabase:
    """The one read-write connection; it belongs to the process and the thread that opened it.

    Every method may raise StoreError, and DiskError if the disk or a lock of another program prevents it and trying
    again may help. A call that raised has changed nothing, and may be repeated.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, whose folder must exist.

        A missing file is created, readable by its owner alone; a log with an older schema is migrated.
        """
        self._path = path.absolute()
        self._db = peewee.SqliteDatabase(str(self._path), timeout=BUSY_SECONDS, autoconnect=False, thread_safe=False)
        _create_file(self._path)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def incremental_vacuum(self, pages: int) -> int:
        """Return up to `pages` unused pages to the file system; return their number, 0 when none is left."""
        with sqlite_failures(self._path):
            before = self._free_pages()
            # It frees one page a step: execute() takes a single step, since there are no rows; a script takes all.
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            return before - self._free_pages()

    def vacuum(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Rebuild the file without its unused space; meanwhile it takes up to twice the file's size on the disk.

        `is_over` is called during the rebuild: once it returns True, the file stays as it was and StoreError is raised.
        """
        with sqlite_failures(self._path):
            self._set("temp_store", "FILE")  # the temporary copy may be larger than the memory
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
        """Move the WAL into the database file and empty it; return False if readers prevented it for `wait_ms`."""
        with sqlite_failures(self._path):
            self._set("busy_timeout", wait_ms)
            try:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._set("busy_timeout", BUSY_SECONDS * 1000)
        return not busy

    def wal_bytes(self) -> int:
        """Return the size of the WAL, in bytes."""
        # Not opened: closing it again would drop SQLite's locks.
        try:
            return os.stat(f"{self._path}-wal").st_size  # noqa: PTH116 - called often, and faster than a Path
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Checkpoint, if the disk allows it, and close; may be called twice."""
        if self._db.is_closed():
            return
        try:
            with suppress(DiskError):  # the WAL keeps everything that could not be moved
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
        name = str(self._path)
        with sqlite_failures(name):
            self._db.connect()
            version = None
            if not is_empty(self._connection):  # before any pragma is set: a foreign database stays as it is
                check_tables(self._connection, name)
                version = schema_version(self._connection, name)
            for pragma, value in _PRAGMAS:
                self._set(pragma, value)
            if self._connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                raise StoreError(f"{name} can't have a WAL there: keep the workspace on a local disk")
            if version is None:
                with self._transaction():
                    create_schema(self._db)
            elif version < SCHEMA_VERSION:
                with self._transaction() as connection:
                    migrate(connection, version, name)


def _create_file(path: Path) -> None:
    """Create the file before SQLite does, so that it, and then the WAL, has the right mode from the start."""
    # An existing file is not opened: closing it would drop the locks that this process has on it.
    with disk_failures(path):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            if path.is_dir():
                raise StoreError(f"{path} is a folder: move it away, and nerve will create a file there") from None
