"""Errors of SQLite and the disk as StoreErrors: one line that says what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from peewee import PeeweeException

from nerve.errors import DiskError, StoreError

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


class sqlite_failures:  # noqa: N801 - a context manager; a class, because it is faster than a generator on each read
    """Turn exceptions of SQLite and its driver about the database at `path` into StoreErrors."""

    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Enter the context."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (sqlite3.Error, PeeweeException)):
            raise explain_sqlite(error, self._path) from error
        if isinstance(error, (OverflowError, UnicodeEncodeError)):
            raise StoreError(f"{self._path} can't hold a value: {error}") from error


@contextmanager
def disk_failures(path: str | Path) -> Iterator[None]:
    """Turn an OSError about `path`, or a file below it, into a StoreError."""
    try:
        yield
    except OSError as error:
        raise explain_os(error, path) from error


def explain_os(error: OSError, path: str | Path) -> StoreError:
    """Return an OSError about a file as a StoreError; as a DiskError if trying again may help."""
    file = error.filename or path
    reason = error.strerror or str(error)
    if error.errno in _DISK_ERRNOS:
        return DiskError(f"{file} can't be written: {reason}; free some space, or check the disk")
    return StoreError(f"{file} can't be used: {reason}; check the folder and its permissions")


def explain_sqlite(error: Exception, path: str | Path) -> StoreError:
    """Return an exception about a database as a StoreError; as a DiskError if trying again may help."""
    cause = getattr(error, "orig", error)
    code = getattr(cause, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return DiskError(f"{path} can't grow: the disk is full; free some space")
        case sqlite3.SQLITE_IOERR:
            return DiskError(f"{path}: the disk reports an error ({cause}); check the disk, its space and its quota")
        case sqlite3.SQLITE_READONLY:
            return DiskError(f"{path} can't be written: it is read-only; check its permissions and its disk")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DiskError(f"{path} is locked by another program: close what has it open, and try again")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreError(f"{path} can't be opened: check that it and its folder are yours to read and write")
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{path} is not a SQLite database: check the path, or restore a backup")
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(f"{path} is damaged ({cause}): run `nerve verify`, and restore a backup")
        case _:
            return StoreError(f"{path}: SQLite reports an error ({cause})")


def is_undecodable(error: sqlite3.OperationalError) -> bool:
    """Return True if the error is text that is not UTF-8: it comes from the driver, without an error code of SQLite."""
    return not hasattr(error, "sqlite_errorcode")
