"""The queries that the log is asked, each a function of the database it runs on; the caller holds the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import peewee
from peewee import fn

from nerve.store.filters import Filter
from nerve.store.models import CAUSE, Log, Row, fetch
from nerve.store.table.conditions import id_range, readable, times, unindexed
from nerve.store.table.selecting import is_ordered, select_ids, select_recent_ids
from nerve.store.table.surveying import Survey, existing_pairs, survey

RECENT = 2_000
"""So many of the newest rows are looked through first when only a few are wanted: most often they are among them."""

_AT_ONCE = 500
_ENTRY = (Log.id, Log.source, Log.type, Log.ref_id, Log.payload, Log.ts)
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


def find(db: peewee.Database, wanted: Filter) -> list[Row]:
    """Give the rows that `wanted` finds, in the order of their id."""
    if wanted.limit is not None and not is_ordered(wanted):
        recent = _entries(db, select_recent_ids(wanted, last_id(db) - RECENT))
        if len(recent) == wanted.limit:
            return recent
    found = select_ids(wanted, survey(db, wanted), newest=True)
    return [] if found is None else _entries(db, found)


def find_ids(db: peewee.Database, wanted: Filter, known: Survey, *, newest: bool) -> list[int]:
    """Give the ids of the `limit` newest (or oldest) rows that `wanted` finds, ascending."""
    found = select_ids(wanted, known, newest=newest)
    return [] if found is None else sorted(row[0] for row in fetch(db, found))


def rows(db: peewee.Database, ids: Sequence[int]) -> list[Row]:
    """Give the rows with these ids, ascending; those that are gone are left out."""
    return _entries(db, peewee.SQL("(SELECT value FROM json_each(?))", [_listed(ids)]))


def byte_rows(db: peewee.Database, after_id: int, until_id: int, limit: int) -> list[ByteRow]:
    """Give the first `limit` rows with after_id < id <= until_id, whatever their texts are."""
    found = Log.select(*_ENTRY).where(Log.id > after_id, Log.id <= until_id)
    return [ByteRow(*row) for row in _fetch_texts(db, found.order_by(Log.id).limit(limit), bytes)]


def as_of_now(db: peewee.Database, wanted: Filter) -> tuple[Filter, Survey]:
    """Limit `wanted` to what the log holds now, and look up what `find_ids` must know."""
    wanted = _until_now(db, wanted)
    return wanted, survey(db, wanted)


def find_as_of_now(db: peewee.Database, wanted: Filter) -> tuple[Filter, list[Row]]:
    """Give the rows that `wanted` finds in what the log holds now, and `wanted` limited to that."""
    wanted = _until_now(db, wanted)
    return wanted, find(db, wanted)


def caused_by(db: peewee.Database, runs: Sequence[str]) -> list[Row]:
    """Give the `run_start` of each run that one of `runs` has caused, in the order of their id."""
    starts: list[Row] = []
    for at in range(0, len(runs), _AT_ONCE):
        starts += fetch(db, Log.select(*_ENTRY).where(CAUSE.in_(runs[at : at + _AT_ONCE])))
    return sorted(starts)


def count_caused(db: peewee.Database, runs: Sequence[str], at_most: int) -> int:
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


def counts_since(db: peewee.Database, id: int) -> list[Count]:
    """Count the rows with an id above `id`, for each source and type that has any."""
    counts = []
    for pair in existing_pairs(db):
        rows = Log.select(fn.count(Log.id)).where(Log.source == pair.source, Log.type == pair.type, Log.id > id)
        counts.append(Count(*pair, fetch(db, rows)[0][0]))
    return [count for count in counts if count.n]


def count_between(db: peewee.Database, wanted: Filter) -> int:
    """Count the rows by what `wanted` asks of their ts and id alone."""
    asked = [*times(wanted, Log.ts).values(), *id_range(wanted, unindexed(Log.id))]
    return int(fetch(db, Log.select(fn.count(Log.id)).where(*asked))[0][0])


def first_ts(db: peewee.Database, at_least: int) -> int | None:
    """Give the earliest ts that is not before `at_least`."""
    found = fetch(db, Log.select(Log.ts).where(Log.ts >= at_least).order_by(Log.ts).limit(1))
    return int(found[0][0]) if found else None


def last_id(db: peewee.Database) -> int:
    """Give the greatest id that any row was ever given; 0 for none."""
    found = fetch(db, _sequence.select(_sequence.c.seq).where(_sequence.c.name == "logs"))
    return int(found[0][0]) if found else 0


def _until_now(db: peewee.Database, wanted: Filter) -> Filter:
    newest = last_id(db)
    return replace(wanted, until_id=newest if wanted.until_id is None else min(newest, wanted.until_id))


def _entries(db: peewee.Database, ids: peewee.Node) -> list[Row]:
    return _fetch_texts(db, Log.select(*_ENTRY).where(Log.id.in_(ids)).order_by(Log.id), readable)


def _fetch_texts(db: peewee.Database, query: peewee.Node, factory: Callable[[bytes], object]) -> list[Row]:
    """Run a query whose texts are made by `factory`: strangers can write what is no UTF-8, where `str` would fail."""
    connection: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]  # Peewee's stubs
    usual, connection.text_factory = connection.text_factory, factory
    try:
        return fetch(db, query)
    finally:
        connection.text_factory = usual


def _listed(values: Sequence[int] | Sequence[str]) -> str:
    """Give one parameter where a list would be thousands."""
    return msgspec.json.encode(values).decode()
