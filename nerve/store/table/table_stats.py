"""TableStats: facts about the table that decide on the access path of a query, looked up in indexes alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

import peewee
from peewee import fn

from nerve.store.filters import Filter, Match
from nerve.store.schema import LogRow, named_sql
from nerve.store.table.conditions import RangeShape, named, range_values, unindexed

IndexSkip = Literal["first", "next type", "next source"]

_ENDS: tuple[Literal["min", "max"], ...] = ("min", "max")


class Pair(NamedTuple):
    """A source and one of its types."""

    source: str
    type: str


@dataclass(frozen=True, slots=True)
class Period:
    """The entries from a filter's `since` to its `until`: their least and greatest id, and their number."""

    first_id: int
    last_id: int
    count: int


@dataclass(frozen=True, slots=True)
class TableStats:
    """The pairs that a filter can match, and the extent of its period; None where it makes no difference."""

    pairs: tuple[Pair, ...] | None = None
    period: Period | None = None


def table_stats(db: sqlite3.Connection, filter: Filter) -> TableStats:
    """Look up the statistics that the plan for a filter depends on."""
    if filter.exact("ref"):
        return TableStats()
    on_pair = [match for match in filter.conditions if match.field in ("source", "type")]
    by_pair = bool(on_pair) and not filter.errors and not filter.exact("sense")
    return TableStats(_pairs(db, filter, on_pair) if by_pair else None, _period(db, filter))


def existing_pairs(db: sqlite3.Connection) -> Iterator[Pair]:
    """Yield each pair in the table, in order, by a skip scan of the index on (source, type)."""
    pair = _skip(db, "first", Pair("", ""))
    while pair:
        yield pair
        # Two steps, because for one with (source, type) > pair SQLite would scan all rows of this pair.
        pair = _skip(db, "next type", pair) or _skip(db, "next source", pair)


def _skip(db: sqlite3.Connection, to: IndexSkip, pair: Pair) -> Pair | None:
    rows = db.execute(_skip_sql(to), pair._asdict()).fetchall()
    return Pair(*rows[0]) if rows else None


def _pairs(db: sqlite3.Connection, filter: Filter, on_pair: Sequence[Match]) -> tuple[Pair, ...]:
    """Return the pairs that match: of those that the filter lists or, if it lists none, of those that exist."""
    sources, types = filter.exact("source"), filter.exact("type")
    candidates: Iterable[Pair] = existing_pairs(db)
    if sources and types:
        candidates = dict.fromkeys(Pair(*both) for both in product(sources.values, types.values))
    return tuple(pair for pair in candidates if all(_accepts(match, pair) for match in on_pair))


def _accepts(match: Match, pair: Pair) -> bool:
    return match.accepts(pair.source if match.field == "source" else pair.type)


def _period(db: sqlite3.Connection, filter: Filter) -> Period | None:
    if filter.until is None and (filter.since is None or filter.after_id is not None):
        return None  # no period, or only new entries
    oldest, newest = (db.execute(_ts_sql(end)).fetchall()[0][0] for end in _ENDS)
    if oldest is None or _covers(filter, oldest, newest):
        return None
    first_id, last_id, count = db.execute(_extent_sql(RangeShape.of(filter)), range_values(filter)).fetchall()[0]
    return Period(first_id or 0, last_id or 0, count)


def _covers(filter: Filter, oldest: int, newest: int) -> bool:
    return (filter.since is None or filter.since <= oldest) and (filter.until is None or newest <= filter.until)


@lru_cache
def _extent_sql(bounds: RangeShape) -> str:
    extent = LogRow.select(fn.min(LogRow.id), fn.max(LogRow.id), fn.count(LogRow.id))
    return named_sql(extent.where(*bounds.on_ts(LogRow.ts), *bounds.on_id(unindexed(LogRow.id))))


@lru_cache
def _skip_sql(to: IndexSkip) -> str:
    source = named("source")
    match to:
        case "first":
            where = [LogRow.source >= source]
        case "next type":
            where = [LogRow.source == source, LogRow.type > named("type")]
        case "next source":
            where = [LogRow.source > source]
    return named_sql(
        LogRow.select(LogRow.source, LogRow.type)
        .where(*where)
        .order_by(LogRow.source, LogRow.type)
        .limit(peewee.SQL("1"))
    )


@lru_cache
def _ts_sql(end: Literal["min", "max"]) -> str:
    return named_sql(LogRow.select(peewee.Function(end, (LogRow.ts,))))
