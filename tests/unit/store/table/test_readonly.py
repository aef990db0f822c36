"""ReadOnlyDatabase: reading leaves no trace, and notices changes of the file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import peewee
import pytest
from support.entries import event, sql

from nerve.errors import StoreError
from nerve.store.filters import Filter
from nerve.store.query import query_logs
from nerve.store.schema import fetch
from nerve.store.table.reader import LogReader
from nerve.store.table.readonly import ReadOnlyDatabase
from nerve.store.table.writer import LogWriter


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the times, modes and contents of the files in a folder."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def closed(db: Path) -> Path:
    """A log with one entry that no process has open."""
    writer = LogWriter.open(db)
    writer.append([event()], {})
    writer.close()
    return db


@pytest.mark.parametrize("name", ["plain", "what?mode=rwc", "100%41 #1", 'späce \'n "quotes"', "a&immutable=0;b"])
def test_reading_a_closed_log_leaves_no_trace(tmp_path: Path, name: str) -> None:
    """No WAL is created and no file is changed, for paths with any characters."""
    folder = tmp_path / name
    folder.mkdir()
    writer = LogWriter.open(folder / name)
    writer.append([event()], {})
    writer.close()
    before = listing(folder)
    assert len(query_logs(folder / name)) == 1
    assert listing(folder) == before
    assert list(before) == [name]


def test_relative_path_is_resolved(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is relative to the current folder."""
    monkeypatch.chdir(closed.parent)
    assert len(query_logs("logs.db")) == 1


def test_log_in_a_read_only_folder_is_readable(closed: Path) -> None:
    """So is a log on a read-only disk."""
    closed.chmod(0o400)
    closed.parent.chmod(0o500)
    try:
        assert len(query_logs(closed)) == 1
    finally:
        closed.parent.chmod(0o700)


def test_reader_beside_a_writer_sees_each_commit(db: Path, writer: LogWriter) -> None:
    """The WAL stays unchanged."""
    writer.append([event()], {})
    wal = Path(f"{db}-wal").read_bytes()
    assert len(query_logs(db)) == 1
    assert Path(f"{db}-wal").read_bytes() == wal
    writer.append([event()], {})
    assert len(query_logs(db)) == 2


def test_commits_of_a_killed_writer_are_read(db: Path, writer: LogWriter, tmp_path: Path) -> None:
    """Its last commits are still in the WAL."""
    writer.append([event(), event()], {})
    left = tmp_path / "left"
    left.mkdir()
    for name in ("logs.db", "logs.db-wal"):  # as a crash leaves them
        shutil.copy(tmp_path / name, left / name)
    assert len(query_logs(left / "logs.db")) == 2


def test_open_reader_sees_commits_of_later_writers(closed: Path) -> None:
    """It was opened while there was no writer, and sees the commits during and after several writers."""
    with LogReader(closed) as reader:
        assert reader.last_id() == 1
        for count in (2, 3):
            writer = LogWriter.open(closed)
            writer.append([event()], {})
            assert len(reader.query(Filter())) == count
            writer.close()
            assert len(reader.query(Filter())) == count
        writer = LogWriter.open(closed)
        writer.append([event()], {})
        writer.close()
        assert reader.last_id() == 4


def test_reader_in_the_process_of_the_writer_keeps_its_locks(closed: Path) -> None:
    """Closing a file drops the locks of the process on it, but other programs are still locked out."""
    reader = LogReader(closed)
    writer = LogWriter.open(closed)
    assert reader.last_id() == 1  # it notices the writer, and reopens the log
    reader.close()
    query_logs(closed)
    take_over = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('PRAGMA journal_mode = DELETE')"
    attempt = subprocess.run([sys.executable, "-c", take_over, closed], capture_output=True, text=True, check=False)
    writer.close()
    assert "database is locked" in attempt.stderr


def test_read_is_repeated_if_the_file_changed_meanwhile(closed: Path) -> None:
    """The result or the error of the earlier read is discarded."""
    database = ReadOnlyDatabase(closed)
    results: list[int] = []

    def count_while_someone_writes(db: peewee.SqliteDatabase) -> int:
        ((count,),) = fetch(db, peewee.SQL("SELECT count(*) FROM logs"))
        results.append(count)
        if len(results) < 3:
            writer = LogWriter.open(closed)
            writer.append([event()], {})
            writer.close()
        if len(results) == 2:
            raise StoreError("torn")
        return int(count)

    assert database.read(count_while_someone_writes) == 3
    assert results == [1, 2, 3]
    database.close()
    database.close()


def test_failed_read_is_not_repeated_if_the_file_is_unchanged(closed: Path) -> None:
    """The error is raised."""
    database = ReadOnlyDatabase(closed)
    tries: list[int] = []

    def fail(db: peewee.SqliteDatabase) -> None:
        tries.append(1)
        fetch(db, peewee.SQL("SELECT nonsense FROM logs"))

    with pytest.raises(StoreError, match="no such column: nonsense"):
        database.read(fail)
    assert tries == [1]
    database.close()


def test_schema_is_checked_in_the_first_read_only(closed: Path) -> None:
    """The check is in the transaction of that read."""
    statements: list[str] = []
    database = ReadOnlyDatabase(closed)
    database.read(lambda db: db.set_trace_callback(statements.append))
    database.read(lambda db: fetch(db, peewee.SQL("SELECT 1")))
    database.close()
    assert statements == ["COMMIT", "BEGIN", "SELECT 1", "COMMIT"]


def test_replaced_log_is_opened_and_checked_again(closed: Path) -> None:
    """The file was replaced while there was no writer."""
    with LogReader(closed) as reader:
        assert reader.last_id() == 1
        other = closed.with_name("other.db")
        sql(other, "CREATE TABLE meta (key, value)")
        other.replace(closed)
        with pytest.raises(StoreError, match="is not a log of nerve's"):
            reader.last_id()


@pytest.mark.parametrize("live", [False, True])
def test_reader_can_not_write(closed: Path, live: bool) -> None:
    """SQLite itself refuses."""
    writer = LogWriter.open(closed) if live else None
    database = ReadOnlyDatabase(closed)
    with pytest.raises(StoreError, match="read-only"):
        database.read(lambda db: fetch(db, peewee.SQL("INSERT INTO meta VALUES ('a', 'b')")))
    database.close()
    if writer:
        writer.close()
    assert sql(closed, "SELECT count(*) FROM meta WHERE key = 'a'") == [(0,)]


def test_use_in_another_thread_raises_store_error(closed: Path) -> None:
    """A connection belongs to the thread that opened it."""
    errors: list[str] = []

    def use() -> None:
        try:
            reader.last_id()
        except StoreError as error:
            errors.append(str(error))

    with LogReader(closed) as reader:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert "thread" in errors[0]


class TestFilesThatAreNotALog:
    """Each raises StoreError with one line, and no file is created."""

    def assert_refused(self, path: Path, message: str) -> None:
        """Assert that reading `path` fails with one line, and changes nothing."""
        before = sorted(path.parent.iterdir())
        with pytest.raises(StoreError, match=message) as caught:
            query_logs(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sorted(path.parent.iterdir()) == before

    def test_missing_file(self, db: Path) -> None:
        """It is not created."""
        self.assert_refused(db, "there is no log at .*: check the path, or start nerve there")

    def test_missing_folder(self, tmp_path: Path) -> None:
        """It is not created either."""
        with pytest.raises(StoreError, match="there is no log at"):
            query_logs(tmp_path / "none" / "logs.db")
        assert list(tmp_path.iterdir()) == []

    def test_folder(self, db: Path) -> None:
        """The message says that it is a folder."""
        db.mkdir()
        self.assert_refused(db, "is a folder: name the file of a log")

    def test_empty_file(self, db: Path) -> None:
        """The file is empty for a moment during the first start."""
        db.touch()
        self.assert_refused(db, "has no log in it yet: start nerve once")

    def test_text_file(self, db: Path) -> None:
        """It is not a database."""
        db.write_text("nothing to see here " * 100)
        self.assert_refused(db, "is not a SQLite database")

    def test_other_database(self, db: Path) -> None:
        """A table with the same name is not enough."""
        sql(db, "CREATE TABLE meta (key, value)")
        self.assert_refused(db, "is not a log of nerve's")

    def test_log_without_its_table(self, closed: Path) -> None:
        """Many programs keep a version in a table `meta`."""
        sql(closed, "DROP TABLE logs")
        self.assert_refused(closed, "is not a log of nerve's")

    def test_log_without_a_version(self, closed: Path) -> None:
        """The meaning of its columns is unknown."""
        sql(closed, "DELETE FROM meta WHERE key = 'schema_version'")
        self.assert_refused(closed, "is not a log of nerve's")

    def test_missing_file_with_a_wal(self, db: Path) -> None:
        """The message is the same as without the WAL."""
        db.with_name("logs.db-wal").touch()
        self.assert_refused(db, "there is no log at .*: check the path, or start nerve there")

    def test_newer_schema(self, closed: Path) -> None:
        """The message has both versions."""
        sql(closed, "UPDATE meta SET value = '2' WHERE key = 'schema_version'")
        self.assert_refused(closed, "has schema 2, this nerve knows up to 1: install a newer nerve")

    def test_damaged_file(self, closed: Path) -> None:
        """The error of SQLite becomes a StoreError."""
        data = bytearray(closed.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        closed.write_bytes(data)
        self.assert_refused(closed, "is damaged")
