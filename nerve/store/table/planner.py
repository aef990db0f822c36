"""What a Filter finds, as a query: which index finds it, in order, and what else is asked of each row.

Left alone, SQLite takes an index and then sorts all that it gave, or scans where an index would do. So what an index
is to serve (a key) is chosen here, and all else is asked for in a form that no index serves.

Peewee writes the SQL, once for each form that a question has (its Shape), since that takes it longer than SQLite needs
to answer most questions; the values are put in afterwards, by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import peewee

from nerve.store.filters import Filter, Match
from nerve.store.schema import IS_ERROR, Log, named_sql
from nerve.store.table.conditions import (
    Bounds,
    Demanded,
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
from nerve.store.table.table_stats import Period, Survey

MOST_PAIRS = 32
"""So many (source, type) pairs are each looked up, and merged; for more, all rows are gone through."""

SPARSE = 4
"""A period whose entries lie scattered among SPARSE times as many ids is looked up by ts, and sorted."""

ENTRY = (Log.id, Log.source, Log.type, Log.ref_id, Log.payload, Log.ts)

Index = Literal["id", "ref_id", "errors", "sense", "ts", "pairs"]

Key = tuple[peewee.Node, ...]
"""What an index finds."""

_ALL: Key = (peewee.SQL("1"),)  # every row, in the order of its id
_SHAPES = 512


class Statement(NamedTuple):
    """SQL, and the values of the parameters that it names."""

    sql: str
    values: Values


class Way(NamedTuple):
    """How the rows are found: by an index, what is looked up there, and which demands that has seen to."""

    by: Index
    keys: tuple[str, ...] = ()
    served: tuple[Match, ...] = ()


class Shape(NamedTuple):
    """All that the SQL for a question depends on; where only the number of values matters, that is what is here."""

    by: Index
    keys: int
    demands: tuple[Demanded, ...]
    errors: bool
    bounds: Bounds
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


_Writer = Callable[[Shape], str]


def select_ids(wanted: Filter, known: Survey, *, newest: bool) -> Statement | None:
    """Select the ids of the `limit` newest (or oldest) entries that `wanted` finds; None where there can be none."""
    return _selected(_ids_sql, wanted, known, newest=newest)


def select_entries(wanted: Filter, known: Survey) -> Statement | None:
    """Select the `limit` newest entries that `wanted` finds, from the newest on; None where there can be none."""
    return _selected(_entries_sql, wanted, known, newest=True)


def select_recent(wanted: Filter, after_id: int) -> Statement:
    """Select the same, going through all that come after `after_id`."""
    recent = replace(wanted, after_id=max(after_id, wanted.after_id or 0))
    return _statement(_entries_sql, recent, Way("id"), newest=True)


def is_ordered(wanted: Filter) -> bool:
    """Tell whether an index gives what `wanted` finds in the order of its id, with nothing to be counted first."""
    timeless = wanted.since is None and wanted.until is None
    return wanted.exact("ref") is not None or (timeless and wanted.exact("sense") is None)


def choose_way(wanted: Filter, known: Survey) -> Way | None:
    """Choose what an index is to find; None where that can't be anything."""
    if ref := wanted.exact("ref"):
        return Way("ref_id", ref.values, (ref,))
    if wanted.errors:
        return Way("errors")
    if sense := wanted.exact("sense"):
        keys = sense_keys(sense)
        return Way("sense", keys, (sense,)) if keys else None
    if known.period and known.period.last_id - known.period.first_id >= SPARSE * known.period.count:
        return Way("ts")
    if known.pairs is not None and len(known.pairs) <= MOST_PAIRS:
        named_fields = tuple(demand for demand in wanted.demands if demand.field in ("source", "type"))
        return Way("pairs", tuple(key for pair in known.pairs for key in pair), named_fields) if known.pairs else None
    return Way("id")


def _selected(sql: _Writer, wanted: Filter, known: Survey, *, newest: bool) -> Statement | None:
    way = choose_way(wanted, known)
    if way is None or (known.period and not known.period.count):
        return None
    return _statement(sql, _within(wanted, known.period) if known.period else wanted, way, newest=newest)


def _statement(sql: _Writer, wanted: Filter, way: Way, *, newest: bool) -> Statement:
    rest = [demand for demand in wanted.demands if demand not in way.served]
    shape = Shape(
        by=way.by,
        keys=len(way.keys),
        demands=tuple([Demanded.of(demand) for demand in rest]),
        errors=wanted.errors,
        bounds=Bounds.of(wanted),
        is_limited=wanted.limit is not None,
        newest_first=newest,
    )
    values = bound_values(wanted)
    for n, key in enumerate(way.keys):
        values[f"key{n}"] = key
    return Statement(sql(shape), values | demand_values(rest) if rest else values)


@functools.lru_cache(_SHAPES)
def _ids_sql(shape: Shape) -> str:
    return named_sql(_select(shape, (Log.id,)))


@functools.lru_cache(_SHAPES)
def _entries_sql(shape: Shape) -> str:
    if shape.is_in_order:
        return named_sql(_select(shape, ENTRY))
    # What must be sorted first are ids alone: of most rows, nothing else will be looked at.
    ids = _select(shape, (Log.id,))
    return named_sql(Log.select(*ENTRY).where(Log.id.in_(ids)).order_by(_direction("id", shape)))


def _select(shape: Shape, columns: tuple[peewee.Field, ...]) -> peewee.SelectBase:
    rest = shape.bounds.ids(Log.id if shape.is_by_id else unindexed(Log.id)) + conditions(shape.demands)
    if shape.errors and shape.by != "errors":
        rest.append(is_error())
    if shape.by != "ts":
        rest += shape.bounds.times(unindexed(Log.ts))
    first, *others = (Log.select(*columns).where(*key, *rest) for key in _keys(shape))
    merged: peewee.SelectBase = first
    for branch in others:
        merged = merged.union_all(branch)
    ordered = merged.order_by(_direction("id" if shape.is_by_id else "+id", shape))
    return ordered.limit(named("limit")) if shape.is_limited else ordered


def _keys(shape: Shape) -> list[Key]:
    """Give the keys whose rows, merged in the order of their id, are what the index finds."""
    keys = [named(f"key{n}") for n in range(shape.keys)]
    match shape.by:
        case "ref_id":
            return [(Log.ref_id.in_(keys),)]
        case "errors":
            return [(peewee.NodeList((IS_ERROR, peewee.SQL("= 1"))),)]
        case "sense":
            return [(belongs_to(Log.ref_id, keys),)]
        case "ts":
            return [tuple(shape.bounds.times(Log.ts))]
        case "pairs":
            return [
                (Log.source == source, Log.type == kind) for source, kind in zip(keys[::2], keys[1::2], strict=True)
            ]
        case "id":
            return [_ALL]


def _direction(column: str, shape: Shape) -> peewee.SQL:
    return peewee.SQL(f"{column} {'DESC' if shape.newest_first else 'ASC'}")


def _within(wanted: Filter, period: Period) -> Filter:
    after_id = max(period.first_id - 1, wanted.after_id or 0)
    until_id = period.last_id if wanted.until_id is None else min(period.last_id, wanted.until_id)
    return replace(wanted, after_id=after_id, until_id=until_id)
