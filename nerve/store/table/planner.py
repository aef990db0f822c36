"""What a Filter finds, as a query: which index finds it, in order, and what else is asked of each row.

Left alone, SQLite takes an index and then sorts all that it gave, or scans where an index would do. So what an index
is to serve (a key) is chosen here, and all else is asked for in a form that no index serves.

Peewee writes the SQL once for each QueryShape, because writing takes longer than SQLite needs to answer most queries;
the values are bound afterwards, by name.
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
    IdRange,
    Values,
    belongs_to,
    bound_values,
    conditions,
    demand_values,
    is_error,
    named,
    sense_keys,
    unindexed,
)
from nerve.store.table.table_stats import Period, TableStats

MOST_PAIRS = 32
"""So many (source, type) pairs are each looked up, and merged; for more, all rows are gone through."""

SPARSE = 4
"""A period whose entries lie scattered among SPARSE times as many ids is looked up by ts, and sorted."""

ENTRY = (LogRow.id, LogRow.source, LogRow.type, LogRow.ref_id, LogRow.payload, LogRow.ts)

Index = Literal["id", "ref_id", "errors", "sense", "ts", "pairs"]

IndexKey = tuple[peewee.Node, ...]
"""What an index finds."""

_ALL: IndexKey = (peewee.SQL("1"),)  # every row, in the order of its id
_SHAPES = 512


class Statement(NamedTuple):
    """SQL, and the values of the parameters that it names."""

    sql: str
    values: Values


class AccessPath(NamedTuple):
    """How the rows are found: by an index, what is looked up there, and which demands that has seen to."""

    by: Index
    keys: tuple[str, ...] = ()
    served: tuple[Match, ...] = ()


class QueryShape(NamedTuple):
    """All that the SQL for a question depends on; where only the number of values matters, that is what is here."""

    by: Index
    keys: int
    demands: tuple[ConditionShape, ...]
    errors: bool
    bounds: IdRange
    is_limited: bool
    newest_first: bool

    @property
    def is_by_id(self) -> bool:
        """Whether the index goes on with the id.

        One that doesn't would be left for the table, were it known that a range of ids, or their order, can be had
        there.
        """
        return self.by not in ("sense", "ts")

    @property
    def is_in_order(self) -> bool:
        """Whether the index gives the rows in the order of their id, so that none is looked at in vain."""
        return self.is_by_id and (self.by != "ref_id" or self.keys == 1)


_Writer = Callable[[QueryShape], str]


def select_ids(wanted: Filter, known: TableStats, *, newest: bool) -> Statement | None:
    """Select the ids of the `limit` newest (or oldest) entries that `wanted` finds; None where there can be none."""
    return _selected(_ids_sql, wanted, known, newest=newest)


def select_entries(wanted: Filter, known: TableStats) -> Statement | None:
    """Select the `limit` newest entries that `wanted` finds, from the newest on; None where there can be none."""
    return _selected(_entries_sql, wanted, known, newest=True)


def select_recent(wanted: Filter, after_id: int) -> Statement:
    """Select the same, going through all that come after `after_id`."""
    recent = replace(wanted, after_id=max(after_id, wanted.after_id or 0))
    return _statement(_entries_sql, recent, AccessPath("id"), newest=True)


def is_ordered(wanted: Filter) -> bool:
    """Tell whether an index gives what `wanted` finds in the order of its id, with nothing to be counted first."""
    timeless = wanted.since is None and wanted.until is None
    return wanted.exact("ref") is not None or (timeless and wanted.exact("sense") is None)


def choose_access_path(wanted: Filter, known: TableStats) -> AccessPath | None:
    """Choose what an index is to find; None where that can't be anything."""
    if ref := wanted.exact("ref"):
        return AccessPath("ref_id", ref.values, (ref,))
    if wanted.errors:
        return AccessPath("errors")
    if sense := wanted.exact("sense"):
        keys = sense_keys(sense)
        return AccessPath("sense", keys, (sense,)) if keys else None
    if known.period and known.period.last_id - known.period.first_id >= SPARSE * known.period.count:
        return AccessPath("ts")
    if known.pairs is not None and len(known.pairs) <= MOST_PAIRS:
        named_fields = tuple(demand for demand in wanted.demands if demand.field in ("source", "type"))
        return (
            AccessPath("pairs", tuple(key for pair in known.pairs for key in pair), named_fields)
            if known.pairs
            else None
        )
    return AccessPath("id")


def _selected(sql: _Writer, wanted: Filter, known: TableStats, *, newest: bool) -> Statement | None:
    way = choose_access_path(wanted, known)
    if way is None or (known.period and not known.period.count):
        return None
    return _statement(sql, _within(wanted, known.period) if known.period else wanted, way, newest=newest)


def _statement(sql: _Writer, wanted: Filter, way: AccessPath, *, newest: bool) -> Statement:
    rest = [demand for demand in wanted.demands if demand not in way.served]
    shape = QueryShape(
        by=way.by,
        keys=len(way.keys),
        demands=tuple([ConditionShape.of(demand) for demand in rest]),
        errors=wanted.errors,
        bounds=IdRange.of(wanted),
        is_limited=wanted.limit is not None,
        newest_first=newest,
    )
    values = bound_values(wanted)
    for n, key in enumerate(way.keys):
        values[f"key{n}"] = key
    return Statement(sql(shape), values | demand_values(rest) if rest else values)


@functools.lru_cache(_SHAPES)
def _ids_sql(shape: QueryShape) -> str:
    return named_sql(_select(shape, (LogRow.id,)))


@functools.lru_cache(_SHAPES)
def _entries_sql(shape: QueryShape) -> str:
    if shape.is_in_order:
        return named_sql(_select(shape, ENTRY))
    # What must be sorted first are ids alone: of most rows, nothing else will be looked at.
    ids = _select(shape, (LogRow.id,))
    return named_sql(LogRow.select(*ENTRY).where(LogRow.id.in_(ids)).order_by(_direction("id", shape)))


def _select(shape: QueryShape, columns: tuple[peewee.Field, ...]) -> peewee.SelectBase:
    rest = shape.bounds.ids(LogRow.id if shape.is_by_id else unindexed(LogRow.id)) + conditions(shape.demands)
    if shape.errors and shape.by != "errors":
        rest.append(is_error())
    if shape.by != "ts":
        rest += shape.bounds.times(unindexed(LogRow.ts))
    first, *others = (LogRow.select(*columns).where(*key, *rest) for key in _keys(shape))
    merged: peewee.SelectBase = first
    for branch in others:
        merged = merged.union_all(branch)
    ordered = merged.order_by(_direction("id" if shape.is_by_id else "+id", shape))
    return ordered.limit(named("limit")) if shape.is_limited else ordered


def _keys(shape: QueryShape) -> list[IndexKey]:
    """Give the keys whose rows, merged in the order of their id, are what the index finds."""
    keys = [named(f"key{n}") for n in range(shape.keys)]
    match shape.by:
        case "ref_id":
            return [(LogRow.ref_id.in_(keys),)]
        case "errors":
            return [(peewee.NodeList((IS_ERROR, peewee.SQL("= 1"))),)]
        case "sense":
            return [(belongs_to(LogRow.ref_id, keys),)]
        case "ts":
            return [tuple(shape.bounds.times(LogRow.ts))]
        case "pairs":
            return [
                (LogRow.source == source, LogRow.type == kind)
                for source, kind in zip(keys[::2], keys[1::2], strict=True)
            ]
        case "id":
            return [_ALL]


def _direction(column: str, shape: QueryShape) -> peewee.SQL:
    return peewee.SQL(f"{column} {'DESC' if shape.newest_first else 'ASC'}")


def _within(wanted: Filter, period: Period) -> Filter:
    after_id = max(period.first_id - 1, wanted.after_id or 0)
    until_id = period.last_id if wanted.until_id is None else min(period.last_id, wanted.until_id)
    return replace(wanted, after_id=after_id, until_id=until_id)
