"""What the log holds, as far as the best way to a filter's entries depends on it; looked up in indexes alone."""

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
from nerve.store.table.conditions import IdRange, bound_values, named, unindexed

IndexSkip = Literal["first", "next type", "next source"]

_ENDS: tuple[Literal["min", "max"], ...] = ("min", "max")


class Pair(NamedTuple):
    """A source, and a type that it has."""

    source: str
    type: str


@dataclass(frozen=True, slots=True)
class Period:
    """The entries from a filter's `since` to its `until`: their least and greatest id, and how many they are."""

    first_id: int
    last_id: int
    count: int


@dataclass(frozen=True, slots=True)
class TableStats:
    """The pairs to look among, and the period to look in; None for what makes no difference."""

    pairs: tuple[Pair, ...] | None = None
    period: Period | None = None


def table_stats(db: sqlite3.Connection, wanted: Filter) -> TableStats:
    """Look up what there is to know for what is wanted."""
    if wanted.exact("ref"):
        return TableStats()
    named = [demand for demand in wanted.demands if demand.field in ("source", "type")]
    by_pair = bool(named) and not wanted.errors and not wanted.exact("sense")
    return TableStats(_pairs(db, wanted, named) if by_pair else None, _period(db, wanted))


def existing_pairs(db: sqlite3.Connection) -> Iterator[Pair]:
    """Give each pair that the log holds, in order, hopping through the index from one to the next."""
    pair = _hop(db, "first", Pair("", ""))
    while pair:
        yield pair
        # Two hops, since SQLite would go through all rows of this pair to one with (source, type) > pair.
        pair = _hop(db, "next type", pair) or _hop(db, "next source", pair)


def _hop(db: sqlite3.Connection, to: IndexSkip, pair: Pair) -> Pair | None:
    found = db.execute(_hop_sql(to), pair._asdict()).fetchall()
    return Pair(*found[0]) if found else None


def _pairs(db: sqlite3.Connection, wanted: Filter, named: Sequence[Match]) -> tuple[Pair, ...]:
    """Give the pairs that are meant: of those that are spelt out, or else of those that exist."""
    sources, types = wanted.exact("source"), wanted.exact("type")
    candidates: Iterable[Pair] = existing_pairs(db)
    if sources and types:
        candidates = dict.fromkeys(Pair(*both) for both in product(sources.values, types.values))
    return tuple(pair for pair in candidates if all(_accepts(demand, pair) for demand in named))


def _accepts(demand: Match, pair: Pair) -> bool:
    return demand.accepts(pair.source if demand.field == "source" else pair.type)


def _period(db: sqlite3.Connection, wanted: Filter) -> Period | None:
    if wanted.until is None and (wanted.since is None or wanted.after_id is not None):
        return None  # no period, or only what is new
    oldest, newest = (db.execute(_ts_sql(end)).fetchall()[0][0] for end in _ENDS)
    if oldest is None or _covers(wanted, oldest, newest):
        return None
    first_id, last_id, count = db.execute(_extent_sql(IdRange.of(wanted)), bound_values(wanted)).fetchall()[0]
    return Period(first_id or 0, last_id or 0, count)


def _covers(wanted: Filter, oldest: int, newest: int) -> bool:
    return (wanted.since is None or wanted.since <= oldest) and (wanted.until is None or newest <= wanted.until)


@lru_cache
def _extent_sql(bounds: IdRange) -> str:
    numbers = LogRow.select(fn.min(LogRow.id), fn.max(LogRow.id), fn.count(LogRow.id))
    return named_sql(numbers.where(*bounds.times(LogRow.ts), *bounds.ids(unindexed(LogRow.id))))


@lru_cache
def _hop_sql(to: IndexSkip) -> str:
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
