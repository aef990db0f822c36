"""A read-only connection to the log, which leaves no trace: it makes no file, and changes none."""

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
_Print = tuple[int, ...]


class ReadOnlyDatabase:
    """Runs reads, each on one consistent state of the log; belongs to the process and the thread that opened it.

    While a writer has the log open, there is a WAL, and a read goes through SQLite's locks. While nobody has, SQLite
    would make a WAL, and leave it behind: so the file is then read as one that can't change (which works on
    a read-only disk too), and a read during which it did change is made again.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the log at `path`; StoreError when there is none. The first read tells whether it is one of ours."""
        # Texts, not Paths: to make some, and their URI, would be a tenth of what it takes to answer a small question.
        self._path = os.fspath(path)
        if not os.path.isabs(self._path):  # noqa: PTH117
            self._path = os.path.join(os.getcwd(), self._path)  # noqa: PTH109, PTH118
        self._uri = f"file://{quote(self._path, errors='surrogateescape')}?mode=ro"
        self._wal = f"{self._path}-wal"
        self._is_checked = False
        self._connect()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one read transaction; it may run more than once, and must fetch what it selects.

        StoreError, before it runs, for what is no log, or none that this nerve can read.
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
            if not self._is_checked:  # in this transaction, so that it is of the same state, and costs one look
                check_version(self._db, self._path)
                self._is_checked = True
            return work(self._db)
        except sqlite3.OperationalError:
            self._match.raise_failure()
            check_tables(self._db, self._path)  # where one is missing, that is what to say
            raise
        finally:
            self._db.commit()  # nothing has been written, whatever has failed

    def _connect(self) -> None:
        """Connect; of a file that can't change, remember what tells whether it has changed all the same."""
        self._print = self._print_while_still()
        uri = self._uri if self._print is None else f"{self._uri}&immutable=1"
        try:
            self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            self._fingerprint()  # where there is no file, that is what to say
            raise explain_sqlite(error, self._path) from error
        self._match = register_functions(self._db)
        self._is_checked = False

    def _print_while_still(self) -> _Print | None:
        """Give what tells whether the file has changed; None while it may at any time, since there is a WAL."""
        if self._has_wal():
            return None
        fingerprint = self._fingerprint()
        # Looked for again: of a file that a writer was just changing, the print would not tell what came after it.
        return None if self._has_wal() else fingerprint

    def _has_changed(self) -> bool:
        return self._print is not None and (self._has_wal() or self._print != self._fingerprint())

    def _has_wal(self) -> bool:
        return os.path.exists(self._wal)  # noqa: PTH110

    def _fingerprint(self) -> _Print:
        try:
            status = os.stat(self._path)  # noqa: PTH116
        except FileNotFoundError:
            raise StoreError(f"there is no log at {self._path}: check the path, or start nerve there") from None
        except OSError as error:
            raise explain_os(error, self._path) from error
        if stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{self._path} is a folder: name the file of a log, such as data/logs.db")
        return status.st_ino, status.st_size, status.st_mtime_ns
