"""What the archiver must know of the table as a whole; the caller holds the transaction."""

from __future__ import annotations

import sqlite3

import peewee

from nerve.store.schema import Log, execute, fetch, get_meta
from nerve.store.table.conditions import unindexed


def open_runs(db: sqlite3.Connection, until_id: int) -> frozenset[str]:
    """Give the runs that have a `run_start` with an id up to `until_id`, and no `run_complete`."""
    settled_below = get_meta(db, "settled_below") or ""
    starts = Log.select(Log.ref_id).where(
        Log.source == "reflex",
        Log.type == "run_start",
        Log.id >= (int(settled_below) if settled_below.isdecimal() else 1),
        Log.id <= until_id,
    )
    ends = Log.alias()
    # By its ref_id: the index on (source, type) would give all completions that there are.
    its_end = ends.select(ends.id).where(
        ends.ref_id == Log.ref_id, unindexed(ends.source) == "reflex", unindexed(ends.type) == "run_complete"
    )
    return frozenset(ref for (ref,) in fetch(db, starts.where(~peewee.fn.EXISTS(its_end))) if ref)


def live_bytes(db: sqlite3.Connection) -> int:
    """Give the size of what the database holds, without the pages that it has free."""
    pages, free, page_bytes = (
        int(execute(db, peewee.SQL(f"PRAGMA {name}")).fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes
