"""Reading leaves no trace, and is right whatever happens to the file meanwhile."""

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
    """Give all that could change in a folder."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def closed(db: Path) -> Path:
    """Give a log with one entry, that no one has open."""
    writer = LogWriter.open(db)
    writer.append([event()], {})
    writer.close()
    return db


@pytest.mark.parametrize("name", ["plain", "what?mode=rwc", "100%41 #1", 'späce \'n "quotes"', "a&immutable=0;b"])
def test_a_log_that_nobody_writes_is_read_without_a_trace(tmp_path: Path, name: str) -> None:
    """No WAL is made beside it, nothing changes, and any path will do."""
    folder = tmp_path / name
    folder.mkdir()
    writer = LogWriter.open(folder / name)
    writer.append([event()], {})
    writer.close()
    before = listing(folder)
    assert len(query_logs(folder / name)) == 1
    assert listing(folder) == before
    assert list(before) == [name]


def test_a_relative_path_is_one_of_the_current_folder(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    monkeypatch.chdir(closed.parent)
    assert len(query_logs("logs.db")) == 1


def test_a_folder_that_can_not_be_written_is_no_hindrance(closed: Path) -> None:
    """A log on a read-only disk can be read."""
    closed.chmod(0o400)
    closed.parent.chmod(0o500)
    try:
        assert len(query_logs(closed)) == 1
    finally:
        closed.parent.chmod(0o700)


def test_a_running_writer_is_not_disturbed(db: Path, writer: LogWriter) -> None:
    """Reading beside it, and closing, leaves the WAL as it is, and sees each commit at once."""
    writer.append([event()], {})
    wal = Path(f"{db}-wal").read_bytes()
    assert len(query_logs(db)) == 1
    assert Path(f"{db}-wal").read_bytes() == wal
    writer.append([event()], {})
    assert len(query_logs(db)) == 2


def test_what_a_killed_writer_committed_is_there(db: Path, writer: LogWriter, tmp_path: Path) -> None:
    """Its last commits are still in the WAL, and are read from there."""
    writer.append([event(), event()], {})
    left = tmp_path / "left"
    left.mkdir()
    for name in ("logs.db", "logs.db-wal"):  # as a crash leaves them
        shutil.copy(tmp_path / name, left / name)
    assert len(query_logs(left / "logs.db")) == 2


def test_a_reader_outlives_writers(closed: Path) -> None:
    """Opened while nobody writes, it sees what comes, beside a writer and after its end, again and again."""
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


def test_reading_in_the_process_of_the_writer_leaves_its_locks_alone(closed: Path) -> None:
    """What a reader opens and closes doesn't drop them, as a plain close would: another program is still kept out."""
    reader = LogReader(closed)
    writer = LogWriter.open(closed)
    assert reader.last_id() == 1  # it has noticed, and opened the log anew
    reader.close()
    query_logs(closed)
    take_over = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('PRAGMA journal_mode = DELETE')"
    taken = subprocess.run([sys.executable, "-c", take_over, closed], capture_output=True, text=True, check=False)
    writer.close()
    assert "database is locked" in taken.stderr


def test_a_read_that_a_writer_has_crossed_is_made_again(closed: Path) -> None:
    """What was read from a file that then changed is thrown away, whether it failed or not."""
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


def test_a_read_that_fails_by_itself_fails(closed: Path) -> None:
    """Nothing has changed, so it isn't tried again."""
    database = ReadOnlyDatabase(closed)
    tries: list[int] = []

    def fail(db: peewee.SqliteDatabase) -> None:
        tries.append(1)
        fetch(db, peewee.SQL("SELECT nonsense FROM logs"))

    with pytest.raises(StoreError, match="no such column: nonsense"):
        database.read(fail)
    assert tries == [1]
    database.close()


def test_what_a_log_is_is_looked_up_in_the_first_read_of_a_connection(closed: Path) -> None:
    """And in its transaction; once it is known, later reads don't ask again."""
    statements: list[str] = []
    database = ReadOnlyDatabase(closed)
    database.read(lambda db: db.set_trace_callback(statements.append))
    database.read(lambda db: fetch(db, peewee.SQL("SELECT 1")))
    database.close()
    assert statements == ["COMMIT", "BEGIN", "SELECT 1", "COMMIT"]


def test_a_log_that_becomes_another_is_looked_at_again(closed: Path) -> None:
    """A file that is replaced while nobody writes is opened anew, and may be none of ours."""
    with LogReader(closed) as reader:
        assert reader.last_id() == 1
        other = closed.with_name("other.db")
        sql(other, "CREATE TABLE meta (key, value)")
        other.replace(closed)
        with pytest.raises(StoreError, match="is no log of nerve's"):
            reader.last_id()


@pytest.mark.parametrize("live", [False, True])
def test_a_reader_can_not_write(closed: Path, live: bool) -> None:
    """SQLite itself refuses."""
    writer = LogWriter.open(closed) if live else None
    database = ReadOnlyDatabase(closed)
    with pytest.raises(StoreError, match="read-only"):
        database.read(lambda db: fetch(db, peewee.SQL("INSERT INTO meta VALUES ('a', 'b')")))
    database.close()
    if writer:
        writer.close()
    assert sql(closed, "SELECT count(*) FROM meta WHERE key = 'a'") == [(0,)]


def test_another_thread_is_told(closed: Path) -> None:
    """A connection belongs to the thread that opened it: the other gets one line, not a crash."""
    told: list[str] = []

    def use() -> None:
        try:
            reader.last_id()
        except StoreError as error:
            told.append(str(error))

    with LogReader(closed) as reader:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(told) == 1
    assert "thread" in told[0]


class TestWhatIsNoLog:
    """Each gets its line, and nothing is made."""

    def refused(self, path: Path, says: str) -> None:
        """Assert that reading `path` fails with one line, and changes nothing."""
        before = sorted(path.parent.iterdir())
        with pytest.raises(StoreError, match=says) as told:
            query_logs(path)
        assert str(path) in str(told.value)
        assert "\n" not in str(told.value)
        assert sorted(path.parent.iterdir()) == before

    def test_a_missing_file(self, db: Path) -> None:
        """It is not made."""
        self.refused(db, "there is no log at .*: check the path, or start nerve there")

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        """Neither is its folder."""
        with pytest.raises(StoreError, match="there is no log at"):
            query_logs(tmp_path / "none" / "logs.db")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder(self, db: Path) -> None:
        """It says that it is one."""
        db.mkdir()
        self.refused(db, "is a folder: name the file of a log")

    def test_an_empty_file(self, db: Path) -> None:
        """As it is for a moment at the very first start."""
        db.touch()
        self.refused(db, "has no log in it yet: start nerve once")

    def test_some_text(self, db: Path) -> None:
        """It is no database."""
        db.write_text("nothing to see here " * 100)
        self.refused(db, "is not a SQLite database")

    def test_another_database(self, db: Path) -> None:
        """Tables alone don't make a log."""
        sql(db, "CREATE TABLE meta (key, value)")
        self.refused(db, "is no log of nerve's")

    def test_facts_without_entries(self, closed: Path) -> None:
        """Many programs keep a version in a table `meta`."""
        sql(closed, "DROP TABLE logs")
        self.refused(closed, "is no log of nerve's")

    def test_entries_without_a_version(self, closed: Path) -> None:
        """What it says is not known to be what it means."""
        sql(closed, "DELETE FROM meta WHERE key = 'schema_version'")
        self.refused(closed, "is no log of nerve's")

    def test_a_log_that_is_gone_while_its_wal_is_there(self, db: Path) -> None:
        """As if the WAL were not there."""
        db.with_name("logs.db-wal").touch()
        self.refused(db, "there is no log at .*: check the path, or start nerve there")

    def test_a_newer_schema(self, closed: Path) -> None:
        """It names both versions."""
        sql(closed, "UPDATE meta SET value = '2' WHERE key = 'schema_version'")
        self.refused(closed, "has schema 2, this nerve knows up to 1: install a newer nerve")

    def test_a_damaged_file(self, closed: Path) -> None:
        """What SQLite finds broken is told, not raised as it is."""
        data = bytearray(closed.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        closed.write_bytes(data)
        self.refused(closed, "is damaged")
