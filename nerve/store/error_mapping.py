"""What SQLite and the disk complain about, said in one line that tells what to do."""

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


class sqlite_failures:  # noqa: N801 - a context manager, and no generator: each read and each commit goes through it
    """Turn whatever SQLite (or its driver) raises about the database at `path` into a StoreError."""

    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (sqlite3.Error, PeeweeException)):
            raise explain_sqlite(error, self._path) from error
        if isinstance(error, (OverflowError, UnicodeEncodeError)):
            raise StoreError(f"{self._path} can't hold a value: {error}") from error


@contextmanager
def disk_failures(path: str | Path) -> Iterator[None]:
    """Turn an OSError about a file at `path`, or below it, into a StoreError."""
    try:
        yield
    except OSError as error:
        raise explain_os(error, path) from error


def explain_os(error: OSError, path: str | Path) -> StoreError:
    """Say what went wrong with a file; a DiskError where trying again may help."""
    place = error.filename or path
    reason = error.strerror or str(error)
    if error.errno in _DISK_ERRNOS:
        return DiskError(f"{place} can't be written: {reason}; free some space, or check the disk")
    return StoreError(f"{place} can't be used: {reason}; check the folder and its permissions")


def explain_sqlite(error: Exception, path: str | Path) -> StoreError:
    """Say what went wrong with a database; a DiskError where trying again may help."""
    cause = getattr(error, "orig", error)
    code = getattr(cause, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return DiskError(f"{path} can't grow: the disk is full; free some space")
        case sqlite3.SQLITE_IOERR:
            return DiskError(f"{path} met an error of the disk ({cause}): check the disk, its space and its quota")
        case sqlite3.SQLITE_READONLY:
            return DiskError(f"{path} can't be written: it is read-only; check its permissions and its disk")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DiskError(f"{path} is locked by another program: close what has it open, and try again")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreError(f"{path} can't be opened: check that it and its folder are yours to read and write")
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{path} is not a SQLite database: check the path, or restore a backup")
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(f"{path} is damaged ({cause}): look at `nerve verify`, and restore a backup")
        case _:
            return StoreError(f"{path} refused: {cause}")


def is_undecodable(error: sqlite3.OperationalError) -> bool:
    """Tell whether a text that is no UTF-8 is what was wrong: the driver says so, of which SQLite knows nothing."""
    return not hasattr(error, "sqlite_errorcode")
