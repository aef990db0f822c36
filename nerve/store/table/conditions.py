"""What a Filter asks of a row, as SQL: written for its form alone, with a named parameter for each of its values."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

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

Values = dict[str, object]
"""The values of named parameters; there may be more of them than a statement names."""


class Bounds(NamedTuple):
    """Which bounds a filter has for the moment and the id of a row."""

    since: bool
    until: bool
    after_id: bool
    until_id: bool

    @classmethod
    def of(cls, wanted: Filter) -> Bounds:
        """Tell which ones `wanted` has."""
        return cls(
            since=wanted.since is not None,
            until=wanted.until is not None,
            after_id=wanted.after_id is not None,
            until_id=wanted.until_id is not None,
        )

    def times(self, ts: peewee.ColumnBase) -> list[peewee.Node]:
        """Give what is asked of the moment of a row."""
        asked: list[peewee.Node] = []
        if self.since:
            asked.append(ts >= named("since"))
        if self.until:
            asked.append(ts <= named("until"))
        return asked

    def ids(self, id: peewee.ColumnBase) -> list[peewee.Node]:
        """Give what is asked of the id of a row."""
        asked: list[peewee.Node] = []
        if self.after_id:
            asked.append(id > named("after_id"))
        if self.until_id:
            asked.append(id <= named("until_id"))
        return asked


class Demanded(NamedTuple):
    """The form of a demand: its field, and how many values it may have; 0 where a function is to judge it."""

    field: str
    values: int

    @classmethod
    def of(cls, demand: Match) -> Demanded:
        """Give the form of a demand; those on the payload are all alike."""
        if demand.op == "=" and demand.field in _PLAIN:
            return cls(demand.field, len(demand.values))
        return cls(demand.field if demand.field in _COLUMNS else "payload", 0)


def named(parameter: str) -> peewee.SQL:
    """Give the place of a parameter in a statement that is written once, whatever its value will be."""
    return peewee.SQL(f":{parameter}")


def bound_values(wanted: Filter) -> Values:
    """Give the values of what Bounds asks for, and of the limit."""
    return {
        "since": wanted.since,
        "until": wanted.until,
        "after_id": wanted.after_id,
        "until_id": wanted.until_id,
        "limit": wanted.limit,
    }


def conditions(demands: Sequence[Demanded]) -> list[peewee.Node]:
    """Give what is demanded of a row, in a form that no index serves."""
    return [_condition(place, demand) for place, demand in enumerate(demands)]


def demand_values(demands: Iterable[Match]) -> Values:
    """Give the values of what `conditions` asks for."""
    values: Values = {}
    for place, demand in enumerate(demands):
        if Demanded.of(demand).values:
            values |= {f"demand{place}_{n}": value for n, value in enumerate(demand.values)}
        else:
            values[f"demand{place}"] = msgspec.json.encode(demand).decode()
    return values


def is_error() -> peewee.Node:
    """Ask for what a person on call wants to see, in a form that no index serves."""
    return peewee.NodeList((unindexed(IS_ERROR), peewee.SQL("= 1")))


def unindexed(node: peewee.Node) -> peewee.ColumnBase:
    """Write a column so that SQLite doesn't look for an index on it."""
    return peewee.NodeList((peewee.SQL("+"), node), glue="")


def register_functions(db: sqlite3.Connection) -> None:
    """Teach a database the function that these conditions call."""
    db.create_function("nerve_match", 2, _nerve_match, deterministic=True)


def readable(text: bytes) -> str:
    """Give the text of a column; what is no UTF-8 in it, which only a stranger can have written, as escapes."""
    return text.decode("utf-8", "backslashreplace")


def _condition(place: int, demand: Demanded) -> peewee.Node:
    column = _COLUMNS.get(demand.field, Log.payload)
    if demand.values:
        return unindexed(column).in_([named(f"demand{place}_{n}") for n in range(demand.values)])
    # As bytes: what a stranger wrote need not be text, and would fail here, before any function could look at it.
    return fn.nerve_match(named(f"demand{place}"), peewee.Cast(column, "BLOB"))


def _nerve_match(demand: str, column: bytes | None) -> bool:
    return _demand(demand).accepts(None if column is None else readable(column))


@lru_cache(maxsize=256)
def _demand(text: str) -> Match:
    return msgspec.json.decode(text, type=Match)
