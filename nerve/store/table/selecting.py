"""The ids of what a Filter finds: which index finds them, in order, and what else is asked of each row.

Left alone, SQLite takes an index and then sorts all that it gave, or scans where an index would do. So what an index
is to serve (a key) is chosen here, and all else is asked for in a form that no index serves.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import peewee

from nerve.ids import sense_of
from nerve.store.filters import Filter
from nerve.store.models import IS_ERROR, Log
from nerve.store.table.conditions import belongs_to, conditions, id_range, times, unindexed
from nerve.store.table.surveying import Period, Survey

MOST_PAIRS = 32
"""So many (source, type) pairs are each looked up, and merged; for more, all rows are gone through."""

SPARSE = 4
"""A period whose entries lie scattered among SPARSE times as many ids is looked up by ts, and sorted."""

Key = tuple[peewee.Node, ...]
"""What an index finds."""

_ALL: Key = (peewee.SQL("1"),)  # every row, in the order of its id


@dataclass(frozen=True, slots=True)
class Way:
    """How the rows are found: by keys, whose rows are merged in the order of their id.

    `served` names the conditions that the keys see to. `by_id` says that their index goes on with the id. An index that
    doesn't would be left for the table, were it known that a range of ids, or their order, can be had there.
    """

    keys: Sequence[Key]
    served: frozenset[object] = frozenset()
    by_id: bool = True


def select_ids(wanted: Filter, known: Survey, *, newest: bool) -> peewee.SelectBase | None:
    """Select the ids of the `limit` newest (or oldest) entries that `wanted` finds; None where there can be none."""
    way = choose_way(wanted, known)
    if not way.keys or (known.period and not known.period.count):
        return None
    return _select(_within(wanted, known.period) if known.period else wanted, way, newest=newest)


def select_recent_ids(wanted: Filter, after_id: int) -> peewee.SelectBase:
    """Select the ids of the newest entries that `wanted` finds, going through all that come after `after_id`."""
    return _select(replace(wanted, after_id=max(after_id, wanted.after_id or 0)), Way([_ALL]), newest=True)


def is_ordered(wanted: Filter) -> bool:
    """Tell whether an index gives what `wanted` finds in the order of its id, with nothing to be counted first."""
    timeless = wanted.since is None and wanted.until is None
    return wanted.exact("ref") is not None or (timeless and wanted.exact("sense") is None)


def choose_way(wanted: Filter, known: Survey) -> Way:
    """Choose what an index is to find."""
    if ref := wanted.exact("ref"):
        return Way([(Log.ref_id.in_(ref.values),)], frozenset([ref]))
    if wanted.errors:
        return Way([(peewee.NodeList((IS_ERROR, peewee.SQL("= 1"))),)], frozenset(["errors"]))
    if sense := wanted.exact("sense"):
        names = [name for name in sense.values if name == sense_of(name)]
        keys = [(functools.reduce(operator.or_, map(belongs_to, names)),)] if names else []
        return Way(keys, frozenset([sense]), by_id=False)
    if known.period and known.period.last_id - known.period.first_id >= SPARSE * known.period.count:
        return Way([tuple(times(wanted, Log.ts).values())], frozenset(["since", "until"]), by_id=False)
    if known.pairs is not None and len(known.pairs) <= MOST_PAIRS:
        named = frozenset(demand for demand in wanted.demands() if demand.field in ("source", "type"))
        return Way([(Log.source == pair.source, Log.type == pair.type) for pair in known.pairs], named)
    return Way([_ALL])


def _select(wanted: Filter, way: Way, *, newest: bool) -> peewee.SelectBase:
    rest = id_range(wanted, Log.id if way.by_id else unindexed(Log.id))
    rest += [condition for name, condition in conditions(wanted).items() if name not in way.served]
    first, *others = (Log.select(Log.id).where(*key, *rest) for key in way.keys)
    merged: peewee.SelectBase = first
    for branch in others:
        merged = merged.union_all(branch)
    order = peewee.SQL(f"{'' if way.by_id else '+'}id {'DESC' if newest else 'ASC'}")
    return merged.order_by(order).limit(wanted.limit)


def _within(wanted: Filter, period: Period) -> Filter:
    after_id = max(period.first_id - 1, wanted.after_id or 0)
    until_id = period.last_id if wanted.until_id is None else min(period.last_id, wanted.until_id)
    return replace(wanted, after_id=after_id, until_id=until_id)
