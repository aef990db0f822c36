"""ReadOnlyDatabase: a read-only connection to the log, which creates no file and changes none."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from nerve.errors import StoreError
from nerve.store.error_mapping import explain_os, explain_sqlite, sqlite_failures
from nerve.store.schema import check_tables, check_version
from nerve.store.table.conditions import register_functions

BUSY_SECONDS = 5

T = TypeVar("T")
_Fingerprint = tuple[int, ...]


class ReadOnlyDatabase:
    """Runs reads, each on one consistent state of the log; belongs to the process and the thread that opened it.

    While a writer has the log open, there is a WAL, and reads use SQLite's locks. Otherwise SQLite would create a WAL
    and leave it behind: so the file is then read as an immutable one (which works on a read-only disk too), and a read
    during which it changed is repeated.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the log at `path`. Raises StoreError if there is no file; the first read checks that it is a log."""
        # Strings, not Paths: creating those would take a tenth of the time of a small query.
        self._path = os.fspath(path)
        if not os.path.isabs(self._path):  # noqa: PTH117
            self._path = os.path.join(os.getcwd(), self._path)  # noqa: PTH109, PTH118
        self._uri = f"file://{quote(self._path, errors='surrogateescape')}?mode=ro"
        self._wal = f"{self._path}-wal"
        self._is_checked = False
        self._connect()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one read transaction and return its result; it must fetch all rows, and may run more than once.

        Raises StoreError before it runs if the file is not a log, or has a schema that this nerve can't read.
        """
        while True:
            try:
                with sqlite_failures(self._path):
                    result = self._read(work)
            except StoreError:
                if not self._has_changed():
                    raise
            else:
                if not self._has_changed():
                    return result
            self._db.close()
            self._connect()

    def close(self) -> None:
        """Close; may be called twice."""
        self._db.close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._db.execute("BEGIN")
        try:
            if not self._is_checked:  # in this transaction: it reads the same state, and costs no other one
                check_version(self._db, self._path)
                self._is_checked = True
            return work(self._db)
        except sqlite3.OperationalError:
            self._match.raise_failure()
            check_tables(self._db, self._path)  # if one is missing, this is the better message
            raise
        finally:
            self._db.commit()  # nothing has been written, even if `work` failed

    def _connect(self) -> None:
        """Connect; if the file is read as immutable, remember its fingerprint to detect changes."""
        self._immutable = self._fingerprint_without_wal()
        uri = self._uri if self._immutable is None else f"{self._uri}&immutable=1"
        try:
            self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            self._fingerprint()  # if there is no file, this raises a better message
            raise explain_sqlite(error, self._path) from error
        self._match = register_functions(self._db)
        self._is_checked = False

    def _fingerprint_without_wal(self) -> _Fingerprint | None:
        """Return the file's fingerprint, or None if there is a WAL and so the file may change at any time."""
        if self._has_wal():
            return None
        fingerprint = self._fingerprint()
        # Checked again: a writer may have opened the file before its fingerprint was taken.
        return None if self._has_wal() else fingerprint

    def _has_changed(self) -> bool:
        return self._immutable is not None and (self._has_wal() or self._immutable != self._fingerprint())

    def _has_wal(self) -> bool:
        return os.path.exists(self._wal)  # noqa: PTH110

    def _fingerprint(self) -> _Fingerprint:
        try:
            status = os.stat(self._path)  # noqa: PTH116
        except FileNotFoundError:
            raise StoreError(f"there is no log at {self._path}: check the path, or start nerve there") from None
        except OSError as error:
            raise explain_os(error, self._path) from error
        if stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{self._path} is a folder: name the file of a log, such as data/logs.db")
        return status.st_ino, status.st_size, status.st_mtime_ns
