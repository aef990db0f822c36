"""The query planner: chooses the index that finds the rows of a Filter, and writes the SQL that uses it.

SQLite's own choice is often an index and a sort of everything it finds, or a scan where an index would do. So the
access path is chosen here: conditions that an index serves are written plainly, all others so that SQLite uses no index
for them. For example, `Filter(source="sense", since=S, limit=10)`, in a log with two types of that source:

    stats        pairs = (sense, alert), (sense, reading); period = ids 90,001 to 95,000, 1,900 entries
    access path  the index on (source, type), once for each pair: both branches come in the order of their ids
    SQL          SELECT ... WHERE source = :key0 AND type = :key1 AND id > :after_id AND id <= :until_id
                   AND +ts >= :since
                 UNION ALL
                 SELECT ... WHERE source = :key2 AND type = :key3 AND ... (as above)
                 ORDER BY id DESC LIMIT :limit

SQLite merges the branches, and stops after 10 rows. Had the 1,900 entries been spread over 10,000 ids, the index on ts
would be used instead, and the ids sorted.

Peewee writes the SQL once for each QueryShape, because that takes longer than SQLite needs to answer most queries; the
values are bound afterwards, by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import peewee

from nerve.store.filters import Filter, Match
from nerve.store.schema import IS_ERROR, LogRow, named_sql
from nerve.store.table.conditions import (
    ConditionShape,
    RangeShape,
    Values,
    belongs_to,
    condition_values,
    conditions,
    is_error,
    named,
    range_values,
    sense_keys,
    unindexed,
)
from nerve.store.table.table_stats import Period, TableStats

MOST_PAIRS = 32
"""Limit on (source, type) pairs that are looked up one by one and merged; with more, the table is scanned by id."""

SPARSE = 4
"""A period with fewer than one entry in SPARSE ids is looked up by ts, and sorted."""

ENTRY = (LogRow.id, LogRow.source, LogRow.type, LogRow.ref_id, LogRow.payload, LogRow.ts)

Index = Literal["id", "ref_id", "errors", "sense", "ts", "pairs"]

IndexKey = tuple[peewee.Node, ...]
"""Conditions that one lookup in an index serves."""

_ALL_ROWS: IndexKey = (peewee.SQL("1"),)
_SHAPES = 512


class Statement(NamedTuple):
    """SQL, and the values of its named parameters."""

    sql: str
    values: Values


class AccessPath(NamedTuple):
    """How rows are found: an index, the keys to look up in it, and the conditions that this has served."""

    by: Index
    keys: tuple[str, ...] = ()
    served: tuple[Match, ...] = ()


class QueryShape(NamedTuple):
    """Everything that the SQL of a query depends on: no values, only their number."""

    by: Index
    keys: int
    conditions: tuple[ConditionShape, ...]
    errors: bool
    bounds: RangeShape
    is_limited: bool
    newest_first: bool

    @property
    def is_by_id(self) -> bool:
        """True if the rows of one key are in the order of their ids in the index.

        In other indexes, the id must be written so that SQLite uses no index for it: to get the range of ids, or their
        order, it would scan the table instead.
        """
        return self.by not in ("sense", "ts")

    @property
    def is_in_order(self) -> bool:
        """True if the access path yields the rows in the order of their ids, so that none is read needlessly."""
        return self.is_by_id and (self.by != "ref_id" or self.keys == 1)


_SqlOf = Callable[[QueryShape], str]


def select_ids(filter: Filter, stats: TableStats, *, newest: bool) -> Statement | None:
    """Return the query for the ids of the `limit` newest (or oldest) matches; None if there can be none."""
    return _planned(_ids_sql, filter, stats, newest=newest)


def select_entries(filter: Filter, stats: TableStats) -> Statement | None:
    """Return the query for the `limit` newest matches, newest first; None if there can be none."""
    return _planned(_entries_sql, filter, stats, newest=True)


def select_recent(filter: Filter, after_id: int) -> Statement:
    """Return the same query, as a scan of all rows after `after_id`."""
    recent = replace(filter, after_id=max(after_id, filter.after_id or 0))
    return _statement(_entries_sql, recent, AccessPath("id"), newest=True)


def is_ordered(filter: Filter) -> bool:
    """Return True if an index yields the matches in the order of their ids, and the plan needs no statistics."""
    timeless = filter.since is None and filter.until is None
    return filter.exact("ref") is not None or (timeless and filter.exact("sense") is None)


def choose_access_path(filter: Filter, stats: TableStats) -> AccessPath | None:
    """Choose the index for a filter; None if no row can match."""
    if ref := filter.exact("ref"):
        return AccessPath("ref_id", ref.values, (ref,))
    if filter.errors:
        return AccessPath("errors")
    if sense := filter.exact("sense"):
        keys = sense_keys(sense)
        return AccessPath("sense", keys, (sense,)) if keys else None
    if stats.period and stats.period.last_id - stats.period.first_id >= SPARSE * stats.period.count:
        return AccessPath("ts")
    if stats.pairs is not None and len(stats.pairs) <= MOST_PAIRS:
        served = tuple(match for match in filter.conditions if match.field in ("source", "type"))
        keys = tuple(key for pair in stats.pairs for key in pair)
        return AccessPath("pairs", keys, served) if keys else None
    return AccessPath("id")


def _planned(sql: _SqlOf, filter: Filter, stats: TableStats, *, newest: bool) -> Statement | None:
    path = choose_access_path(filter, stats)
    if path is None or (stats.period and not stats.period.count):
        return None
    return _statement(sql, _within(filter, stats.period) if stats.period else filter, path, newest=newest)


def _statement(sql: _SqlOf, filter: Filter, path: AccessPath, *, newest: bool) -> Statement:
    rest = [match for match in filter.conditions if match not in path.served]
    shape = QueryShape(
        by=path.by,
        keys=len(path.keys),
        conditions=tuple([ConditionShape.of(match) for match in rest]),
        errors=filter.errors,
        bounds=RangeShape.of(filter),
        is_limited=filter.limit is not None,
        newest_first=newest,
    )
    values = range_values(filter)
    for n, key in enumerate(path.keys):
        values[f"key{n}"] = key
    return Statement(sql(shape), values | condition_values(rest) if rest else values)


@functools.lru_cache(_SHAPES)
def _ids_sql(shape: QueryShape) -> str:
    return named_sql(_select(shape, (LogRow.id,)))


@functools.lru_cache(_SHAPES)
def _entries_sql(shape: QueryShape) -> str:
    if shape.is_in_order:
        return named_sql(_select(shape, ENTRY))
    # Only ids are sorted: most of these rows are not read any further.
    ids = _select(shape, (LogRow.id,))
    return named_sql(LogRow.select(*ENTRY).where(LogRow.id.in_(ids)).order_by(_direction("id", shape)))


def _select(shape: QueryShape, columns: tuple[peewee.Field, ...]) -> peewee.SelectBase:
    rest = shape.bounds.on_id(LogRow.id if shape.is_by_id else unindexed(LogRow.id)) + conditions(shape.conditions)
    if shape.errors and shape.by != "errors":
        rest.append(is_error())
    if shape.by != "ts":
        rest += shape.bounds.on_ts(unindexed(LogRow.ts))
    first, *others = (LogRow.select(*columns).where(*key, *rest) for key in _index_keys(shape))
    merged: peewee.SelectBase = first
    for branch in others:
        merged = merged.union_all(branch)
    ordered = merged.order_by(_direction("id" if shape.is_by_id else "+id", shape))
    return ordered.limit(named("limit")) if shape.is_limited else ordered


def _index_keys(shape: QueryShape) -> list[IndexKey]:
    """Return the lookups of an access path; their rows, merged in the order of their ids, are those it finds."""
    keys = [named(f"key{n}") for n in range(shape.keys)]
    match shape.by:
        case "ref_id":
            return [(LogRow.ref_id.in_(keys),)]
        case "errors":
            return [(peewee.NodeList((IS_ERROR, peewee.SQL("= 1"))),)]
        case "sense":
            return [(belongs_to(LogRow.ref_id, keys),)]
        case "ts":
            return [tuple(shape.bounds.on_ts(LogRow.ts))]
        case "pairs":
            pairs = zip(keys[::2], keys[1::2], strict=True)
            return [(LogRow.source == source, LogRow.type == kind) for source, kind in pairs]
        case "id":
            return [_ALL_ROWS]


def _direction(column: str, shape: QueryShape) -> peewee.SQL:
    return peewee.SQL(f"{column} {'DESC' if shape.newest_first else 'ASC'}")


def _within(filter: Filter, period: Period) -> Filter:
    """Return the filter with the ids of its period as bounds."""
    after_id = max(period.first_id - 1, filter.after_id or 0)
    until_id = period.last_id if filter.until_id is None else min(period.last_id, filter.until_id)
    return replace(filter, after_id=after_id, until_id=until_id)
