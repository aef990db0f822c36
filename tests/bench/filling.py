"""Logs to measure: nerve's own with any number of rows, and the same table without the append-only triggers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from nerve.store.table.writer import LogWriter

SENSES = 100
DAY_MS = 86_400_000

_FAST = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;"

RUN_ROWS = 3

# RUN_ROWS rows per run, as of an engine, with ids that contain the time; the runs of SENSES senses alternate.
_ROWS = """
WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < :rows)
INSERT INTO logs(source, type, ref_id, payload, ts)
SELECT
    CASE i % 3 WHEN 1 THEN 'sense' ELSE 'reflex' END,
    CASE i % 3 WHEN 0 THEN 'run_start' WHEN 1 THEN 'reading' ELSE 'run_complete' END,
    printf('sense-%02d/%012x7%019x', i / 3 % :senses, :first_ts + i / 3 * 3 * :span_ms / :rows, i / 3),
    CASE i % 3
        WHEN 0 THEN printf('{"sense":"sense-%02d","reflex":"each","trigger":"interval","cause":null,'
                           || '"scheduled_ts":%d,"lateness_ms":0,"skipped":0,"coalesced":0}', i / 3 % :senses, i)
        WHEN 1 THEN printf('{"n":%d,"value":0.5,"unit":"percent"}', i)
        ELSE printf('{"sense":"sense-%02d","status":"ok","duration_ms":0.5,"signal":false,"worker":1}', i / 3 % :senses)
    END,
    :first_ts + i * :span_ms / :rows
FROM numbers
"""


def fill(path: Path, rows: int, *, oldest_days: float = 30, span_days: float = 30) -> None:
    """Create a log with this number of rows, evenly over `span_days`, the first of them `oldest_days` ago.

    Its indexes and triggers are created after the rows, which takes a tenth of the time.
    """
    LogWriter.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_FAST)
        kept = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger')")
        extras = [row for row in kept if row[2]]
        connection.execute("BEGIN")
        for kind, name, _sql in extras:
            connection.execute(f"DROP {kind} {name}")
        now = time.time_ns() // 1_000_000
        span = {"first_ts": now - round(oldest_days * DAY_MS), "span_ms": round(span_days * DAY_MS)}
        connection.execute(_ROWS, {"rows": rows, "senses": SENSES, **span})
        for _kind, _name, sql in extras:
            connection.execute(sql)
        # Every run is complete: a writer that opens the log does not have to look for open ones.
        connection.execute("INSERT INTO meta(key, value) VALUES ('settled_below', ?)", (str(rows + 1),))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def copy_log(source: Path, target: Path) -> None:
    """Copy a log that is not in use, and sync it: otherwise the first checkpoint would have to."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def make_plain(path: Path) -> None:
    """Create the same table with the same indexes and a WAL, but without triggers."""
    model = path.with_name("model.db")
    LogWriter.open(model).close()
    with closing(sqlite3.connect(model)) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'logs' AND type != 'trigger'")
        schema = [sql for (sql,) in found if sql]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for sql in schema:
            connection.execute(sql)


def drop_triggers(path: Path) -> None:
    """Drop the triggers that keep a log append-only: it is then an ordinary table."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
