"""The names that entries have: of sources, types and senses; found by hopping through the indexes."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from nerve.ids import sense_of
from nerve.store.schema import LogRow, fetch
from nerve.store.table.table_stats import Pair, existing_pairs

MAX_HOPS = 5000
"""Names that are looked up at most: every boot has one, too."""


class KnownNames(NamedTuple):
    """The sources and types that occur together, and the senses; names of boots and days are among the senses."""

    pairs: tuple[Pair, ...]
    senses: tuple[str, ...]


def known_names(db: sqlite3.Connection) -> KnownNames:
    """Return the names that occur in the log."""
    return KnownNames(tuple(existing_pairs(db)), _senses(db))


def _senses(db: sqlite3.Connection) -> tuple[str, ...]:
    found: list[str] = []
    after = ""
    for _ in range(MAX_HOPS):
        next_ref = LogRow.select(LogRow.ref_id).where(LogRow.ref_id > after).order_by(LogRow.ref_id).limit(1)
        rows = fetch(db, next_ref)
        if not rows:
            break
        ref = rows[0][0]
        sense = sense_of(ref)
        found.append(sense)
        after = ref if ref == sense else f"{sense}0"  # "0" follows "/": over all runs of the sense
    return tuple(dict.fromkeys(found))
