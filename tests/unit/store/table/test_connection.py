"""How the log comes to be, and what is refused in its place."""

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
from nerve.store.table import database
from nerve.store.table.writer import LogWriter


def test_a_new_log_is_for_its_owner_alone(db: Path) -> None:
    """The database, its WAL and its shared memory have mode 0600 from the start, whatever the umask."""
    old = os.umask(0)
    try:
        writer = LogWriter.open(db)
    finally:
        os.umask(old)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in db.parent.iterdir()}
    writer.close()
    assert files == {"logs.db": 0o600, "logs.db-wal": 0o600, "logs.db-shm": 0o600}


def test_the_connection_is_durable_and_strict(writer: LogWriter) -> None:
    """Commits are flushed, REPLACE asks the triggers, and the WAL stays bounded."""
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "recursive_triggers": 1,
        "auto_vacuum": 2,
        "journal_size_limit": 64 * 1024 * 1024,
        "busy_timeout": 5000,
    }
    assert {name: writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted} == wanted


def test_an_existing_log_is_never_opened_by_hand(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain open and close of it would drop the locks that this process has on it."""
    LogWriter.open(db).close()
    opened: list[int] = []

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        assert flags & os.O_EXCL, "only a file that isn't there may be opened"
        opened.append(flags)
        raise FileExistsError

    monkeypatch.setattr(os, "open", refuse)
    LogWriter.open(db).close()
    assert len(opened) == 1


def test_a_log_is_found_as_it_was_left(db: Path) -> None:
    """Opening again makes nothing anew: rows, ids and the log's own id go on."""
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
    """Put a file there that is no database."""
    path.write_text("this is my shopping list, which is longer than the header of a database: " + "milk " * 20)


def newer_log(path: Path) -> None:
    """Put a log there that a later nerve has made."""
    LogWriter.open(path).close()
    sql(path, "UPDATE meta SET value = '7' WHERE key = 'schema_version'")


def other_database(path: Path) -> None:
    """Put somebody else's database there."""
    sql(path, "CREATE TABLE songs (title)")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text_file, "is not a SQLite database: check the path, or restore a backup"),
        (newer_log, "has schema 7, this nerve knows up to 1: install a newer nerve"),
        (other_database, "is no log of nerve's: move it away"),
        (Path.mkdir, "is a folder: move it away"),
    ],
)
def test_what_is_no_log_is_refused_and_left_alone(db: Path, make: Callable[[Path], None], says: str) -> None:
    """One line says what is in the way; the file keeps its bytes and its journal mode."""
    make(db)
    before = db.read_bytes() if db.is_file() else None
    with pytest.raises(StoreError, match=says) as told:
        LogWriter.open(db)
    assert str(told.value).startswith(str(db))
    assert "\n" not in str(told.value)
    assert (db.read_bytes() if db.is_file() else None) == before
    assert [path.name for path in db.parent.iterdir()] == ["logs.db"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The folder is the workspace's to make."""
    with pytest.raises(StoreError, match="No such file or directory"):
        LogWriter.open(tmp_path / "nowhere" / "logs.db")


def test_a_locked_log_is_worth_another_try(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the database's lock is named as the reason."""
    LogWriter.open(db).close()
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    with closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DiskError, match="locked by another program"):
            LogWriter.open(db)


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    """The writer takes a path for a path, never for an URI."""
    folder = tmp_path / "a b?mode=memory#%41"
    folder.mkdir()
    LogWriter.open(folder / ":memory:").close()
    assert (folder / ":memory:").stat().st_size > 0
