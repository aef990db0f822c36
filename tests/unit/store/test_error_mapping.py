"""Mapping of SQLite and OS errors to StoreErrors of one line."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import peewee
import pytest

from nerve.errors import DiskError, StoreError
from nerve.store.error_mapping import disk_failures, explain_os, explain_sqlite, sqlite_failures

DB = Path("/data/logs.db")


def sqlite_error(code: int, text: str = "what SQLite says") -> sqlite3.Error:
    """Return an error as the driver raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (sqlite3.SQLITE_FULL, DiskError, "the disk is full"),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskError, "the disk reports an error (what SQLite says)"),
        (sqlite3.SQLITE_READONLY_DBMOVED, DiskError, "read-only"),
        (sqlite3.SQLITE_BUSY, DiskError, "locked by another program"),
        (sqlite3.SQLITE_CANTOPEN, StoreError, "can't be opened"),
        (sqlite3.SQLITE_NOTADB, StoreError, "is not a SQLite database: check the path, or restore a backup"),
        (sqlite3.SQLITE_CORRUPT, StoreError, "is damaged (what SQLite says)"),
        (sqlite3.SQLITE_MISUSE, StoreError, "what SQLite says"),
    ],
)
def test_sqlite_error_becomes_a_one_line_store_error(code: int, kind: type[StoreError], message: str) -> None:
    """It names the file, and is a DiskError if trying again may help."""
    error = explain_sqlite(sqlite_error(code), DB)
    assert type(error) is kind
    assert str(DB) in str(error)
    assert message in str(error)
    assert "\n" not in str(error)


def test_error_wrapped_by_peewee_is_mapped() -> None:
    """The mapping uses the error of SQLite inside it."""
    with pytest.raises(DiskError, match="the disk is full"), sqlite_failures(DB):
        raise peewee.OperationalError(sqlite_error(sqlite3.SQLITE_FULL))


def test_value_out_of_range_is_a_store_error() -> None:
    """It is not a DiskError."""
    with pytest.raises(StoreError, match="can't hold a value") as caught, sqlite_failures(DB):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    assert not isinstance(caught.value, DiskError)


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, DiskError), (errno.EIO, DiskError), (errno.EACCES, StoreError)]
)
def test_os_error_becomes_a_one_line_store_error(code: int, kind: type[StoreError]) -> None:
    """It is a DiskError for a full or failing disk, and not for a missing permission."""
    error = explain_os(OSError(code, os.strerror(code), "/data/x.jsonl"), DB)
    assert type(error) is kind
    assert str(error).startswith("/data/x.jsonl")
    assert os.strerror(code) in str(error)


def test_other_exceptions_are_not_mapped() -> None:
    """A bug must not look like a disk failure."""
    with pytest.raises(ZeroDivisionError), sqlite_failures(DB), disk_failures(DB):
        raise ZeroDivisionError
