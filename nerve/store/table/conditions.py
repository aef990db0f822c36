"""What a Filter asks of a row, as SQL."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import peewee
from peewee import fn

from nerve.store.filters import Filter, Match
from nerve.store.models import IS_ERROR, Log

_COLUMNS: dict[str, peewee.ColumnBase] = {
    "source": Log.source,
    "type": Log.type,
    "ref": Log.ref_id,
    "sense": Log.ref_id,
}
_PLAIN = ("source", "type", "ref")


def conditions(wanted: Filter) -> dict[object, peewee.Node]:
    """Give all that is asked of a row but its id, by what asks for it, in a form that no index serves."""
    asked: dict[object, peewee.Node] = {demand: _condition(demand) for demand in wanted.demands()}
    if wanted.errors:
        asked["errors"] = unindexed(IS_ERROR) == 1
    return {**asked, **times(wanted, unindexed(Log.ts))}


def times(wanted: Filter, ts: peewee.ColumnBase) -> dict[object, peewee.Node]:
    """Give what is asked of the moment of a row."""
    asked: dict[object, peewee.Node] = {}
    if wanted.since is not None:
        asked["since"] = ts >= wanted.since
    if wanted.until is not None:
        asked["until"] = ts <= wanted.until
    return asked


def id_range(wanted: Filter, id: peewee.ColumnBase) -> list[peewee.Node]:
    """Give what is asked of the id of a row."""
    asked: list[peewee.Node] = []
    if wanted.after_id is not None:
        asked.append(id > wanted.after_id)
    if wanted.until_id is not None:
        asked.append(id <= wanted.until_id)
    return asked


def belongs_to(sense: str) -> peewee.Expression:
    """Give the two ranges of the index on ref_id that hold what belongs to a sense."""
    # A run id is the name of the sense, "/" and more; "0" is the character after "/".
    return (Log.ref_id == sense) | ((Log.ref_id >= f"{sense}/") & (Log.ref_id < f"{sense}0"))


def unindexed(node: peewee.Node) -> peewee.ColumnBase:
    """Write a column so that SQLite doesn't look for an index on it."""
    return peewee.NodeList((peewee.SQL("+"), node), glue="")


def register_functions(db: peewee.SqliteDatabase) -> None:
    """Teach a database the function that these conditions call."""
    db.register_function(_nerve_match, "nerve_match", 2, deterministic=True)


def readable(text: bytes) -> str:
    """Give the text of a column; what is no UTF-8 in it, which only a stranger can have written, as escapes."""
    return text.decode("utf-8", "backslashreplace")


def _condition(demand: Match) -> peewee.Node:
    column = _COLUMNS.get(demand.field, Log.payload)
    if demand.op == "=" and demand.field in _PLAIN:
        return unindexed(column).in_(demand.values)
    # As bytes: what a stranger wrote need not be text, and would fail here, before any function could look at it.
    return fn.nerve_match(msgspec.json.encode(demand).decode(), peewee.Cast(column, "BLOB"))


def _nerve_match(demand: str, column: bytes | None) -> bool:
    return _demand(demand).accepts(None if column is None else readable(column))


@lru_cache(maxsize=256)
def _demand(text: str) -> Match:
    return msgspec.json.decode(text, type=Match)
