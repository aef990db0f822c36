"""The tables, their indexes, and the triggers that keep the log append-only for every program that opens the file."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField

from nerve.errors import StoreError

SCHEMA_VERSION = 1
"""The version of this schema; `nerve.store.migrations` has the steps to it from each older one."""

Row = tuple[Any, ...]
"""A row of the table logs: its columns in their order, the payload as JSON text."""

_NOT_OURS = "is not a log of nerve's: move it away"

_schema = peewee.Table("sqlite_master")

# SQLite uses an expression index only for a query with the same expression: so these two are written once, for both.
# A payload that is not JSON has no cause and no status; it must not make an INSERT fail.
CAUSE = peewee.SQL(
    "CASE WHEN source = 'reflex' AND type = 'run_start' THEN"
    " CASE WHEN json_valid(payload) THEN json_extract(payload, '$.cause') END END"
)
"""The run whose signal triggered this one; NULL for all entries but a `run_start`."""

IS_ERROR = peewee.SQL(
    "CASE source WHEN 'system' THEN type = 'error'"
    " WHEN 'logging' THEN type IN ('warning', 'error', 'critical')"
    " WHEN 'reflex' THEN CASE WHEN type = 'run_complete' THEN CASE WHEN json_valid(payload) THEN"
    " json_extract(payload, '$.status') NOT IN ('ok', 'cancelled') END END END"
)
"""1 for errors, failed runs, and logging from warning up; the condition of Filter.errors."""


class LogRow(peewee.Model):
    """A row of the log; `payload` is JSON text, `ts` is unix ms. The model has no database: `fetch` is given one."""

    id = AutoIncrementField()
    source = peewee.TextField()
    type = peewee.TextField()
    ref_id = peewee.TextField(null=True)
    payload = peewee.TextField()
    ts = peewee.IntegerField()

    class Meta:
        table_name = "logs"
        strict_tables = True
        constraints = (peewee.Check("id > 0"),)  # in a BEFORE INSERT trigger, an id that is not given is -1


class MetaRow(peewee.Model):
    """A key and a value that the writer remembers, both text."""

    key = peewee.TextField(primary_key=True)
    value = peewee.TextField()

    class Meta:
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
    # REPLACE does not fire the trigger above unless the connection has recursive_triggers on.
    """
    CREATE TRIGGER logs_no_replace BEFORE INSERT ON logs
    WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM logs WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'logs is append-only: an entry is never replaced'); END
    """,
)


def create_schema(db: peewee.Database) -> None:
    """Create tables, indexes and triggers in an empty database; the caller holds the transaction."""
    for model in (LogRow, MetaRow):
        peewee.SchemaManager(model, database=db).create_all(safe=False)
    connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
    for trigger in _TRIGGERS:
        connection.execute(trigger)
    facts = [("schema_version", str(SCHEMA_VERSION)), ("log_id", uuid.uuid4().hex)]
    execute(connection, MetaRow.insert_many(facts, fields=[MetaRow.key, MetaRow.value]))


def altered_parts(db: sqlite3.Connection) -> list[str]:
    """Return the names of the indexes and triggers that are missing in a log, or have been altered."""
    model = peewee.SqliteDatabase(":memory:")
    with model.connection_context():
        create_schema(model)
        expected = _parts(model.connection())  # type: ignore[no-untyped-call]  # Peewee's stubs
    return sorted(name for name, sql in expected.items() - _parts(db).items())


def _parts(db: sqlite3.Connection) -> dict[str, str | None]:
    """Return the SQL of each trigger by its name, and the names of the indexes: Peewee may change their SQL."""
    created = _schema.c.sql.is_null(is_null=False)
    rows = fetch(db, _schema.select(_schema.c.type, _schema.c.name, _schema.c.sql).where(created))
    return {f"{kind} {name}": sql if kind == "trigger" else None for kind, name, sql in rows if kind != "table"}


def is_empty(db: sqlite3.Connection) -> bool:
    """Return True if the database has no tables."""
    return not _tables(db)


def check_tables(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreError unless the tables of a log exist; `name` is the database in the message."""
    if is_empty(db):
        raise StoreError(f"{name} has no log in it yet: start nerve once")
    if not {"logs", "meta"} <= _tables(db):
        raise StoreError(f"{name} {_NOT_OURS}")


def check_version(db: sqlite3.Connection, name: str) -> None:
    """Raise StoreError unless the log has the current version of the schema."""
    version = schema_version(db, name)
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{name} has schema {version}, this nerve reads schema {SCHEMA_VERSION}: run `nerve start` once, which "
            "migrates the log (a restored day is not migrated: restore it again)"
        )


def schema_version(db: sqlite3.Connection, name: str) -> int:
    """Return the version of a log's schema. Raises StoreError if it is unknown to this nerve."""
    found: list[Row] = db.execute(_VERSION).fetchall()
    version = found[0][0] if found else ""
    if not version.isdecimal():
        raise StoreError(f"{name} {_NOT_OURS}")
    if int(version) > SCHEMA_VERSION:
        known = f"has schema {version}, this nerve knows up to {SCHEMA_VERSION}"
        raise StoreError(f"{name} {known}: install a newer nerve")
    return int(version)


def get_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Return the value of `key` in the table meta, or None."""
    found: list[Row] = db.execute(_VALUE, {"key": key}).fetchall()
    return found[0][0] if found else None


def execute(db: sqlite3.Connection, query: peewee.Node) -> sqlite3.Cursor:
    """Run a Peewee statement on `db`."""
    return db.execute(*_rendered(query))


def fetch(db: sqlite3.Connection, query: peewee.Node) -> list[Row]:
    """Run a Peewee query on `db` and return all its rows, so that no read stays open."""
    return execute(db, query).fetchall()


def sql_of(query: peewee.Node) -> str:
    """Return the SQL of a Peewee query, to be run many times with other parameters."""
    return _rendered(query)[0]


def named_sql(query: peewee.Node) -> str:
    """Return the SQL of a Peewee query whose parameters are all named. Raises ValueError if one is not."""
    sql, values = _rendered(query)
    if values:
        raise ValueError(f"unnamed parameters: {values} in {sql}")
    return sql


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in fetch(db, _schema.select(_schema.c.name).where(_schema.c.type == "table"))}


def _rendered(query: peewee.Node) -> tuple[str, list[Any]]:
    sql, values = _DIALECT.get_sql_context().sql(query).query()  # type: ignore[no-untyped-call]  # as above
    return sql, values


_DIALECT = peewee.SqliteDatabase(None)  # opens nothing

# Rendered once: every reader checks the version first, and rendering takes longer than the query itself.
_VALUE, _VERSION = (
    named_sql(MetaRow.select(MetaRow.value).where(MetaRow.key == peewee.SQL(key)))
    for key in (":key", "'schema_version'")
)
