"""Migrations: logs with older schemas are migrated as a whole, or stay as they are; unknown ones are refused."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.entries import event, sql

from nerve.errors import StoreError
from nerve.store import migrations, schema
from nerve.store.migrations import FIRST_VERSION, MIGRATIONS, Migration
from nerve.store.query import query_logs
from nerve.store.schema import SCHEMA_VERSION, altered_parts
from nerve.store.table import connection
from nerve.store.table.writer import LogWriter
from nerve.store.verification.verify import verify

LOGS = Path(__file__).parent / "logs"
"""SQL of a log per schema version, made by the nerve that had this version: the file says how."""

ENTRIES = "SELECT id, source, type, ref_id, payload, ts FROM logs ORDER BY id"
TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"


def load(db: Path, version: int) -> Path:
    """Create the log of an older version."""
    with closing(sqlite3.connect(db)) as new:
        new.execute("PRAGMA auto_vacuum = INCREMENTAL")
        new.execute("PRAGMA journal_mode = WAL")
        new.executescript((LOGS / f"schema_{version}.sql").read_text())
    return db


def dump(db: Path) -> list[str]:
    """Return all of a database as SQL."""
    with closing(sqlite3.connect(db)) as opened:
        return list(opened.iterdump())


def add_level(db: sqlite3.Connection) -> None:
    """Add a column, and set it in every row."""
    trigger = "SELECT sql FROM sqlite_master WHERE name = 'logs_no_update'"
    ((create,),) = db.execute(trigger).fetchall()
    db.execute("DROP TRIGGER logs_no_update")
    db.execute("ALTER TABLE logs ADD COLUMN level INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE logs SET level = id")
    db.execute(create)


def rename_boot(db: sqlite3.Connection) -> None:
    """Rename a key in the table meta."""
    db.execute("UPDATE meta SET key = 'boot' WHERE key = 'boot_id'")


def fail(db: sqlite3.Connection) -> None:
    """Fail after a change."""
    rename_boot(db)
    db.execute("SELECT nonsense FROM logs")


def kill(db: sqlite3.Connection) -> None:
    """Kill the process after a change."""
    rename_boot(db)
    os.kill(os.getpid(), signal.SIGKILL)


Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Use]:
    """A function that replaces the migrations, and with them the current version."""

    def replace(*steps: Callable[[sqlite3.Connection], None]) -> None:
        later = [Migration(version, step) for version, step in enumerate(steps, FIRST_VERSION + 1)]
        monkeypatch.setattr(migrations, "MIGRATIONS", tuple(later))
        for module in (schema, migrations, connection):
            monkeypatch.setattr(module, "SCHEMA_VERSION", FIRST_VERSION + len(steps))

    return replace


def test_each_version_has_its_migration() -> None:
    """The steps lead from the first version to the current one, without a gap."""
    assert [migration.version for migration in MIGRATIONS] == list(range(FIRST_VERSION + 1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", range(FIRST_VERSION, SCHEMA_VERSION + 1))
def test_log_of_each_version_is_migrated_with_all_its_entries(db: Path, tmp_path: Path, version: int) -> None:
    """Opened by the writer, it has the schema of a new log, keeps its entries and its state, and continues."""
    load(db, version)
    before = [row[:6] for row in sql(db, ENTRIES)]
    with closing(LogWriter.open(db)) as writer:
        assert writer.position("worker/1") == 2
        assert list(writer._open_runs) == ["alert/" + "1" * 32]
        assert [row[:6] for row in sql(db, ENTRIES)] == before
        writer.append([event()], {})
    LogWriter.open(tmp_path / "new.db").close()
    assert sql(db, TABLES) == sql(tmp_path / "new.db", TABLES)
    with closing(sqlite3.connect(db)) as opened:
        assert altered_parts(opened) == []
    assert [entry.id for entry in query_logs(db)] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert sql(db, "SELECT value FROM meta WHERE key = 'schema_version'") == [(str(SCHEMA_VERSION),)]


def test_migrations_run_one_after_the_other(db: Path, use: Use) -> None:
    """Only those after the log's version run, each once, and a new log needs none."""
    load(db, 1)
    use(add_level)
    LogWriter.open(db).close()
    assert sql(db, "SELECT level, level = id FROM logs LIMIT 1") == [(2, 1)]
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql(db, "UPDATE logs SET level = 0")
    use(add_level, rename_boot)
    for _ in range(2):
        LogWriter.open(db).close()
    facts = dict(sql(db, "SELECT key, value FROM meta"))
    assert (facts["schema_version"], facts["boot"], "boot_id" in facts) == ("3", "boot-1", False)


def test_failed_migration_changes_nothing(db: Path, use: Use) -> None:
    """All steps are rolled back, the error is raised, and after an upgrade the log is migrated."""
    before = dump(load(db, 1))
    use(add_level, fail)
    with pytest.raises(StoreError, match="no such column: nonsense"):
        LogWriter.open(db)
    assert dump(db) == before
    use(add_level, rename_boot)
    LogWriter.open(db).close()
    assert sql(db, "SELECT count(*), sum(level) FROM logs") == [(7, 35)]


def test_kill_during_a_migration_changes_nothing(db: Path, use: Use) -> None:
    """SQLite discards the transaction of the killed writer, and the next one migrates the log."""
    before = dump(load(db, 1))
    use(add_level, kill)
    child = os.fork()
    if not child:
        try:
            LogWriter.open(db)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL
    assert dump(db) == before
    use(add_level, rename_boot)
    LogWriter.open(db).close()
    assert sql(db, "SELECT count(*), sum(level) FROM logs") == [(7, 35)]


def test_readers_refuse_a_log_until_it_is_migrated(db: Path, use: Use) -> None:
    """The message of queries and of the verification says what to do, and the log is not changed."""
    before = dump(load(db, 1))
    use(rename_boot)
    message = r"has schema 1, this nerve reads schema 2: run `nerve start` once, which migrates the log"
    with pytest.raises(StoreError, match=message):
        query_logs(db)
    with pytest.raises(StoreError, match=message):
        verify(db, lambda _part, _done, _total: None)
    assert dump(db) == before
    LogWriter.open(db).close()
    assert len(query_logs(db)) == 7
    assert verify(db, lambda _part, _done, _total: None).table == 7


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("7", "has schema 7, this nerve knows up to 1: install a newer nerve"),
        ("one", "is not a log of nerve's: move it away"),
        ("-1", "is not a log of nerve's: move it away"),
        ("0", "has schema 0, which can't be migrated to 1: restore a backup"),
    ],
)
def test_newer_or_unknown_version_is_refused(db: Path, version: str, message: str) -> None:
    """The writer raises StoreError, and changes nothing."""
    load(db, 1)
    sql(db, "UPDATE meta SET value = ? WHERE key = 'schema_version'", [version])
    before = dump(db)
    with pytest.raises(StoreError, match=message) as caught:
        LogWriter.open(db)
    assert str(caught.value).startswith(str(db))
    assert dump(db) == before
