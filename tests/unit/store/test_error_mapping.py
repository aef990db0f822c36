"""What SQLite and the disk complain about becomes one line, of the right kind."""

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
    """Make an error as the driver raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (sqlite3.SQLITE_FULL, DiskError, "the disk is full"),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskError, "error of the disk (what SQLite says)"),
        (sqlite3.SQLITE_READONLY_DBMOVED, DiskError, "read-only"),
        (sqlite3.SQLITE_BUSY, DiskError, "locked by another program"),
        (sqlite3.SQLITE_CANTOPEN, StoreError, "can't be opened"),
        (sqlite3.SQLITE_NOTADB, StoreError, "is not a SQLite database: check the path, or restore a backup"),
        (sqlite3.SQLITE_CORRUPT, StoreError, "is damaged (what SQLite says)"),
        (sqlite3.SQLITE_MISUSE, StoreError, "what SQLite says"),
    ],
)
def test_each_failure_of_sqlite_has_its_line(code: int, kind: type[StoreError], says: str) -> None:
    """Where trying again may help it is a DiskError; each names the file, and is one line."""
    told = explain_sqlite(sqlite_error(code), DB)
    assert type(told) is kind
    assert str(DB) in str(told)
    assert says in str(told)
    assert "\n" not in str(told)


def test_peewee_does_not_hide_the_cause() -> None:
    """What Peewee has wrapped is explained as what SQLite said."""
    with pytest.raises(DiskError, match="the disk is full"), sqlite_failures(DB):
        raise peewee.OperationalError(sqlite_error(sqlite3.SQLITE_FULL))


def test_a_value_that_no_column_holds_is_a_store_error() -> None:
    """What the driver can't bind is no failure of the disk."""
    with pytest.raises(StoreError, match="can't hold a value") as told, sqlite_failures(DB):
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    assert not isinstance(told.value, DiskError)


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, DiskError), (errno.EIO, DiskError), (errno.EACCES, StoreError)]
)
def test_each_failure_of_the_disk_has_its_line(code: int, kind: type[StoreError]) -> None:
    """A full or failing disk is a DiskError, a refused permission is not; each names the file."""
    told = explain_os(OSError(code, os.strerror(code), "/data/x.jsonl"), DB)
    assert type(told) is kind
    assert str(told).startswith("/data/x.jsonl")
    assert os.strerror(code) in str(told)


def test_other_exceptions_pass() -> None:
    """A bug is not dressed up as a failure of the disk."""
    with pytest.raises(ZeroDivisionError), sqlite_failures(DB), disk_failures(DB):
        raise ZeroDivisionError
