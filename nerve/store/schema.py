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

_NOT_OURS = "is no log of nerve's: move it away"

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


class LogRow(peewee.Model):
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


class MetaRow(peewee.Model):
    """What the writer remembers, one text a key."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
        """The table."""

        table_name = "meta"
        strict_tables = True


_INDEXES = (
    LogRow.index(LogRow.source, LogRow.type, name="logs_source_type"),
    LogRow.index(LogRow.ts, name="logs_ts"),
    LogRow.index(LogRow.ref_id, name="logs_ref_id"),
    LogRow.index(CAUSE, name="logs_cause", where=peewee.NodeList((CAUSE, peewee.SQL("IS NOT NULL")))),
    LogRow.index(IS_ERROR, name="logs_errors", where=peewee.NodeList((IS_ERROR, peewee.SQL("= 1")))),
)
for _index in _INDEXES:
    LogRow.add_index(_index)

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
    for model in (LogRow, MetaRow):
        peewee.SchemaManager(model, database=db).create_all(safe=False)
    connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
    for trigger in _TRIGGERS:
        connection.execute(trigger)
    facts = [("schema_version", str(SCHEMA_VERSION)), ("log_id", uuid.uuid4().hex)]
    execute(connection, MetaRow.insert_many(facts, fields=[MetaRow.key, MetaRow.value]))


def altered_parts(db: sqlite3.Connection) -> list[str]:
    """Name the indexes and triggers that a log should have and this one has not, or not as they were made."""
    pattern = peewee.SqliteDatabase(":memory:")
    with pattern.connection_context():
        create_schema(pattern)
        expected = _parts(pattern.connection())  # type: ignore[no-untyped-call]  # Peewee's stubs say nothing of it
    return sorted(name for name, sql in expected.items() - _parts(db).items())


def _parts(db: sqlite3.Connection) -> dict[str, str | None]:
    """Give the SQL of each trigger by its name, and the names of the indexes: their SQL is Peewee's to write."""
    made = _schema.c.sql.is_null(is_null=False)
    rows = fetch(db, _schema.select(_schema.c.type, _schema.c.name, _schema.c.sql).where(made))
    return {f"{kind} {name}": sql if kind == "trigger" else None for kind, name, sql in rows if kind != "table"}


def is_empty(db: sqlite3.Connection) -> bool:
    """Tell whether nothing has been made in this database yet."""
    return not _tables(db)


def check_schema(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreError unless this is a log of ours that we can use; `name` is what to call it."""
    check_tables(db, name)
    check_version(db, name)


def check_tables(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreError unless the tables of a log are there."""
    if is_empty(db):
        raise StoreError(f"{name} has no log in it yet: start nerve once")
    if not {"logs", "meta"} <= _tables(db):
        raise StoreError(f"{name} {_NOT_OURS}")


def check_version(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreError unless the table `meta` names a version of the schema that we know."""
    found: list[Row] = db.execute(_VERSION).fetchall()
    version = found[0][0] if found else ""
    if not version.isdecimal():
        raise StoreError(f"{name} {_NOT_OURS}")
    if int(version) > SCHEMA_VERSION:
        known = f"has schema {version}, this nerve knows up to {SCHEMA_VERSION}"
        raise StoreError(f"{name} {known}: install a newer nerve")


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Give what is remembered under `key`."""
    found: list[Row] = db.execute(_VALUE, {"key": key}).fetchall()
    return found[0][0] if found else None


def execute(db: sqlite3.Connection, query: peewee.Node) -> sqlite3.Cursor:
    """Run a statement on `db`, whatever its model is bound to."""
    return db.execute(*_written(query))


def fetch(db: sqlite3.Connection, query: peewee.Node) -> list[Row]:
    """Run a query on `db` and give all its rows, so that no read stays open."""
    return execute(db, query).fetchall()


def sql_of(query: peewee.Node) -> str:
    """Give the SQL that Peewee makes of a query, to be run many times with parameters of one's own."""
    return _written(query)[0]


def named_sql(query: peewee.Node) -> str:
    """Do the same for a query whose values are all named parameters; ValueError where one is not."""
    sql, values = _written(query)
    if values:
        raise ValueError(f"these values have no name: {values} in {sql}")
    return sql


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in fetch(db, _schema.select(_schema.c.name).where(_schema.c.type == "table"))}


def _written(query: peewee.Node) -> tuple[str, list[Any]]:
    sql, values = _DIALECT.get_sql_context().sql(query).query()  # type: ignore[no-untyped-call]  # as above
    return sql, values


_DIALECT = peewee.SqliteDatabase(None)  # opens nothing

# Made once: every reader asks for the version of the schema first, and Peewee takes longer to write it than SQLite.
_VALUE, _VERSION = (
    named_sql(MetaRow.select(MetaRow.value).where(MetaRow.key == peewee.SQL(key)))
    for key in (":key", "'schema_version'")
)
