"""Opening the log for writing: its creation, and files that are not a log."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.entries import event, sql

from nerve.errors import DiskError, StoreError
from nerve.store.table import connection
from nerve.store.table.writer import LogWriter


def test_new_log_is_private(db: Path) -> None:
    """The database, its WAL and its shared memory have mode 0600 from the start, with any umask."""
    old = os.umask(0)
    try:
        writer = LogWriter.open(db)
    finally:
        os.umask(old)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in db.parent.iterdir()}
    writer.close()
    assert files == {"logs.db": 0o600, "logs.db-wal": 0o600, "logs.db-shm": 0o600}


def test_connection_has_its_pragmas(writer: LogWriter) -> None:
    """Commits are synced, REPLACE fires the triggers, and the WAL is limited."""
    pragmas = {
        "journal_mode": "wal",
        "synchronous": 2,
        "recursive_triggers": 1,
        "auto_vacuum": 2,
        "journal_size_limit": 64 * 1024 * 1024,
        "busy_timeout": 5000,
    }
    assert {name: writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas} == pragmas


def test_existing_log_is_opened_by_sqlite_only(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening and closing the file otherwise would drop the locks that this process has on it."""
    LogWriter.open(db).close()
    opened: list[int] = []

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        assert flags & os.O_EXCL, "only a file that isn't there may be opened"
        opened.append(flags)
        raise FileExistsError

    monkeypatch.setattr(os, "open", refuse)
    LogWriter.open(db).close()
    assert len(opened) == 1


def test_reopened_log_continues(db: Path) -> None:
    """Rows, ids and the id of the log stay."""
    first = LogWriter.open(db)
    first.append([event()], {})
    first.close()
    log_id = sql(db, "SELECT value FROM meta WHERE key = 'log_id'")
    second = LogWriter.open(db)
    second.append([event()], {})
    second.close()
    assert sql(db, "SELECT id FROM logs") == [(1,), (2,)]
    assert sql(db, "SELECT value FROM meta WHERE key = 'log_id'") == log_id
    assert sorted(path.name for path in db.parent.iterdir()) == ["logs.db"]


def text_file(path: Path) -> None:
    """Create a file that is not a database."""
    path.write_text("this is my shopping list, which is longer than the header of a database: " + "milk " * 20)


def newer_log(path: Path) -> None:
    """Create a log with the schema of a later version."""
    LogWriter.open(path).close()
    sql(path, "UPDATE meta SET value = '7' WHERE key = 'schema_version'")


def other_database(path: Path) -> None:
    """Create the database of another program."""
    sql(path, "CREATE TABLE songs (title)")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_file, "is not a SQLite database: check the path, or restore a backup"),
        (newer_log, "has schema 7, this nerve knows up to 1: install a newer nerve"),
        (other_database, "is not a log of nerve's: move it away"),
        (Path.mkdir, "is a folder: move it away"),
    ],
)
def test_foreign_file_is_refused_and_unchanged(db: Path, make: Callable[[Path], None], message: str) -> None:
    """The message is one line, and the file keeps its bytes and its journal mode."""
    make(db)
    before = db.read_bytes() if db.is_file() else None
    with pytest.raises(StoreError, match=message) as caught:
        LogWriter.open(db)
    assert str(caught.value).startswith(str(db))
    assert "\n" not in str(caught.value)
    assert (db.read_bytes() if db.is_file() else None) == before
    assert [path.name for path in db.parent.iterdir()] == ["logs.db"]


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """The workspace creates its folders itself."""
    with pytest.raises(StoreError, match="No such file or directory"):
        LogWriter.open(tmp_path / "nowhere" / "logs.db")


def test_locked_log_raises_disk_error(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry may help: the message says that another program has the lock."""
    LogWriter.open(db).close()
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0)
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DiskError, match="locked by another program"):
            LogWriter.open(db)


def test_path_may_have_any_characters(tmp_path: Path) -> None:
    """It is not parsed as a URI."""
    folder = tmp_path / "a b?mode=memory#%41"
    folder.mkdir()
    LogWriter.open(folder / ":memory:").close()
    assert (folder / ":memory:").stat().st_size > 0
