"""The schema: triggers and types protect the log from every program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.entries import event, sql

from nerve.store.table.writer import LogWriter

ROW = "'sense', 'forged', NULL, '{}', 1"

REWRITES = [
    "UPDATE logs SET payload = '{}'",
    "UPDATE logs SET id = 77 WHERE id = 2",
    "UPDATE OR REPLACE logs SET id = 1 WHERE id = 2",
    "DELETE FROM logs",
    "DELETE FROM logs WHERE id = 2",
    f"REPLACE INTO logs VALUES (2, {ROW})",
    f"INSERT OR REPLACE INTO logs VALUES (2, {ROW})",
    f"INSERT OR IGNORE INTO logs VALUES (2, {ROW})",
    f"INSERT INTO logs VALUES (2, {ROW}) ON CONFLICT (id) DO UPDATE SET payload = '{{}}'",
    f"INSERT INTO logs VALUES (9, {ROW}), (2, {ROW})",
]


@pytest.fixture
def three(db: Path, writer: LogWriter) -> Path:
    """A log with the ids 1 to 3."""
    writer.append([event(), event(), event()], {})
    return db


@pytest.mark.parametrize("statement", REWRITES)
def test_rewriting_the_log_is_refused_for_any_program(three: Path, statement: str) -> None:
    """UPDATE, DELETE, REPLACE and UPSERT fail with a message that says why, and change no row."""
    before = sql(three, "SELECT * FROM logs")
    for recursive in ("OFF", "ON"):
        with closing(sqlite3.connect(three)) as connection:
            connection.execute(f"PRAGMA recursive_triggers = {recursive}")
            with pytest.raises(sqlite3.IntegrityError, match="logs is append-only"):
                connection.execute(statement)
    assert sql(three, "SELECT * FROM logs") == before


def test_insert_of_a_new_row_is_allowed(three: Path) -> None:
    """It gets the next id."""
    sql(three, "INSERT INTO logs (source, type, payload, ts) VALUES ('sense', 'x', '1', 1)")
    assert sql(three, "SELECT max(id), count(*) FROM logs") == [(4, 4)]


@pytest.mark.parametrize("id", [-1, 0])
def test_id_below_1_is_refused(three: Path, id: int) -> None:
    """In the trigger, -1 stands for an id that was not given: so no row may have it."""
    with pytest.raises(sqlite3.IntegrityError, match="id > 0"):
        sql(three, f"REPLACE INTO logs VALUES ({id}, {ROW})")


@pytest.mark.parametrize(
    ("watermark_ts", "watermark_id", "left"),
    [(200, 2, [3]), (200, 1, [2, 3]), (101, 9, [2, 3]), (100, 9, [1, 2, 3]), (10**6, 3, [])],
)
def test_only_rows_below_both_watermarks_can_be_deleted(
    db: Path, writer: LogWriter, watermark_ts: int, watermark_id: int, left: list[int]
) -> None:
    """A row can be deleted if its ts is below watermark_ts, and its id is not above watermark_id."""
    writer.append([event(ts=100), event(ts=150), event(ts=300)], {})
    sql(db, "INSERT INTO meta VALUES ('watermark_ts', ?), ('watermark_id', ?)", [str(watermark_ts), str(watermark_id)])
    for number in (1, 2, 3):
        try:
            sql(db, "DELETE FROM logs WHERE id = ?", [number])
        except sqlite3.IntegrityError:
            assert number in left
    assert sql(db, "SELECT id FROM logs") == [(number,) for number in left]


def test_ids_are_not_reused(db: Path, writer: LogWriter) -> None:
    """The next id is new even after every row has been deleted."""
    writer.append([event(ts=1), event(ts=2)], {})
    assert writer.purge_chunk("1970-01-01", last_id=2) == 2
    writer.append([event()], {})
    assert sql(db, "SELECT id FROM logs") == [(3,)]


def test_columns_accept_only_their_type(three: Path) -> None:
    """The tables are strict."""
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER column"):
        sql(three, "INSERT INTO logs (source, type, payload, ts) VALUES ('a', 'b', '1', 'soon')")


@pytest.mark.parametrize("type", ["run_start", "run_complete"])
def test_invalid_json_is_accepted_by_the_expression_indexes(db: Path, writer: LogWriter, type: str) -> None:
    """A payload that is not JSON has no cause and no status."""
    writer.append([event(type, source="reflex")], {})
    sql(db, "INSERT INTO logs (source, type, payload, ts) VALUES ('reflex', ?, '{', 1)", [type])
    assert sql(db, "SELECT count(*) FROM logs") == [(2,)]


def test_file_is_created_with_incremental_auto_vacuum(db: Path, writer: LogWriter) -> None:
    """It can't be turned on later."""
    assert sql(db, "PRAGMA auto_vacuum") == [(2,)]
    assert sql(db, "SELECT value FROM meta WHERE key = 'schema_version'") == [("1",)]
