"""Queries on a large log, beside the same queries in SQL by hand."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.filling import fill
from bench.lab import Lab
from bench.measurement import measurement
from bench.results import Curve, Found, Goal, Row
from bench.samples import Samples, interleaved
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

COLUMNS = "SELECT id, source, type, ref_id, payload, ts FROM logs"
NEWEST = 100
RANGE_ROWS = 1_000

Entry = tuple[int, str, str, str, Any, int]


@dataclass(frozen=True, slots=True)
class Question:
    """A query: its filter in nerve, and the SQL of somebody who knows the table."""

    what: str
    wanted: dict[str, Any]
    sql: str
    parameters: tuple[object, ...]


def questions(db: Path, rows: int) -> list[Question]:
    """Return the queries for a log with this number of rows; each finds at most some hundred, anywhere in it."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        at = rows // 3
        bounds = connection.execute("SELECT ts FROM logs WHERE id IN (?, ?) ORDER BY id", (at, at + RANGE_ROWS))
        (since,), (until,) = bounds.fetchall()
        (run,) = connection.execute("SELECT ref_id FROM logs WHERE id = ?", (rows // 2,)).fetchone()
    return [
        Question(
            "source and type, newest 100",
            {"source": "sense", "type": "reading", "limit": NEWEST},
            f"{COLUMNS} WHERE source = ? AND type = ? ORDER BY id DESC LIMIT {NEWEST}",
            ("sense", "reading"),
        ),
        Question("one run", {"ref_id": run}, f"{COLUMNS} WHERE ref_id = ? ORDER BY id DESC", (run,)),
        Question(
            "a time range with 1,000 rows",
            {"since": since, "until": until},
            f"{COLUMNS} WHERE ts BETWEEN ? AND ? ORDER BY id DESC",
            (since, until),
        ),
        Question(
            "one sense, newest 100",
            {"sense": "sense-07", "limit": NEWEST},
            f"{COLUMNS} WHERE ref_id >= ? AND ref_id < ? ORDER BY id DESC LIMIT {NEWEST}",
            ("sense-07/", "sense-070"),
        ),
    ]


def ask_nerve(db: Path, wanted: Mapping[str, Any]) -> list[Entry]:
    """Query like `query_logs`: make the filter, open the log, query, close it."""
    with LogReader(db) as reader:
        return [(e.id, e.source, e.type, e.ref_id or "", e.payload, e.ts) for e in reader.query(Filter(**wanted))]


def ask_by_hand(db: Path, sql: str, parameters: Sequence[object]) -> list[Entry]:
    """Query with plain sqlite3: open the file, query, decode the payloads, close it."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        rows = connection.execute(sql, parameters).fetchall()
    return [(*row[:4], json.loads(row[4]), row[5]) for row in reversed(rows)]


@measurement
def queries(lab: Lab) -> Found:
    """Four queries on a log of 10 million rows, beside SQL by hand; and on logs of a tenth and a hundredth of it."""
    sizes = (3_000, 30_000, 300_000) if lab.quick else (100_000, 1_000_000, 10_000_000)
    tables = [_compared_all(lab, rows) for rows in sizes]
    curves = [
        Curve(
            what=f"query: {what}",
            size_of="rows",
            unit="ms",
            sizes=sizes,
            costs=tuple(table[what].nerve.median for table in tables),
        )
        for what in tables[-1]
    ]
    return Found(list(tables[-1].values()), curves)


def _compared_all(lab: Lab, rows: int) -> dict[str, Row]:
    """Run all queries on a log with this number of rows."""
    db = lab.new_folder() / "logs.db"
    fill(db, rows)
    with closing(LogWriter.open(db)):  # as with an engine: there is a WAL, and readers need SQLite's locks
        return {question.what: _compared(lab, db, question, rows) for question in questions(db, rows)}


def _compared(lab: Lab, db: Path, question: Question, rows: int) -> Row:
    ask = partial(ask_nerve, db, question.wanted)
    by_hand = partial(ask_by_hand, db, question.sql, question.parameters)
    if ask() != by_hand():
        raise RuntimeError(f"nerve and SQL answer {question.what} differently")
    found = interleaved(lab.size(60, 20), {"nerve": partial(_ms, ask), "sql": partial(_ms, by_hand)})
    return Row(
        what=f"query, {rows / 1e6:g} million rows: {question.what}",
        nerve=Samples("nerve", "ms", found["nerve"]),
        other=Samples("SQL by hand", "ms", found["sql"]),
        goal=Goal("ratio at most", 1.3),
        note="both open the log, ask, decode each payload, and close it",
    )


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
