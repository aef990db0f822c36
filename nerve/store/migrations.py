"""Migrations: the steps that bring a log with an older schema to the current one.

The writer runs them when it opens such a log, all in one transaction with the new version number: a crash leaves the
log as it was, and the next start migrates it again. Readers refuse a log that has not been migrated.

To change the schema, change `nerve.store.schema` for new logs, raise its SCHEMA_VERSION by one, and append a Migration
here. Older migrations stay as they are: they are run one after the other. A migration must not use executescript(),
which commits, nor the models of `nerve.store.schema`, which change later; before it rewrites rows of the table logs, it
must drop the triggers that forbid it, and create them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from nerve.errors import StoreError
from nerve.store.schema import SCHEMA_VERSION


class Migration(NamedTuple):
    """The step to schema `version` from the one before; the caller of `apply` holds the transaction."""

    version: int
    apply: Callable[[sqlite3.Connection], None]


FIRST_VERSION = 1
MIGRATIONS: tuple[Migration, ...] = ()
"""One for each version from FIRST_VERSION + 1 to SCHEMA_VERSION, in order."""


def migrate(db: sqlite3.Connection, version: int, name: str) -> None:
    """Bring a log from schema `version` to the current one; the caller holds the transaction.

    Raises StoreError if there are no steps from that version; `name` is the database in the message.
    """
    for migration in MIGRATIONS:
        if migration.version == version + 1:
            migration.apply(db)
            version = migration.version
    if version != SCHEMA_VERSION:
        raise StoreError(f"{name} has schema {version}, which can't be migrated to {SCHEMA_VERSION}: restore a backup")
    db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))
