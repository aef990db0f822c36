"""The queries that the log is asked, each a function of the database it runs on; the caller holds the transaction."""

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
from nerve.store.table.conditions import IdRange, bound_values, named, readable, unindexed
from nerve.store.table.planner import ENTRY, Statement, is_ordered, select_entries, select_ids, select_recent
from nerve.store.table.table_stats import TableStats, existing_pairs, table_stats

RECENT = 2_000
"""So many of the newest rows are looked through first when only a few are wanted: most often they are among them."""

MARGIN = 1.5
"""So much further than its share in the newest rows suggests are the newest of a sense looked for."""

ENTRY_IN_ROWS = 2
"""To take an entry from an index, and sort it by id, takes at least as long as to look at so many rows in a row."""

_AT_ONCE = 500
_sequence = peewee.Table("sqlite_sequence")


class Count(NamedTuple):
    """How many entries there are of one source and type."""

    source: str
    type: str
    n: int


class ByteRow(NamedTuple):
    """A row with the bytes of its texts, which need not be UTF-8 once a disk has failed."""

    id: int
    source: bytes
    type: bytes
    ref_id: bytes | None
    payload: bytes
    ts: int

    def decoded(self, errors: str = "strict") -> Row:
        """Give it with texts; UnicodeDecodeError unless told what to do about `errors`."""
        number, source, kind, ref_id, payload, ts = self
        ref = None if ref_id is None else ref_id.decode("utf-8", errors)
        return (
            number,
            source.decode("utf-8", errors),
            kind.decode("utf-8", errors),
            ref,
            payload.decode("utf-8", errors),
            ts,
        )


def find(db: sqlite3.Connection, wanted: Filter) -> list[Row]:
    """Give the rows that `wanted` finds, in the order of their id."""
    if wanted.limit is not None and not is_ordered(wanted):
        newest, span = last_id(db), RECENT
        while span:
            recent = _newest_entries(db, select_recent(wanted, newest - span))
            if len(recent) == wanted.limit:
                return recent
            span = _wider(wanted, newest, len(recent)) if span == RECENT else 0
    found = select_entries(wanted, table_stats(db, wanted))
    return [] if found is None else _newest_entries(db, found)


def find_ids(db: sqlite3.Connection, wanted: Filter, known: TableStats, *, newest: bool) -> list[int]:
    """Give the ids of the `limit` newest (or oldest) rows that `wanted` finds, ascending."""
    found = select_ids(wanted, known, newest=newest)
    return [] if found is None else sorted(row[0] for row in db.execute(*found))


def rows(db: sqlite3.Connection, ids: Sequence[int]) -> list[Row]:
    """Give the rows with these ids, ascending; those that are gone are left out."""
    return _readable_rows(db, Statement(_listed_rows_sql(), {"ids": _listed(ids)}))


def byte_rows(db: sqlite3.Connection, after_id: int, until_id: int, limit: int) -> list[ByteRow]:
    """Give the first `limit` rows with after_id < id <= until_id, whatever their texts are."""
    found = LogRow.select(*ENTRY).where(LogRow.id > after_id, LogRow.id <= until_id)
    with _texts_made_by(db, bytes):
        return [ByteRow(*row) for row in fetch(db, found.order_by(LogRow.id).limit(limit))]


def as_of_now(db: sqlite3.Connection, wanted: Filter) -> tuple[Filter, TableStats]:
    """Limit `wanted` to what the log holds now, and look up what `find_ids` must know."""
    wanted = _until_now(db, wanted)
    return wanted, table_stats(db, wanted)


def find_as_of_now(db: sqlite3.Connection, wanted: Filter) -> tuple[Filter, list[Row]]:
    """Give the rows that `wanted` finds in what the log holds now, and `wanted` limited to that."""
    wanted = _until_now(db, wanted)
    return wanted, find(db, wanted)


def caused_by(db: sqlite3.Connection, runs: Sequence[str]) -> list[Row]:
    """Give the `run_start` of each run that one of `runs` has caused, in the order of their id."""
    starts: list[Row] = []
    for at in range(0, len(runs), _AT_ONCE):
        starts += fetch(db, LogRow.select(*ENTRY).where(CAUSE.in_(runs[at : at + _AT_ONCE])))
    return sorted(starts)


def count_caused(db: sqlite3.Connection, runs: Sequence[str], at_most: int) -> int:
    """Count `runs` and all runs that came of them, directly or not; stops at `at_most`."""
    # UNION leaves out what is there already, so that not even a cycle could keep it going.
    statement = peewee.NodeList(
        (
            peewee.SQL("WITH RECURSIVE below(run) AS (SELECT value FROM json_each(?)", [_listed(runs)]),
            peewee.SQL("UNION SELECT ref_id FROM below CROSS JOIN logs WHERE run ="),
            CAUSE,
            peewee.SQL("LIMIT ?) SELECT count(*) FROM below", [at_most]),
        )
    )
    return int(fetch(db, statement)[0][0])


def counts_since(db: sqlite3.Connection, id: int) -> list[Count]:
    """Count the rows with an id above `id`, for each source and type that has any."""
    counts = []
    for pair in existing_pairs(db):
        rows = LogRow.select(fn.count(LogRow.id)).where(
            LogRow.source == pair.source, LogRow.type == pair.type, LogRow.id > id
        )
        counts.append(Count(*pair, fetch(db, rows)[0][0]))
    return [count for count in counts if count.n]


def count_between(db: sqlite3.Connection, wanted: Filter) -> int:
    """Count the rows by what `wanted` asks of their ts and id alone."""
    bounds = IdRange.of(wanted)
    asked = [*bounds.times(LogRow.ts), *bounds.ids(unindexed(LogRow.id))]
    return int(
        db.execute(named_sql(LogRow.select(fn.count(LogRow.id)).where(*asked)), bound_values(wanted)).fetchall()[0][0]
    )


def first_ts(db: sqlite3.Connection, at_least: int) -> int | None:
    """Give the earliest ts that is not before `at_least`."""
    found = fetch(db, LogRow.select(LogRow.ts).where(LogRow.ts >= at_least).order_by(LogRow.ts).limit(1))
    return int(found[0][0]) if found else None


def last_id(db: sqlite3.Connection) -> int:
    """Give the greatest id that any row was ever given; 0 for none."""
    found = db.execute(_last_id_sql(), {"table": "logs"}).fetchall()
    return int(found[0][0]) if found else 0


def _until_now(db: sqlite3.Connection, wanted: Filter) -> Filter:
    newest = last_id(db)
    return replace(wanted, until_id=newest if wanted.until_id is None else min(newest, wanted.until_id))


def _wider(wanted: Filter, newest: int, found: int) -> int:
    """Give how many rows to look through, since `found` of the RECENT were wanted; 0 to have an index find all.

    The index on ref_id holds what belongs to a sense in the order of names, not of ids: its newest entries are found
    by going through all of its entries, which get more and more. Where the log is large, and the sense not rare, it is
    fewer rows to the last of the newest.
    """
    if wanted.limit is None or not found or wanted.since is not None or wanted.until is not None:
        return 0
    rows = int(RECENT * wanted.limit / found * MARGIN)
    entries = newest * found / RECENT
    return rows if rows < entries * ENTRY_IN_ROWS else 0


def _newest_entries(db: sqlite3.Connection, wanted: Statement) -> list[Row]:
    """Give the rows of a query that has the newest first, ascending."""
    return _readable_rows(db, wanted)[::-1]


def _readable_rows(db: sqlite3.Connection, wanted: Statement) -> list[Row]:
    """Run a query whose texts may be what strangers wrote, which need not be UTF-8."""
    try:
        return db.execute(*wanted).fetchall()
    except sqlite3.OperationalError as error:
        if not is_undecodable(error):
            raise
        with _texts_made_by(db, readable):
            return db.execute(*wanted).fetchall()


@contextmanager
def _texts_made_by(db: sqlite3.Connection, factory: Callable[[bytes], object]) -> Iterator[None]:
    usual, db.text_factory = db.text_factory, factory
    try:
        yield
    finally:
        db.text_factory = usual


def _listed(values: Sequence[int] | Sequence[str]) -> str:
    """Give one parameter where a list would be thousands."""
    return msgspec.json.encode(values).decode()


@cache
def _listed_rows_sql() -> str:
    listed = peewee.SQL("(SELECT value FROM json_each(:ids))")
    return named_sql(LogRow.select(*ENTRY).where(LogRow.id.in_(listed)).order_by(LogRow.id))


@cache
def _last_id_sql() -> str:
    return named_sql(_sequence.select(_sequence.c.seq).where(_sequence.c.name == named("table")))


def open_runs(db: sqlite3.Connection, until_id: int) -> frozenset[str]:
    """Give the runs that have a `run_start` with an id up to `until_id`, and no `run_complete`."""
    settled_below = get_meta(db, "settled_below") or ""
    starts = LogRow.select(LogRow.ref_id).where(
        LogRow.source == "reflex",
        LogRow.type == "run_start",
        LogRow.id >= (int(settled_below) if settled_below.isdecimal() else 1),
        LogRow.id <= until_id,
    )
    ends = LogRow.alias()
    # By its ref_id: the index on (source, type) would give all completions that there are.
    its_end = ends.select(ends.id).where(
        ends.ref_id == LogRow.ref_id, unindexed(ends.source) == "reflex", unindexed(ends.type) == "run_complete"
    )
    return frozenset(ref for (ref,) in fetch(db, starts.where(~peewee.fn.EXISTS(its_end))) if ref)


def live_bytes(db: sqlite3.Connection) -> int:
    """Give the size of what the database holds, without the pages that it has free."""
    pages, free, page_bytes = (
        int(execute(db, peewee.SQL(f"PRAGMA {name}")).fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes
