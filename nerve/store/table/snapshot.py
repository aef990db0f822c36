"""A read-only connection to the log, which leaves no trace: it makes no file, and changes none."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import peewee

from nerve.errors import StoreError
from nerve.store.failures import disk_failures, sqlite_failures
from nerve.store.models import check_schema
from nerve.store.table.conditions import register_functions

BUSY_SECONDS = 5

T = TypeVar("T")
_Print = tuple[int, ...]


class ReadOnlyDatabase:
    """Runs reads, each on one consistent state of the log; belongs to the process and the thread that opened it.

    While a writer has the log open, there is a WAL, and a read goes through SQLite's locks. While nobody has, SQLite
    would make a WAL, and leave it behind: so the file is then read as one that can't change (which works on
    a read-only disk too), and a read during which it did change is made again.
    """

    def __init__(self, path: Path) -> None:
        """Open the log at `path`; StoreError when there is none, or none that this nerve can read."""
        self._path = path.absolute()
        self._db, self._print = self._connected()
        try:
            self.read(self._check)
        except BaseException:
            self.close()
            raise

    def read(self, work: Callable[[peewee.SqliteDatabase], T]) -> T:
        """Run `work` in one read transaction; it may run more than once, and must fetch what it selects."""
        while True:
            try:
                with sqlite_failures(self._path), self._db.atomic():
                    result = work(self._db)
            except StoreError:
                if not self._has_changed():
                    raise
            else:
                if not self._has_changed():
                    return result
            self._db.close()
            self._db, self._print = self._connected()

    def close(self) -> None:
        """Close; may be called twice."""
        self._db.close()

    def _check(self, db: peewee.SqliteDatabase) -> None:
        check_schema(db, str(self._path))

    def _connected(self) -> tuple[peewee.SqliteDatabase, _Print | None]:
        """Connect; for a file that can't change, also give what tells whether it has changed all the same."""
        fingerprint = self._fingerprint()
        live = self._has_wal()
        uri = f"{self._path.as_uri()}?mode=ro{'' if live else '&immutable=1'}"
        db = peewee.SqliteDatabase(uri, uri=True, timeout=BUSY_SECONDS, autoconnect=False, thread_safe=False)
        register_functions(db)
        with sqlite_failures(self._path):
            db.connect()
        return db, None if live else fingerprint

    def _has_changed(self) -> bool:
        return self._print is not None and (self._has_wal() or self._print != self._fingerprint())

    def _has_wal(self) -> bool:
        return self._path.with_name(f"{self._path.name}-wal").exists()

    def _fingerprint(self) -> _Print:
        with disk_failures(self._path):
            try:
                status = self._path.stat()
            except FileNotFoundError:
                raise StoreError(f"there is no log at {self._path}: check the path, or start nerve there") from None
        if stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{self._path} is a folder: name the file of a log, such as data/logs.db")
        return status.st_ino, status.st_size, status.st_mtime_ns
