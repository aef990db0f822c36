"""The tables: what they are made of, and what keeps the log append-only for whoever opens the file."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField

from nerve.errors import StoreError

SCHEMA_VERSION = 1

Row = tuple[Any, ...]

_schema = peewee.Table("sqlite_master")

# An expression index serves only a query with the same expression: these two are written once, for both.
# What is not JSON has no cause and no status; it must not make an INSERT fail.
CAUSE = peewee.SQL(
    "CASE WHEN source = 'reflex' AND type = 'run_start' THEN"
    " CASE WHEN json_valid(payload) THEN json_extract(payload, '$.cause') END END"
)
"""The run whose signal fired this run; NULL for every other entry."""

IS_ERROR = peewee.SQL(
    "CASE source WHEN 'system' THEN type = 'error'"
    " WHEN 'logging' THEN type IN ('warning', 'error', 'critical')"
    " WHEN 'reflex' THEN CASE WHEN type = 'run_complete' THEN CASE WHEN json_valid(payload) THEN"
    " json_extract(payload, '$.status') NOT IN ('ok', 'cancelled') END END END"
)
"""1 for what a person on call wants to see: errors, failed runs, and logging from warning up."""


class Log(peewee.Model):
    """A row of the log; `payload` is JSON text, `ts` unix ms. Belongs to no database: queries are run on one."""

    id = AutoIncrementField()
    source = peewee.TextField()
    type = peewee.TextField()
    ref_id = peewee.TextField(null=True)
    payload = peewee.TextField()
    ts = peewee.IntegerField()

    class Meta:
        """The table, and a bound that leaves -1 to SQLite: a BEFORE INSERT trigger sees it for "not given"."""

        table_name = "logs"
        strict_tables = True
        constraints = (peewee.Check("id > 0"),)


class Meta(peewee.Model):
    """What the writer remembers, one text a key."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        """The table."""

        table_name = "meta"
        strict_tables = True


_INDEXES = (
    Log.index(Log.source, Log.type, name="logs_source_type"),
    Log.index(Log.ts, name="logs_ts"),
    Log.index(Log.ref_id, name="logs_ref_id"),
    Log.index(CAUSE, name="logs_cause", where=peewee.NodeList((CAUSE, peewee.SQL("IS NOT NULL")))),
    Log.index(IS_ERROR, name="logs_errors", where=peewee.NodeList((IS_ERROR, peewee.SQL("= 1")))),
)
for _index in _INDEXES:
    Log.add_index(_index)

_TRIGGERS = (
    """
    CREATE TRIGGER logs_no_update BEFORE UPDATE ON logs
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry never changes'); END
    """,
    """
    CREATE TRIGGER logs_no_delete BEFORE DELETE ON logs
    WHEN OLD.ts >= coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'watermark_ts'), OLD.ts)
      OR OLD.id > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'watermark_id'), 0)
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry is deleted only once it is in the archive'); END
    """,
    # REPLACE deletes without asking the trigger above, unless the connection has recursive_triggers on.
    """
    CREATE TRIGGER logs_no_replace BEFORE INSERT ON logs
    WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM logs WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry is never replaced'); END
    """,
)


def create_schema(db: peewee.Database) -> None:
    """Make tables, indexes and triggers in an empty database; the caller holds the transaction."""
    for model in (Log, Meta):
        peewee.SchemaManager(model, database=db).create_all(safe=False)
    for trigger in _TRIGGERS:
        execute(db, peewee.SQL(trigger))
    facts = [("schema_version", str(SCHEMA_VERSION)), ("log_id", uuid.uuid4().hex)]
    execute(db, Meta.insert_many(facts, fields=[Meta.key, Meta.value]))


def altered_parts(db: peewee.Database) -> list[str]:
    """Name the indexes and triggers that a log should have and this one has not, or not as they were made."""
    pattern = peewee.SqliteDatabase(":memory:")
    with pattern.connection_context():
        create_schema(pattern)
        expected = _parts(pattern)
    return sorted(name for name, sql in expected.items() - _parts(db).items())


def _parts(db: peewee.Database) -> dict[str, str | None]:
    """Give the SQL of each trigger by its name, and the names of the indexes: their SQL is Peewee's to write."""
    made = _schema.c.sql.is_null(is_null=False)
    rows = fetch(db, _schema.select(_schema.c.type, _schema.c.name, _schema.c.sql).where(made))
    return {f"{kind} {name}": sql if kind == "trigger" else None for kind, name, sql in rows if kind != "table"}


def is_empty(db: peewee.Database) -> bool:
    """Tell whether nothing has been made in this database yet."""
    return not db.get_tables()


def check_schema(db: peewee.Database, name: str) -> None:
    """Raise StoreError unless this is a log of ours that we can use; `name` is what to call it."""
    tables = db.get_tables()
    version = get_meta(db, "schema_version") if {"logs", "meta"} <= set(tables) else None
    if version is None or not version.isdecimal():
        what = "has no log in it yet: start nerve once" if not tables else "is no log of nerve's: move it away"
        raise StoreError(f"{name} {what}")
    if int(version) > SCHEMA_VERSION:
        known = f"has schema {version}, this nerve knows up to {SCHEMA_VERSION}"
        raise StoreError(f"{name} {known}: install a newer nerve")


def get_meta(db: peewee.Database, key: str) -> str | None:
    """Give what is remembered under `key`."""
    cursor: sqlite3.Cursor = db.execute_sql(_VALUE, (key,))  # type: ignore[no-untyped-call]  # as below
    found = cursor.fetchone()
    return found[0] if found else None


def execute(db: peewee.Database, query: peewee.Node) -> sqlite3.Cursor:
    """Run a statement on `db`, whatever its model is bound to."""
    cursor: sqlite3.Cursor = db.execute(query)  # type: ignore[no-untyped-call]  # Peewee's stubs say nothing of it
    return cursor


def fetch(db: peewee.Database, query: peewee.Node) -> list[Row]:
    """Run a query on `db` and give all its rows, so that no read stays open."""
    return execute(db, query).fetchall()


def sql_of(db: peewee.Database, query: peewee.Node) -> str:
    """Give the SQL that Peewee makes of a query, to be run many times with parameters of one's own."""
    sql: str = db.get_sql_context().sql(query).query()[0]  # type: ignore[no-untyped-call]  # as above
    return sql


_VALUE = sql_of(peewee.SqliteDatabase(None), Meta.select(Meta.value).where(Meta.key == ""))
"""Made once: every reader asks for the version of the schema first, and Peewee takes longer to write it than SQLite."""
