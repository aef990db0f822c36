"""The queries on the log, as functions of the database they run on; the caller holds the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import msgspec
import peewee
from peewee import fn

from nerve.store.error_mapping import is_undecodable
from nerve.store.filters import Filter
from nerve.store.schema import CAUSE, LogRow, Row, execute, fetch, get_meta, named_sql
from nerve.store.table.conditions import RangeShape, named, range_values, readable, unindexed
from nerve.store.table.planner import ENTRY, Statement, is_ordered, select_entries, select_ids, select_recent
from nerve.store.table.table_stats import TableStats, existing_pairs, table_stats

RECENT = 2_000
"""The newest rows, scanned first for a query with a limit: most often the matches are among them."""

MARGIN = 1.5
"""Factor on the number of rows that a wider scan should need, by the share of matches in the RECENT rows."""

ENTRY_IN_ROWS = 2
"""Cost of a row that is found through an index and sorted by id, in rows of a scan (a lower bound)."""

_AT_ONCE = 500
_sequence = peewee.Table("sqlite_sequence")


class Count(NamedTuple):
    """The number of entries of one source and type."""

    source: str
    type: str
    n: int


class ByteRow(NamedTuple):
    """A row with its texts as bytes, which need not be UTF-8 once a disk has failed."""

    id: int
    source: bytes
    type: bytes
    ref_id: bytes | None
    payload: bytes
    ts: int

    def decoded(self, errors: str = "strict") -> Row:
        """Return the row with decoded texts; `errors` is as in bytes.decode. Raises UnicodeDecodeError."""
        number, source, kind, ref_id, payload, ts = self
        ref = None if ref_id is None else ref_id.decode("utf-8", errors)
        texts = [text.decode("utf-8", errors) for text in (source, kind, payload)]
        return number, texts[0], texts[1], ref, texts[2], ts


def find(db: sqlite3.Connection, filter: Filter) -> list[Row]:
    """Return the rows that match, in the order of their ids."""
    if filter.limit is not None and not is_ordered(filter):
        newest, span = last_id(db), RECENT
        while span:
            recent = _newest_entries(db, select_recent(filter, newest - span))
            if len(recent) == filter.limit:
                return recent
            span = _wider_span(filter, newest, len(recent)) if span == RECENT else 0
    statement = select_entries(filter, table_stats(db, filter))
    return [] if statement is None else _newest_entries(db, statement)


def find_ids(db: sqlite3.Connection, filter: Filter, stats: TableStats, *, newest: bool) -> list[int]:
    """Return the ids of the `limit` newest (or oldest) rows that match, ascending."""
    statement = select_ids(filter, stats, newest=newest)
    return [] if statement is None else sorted(row[0] for row in db.execute(*statement))


def rows(db: sqlite3.Connection, ids: Sequence[int]) -> list[Row]:
    """Return the rows with these ids, ascending, without those that have been deleted."""
    return _readable_rows(db, Statement(_rows_by_id_sql(), {"ids": _json_list(ids)}))


def byte_rows(db: sqlite3.Connection, after_id: int, until_id: int, limit: int) -> list[ByteRow]:
    """Return the first `limit` rows with after_id < id <= until_id, with texts as bytes."""
    page = LogRow.select(*ENTRY).where(LogRow.id > after_id, LogRow.id <= until_id).order_by(LogRow.id).limit(limit)
    with _text_factory(db, bytes):
        return [ByteRow(*row) for row in fetch(db, page)]


def as_of_now(db: sqlite3.Connection, filter: Filter) -> tuple[Filter, TableStats]:
    """Return `filter` limited to the current entries, and the statistics that `find_ids` needs."""
    current = _until_now(db, filter)
    return current, table_stats(db, current)


def find_as_of_now(db: sqlite3.Connection, filter: Filter) -> tuple[Filter, list[Row]]:
    """Return `filter` limited to the current entries, and the rows that match."""
    current = _until_now(db, filter)
    return current, find(db, current)


def caused_by(db: sqlite3.Connection, runs: Sequence[str]) -> list[Row]:
    """Return the `run_start` of each run that one of `runs` has caused, in the order of their ids."""
    starts: list[Row] = []
    for at in range(0, len(runs), _AT_ONCE):
        starts += fetch(db, LogRow.select(*ENTRY).where(CAUSE.in_(runs[at : at + _AT_ONCE])))
    return sorted(starts)


def count_caused(db: sqlite3.Connection, runs: Sequence[str], at_most: int) -> int:
    """Count `runs` and all direct and indirect effects of theirs, up to `at_most`."""
    # UNION drops duplicates, so that not even a cycle could keep the recursion going.
    statement = peewee.NodeList(
        (
            peewee.SQL("WITH RECURSIVE below(run) AS (SELECT value FROM json_each(?)", [_json_list(runs)]),
            peewee.SQL("UNION SELECT ref_id FROM below CROSS JOIN logs WHERE run ="),
            CAUSE,
            peewee.SQL("LIMIT ?) SELECT count(*) FROM below", [at_most]),
        )
    )
    return int(fetch(db, statement)[0][0])


def counts_since(db: sqlite3.Connection, id: int) -> list[Count]:
    """Count the rows with an id above `id`, for each source and type that has any."""
    counts = []
    for source, kind in existing_pairs(db):
        newer = LogRow.select(fn.count(LogRow.id)).where(LogRow.source == source, LogRow.type == kind, LogRow.id > id)
        counts.append(Count(source, kind, fetch(db, newer)[0][0]))
    return [count for count in counts if count.n]


def count_between(db: sqlite3.Connection, filter: Filter) -> int:
    """Count the rows within the filter's bounds on ts and id; its other conditions are ignored."""
    bounds = RangeShape.of(filter)
    within = LogRow.select(fn.count(LogRow.id)).where(*bounds.on_ts(LogRow.ts), *bounds.on_id(unindexed(LogRow.id)))
    return int(db.execute(named_sql(within), range_values(filter)).fetchall()[0][0])


def first_ts(db: sqlite3.Connection, at_least: int) -> int | None:
    """Return the earliest ts that is not before `at_least`, or None."""
    found = fetch(db, LogRow.select(LogRow.ts).where(LogRow.ts >= at_least).order_by(LogRow.ts).limit(1))
    return int(found[0][0]) if found else None


def last_id(db: sqlite3.Connection) -> int:
    """Return the greatest id assigned so far; 0 for an empty log."""
    found = db.execute(_last_id_sql(), {"table": "logs"}).fetchall()
    return int(found[0][0]) if found else 0


def open_runs(db: sqlite3.Connection, until_id: int) -> frozenset[str]:
    """Return the runs that have a `run_start` with an id up to `until_id`, and no `run_complete`."""
    settled_below = get_meta(db, "settled_below") or ""
    starts = LogRow.select(LogRow.ref_id).where(
        LogRow.source == "reflex",
        LogRow.type == "run_start",
        LogRow.id >= (int(settled_below) if settled_below.isdecimal() else 1),
        LogRow.id <= until_id,
    )
    ends = LogRow.alias()
    # Looked up by ref_id: the index on (source, type) would scan all completions.
    its_end = ends.select(ends.id).where(
        ends.ref_id == LogRow.ref_id, unindexed(ends.source) == "reflex", unindexed(ends.type) == "run_complete"
    )
    return frozenset(ref for (ref,) in fetch(db, starts.where(~peewee.fn.EXISTS(its_end))) if ref)


def live_bytes(db: sqlite3.Connection) -> int:
    """Return the size of the database without its unused pages, in bytes."""
    pages, free, page_bytes = (
        int(execute(db, peewee.SQL(f"PRAGMA {name}")).fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes


def _until_now(db: sqlite3.Connection, filter: Filter) -> Filter:
    newest = last_id(db)
    return replace(filter, until_id=newest if filter.until_id is None else min(newest, filter.until_id))


def _wider_span(filter: Filter, newest: int, matches: int) -> int:
    """Return how many rows to scan, given `matches` among the RECENT ones; 0 to let an index find all.

    The index on ref_id has the entries of a sense in the order of run ids, so finding its newest ones takes all of
    them, and their number grows with the log. In a large log, unless the sense is rare, a scan from the newest row back
    reads fewer rows.
    """
    if filter.limit is None or not matches or filter.since is not None or filter.until is not None:
        return 0
    span = int(RECENT * filter.limit / matches * MARGIN)
    entries = newest * matches / RECENT
    return span if span < entries * ENTRY_IN_ROWS else 0


def _newest_entries(db: sqlite3.Connection, statement: Statement) -> list[Row]:
    """Return the rows of a query that sorts the newest first, ascending."""
    return _readable_rows(db, statement)[::-1]


def _readable_rows(db: sqlite3.Connection, statement: Statement) -> list[Row]:
    """Return the rows of a query; texts that are not UTF-8, which other programs may have written, with escapes."""
    try:
        return db.execute(*statement).fetchall()
    except sqlite3.OperationalError as error:
        if not is_undecodable(error):
            raise
        with _text_factory(db, readable):
            return db.execute(*statement).fetchall()


@contextmanager
def _text_factory(db: sqlite3.Connection, factory: Callable[[bytes], object]) -> Iterator[None]:
    usual, db.text_factory = db.text_factory, factory
    try:
        yield
    finally:
        db.text_factory = usual


def _json_list(values: Sequence[int] | Sequence[str]) -> str:
    """Return values as one JSON parameter, in place of thousands of parameters."""
    return msgspec.json.encode(values).decode()


@cache
def _rows_by_id_sql() -> str:
    listed = peewee.SQL("(SELECT value FROM json_each(:ids))")
    return named_sql(LogRow.select(*ENTRY).where(LogRow.id.in_(listed)).order_by(LogRow.id))


@cache
def _last_id_sql() -> str:
    return named_sql(_sequence.select(_sequence.c.seq).where(_sequence.c.name == named("table")))
